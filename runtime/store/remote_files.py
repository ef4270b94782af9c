"""Files in a place that fsspec reaches: ranges are read, and whole objects are written."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .files import LocalFiles


class RemoteFiles:
    """Objects below a URL.

    That an object is replaced at once is the place's promise, which object stores give; of fsspec's
    local file system, which does not, the files are written as those of any other local store.

    Args:
        url: Any that fsspec knows.
        storage_options: Of its file system.
    """

    mappable = False

    def __init__(self, url: str, storage_options: dict[str, Any] | None) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self._url, self._options = url.rstrip("/"), storage_options
        self._system, root = url_to_fs(self._url, **(storage_options or {}))
        self._root = root.rstrip("/")
        self.local = LocalFiles(Path(self._root)) if isinstance(self._system, LocalFileSystem) else None

    def describe(self) -> tuple[str, dict[str, Any] | None]:
        return self._url, self._options

    def locate(self, name: str) -> str:
        return f"{self._url}/{name}"

    def _object(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _fresh(self) -> None:
        self._system.invalidate_cache(self._root)  # what another process wrote is not in our listings

    def size(self, name: str) -> int | None:
        self._fresh()
        try:
            return int(self._system.info(self._object(name))["size"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        if start == stop:
            return b""
        return bytes(self._system.cat_file(self._object(name), start=start or None, end=stop))

    @contextmanager
    def contents(self, name: str, following: str = "") -> Iterator[bytes]:
        yield self.read(name)

    def replace(self, name: str, contents: bytes, *, durable: bool = True) -> None:
        if self.local is not None:
            self.local.replace(name, contents, durable=durable)
        else:
            self._system.pipe_file(self._object(name), contents)

    def settle(self, names: Iterable[str]) -> None:
        if self.local is not None:
            self.local.settle(names)

    def remove(self, name: str) -> None:
        try:
            self._system.rm_file(self._object(name))
        except FileNotFoundError:
            return

    def stored_bytes(self) -> int:
        self._fresh()
        return int(self._system.du(self._root, total=True))

    def is_empty(self) -> bool:
        """Whether there is nothing below the URL."""
        self._fresh()
        try:
            return not self._system.ls(self._root, detail=False)
        except FileNotFoundError:
            return True
