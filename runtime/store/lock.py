"""One writer at a time: a lock of the operating system's, which dies with its process."""

import fcntl
import os
import weakref
from pathlib import Path

from ...engine.errors import StoreError

NAME = "keys/.lock"


class WriterLock:
    """The right to write to a store, held until `release` or the process's end.

    A child of fork does not hold it: there its file is closed, or the lock would outlive the parent.

    Args:
        file: The lock's file; made if it is not there.
        store: The store's name, for the message.

    Raises:
        StoreError: If somebody holds it.
    """

    def __init__(self, file: Path, store: str) -> None:
        self._descriptor: int | None = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._close()
            if isinstance(error, BlockingIOError):
                raise taken(store) from None
            raise
        _held.add(self)

    @property
    def held(self) -> bool:
        """Whether it is this process's."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let others write."""
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self._close()


class ProcessLock:
    """The same among this process's objects, for places without locks.

    Raises:
        StoreError: If somebody holds it.
    """

    def __init__(self, store: str) -> None:
        self._entry: tuple[int, str] | None = None
        if (os.getpid(), store) in _written:
            raise taken(store)
        self._entry = os.getpid(), store
        _written.add(self._entry)

    @property
    def held(self) -> bool:
        """Whether it is this process's."""
        return self._entry is not None and self._entry[0] == os.getpid()

    def release(self) -> None:
        """Let others write."""
        entry, self._entry = self._entry, None
        if entry is not None:
            _written.discard(entry)

    def __del__(self) -> None:
        self.release()


def taken(store: str) -> StoreError:
    """The error of a second writer."""
    return StoreError(
        f"KVStore: {store} is open for writing already, here or in another process; "
        "close that one, or open this one with mode='r'"
    )


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()
# Stores in places without locks, by the process that writes them.
_written: set[tuple[int, str]] = set()


def _let_go() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_let_go)
