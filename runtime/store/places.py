"""From a path or a URL to files, and the right to write them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...engine.errors import ArgumentError, StoreError
from .files import Files, LocalFiles, new_folder, store_errors
from .layout import KEYS
from .lock import NAME, ProcessLock, WriterLock
from .remote_files import RemoteFiles

Lock = WriterLock | ProcessLock


def open_files(path: Any, storage_options: dict[str, Any] | None = None) -> Files:
    """The files at a path, made absolute, or at a URL (``memory://x``, ``s3://bucket/x``, ``file:///x``).

    Raises:
        ArgumentError: If it is neither, or fsspec does not know it.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"KVStore: a path or a URL, not {type(path).__name__}")
    if isinstance(path, str) and "://" in path:
        try:
            return RemoteFiles(path, storage_options)
        except (ValueError, ImportError, TypeError) as error:
            raise ArgumentError(f"KVStore: fsspec cannot open {path}: {error}") from error
    if storage_options:
        raise ArgumentError(f"KVStore: storage_options are for URLs, and {os.fspath(path)!r} is a path")
    return LocalFiles(Path(os.path.abspath(os.fspath(path))))  # noqa: PTH100 - resolve() would follow links


def lock(files: Files) -> Lock:
    """The right to write, of one at a time.

    Raises:
        StoreError: If somebody has it.
    """
    place = files.describe()[0]
    local = files if isinstance(files, LocalFiles) else files.local if isinstance(files, RemoteFiles) else None
    if local is None:
        return ProcessLock(place)
    with store_errors("KVStore", f"{place} cannot be opened for writing"):
        return WriterLock(Path(local.locate(NAME)), place)


@contextmanager
def new_place(files: Files, arrays: Sequence[str] = KEYS) -> Iterator[tuple[Files, Lock]]:
    """Where a new store's files are put in the block, and the right to write them there.

    On this machine the store appears at once when the block ends; elsewhere with its record, put last.

    Args:
        files: The place.
        arrays: The names of its arrays.

    Raises:
        StoreError: If something is there already.
    """
    place = files.describe()[0]
    local = files if isinstance(files, LocalFiles) else files.local if isinstance(files, RemoteFiles) else None
    if local is None:
        assert isinstance(files, RemoteFiles)
        with store_errors("create", place):
            empty = files.is_empty()
        if not empty:
            raise _not_empty(place)
        held = ProcessLock(place)
        try:
            yield files, held
        except BaseException:
            held.release()
            raise
        return
    if local.root.exists() and (not local.root.is_dir() or any(local.root.iterdir())):
        raise _not_empty(place)
    taken: Lock | None = None
    try:
        with store_errors("create", place), new_folder(local.root) as folder:
            for name in arrays:
                (folder / name / "checksums").mkdir(parents=True)
            taken = WriterLock(folder / NAME, place)
            yield LocalFiles(folder), taken
    except BaseException:
        if taken is not None:
            taken.release()
        raise


def _not_empty(place: str) -> StoreError:
    return StoreError(f"create: there is something at {place} already; open it, or remove it first")
