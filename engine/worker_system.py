"""What the native half of the pool needs of Python and of the system: locks, and where threads may run."""

import ctypes
import os
from typing import NamedTuple

import numpy as np


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


class LockFunctions(NamedTuple):
    """Addresses of Python's functions for its locks, which work without the interpreter's lock."""

    acquire: int
    release: int


def lock_functions() -> LockFunctions:
    """Those of this Python."""
    api = ctypes.pythonapi
    return LockFunctions(_address(api.PyThread_acquire_lock_timed), _address(api.PyThread_release_lock))


def new_lock() -> int:
    """A lock that is taken, as those functions know it. It is never freed: whoever sleeps on it never ends."""
    allocate, acquire = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
    allocate.restype, acquire.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]
    lock: int | None = allocate()
    if lock is None:
        raise MemoryError("no lock for a worker")
    acquire(lock, 1)
    return lock


class Places:
    """The processors that this process may use, as the system's functions take them.

    Attributes:
        here: Address of the function that says on which processor a thread runs; 0 where there is none,
            or only one processor.
        confine: Address of the function that says where a thread may run.
        size: Bytes of a set of processors.
        count: How many processors the table knows.
        table: Address of the sets: first all that are allowed, then for each processor all but that one.
    """

    here = confine = size = count = table = 0

    def __init__(self) -> None:
        if not hasattr(os, "sched_getaffinity"):
            return
        allowed = os.sched_getaffinity(0)
        library = ctypes.CDLL(None)
        if len(allowed) < 2 or not hasattr(library, "sched_getcpu"):
            return
        self.here, self.confine = _address(library.sched_getcpu), _address(library.sched_setaffinity)
        self.count = max(allowed) + 1
        self.size = -(-self.count // 64) * 8
        bits = np.zeros((self.count + 1, self.size * 8), bool)
        bits[:, sorted(allowed)] = True
        bits[np.arange(1, self.count + 1), np.arange(self.count)] = False
        self._sets = np.packbits(bits, axis=1, bitorder="little")
        self.table = self._sets.ctypes.data
