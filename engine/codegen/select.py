"""A list of the largest tile values of each row, with their columns: kept while the columns stream.

Each row has a bound, the least of the largest so far, and room for some more than its list. What is above the bound is
written behind the others; when the room is full, the largest are found by halving the range of their keys, and the
least of them is the next bound. So nearly all tile values are compared once, many at a time, and left alone.

Keys are the bits of the values as integers of the same order. Columns come in their order, so among equals the first
ones stay. Values of -inf are hidden, and never written: where there is not enough else, their columns fill the list in
the end, in their order.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..sweep import Accumulator, Output
from .llvm import Value
from .values import vector_of

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter
    from .sweep import SweepWriter

# Room behind a list: so much more than its own length, and at least and at most so many places.
_TIMES, _LEAST, _MOST = 3, 64, 512
_SIGN = -(1 << 31)
_BITS = 32


class Selection:
    """Writes one list.

    Args:
        writer: The sweep's.
        accumulator: What it is of.
    """

    def __init__(self, writer: "SweepWriter | FewRowsWriter", accumulator: Accumulator) -> None:
        assert accumulator.small is not None
        self.writer, self.accumulator = writer, accumulator
        self.length = int(accumulator.small.length)
        ops, rows, self.lanes = writer.operands, writer.block_rows, writer.lanes
        room = self.length + max(_LEAST, min(_TIMES * self.length, _MOST))
        self.room = -(-room // self.lanes) * self.lanes
        self.values, self.columns = ops.allocate(self.room * rows), ops.allocate(2 * self.room * rows)
        self.counts, self.bounds = ops.allocate(2 * rows), ops.allocate(rows)
        self.keys = ops.allocate(self.room)
        self.integers = vector_of("i32", self.lanes)

    def begin(self) -> None:
        """Nothing has been seen."""
        f = self.writer.f

        def row(number: Value, _: list[Value]) -> None:
            f.store(f.constant(0, "i64"), f.offset(self.counts, f.shl(number, 3)))
            f.store(f.constant(-math.inf, "float"), f.offset(self.bounds, f.shl(number, 2)))

        f.loop(0, self.writer.block_rows, 1, [], row)

    # --- while the columns stream

    def add(self, buffer: Value, start: Value, size: Value) -> None:
        """Take what is above the bounds, of a block of columns: of each, the values of all rows side by side."""
        writer, f = self.writer, self.writer.f
        all_rows = vector_of("float", writer.block_rows)

        def column(index: Value, _: list[Value]) -> None:
            place = f.offset(buffer, f.mul(index, 4 * writer.block_rows))
            above = f.is_above(f.load(place, all_rows), f.load(self.bounds, all_rows))
            f.when(f.any_lane(above), lambda: self._take(above, place, f.add(start, index)))

        f.loop(0, size, 1, [], column)

    def add_row(self, row: Value, buffer: Value, start: Value, size: Value) -> None:
        """Take what is above a row's bound, of a block of columns whose values lie side by side."""
        writer, f = self.writer, self.writer.f

        def some(index: Value, _: list[Value]) -> None:
            place = f.offset(buffer, f.shl(index, 2))
            bound = f.load_splat(f.offset(self.bounds, f.shl(row, 2)), "float", self.lanes)
            above = f.is_above(f.load(place, writer.vector, aligned=True), bound)
            first = f.add(start, index)

            def take(lane: Value) -> None:
                self._append(row, f.load(f.offset(place, f.shl(lane, 2)), "float"), f.add(first, lane))

            f.when(f.any_lane(above), lambda: self._each_lane(above, take))

        f.loop(0, size, self.lanes, [], some)

    def _take(self, above: Value, place: Value, column: Value) -> None:
        """Write the values of a column that are above their rows' bounds."""
        f = self.writer.f
        self._each_lane(above, lambda row: self._append(row, f.load(f.offset(place, f.shl(row, 2)), "float"), column))

    def _each_lane(self, mask: Value, body: Callable[[Value], None]) -> None:
        f = self.writer.f

        def test(carried: list[Value]) -> tuple[Value, list[Value]]:
            return f.compare("!=", carried[0], 0), carried

        def one(carried: list[Value]) -> list[Value]:
            (bits,) = carried
            body(f.intrinsic("llvm.cttz.i64", "i64", [bits, f.constant(1, "i1")]))
            return [f.and_(bits, f.sub(bits, 1))]

        f.repeat([f.convert(f.lane_bits(mask), "i64", unsigned=True)], test, one)

    def _append(self, row: Value, value: Value, column: Value) -> None:
        f = self.writer.f
        self.writer.doubt(f.is_nan(value))
        counter = f.offset(self.counts, f.shl(row, 3))
        count = f.load(counter, "i64")
        f.store(value, f.offset(self._values(row), f.shl(count, 2)))
        f.store(column, f.offset(self._columns(row), f.shl(count, 3)))
        after = f.add(count, 1)
        f.store(after, counter)
        f.when(f.compare("==", after, self.room), lambda: self._keep_largest(row, after))

    def _values(self, row: Value) -> Value:
        return self.writer.f.offset(self.values, self.writer.f.mul(row, 4 * self.room))

    def _columns(self, row: Value) -> Value:
        return self.writer.f.offset(self.columns, self.writer.f.mul(row, 8 * self.room))

    # --- the largest of a row

    def _keep_largest(self, row: Value, count: Value) -> None:
        """Leave as many as the list is long, in their order; the least of them is the bound."""
        f = self.writer.f
        self._write_keys(row, count)
        least = self._least_key(count)
        spare = f.sub(self.length, self._counted(">", least, count))
        values, columns = self._values(row), self._columns(row)

        def one(index: Value, carried: list[Value]) -> list[Value]:
            kept, spare = carried
            key = f.load(f.offset(self.keys, f.shl(index, 2)), "i32")
            ties = f.and_(f.compare("==", key, least), f.compare(">", spare, 0))
            stays = f.or_(f.compare(">", key, least), ties)
            for pointer, type_, shift in ((values, "float", 2), (columns, "i64", 3)):
                f.store(f.load(f.offset(pointer, f.shl(index, shift)), type_), f.offset(pointer, f.shl(kept, shift)))
            return [f.add(kept, f.convert(stays, "i64")), f.sub(spare, f.convert(ties, "i64"))]

        f.loop(0, count, 1, [f.constant(0, "i64"), spare], one)
        f.store(f.constant(self.length, "i64"), f.offset(self.counts, f.shl(row, 3)))
        f.store(f.from_bits(self._folded(least), "float"), f.offset(self.bounds, f.shl(row, 2)))

    def _folded(self, bits: Value) -> Value:
        """Bits of floats as integers of their order; and back."""
        f = self.writer.f
        return f.xor(bits, f.and_(f.ashr(bits, _BITS - 1), (1 << (_BITS - 1)) - 1))

    def _write_keys(self, row: Value, count: Value) -> None:
        """The keys of a row's values; the least one behind them."""
        f, values = self.writer.f, self._values(row)

        def some(at: Value, _: list[Value]) -> None:
            bits = f.bits(f.load(f.offset(values, f.shl(at, 2)), self.writer.vector))
            bits = f.select(f.compare("==", bits, _SIGN), f.constant(0, bits.type), bits)  # -0 is 0
            is_there = f.first_lanes(f.sub(count, at), self.lanes)
            key = f.select(is_there, self._folded(bits), f.constant(_SIGN, bits.type))
            f.store(key, f.offset(self.keys, f.shl(at, 2)), aligned=True)

        f.loop(0, count, self.lanes, [], some)

    def _least_key(self, count: Value) -> Value:
        """The largest key that as many keys reach as the list is long: bit by bit, as if keys had no sign."""
        f = self.writer.f

        def bit(index: Value, carried: list[Value]) -> list[Value]:
            number = f.convert(f.sub(_BITS - 1, index), "i32")
            more = f.or_(carried[0], f.shl(f.constant(1, "i32"), number))
            reached = self._counted(">=", f.xor(more, _SIGN), count)
            return [f.select(f.compare(">=", reached, self.length), more, carried[0])]

        (found,) = f.loop(0, _BITS, 1, [f.constant(0, "i32")], bit)
        return f.xor(found, _SIGN)

    def _splat(self, key: Value) -> Value:
        return self.writer.f.splat(key, self.lanes)

    def _counted(self, relation: str, key: Value, count: Value) -> Value:
        """How many keys have a relation to one."""
        f, one = self.writer.f, self._splat(key)

        def some(at: Value, carried: list[Value]) -> list[Value]:
            keys = f.load(f.offset(self.keys, f.shl(at, 2)), self.integers, aligned=True)
            return [f.add(carried[0], f.convert(f.compare(relation, keys, one), "i32"))]

        (found,) = f.loop(0, count, self.lanes, [f.constant(0, self.integers)], some)
        return f.convert(f.reduce(f.add, found), "i64")

    # --- when the columns have ended

    def write(self, output: Output, first: Value, stop: Value) -> None:
        """The columns of each row's list, the largest first."""
        writer, f, ops = self.writer, self.writer.f, self.writer.operands
        pointer = ops.slot(("out", output.node, "pointer"))
        steps = dict(
            zip(output.axes, (ops.slot(("out", output.node, n)) for n in range(len(output.axes))), strict=True)
        )
        assert output.small is not None
        step, row_step = steps[output.small], steps.get(writer.sweep.rows, f.constant(0, "i64"))
        for axis, place in ops.batch.items():
            pointer = f.offset(pointer, f.mul(place, steps[axis]))
        pointer = f.offset(pointer, f.mul(first, row_step))

        def row(number: Value, _: list[Value]) -> None:
            counter = f.offset(self.counts, f.shl(number, 3))
            count = f.load(counter, "i64")
            f.when(f.compare(">", count, self.length), lambda: self._keep_largest(number, count))
            self._write_row(number, f.min(count, self.length), f.offset(pointer, f.mul(number, row_step)), step)

        f.loop(0, f.sub(stop, first), 1, [], row)

    def _write_row(self, row: Value, count: Value, target: Value, step: Value) -> None:
        f, columns = self.writer.f, self._columns(row)
        self._write_keys(row, count)

        def one(index: Value, _: list[Value]) -> None:
            column = f.load(f.offset(columns, f.shl(index, 3)), "i64")
            f.store(column, f.offset(target, f.mul(self._rank(index, count), step)))

        f.loop(0, count, 1, [], one)
        f.when(f.compare("<", count, self.length), lambda: self._fill_up(columns, count, target, step))

    def _rank(self, index: Value, count: Value) -> Value:
        """Before how many others a value stands: larger ones, and equal ones of columns before."""
        f = self.writer.f
        key = self._splat(f.load(f.offset(self.keys, f.shl(index, 2)), "i32"))

        def some(at: Value, carried: list[Value]) -> list[Value]:
            keys = f.load(f.offset(self.keys, f.shl(at, 2)), self.integers, aligned=True)
            ahead = f.and_(f.compare("==", keys, key), f.first_lanes(f.sub(index, at), self.lanes))
            return [f.add(carried[0], f.convert(f.or_(f.compare(">", keys, key), ahead), "i32"))]

        (found,) = f.loop(0, count, self.lanes, [f.constant(0, self.integers)], some)
        return f.convert(f.reduce(f.add, found), "i64")

    def _fill_up(self, columns: Value, count: Value, target: Value, step: Value) -> None:
        """The first columns that are not in the list, behind it: they lie in their order there, as in the row."""
        f = self.writer.f

        def test(carried: list[Value]) -> tuple[Value, list[Value]]:
            return f.compare("<", carried[2], self.length), carried

        def one(carried: list[Value]) -> list[Value]:
            column, listed, filled = carried
            there = f.load(f.offset(columns, f.shl(listed, 3)), "i64")
            is_listed = f.and_(f.compare("<", listed, count), f.compare("==", there, column))
            f.when(f.not_(is_listed), lambda: f.store(column, f.offset(target, f.mul(filled, step))))
            more = f.convert(is_listed, "i64")
            return [f.add(column, 1), f.add(listed, more), f.add(filled, f.sub(1, more))]

        zero = f.constant(0, "i64")
        f.repeat([zero, zero, count], test, one)
