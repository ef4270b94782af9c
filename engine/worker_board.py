"""The board that a pool's threads meet at, its layout, and the native functions on it (`worker_ir` says how)."""

import ctypes
import functools
import hashlib
import os
import threading
from collections import deque
from string import Template
from typing import Any, NamedTuple

import numpy as np

from .config import config
from .jit import compile_text
from .lazily import Lazily
from .worker_ir import TEXT
from .worker_share_ir import SHARE

_binding: Any = Lazily("llvmlite.binding")
_LINE = 64
_SLOTS = 32
# Slots that calls without Python take, the first: as many of them at once have helpers.
_KEPT = 8
_MOST_WORKERS = 512

# Where things are, in bytes. What different threads write is 128 apart: processors fetch lines in pairs.
_LAYOUT = {
    # The board. At 0 stands how often work was posted.
    "RECORDS_USED": 128,
    "LOCK_ACQUIRE": 136,
    "LOCK_RELEASE": 144,
    "PLACES_HERE": 152,
    "PLACES_SET": 160,
    "PLACES_BYTES": 168,
    "PLACES_COUNT": 176,
    "PLACES_TABLE": 184,
    "FIRST_SLOT": 256,
    # A slot. At 0 stands its gate.
    "SLOT_TICKETS": 8,
    "SLOT_KERNEL": 128,
    "SLOT_DESCRIPTOR": 136,
    "SLOT_SCRATCH": 144,
    "SLOT_STRIDE": 152,
    "SLOT_LOCK": 160,
    "SLOT_ASLEEP": 168,
    "SLOT_BUSY": 176,
    "SLOT_COUNTER": 256,
    "SLOT_BYTES": 384,
    "SLOTS": _SLOTS,
    "KEPT": _KEPT,
    # A worker. At 0 stands whether it is asleep.
    "WORKER_LOCK": 8,
    "WORKER_ID": 16,
    "WORKER_BYTES": 128,
    "FIRST_WORKER": 256 + _SLOTS * 384,
}
_CONSTANTS = {
    "OPEN": 1 << 32,
    "NOT_OPEN": (1 << 32) - 1,
    # How often to look before sleeping: some 150 µs for a worker, longer than what lies between the kernels of two
    # short calls, for to wake it takes 25. A caller has nothing else to do.
    "LOOKS": 8000,
    "CALLERS_LOOKS": 8000,
}


