"""Results of columns without a small axis, ``sum over rows of weight``: the gradients of a column's bias or factor.

A block adds a column's weights, which lie row by row in a buffer, as vectors and these to one number.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..scalar import Axis
from ..sweep import Accumulator, Output
from .column_factors import ColumnFactor
from .llvm import Value
from .values import vector_of
from .watch import look_at_results
from .wide import split

if TYPE_CHECKING:
    from .sweep import SweepWriter


class Total(NamedTuple):
    """A result: where the task's part of it begins, and the bytes from one column to the next."""

    output: Output
    total: Accumulator
    pointer: Value
    stride: Value


def start_of(writer: "SweepWriter", output: Output, number: int, chunk: Value) -> tuple[Value, Value]:
    """Where a stretch of rows has its part of a result of columns, and the bytes from one column to the next."""
    f, ops = writer.f, writer.operands
    pointer = ops.slot(("out", output.node, "pointer"))
    pointer = f.offset(pointer, f.mul(chunk, ops.slot(("partial", number, "stride"))))
    stride = f.constant(0, "i64")
    for axis, each in enumerate(output.axes):
        if each is writer.sweep.columns:
            stride = ops.slot(("out", output.node, axis))
        elif each in ops.batch:
            pointer = f.offset(pointer, f.mul(ops.batch[each], ops.slot(("out", output.node, axis))))
    return pointer, stride


def at_place(writer: "SweepWriter", output: Output, pointer: Value, batch: dict[Axis, Value]) -> Value:
    """Where a task's part of a result begins at one of the places of the batch that the task goes through."""
    inner = {*writer.sweep.streamed, *writer.sweep.looped}
    for axis, each in enumerate(output.axes):
        if each in inner:
            stride = writer.operands.slot(("out", output.node, axis))
            pointer = writer.f.offset(pointer, writer.f.mul(batch[each], stride))
    return pointer


def each_place(
    writer: "SweepWriter", output: Output, pointer: Value, batch: dict[Axis, Value], body: Callable[[Value], None]
) -> None:
    """Loops over the places of a result that the task goes through; ``body`` is told where each begins."""
    axes = [axis for axis in (*writer.sweep.streamed, *writer.sweep.looped) if axis in output.axes]

    def place(here: dict[Axis, Value], _: list[Value]) -> list[Value]:
        writer.operands.batch = here
        body(at_place(writer, output, pointer, here))
        return []

    writer.along(axes, batch, [], place)


class ColumnTotals:
    """Writes these results for one task.

    Args:
        writer: The sweep's.
        batch: The task's place along the batch axes.
        chunk: The number of the task's stretch of rows.
    """

    def __init__(self, writer: "SweepWriter", batch: dict[Axis, Value], chunk: Value) -> None:
        self.writer, self.batch = writer, batch
        self.places = [
            Total(output, total, *start_of(writer, output, number, chunk))
            for number, output in enumerate(writer.sweep.outputs)
            for total in output.totals
            if output.small is None
        ]
        self.firsts = [place for place in self.places if place.total is place.output.total]

    def begin(self) -> None:
        """Nothing added yet."""
        f = self.writer.f
        for place in self.firsts:

            def clear(pointer: Value, place: Total = place) -> None:
                def column(index: Value, _: list[Value]) -> None:
                    f.store(f.constant(0.0, "float"), f.offset(pointer, f.mul(index, place.stride)))

                f.loop(0, self.writer.columns, 1, [], column)

            each_place(self.writer, place.output, place.pointer, self.batch, clear)

    def add(self, start: Value, size: Value) -> None:
        """Add the weights of the block's rows to a block of columns."""
        writer, f = self.writer, self.writer.f
        block = vector_of("float", writer.block_rows)
        valid = f.first_lanes(f.sub(writer.operands.row_stop, writer.operands.row_first), writer.block_rows)

        def column(index: Value, _: list[Value]) -> None:
            for place in self.places:
                buffer = writer.weights.buffers[place.total.group, place.total.weight]
                weights = f.load(f.offset(buffer, f.mul(index, writer.block_rows * 4)), block)
                parts = split(f, f.select(valid, weights, f.constant(0.0, block)), writer.schedule.vectors)
                while len(parts) > 1:
                    parts = [f.add(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
                pointer = at_place(writer, place.output, place.pointer, writer.operands.batch)
                at = f.offset(pointer, f.mul(f.add(start, index), place.stride))
                f.store(f.add(f.load(at, "float"), f.reduce(f.add, parts[0])), at)

        if self.places:
            f.loop(0, size, 1, [], column)

    def end(self) -> None:
        """Multiply by what the sums are multiplied by, and look whether all is well."""
        f, writer = self.writer.f, self.writer
        for place in self.firsts:

            def finish(pointer: Value, place: Total = place) -> None:
                factor = ColumnFactor(writer, place.output)

                def column(index: Value, _: list[Value]) -> None:
                    at = f.offset(pointer, f.mul(index, place.stride))
                    axes: dict[Axis, Value] = {**writer.operands.batch, writer.sweep.columns: index}
                    value = factor.times(f.load(at, "float"), axes)
                    look_at_results(writer, [value], lambda: None)
                    f.store(value, at)

                f.loop(0, writer.columns, 1, [], column)

            each_place(writer, place.output, place.pointer, self.batch, finish)
