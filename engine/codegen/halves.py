"""Which half of a block's rows sees which columns of a block, where a mask's edge runs through.

Where queries see the keys before them, the last keys of a block's are hidden from the first half of its rows; at the
far edge of a window it is the other half. There products are computed for one half alone: of a triangle of 64 rows that
is half of what would be computed for nothing. Between such columns, which lie at both ends, all rows are computed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .llvm import Value

if TYPE_CHECKING:
    from .masks import Masks, Rows
    from .sweep import SweepWriter


class Side(NamedTuple):
    """Columns of a block that one half of its rows does not see: from the first up to the stop, counted in the block.

    Attributes:
        half: Which half does: 0 for the first rows, 1 for the last.
    """

    first: Value
    stop: Value
    half: Value


class Halves:
    """Writes what finds them. Made when a block of rows begins.

    Args:
        writer: The sweep's.
        masks: What decides.
    """

    def __init__(self, writer: "SweepWriter", masks: "Masks") -> None:
        self.writer, self.masks = writer, masks
        vectors = writer.schedule.vectors
        # What lists leave to rows has a test of its own.
        self.are_told = vectors % 2 == 0 and masks.skip.skips and masks.skip.listed is None
        self.vectors = vectors // 2
        self.rows = self.vectors * writer.lanes
        self._of: list[Rows] = []
        self.sides: tuple[Side, ...] = ()
        if self.are_told:
            f, ops = writer.f, writer.operands
            last = f.sub(ops.row_stop, 1)
            middle = f.min(f.add(ops.row_first, self.rows), last)
            # Of a block that ends before its middle, both are told by rows that there are.
            self._of = [
                masks.between(ops.row_first, f.min(f.add(ops.row_first, self.rows - 1), last)),
                masks.between(middle, last),
            ]

    def find(self, start: Value, size: Value) -> None:
        """Begin a block of columns."""
        f = self.writer.f
        nothing, self.whole, self.sides = f.constant(0, "i64"), (f.constant(0, "i64"), size), ()
        if not self.are_told:
            return
        full = f.constant(0, "i1")
        if not self.masks.skip.summaries:  # which are of strips
            full = self.masks.is_full(start, f.sub(f.add(start, size), 1))
        seen = f.if_else(full, lambda: [nothing, size] * 2, lambda: self._seen(start, size))
        (first, first_stop), (last, last_stop) = seen[:2], seen[2:]
        begin, end = f.max(first, last), f.min(first_stop, last_stop)
        meet = f.compare("<", begin, end)
        self.whole = f.select(meet, begin, nothing), f.select(meet, end, size)
        ahead = Side(f.min(first, last), begin, f.convert(f.compare("<", last, first), "i64", unsigned=True))
        behind = Side(
            end, f.max(first_stop, last_stop), f.convert(f.compare(">", last_stop, first_stop), "i64", unsigned=True)
        )
        self.sides = tuple(
            Side(f.select(meet, each.first, nothing), f.select(meet, each.stop, nothing), each.half)
            for each in (ahead, behind)
        )

    def _seen(self, start: Value, size: Value) -> list[Value]:
        """For each half the first column that it may see, and the one behind the last; of none the size, and 0."""
        f, strip = self.writer.f, self.masks.strip

        def look(at: Value, carried: list[Value]) -> list[Value]:
            stop = f.min(f.add(at, strip), size)
            found: list[Value] = []
            for rows, low, high in zip(self._of, carried[::2], carried[1::2], strict=True):
                empty = self.masks.is_empty(f.add(start, at), f.sub(f.add(start, stop), 1), rows)
                found += [f.select(empty, low, f.min(low, at)), f.select(empty, high, stop)]
            return found

        nothing = f.constant(0, "i64")
        return f.loop(0, size, strip, [size, nothing] * 2, look)

    def each_side(self, body: Callable[[Side], None]) -> None:
        """Do something for the columns of each side, if there are any."""
        f = self.writer.f
        if not self.sides:
            return

        def one(number: Value, _: list[Value]) -> None:
            is_ahead = f.compare("==", number, 0)
            side = Side(*(f.select(is_ahead, *both) for both in zip(*self.sides, strict=True)))
            f.when(f.compare("<", side.first, side.stop), lambda: body(side))

        f.loop(0, 2, 1, [], one)

    def side_of(self, at: Value, count: int) -> tuple[Value, Value]:
        """Whether one half alone sees any of so many columns, and which half."""
        f, (ahead, behind) = self.writer.f, self.sides
        is_behind = f.compare(">=", at, self.whole[1])
        is_side = f.or_(is_behind, f.compare("<=", f.add(at, count), self.whole[0]))
        return is_side, f.select(is_behind, behind.half, ahead.half)

    def rows_of(self, at: Value, count: int) -> tuple[Value, Value]:
        """The rows of the block that may see some of so many columns: from the first up to the stop."""
        f, ops = self.writer.f, self.writer.operands
        rows = f.sub(ops.row_stop, ops.row_first)
        if not self.sides:
            return f.constant(0, "i64"), rows
        is_side, half = self.side_of(at, count)
        is_last = f.compare("==", half, 1)
        middle, nothing = f.constant(self.rows, "i64"), f.constant(0, "i64")
        first = f.select(f.and_(is_side, is_last), middle, nothing)
        stop = f.select(f.and_(is_side, f.not_(is_last)), middle, rows)
        return f.min(first, rows), f.min(stop, rows)
