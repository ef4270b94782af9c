"""Gradients against central differences and, where it is installed, against torch: all in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np

import attngraph as ag

STEP = 1e-6


def check_gradients(fn: Callable[..., Any], *arrays: Any, tolerance: float = 2e-6, seed: int = 0) -> None:
    """Hold the gradients of ``fn`` by each of its arguments to central differences.

    Args:
        fn: A function of lazy arrays that returns one.
        arrays: Its arguments, as float64 where the function is smooth around them.
        tolerance: Of the difference, relative to the largest of the differences or 1.
        seed: Of the weights that its results are summed with.
    """
    arrays = tuple(np.array(array, np.float64) for array in arrays)
    with ag.config.set(target="reference64"):
        value, pullback = ag.vjp(fn, *map(ag.asarray, arrays))
        weights = np.random.default_rng(seed).uniform(0.5, 1.5, value.shape)
        found = ag.compute(*pullback(weights)) if len(arrays) > 1 else (ag.compute(*pullback(weights)),)
        for place, (array, gradient) in enumerate(zip(arrays, found, strict=True)):
            wanted = _differences(fn, arrays, place, weights)
            assert gradient.shape == array.shape
            scale = max(1.0, float(np.abs(wanted).max(initial=0)))
            np.testing.assert_allclose(gradient, wanted, rtol=0, atol=tolerance * scale, err_msg=f"argument {place}")


def check_second_gradients(fn: Callable[..., Any], *arrays: Any, tolerance: float = 2e-5) -> None:
    """Hold the gradients of the gradients of ``fn`` by its first argument to central differences."""

    def first(*given: Any) -> Any:
        value, pullback = ag.vjp(fn, *given)
        return pullback(ag.ones(value.shape, dtype="float64"))[0]

    check_gradients(first, *arrays, tolerance=tolerance)


def _differences(fn: Callable[..., Any], arrays: Any, place: int, weights: Any) -> Any:
    wanted = np.empty(arrays[place].shape)
    for index in np.ndindex(wanted.shape):
        sides = []
        for step in (STEP, -STEP):
            moved = list(map(np.copy, arrays))
            moved[place][index] += step
            sides.append(float((np.asarray(fn(*map(ag.asarray, moved)).compute()) * weights).sum()))
        wanted[index] = (sides[0] - sides[1]) / (2 * STEP)
    return wanted
