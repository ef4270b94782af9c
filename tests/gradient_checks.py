"""Gradients against central differences and, where it is installed, against torch: all in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np

import attngraph as ag

STEP = 1e-6
# Along a direction, central differences with this step are off by some 4e-11, of the value by rounding, of its third
# derivatives by truncation; where there is much to add, those are some thousands.
LONG_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)
WITHIN = 1e-6


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


def check_kernels(fn: Callable[..., Any], *arrays: Any, within: float = 1e-5, seed: int = 0) -> list[np.ndarray]:
    """Hold the results and gradients of ``fn`` through kernels to the interpreter's in float64; returns them.

    Args:
        fn: A function of lazy arrays that returns one.
        arrays: Its arguments.
        within: Of the difference, relative to the largest value of each: some tens of roundings of float32.
        seed: Of the upstream gradient.
    """
    value, pullback = ag.vjp(fn, *map(ag.asarray, arrays))
    upstream = np.random.default_rng(seed).standard_normal(value.shape).astype(value.dtype)
    lazy = [value, *pullback(upstream)]
    found = ag.compute(*lazy)
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    largest = [float(np.abs(right).max(initial=0)) for right in wanted]
    for result, right, size in zip(found, wanted, largest, strict=True):
        assert result.shape == right.shape
        # Of what cancels to nothing, roundings stay: of values like those of the other gradients.
        np.testing.assert_allclose(result, right, rtol=0, atol=within * max(size, 0.1 * max(largest)))
    return found


def check_along(fn: Callable[..., Any], *arrays: Any, seed: int = 0, tolerance: float = WITHIN) -> None:
    """Hold the gradients of ``fn`` by all its arguments to a central difference along a random direction.

    Args:
        fn: A function of lazy arrays that returns one or several.
        arrays: Its arguments.
        seed: Of the direction, and of the weights that results are summed with.
        tolerance: Of the difference, relative to the magnitudes that are summed, or 1.
    """
    arrays = tuple(np.array(array, np.float64) for array in arrays)
    rng = np.random.default_rng(seed)
    directions = [rng.uniform(-1, 1, array.shape) for array in arrays]

    def total(step: float) -> float:
        moved = [np.asarray(array + step * way) for array, way in zip(arrays, directions, strict=True)]
        values = [np.asarray(each.compute()) for each in _leaves(fn, moved)]
        return sum(float((value * weight).sum()) for value, weight in zip(values, weights, strict=True))

    with ag.config.set(target="reference64"):
        weights = [rng.uniform(0.5, 1.5, each.shape) for each in _leaves(fn, arrays)]
        _, pullback = ag.vjp(lambda *given: list(_leaves(fn, given)), *arrays)
        found = [np.asarray(each.compute()) for each in pullback(weights)]
        parts = [gradient * way for gradient, way in zip(found, directions, strict=True)]
        wanted = (total(LONG_STEP) - total(-LONG_STEP)) / (2 * LONG_STEP)
    for gradient, array in zip(found, arrays, strict=True):
        assert gradient.shape == array.shape
    scale = max(1.0, sum(float(np.abs(part).sum()) for part in parts))
    assert abs(sum(float(part.sum()) for part in parts) - wanted) <= tolerance * scale


def _leaves(fn: Callable[..., Any], arrays: Any) -> tuple[Any, ...]:
    value = fn(*map(ag.asarray, arrays))
    return tuple(value) if isinstance(value, list | tuple) else (value,)


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
