"""Step C: some elements of an accumulator at a time, ``total * rescaling + sum of column * weight``."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar
from ..sweep import Accumulator
from .halves import Side
from .llvm import Value
from .tile import plain_axis

if TYPE_CHECKING:
    from .sweep import SweepWriter


class Accumulate:
    """Writes step C for one accumulator and one block of columns.

    Args:
        writer: The sweep's.
        accumulator: One that varies over a small axis.
        start: The block's first column.
        size: How many columns it has.
        rescale: What the totals are multiplied by before, for each vector of rows; None for nothing.
    """

    def __init__(
        self, writer: "SweepWriter", accumulator: Accumulator, start: Value, size: Value, rescale: list[Value] | None
    ) -> None:
        self.writer, self.accumulator = writer, accumulator
        self.key = accumulator.group, accumulator.weight
        self.start, self.size, self.rescale = start, size, rescale
        assert accumulator.small is not None
        self.small = accumulator.small

    def write(self) -> None:
        """All elements, as many at a time as registers hold."""
        self.each(self.writer.schedule.width, self._some)
        self.writer.halves.each_side(self._of_half)

    def each(self, width: int, some: Callable[[Value, int], None]) -> None:
        """All elements, so many at a time: ``some`` writes those from a first one on."""
        f, length = self.writer.f, int(self.small.length)
        whole = length // width * width
        f.loop(0, whole, width, [], lambda first, _: some(first, width))
        if whole < length:
            some(f.constant(whole, "i64"), length - whole)

    def _some(self, first: Value, width: int) -> None:
        writer, f = self.writer, self.writer.f
        buffer = writer.weights.buffers[self.key]

        begin, end = writer.halves.whole

        def column(index: Value, carried: list[Value]) -> list[Value]:
            return self._added(index, first, width, self._weights(buffer, index, writer.schedule.vectors), carried)

        zeros = [f.constant(0.0, writer.vector)] * (width * writer.schedule.vectors)
        self.store(first, width, writer.in_steps(f.sub(end, begin), writer.schedule.summed, zeros, column, begin))

    def _of_half(self, side: Side) -> None:
        """What columns add to one half of the rows that the other does not see."""
        writer, f = self.writer, self.writer.f
        halves = writer.halves
        ahead = f.mul(side.half, halves.rows * 4)
        buffer = f.offset(writer.weights.buffers[self.key], ahead)

        def some(first: Value, width: int) -> None:
            def column(index: Value, carried: list[Value]) -> list[Value]:
                return self._added(index, first, width, self._weights(buffer, index, halves.vectors), carried)

            zeros = [f.constant(0.0, writer.vector)] * (width * halves.vectors)
            count = f.sub(side.stop, side.first)
            sums = writer.in_steps(count, writer.schedule.summed, zeros, column, side.first)
            base = f.offset(f.offset(writer.totals[self.accumulator], f.mul(first, writer.block_rows * 4)), ahead)
            for place, added in enumerate(sums):
                element, vector = divmod(place, halves.vectors)
                pointer = f.offset(base, (element * writer.block_rows + vector * writer.lanes) * 4)
                f.store(f.add(f.load(pointer, writer.vector, aligned=True), added), pointer, aligned=True)

        # Half as many vectors of more elements: no more registers than all rows take.
        self.each(writer.schedule.width * 3 // 2, some)

    def _weights(self, buffer: Value, index: Value, vectors: int) -> list[Value]:
        """Some vectors of a column's weights."""
        f, writer = self.writer.f, self.writer
        at = f.offset(buffer, f.mul(index, writer.block_rows * 4))
        return [f.load(f.offset(at, number * writer.lanes * 4), writer.vector) for number in range(vectors)]

    def _added(
        self, index: Value, first: Value, width: int, vectors: Sequence[Value], totals: list[Value]
    ) -> list[Value]:
        """Some elements of a column, times vectors of its weights, added."""
        f, count = self.writer.f, len(vectors)
        brought = self.column_values(self.accumulator.column, index, first, width)
        values = [f.splat(value, self.writer.lanes) for value in brought]
        return [f.fma(values[place // count], vectors[place % count], total) for place, total in enumerate(totals)]

    def store(self, first: Value, width: int, sums: Sequence[Value]) -> None:
        """Add what a block of columns brings to some elements, rescaled before."""
        writer, f = self.writer, self.writer.f
        base = f.offset(writer.totals[self.accumulator], f.mul(first, writer.block_rows * 4))
        for place, added in enumerate(sums):
            pointer = f.offset(base, place * writer.lanes * 4)
            total = f.load(pointer, writer.vector, aligned=True)
            if self.rescale is None:
                total = f.add(total, added)
            else:
                total = f.fma(total, self.rescale[place % writer.schedule.vectors], added)
            f.store(total, pointer, aligned=True)

    def column_values(self, column: Scalar, index: Value, first: Value, width: int) -> list[Value]:
        """Some elements of what a column of the block brings."""
        f, ops = self.writer.f, self.writer.operands
        place: dict[Axis, Value] = {**ops.batch, self.writer.sweep.columns: f.add(self.start, index)}
        line = self.writer.brought.line(column, place[self.writer.sweep.columns])
        if line is not None:
            line = f.offset(line, f.shl(first, 2))
            return [f.load(f.offset(line, 4 * number), "float") for number in range(width)]
        if plain_axis(self.writer, column, self.small) is not None:
            size = column.dtype.itemsize
            pointer = f.offset(ops.address(column, place, {}, without=self.small), f.mul(first, size))
            return [ops.read(column, f.offset(pointer, size * number)) for number in range(width)]
        return [ops.scalar(column, {**place, self.small: f.add(first, number)}, {}) for number in range(width)]
