"""The files of a store: what reading and writing need of the place where they lie."""

import ctypes
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from ...engine.errors import AttnGraphError, StoreError

# Bytes of the largest file for whose contents a thread keeps room.
_MOST_KEPT = 1 << 24
# Where a file had to be waited for, so many of the next ones are taken to be no nearer.
_SLOW_FOR = 16


class Files(Protocol):
    """A place for files; names are relative to it, with slashes."""

    mappable: bool

    def describe(self) -> tuple[str, dict[str, Any] | None]:
        """What opens it again: path or URL, and the options of its file system."""

    def locate(self, name: str) -> str:
        """Where a file is, for messages and for maps."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, now; None where there is none."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Some bytes of a file, fewer where it ends.

        Raises:
            OSError: If it cannot be read.
        """

    def contents(self, name: str, following: str = "") -> AbstractContextManager[bytes | memoryview]:
        """All of a file, good inside ``with``.

        Args:
            name: Which.
            following: What will be wanted next, if that is known: it may not be there.

        Raises:
            OSError: If it cannot be read.
        """

    def replace(self, name: str, contents: bytes, *, durable: bool = True) -> None:
        """Put a file in place at once: at any instant there is the old one or the new one."""

    def settle(self, names: Iterable[str]) -> None:
        """Return when the replaced files would survive a crash."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def stored_bytes(self) -> int:
        """Bytes that all files take."""


@contextmanager
def store_errors(operation: str, subject: str) -> Iterator[None]:
    """What the file system refuses becomes a StoreError that names the operation and what it was about."""
    try:
        yield
    except AttnGraphError:
        raise
    except OSError as error:
        raise StoreError(f"{operation}: {subject}: {error.strerror or error}") from error


def _at_hand(descriptor: int, room: memoryview) -> int:
    """Read what is in memory of a file's beginning, without waiting for more: how many bytes."""
    try:
        return os.preadv(descriptor, [room], 0, os.RWF_NOWAIT)
    except (AttributeError, OSError):  # nothing of it, or a system, or a file system, that cannot say
        return 0


def write_all(descriptor: int, contents: bytes | memoryview, offset: int) -> None:
    """Write all of it: a call may write less, which is how a full disk shows at first."""
    rest = memoryview(contents).cast("B")
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


class _Rooms(threading.local):
    """Room for a file's contents, kept by each thread from file to file: new pages take as long as reading does.

    It is taken out while in use: a signal's handler may read in the middle of reading.
    """

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def taken(self, size: int) -> bytearray:
        room = self._kept.pop() if self._kept else bytearray()
        return room if len(room) >= size else bytearray(size)

    def give_back(self, room: bytearray) -> None:
        if not self._kept and len(room) <= _MOST_KEPT:
            self._kept.append(room)


_rooms = _Rooms()


class LocalFiles:
    """Files on this machine."""

    mappable = True

    def __init__(self, root: Path) -> None:
        self.root = root
        # For how many files more the next one is asked for ahead: one was not in memory. Asking takes a while, too.
        self._slow = 0

    def describe(self) -> tuple[str, dict[str, Any] | None]:
        return str(self.root), None

    def locate(self, name: str) -> str:
        return f"{self.root}/{name}"

    def size(self, name: str) -> int | None:
        try:
            return os.stat(self.locate(name)).st_size  # noqa: PTH116 - a Path costs more than the call
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        descriptor = os.open(self.locate(name), os.O_RDONLY)
        try:
            wanted = (os.fstat(descriptor).st_size if stop is None else stop) - start
            pieces, left = [], wanted
            while left > 0:
                piece = os.pread(descriptor, left, start + wanted - left)
                if not piece:
                    break
                pieces.append(piece)
                left -= len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            os.close(descriptor)

    @contextmanager
    def contents(self, name: str, following: str = "") -> Iterator[memoryview]:
        descriptor = os.open(self.locate(name), os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            room = _rooms.taken(size)
            with memoryview(room)[:size] as whole:
                done = _at_hand(descriptor, whole)
                if done < size:
                    self._slow = _SLOW_FOR
                if self._slow:
                    self._slow -= 1
                    self._ask_for(following)
                while done < size:
                    count = os.preadv(descriptor, [whole[done:]], done)
                    if not count:
                        break
                    done += count
                with whole[:done] as found:
                    yield found
            _rooms.give_back(room)
        finally:
            os.close(descriptor)

    def _ask_for(self, name: str) -> None:
        """Have the system read a file ahead, if it is there; no error if not."""
        if not name or not hasattr(os, "posix_fadvise"):
            return
        with suppress(OSError):
            descriptor = os.open(self.locate(name), os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)

    @property
    def _scratch(self) -> str:
        # One name, and not beside the record: zarr would wonder about a stranger in its group.
        return self.locate("keys/.next")

    def replace(self, name: str, contents: bytes, *, durable: bool = True) -> None:
        descriptor = os.open(self._scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            try:
                write_all(descriptor, contents, 0)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            Path(self._scratch).replace(self.locate(name))
        except OSError:
            with suppress(OSError):
                Path(self._scratch).unlink()
            raise

    def settle(self, names: Iterable[str]) -> None:
        for folder in {Path(self.locate(name)).parent for name in names}:
            sync_folder(folder)

    def remove(self, name: str) -> None:
        Path(self.locate(name)).unlink(missing_ok=True)

    def stored_bytes(self) -> int:
        return sum(512 * path.stat().st_blocks for path in self.root.rglob("*") if path.is_file())


def punch_hole(path: str, start: int, stop: int) -> None:
    """Free the disk of a file's bytes, which read as zeros then; its size stays.

    Raises:
        OSError: If there is no such file.
    """
    keep_size, punch = 1, 2  # FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE, which Python does not have
    fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
    descriptor = os.open(path, os.O_RDWR)
    try:
        if fallocate is not None and start < stop:  # some file systems cannot, and say so: it is no harm
            fallocate(descriptor, keep_size | punch, ctypes.c_int64(start), ctypes.c_int64(stop - start))
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder would survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A folder that is filled under another name, and gets its own at once when the block ends.

    Raises:
        OSError: If there is something at ``root`` already, or no room.
    """
    filled = root.parent / f".{root.name}.{os.getpid()}.new"
    shutil.rmtree(filled, ignore_errors=True)
    try:
        filled.mkdir(parents=True)
        yield filled
        sync_folder(filled)
        filled.rename(root)  # onto nothing, or an empty folder
        sync_folder(root.parent)
    except BaseException:
        shutil.rmtree(filled, ignore_errors=True)
        raise
