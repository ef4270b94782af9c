"""All files of an array as one array: mapped one behind the other into one stretch of addresses, nothing copied.

Addresses are reserved for all heads at once, those of a head side by side, with room for further files; each file
takes its place when rows of it are first asked for. What no file has taken cannot be touched. A file is looked at
before each use, as in `maps`; where another one has come into its place, the region is made anew, and the old one
stays for who still has a view.
"""

import ctypes
import functools
import mmap
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .maps import check_size

Values = np.ndarray[Any, Any]

# Of Linux, which Python has no names for.
_FIXED, _NORESERVE, _POPULATE_READ, _WILL_NEED = 0x10, 0x4000, 22, 3
# Maps of one region, of 65,530 that a process may have; and regions that are kept.
_MOST_FILES, _MOST_REGIONS = 8192, 64
# Addresses of one region: 16 TiB of 128.
_MOST_BYTES = 1 << 44


class Shape(NamedTuple):
    """How files make an array.

    Attributes:
        heads: How many rows of files.
        unit: Rows of the array in a file.
        width: Elements of a row.
        dtype: Their type.
        file_bytes: The size that each file must have: rows, and what follows them.
    """

    heads: int
    unit: int
    width: int
    dtype: np.dtype[Any]
    file_bytes: int

    @property
    def unit_bytes(self) -> int:
        """Bytes of a file's rows."""
        return self.unit * self.width * self.dtype.itemsize


class ReplacedError(Exception):
    """Another file has come into the place of one that is mapped."""


@functools.cache
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.argtypes = (address, size, number, number, number, ctypes.c_long)
    library.munmap.argtypes = (address, size)
    library.madvise.argtypes = (address, size, number)
    return library


def _mapped(address: int | None, size: int, protection: int, flags: int, descriptor: int) -> int:
    found = _library().mmap(address, size, protection, flags, descriptor, 0)
    if found is None or found == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(found)


class Region:
    """An array (heads, units * unit, width) in files: read-only, and lives as long as a view of it.

    Args:
        shape: How files make the array.
        units: For how many files of a head there is room.

    Raises:
        OSError: If there are no addresses.
    """

    def __init__(self, shape: Shape, units: int) -> None:
        self.shape, self.units = shape, units
        size = shape.heads * units * shape.unit_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        self._address = _mapped(None, size, 0, flags, -1)
        # Views hold the region, so it ends behind the last of them; at the process's end the system does it.
        weakref.finalize(self, _library().munmap, self._address, size).atexit = False
        self._taken: dict[tuple[int, int], tuple[int, int]] = {}
        self._lock = threading.Lock()

    @property
    def __array_interface__(self) -> dict[str, Any]:
        shape = self.shape
        return {
            "version": 3,
            "shape": (shape.heads, self.units * shape.unit, shape.width),
            "typestr": shape.dtype.str,
            "data": (self._address, True),
        }

    def take(self, head: int, unit: int, path: str) -> None:
        """Look at a file, and map it into its place if it is not there yet.

        Raises:
            OSError: If it is not there, or of another size (`maps.WrongSizeError`).
            ReplacedError: If it is another file than before.
        """
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
        check_size(found, self.shape.file_bytes)
        known = self._taken.get((head, unit))
        if known is None:
            with self._lock:
                if (head, unit) not in self._taken:
                    self._map(head, unit, path)
        elif known != (found.st_dev, found.st_ino):
            raise ReplacedError

    def _map(self, head: int, unit: int, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            found = os.fstat(descriptor)
            check_size(found, self.shape.file_bytes)
            size = self.shape.unit_bytes
            place = self._address + (head * self.units + unit) * size
            _mapped(place, size, mmap.PROT_READ, mmap.MAP_SHARED | _FIXED, descriptor)
        finally:
            os.close(descriptor)
        # A file that is mapped keeps its inode's number, deleted or not: no other one can have it.
        self._taken[head, unit] = found.st_dev, found.st_ino

    def fetch(self, heads: range, rows: range) -> None:
        """Bring rows into memory, if they are not there, and into the process's tables of pages; no error if not."""
        row, page = self.shape.width * self.shape.dtype.itemsize, mmap.PAGESIZE
        for head in heads:
            first = self._address + head * self.units * self.shape.unit_bytes + rows.start * row
            start, stop = first // page * page, first + len(rows) * row
            if _library().madvise(start, stop - start, _POPULATE_READ):  # older systems do not know it
                _library().madvise(start, stop - start, _WILL_NEED)

    def new_process(self) -> None:
        """After fork: another thread may have held the lock. The maps are the child's as well."""
        self._lock = threading.Lock()


class Regions:
    """A bounded number of regions, the longest unused let go first.

    Args:
        most: The bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._regions: OrderedDict[tuple[str, Shape], Region] = OrderedDict()
        self._lock = threading.Lock()

    def region(self, folder: str, shape: Shape, units: int) -> Region:
        """That of the files in a folder, with room for so many of each head.

        Raises:
            OSError: If there are no addresses.
        """
        key = folder, shape
        with self._lock:
            known = self._regions.get(key)
            if known is None or known.units < units:
                room = 1 << max(units - 1, 0).bit_length()  # for what is appended
                known = self._regions[key] = Region(shape, room)
            self._regions.move_to_end(key)
            while len(self._regions) > self._most:
                self._regions.popitem(last=False)
            return known

    def let_go(self, folder: str, region: Region) -> None:
        """Do not give out this region again."""
        with self._lock:
            if self._regions.get((folder, region.shape)) is region:
                del self._regions[folder, region.shape]

    def forget(self, folder: str) -> None:
        """Let go of all regions of files below a folder."""
        with self._lock:
            for key in [key for key in self._regions if key[0].startswith(f"{folder}/")]:
                del self._regions[key]

    def __len__(self) -> int:
        return len(self._regions)

    def new_process(self) -> None:
        """After fork, see `Region.new_process`."""
        self._lock = threading.Lock()
        for region in self._regions.values():
            region.new_process()


def is_possible(shape: Shape, units: int) -> bool:
    """Whether files of that shape can be mapped side by side: their rows are whole pages, and not too many."""
    room = 1 << max(units - 1, 0).bit_length()
    is_able = sys.platform == "linux" and sys.maxsize > 2**32
    is_even = shape.unit_bytes % mmap.PAGESIZE == 0
    return (
        is_able
        and is_even
        and shape.heads * units <= _MOST_FILES
        and shape.heads * room * shape.unit_bytes <= _MOST_BYTES
    )


def mapped_together(
    regions: Regions, folder: str, shape: Shape, units: int, wanted: Iterable[tuple[int, int, str]]
) -> Region:
    """A region into which these files, by head and number, are mapped, all of them looked at.

    Raises:
        OSError: As `Region.take`.
    """
    wanted = list(wanted)
    while True:
        region = regions.region(folder, shape, units)
        try:
            for head, unit, path in wanted:
                region.take(head, unit, path)
        except ReplacedError:
            regions.let_go(folder, region)
        else:
            return region


# The process's own.
REGIONS = Regions(_MOST_REGIONS)
os.register_at_fork(after_in_child=REGIONS.new_process)
