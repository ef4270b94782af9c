"""`KVStore.verify`: whether every committed row is what was appended, and if not, which are not."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.errors import StoreError
from . import checksums
from .record import NAME, Record
from .units import Units

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it was written.

    Attributes:
        array: ``"keys"``, ``"values"``, or what quantized ones are read by (``"keys_scale"`` …); None for what belongs
            to all.
        head: Which head; None where it concerns all.
        chunk: Which chunk, the first where there are several; None where it concerns no rows.
        rows: First row, and behind the last one.
        file: Path or URL.
        reason: What is wrong.
    """

    array: str | None
    head: int | None
    chunk: int | None
    rows: tuple[int, int] | None
    file: str
    reason: str

    def __str__(self) -> str:
        place = [self.array] if self.array else []
        place += [f"head {self.head}"] if self.head is not None else []
        place += [f"chunk {self.chunk}"] if self.chunk is not None else []
        place += [f"rows {self.rows[0]}:{self.rows[1]}"] if self.rows is not None else []
        return ": ".join([*([", ".join(place)] if place else []), self.file, self.reason])


@dataclass(frozen=True)
class Verification:
    """What `KVStore.verify` found; true where all is well.

    Attributes:
        path: The store's.
        length: Rows that were committed.
        chunks: How many chunks were compared with their checksums, over all arrays and all heads.
        problems: What is wrong, and where.
    """

    path: str
    length: int
    chunks: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        state = "all is well" if self.ok else f"{len(self.problems)} problems"
        lines = [f"{self.path}: {self.length} rows, {self.chunks} chunks: {state}", *map(str, self.problems)]
        return "\n  ".join(lines)


def verify(units: Units, record: Record) -> Verification:
    """Read everything, and compare. The record itself was checked when it was read."""
    layout = record.layout
    problems = list(_metadata(units, record))
    for key in layout.arrays:
        problems += _rows(units, record, key)
    chunks = len(layout.arrays) * layout.heads * -(-record.length // layout.chunk)
    return Verification(units.files.describe()[0], record.length, chunks, tuple(problems))


def _metadata(units: Units, record: Record) -> Iterator[Problem]:
    """What zarr reads must say the same as the record."""
    files, layout = units.files, record.layout
    documents = {NAME: json.loads(record.document())}
    documents |= {f"{key}/{NAME}": layout.array_document(key, record.length) for key in layout.arrays}
    for name, expected in documents.items():
        array = name.partition("/")[0] if "/" in name else None
        try:
            found: Any = json.loads(files.read(name))
        except (OSError, ValueError) as error:
            yield Problem(array, None, None, None, files.locate(name), f"cannot be read: {error}")
            continue
        if found != expected:
            yield Problem(array, None, None, None, files.locate(name), "does not say what was committed")


def _rows(units: Units, record: Record, key: str) -> Iterator[Problem]:
    """Every file of an array, and every chunk in it."""
    layout = record.layout
    expected = np.empty((-(-record.length // layout.chunk), layout.heads), np.uint32)
    known = np.zeros(len(expected), bool)
    for first in range(0, len(expected), checksums.PAGE):
        last = min(first + checksums.PAGE, len(expected))
        try:
            expected[first:last] = checksums.committed(units.files, record, key, first, last - first, "verify")
            known[first:last] = True
        except StoreError as error:
            file = units.files.locate(checksums.page_name(key, first // checksums.PAGE))
            rows = first * layout.chunk, min(record.length, last * layout.chunk)
            yield Problem(key, None, first, rows, file, _reason(error, file))
    for head in range(layout.heads):
        for unit in layout.units(0, record.length):
            yield from _file(units, record, key, head, unit, expected[:, head], known)


def _file(
    units: Units, record: Record, key: str, head: int, unit: int, expected: Values, known: Values
) -> Iterator[Problem]:
    layout = record.layout
    start, stop = unit * layout.unit, min(record.length, (unit + 1) * layout.unit)
    name = layout.name(key, head, unit)
    file = units.files.locate(name)
    try:
        units.check_size("verify", key, head, unit, record.length)
    except StoreError as error:
        yield Problem(key, head, start // layout.chunk, (start, stop), file, _reason(error, file))
        return
    index, behind = layout.index(key), layout.unit_bytes(key)
    if index and units.files.read(name, behind, behind + len(index)) != index:
        yield Problem(key, head, start // layout.chunk, (start, stop), file, "zarr's index in it is damaged")
    for number in range(start // layout.chunk, -(-stop // layout.chunk)):
        first, last = number * layout.chunk, min(record.length, (number + 1) * layout.chunk)
        try:
            rows = np.ascontiguousarray(units.rows("verify", key, head, first, last, map_it=False))
        except StoreError as error:
            yield Problem(key, head, number, (first, last), file, _reason(error, file))
            continue
        if known[number] and checksums.of_chunk(rows) != expected[number]:
            yield Problem(key, head, number, (first, last), file, "damaged: not the rows that were appended")


def _reason(error: StoreError, file: str) -> str:
    """What an error says, without the place, which stands beside it."""
    message = str(error).splitlines()[0]
    return message.rpartition(file)[2].strip(": ") or message
