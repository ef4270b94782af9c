"""The record of a batch: what the job is, and which chunks are done, in a file that only grows.

A line is JSON and its checksum. It is written when the chunk's own files would survive a crash. What a crash leaves of
a line is overwritten when the record is gone on with.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

from ...engine.errors import ArgumentError
from ..store.files import store_errors, sync_folder, write_all

# The folder in the output that zarr does not look into, and the files in it.
FOLDER, NAME, LOCK = ".batch", "record", "lock"
_FORMAT = 1


class Journal:
    """The record in the folder of an output.

    Args:
        folder: `FOLDER` of the output.

    Attributes:
        job: What the job was when it began; None for a new record.
        results: What its results are; None before the first chunk.
        chunks: What is known of each chunk that is done, by its number.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.job: dict[str, str] | None = None
        self.results: list[dict[str, Any]] | None = None
        self.chunks: dict[int, dict[str, Any]] = {}
        self._length = 0
        with store_errors("batch", str(self.path)):
            self._parse(self.path.read_bytes() if self.path.exists() else b"")

    def _parse(self, contents: bytes) -> None:
        for line in contents.splitlines(keepends=True):
            entry = _entry(line)
            if entry is None:
                return
            self._length += len(line)
            self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        if "job" in entry:
            self.job = entry["job"]
        elif "results" in entry:
            self.results = entry["results"]
        else:
            self.chunks[int(entry["chunk"])] = entry

    def check(self, job: dict[str, str]) -> None:
        """Raise ArgumentError if it is the record of another job."""
        assert self.job is not None
        names = dict.fromkeys([*self.job, *job])
        other = [name for name in names if self.job.get(name) != job.get(name)]
        if other:
            said = "; ".join(f"{name}: {self.job.get(name)} before, {job.get(name)} now" for name in other)
            raise ArgumentError(
                f"batch: {self.path.parent.parent} was begun by another job: {said}. "
                "resume=False would compute everything anew"
            )

    def add(self, entry: dict[str, Any]) -> None:
        """Append, durably.

        Raises:
            StoreError: If the disk is full; the record is as it was then.
        """
        line = _line(entry)
        with store_errors("batch", str(self.path)):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                os.ftruncate(descriptor, self._length)
                write_all(descriptor, line, self._length)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not self._length:
                sync_folder(self.path.parent)
        self._length += len(line)
        self._take(entry)


def _line(entry: dict[str, Any]) -> bytes:
    text = json.dumps({"format": _FORMAT, **entry}, sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is torn."""
    checksum, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or checksum != f"{zlib.crc32(text[:-1]):08x}".encode():
        return None
    found: dict[str, Any] = json.loads(text)
    return found
