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

from .watchdog import Watch, Watchdog, start_daemon
from .worker_board import Board, Memory, Slot, Team, worker_code

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


def team(helpers: int) -> int:
    """The address of the record by which a call without Python finds the workers; so many are hired, if they can be.

    It is good for ever: after a fork it says that there is nobody, until a call from Python hires anew.

    Raises:
        CompileError: If the pool's own code cannot be compiled.
    """
    _pool.hire(helpers)
    _team.meet(_pool.board)
    return _team.address


class _Scratch(threading.local):
    """A caller's scratch memory, kept from call to call.

    It is taken out while in use: a signal's handler may make another call in the middle of one.
    """

    def __init__(self) -> None:
        self.kept: list[Memory] = []

    def take(self, size: int) -> Memory:
        memory = self.kept.pop() if self.kept else None
        if memory is None or memory.size < size:
            memory = None  # freed before the larger one is asked for
            memory = Memory(size)
        return memory

    def give_back(self, memory: Memory) -> None:
        if not self.kept and memory.size <= _MOST_SCRATCH_KEPT:
            self.kept.append(memory)


_scratch = _Scratch()


class _Call(NamedTuple):
    """What is to be run; ``stride`` is the scratch of a thread."""

    address: int
    descriptor: int
    total: int
    stride: int


class _Pool:
    """The workers who serve a board.

    Attributes:
        board: The board.
    """

    def __init__(self) -> None:
        self._hiring = threading.RLock()
        self._watchdog = Watchdog()
        self.board = Board()
        self._slots = deque(reversed(self.board.slots))  # workers look at the first first

    def run(self, call: _Call, threads: int) -> None:
        """Run a call to its end, or, on an exception, to where nobody is in it."""
        # In a single tile there is nowhere to stop.
        watched = call.total > 1 and threading.get_ident() == threading.main_thread().ident
        slot = self._take_slot()
        try:
            first = self._run_from(0, slot, call, threads, watched=watched, takes_part=True)
            while first < call.total:  # the watchdog called the main thread back
                first = self._run_from(first, slot, call, threads, watched=watched, takes_part=False)
        finally:
            if slot.shared:
                self._slots.append(slot)

    def _take_slot(self) -> Slot:
        try:
            return self._slots.pop()
        except IndexError:  # more calls at once than the board has slots
            return Slot.alone()

    def _run_from(self, first: int, slot: Slot, call: _Call, threads: int, *, watched: bool, takes_part: bool) -> int:
        """Run the tiles from ``first`` on; the first that is left, at least the total if none is."""
        threads = max(1, min(threads, call.total - first))
        helpers = self.hire(threads - takes_part) if slot.shared else 0
        takes_part = takes_part or helpers == 0
        watch = Watch(slot.counter_at, call.total) if watched and takes_part else None
        slot.counter.value = first
        scratch = _scratch.take(call.stride * (helpers + takes_part))
        try:
            self._compute(slot, call, helpers, watch, scratch.address if call.stride else 0, takes_part=takes_part)
        finally:
            _scratch.give_back(scratch)
        return call.total if watch is None or watch.stopped_at is None else watch.stopped_at

    def _compute(
        self, slot: Slot, call: _Call, helpers: int, watch: Watch | None, scratch: int, *, takes_part: bool
    ) -> None:
        done = 1
        try:
            if watch is not None:
                self._watchdog.watch(watch)
            if helpers == 0:
                _kernel_at(call.address)(call.descriptor, slot.counter_at, scratch)
            else:  # a helper's scratch begins one to ``helpers`` strides from here
                nearest = scratch if takes_part else scratch - call.stride
                where = self.board.address, slot.address, call.address, call.descriptor, nearest
                done = worker_code().run(*where, call.stride, helpers, takes_part, _MICROSECONDS_BETWEEN_LOOKS)
            if watch is not None:
                self._watchdog.unwatch(watch)
            while not done:
                done = self._wait(slot)
        except BaseException:
            self._abandon(slot, call.total, watch, nobody_in_it=helpers == 0)
            raise

    def _wait(self, slot: Slot) -> int:
        return int(worker_code().wait(self.board.address, slot.address, _MICROSECONDS_BETWEEN_LOOKS))

    def _abandon(self, slot: Slot, total: int, watch: Watch | None, *, nobody_in_it: bool) -> None:
        """Stop a call, and wait until nobody is in it, whatever signals come in the meantime."""
        while True:
            try:
                if watch is not None:
                    self._watchdog.unwatch(watch)
                slot.counter.value = total
                if nobody_in_it:
                    return
                worker_code().close(slot.address)
                while not self._wait(slot):
                    pass
                return
            except BaseException:  # the first one is on its way to the caller already
                continue

    def hire(self, count: int) -> int:
        """Have so many workers; how many of them there are."""
        board = self.board
        if board.workers < count:
            worker_code()  # what cannot be compiled is the caller's to know
            with self._hiring:
                if board.workers == 0:
                    board.find_places()
                while board.workers < count and board.records:
                    record = board.records.popleft()
                    if not start_daemon(functools.partial(board.serve, record), f"attngraph-{board.workers + 1}"):
                        board.records.appendleft(record)
                        break  # the system gives no more threads: do with fewer
                    board.workers += 1
                _team.meet(board)
        return min(count, board.workers)


_pool = _Pool()
_team = Team()


def _after_fork() -> None:
    """A child has none of its parent's threads, and perhaps its held locks."""
    global _pool
    _pool = _Pool()
    _team.meet(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
