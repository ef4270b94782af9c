"""Step E: weights added at places of a result, one for every pair of a row and a column.

Where a place lies follows from positions or from tables of indices. Three arrangements are vectors:

* neighbouring rows add to neighbouring places, forwards or backwards: a vector of weights is added to as many places;
* those of the next column lie one further back or ahead, as in a table by distance: then all weights of one
  distance in a square of columns and rows are added up first, for vectors that overlap what has just been written
  would wait for it;
* neighbouring columns add to neighbouring places: squares of weights are transposed.

Everything else is added one by one. Tasks that might add to the same places have results of their own, added up at the
end in their order.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..sweep import Output
from .llvm import Value
from .tile import slope
from .transpose import transpose
from .values import constants

if TYPE_CHECKING:
    from .sweep import SweepWriter


# Columns whose places are asked for while others are computed.
_AHEAD = 8


class _Target(NamedTuple):
    """A result: where the task's part of it begins, and how the last index moves along rows and columns."""

    output: Output
    pointer: Value
    rows: int | None
    columns: int | None


class Places:
    """Writes step E of one sweep. Made when a task begins.

    Args:
        writer: The sweep's.
        chunk: The number of the task's stretch of rows.
    """

    def __init__(self, writer: "SweepWriter", chunk: Value) -> None:
        self.writer, self.f, self.ops = writer, writer.f, writer.operands
        self.lanes = writer.lanes
        numbered = enumerate(writer.sweep.outputs)
        self.targets = [self._target(output, number, chunk) for number, output in numbered if output.of_pairs]

    def _target(self, output: Output, number: int, chunk: Value) -> _Target:
        pointer = self.ops.slot(("out", output.node, "pointer"))
        pointer = self.f.offset(pointer, self.f.mul(chunk, self.ops.slot(("partial", number, "stride"))))
        if not output.places:
            return _Target(output, pointer, None, None)
        sweep, last, others = self.writer.sweep, output.places[-1], output.places[:-1]
        rows, columns = slope(last, sweep.rows), slope(last, sweep.columns)
        if any(sweep.rows in each.axes for each in others):
            rows = None
        if any(sweep.columns in each.axes for each in others):
            columns = None
        return _Target(output, pointer, rows, columns)

    def lay_out(self) -> None:
        """Where each row of the block begins, for results that columns lie side by side in."""
        self.lines: dict[int, Value] = {}
        for target in self.targets:
            if self._is_transposed(target):
                self.lines[id(target.output)] = self._lines_of(target)

    def _is_transposed(self, target: _Target) -> bool:
        return target.rows not in (1, -1) and target.columns in (1, -1) and self.lanes > 1

    def _lines_of(self, target: _Target) -> Value:
        """The address of each row at column 0."""
        f, ops, writer = self.f, self.ops, self.writer
        lines = ops.allocate(2 * writer.block_rows)

        def row(number: Value, _: list[Value]) -> None:
            place = f.min(f.add(ops.row_first, number), f.sub(ops.row_stop, 1))
            f.store(self._address(target, place, f.constant(0, "i64")), f.offset(lines, f.shl(number, 3)))

        f.loop(0, writer.block_rows, 1, [], row)
        return lines

    def _address(self, target: _Target, row: Value, column: Value) -> Value:
        """Where a pair's place is."""
        f, ops, sweep = self.f, self.ops, self.writer.sweep
        at = {**ops.batch, sweep.rows: row, sweep.columns: column}
        pointer, memo = target.pointer, dict[object, Value]()
        for axis, index in enumerate(target.output.places):
            is_last = axis == len(target.output.places) - 1
            stride = f.constant(4, "i64") if is_last else ops.slot(("out", target.output.node, axis))
            place = f.convert(ops.scalar(index, at, memo), "i64")  # type: ignore[arg-type]
            pointer = f.offset(pointer, f.mul(place, stride))
        return pointer

    # --- the step

    def add(self, start: Value, size: Value) -> None:
        """Add the weights of a block of columns."""
        for target in self.targets:
            nothing = self.f.constant(0.0, self.writer.vector)
            if target.rows in (1, -1) and self.lanes > 1:
                nothing = self._side_by_side(target, start, size, nothing)
            elif self._is_transposed(target):
                nothing = self._transposed(target, start, size, nothing)
            else:
                nothing = self._one_by_one(target, start, size, nothing)
            self.writer.doubt(self.f.any_lane(self.f.is_nan(nothing)))

    def _is_alone(self, target: _Target) -> bool:
        """Whether no other pair adds to a place: its weight can be stored, then."""
        sweep, places = self.writer.sweep, target.output.places
        axes = [place.attribute for place in places if place.op == "axis"]
        own = {axis for axis in (*sweep.batch, sweep.rows, sweep.columns) if axis.length != 1}
        return own <= set(axes)

    def _weights(self, target: _Target, column: Value, bytes_: int = 0) -> Value:
        """Where the weights of a column of the block are, some bytes further."""
        total, writer = target.output.of_pairs, self.writer
        assert total is not None
        buffer = writer.weights.buffers[total.group, total.weight]
        return self.f.offset(self.f.offset(buffer, self.f.mul(column, writer.block_rows * 4)), bytes_)

    def _added(self, target: _Target, value: Value, pointer: Value, valid: Value | None, nothing: Value) -> Value:
        """Add a vector at its place; ``nothing``, or NaN in lanes that are not finite."""
        f, scale = self.f, target.output.coefficient
        if scale is not None:
            value = f.mul(value, f.splat(self.ops.number(scale), value.lanes))
        if valid is None:
            value = value if self._is_alone(target) else f.add(f.load(pointer, value.type), value)
            f.store(value, pointer)
        else:
            value = f.add(f.load_masked(pointer, value.type, valid, 0.0), value)
            f.store_masked(value, pointer, valid)
            value = f.select(valid, value, f.constant(0.0, value.type))
        return f.fma(value, f.constant(0.0, value.type), nothing)

    def _side_by_side(self, target: _Target, start: Value, size: Value, nothing: Value) -> Value:
        f, ops, lanes = self.f, self.ops, self.lanes
        rows = f.sub(ops.row_stop, ops.row_first)
        is_full = f.compare("==", rows, self.writer.block_rows)
        whole = f.select(is_full, size, f.constant(0, "i64"))
        step = 1
        several: Callable[[_Target, Value, Value, Sequence[Value | None], Value], Value] = self._neighbours
        if target.columns is not None and target.rows is not None and target.columns == -target.rows:
            step, several = lanes, self._diagonals
            whole = f.and_(whole, -lanes)
        all_valid: list[Value | None] = [None] * self.writer.schedule.vectors
        (nothing,) = f.loop(0, whole, step, [nothing], lambda at, old: [several(target, start, at, all_valid, old[0])])
        valid = [f.first_lanes(f.sub(rows, vector * lanes), lanes) for vector in range(len(all_valid))]
        if target.rows == -1:
            valid = [f.shuffle(each, range(lanes - 1, -1, -1)) for each in valid]
        (nothing,) = f.loop(
            whole, size, 1, [nothing], lambda at, old: [self._neighbours(target, start, at, valid, old[0])]
        )
        return nothing

    def _neighbours(
        self, target: _Target, start: Value, at: Value, valid: Sequence[Value | None], nothing: Value
    ) -> Value:
        """The weights of one column, as they lie side by side."""
        f, lanes = self.f, self.lanes
        origin = self._address(target, self.ops.row_first, f.add(start, at))
        ahead = None
        if self._is_far(target):
            ahead = self._address(target, self.ops.row_first, f.add(f.add(start, at), _AHEAD))
        for vector, mask in enumerate(valid):
            value = f.load(self._weights(target, at, 4 * lanes * vector), self.writer.vector)
            place = 4 * lanes * vector
            if target.rows == -1:
                value, place = f.shuffle(value, range(lanes - 1, -1, -1)), -place - 4 * (lanes - 1)
            if ahead is not None:
                f.prefetch(f.offset(ahead, place), write=True)
            nothing = self._added(target, value, f.offset(origin, place), mask, nothing)
        return nothing

    def _is_far(self, target: _Target) -> bool:
        """Whether the places of the next column are lines of memory away."""
        return any(self.writer.sweep.columns in each.axes for each in target.output.places[:-1])

    def _diagonals(self, target: _Target, start: Value, at: Value, _: Sequence[Value | None], nothing: Value) -> Value:
        """A square of as many columns as there are lanes, its sums along ``row - column`` in vectors."""
        f, lanes, rows = self.f, self.lanes, self.writer.block_rows
        origin = self._address(target, self.ops.row_first, f.add(start, at))
        for first in range(1 - lanes, rows, lanes):
            total = f.constant(0.0, self.writer.vector)
            for column in range(lanes):
                row = first + column  # of the first lane
                inside = [0 <= row + lane < rows for lane in range(lanes)]
                if any(inside):
                    pointer = self._weights(target, f.add(at, column), 4 * row)
                    mask = constants(inside, "i1")
                    total = f.add(total, f.load_masked(pointer, self.writer.vector, mask, 0.0))
            exist = [first + lane < rows for lane in range(lanes)]
            pointer = f.offset(origin, 4 * first)
            if target.rows == -1:
                total, exist = f.shuffle(total, range(lanes - 1, -1, -1)), exist[::-1]
                pointer = f.offset(origin, -4 * (first + lanes - 1))
            nothing = self._added(target, total, pointer, None if all(exist) else constants(exist, "i1"), nothing)
        return nothing

    def _transposed(self, target: _Target, start: Value, size: Value, nothing: Value) -> Value:
        f, lanes = self.f, self.lanes
        whole = f.and_(size, -lanes)

        def square(at: Value, old: list[Value], valid: Value | None = None) -> list[Value]:
            (nothing,) = old
            for vector in range(self.writer.schedule.vectors):
                nothing = self._square(target, start, at, size, vector, valid, nothing)
            return [nothing]

        (nothing,) = f.loop(0, whole, lanes, [nothing], square)
        rest = f.first_lanes(f.sub(size, whole), lanes)
        (nothing,) = f.loop(whole, size, lanes, [nothing], lambda at, old: square(at, old, rest))
        return nothing

    def _square(
        self, target: _Target, start: Value, at: Value, size: Value, vector: int, valid: Value | None, nothing: Value
    ) -> Value:
        """As many columns as there are lanes, for a vector of rows: one row after the other."""
        f, ops, lanes = self.f, self.ops, self.lanes
        last = f.sub(size, 1)
        columns = [f.add(at, number) for number in range(lanes)]
        if valid is not None:
            columns = [f.min(each, last) for each in columns]
        weights = [f.load(self._weights(target, each, 4 * lanes * vector), self.writer.vector) for each in columns]
        ahead = f.shl(f.add(start, at), 2)
        rows = transpose(f, weights)
        if target.columns == -1:
            turned = range(lanes - 1, -1, -1)
            rows = [f.shuffle(each, turned) for each in rows]
            valid = None if valid is None else f.shuffle(valid, turned)
            ahead = f.sub(-4 * (lanes - 1), ahead)
        count = f.sub(ops.row_stop, ops.row_first)
        for lane, value in enumerate(rows):
            number = vector * lanes + lane
            line = f.load(f.offset(self.lines[id(target.output)], 8 * number), "ptr")

            def there(value: Value = value, line: Value = line, before: Value = nothing) -> list[Value]:
                return [self._added(target, value, f.offset(line, ahead), valid, before)]

            exists = f.compare("<", f.constant(number, "i64"), count)
            (nothing,) = f.if_else(exists, there, lambda before=nothing: [before])  # type: ignore[misc]
        return nothing

    def _one_by_one(self, target: _Target, start: Value, size: Value, nothing: Value) -> Value:
        f, ops = self.f, self.ops
        rows = f.sub(ops.row_stop, ops.row_first)

        def pair(at: Value, number: Value, old: Value) -> Value:
            value = f.load(f.offset(self._weights(target, at), f.shl(number, 2)), "float")
            pointer = self._address(target, f.add(ops.row_first, number), f.add(start, at))
            return self._added(target, value, pointer, None, old)

        def column(at: Value, old: list[Value]) -> list[Value]:
            return f.loop(0, rows, 1, old, lambda number, one: [pair(at, number, one[0])])

        (found,) = f.loop(0, size, 1, [f.constant(0.0, "float")], column)
        return f.add(nothing, f.splat(found, self.lanes))
