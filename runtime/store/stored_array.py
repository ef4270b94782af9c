"""`StoredArray`: the keys or the values of a store as they were when somebody asked for them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...engine.blocks import Blocks, HeadwiseBlocks
from ...engine.errors import ArgumentError, DTypeError, IndexOutOfRangeError, StoreError
from ...engine.types import DType
from .array_blocks import DecodedBlocks, ViewedBlocks
from .places import open_files
from .record import NAME, Record, read_document, read_record
from .units import Units

Values = np.ndarray[Any, Any]


class StoredArrayDescriptor(NamedTuple):
    """What a stored array travels as: no rows.

    Attributes:
        path: The store's, absolute, or its URL.
        key: ``"keys"`` or ``"values"``.
        length: Rows, when it was bound.
        identity: The store's own.
        truncations: How often it had been truncated.
        storage_options: Of the URL's file system.
    """

    path: str
    key: str
    length: int
    identity: str
    truncations: int
    storage_options: dict[str, Any] | None = None


class StoredArray:
    """Keys or values of a store, shape (heads, length, dim): a snapshot of the length, read when asked.

    Later appends do not change it. Before anything is read, the sizes of the files are checked, and
    whether the store was truncated since. It pickles as a descriptor. Safe to use from several threads.

    Args:
        units: What reads the store's files.
        key: ``"keys"`` or ``"values"``.
        record: What was committed when it was bound.
    """

    def __init__(self, units: Units, key: str, record: Record) -> None:
        if key not in record.layout.arrays:
            raise ArgumentError(f"StoredArray: a store has {' and '.join(record.layout.arrays)}, not {key!r}")
        self.key = key
        self._units = units
        self._length = record.length
        self._identity, self._truncations = record.identity, record.truncations
        self._seen = b"", record

    @classmethod
    def open(cls, descriptor: StoredArrayDescriptor) -> "StoredArray":
        """The array that `descriptor` describes, here or in another process.

        Raises:
            StoreError: If its store is missing, is another one, or has fewer rows now.
        """
        files = open_files(descriptor.path, descriptor.storage_options)
        record = read_record(files, "StoredArray")
        array = cls(Units(files, record.layout), descriptor.key, record)
        array._length, array._identity = descriptor.length, descriptor.identity
        array._truncations = descriptor.truncations
        array._check_there("StoredArray", 0)
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """(heads, length, dim)."""
        return self._units.layout.heads, self._length, self._units.layout.width(self.key)

    @property
    def dtype(self) -> DType:
        """The elements' type; ``ml_dtypes.bfloat16`` for bfloat16."""
        return self._units.layout.element(self.key)

    @property
    def ndim(self) -> int:
        """Always 3."""
        return 3

    @property
    def path(self) -> str:
        """The store's path or URL."""
        return self._units.files.describe()[0]

    @property
    def chunk(self) -> int:
        """Rows that one checksum covers."""
        return self._units.layout.chunk

    @property
    def mapped(self) -> bool:
        """Whether a block that is read is a view of a file's map."""
        return self._units.mapped

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<StoredArray {self.key} of {self.path}: {self.dtype.name}{list(self.shape)}>"

    def __attngraph_blocks__(self) -> Blocks:
        given = self._units, self.key, self._length, self.dtype, self._check_there
        if ViewedBlocks.are_possible(self._units, self.key, self._length):
            return ViewedBlocks(*given)
        if not self.mapped:
            return DecodedBlocks(*given)
        return HeadwiseBlocks(self, 1)

    def blocks(self) -> list[tuple[int, int]]:
        """Where to read: (start, stop) of rows that lie in one file, or are decoded together."""
        size = self._units.layout.unit
        return [(start, min(start + size, self._length)) for start in range(0, self._length, size)]

    def read(self, head: int, start: int, stop: int) -> Values:
        """Rows of a head, shape (stop - start, dim), read-only.

        A view of the file's map where the rows lie in one mapped file, otherwise a copy.

        Args:
            head: Which head, not negative.
            start: First row.
            stop: Behind the last row.

        Raises:
            StoreError: If a file is missing, truncated or damaged, or the store was truncated to fewer
                than ``stop`` rows since the array was bound.
            IndexOutOfRangeError: If there is no such head or row.
        """
        self._check_range(head, start, stop)
        self._check_there("read", stop)
        if start == stop:
            return self._shown(np.empty((0, self.shape[2]), self._units.layout.stored(self.key)))
        pieces = [self._units.rows("read", self.key, head, first, last) for first, last in self._spans(start, stop)]
        if len(pieces) == 1:
            return self._shown(pieces[0])
        rows = np.concatenate(pieces)
        self._check_there("read", stop)
        return self._shown(rows)

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        size = self._units.layout.unit
        for unit in self._units.layout.units(start, stop):
            yield max(start, unit * size), min(stop, (unit + 1) * size)

    def _shown(self, rows: Values) -> Values:
        rows = rows.view(self.dtype)
        rows.flags.writeable = False
        return rows

    def read_all(self) -> Values:
        """All of it, shape (heads, length, dim), read-only: a view where a single mapped file holds it.

        Raises:
            StoreError: As `read`.
        """
        if self.shape[0] == 1:
            return self.read(0, 0, self._length)[None]
        self._check_there("read", self._length)
        rows = np.empty(self.shape, self._units.layout.stored(self.key))
        for head in range(self.shape[0]):
            for start, stop in self._spans(0, self._length):
                rows[head, start:stop] = self._units.rows("read", self.key, head, start, stop)
        self._check_there("read", self._length)
        return self._shown(rows)

    def gather(self, head: int | None, indices: Any) -> Values:
        """Rows by their positions, a copy.

        Args:
            head: Which head, not negative; None for all of them.
            indices: Integers, shape (n,); negative ones count from the end.

        Returns:
            Shape (n, dim); (heads, n, dim) for all heads.

        Raises:
            IndexOutOfRangeError: If there is no such head or row.
            DTypeError: If the indices are not integers in one dimension.
            StoreError: As `read`.
        """
        positions = self._positions(indices)
        if head is not None:
            self._check_range(head, 0, 0)
        last = int(positions.max()) + 1 if positions.size else 0
        self._check_there("gather", last)
        order = None if np.all(positions[1:] >= positions[:-1]) else np.argsort(positions, kind="stable")
        ascending = positions if order is None else positions[order]
        heads = range(self.shape[0]) if head is None else [head]
        found = np.empty((len(heads), positions.size, self.shape[2]), self._units.layout.stored(self.key))
        for place, one in enumerate(heads):
            self._gather_head(one, ascending, found[place])
        self._check_there("gather", last)
        if order is not None:
            ordered = np.empty_like(found)
            ordered[:, order] = found
            found = ordered
        return (found[0] if head is not None else found).view(self.dtype)

    def _gather_head(self, head: int, ascending: Values, out: Values) -> None:
        """Rows whose positions ascend: those of each file in one go."""
        size, begin = self._units.layout.unit, 0
        while begin < len(ascending):
            start = int(ascending[begin])
            end = int(np.searchsorted(ascending, (start // size + 1) * size))
            rows = self._units.rows("gather", self.key, head, start, int(ascending[end - 1]) + 1)
            # "clip" writes straight to `out`; all positions are inside.
            np.take(rows, ascending[begin:end] - start, axis=0, out=out[begin:end], mode="clip")
            begin = end

    def _positions(self, indices: Any) -> Values:
        given = np.asarray(indices)
        if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
            raise DTypeError(
                f"gather: indices are integers in one dimension, not {given.dtype.name}{list(given.shape)}"
            )
        if given.size and (int(given.min()) < -self._length or int(given.max()) >= self._length):
            worst = given.max() if int(given.max()) >= self._length else given.min()
            raise IndexOutOfRangeError(f"gather: index {worst} into {self._length} rows")
        positions = given.astype(np.int64)
        return np.where(positions < 0, positions + self._length, positions)

    def _check_range(self, head: int, start: int, stop: int) -> None:
        if not 0 <= head < self.shape[0]:
            raise IndexOutOfRangeError(f"read: head {head} of {self.shape[0]}")
        if not 0 <= start <= stop <= self._length:
            raise IndexOutOfRangeError(f"read: rows {start} to {stop} of {self._length}")

    def _check_there(self, operation: str, rows: int) -> None:
        """Raise StoreError unless the store is the same and has that many of the snapshot's rows still."""
        files, (document, record) = self._units.files, self._seen
        now = read_document(files, operation)
        if now != document:  # parsed only when it changed
            record = Record.parse(now, operation, files.locate(NAME))
            self._seen = now, record
        if record.identity != self._identity:
            raise StoreError(f"{operation}: {self.path} holds another store than the one that {self.key} came from")
        there = min(record.length, record.still_there(self._length, self._truncations))
        if rows > there:
            raise StoreError(
                f"{operation}: {self.key} were bound with {self._length} rows, and {self.path} was truncated to "
                f"{there} of them since: row {rows - 1} is gone; ask the store again"
            )

    def descriptor(self) -> StoredArrayDescriptor:
        """What opens this snapshot again, with `open`, here or in another process."""
        path, options = self._units.files.describe()
        return StoredArrayDescriptor(path, self.key, self._length, self._identity, self._truncations, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredArray.open, (self.descriptor(),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Values:
        rows = self.read_all()
        if dtype is not None and np.dtype(dtype) != rows.dtype:
            return rows.astype(dtype)
        return rows.copy() if copy else rows
