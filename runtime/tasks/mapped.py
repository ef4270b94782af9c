"""Memory maps as what they are: a place in a file, which travels instead of the numbers there."""

import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...engine.blocks import Blocks
from ...engine.boxes import Box
from ...engine.errors import StoreError

Values = np.ndarray[Any, Any]


class MappedFile(NamedTuple):
    """An array that lies in a file.

    Attributes:
        path: The file, absolute.
        offset: Where it begins, in bytes.
        shape: Lengths of its axes.
        dtype: Type of the elements.
        order: ``"C"`` or ``"F"``.
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str

    def __attngraph_blocks__(self) -> Blocks:
        return _MappedBlocks(self)


class _MappedBlocks:
    """Views of a map."""

    def __init__(self, file: MappedFile) -> None:
        self.file, self.steps = file, tuple(1 for _ in file.shape)
        self._map: Values | None = None

    def read(self, box: Box) -> Values:
        """A part, without a copy. Raises StoreError if the file is missing, or shorter than it was."""
        file = self.file
        needed = file.offset + int(np.prod(file.shape)) * file.dtype.itemsize
        try:
            size = Path(file.path).stat().st_size
            if size < needed:
                raise StoreError(f"read: {file.path} has {size} bytes, and should have {needed} at least")
            if self._map is None:
                order: Any = file.order
                self._map = np.memmap(file.path, file.dtype, "r", file.offset, file.shape, order)
        except OSError as error:
            raise StoreError(f"read: {file.path}: {error.strerror or error}") from error
        return np.asarray(self._map)[box]


def as_mapped(source: Any) -> MappedFile | None:
    """The place in a file that a memory map is of; None for anything else, parts of maps among them."""
    if type(source) is not np.memmap:
        return None
    base: Any = source.base
    if not isinstance(base, mmap.mmap) or source.filename is None:
        return None
    if not source.flags.c_contiguous and not source.flags.f_contiguous:
        return None
    source.flush()
    order = "C" if source.flags.c_contiguous else "F"
    return MappedFile(str(Path(source.filename).absolute()), int(source.offset), source.shape, source.dtype, order)
