"""Asking for what the next block of rows needs, a little with each group of columns of this one.

A block's rows, and where its results go, are read once, from far away: asked for all at once they would keep the
block waiting for memory, for more requests than a processor keeps; spread over its columns they cost nothing.
"""

from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar, below
from ..sweep import Output
from ..types import is_float
from .llvm import Value
from .state import Stage

if TYPE_CHECKING:
    from .sweep import SweepWriter

_LINE = 64
# Of wider rows a processor's own requests bring the rest.
_MOST_LINES = 16


class RowsAhead:
    """Asks for the rows of the next task, the results' rows of this one, and columns that only the next one sees.

    Args:
        writer: The kernel's, whose task has begun.
        low: The task's first column.
        high: The one behind its last.
    """

    def __init__(self, writer: "SweepWriter", low: Value, high: Value) -> None:
        self.writer, self.low, self.high = writer, low, high
        sweep = writer.sweep
        loads = [each for each in below(writer.expressions()) if each.op == "load" and is_float(each.dtype)]
        plain = [each for each in loads if self._small(each) is not None]
        self.rows = [each for each in plain if sweep.rows in each.axes]
        # Where rows see a few columns each, the next ones see a few new ones.
        moves = writer.skip.is_narrow and bool(writer.skip.least)
        self.columns = [each for each in plain if sweep.columns in each.axes] if moves else []
        outputs = [] if writer.stage is Stage.STREAM else sweep.outputs
        of_rows = [each for each in outputs if each.is_of_rows and each.small is not None]
        self.outputs = [each for each in of_rows if each.axes[-1] is each.small]

    def _small(self, load: Scalar) -> int | None:
        """The bytes that a row or column brings side by side, if it does; None for what is of both or of neither."""
        sweep, ops = self.writer.sweep, self.writer.operands
        if not load.args or load.args[-1].op != "axis" or not self.writer.is_unit(load, len(load.args) - 1):
            return None
        small = load.args[-1].attribute
        if small in (sweep.rows, sweep.columns, *sweep.batch):
            return None
        others = load.axes - {small} - set(ops.batch)
        is_own = others in ({sweep.rows}, {sweep.columns}) and all(small not in each.axes for each in load.args[:-1])
        return int(small.length) * load.dtype.itemsize if is_own else None

    def ask(self, column: Value) -> None:
        """Ask for the part of a group of columns: as many groups as a block has rows ask."""
        f, writer = self.writer.f, self.writer
        if not (self.rows or self.columns or self.outputs):
            return
        group = f.constant(writer.schedule.columns, "i64")
        number = f.unsigned_divide(f.sub(column, self.low), group)
        f.when(f.compare("<", number, writer.block_rows), lambda: self._ask(number))

    def _ask(self, number: Value) -> None:
        f, ops, sweep = self.writer.f, self.writer.operands, self.writer.sweep
        forward = not self.writer.is_backwards
        row = f.add(ops.row_first, number)
        following = f.add(row, self.writer.block_rows if forward else -self.writer.block_rows)
        for load in self.rows:
            self._request(load, f.max(following, 0), sweep.rows)
        for load in self.columns:
            self._request(load, f.add(self.high, number), sweep.columns)
        for output in self.outputs:
            self._request_result(output, f.min(row, f.sub(ops.row_stop, 1)))

    def _request(self, load: Scalar, place: Value, axis: Axis) -> None:
        ops = self.writer.operands
        pointer = ops.address(load, {**ops.batch, axis: place}, {}, without=load.args[-1].attribute)
        self._lines(pointer, self._small(load) or 0, write=False)

    def _request_result(self, output: Output, row: Value) -> None:
        f, ops = self.writer.f, self.writer.operands
        pointer = ops.slot(("out", output.node, "pointer"))
        for axis, each in enumerate(output.axes):
            place = row if each is self.writer.sweep.rows else ops.batch.get(each)
            if place is not None:
                pointer = f.offset(pointer, f.mul(place, ops.slot(("out", output.node, axis))))
        assert output.small is not None
        self._lines(pointer, 4 * output.small.length, write=True)

    def _lines(self, pointer: Value, size: int, *, write: bool) -> None:
        for line in range(min(-(-size // _LINE), _MOST_LINES)):
            self.writer.f.prefetch(self.writer.f.offset(pointer, _LINE * line), write=write)
