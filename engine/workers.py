"""Threads that run a native function together, each pulling tiles from one atomic counter.

The function is ``void f(void *descriptor, int64_t *counter, void *scratch)``. It takes tiles by adding one
to the counter, atomically, until it gets a number that is not below the total, which it knows from its
descriptor. Every thread calls it once. Setting the counter to the total therefore stops them all within a
tile, and what the counter held says where to go on.

The caller's thread takes part. The main thread does so only at first: if the call lasts, the watchdog calls
it back to Python, where Ctrl-C reaches it, and it leaves the rest to the workers.
"""

import ctypes
import functools
import os
import threading
from collections import deque
from typing import NamedTuple

import numpy as np

from .watchdog import Watchdog, start_daemon
from .worker_code import (
    BOARD_BYTES,
    FIRST_SLOT,
    FIRST_WORKER,
    LOCK_ACQUIRE,
    LOCK_RELEASE,
    MOST_WORKERS,
    PLACES_BYTES,
    PLACES_COUNT,
    PLACES_HERE,
    PLACES_SET,
    PLACES_TABLE,
    SLOT_BYTES,
    SLOT_COUNTER,
    SLOT_LOCK,
    WORKER_BYTES,
    WORKER_ID,
    WORKER_LOCK,
    WORKERS_HIRED,
    worker_code,
)
from .worker_system import Places, lock_functions, new_lock

# A native function; ctypes releases the interpreter's lock while it runs.
_Kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_kernel_at = functools.lru_cache(maxsize=1024)(_Kernel)

_LINE = 64
# A thread keeps its scratch for the next call up to this size.
_MOST_SCRATCH_KEPT = 64 * 2**20
# How long a native wait lasts before Python looks for signals, on systems where a signal does not end it.
_MICROSECONDS_BETWEEN_LOOKS = 50_000


