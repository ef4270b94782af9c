"""Dense tile operands, ``bias[i, j]``: read along their columns, transposed into vectors over rows.

An array that lies in memory row by row, as most do, would be gathered lane by lane. Instead a square of it
is read as vectors over columns, transposed in registers, and left in a buffer ``[column][row]`` of its
block of columns. The rule: of its indices only one varies over columns, by 1 or -1 from one to the next,
and elements are neighbours along that axis. Rows may come in by any index.
"""

from typing import TYPE_CHECKING, NamedTuple

from ..scalar import Scalar, below
from ..types import is_float
from .llvm import Value
from .operands import memory_type
from .tile import slope
from .transpose import transpose
from .values import bytes_of, vector_of

if TYPE_CHECKING:
    from .sweep import SweepWriter


class _Held(NamedTuple):
    """A dense operand: the address of each row at column 0, its block's elements, and their type."""

    rows: Value
    buffer: Value
    element: str
    step: int


class Dense:
    """The dense operands of a sweep, for one block of rows."""

    def __init__(self, writer: "SweepWriter") -> None:
        self.writer = writer
        self.origin = writer.f.constant(0, "i64")
        tile = below([*writer.groups.values(), *writer.factors.values()])
        steps = {each: self._step(each) for each in tile if each.op == "load"}
        self.held = {load: self._prepared(load, step) for load, step in steps.items() if step is not None}

    def _step(self, load: Scalar) -> int | None:
        """How its elements follow each other along the columns, if the rule holds."""
        writer = self.writer
        moving = [axis for axis, index in enumerate(load.args) if writer.sweep.columns in index.axes]
        if writer.lanes == 1 or writer.sweep.rows not in load.axes or len(moving) != 1:
            return None
        step = slope(load.args[moving[0]], writer.sweep.columns)
        return step if step in (1, -1) and writer.is_unit(load, moving[0]) else None

    def _prepared(self, load: Scalar, step: int) -> _Held:
        """Rows' addresses computed, and room for a block with overlaps at both ends."""
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        rows = ops.allocate(2 * writer.block_rows)

        def row(number: Value, _: list[Value]) -> None:
            place = f.min(f.add(ops.row_first, number), f.sub(ops.row_stop, 1))
            at = {**ops.batch, writer.sweep.rows: place, writer.sweep.columns: f.constant(0, "i64")}
            f.store(ops.address(load, at, {}), f.offset(rows, f.shl(number, 3)))

        f.loop(0, writer.block_rows, 1, [], row)
        # As tiles have it, but a mask as numbers.
        element = "float" if is_float(load.dtype) else writer.integer
        in_words = bytes_of(element) // 4
        ahead, behind = writer.lanes, writer.lanes + writer.schedule.columns
        columns = ahead + writer.schedule.block + behind
        whole = ops.allocate(columns * writer.block_rows * in_words)
        return _Held(rows, f.offset(whole, ahead * writer.block_rows * bytes_of(element)), element, step)

    def fill(self, start: Value, size: Value) -> None:
        """Read a block of columns. The last square begins earlier, rather than reach beyond the last column."""
        if not self.held:
            return
        writer, f = self.writer, self.writer.f
        group, lanes = writer.schedule.columns, writer.lanes
        self.origin = f.min(start, f.sub(writer.stop_column, group))
        groups = f.unsigned_divide(f.add(size, group - 1), group)
        stop = f.min(f.add(start, f.mul(groups, group)), writer.stop_column)
        last = f.sub(writer.stop_column, lanes)

        def square(column: Value, _: list[Value]) -> None:
            for load in self.held:
                for vector in range(writer.schedule.vectors):
                    self._square(load, f.min(column, last), vector)

        f.loop(self.origin, stop, lanes, [], square)

    def _square(self, load: Scalar, column: Value, vector: int) -> None:
        """As many columns as a vector has lanes, for a vector of rows."""
        writer, f = self.writer, self.writer.f
        held, lanes = self.held[load], self.writer.lanes
        itemsize = load.dtype.itemsize
        ahead = f.mul(column, itemsize)
        if held.step < 0:
            ahead = f.sub(-(lanes - 1) * itemsize, ahead)
        type_ = vector_of(memory_type(load), lanes)
        rows = []
        for lane in range(lanes):
            row = f.load(f.offset(held.rows, (vector * lanes + lane) * 8), "ptr")
            value = f.load(f.offset(row, ahead), type_)
            # The next block of this row: so many rows at once are more than hardware fetches ahead.
            f.prefetch(f.offset(row, f.add(ahead, held.step * writer.schedule.block * itemsize)))
            rows.append(f.convert(value, held.element, unsigned=load.dtype.kind in "bu"))
        columns = transpose(f, rows)
        bytes_ = bytes_of(held.element)
        place = f.offset(held.buffer, f.mul(f.sub(column, self.origin), writer.block_rows * bytes_))
        for number, value in enumerate(columns if held.step > 0 else reversed(columns)):
            f.store(value, f.offset(place, (number * writer.block_rows + vector * lanes) * bytes_))

    def read(self, load: Scalar, column: Value, number: int) -> Value | None:
        """The block's rows at a column of its block, some columns further; None if the operand is not dense."""
        held = self.held.get(load)
        if held is None:
            return None
        writer, f = self.writer, self.writer.f
        bytes_ = writer.block_rows * bytes_of(held.element)
        place = f.offset(held.buffer, f.mul(f.sub(column, self.origin), bytes_))
        value = f.load(f.offset(place, number * bytes_), vector_of(held.element, writer.block_rows))
        return f.compare("!=", value, 0) if load.dtype.kind == "b" else value
