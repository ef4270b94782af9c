"""What appends and truncations write, in the order that no instant is a wrong one to be killed at.

First rows, behind the committed ones, which are never written again in place: raw files on a disk
take them where they belong, all others are replaced as a whole by ones that hold the committed rows
too. Then checksums of chunks that became full. Both are made durable. Then the commit record is
replaced, by one rename. Whatever an append that did not get there left is ignored and overwritten.
"""

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.errors import StoreError
from . import checksums
from .files import Files, punch_hole, store_errors, write_all
from .layout import Layout
from .maps import WrongSizeError
from .record import NAME, Record, read_record
from .units import Units

Values = np.ndarray[Any, Any]


def append_rows(units: Units, record: Record, rows: dict[str, Values]) -> Record:
    """Commit further rows.

    Args:
        units: The store's files.
        record: What is committed.
        rows: Keys and values as they are stored, contiguous, shape (heads, rows, width).

    Returns:
        What is committed now, durably.

    Raises:
        StoreError: If the disk is full or the store damaged; what was committed stays.
    """
    files, layout = units.files, units.layout
    names: list[str] = []
    tails = {}
    try:
        for key in layout.arrays:
            full, tails[key] = checksums.advance(layout, record.tails[key], record.length, rows[key])
            for head in range(layout.heads):
                _write_rows(units, key, head, record.length, rows[key][head], names)
            if len(full):
                first = record.length // layout.chunk
                names += checksums.add_full(files, layout, key, first, full, "append")
        with store_errors("append", files.describe()[0]):
            files.settle(names)
        return commit(files, record, record.appended(rows[layout.arrays[0]].shape[1], tails), "append")
    except StoreError:
        with suppress(StoreError):  # unless it failed behind the record's replacement, which is what counts
            if read_record(files, "append").generation == record.generation:
                _remove_units(files, layout, record.length, names)
                _give_back(units, record)
        raise


def _write_rows(units: Units, key: str, head: int, length: int, rows: Values, names: list[str]) -> None:
    """Write a head's rows behind the first ``length`` ones; ``names`` collects files that have yet to settle."""
    layout = units.layout
    stop = length + len(rows)
    for unit in layout.units(length, stop):
        first, last = max(length, unit * layout.unit), min(stop, (unit + 1) * layout.unit)
        piece = rows[first - length : last - length]
        name = layout.name(key, head, unit)
        fresh = length <= unit * layout.unit  # nothing committed is in it: what there is was left by a killed append
        with store_errors("append", f"{layout.place(key, head, first, last)}: {units.files.locate(name)}"):
            if units.mapped:
                if fresh:
                    names.append(name)
                _write_in_place(units, key, name, piece, first - unit * layout.unit, fresh)
            else:
                names.append(name)
                before = rows[:0] if fresh else units.rows("append", key, head, unit * layout.unit, first)
                units.files.replace(name, _whole(units, key, before, piece))


def _write_in_place(units: Units, key: str, name: str, rows: Values, first: int, fresh: bool) -> None:
    path, layout = units.files.locate(name), units.layout
    size = layout.file_bytes(key)
    assert size is not None, "rows as they are have files of one size"
    if fresh:  # another inode, so that nobody who has the old one mapped takes it for this
        Path(path).unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if fresh else 0), 0o666)
    try:
        if fresh:
            os.ftruncate(descriptor, size)
            write_all(descriptor, layout.index(key), layout.unit_bytes(key))
        elif os.fstat(descriptor).st_size != size:
            found = os.fstat(descriptor).st_size
            raise WrongSizeError(f"its size is {found} bytes, and should be {size}")
        write_all(descriptor, rows.view(np.uint8).data, first * layout.row_bytes(key))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _whole(units: Units, key: str, before: Values, rows: Values) -> bytes:
    """All of a file that holds these rows and otherwise zeros."""
    layout = units.layout
    filled = np.zeros((layout.unit, layout.width(key)), layout.stored(key))
    filled[: len(before)] = before
    filled[len(before) : len(before) + len(rows)] = rows
    return filled.tobytes() + layout.index(key) if layout.codecs is None else units.codec(key).encode(filled)


def commit(files: Files, before: Record, after: Record, operation: str) -> Record:
    """Replace the record, durably, and let the arrays' own metadata follow.

    Raises:
        StoreError: If somebody else committed in the meantime, or the disk is full.
    """
    now = read_record(files, operation)
    if (now.identity, now.generation) != (before.identity, before.generation):
        raise StoreError(f"{operation}: {files.locate(NAME)} was replaced by another writer; nothing was committed")
    after = replace(after, attributes=now.attributes)  # zarr may have changed them
    with store_errors(operation, files.locate(NAME)):
        files.replace(NAME, after.document())
        files.settle([NAME])
    follow(files, after)
    return after


def follow(files: Files, record: Record) -> None:
    """Let the arrays' own metadata say what the record says; it is right without them, so they may fail to."""
    for key in record.layout.arrays:
        name = f"{key}/zarr.json"
        document = json.dumps(record.layout.array_document(key, record.length)).encode()
        with suppress(OSError):
            if files.size(name) != len(document) or files.read(name) != document:
                files.replace(name, document, durable=False)


def _remove_units(files: Files, layout: Layout, length: int, names: list[str]) -> None:
    """Give back the room of files that hold nothing committed."""
    for name in names:
        _, _, rest = name.partition("/c.")
        if rest and int(rest.split(".")[1]) * layout.unit >= length:
            with suppress(OSError):
                files.remove(name)


def _give_back(units: Units, record: Record) -> None:
    """Give back the room behind the committed rows of files that have some: on a full disk others need it."""
    layout = units.layout
    unit, rows = divmod(record.length, layout.unit)
    if not rows or not units.mapped:
        return
    for key in layout.arrays:
        for head in range(layout.heads):
            with suppress(OSError):
                path = units.files.locate(layout.name(key, head, unit))
                punch_hole(path, rows * layout.row_bytes(key), layout.unit_bytes(key))


def truncate_rows(units: Units, record: Record, length: int) -> Record:
    """Commit that only the first ``length`` rows count.

    Raises:
        StoreError: If the chunk that ends there is damaged, or the disk is full; nothing changes then.
    """
    files, layout = units.files, units.layout
    start = length // layout.chunk * layout.chunk
    tails = dict.fromkeys(layout.arrays, (0,) * layout.heads)
    if start < length:
        stop = min(record.length, start + layout.chunk)
        for key in layout.arrays:
            expected = checksums.committed(files, record, key, start // layout.chunk, 1, "truncate")[0]
            tails[key] = tuple(
                _shorter_tail(units, key, head, start, length, stop, int(expected[head]))
                for head in range(layout.heads)
            )
    after = commit(files, record, record.truncated(length, tails), "truncate")
    for key in layout.arrays:
        for head in range(layout.heads):
            gone = range(-(-length // layout.unit), -(-record.length // layout.unit))
            _remove_units(files, layout, length, [layout.name(key, head, unit) for unit in gone])
    return after


def _shorter_tail(units: Units, key: str, head: int, start: int, length: int, stop: int, expected: int) -> int:
    """The checksum of a chunk's rows up to ``length``, once it is sure that they are right."""
    layout = units.layout
    rows = np.ascontiguousarray(units.rows("truncate", key, head, start, stop, map_it=False))
    if checksums.of_chunk(rows) != expected:
        file = units.files.locate(layout.name(key, head, start // layout.unit))
        raise StoreError(f"truncate: {layout.place(key, head, start, stop)}: {file} is damaged: verify the store")
    return checksums.of_chunk(rows[: length - start])
