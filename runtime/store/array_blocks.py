"""How sweeps read a stored array: where it lies in mapped files, or decoded chunk by chunk by several threads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.boxes import Box, shape_of
from ...engine.errors import StoreError
from ...engine.types import DType, Shape
from .regions import REGIONS, Region, is_possible, mapped_together
from .regions import Shape as RegionShape
from .units import Units

Values = np.ndarray[Any, Any]
# Raises StoreError unless so many rows are there still: the operation, and how many.
Check = Callable[[str, int], None]


def region_shape(units: Units, key: str) -> RegionShape | None:
    """How the files of an array are mapped side by side; None if they cannot be mapped."""
    size = units.layout.file_bytes(key)
    if not units.mapped or size is None:
        return None
    return RegionShape(units.layout.heads, units.layout.unit, units.layout.width(key), units.layout.stored(key), size)


class _ArrayBlocks:
    """An array (heads, length, width) of a store.

    Args:
        units: The store's files.
        key: Which array.
        length: Its rows.
        element: Its type, of the same size as what is stored.
        check: See `Check`.
    """

    def __init__(self, units: Units, key: str, length: int, element: DType, check: Check) -> None:
        self._units, self._key, self._length = units, key, length
        self._element, self._check = element, check
        self.steps: Shape = (1, self._step, units.layout.width(key))

    @property
    def _step(self) -> int:
        """At multiples of how many rows it is best cut."""
        return 1


class ViewedBlocks(_ArrayBlocks):
    """A mapped array, all of it one view."""

    is_mapped = True

    @staticmethod
    def are_possible(units: Units, key: str, length: int) -> bool:
        """Whether an array can be read so."""
        shape = region_shape(units, key)
        return shape is not None and is_possible(shape, len(units.layout.units(0, length)))

    def read(self, box: Box) -> Values:
        """A view of a part, read-only; its files were looked at just now.

        Raises:
            StoreError: If a file is missing, truncated or damaged, or the store has fewer rows.
        """
        heads, rows, width = box
        self._check("read", rows.stop)
        whole = np.asarray(self._region(range(heads.start, heads.stop), rows.start, rows.stop))
        return whole[heads, rows, width].view(self._element)

    def fetch(self, box: Box) -> None:
        """See that a part is in memory when it is read."""
        heads, rows, _ = box
        try:
            region = self._region(range(heads.start, heads.stop), rows.start, rows.stop)
        except StoreError:  # it will be said when it is read, if it is so still
            return
        region.fetch(range(heads.start, heads.stop), range(rows.start, rows.stop))

    def _region(self, heads: range, start: int, stop: int) -> Region:
        layout, files = self._units.layout, self._units.files
        numbers = layout.units(start, stop) if start < stop else range(0)
        wanted = [(head, unit, files.locate(layout.name(self._key, head, unit))) for head in heads for unit in numbers]
        units, shape = len(layout.units(0, self._length)), region_shape(self._units, self._key)
        assert shape is not None, "asked before"
        try:
            return mapped_together(REGIONS, files.locate(self._key), shape, units, wanted)
        except OSError as error:
            raise self._trouble(wanted, start, stop, error) from error

    def _trouble(self, wanted: Sequence[tuple[int, int, str]], start: int, stop: int, error: OSError) -> StoreError:
        """The error, or what is wrong with the first file that is not as it should be."""
        for head, unit, _ in wanted:
            self._units.check_size("read", self._key, head, unit, self._length)
        place = self._units.layout.place(self._key, wanted[0][0] if wanted else 0, start, stop)
        return StoreError(f"read: {place}: {error.strerror or error}")


class DecodedBlocks(_ArrayBlocks):
    """An array whose chunks are decoded, several at once.

    Attributes:
        is_near: Whether its files lie on this machine.
    """

    @property
    def is_near(self) -> bool:
        return self._units.files.mappable

    @property
    def _step(self) -> int:
        return self._units.layout.unit

    def read(self, box: Box) -> Values:
        """A part, decoded by this thread alone.

        Raises:
            StoreError: If a file is missing or damaged, or the store has fewer rows.
        """
        out = np.empty(shape_of(box), self._element)
        self.read_into(box, out)
        return out

    def pieces(self, box: Box) -> list[Box]:
        """The chunks of each head, in the order of rows."""
        heads, rows, width = box
        return [
            (slice(head, head + 1), slice(start, stop), width)
            for start, stop in self._spans(rows)
            for head in range(heads.start, heads.stop)
        ]

    def read_into(self, box: Box, out: Values) -> None:
        """Decode a part into an array; several threads may at once.

        Raises:
            StoreError: As `read`.
        """
        heads, rows, width = box
        stored = out.view(self._units.layout.stored(self._key))
        try:
            for start, stop in self._spans(rows):
                for head in range(heads.start, heads.stop):
                    part = stored[head - heads.start, start - rows.start : stop - rows.start]
                    self._units.rows_into("read", self._key, head, start, part, width)
        finally:  # rows that are gone may be the reason of an error, which is then the one to be said
            self._check("read", rows.stop)

    def _spans(self, rows: slice) -> list[tuple[int, int]]:
        size = self._units.layout.unit
        units = self._units.layout.units(rows.start, rows.stop)
        return [(max(rows.start, unit * size), min(rows.stop, (unit + 1) * size)) for unit in units]
