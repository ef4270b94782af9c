"""Memory of one large result, beginning where a line of the cache does.

NumPy's own begins 16 bytes behind: each vector of a kernel that stores whole lines would lie across two of them. What
every pair of a row and a column adds to a result took 3 % of a backward pass more.
"""

import math
import mmap
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]

# Bytes from which on it matters, and pages of its own cost nothing.
_LARGE = 1 << 20


# Pages that other processes would share take several times as long to come by.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class _Room(mmap.mmap):
    """What such a result lies in: nothing else does."""


def zeros(shape: tuple[int, ...]) -> Values:
    """A float32 array of zeros; a large one begins with a line."""
    size = 4 * math.prod(shape)
    if size < _LARGE:
        return np.zeros(shape, np.float32)
    try:
        room = _Room(-1, size, **_PRIVATE)
    except OSError as error:
        raise MemoryError(f"there is no memory for {size} bytes") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):  # as NumPy asks for its own
        room.madvise(mmap.MADV_HUGEPAGE)
    return np.ndarray(shape, np.float32, buffer=room)


def is_alone(array: Values) -> bool:
    """Whether an array has its memory for itself, all of it: its own, or what was made for it."""
    room: Any = array.base
    return room is None or (isinstance(room, _Room) and array.nbytes == len(room) and array.flags.c_contiguous)
