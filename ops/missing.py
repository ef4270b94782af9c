"""NumPy's functions that pass over NaN, which xarray's reductions are: compositions of the plain ones."""

from collections.abc import Callable
from typing import Any

from ..engine.types import is_float
from .arithmetic import maximum
from .array import Array, ArrayLike, lift
from .cumulative import cumulative_sum
from .exponential import sqrt
from .function import lifted_float
from .logic import isnan, logical_not
from .reduction import all, argmax, argmin, max, min, prod, sum
from .registry import public
from .selection import where
from .shape import reshape

_INFINITY = float("inf")


def _numbers(x: ArrayLike, name: str, instead: float) -> Array:
    """The same with a number in place of NaN; integers have none."""
    array = Array(lift(x, name))
    return where(isnan(array), instead, array) if is_float(array.dtype) else array


@public()
def nansum(x: ArrayLike, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """The sum of what is not NaN."""
    return sum(_numbers(x, "nansum", 0.0), axis, dtype=dtype, keepdims=keepdims)


@public()
def nanprod(x: ArrayLike, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """The product of what is not NaN."""
    return prod(_numbers(x, "nanprod", 1.0), axis, dtype=dtype, keepdims=keepdims)


@public()
def nancumsum(x: ArrayLike, axis: Any = None, *, dtype: Any = None) -> Array:
    """Sums of what is not NaN so far."""
    numbers = _numbers(x, "nancumsum", 0.0)
    return cumulative_sum(numbers if axis is not None else reshape(numbers, (-1,)), axis or 0, dtype=dtype)


def _extremum(name: str, function: Callable[..., Array], instead: float) -> None:
    def called(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
        array = Array(lift(x, name))
        found = function(_numbers(array, name, instead), axis, keepdims=keepdims)
        if not is_float(array.dtype):
            return found
        return where(all(isnan(array), axis, keepdims=keepdims), float("nan"), found)

    called.__name__ = called.__qualname__ = name
    called.__doc__ = f"The {name[3:]} of what is not NaN; NaN where all is."
    public()(called)


def _place(name: str, function: Callable[..., Array], instead: float) -> None:
    def called(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
        return function(_numbers(x, name, instead), axis, keepdims=keepdims)

    called.__name__ = called.__qualname__ = name
    called.__doc__ = f"The place of the first {name[6:]} of what is not NaN; 0 where all is."
    public()(called)


_extremum("nanmax", max, -_INFINITY)
_extremum("nanmin", min, _INFINITY)
_place("nanargmax", argmax, -_INFINITY)
_place("nanargmin", argmin, _INFINITY)


def _sum_and_count(array: Array, axis: Any, keepdims: bool) -> tuple[Array, Array]:
    present = logical_not(isnan(array)).astype(array.dtype)
    return nansum(array, axis, keepdims=keepdims), sum(present, axis, keepdims=keepdims)


@public()
def nanmean(x: ArrayLike, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """The mean of what is not NaN; NaN where all is."""
    return _divided(*_sum_and_count(_floats(x, "nanmean", dtype), axis, keepdims))


@public()
def nanvar(
    x: ArrayLike, axis: Any = None, *, dtype: Any = None, correction: float = 0.0, keepdims: bool = False
) -> Array:
    """The variance of what is not NaN: its sum of squares over (count - ``correction``), NaN if that is not above 0."""
    array = _floats(x, "nanvar", dtype)
    total, count = _sum_and_count(array, axis, True)
    difference = array - _divided(total, count)
    squares, count = _sum_and_count(difference * difference, axis, keepdims)
    return _divided(squares, maximum(count - correction, 0.0))


@public()
def nanstd(
    x: ArrayLike, axis: Any = None, *, dtype: Any = None, correction: float = 0.0, keepdims: bool = False
) -> Array:
    """The standard deviation of what is not NaN: the root of `nanvar`."""
    return sqrt(nanvar(x, axis, dtype=dtype, correction=correction, keepdims=keepdims))


def _divided(total: Array, count: Array) -> Array:
    """NaN of nothing, which is said: what a mask hides is 0, and 0 / 0 of such would be, too."""
    return where(count == 0, float("nan"), total / where(count == 0, 1.0, count))


def _floats(x: ArrayLike, name: str, dtype: Any) -> Array:
    array = Array(lifted_float(x, name))
    return array if dtype is None else array.astype(dtype)
