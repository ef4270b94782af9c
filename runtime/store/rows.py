"""What is appended, as it will be stored."""

from typing import Any

import numpy as np

from ...engine.errors import AttnGraphError, DTypeError, LimitError, ShapeError
from ...engine.finite import is_finite
from ...engine.sources import check_detached, is_lazy_source, read
from ...engine.types import as_dtype, is_float
from ...ops.array import Array
from ...ops.quantization import quantize
from .layout import KEYS, Layout

Values = np.ndarray[Any, Any]


def as_stored(layout: Layout, operation: str, k: Any, v: Any) -> dict[str, Values]:
    """Keys and values for a store, contiguous, elements as they are stored, shape (heads, n, width).

    Any float is cast to the store's type, rounding to nearest.

    Raises:
        ShapeError: If a shape is not (heads, n, width), or n is not the same in both.
        DTypeError: If one is not of floats.
        LimitError: If a finite number is beyond the store's type, or one that is not finite is to be quantized.
    """
    given = {key: _as_array(operation, key, one) for key, one in zip(KEYS, (k, v), strict=True)}
    for key, array in given.items():
        if not is_float(_dtype(operation, key, array)):
            raise DTypeError(
                f"{operation}: {key} of {array.dtype.name}, and the store's are {layout.dtype}; "
                "floats are converted, nothing else is"
            )
        width = layout.given_width(key)
        if array.ndim != 3 or array.shape[0] != layout.heads or array.shape[2] != width:
            raise ShapeError(
                f"{operation}: {key} of shape {array.shape}, and the store's are ({layout.heads}, any length, {width})"
            )
    keys, values = given.values()
    if keys.shape[1] != values.shape[1]:
        raise ShapeError(f"{operation}: {keys.shape[1]} keys and {values.shape[1]} values; a row has one of each")
    if not layout.is_quantized:
        return {key: _cast(layout, operation, key, array) for key, array in given.items()}
    parts = [_quantized(layout, operation, key, array) for key, array in given.items()]
    found = {name: array for part in parts for name, array in part.items()}
    return {name: found[name] for name in layout.arrays}


def _as_array(operation: str, key: str, given: Any) -> Values:
    if isinstance(given, Array):
        return given.compute()
    if is_lazy_source(given):
        check_detached(given, operation)
        return read(given)
    try:
        return np.asarray(given)
    except AttnGraphError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise DTypeError(f"{operation}: cannot make an array of {key}, a {type(given).__name__}: {error}") from None


def _dtype(operation: str, key: str, array: Values) -> Any:
    try:
        return as_dtype(array.dtype)
    except DTypeError as error:
        raise DTypeError(f"{operation}: {key}: {str(error).splitlines()[0]}") from None


def _quantized(layout: Layout, operation: str, key: str, array: Values) -> dict[str, Values]:
    """Keys or values as numbers of few bits, each row for itself, and what they are read by."""
    if not is_finite(array):
        raise LimitError(f"{operation}: {key} hold NaN or infinity, which {layout.dtype} cannot")
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32, copy=False)
    if not is_finite(narrow):
        raise LimitError(f"{operation}: {key} hold numbers beyond float32, which scales cannot")
    found = quantize(narrow, layout.dtype, group_size=layout.group, symmetric=layout.symmetric).compute()
    parts = {key: found.data, f"{key}_scale": found.scale, f"{key}_zero_point": found.zero_point}
    return {
        name: np.ascontiguousarray(part).view(layout.stored(name)) for name, part in parts.items() if part is not None
    }


def _cast(layout: Layout, operation: str, key: str, array: Values) -> Values:
    if array.dtype != layout.element(key):
        with np.errstate(over="ignore"):
            cast = array.astype(layout.element(key))
        lost = np.isinf(cast) & np.isfinite(array)
        if lost.any():
            raise LimitError(f"{operation}: {key} hold {array[lost][0]}, which {layout.dtype} cannot")
        array = cast
    return np.ascontiguousarray(array).view(layout.stored(key))
