"""Step C: some elements of an accumulator at a time, ``total * rescaling + sum of column * weight``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar
from ..sweep import Accumulator
from .llvm import Value
from .tile import plain_axis
from .wide import split

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
        f, length, width = self.writer.f, self.small.length, self.writer.schedule.width
        whole = length // width * width
        f.loop(0, whole, width, [], lambda first, _: self._some(first, width))
        if whole < length:
            self._some(f.constant(whole, "i64"), length - whole)

    def _some(self, first: Value, width: int) -> None:
        writer, f = self.writer, self.writer.f
        buffer = writer.weights.buffers[self.key]

        def column(index: Value, carried: list[Value]) -> list[Value]:
            at = f.offset(buffer, f.mul(index, writer.block_rows * 4))
            return self._added(index, first, width, f.load(at, writer.block_vector), carried)

        zeros = [f.constant(0.0, writer.vector)] * (width * writer.schedule.vectors)
        self.store(first, width, writer.in_steps(self.size, writer.schedule.summed, zeros, column))

    def _added(self, index: Value, first: Value, width: int, weights: Value, totals: list[Value]) -> list[Value]:
        """Some elements of a column, times the weights of a block of rows, added."""
        f, count = self.writer.f, self.writer.schedule.vectors
        vectors = split(f, weights, count)
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
