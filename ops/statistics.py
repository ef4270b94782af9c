"""Mean, variance, standard deviation: compositions of sums. Array API standard 2024.12."""

import math
from typing import Any

from ..engine.types import as_dtype
from .array import Array, ArrayLike, lift
from .casting import cast
from .exponential import sqrt
from .function import lifted_float
from .kinds import flag, normalize_axes, number
from .logic import equal
from .reduction import Sum, sum
from .registry import public
from .selection import where


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod(shape[axis] for axis in axes)


@public()
def mean(x: ArrayLike, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """The arithmetic mean along ``axis``; integers give float32. NaN of nothing."""
    node = lifted_float(x, "mean") if dtype is None else cast(lift(x, "mean"), as_dtype(dtype))
    axes = normalize_axes("mean", axis, len(node.shape))
    return Array(Sum(node, axes, flag("mean", "keepdims", keepdims))) / float(_count(node.shape, axes))


@public()
def var(
    x: ArrayLike, axis: Any = None, *, correction: float = 0.0, keepdims: bool = False, ddof: float | None = None
) -> Array:
    """The variance along ``axis``: squared differences from the mean over (count - ``correction``).

    ``ddof`` is NumPy's name for the correction.
    """
    correction = correction if ddof is None else ddof
    array = Array(lifted_float(x, "var"))
    axes = normalize_axes("var", axis, array.ndim)
    difference = array - mean(array, axes, keepdims=True)
    count = _count(array.shape, axes) - number("var", "correction", correction)
    return sum(difference * difference, axes, keepdims=keepdims) / (count if count > 0 else 0.0)


@public()
def std(
    x: ArrayLike, axis: Any = None, *, correction: float = 0.0, keepdims: bool = False, ddof: float | None = None
) -> Array:
    """The standard deviation along ``axis``: the root of `var`. Where it is 0, so is its gradient, as torch has it."""
    variance = var(x, axis, correction=correction, keepdims=keepdims, ddof=ddof)
    return where(equal(variance, 0), 0.0, sqrt(where(equal(variance, 0), 1.0, variance)))
