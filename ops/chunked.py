"""Lazy arrays in xarray are lazy as dask's are: ``.compute()`` and ``.load()`` evaluate them.

xarray asks a chunked array's manager for that, and takes what has ``chunks`` for one.
"""

import functools
import importlib
import sys
from typing import Any

from ..engine.errors import LimitError
from ..engine.immediate import evaluate_now
from .array import Array, lift
from .registry import public


@public()
def chunks_of(x: Array, /) -> tuple[tuple[int, ...], ...]:
    """One for each axis: a lazy array is not divided.

    Raises:
        AttributeError: Of an xarray that has no managers of chunked arrays: it is none of those to it.
    """
    if "xarray" in sys.modules:
        _register()
    return tuple((length,) for length in x.shape)


@functools.cache
def _register() -> None:
    """Make the manager known, once xarray asks: not before, for it then loads dask's too."""
    try:
        managers = importlib.import_module("xarray.namedarray.parallelcompat")
        managers.list_chunkmanagers().setdefault("attngraph", _manager(managers.ChunkManagerEntrypoint)())
    except ImportError as error:
        raise AttributeError(f"chunks: this xarray has no managers of chunked arrays: {error}") from None


def _manager(base: Any) -> Any:
    class ChunkManager(base):  # type: ignore[misc]
        """How xarray evaluates lazy arrays."""

        def __init__(self) -> None:
            self.array_cls = Array

        @property
        def array_api(self) -> Any:
            return sys.modules[__name__.rsplit(".ops", 1)[0]]

        def chunks(self, data: Array) -> tuple[tuple[int, ...], ...]:
            return data.chunks

        def compute(self, *data: Any, **kwargs: Any) -> tuple[Any, ...]:
            """All in one evaluation; what is no lazy array stays as it is."""
            lazy = [each for each in data if isinstance(each, Array)]
            computed = iter(evaluate_now([each.node for each in lazy]))
            return tuple(next(computed) if isinstance(each, Array) else each for each in data)

        def persist(self, *data: Any, **kwargs: Any) -> tuple[Any, ...]:
            return self.compute(*data)

        def rechunk(self, data: Array, chunks: Any, **kwargs: Any) -> Array:
            raise LimitError("chunk: a lazy array is not divided; .compute() it first")

        def normalize_chunks(self, chunks: Any, *args: Any, **kwargs: Any) -> Any:
            raise LimitError("chunk: lazy arrays are not divided; chunk_manager='dask' divides")

        def from_array(self, data: Any, chunks: Any, **kwargs: Any) -> Array:
            """Whole: what xarray wants to go with a lazy array."""
            return Array(lift(data, "chunk"))

        def apply_gufunc(self, *args: Any, **kwargs: Any) -> Any:
            raise LimitError(
                "apply_ufunc: dask='parallelized' divides dask's arrays; for a lazy one say dask='allowed'"
            )

    return ChunkManager
