"""What `passes.skip` knows of a sweep's tiles, as code: bounds of the columns, and tests of tiles."""

from typing import NamedTuple

from ..passes.skip import Skip
from ..scalar import Axis, Scalar, below
from .listed_runs import Entry, is_whole, seen, seen_by_row
from .llvm import Value
from .operands import Operands


class Rows(NamedTuple):
    """Rows of a task: where they begin and end, and what of the tests only they matter to."""

    place: dict[Axis, Value]
    known: dict[Scalar, Value]


class Masks:
    """Writes the decisions of one task: a block of rows.

    Args:
        operands: Those of the task, which has begun.
        skip: What is known of tiles.
        block_rows: Rows of a stretch in summaries.
        strip: Columns of a stretch.
        block: Columns of a long stretch; those follow the short ones.
    """

    def __init__(self, operands: Operands, skip: Skip, block_rows: int, strip: int, block: int) -> None:
        self.f, self.operands, self.skip = operands.f, operands, skip
        self.strip, self.block, self.block_rows = strip, block, block_rows
        # The run of columns that is gone through, where lists say which there are.
        self.entry: Entry | None = None
        self._stretch = self.f.unsigned_divide(operands.row_first, self.f.constant(block_rows, "i64"))
        self._rows = self.between(operands.row_first, self.f.sub(operands.row_stop, 1))

    def between(self, first: Value, last: Value) -> Rows:
        """Some rows of the task. What only they matter to is computed once, here."""
        corners, operands = self.skip.corners, self.operands
        place = {
            **operands.batch,
            corners.row_first: first,
            corners.row_last: last,
            corners.row_stretch: self._stretch,
        }
        known: dict[Scalar, Value] = {}
        columns = {corners.column_first, corners.column_last, corners.column_stretch}
        for scalar in below(self.skip.expressions()):
            if not columns & scalar.axes and operands.fixed(scalar) is None:
                operands.scalar(scalar, place, known)
        return Rows(place, known)

    @property
    def roots(self) -> tuple[Scalar, ...]:
        """Conditions that hold everywhere in a full tile."""
        return self.skip.roots

    @property
    def tests(self) -> bool:
        """Whether tiles between the bounds may be empty."""
        return not self.skip.is_bounded and not (self.skip.empty.is_constant and not self.skip.empty.attribute)

    def column_bounds(self, columns: Value) -> tuple[Value, Value]:
        """First and last-but-one column that any row of the task may see."""
        f = self.f
        low, high = f.constant(0, "i64"), columns
        for bound in self.skip.most:
            high = f.min(high, f.max(f.add(self._wide(bound), 1), 0))
        for bound in self.skip.least:
            low = f.max(low, self._wide(bound))
        if self.looks_at_strips:
            low = f.sub(low, f.unsigned_modulo(low, f.constant(self.strip, "i64")))
        return low, high

    @property
    def looks_at_strips(self) -> bool:
        """Whether something is known, or tested, of whole strips: columns then begin where one does."""
        return bool(self.skip.summaries) or self.tests

    def is_full(self, first: Value, last: Value) -> Value:
        """Whether nothing is hidden in some columns, which lie in one strip if there are summaries."""
        full = self._decided(self.skip.full, first, last, f_stretch=self._strip_of(first))
        if self.entry is None:
            return full
        if self.looks_at_strips:  # runs of lists begin anywhere
            full = self.f.and_(full, self.f.compare("==", self._strip_of(first), self._strip_of(last)))
        return self.f.and_(full, is_whole(self.f, self.entry, first, last, self.block_rows))

    def seen(self, column: Value) -> Value:
        """Which rows of the block see a column of the run that is gone through."""
        assert self.entry is not None
        return seen(self.f, self.entry, column, self.block_rows)

    def seen_by_row(self, row: Value, columns: Value) -> Value:
        """Which columns of that run, one a lane, a row of the block sees."""
        assert self.entry is not None
        return seen_by_row(self.f, self.entry, row, columns)

    def is_empty(self, first: Value, last: Value, rows: Rows | None = None) -> Value:
        """Whether a strip of columns adds nothing, to some rows of the task or to all."""
        return self._decided(self.skip.empty, first, last, f_stretch=self._strip_of(first), rows=rows)

    def is_empty_block(self, first: Value, last: Value) -> Value:
        """The same of what lies in one block."""
        f = self.f
        strips = f.unsigned_divide(f.add(self.operands.slot("columns"), self.strip - 1), f.constant(self.strip, "i64"))
        block = f.add(strips, f.unsigned_divide(first, f.constant(self.block, "i64")))
        return self._decided(self.skip.empty, first, last, f_stretch=block)

    def _strip_of(self, column: Value) -> Value:
        return self.f.unsigned_divide(column, self.f.constant(self.strip, "i64"))

    def _decided(
        self, condition: Scalar, first: Value, last: Value, *, f_stretch: Value, rows: Rows | None = None
    ) -> Value:
        corners, rows = self.skip.corners, rows or self._rows
        place = {corners.column_first: first, corners.column_last: last, corners.column_stretch: f_stretch}
        return self.operands.scalar(condition, {**rows.place, **place}, dict(rows.known))

    def _wide(self, scalar: Scalar) -> Value:
        return self.f.convert(self.operands.scalar(scalar, *self._rows), "i64")