def run(
    address: int, descriptor: int, total_tiles: int, scratch_bytes: int, threads: int, *, keep: object = None
) -> None:
    """Run a native function on all tiles; returns when no thread is in it any more.

    Args:
        address: The function's.
        descriptor: What it is given as its first argument.
        total_tiles: The number of tiles, which it must know by itself too.
        scratch_bytes: Memory for each thread, aligned to 64 bytes, its content arbitrary; a null pointer if 0.
        threads: How many threads at most, the caller's among them.
        keep: What the function needs and the caller does not hold: it lives until the return.

    Raises:
        KeyboardInterrupt: On Ctrl-C in the main thread, when all threads have left the function; tiles that
            nobody had begun are then not computed. The same for whatever else a signal's handler raises.
        MemoryError: If there is no memory for the scratch.
        CompileError: If the pool's own code cannot be compiled.
    """
    if total_tiles > 0:
        stride = -(-scratch_bytes // _LINE) * _LINE
        _pool.run(_Call(address, descriptor, total_tiles, stride), threads)


class _Memory:
    """Memory that begins on a cache line and shares none."""

    __slots__ = ("_bytes", "address", "size")

    def __init__(self, size: int) -> None:
        self._bytes = np.empty(size + 2 * _LINE, np.uint8)
        self.address: int = -(-self._bytes.ctypes.data // _LINE) * _LINE
        self.size = size

    def at(self, offset: int) -> ctypes.c_int64:
        """The number at an offset."""
        return ctypes.c_int64.from_address(self.address + offset)


class _Scratch(threading.local):
    """A caller's scratch memory, kept from call to call."""

    memory: _Memory | None = None

    def of_size(self, size: int) -> _Memory:
        memory = self.memory
        if memory is None or memory.size < size:
            self.memory = memory = None  # freed before the larger one is asked for
            memory = _Memory(size)
            if size <= _MOST_SCRATCH_KEPT:
                self.memory = memory
        return memory


_scratch = _Scratch()


class _Call(NamedTuple):
    """What is to be run; ``stride`` is the scratch of a thread."""

    address: int
    descriptor: int
    total: int
    stride: int


class _Slot:
    """A call's place on the board. If that board is not the pool's, no worker comes."""

    __slots__ = ("_board", "address", "counter", "counter_at", "shared")

    def __init__(self, board: _Memory, offset: int, *, shared: bool) -> None:
        self._board = board
        self.address = board.address + offset
        self.counter_at = self.address + SLOT_COUNTER
        self.counter = board.at(offset + SLOT_COUNTER)
        self.shared = shared


class _Pool:
    """The board, and the workers who serve it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers = 0
        self._watchdog = Watchdog()
        self._board = board = _Memory(BOARD_BYTES)
        ctypes.memset(board.address, 0, BOARD_BYTES)
        board.at(LOCK_ACQUIRE).value, board.at(LOCK_RELEASE).value = lock_functions()
        self._places = places = Places()
        board.at(PLACES_HERE).value, board.at(PLACES_SET).value = places.here, places.confine
        board.at(PLACES_BYTES).value, board.at(PLACES_COUNT).value = places.size, places.count
        board.at(PLACES_TABLE).value = places.table
        self._slots: deque[_Slot] = deque()
        for offset in range(FIRST_SLOT, FIRST_WORKER, SLOT_BYTES):
            board.at(offset + SLOT_LOCK).value = new_lock()
            self._slots.append(_Slot(board, offset, shared=True))

    def run(self, call: _Call, threads: int) -> None:
        """Run a call to its end, or, on an exception, to where nobody is in it."""
        # In a single tile there is nowhere to stop.
        watched = call.total > 1 and threading.get_ident() == threading.main_thread().ident
        slot = self._take_slot()
        try:
            rest = self._run_from(0, slot, call, threads, watched=watched, takes_part=True)
            while rest is not None:
                rest = self._run_from(rest, slot, call, threads, watched=watched, takes_part=False)
        finally:
            if slot.shared:
                self._slots.append(slot)

    def _take_slot(self) -> _Slot:
        try:
            return self._slots.pop()
        except IndexError:  # more calls at once than the board has slots
            return _Slot(_Memory(SLOT_BYTES), 0, shared=False)

    def _run_from(
        self, first: int, slot: _Slot, call: _Call, threads: int, *, watched: bool, takes_part: bool
    ) -> int | None:
        """Run the tiles from ``first`` on; the first that is left, if the watchdog called the main thread back."""
        slot.counter.value = first
        threads = min(threads, call.total - first)
        helpers = self._hire(threads - takes_part) if slot.shared else 0
        takes_part = takes_part or helpers == 0
        watched = watched and takes_part
        scratch = _scratch.of_size(call.stride * (helpers + takes_part)) if call.stride else None
        scratch_at = 0 if scratch is None else scratch.address
        stopped_at, done = None, 1
        try:
            if watched:
                self._watchdog.watch(slot.counter_at, call.total)
            if helpers == 0:
                _kernel_at(call.address)(call.descriptor, slot.counter_at, scratch_at)
            else:  # the helpers' scratch begins where the caller's ends
                caller_scratch_at = scratch_at if takes_part else scratch_at - call.stride
                where = self._board.address, slot.address, call.address, call.descriptor, caller_scratch_at
                done = worker_code().run(*where, call.stride, helpers, takes_part, _MICROSECONDS_BETWEEN_LOOKS)
            if watched:
                stopped_at = self._watchdog.unwatch()
            while not done:
                done = worker_code().wait(self._board.address, slot.address, _MICROSECONDS_BETWEEN_LOOKS)
        except BaseException:
            self._abandon(slot, call.total, watched, helpers)
            raise
        return stopped_at if stopped_at is not None and stopped_at < call.total else None

    def _abandon(self, slot: _Slot, total: int, watched: bool, helpers: int) -> None:
        """Stop a call, and wait until nobody is in it, whatever signals come in the meantime."""
        done = helpers == 0
        while True:
            try:
                if watched:
                    self._watchdog.unwatch()
                slot.counter.value = total
                if not done:
                    worker_code().close(slot.address)
                while not done:
                    done = worker_code().wait(self._board.address, slot.address, _MICROSECONDS_BETWEEN_LOOKS)
                return
            except BaseException:  # the first one is on its way to the caller already
                continue

    def _hire(self, count: int) -> int:
        """Have so many workers; how many of them there are."""
        if self._workers < count:
            worker_code()  # what cannot be compiled is the caller's to know
            with self._lock:
                while self._workers < min(count, MOST_WORKERS):
                    offset = FIRST_WORKER + self._workers * WORKER_BYTES
                    self._board.at(offset + WORKER_LOCK).value = new_lock()
                    if not start_daemon(functools.partial(self._work, offset), f"attngraph-{self._workers + 1}"):
                        break  # the system gives no more threads: do with fewer
                    self._workers += 1
                    self._board.at(WORKERS_HIRED).value = self._workers
        return min(count, self._workers)

    def _work(self, offset: int) -> None:
        self._board.at(offset + WORKER_ID).value = threading.get_native_id()
        worker_code().serve(self._board.address, self._board.address + offset)


_pool = _Pool()


def _after_fork() -> None:
    """A child has none of its parent's threads, and perhaps its held locks."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
