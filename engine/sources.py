"""How arrays of other libraries are read, told apart by their module's name.

None of these libraries is imported here: a zarr array can only come from a program that has zarr.
Any other class takes part by a method ``__attngraph_blocks__`` (see `engine.blocks`).
"""

import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from .boxes import whole_box
from .declared import as_declared, read_dask
from .errors import ArgumentError, DTypeError
from .types import DType, Shape, as_dtype

Values = np.ndarray[Any, Any]


def _plain(array: Any) -> Values:
    return np.asarray(array)


def _read_torch(tensor: Any) -> Values:
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has no bfloat16: the same bits under another name
        integer_type = sys.modules["torch"].int16
        return np.asarray(tensor.contiguous().view(integer_type).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(tensor.resolve_conj().resolve_neg().numpy())


def _read_zarr(array: Any) -> Values:
    return _whole(array[...], array)


def _read_dask(array: Any) -> Values:
    return read_dask(array, whole_box(array.shape))


def _read_xarray(array: Any) -> Values:
    variable = getattr(array, "variable", array)
    if library(variable._data) == "dask":
        return _read_dask(variable._data)
    # A copy has a cache of its own: what is read of a file does not stay in the object of the user's.
    return _whole(variable.copy(deep=False), array)


def _whole(came: Any, source: Any) -> Values:
    return as_declared(came, whole_box(source.shape), source.dtype, source)


# By the top-level module of the object's class. Everything else goes through NumPy.
_READERS: dict[str, Callable[[Any], Values]] = {
    "torch": _read_torch,
    "zarr": _read_zarr,
    "dask": _read_dask,
    "xarray": _read_xarray,
}


def library(source: Any) -> str:
    """The top-level module that the object's class lives in."""
    return type(source).__module__.split(".", 1)[0]


def is_lazy_source(source: Any) -> bool:
    """Whether the object is an array of another place or library that can be described without being read."""
    return library(source) in _READERS or has_blocks(source)


def has_blocks(source: Any) -> bool:
    """Whether the object's class says itself how it is read, block by block."""
    return hasattr(type(source), "__attngraph_blocks__")


def is_buffer(source: Any) -> bool:
    """Whether the object speaks the buffer protocol."""
    try:
        memoryview(source).release()
    except (TypeError, ValueError, BufferError):
        return False
    return True


def check_detached(source: Any, operation: str) -> None:
    """Raise ArgumentError for a torch tensor whose gradient would be lost in silence.

    Under ``torch.no_grad()`` nobody expects one.
    """
    if library(source) == "torch" and getattr(source, "requires_grad", False):
        torch = sys.modules["torch"]
        if torch.is_grad_enabled():
            raise ArgumentError(
                f"{operation}: a tensor that requires grad: torch's gradients do not pass through attngraph; "
                "pass .detach()"
            )


def describe(source: Any) -> tuple[Shape, DType]:
    """Shape and data type of an array, without reading it.

    Raises:
        DTypeError: If its type is not supported, or it lives on another device.
    """
    if type(source) is np.ndarray:
        return source.shape, as_dtype(source.dtype)
    if library(source) == "torch":
        if source.device.type != "cpu":
            raise DTypeError(f"asarray: a tensor on {source.device} cannot be read; move it with .cpu()")
        if source.layout.__str__() != "torch.strided":
            raise DTypeError(f"asarray: a tensor of layout {source.layout} cannot be read; use .to_dense()")
    return tuple(int(length) for length in source.shape), as_dtype(source.dtype)


def read(source: Any) -> Values:
    """The data, now: in the machine's byte order, otherwise without a copy where possible.

    Raises:
        ShapeError: If what comes has another shape than the array declares.
        DTypeError: If it has another type, and holds what the declared one cannot.
    """
    array: Values
    if type(source) is np.ndarray:
        array = source
    elif has_blocks(source):
        array = _whole(source.__attngraph_blocks__().read(whole_box(source.shape)), source)
    else:
        array = _READERS.get(library(source), _plain)(source)
    if array is not source:
        array = array.view()  # whatever memory this is, it is not ours to give away
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
