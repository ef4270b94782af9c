"""Compiled objects on disk: one file each, in a directory that may be full, foreign, damaged or gone.

An object is machine code that will be run, so a file counts only if it is this user's own, nobody else
could have written it, and its checksum holds. Nothing that happens to the directory is an error: what
cannot be read is compiled again, what cannot be kept is not kept, and one warning says so.
"""

import errno
import hashlib
import math
import os
import secrets
import stat
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .location import users_line

# magic, version of the layout, digest of what the object was made from, checksum, length
_HEADER = struct.Struct("<16sI32s32sQ")
_MAGIC = b"attngraph object"
_VERSION = 1
_SUFFIX = ".object"
_UNFINISHED = ".unfinished"

# Absent on some systems. O_NONBLOCK: a pipe in the file's place must not keep us waiting.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0)

_MOST_BYTES = 512 * 2**20
_MOST_FILES = 10_000
# The directory is measured at the first store and then once in so many, or after this share of its bytes.
_STORES_BETWEEN_SCANS = 64
_SHARE_BETWEEN_SCANS = 1 / 16
# What remains when the oldest are removed.
_SHARE_KEPT = 0.9
# An unfinished file this old belongs to a process that died.
_SECONDS_UNFINISHED = 3600.0
# A file used is marked as new, at most so often.
_SECONDS_BETWEEN_MARKS = 3600.0


class CacheWarning(UserWarning):
    """The cache of compiled kernels does not work as it should; computing does."""


_warned: set[str] = set()


def _warn(kind: str, message: str) -> None:
    """Warn at the user's line, once in a process for each kind of trouble."""
    if kind not in _warned:
        _warned.add(kind)
        file, number = users_line() or (__file__, 1)
        warnings.warn_explicit(f"{message} (further cases are not reported)", CacheWarning, file, number)


class ObjectCache:
    """Objects in a directory, by the digest of what they were made from.

    Args:
        directory: Where the files are; made, for this user alone, when the first object is stored.
        most_bytes: How much the files may hold together; beyond it the oldest are removed.
        most_files: How many files there may be.
    """

    def __init__(self, directory: str, *, most_bytes: int = _MOST_BYTES, most_files: int = _MOST_FILES) -> None:
        self._directory = Path(directory)
        self._most_bytes, self._most_files = most_bytes, most_files
        self._stores_left = 0
        self._bytes_left = 0

    def path(self, digest: str) -> Path:
        """The file of an object.

        Args:
            digest: SHA-256 of what the object is made from, in hexadecimal.
        """
        return self._directory / (digest + _SUFFIX)

    def load(self, digest: str) -> bytes | None:
        """The object, or None if there is none that can be trusted."""
        path = self.path(digest)
        try:
            descriptor = os.open(path, _READ)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                self._distrust(path, "a symbolic link")
            else:
                _warn("unreadable", f"a compiled kernel cannot be read and is compiled again: {error}")
            return None
        try:
            return self._read(descriptor, path, digest)
        except OSError as error:
            _warn("unreadable", f"a compiled kernel cannot be read and is compiled again: {error}")
            return None
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, path: Path, digest: str) -> bytes | None:
        status = os.fstat(descriptor)
        if reason := _why_foreign(status):
            self._distrust(path, reason)
            return None
        content = _read_all(descriptor, status.st_size)
        image = _unpack(content, digest)
        if image is None:
            self.damaged(digest)
        elif time.time() - status.st_mtime > _SECONDS_BETWEEN_MARKS:
            with suppress(OSError):
                os.utime(path, follow_symlinks=False)
        return image

    def damaged(self, digest: str) -> None:
        """Say that the object's file is not what was stored; it will be replaced."""
        _warn("damaged", f"a compiled kernel is damaged and is compiled again: {self.path(digest)}")

    def _distrust(self, path: Path, reason: str) -> None:
        _warn("foreign", f"a compiled kernel is not trusted, for it is {reason}; it is compiled again: {path}")

    def store(self, digest: str, image: bytes) -> None:
        """Keep an object, replacing what is in its place; whoever reads meanwhile sees the old or the new."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(digest, _pack(image, digest))
        except OSError as error:
            _warn("unwritable", f"compiled kernels cannot be kept in {self._directory}: {error}")
            return
        self._stores_left -= 1
        self._bytes_left -= len(image)
        if self._stores_left < 0 or self._bytes_left < 0:
            with suppress(OSError):
                self._trim()

    def _write(self, digest: str, content: bytes) -> None:
        unfinished = self._directory / f"{digest}.{os.getpid()}-{secrets.token_hex(8)}{_UNFINISHED}"
        descriptor = os.open(unfinished, _CREATE, 0o600)
        try:
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            finally:
                os.close(descriptor)
            unfinished.replace(self.path(digest))
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise

    def _trim(self) -> None:
        """Remove the oldest objects beyond the limits, and what processes that died have left behind."""
        self._stores_left = min(_STORES_BETWEEN_SCANS, self._most_files // 16)
        self._bytes_left = int(self._most_bytes * _SHARE_BETWEEN_SCANS)
        objects = []
        for path, status in self._files():
            if path.suffix == _SUFFIX:
                objects.append((status.st_mtime, status.st_size, path))
            elif time.time() - status.st_mtime > _SECONDS_UNFINISHED:
                _remove(path)
        held = sum(size for _, size, _ in objects)
        if held <= self._most_bytes and len(objects) <= self._most_files:
            return
        objects.sort(reverse=True)
        bytes_kept, files_kept = _SHARE_KEPT * self._most_bytes, math.ceil(_SHARE_KEPT * self._most_files)
        while len(objects) > 1 and (held > bytes_kept or len(objects) > files_kept):
            _, size, path = objects.pop()
            held -= size
            _remove(path)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The files that are ours to remove; the directory may hold others."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith((_SUFFIX, _UNFINISHED)):
                    with suppress(OSError):  # another process may have removed it
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            yield Path(entry.path), status


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _why_foreign(status: os.stat_result) -> str:
    """Why a file cannot be trusted, or nothing."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if hasattr(os, "geteuid"):
        if status.st_uid != os.geteuid():
            return "another user's"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "writable by others"
    return ""


def _read_all(descriptor: int, size: int) -> bytes:
    """``size`` bytes, or as many as there are: a read may return less than it was asked for."""
    parts = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _pack(image: bytes, digest: str) -> bytes:
    checksum = hashlib.sha256(image).digest()
    return _HEADER.pack(_MAGIC, _VERSION, bytes.fromhex(digest), checksum, len(image)) + image


def _unpack(content: bytes, digest: str) -> bytes | None:
    """The object in a file, or None if the file is not what `_pack` made for this digest."""
    if len(content) < _HEADER.size:
        return None
    magic, version, made_from, checksum, length = _HEADER.unpack_from(content)
    image = content[_HEADER.size :]
    if (magic, version, made_from, length) != (_MAGIC, _VERSION, bytes.fromhex(digest), len(image)):
        return None
    return image if hashlib.sha256(image).digest() == checksum else None
