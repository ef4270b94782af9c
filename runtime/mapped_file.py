"""Memory maps as what they are: a place in a file, which travels instead of the numbers there."""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.blocks import Blocks
from ..engine.boxes import Box
from ..engine.errors import StoreError
from ..engine.types import Shape

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class MappedFile:
    """An array in a file that is mapped. It travels as this description.

    Attributes:
        path: The file's, absolute.
        start: Where its first element is, in bytes.
        shape: Lengths of its axes.
        strides: Their steps, in bytes.
        dtype: Data type, as NumPy's text.
    """

    path: str
    start: int
    shape: Shape
    strides: tuple[int, ...]
    dtype: str

    @property
    def identity(self) -> str:
        """What it is, for comparison."""
        place = f"{self.path} from byte {self.start}, strides {list(self.strides)}"
        return f"{np.dtype(self.dtype).name}{list(self.shape)} in {place}"

    @property
    def stop(self) -> int:
        """Where its last element ends, in bytes."""
        if 0 in self.shape:
            return self.start
        ahead = sum((n - 1) * max(step, 0) for n, step in zip(self.shape, self.strides, strict=True))
        return self.start + ahead + np.dtype(self.dtype).itemsize

    def whole(self, operation: str = "read") -> Values:
        """The array, mapped to be read.

        Args:
            operation: For messages.

        Raises:
            StoreError: If the file is missing, or shorter than it was.
        """
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123 - as mmap wants it
                size = os.fstat(file.fileno()).st_size
                if size < self.stop:
                    raise StoreError(f"{operation}: {self.path} has {size} bytes, and should have {self.stop} at least")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return np.ndarray(self.shape, self.dtype, buffer=mapped, offset=self.start, strides=self.strides)
        except OSError as error:
            raise StoreError(f"{operation}: {self.path}: {error.strerror or error}") from error
        except (ValueError, TypeError) as error:
            raise StoreError(f"{operation}: {self.path}: {error}") from error

    def __attngraph_blocks__(self) -> Blocks:
        return _MappedBlocks(self)


class _MappedBlocks:
    """Views of a map; the file is looked at for each."""

    def __init__(self, file: MappedFile) -> None:
        self.file, self.steps = file, tuple(1 for _ in file.shape)
        self._map: Values | None = None

    def read(self, box: Box) -> Values:
        """A part, without a copy.

        Raises:
            StoreError: If the file is missing, or shorter than it was.
        """
        try:
            is_there = Path(self.file.path).stat().st_size >= self.file.stop
        except OSError:
            is_there = False
        if self._map is None or not is_there:  # mapped anew, it says what is wrong
            self._map = self.file.whole()
        return self._map[box]


def mapped_file(array: Values) -> MappedFile | None:
    """Where in its file a mapped array lies, view or not; None if it is none, or its changes do not get there."""
    root: Any = array
    while isinstance(root, np.ndarray) and not (isinstance(root, np.memmap) and isinstance(root.base, mmap.mmap)):
        root = root.base
    if not isinstance(root, np.memmap) or root.mode == "c" or not isinstance(root.filename, str | os.PathLike):
        return None
    if root.mode != "r":
        root.flush()
    start = array.ctypes.data - root.ctypes.data + root.offset
    path = os.path.abspath(os.fspath(root.filename))  # noqa: PTH100 - links stay as they are
    return MappedFile(path, start, array.shape, array.strides, array.dtype.str)