class Memory:
    """Memory that begins on a cache line and shares none. Its content is arbitrary.

    Attributes:
        address: Where it begins.
        size: Its bytes.
    """

    __slots__ = ("_bytes", "address", "size")

    def __init__(self, size: int) -> None:
        self._bytes = np.empty(size + 2 * _LINE, np.uint8)
        self.address: int = -(-self._bytes.ctypes.data // _LINE) * _LINE
        self.size = size


class Slot:
    """A call's place on a board.

    Attributes:
        address: Where it is.
        counter_at: Where its counter of tiles is.
        counter: The counter, to be set.
        shared: Whether workers look at it.
    """

    __slots__ = ("_memory", "address", "counter", "counter_at", "shared")

    def __init__(self, memory: Memory, offset: int, *, shared: bool) -> None:
        self._memory = memory
        self.address = memory.address + offset
        self.counter_at = self.address + _LAYOUT["SLOT_COUNTER"]
        self.counter = ctypes.c_int64.from_address(self.counter_at)
        self.shared = shared

    @classmethod
    def alone(cls) -> "Slot":
        """One that no worker looks at."""
        return cls(Memory(_LAYOUT["SLOT_BYTES"]), 0, shared=False)


class Board:
    """What a caller and the workers share.

    Attributes:
        address: Where it is.
        slots: The places for calls from Python.
        records: Numbers of the workers' records that no worker has.
        workers: How many workers there are; for whoever hires them to count.
    """

    def __init__(self) -> None:
        size = _LAYOUT["FIRST_WORKER"] + _MOST_WORKERS * _LAYOUT["WORKER_BYTES"]
        self._memory = Memory(size)
        self.address = self._memory.address
        ctypes.memset(self.address, 0, size)
        self._set(0, "LOCK_ACQUIRE", _address_of(ctypes.pythonapi.PyThread_acquire_lock_timed))
        self._set(0, "LOCK_RELEASE", _address_of(ctypes.pythonapi.PyThread_release_lock))
        self._places: _Places | None = None
        self.slots = []
        for number in range(_SLOTS):
            offset = _LAYOUT["FIRST_SLOT"] + number * _LAYOUT["SLOT_BYTES"]
            self._set(offset, "SLOT_LOCK", _new_lock())
            if number >= _KEPT:
                self.slots.append(Slot(self._memory, offset, shared=True))
        self.records = deque(range(_MOST_WORKERS))
        self.workers = 0
        self._records_used = 0
        self._counting = threading.Lock()

    def _set(self, offset: int, field: str, value: int) -> None:
        ctypes.c_int64.from_address(self.address + offset + _LAYOUT[field]).value = value

    def find_places(self) -> None:
        """Learn where workers may run: wherever the thread that hires the first of them may."""
        self._places = places = _Places()
        self._set(0, "PLACES_SET", places.confine)
        self._set(0, "PLACES_BYTES", places.size)
        self._set(0, "PLACES_COUNT", places.count)
        self._set(0, "PLACES_TABLE", places.table)
        self._set(0, "PLACES_HERE", places.here)

    def serve(self, record: int) -> None:
        """Be the worker of a record, for ever."""
        offset = _LAYOUT["FIRST_WORKER"] + record * _LAYOUT["WORKER_BYTES"]
        self._set(offset, "WORKER_LOCK", _new_lock())
        self._set(offset, "WORKER_ID", threading.get_native_id())
        with self._counting:
            self._records_used = max(self._records_used, record + 1)
            self._set(0, "RECORDS_USED", self._records_used)
        worker_code().serve(self.address, self.address + offset)


class WorkerCode(NamedTuple):
    """The native functions. While one runs, other threads may run Python."""

    serve: Any
    run: Any
    wait: Any
    close: Any
    exchange: Any
    share: Any


class _AnyProcessor(NamedTuple):
    """A target: whatever this process runs on."""

    triple: str
    cpu: str = ""
    features: str = ""


@functools.cache
def worker_code() -> WorkerCode:
    """The native functions, compiled or loaded at the first call.

    Raises:
        CompileError: If they cannot be compiled.
    """
    triple = _binding.get_process_triple()
    pause = "call void @llvm.x86.sse2.pause()" if triple.startswith("x86_64") else ""
    text = Template(TEXT + SHARE).substitute(_LAYOUT, **_CONSTANTS, PAUSE=pause)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    signatures = {
        "serve": (None, pointer, pointer),
        "run": (number, pointer, pointer, pointer, pointer, pointer, number, number, number, number),
        "wait": (number, pointer, pointer, number),
        "close": (None, pointer),
        "exchange": (number, pointer, number),
        "share": (number, pointer, pointer, pointer, pointer, number, number),
    }
    key = "worker code " + hashlib.sha256(text.encode()).hexdigest()
    module = compile_text(text, list(signatures), _AnyProcessor(triple), key=key, cache_dir=config.cache_dir)
    return WorkerCode(**{name: module.function(name, *types) for name, types in signatures.items()})


class Team:
    """What calls without Python find the workers by: a record of two words that lives for ever.

    The first is the address of ``share``, null where nobody has been hired, the second the board's.

    Attributes:
        address: Where it is.
    """

    def __init__(self) -> None:
        self._words = np.zeros(2, np.int64)
        self._board: Board | None = None
        self.address = int(self._words.ctypes.data)

    def meet(self, board: Board | None) -> None:
        """Be the workers of a board, or nobody."""
        self._board = board  # which lives as long as it is pointed to
        self._words[:] = (0, 0) if board is None else (_address_of(worker_code().share), board.address)


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_allocate_lock = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
_acquire_lock = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
    ("PyThread_acquire_lock", ctypes.pythonapi)
)


def _new_lock() -> int:
    """One of Python's locks, taken. It is never freed: whoever sleeps on it never ends."""
    lock: int | None = _allocate_lock()
    if lock is None:
        raise MemoryError("there is no memory for a lock")
    _acquire_lock(lock, 1)
    return lock


class _Places:
    """The processors that this thread may use, as Linux takes them.

    Attributes:
        here: Address of the function that says where a thread runs; 0 where there is none, or one processor.
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
        self.here, self.confine = _address_of(library.sched_getcpu), _address_of(library.sched_setaffinity)
        self.count = max(allowed) + 1
        self.size = -(-self.count // 64) * 8
        bits = np.zeros((self.count + 1, self.size * 8), bool)
        bits[:, sorted(allowed)] = True
        bits[np.arange(1, self.count + 1), np.arange(self.count)] = False
        self._sets = np.packbits(bits, axis=1, bitorder="little")
        self.table = self._sets.ctypes.data
