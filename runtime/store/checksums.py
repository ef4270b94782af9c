"""Checksums of committed rows: CRC-32, one for each array, head and chunk.

Those of full chunks lie in pages, files of some thousand numbers each that are replaced when chunks
fill up; the last chunk's, not full, are in the commit record and are carried on by each append. So no
append costs more the longer the store is, and what was damaged in between is not taken for right.
"""

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...engine.errors import StoreError
from .files import Files, store_errors
from .layout import Layout
from .record import Record

# Chunks of a page.
PAGE = 1024
Values = np.ndarray[Any, Any]


def page_name(key: str, page: int) -> str:
    """Name of a page's file below the store."""
    return f"{key}/checksums/{page}"


def advance(layout: Layout, tails: tuple[int, ...], start: int, rows: Values) -> tuple[Values, tuple[int, ...]]:
    """Carry checksums over further rows.

    Args:
        layout: The store's.
        tails: Each head's checksum of the chunk that ``start`` lies in, up to there.
        start: Where the rows begin.
        rows: Contiguous, shape (heads, rows, width).

    Returns:
        The checksums of chunks that became full, shape (chunks, heads), and those of the last one.
    """
    stop = start + rows.shape[1]
    full = stop // layout.chunk - start // layout.chunk
    found = np.empty((full + 1, len(rows)), np.uint32)
    for head, checksum in enumerate(tails):
        for number, (first, last) in enumerate(_pieces(layout.chunk, start, stop)):
            checksum = zlib.crc32(rows[head, first - start : last - start].data, checksum)
            found[number, head] = checksum
            checksum = 0 if last % layout.chunk == 0 else checksum
    last_ones = tuple(int(checksum) for checksum in found[full]) if stop % layout.chunk else (0,) * len(tails)
    return found[:full], last_ones


def of_chunk(rows: Values) -> int:
    """The checksum of a chunk's rows, contiguous, shape (rows, width)."""
    return zlib.crc32(rows.data)


def _pieces(size: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(stop, (start // size + 1) * size)
        yield start, end
        start = end


def add_full(files: Files, layout: Layout, key: str, first: int, checksums: Values, operation: str) -> list[str]:
    """Write checksums of chunks from ``first`` on; earlier ones stay, what a killed append left goes.

    Returns:
        The files that have yet to settle.
    """
    names = []
    for start, stop in _pieces(PAGE, first, first + len(checksums)):
        page, begin = divmod(start, PAGE)
        before = read_page(files, layout, key, page, begin, operation) if begin else checksums[:0]
        entries = np.concatenate([before, checksums[start - first : stop - first]]).astype("<u4").tobytes()
        name = page_name(key, page)
        with store_errors(operation, files.locate(name)):
            files.replace(name, entries + zlib.crc32(entries).to_bytes(4, "little"))
        names.append(name)
    return names


def read_page(files: Files, layout: Layout, key: str, page: int, count: int, operation: str) -> Values:
    """The first so many checksums of a page, shape (chunks, heads).

    Raises:
        StoreError: If its file is missing or damaged.
    """
    name = page_name(key, page)
    with store_errors(operation, f"checksums of {key}: {files.locate(name)}"):
        contents = files.read(name)
    entries, checksum = contents[:-4], int.from_bytes(contents[-4:], "little")
    if len(contents) < 4 or len(entries) % (4 * layout.heads) or zlib.crc32(entries) != checksum:
        raise StoreError(f"{operation}: checksums of {key}: {files.locate(name)} is damaged")
    found = np.frombuffer(entries, "<u4").reshape(-1, layout.heads)
    if len(found) < count:
        raise StoreError(f"{operation}: checksums of {key}: {files.locate(name)} has {len(found)} chunks, not {count}")
    return found[:count]


def committed(files: Files, record: Record, key: str, first: int, count: int, operation: str) -> Values:
    """The checksums of chunks from ``first`` on, all of one page, shape (count, heads).

    Raises:
        StoreError: If the page is damaged.
    """
    layout = record.layout
    page, begin = divmod(first, PAGE)
    full = min(count, record.length // layout.chunk - first)
    found = np.empty((count, layout.heads), np.uint32)
    if full:
        found[:full] = read_page(files, layout, key, page, begin + full, operation)[begin:]
    if full < count:  # the last chunk, not full
        found[full] = record.tails[key]
    return found
