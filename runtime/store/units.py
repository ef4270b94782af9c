"""Rows of one file of a store: as they lie in its map, from a range of its bytes, or decoded."""

import threading
from typing import Any

import numpy as np

from ...engine.errors import StoreError
from .codec import ChunkCodec
from .files import Files
from .layout import Layout
from .maps import MAPS, WrongSizeError

Values = np.ndarray[Any, Any]


class Units:
    """Reads what lies in a store's files; knows nothing of what is committed.

    Args:
        files: Where they are.
        layout: How rows lie in them.
    """

    def __init__(self, files: Files, layout: Layout) -> None:
        self.files, self.layout = files, layout
        self._codecs: dict[str, ChunkCodec] = {}
        self._lock = threading.Lock()

    @property
    def mapped(self) -> bool:
        """Whether rows are read from maps."""
        return self.files.mappable and self.layout.codecs is None

    def codec(self, key: str) -> ChunkCodec:
        """What encodes an array's chunks."""
        with self._lock:
            if key not in self._codecs:
                self._codecs[key] = ChunkCodec(self.layout, key)
            return self._codecs[key]

    def rows(self, operation: str, key: str, head: int, start: int, stop: int, *, map_it: bool = True) -> Values:
        """Rows that all lie in one file, elements as they are stored, shape (stop - start, width).

        Args:
            operation: For messages.
            key: Which array.
            head: Which head.
            start: First row, of the whole array.
            stop: Behind the last row.
            map_it: False to copy even where the file could be mapped.

        Raises:
            StoreError: If the file is missing, of a wrong size, or damaged.
        """
        unit = start // self.layout.unit
        name = self.layout.name(key, head, unit)
        first = start - unit * self.layout.unit
        try:
            if self.layout.codecs is not None:
                return self.codec(key).decode(self.files.read(name))[first : first + stop - start]
            if map_it and self.files.mappable:
                return self._mapped(key, name)[first : first + stop - start]
            return self._ranged(key, name, first, first + stop - start)
        except OSError as error:  # said here and not before: a gather asks for many files, and has no time to lose
            place = f"{self.layout.place(key, head, start, stop)}: {self.files.locate(name)}"
            raise StoreError(f"{operation}: {place}: {error.strerror or error}") from error

    def rows_into(self, operation: str, key: str, head: int, start: int, out: Values, width: slice) -> None:
        """Copy rows that all lie in one file, from ``start`` on, some elements of each, into an array of their shape.

        Raises:
            StoreError: As `rows`.
        """
        layout, unit = self.layout, start // self.layout.unit
        is_whole = start == unit * layout.unit and out.shape == (layout.unit, layout.width(key))
        if layout.codecs is None or not is_whole or not out.flags.c_contiguous:
            out[...] = self.rows(operation, key, head, start, start + len(out), map_it=False)[:, width]
            return
        name = layout.name(key, head, unit)
        try:
            with self.files.contents(name, layout.name(key, head, unit + 1)) as contents:
                self.codec(key).decode_into(contents, out)
        except OSError as error:
            place = f"{layout.place(key, head, start, start + len(out))}: {self.files.locate(name)}"
            raise StoreError(f"{operation}: {place}: {error.strerror or error}") from error

    def _mapped(self, key: str, name: str) -> Values:
        size = self.layout.file_bytes(key)
        assert size is not None, "rows as they are have files of one size"
        contents = MAPS.contents(self.files.locate(name), size)
        rows = contents[: self.layout.unit_bytes(key)].view(self.layout.stored(key))
        return rows.reshape(self.layout.unit, self.layout.width(key))

    def _ranged(self, key: str, name: str, first: int, last: int) -> Values:
        row = self.layout.row_bytes(key)
        contents = self.files.read(name, first * row, last * row)
        if len(contents) != (last - first) * row:
            missing = (last - first) * row - len(contents)
            raise WrongSizeError(f"it ends {missing} bytes too early: it was truncated")
        return np.frombuffer(contents, self.layout.stored(key)).reshape(last - first, self.layout.width(key))

    def check_size(self, operation: str, key: str, head: int, unit: int, length: int) -> None:
        """Raise StoreError where a file is missing or has another size than it should have."""
        start = unit * self.layout.unit
        name = self.layout.name(key, head, unit)
        found, expected = self.files.size(name), self.layout.file_bytes(key)
        if found is not None and (expected is None or found == expected):
            return
        place = self.layout.place(key, head, start, min(length, start + self.layout.unit))
        state = "is missing" if found is None else f"has {found} bytes, and should have {expected}"
        raise StoreError(f"{operation}: {place}: {self.files.locate(name)} {state}")
