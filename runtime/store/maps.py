"""Files mapped into memory, once a process and kept, and checked again before each use."""

import mmap
import os
import resource
import stat
import threading
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

Bytes = np.ndarray[Any, Any]

_MOST_MAPS = 1024


class _Map(NamedTuple):
    device: int
    inode: int
    contents: Bytes


class WrongSizeError(OSError):
    """A file that is longer or shorter than its place in the store says."""


def check_size(found: os.stat_result, size: int) -> None:
    """Raise WrongSizeError unless it is an ordinary file of that size."""
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:
        raise WrongSizeError(f"its size is {found.st_size} bytes, and should be {size}")


class Maps:
    """A bounded number of maps, the longest unused let go first.

    What is mapped is only read. An array that was handed out keeps its map alive, let go or not.

    Args:
        most: The bound. Each map holds one open file, too.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._maps: OrderedDict[str, _Map] = OrderedDict()
        self._lock = threading.Lock()

    def contents(self, path: str, size: int) -> Bytes:
        """The bytes of a file that must have this size now: touching pages behind its end would kill the process.

        Raises:
            OSError: If the file is not there; `WrongSizeError` if it has another size.
        """
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
        check_size(found, size)
        with self._lock:
            known = self._maps.get(path)
            if known is not None and (known.device, known.inode) == (found.st_dev, found.st_ino):
                self._maps.move_to_end(path)
                return known.contents
            made = _map(path, size)
            self._maps[path] = made
            self._maps.move_to_end(path)
            while len(self._maps) > self._most:
                self._maps.popitem(last=False)
        return made.contents

    def forget(self, folder: str) -> None:
        """Let go of all maps of files below a folder."""
        with self._lock:
            for path in [path for path in self._maps if path.startswith(f"{folder}/")]:
                del self._maps[path]

    def __len__(self) -> int:
        return len(self._maps)

    def new_process(self) -> None:
        """After fork: another thread may have held the lock. The maps are the child's as well."""
        self._lock = threading.Lock()


def _map(path: str, size: int) -> _Map:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = os.fstat(descriptor)
        check_size(found, size)
        return _Map(found.st_dev, found.st_ino, np.frombuffer(mmap.mmap(descriptor, size, prot=mmap.PROT_READ), "u1"))
    finally:
        os.close(descriptor)


def _bound() -> int:
    """A quarter of the files that the process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_MAPS if files == resource.RLIM_INFINITY else min(_MOST_MAPS, max(16, files // 4))


# The process's own.
MAPS = Maps(_bound())
os.register_at_fork(after_in_child=MAPS.new_process)
