"""What columns bring in a narrow type, widened for a block of columns.

Tiles read columns as scalars and broadcast them: each would be converted for itself, again for every block of rows.
Instead a block of columns is taken once, by vectors along the small axis, and left in a buffer ``[column][e]`` of
float32: freed of its zero point, scaled, or whatever makes it what is contracted or summed. No array of float32 is
made.
"""

from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar, below
from .few_rows_lanes import Lanes
from .llvm import Value

if TYPE_CHECKING:
    from .sweep import SweepWriter


def narrow_loads(scalar: Scalar, small: Axis) -> list[Scalar]:
    """Loads of less than 32 bits an element that vary along the small axis."""
    loads = [each for each in below([scalar]) if each.op == "load" and small in each.axes]
    return [each for each in loads if each.dtype.itemsize < 4]


class Brought:
    """The columns of narrow types of one sweep. Made when a task begins.

    Args:
        writer: The sweep's.
        leaves: What columns bring, and along which axis.
    """

    def __init__(self, writer: "SweepWriter", leaves: dict[Scalar, Axis]) -> None:
        self.writer = writer
        self.origin = writer.f.constant(0, "i64")
        self.small = {leaf: small for leaf, small in leaves.items() if self._is_taken(leaf, small)}
        # The last group of columns begins earlier, rather than reach beyond the last column.
        columns = writer.schedule.block + 2 * writer.schedule.columns
        self.buffers = {leaf: writer.operands.allocate(columns * self._width(leaf)) for leaf in self.small}

    def _is_taken(self, leaf: Scalar, small: Axis) -> bool:
        sweep = self.writer.sweep
        if self.writer.lanes == 1 or sweep.columns not in leaf.axes or sweep.rows in leaf.axes:
            return False
        return bool(narrow_loads(leaf, small))

    def _width(self, leaf: Scalar) -> int:
        return self.writer.padded(int(self.small[leaf].length))

    def fill(self, start: Value, size: Value) -> None:
        """Widen a block of columns, and those before it that its last group takes along."""
        if not self.small:
            return
        writer, f = self.writer, self.writer.f
        group = writer.schedule.columns
        self.origin = f.min(start, f.sub(writer.stop_column, group))
        groups = f.unsigned_divide(f.add(size, group - 1), group)
        stop = f.min(f.add(start, f.mul(groups, group)), writer.stop_column)

        def column(place: Value, _: list[Value]) -> None:
            for leaf in self.small:
                self._column(leaf, place)

        f.loop(self.origin, stop, 1, [], column)

    def _column(self, leaf: Scalar, column: Value) -> None:
        writer, f, small = self.writer, self.writer.f, self.small[leaf]
        place = {**writer.operands.batch, writer.sweep.columns: column}
        scalars: dict[Scalar, Value] = {}
        lanes, length, line = writer.lanes, int(small.length), self._line(leaf, column)
        # Neighbouring vectors stand side by side: a row of keys is a few of them.
        for first in range(0, length, lanes):
            valid = None if first + lanes <= length else f.first_lanes(f.constant(length - first, "i64"), lanes)
            at = f.constant(first, "i64")
            value = Lanes(writer, small, at, place, scalars=scalars, valid=valid)(leaf)
            f.store(value, f.offset(line, 4 * first), aligned=True)

    def _line(self, leaf: Scalar, column: Value) -> Value:
        f = self.writer.f
        return f.offset(self.buffers[leaf], f.mul(f.sub(column, self.origin), 4 * self._width(leaf)))

    def line(self, leaf: Scalar, column: Value) -> Value | None:
        """Where the elements of a column of the block lie; None if it is not held here."""
        return self._line(leaf, column) if leaf in self.small else None
