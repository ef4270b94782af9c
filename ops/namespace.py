"""What libraries ask of an array namespace beside operators: data types, and NumPy's names that xarray calls."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.types import (
    BOOL,
    FLOAT32,
    FLOAT64,
    DType,
    TensorType,
    as_dtype,
    category,
    is_float,
    promote,
)
from .array import Array, ArrayLike, lift
from .creation import full
from .joining import concat
from .shape import permute_dims

bool = BOOL
int8, int16, int32, int64 = (as_dtype(name) for name in ("int8", "int16", "int32", "int64"))
uint8, uint16, uint32, uint64 = (as_dtype(name) for name in ("uint8", "uint16", "uint32", "uint64"))
float32, float64 = FLOAT32, FLOAT64

_KINDS: dict[str, Callable[[DType], Any]] = {
    "bool": lambda dtype: category(dtype) == 0,
    "signed integer": lambda dtype: dtype.kind == "i",
    "unsigned integer": lambda dtype: dtype.kind == "u",
    "integral": lambda dtype: category(dtype) == 1,
    "real floating": is_float,
    "complex floating": lambda dtype: False,
    "numeric": lambda dtype: category(dtype) > 0,
}


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The data type that arrays, data types and scalars are promoted to, by torch's rules.

    Raises:
        ArgumentError: For nothing.
        DTypeError: For what has none, or if no type holds all.
    """
    if not arrays_and_dtypes:
        raise ArgumentError("result_type: takes one array or data type, or more")
    return promote([_kind_of(each) for each in arrays_and_dtypes])[0]


def _kind_of(given: Any) -> TensorType:
    if isinstance(given, np.dtype | type | str):
        # An array's, for a 0-d one would not widen it.
        return TensorType((1,), as_dtype(given))
    return lift(given, "result_type").type


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether a data type is of a kind of the array API standard: ``"real floating"``, a type, or any of a tuple.

    Raises:
        DTypeError: For another data type.
        ArgumentError: For another kind.
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, each) for each in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return _KINDS[kind](as_dtype(dtype))
    try:
        return as_dtype(dtype) == as_dtype(kind)
    except DTypeError:
        raise ArgumentError(
            f"isdtype: no kind of data type is called {kind!r}; there are {', '.join(_KINDS)}"
        ) from None


def transpose(x: ArrayLike, axes: Any = None) -> Array:
    """NumPy's name for `permute_dims`: the axes in this order, or reversed."""
    return permute_dims(x, axes)


def pad(x: ArrayLike, pad_width: Any, mode: Any = "constant", *, constant_values: Any = 0) -> Array:
    """NumPy's, with a constant: ``pad_width`` elements before and after, for all axes alike or each.

    Raises:
        ArgumentError: For another mode, or widths that are no integers from 0 on.
        ShapeError: For widths of another number of axes.
    """
    array = Array(lift(x, "pad"))
    if not isinstance(mode, str) or mode != "constant":
        raise ArgumentError(f"pad: only mode='constant' is lazy, not {mode!r}; call .compute() on the array first")
    for axis, ((before, after), (first, last)) in enumerate(
        zip(_pairs("pad_width", pad_width, array), _pairs("constant_values", constant_values, array), strict=True)
    ):
        if not all(isinstance(each, int | np.integer) and each >= 0 for each in (before, after)):
            raise ArgumentError(f"pad: widths are integers from 0 on, not {(before, after)!r}")
        parts = [_block(array, axis, before, first), array, _block(array, axis, after, last)]
        array = concat([part for part in parts if part.shape[axis]] or [array], axis=axis)
    return array


def _pairs(name: str, given: Any, array: Array) -> Sequence[tuple[Any, Any]]:
    try:
        pairs = np.broadcast_to(np.asarray(given), (array.ndim, 2)).tolist()
    except (ValueError, TypeError) as error:
        raise ShapeError(f"pad: {name} {given!r} is not for the axes of {array.node.type}: {error}") from None
    return [(one, other) for one, other in pairs]


def _block(array: Array, axis: int, length: int, value: Any) -> Array:
    return full((*array.shape[:axis], length, *array.shape[axis + 1 :]), value, dtype=array.dtype)
