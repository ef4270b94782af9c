"""One object's use of a store: what it knows to be committed, and whether it may commit."""

from collections.abc import Callable

from ...engine.errors import StoreError
from .files import Files, LocalFiles
from .maps import MAPS
from .places import Lock
from .record import Record, read_record
from .regions import REGIONS
from .units import Units


class Session:
    """A store that is open.

    Args:
        files: Where it is.
        record: What was committed when it was opened.
        held: The right to write; None to read only.
    """

    def __init__(self, files: Files, record: Record, held: Lock | None) -> None:
        self.files, self.units = files, Units(files, record.layout)
        self.record, self.writes = record, held is not None
        self.closed = False
        self._held, self._interrupted = held, False

    @property
    def path(self) -> str:
        """The store's absolute path, or its URL."""
        return self.files.describe()[0]

    def now(self, operation: str) -> Record:
        """What is committed: for the only writer, what it has written itself.

        Raises:
            StoreError: If it was closed, or is gone, damaged or another one.
        """
        self._check_open(operation)
        if self._held is None or not self._held.held:
            self.record = self._read(operation)
        return self.record

    def writable(self, operation: str) -> Record:
        """What is committed, for one who is about to write.

        Raises:
            StoreError: If this object may not, or another writer did.
        """
        self._check_open(operation)
        if self._held is None:
            raise StoreError(f"{operation}: {self.path} was opened to be read; open it with mode='r+'")
        if not self._held.held:
            raise StoreError(f"{operation}: {self.path} is written by the process that this one was forked from")
        record = self._read(operation)
        if record.generation != self.record.generation and not self._interrupted:
            raise StoreError(f"{operation}: another writer has written to {self.path}; open it again")
        self.record, self._interrupted = record, False
        return record

    def commit(self, write: Callable[[], Record]) -> None:
        """Run what commits; if it does not return, what is committed is looked up next time."""
        self._interrupted = True
        self.record = write()
        self._interrupted = False

    def close(self) -> None:
        """Let others write, and let go of the maps."""
        if self._held is not None:
            self._held.release()
        if not self.closed and isinstance(self.files, LocalFiles):
            MAPS.forget(str(self.files.root))
            REGIONS.forget(str(self.files.root))
        self.closed = True

    def _check_open(self, operation: str) -> None:
        if self.closed:
            raise StoreError(f"{operation}: {self.path} was closed")

    def _read(self, operation: str) -> Record:
        record = read_record(self.files, operation)
        if record.identity != self.record.identity:
            raise StoreError(f"{operation}: {self.path} holds another store than the one that was opened")
        return record
