"""Ctrl-C reaches native code: the main thread's calls are stopped, between two tiles, when they last.

Python hands Ctrl-C to the main thread, and only between two steps of Python. So a native call that the
main thread makes is watched. One that lasts has its counter of tiles set to the end, so that it returns;
the main thread can then be interrupted, or knows at which tile the work is to go on.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from .worker_board import worker_code

# A call is stopped after one to two rounds.
_SECONDS_OF_ROUND = 0.1
# The watchdog goes to sleep after so many rounds without a call.
_ROUNDS_AWAKE = 20


class Watch:
    """A call that is watched.

    Attributes:
        stopped_at: What its counter held when it was stopped, or None.
    """

    __slots__ = ("counter", "stopped_at", "total")

    def __init__(self, counter: int, total: int) -> None:
        self.counter, self.total = counter, total
        self.stopped_at: int | None = None


class Watchdog:
    """Stops the native call of the main thread when it lasts. Only the main thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may make another call in the middle of one
        self._watched: Watch | None = None
        self._awake = False
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._started = False

    def watch(self, watch: Watch) -> None:
        """Set the call's counter to its total, if `unwatch` does not come soon."""
        self._watched = watch
        if not self._awake:
            if not self._started:
                worker_code()  # what cannot be compiled is the caller's to know
                self._started = start_daemon(self._rounds, "attngraph-watchdog")
            if self._started:
                self._awake = True
                self._bell.put(None)

    def unwatch(self, watch: Watch) -> None:
        """Leave the call's counter alone from now on."""
        with self._lock:
            if self._watched is watch:
                self._watched = None

    def _rounds(self) -> None:
        while True:
            self._bell.get()
            seen: Watch | None = None
            quiet = 0
            while quiet < _ROUNDS_AWAKE:
                time.sleep(_SECONDS_OF_ROUND)
                watch = self._watched
                if watch is None:
                    quiet += 1
                elif watch is seen:
                    self._stop(watch)
                else:
                    quiet = 0
                seen = watch
            self._awake = False
            if self._watched is not None:  # a call began just when we took it that there was none
                self._awake = True
                self._bell.put(None)

    def _stop(self, watch: Watch) -> None:
        with self._lock:
            if self._watched is watch:
                self._watched = None
                watch.stopped_at = worker_code().exchange(watch.counter, watch.total)


def start_daemon(work: Callable[[], None], name: str) -> bool:
    """Start a thread that does not keep the interpreter from ending; False if the system gives no more."""
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:
        return False
    return True
