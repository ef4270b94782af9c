"""What a batch is mapped over: arrays that are read piece by piece, and travel without their contents."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.blocks import blocks_of
from ...engine.boxes import Box, inside, starts_of
from ...engine.declared import as_declared
from ...engine.errors import ArgumentError, AttnGraphError, DTypeError, StoreError
from ...engine.ir import Values
from ...engine.leaves import Data
from ...engine.sources import has_blocks, library
from ...engine.types import DType, Shape, as_dtype
from ...ops.array import Array, lift
from ..mapped_file import mapped_file
from .identity import token_of

# Libraries whose arrays are neither in memory nor described by a path.
_ELSEWHERE = ("dask", "xarray")


@dataclass(frozen=True)
class Stored:
    """An array of zarr, a file that is mapped, or of a class that says itself how it is read."""

    source: Any
    identity: str

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return tuple(map(int, self.source.shape))

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return as_dtype(self.source.dtype)

    @property
    def steps(self) -> Shape:
        """Where it is best cut, along each axis."""
        blocks = blocks_of(self.source)
        assert blocks is not None
        return tuple(map(int, blocks.steps))

    def read(self, box: Box) -> Values:
        """A part of it.

        Raises:
            StoreError: If it cannot be read.
        """
        blocks = blocks_of(self.source)
        assert blocks is not None
        try:
            return as_declared(blocks.read(box), box, self.source.dtype, self.source)
        except AttnGraphError:
            raise
        except OSError as error:
            raise StoreError(f"batch: {self.identity}: {error.strerror or error}") from error

    def of_piece(self, box: Box) -> "Stored":
        """What has to travel for this part to be read."""
        return self


class Held:
    """An array in memory, or a part of one that has travelled."""

    def __init__(self, values: Values, identity: str, first: Sequence[int] = ()) -> None:
        self.values, self.identity = values, identity
        self._first = tuple(first) or (0,) * values.ndim

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return tuple(self.values.shape)

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        found: DType = self.values.dtype
        return found

    def read(self, box: Box) -> Values:
        """A part of it."""
        return self.values[inside(box, self._first)]

    def of_piece(self, box: Box) -> "Held":
        """What has to travel for this part to be read: the part."""
        return Held(self.values[box], self.identity, starts_of(box))


Source = Stored | Held


def source_of(given: Any, name: str) -> Source:
    """How an input is read.

    Args:
        given: An array, or the path of a zarr array or of a ``.npy`` file.
        name: What messages call it.

    Raises:
        ArgumentError: If it is neither, or a lazy expression.
        StoreError: If there is no such file or array.
    """
    if isinstance(given, str | os.PathLike):
        given = _opened(Path(os.path.abspath(os.fspath(given))), name)  # noqa: PTH100 - links stay as they are
    if isinstance(given, Array):
        if not isinstance(given.node, Data):
            raise ArgumentError(f"batch: {name} is a lazy expression; store it first, or make it part of the function")
        given = given.node.source
    if library(given) in _ELSEWHERE:
        raise ArgumentError(
            f"batch: {name} is an array of {library(given)}; give what it is read from, such as a zarr array"
        )
    if isinstance(given, np.memmap):
        file = mapped_file(given)
        return _held(np.asarray(given), name) if file is None else Stored(file, file.identity)
    if library(given) == "zarr" and getattr(getattr(given, "store", None), "root", None) is None:
        return _held(np.asarray(given[...]), name)  # in this process's memory
    if library(given) == "zarr" or has_blocks(given):
        return Stored(given, _identity(given))
    if isinstance(given, list | tuple) or not hasattr(given, "shape"):
        raise ArgumentError(f"batch: {name} is an array or a path, not {type(given).__name__}")
    node = lift(given, "batch")
    if not isinstance(node, Data):
        raise ArgumentError(f"batch: {name} is a scalar, which is nothing to cut")
    return _held(np.asarray(node.reference()), name)


def _opened(path: Path, name: str) -> Any:
    import zarr

    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r")
        return zarr.open_array(path, mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"batch: {name}: there is no zarr array and no .npy file at {path} ({error})") from error


def _held(values: Values, name: str) -> Held:
    if values.dtype.hasobject:
        raise DTypeError(f"batch: {name} has dtype {values.dtype}")
    return Held(values, f"{values.dtype.name}{list(values.shape)} in memory, {token_of(values)}")


def _identity(given: Any) -> str:
    kind = f"{as_dtype(given.dtype).name}{list(map(int, given.shape))}"
    if hasattr(given, "descriptor"):
        found = given.descriptor()
        return f"{kind} {found.key} of {found.path} ({found.identity}, {found.truncations} truncations)"
    return f"{kind} in {getattr(given, 'store_path', type(given).__name__)}"
