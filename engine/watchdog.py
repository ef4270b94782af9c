"""Ctrl-C reaches native code: the main thread's calls are stopped, between two tiles, when they last.

Python hands Ctrl-C to the main thread, and only between two steps of Python. So a native call that the
main thread makes is watched. One that lasts has its counter of tiles set to the end, so that it returns;
the main thread can then be interrupted, or knows at which tile the work is to go on.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from .worker_code import worker_code

# A call is stopped after one to two rounds.
_SECONDS_OF_ROUND = 0.1
# The watchdog goes to sleep after so many rounds without a call.
_ROUNDS_AWAKE = 20


class Watchdog:
    """Stops the native call of the main thread when it lasts. Only the main thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: tuple[int, int] | None = None
        self._stopped_at: int | None = None
        self._calls = 0
        self._awake = False
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._started = False

    def watch(self, counter: int, total: int) -> None:
        """Set the counter at an address to ``total``, if `unwatch` is not called soon."""
        self._calls += 1
        self._stopped_at = None
        self._watched = counter, total
        if not self._awake:
            self._started = self._started or start_daemon(self._rounds, "attngraph-watchdog")
            if self._started:
                self._bell.put(None)

    def unwatch(self) -> int | None:
        """Leave the counter alone from now on; what it held when it was stopped, or None if it was not."""
        with self._lock:
            self._watched = None
        return self._stopped_at

    def _rounds(self) -> None:
        while True:
            self._bell.get()
            self._awake = True
            seen = quiet = 0
            while quiet < _ROUNDS_AWAKE:
                time.sleep(_SECONDS_OF_ROUND)
                if self._calls != seen:
                    seen, quiet = self._calls, 0
                elif self._watched is None:
                    quiet += 1
                else:
                    self._stop(seen)
            self._awake = False
            if self._calls != seen:  # a call began just when we took it that there was none
                self._bell.put(None)

    def _stop(self, seen: int) -> None:
        with self._lock:
            if self._watched is not None and self._calls == seen:
                counter, total = self._watched
                self._watched = None
                self._stopped_at = worker_code().exchange(counter, total)


def start_daemon(work: Callable[[], None], name: str) -> bool:
    """Start a thread that does not keep the interpreter from ending; False if the system gives no more."""
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:
        return False
    return True
