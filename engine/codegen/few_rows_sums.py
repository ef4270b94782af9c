"""Accumulators with an axis of their own, of few rows: a row's weights times what the columns bring."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..scalar import Scalar, below
from ..sweep import Accumulator
from .few_rows_addresses import addresses, run_of
from .few_rows_ahead import Ahead
from .few_rows_contract import sum_lanes
from .few_rows_lanes import Lanes, plain_place
from .llvm import Value
from .state import Stage

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter

# Sums that keep a processor busy: each waits for the one before.
_CHAINS = 8
# Columns that are added to sums of their own at most, a power of two: chains that do not wait for each other.
_MOST_SPREAD = 4


class RowSums:
    """All such accumulators of a sweep: ``total[row][e]`` in memory, of zeros at first."""

    def __init__(self, writer: "FewRowsWriter") -> None:
        self.writer = writer
        self.parts = [
            RowSum(writer, each) for each in writer.sweep.accumulators if each.small is not None and not each.selects
        ]
        self.totals = {each.accumulator: each for each in self.parts}

    def add_block(self, start: Value, size: Value) -> None:
        """Step C."""
        for each in self.parts:
            each.add_block(start, size)


class RowSum:
    """One accumulator."""

    def __init__(self, writer: "FewRowsWriter", accumulator: Accumulator) -> None:
        assert accumulator.small is not None
        self.writer, self.accumulator, self.small = writer, accumulator, accumulator.small
        self.column = accumulator.column
        self.loads = [each for each in below([self.column]) if each.op == "load" and self._is_plain(each)]
        self.ahead = Ahead(writer, self.loads, self.small)
        lanes = writer.lanes
        self.chunks = -(-self.small.length // lanes)
        self.width = self.chunks * lanes
        self.registers = writer.module.target.registers // 2
        # Whatever the number of rows, a row's columns are added in one order.
        fitting = max(1, min(_MOST_SPREAD, self.registers // _MOST_SPREAD, _CHAINS // self.chunks))
        self.spread = 1 << (fitting.bit_length() - 1)
        if writer.stage is not Stage.WHOLE:
            self.total = writer.room(writer.held.sums[writer.sweep.accumulators.index(accumulator)])
            return
        self.total = writer.operands.allocate(self.width * writer.block_rows)
        f, zero = writer.f, writer.f.constant(0.0, writer.vector)
        stop = f.mul(writer.rows, 4 * self.width)
        f.loop(0, stop, 4 * lanes, [], lambda at, _: f.store(zero, f.offset(self.total, at), aligned=True))

    def at(self, row: Value, first: Value) -> Value:
        """Where a row's elements from ``first`` on are."""
        f = self.writer.f
        return f.offset(f.offset(self.total, f.mul(row, 4 * self.width)), f.shl(first, 2))

    def add_block(self, start: Value, size: Value) -> None:
        """Rescale what there is, and add what a block of columns brings."""
        f = self.writer.f
        if self._lies_along_columns():
            f.loop(0, self.writer.rows, 1, [], lambda row, _: self._add_sums(start, size, row))
            return
        together = self._rows_together()
        pairs = f.and_(self.writer.rows, -together) if together > 1 else self.writer.rows
        f.loop(0, pairs, together, [], lambda row, _: self._add_rows(start, size, row, together))
        if together > 1:
            f.loop(pairs, self.writer.rows, 1, [], lambda row, _: self._add_rows(start, size, row, 1))

    def _rows_together(self) -> int:
        """Rows at once: so few that a column is read as a whole, in the order of memory, as processors foresee.

        What is computed of what is read, such as numbers from codes, is rather computed once for all rows.
        """
        most = self.writer.sizes.together
        fitting = self.registers // (self.spread * self.chunks)
        return min(most, fitting) if fitting > 1 and self.column.op == "load" else most

    def _weights(self, row: Value) -> Value:
        state = self.writer.state
        return state.at_row(state.weights[self.accumulator.group, self.accumulator.weight], row)

    def _keep(self, row: Value, first: Value, added: Value) -> None:
        f, group = self.writer.f, self.accumulator.group
        pointer = self.at(row, first)
        total = f.load(pointer, self.writer.vector, aligned=True)
        if group is None:
            total = f.add(total, added)
        else:
            total = f.fma(total, f.splat(self.writer.state.scale(group, row), self.writer.lanes), added)
        f.store(total, pointer, aligned=True)

    # --- columns whose elements are neighbours: a broadcast weight times vectors of elements

    def _add_rows(self, start: Value, size: Value, row: Value, count: int) -> None:
        f = self.writer.f
        rows = [f.add(row, number) for number in range(count)]
        chunks = max(1, min(self.chunks, self.registers // (count * self.spread)))
        whole = self.small.length // self.writer.lanes
        lanes = self.writer.lanes
        done = whole // chunks * chunks
        add = functools.partial(self._add_chunks, start, size, rows)
        f.loop(0, done * lanes, chunks * lanes, [], lambda first, _: add(first, chunks, None))
        if done < whole:
            first = f.constant(done * lanes, "i64")
            add(first, whole - done, None)
        if whole < self.chunks:
            valid = f.first_lanes(self.small.length - whole * lanes, lanes)
            add(f.constant(whole * lanes, "i64"), 1, valid)

    def _add_chunks(
        self, start: Value, size: Value, rows: list[Value], first: Value, chunks: int, valid: Value | None
    ) -> None:
        f, lanes = self.writer.f, self.writer.lanes
        weights = [self._weights(row) for row in rows]
        firsts = [f.add(first, number * lanes) for number in range(chunks)]
        spread = self.spread

        def column(
            at: Value, sums: list[Value], pointers: dict[Scalar, Value], ahead: Sequence[Value] = ()
        ) -> list[Value]:
            place = {**self.writer.operands.batch, self.writer.sweep.columns: f.add(start, at)}
            scalars: dict[Scalar, Value] = {}
            values = []
            for number, each in enumerate(firsts):
                self.ahead.ask(list(ahead), each, number)
                lanes = Lanes(self.writer, self.small, each, place, scalars=scalars, pointers=pointers, valid=valid)
                values.append(lanes(self.column))
            factors = [f.load_splat(f.offset(each, f.shl(at, 2)), "float", self.writer.lanes) for each in weights]
            return [f.fma(factors[place // chunks], values[place % chunks], total) for place, total in enumerate(sums)]

        def several(index: Value, sums: list[Value], ask: bool) -> list[Value]:
            at, after = f.add(start, index), list(sums)
            ahead: list[list[Value]] = self.ahead.pointers(at, together) if ask else [[]] * together
            for number, pointers in enumerate(self._pointers(at, together)):
                part = slice(number % spread * width, (number % spread + 1) * width)
                after[part] = column(f.add(index, number), after[part], pointers, ahead[number])
            return after

        width = chunks * len(rows)
        together = max(_MOST_SPREAD, self._together)
        sums = [f.constant(0.0, self.writer.vector)] * (width * spread)
        whole = f.and_(size, -together) if together > 1 else size
        # The first rows ask for all, each time for what is read then: requests come as evenly as they can.
        asks = f.and_(self.ahead.is_needed(chunks == self.chunks), f.compare("==", rows[0], 0))
        sums = f.if_else(
            asks,
            lambda: f.loop(0, whole, together, sums, lambda index, carried: several(index, carried, True)),
            lambda: f.loop(0, whole, together, sums, lambda index, carried: several(index, carried, False)),
        )
        parts = [sums[place : place + width] for place in range(0, len(sums), width)]
        total = functools.reduce(lambda left, right: list(map(f.add, left, right)), parts)
        if together > 1:
            total = f.loop(
                whole, size, 1, total, lambda at, sums: column(at, sums, self._pointers(f.add(start, at), 1)[0])
            )
        for number, row in enumerate(rows):
            for place, each in enumerate(firsts):
                self._keep(row, each, total[number * chunks + place])

    def _pointers(self, column: Value, count: int) -> list[dict[Scalar, Value]]:
        """Where the elements of some columns begin, as far as they have such a place."""
        found: list[dict[Scalar, Value]] = [{} for _ in range(count)]
        for load in self.loads:
            each = addresses(self.writer, load, self.small, column, count)
            for pointers, address in zip(found, each, strict=True):
                pointers[load] = address
        return found

    def _is_plain(self, load: Scalar) -> bool:
        return self.writer.sweep.columns in load.axes and plain_place(load, self.small) is not None

    @property
    def _together(self) -> int:
        """Columns whose places are found at once: those of a run, where there are any."""
        runs = [run_of(load, self.writer.sweep.columns) for load in self.loads]
        return max([1, *(run.within(_MOST_SPREAD) for run in runs if run is not None and run.length)])

    # --- elements whose columns are neighbours: vectors of weights times vectors of columns, added up by a tree

    def _lies_along_columns(self) -> bool:
        load, columns = self.column, self.writer.sweep.columns
        if load.op != "load":
            return False
        place, small = plain_place(load, columns), plain_place(load, self.small)
        units = [each is not None and self.writer.is_unit(load, each) for each in (place, small)]
        return units[0] and not units[1]

    def _add_sums(self, start: Value, size: Value, row: Value) -> None:
        f, lanes = self.writer.f, self.writer.lanes
        f.loop(0, self.width, lanes, [], lambda first, _: self._add_sums_from(start, size, row, first))

    def _add_sums_from(self, start: Value, size: Value, row: Value, first: Value) -> None:
        f, writer, lanes = self.writer.f, self.writer, self.writer.lanes
        weights = self._weights(row)
        smalls = [f.min(f.add(first, number), self.small.length - 1) for number in range(lanes)]

        def columns(index: Value, sums: list[Value], valid: Value | None) -> list[Value]:
            factor = f.load(f.offset(weights, f.shl(index, 2)), writer.vector, aligned=True)
            after = []
            for small, total in zip(smalls, sums, strict=True):
                place = {**writer.operands.batch, self.small: small}
                value = Lanes(writer, writer.sweep.columns, f.add(start, index), place, valid=valid)(self.column)
                after.append(f.fma(factor, value, total))
            return after

        sums = [f.constant(0.0, writer.vector)] * lanes
        whole = f.and_(size, -lanes)
        sums = f.loop(0, whole, lanes, sums, lambda index, carried: columns(index, carried, None))
        sums = f.loop(
            whole,
            size,
            lanes,
            sums,
            lambda index, carried: columns(index, carried, f.first_lanes(f.sub(size, index), lanes)),
        )
        self._keep(row, first, sum_lanes(f, sums))
