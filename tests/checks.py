"""What tests of operators share: data in every type, and a comparison under every target."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import attngraph as ag

TARGETS = ("native", "reference", "reference64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = ("bool", *INTEGERS, *FLOATS)
SHAPES = ((), (0,), (1,), (5,), (2, 3), (3, 0), (1, 4, 1), (2, 3, 4))
FEWER = ((), (3, 0), (2, 3, 4))
# Half a unit in the last place, relative to the value.
ROUNDING = {
    np.dtype(name): float(ml_dtypes.finfo(name).eps) / 2 for name in (np.float16, "bfloat16", np.float32, np.float64)
}


def data(shape: Any, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Numbers around 0 (from 0 on, for unsigned ones), small enough that sums of integers fit."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype not in FLOATS:
        return rng.integers(0 if dtype.startswith("u") else -4, 5, shape).astype(dtype)
    return np.asarray(rng.standard_normal(shape)).astype(ag.asarray(0).astype(dtype).dtype)


def shapes_for(dtype: str) -> tuple[tuple[int, ...], ...]:
    """All shapes for two types, some for the others: what is wrong with both is wrong with either."""
    return SHAPES if dtype in ("float32", "int32") else FEWER


def wide(array: np.ndarray) -> np.ndarray:
    """Floats as float64, what an expected value is computed in; all else as it is."""
    return array.astype(np.float64) if array.dtype.newbyteorder("=") in ROUNDING else array


def evaluations(lazy: ag.Array) -> dict[str, np.ndarray]:
    """What each target makes of an expression."""
    results = {}
    for target in TARGETS:
        with ag.config.set(target=target):
            results[target] = lazy.compute()
    return results


def check(lazy: ag.Array, expected: Any, *, dtype: Any = None, roundings: float = 0, scale: float = 0.0) -> None:
    """The expression has this shape and type, and every target gives these values.

    Args:
        lazy: What to evaluate.
        expected: The values; floats in float64, or rounded to the type that is due.
        dtype: The type that is due, if not that of ``expected``.
        roundings: How many roundings of the result's type it may be off by; 0 is none but the last.
        scale: What the roundings may be relative to, if not each value itself.
    """
    expected = np.asarray(expected)
    expected = expected.astype(expected.dtype.newbyteorder("="))
    due = expected.dtype if dtype is None else ag.asarray(0).astype(dtype).dtype
    assert (lazy.shape, lazy.dtype) == (expected.shape, due)
    for target, result in evaluations(lazy).items():
        held = np.dtype(np.float64) if target == "reference64" and due in ROUNDING else due
        assert (result.shape, result.dtype) == (expected.shape, held), target
        if due not in ROUNDING:
            assert_array_equal(result, expected, target)
            continue
        error = (1 + roundings) * max(ROUNDING[held], ROUNDING[expected.dtype])
        if held == expected.dtype and not roundings:
            error = 0.0
        least = float(ml_dtypes.finfo(held).smallest_subnormal)
        assert_allclose(wide(result), wide(expected), rtol=error, atol=error * scale or least, err_msg=target)


def check_raises(error: type[Exception], words: str, function: Any, *args: Any, **kwargs: Any) -> None:
    """The call raises a typed error that says this, and where."""
    with pytest.raises(error, match=words) as caught:
        function(*args, **kwargs)
    assert isinstance(caught.value, ag.AttnGraphError)
    assert ".py:" in str(caught.value)
