"""Arrays that are not in memory, read block by block.

An array of any class takes part if the class has a method ``__attngraph_blocks__()`` that returns what `Blocks` says;
``shape`` and ``dtype`` of the array itself say what it is. For arrays of zarr, dask and xarray it is known here.
Nothing of this is for NumPy's arrays, memory maps among them: those are read where they are.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np

from .boxes import Box
from .declared import read_dask
from .ir import Values
from .sources import has_blocks, library
from .types import Shape


class Blocks(Protocol):
    """An array that is read block by block.

    Attributes:
        steps: For each axis, at multiples of which index it is best cut: the length of a stored chunk; 1 if that does
            not matter, as where a file is mapped.
    """

    steps: Shape

    def read(self, box: Box) -> Values:
        """A part of the array, of that shape, as NumPy's: a view if that needs no copy. It is not written to.

        It is called from another thread than the caller's, by one thread at a time.

        Args:
            box: For each axis a slice with ``start`` and ``stop``, inside the array.

        Raises:
            StoreError: If it cannot be read.
        """


class MappedBlocks(Blocks, Protocol):
    """An array in mapped files: `read` gives views of them, which take no memory of the process's own.

    ``read`` looks at the files each time. It may be called from any thread, by several at once.

    Attributes:
        is_mapped: True.
    """

    is_mapped: bool

    def fetch(self, box: Box) -> None:
        """See that a part is in memory when it is read, as far as there is room; what is wrong, `read` will say."""


class DividedBlocks(Blocks, Protocol):
    """An array that several threads read at once, each pieces of its own, as what is decoded.

    Attributes:
        is_near: Whether what reading takes is a processor's time, and hardly any waiting, as for files of this machine.
            False if it is not there.
    """

    def pieces(self, box: Box) -> Sequence[Box]:
        """Boxes that together are this one, each of them read at once as well as it can be."""

    def read_into(self, box: Box, out: Values) -> None:
        """Read a part into an array of its shape and the array's type; by several threads at once.

        Raises:
            StoreError: If it cannot be read.
        """


def is_mapped(blocks: Blocks) -> TypeGuard[MappedBlocks]:
    """Whether what is read is a view of mapped files."""
    return getattr(blocks, "is_mapped", False) is True


def is_divided(blocks: Blocks) -> TypeGuard[DividedBlocks]:
    """Whether several threads may read pieces of it."""
    return hasattr(blocks, "read_into")


class _Sliced:
    """What slices itself."""

    def __init__(self, source: Any, steps: Shape, as_array: Callable[[Any], Values]) -> None:
        self.source, self.steps, self._as_array = source, steps, as_array

    def read(self, box: Box) -> Values:
        return self._as_array(self.source[box])


class HeadwiseBlocks:
    """The blocks of an array ``(heads, length, width)`` that is read head by head.

    Args:
        source: Has ``shape`` and ``read(head, start, stop)``, an array ``(stop - start, width)``.
        step: The length of a stored chunk; 1 if the file is mapped.
    """

    def __init__(self, source: Any, step: int) -> None:
        self.source = source
        self.steps: Shape = (1, step, int(source.shape[2]))

    def read(self, box: Box) -> Values:
        """The heads one after the other; of one head without a copy."""
        heads, places, width = box
        parts = [self.source.read(head, places.start, places.stop) for head in range(heads.start, heads.stop)]
        whole = parts[0][None] if len(parts) == 1 else np.stack(parts)
        return np.asarray(whole[:, :, width])


def _zarr(source: Any) -> Blocks:
    return _Sliced(source, tuple(map(int, source.chunks)), np.asarray)


class _Tasks:
    """Blocks that dask computes."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.steps: Shape = tuple(max(lengths, default=1) for lengths in source.chunks)

    def read(self, box: Box) -> Values:
        return read_dask(self.source, box)


def _dask(source: Any) -> Blocks:
    return _Tasks(source)


def _xarray(source: Any) -> Blocks | None:
    variable = getattr(source, "variable", source)
    if isinstance(variable._data, np.ndarray):
        return None
    if library(variable._data) == "dask":
        return _dask(variable._data)
    chunks = variable.chunks or ()
    steps = tuple(max(lengths, default=1) for lengths in chunks) or (1,) * variable.ndim
    return _Sliced(variable, steps, lambda part: np.asarray(part.values))


_KINDS: dict[str, Callable[[Any], Blocks | None]] = {"zarr": _zarr, "dask": _dask, "xarray": _xarray}


def blocks_of(source: Any) -> Blocks | None:
    """How an array is read block by block; None if it is in memory, or read as a whole."""
    if has_blocks(source):
        found: Blocks = source.__attngraph_blocks__()
        return found
    kind = _KINDS.get(library(source))
    return None if kind is None or not hasattr(source, "shape") else kind(source)
