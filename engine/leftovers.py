"""Memory that values of a run leave to later ones of it.

Pages that are new cost several times what it takes to fill them, and the more so the more threads ask for them. So what
nobody holds any longer is kept where a later step is known to make something of its size, and for that run alone.
"""

import math
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .types import DType

Values = np.ndarray[Any, Any]

# Bytes from which on a value has pages of its own.
LARGE = 1 << 20
# Bytes that are kept at a time.
_MOST_KEPT = 64 << 20


def _references(holder: list[Any]) -> int:
    """How often what a list holds is held, as the interpreter counts here."""
    return sys.getrefcount(holder[0])


_ONE = _references([np.empty(0)])
# Without the interpreter's lock another thread may come to hold an array while it is looked at.
_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


class Leftovers:
    """What values of one run have left."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[DType, int], list[Values]] = {}
        self._kept = 0

    def leave(self, holder: list[Any]) -> None:
        """Keep the memory of the array that a list holds, if nothing else holds that or a part of it."""
        if not _COUNTS or _references(holder) != _ONE:
            return
        if holder[0].base is not None:  # NumPy's views hold what owns the memory, and not each other
            holder[0] = holder[0].base
        if type(holder[0]) is not np.ndarray or _references(holder) != _ONE or weakref.getweakrefcount(holder[0]):
            return
        array: Values = holder[0]
        flags, size = array.flags, array.nbytes
        if flags.owndata and flags.c_contiguous and flags.writeable and LARGE <= size <= _MOST_KEPT - self._kept:
            self._kept += size
            self._arrays.setdefault((array.dtype, size), []).append(array)

    def take(self, shape: Sequence[int], dtype: DType) -> Values | None:
        """An array of this shape with whatever in it; None if there is no memory of its size."""
        size = math.prod(shape) * dtype.itemsize
        kept = self._arrays.get((dtype, size))
        if not kept:
            return None
        array = kept.pop()
        self._kept -= size
        array.resize(shape, refcheck=False)
        return array


_here: ContextVar[Leftovers | None] = ContextVar("attngraph_leftovers", default=None)


@contextmanager
def kept() -> Iterator[Leftovers]:
    """Within, `empty` gives out what was left."""
    found = Leftovers()
    token = _here.set(found)
    try:
        yield found
    finally:
        _here.reset(token)


def empty(shape: Sequence[int], dtype: Any) -> Values:
    """``np.empty``, of memory that an earlier value of this run has left, if there is such."""
    left = _here.get()
    found = None if left is None else left.take(shape, np.dtype(dtype))
    return np.empty(shape, dtype) if found is None else found
