"""Step D: results of columns, ``sum over rows of weight * what a row brings``, added to memory block by block.

Here vectors run over the small axis. What a block's rows bring is laid out row by row, once for the block; weights are
read as scalars from where the steps before have left them, ``[column][row]``. A task is a stretch of rows, with
results of its own for all columns, so that no two threads add to one place; stretches are added up at the end, in
their order. How many there are follows from the shape alone, and so do the bits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..scalar import Axis, Scalar
from ..sweep import Accumulator, Output
from .column_factors import ColumnFactor
from .column_totals import ColumnTotals, at_place, each_place, start_of
from .llvm import Value
from .pair_body import PairBody
from .pair_sums import PairSums
from .watch import look_at_results

if TYPE_CHECKING:
    from .sweep import SweepWriter

# Rows that are added in one round of a loop.
_TOGETHER = 4

T = TypeVar("T")


class Place(NamedTuple):
    """A result: where the task's part of it begins, and the bytes from one column to the next."""

    output: Output
    total: Accumulator
    width: int
    pointer: Value
    stride: Value


class ColumnSums:
    """Writes step D of one sweep. Made when a task begins, before its first block of rows.

    Args:
        writer: The sweep's.
        batch: The task's place along the batch axes; results may vary over further ones, which it goes through.
        chunk: The number of the task's stretch of rows.
    """

    def __init__(self, writer: "SweepWriter", batch: dict[Axis, Value], chunk: Value) -> None:
        self.writer, self.batch = writer, batch
        self.places = [
            self._place(output, total, number, chunk)
            for number, output in enumerate(writer.sweep.outputs)
            for total in output.totals
            if output.small is not None
        ]
        # Of a result to which several sums are added, it is there once.
        self.firsts = [place for place in self.places if place.total is place.output.total]
        self.totals = ColumnTotals(writer, batch, chunk)
        # Vectors of a result and columns at once: each weight meets several vectors, each vector several weights.
        registers = writer.module.target.registers
        self.vectors, self.columns = (4, 6) if registers >= 32 else (2, 5)
        self.lanes = writer.lanes
        self.brought: dict[tuple[Accumulator, Scalar], Value] = {}
        for place in self.places:
            for leaf in self._leaves(place.total):
                size = self.writer.padded(place.width) * writer.block_rows
                self.brought[place.total, leaf] = writer.operands.allocate(size)
        paired = [place for place in self.places if place.total in writer.sweep.paired]
        self.pairs = {place.total: PairSums(self, place) for place in paired}

    def _place(self, output: Output, total: Accumulator, number: int, chunk: Value) -> Place:
        assert total.small is not None
        return Place(output, total, int(total.small.length), *start_of(self.writer, output, number, chunk))

    def _leaves(self, total: Accumulator) -> tuple[Scalar, ...]:
        """What rows bring to a sum along its small axis."""
        return PairBody(self.writer, total).rows if total in self.writer.sweep.paired else (total.column,)

    def _parts(self, width: int) -> list[tuple[int, int]]:
        """First element, and how many vectors, of what is held in registers at once."""
        vectors = self.writer.padded(width) // self.lanes
        return [(first * self.lanes, min(self.vectors, vectors - first)) for first in range(0, vectors, self.vectors)]

    # --- elements of a result; of its last vector some may lie outside

    def _is_whole(self, place: Place, element: int) -> bool:
        return element + self.lanes <= place.width

    def _mask(self, place: Place, element: int) -> Value:
        return self.writer.f.first_lanes(self.writer.f.constant(place.width - element, "i64"), self.lanes)

    def load(self, place: Place, line: Value, element: int) -> Value:
        """A vector of a line of elements; 0 in lanes behind the last one."""
        f, vector = self.writer.f, self.writer.vector
        pointer = f.offset(line, 4 * element)
        if self._is_whole(place, element):
            return f.load(pointer, vector)
        return f.load_masked(pointer, vector, self._mask(place, element), 0.0)

    def _store(self, place: Place, value: Value, line: Value, element: int) -> None:
        f = self.writer.f
        pointer = f.offset(line, 4 * element)
        if self._is_whole(place, element):
            f.store(value, pointer)
        else:
            f.store_masked(value, pointer, self._mask(place, element))

    # --- the steps

    def begin(self) -> None:
        """Nothing added yet."""
        zero = self.writer.f.constant(0.0, self.writer.vector)

        def clear(place: Place, _: None, line: Value, __: Value) -> None:
            for element in range(0, place.width, self.lanes):
                self._store(place, zero, line, element)

        self._each_line(lambda _: None, clear)
        self.totals.begin()

    def _each_line(self, begin: Callable[[Place], T], body: Callable[[Place, T, Value, Value], None]) -> None:
        """What ``body`` writes for each column of each result, at all places that the task goes through.

        Args:
            begin: Writes what comes before the columns of a result.
            body: Takes the result, what ``begin`` has returned, and a column's line and number.
        """
        f, writer = self.writer.f, self.writer
        for place in self.firsts:

            def columns(pointer: Value, place: Place = place) -> None:
                begun = begin(place)

                def column(index: Value, _: list[Value]) -> None:
                    body(place, begun, f.offset(pointer, f.mul(index, place.stride)), index)

                f.loop(0, writer.columns, 1, [], column)

            each_place(writer, place.output, place.pointer, self.batch, columns)

    def lay_out(self) -> None:
        """What the block's rows bring, row by row, with zeros behind."""
        for (total, leaf), memory in self.brought.items():
            self._lay_out(leaf, total, memory)

    def _lay_out(self, bring: Scalar, total: Accumulator, memory: Value) -> None:
        writer, f, ops = self.writer, self.writer.f, self.writer.operands
        small = total.small
        assert small is not None
        width, padded = int(small.length), writer.padded(int(small.length))
        is_plain = bring.op == "load" and bring.args[-1].op == "axis" and bring.args[-1].attribute is small
        is_plain = is_plain and writer.is_unit(bring, len(bring.args) - 1)
        is_plain = is_plain and all(small not in each.axes for each in bring.args[:-1])

        def row(number: Value, _: list[Value]) -> None:
            at = {**ops.batch, writer.sweep.rows: f.min(f.add(ops.row_first, number), f.sub(ops.row_stop, 1))}
            line = f.offset(memory, f.mul(number, padded * 4))
            zero = f.constant(0.0, writer.vector)
            if not is_plain:
                if padded > width:
                    f.store(zero, f.offset(line, (padded - self.lanes) * 4), aligned=True)

                def one(index: Value, _: list[Value]) -> None:
                    value = ops.scalar(bring, {**at, small: index}, {})
                    f.store(value, f.offset(line, f.shl(index, 2)))

                f.loop(0, width, 1, [], one)
                return
            source = ops.address(bring, at, {}, without=small)
            for element in range(0, width, self.lanes):
                if element + self.lanes <= width:
                    value = f.load(f.offset(source, 4 * element), writer.vector)
                else:
                    mask = f.first_lanes(f.constant(width - element, "i64"), self.lanes)
                    value = f.load_masked(f.offset(source, 4 * element), writer.vector, mask, 0.0)
                f.store(value, f.offset(line, 4 * element), aligned=True)

        f.loop(0, writer.block_rows, 1, [], row)

    def add(self, start: Value, size: Value) -> None:
        """Add what the block's rows bring to a block of columns."""
        for place in self.places:
            for first, vectors in self._parts(place.width):
                self._add(place, start, size, first, vectors)
        self.totals.add(start, size)

    def _add(self, place: Place, start: Value, size: Value, first: int, vectors: int) -> None:
        f = self.writer.f
        together = self.pairs[place.total].columns if place.total in self.pairs else self.columns
        whole = f.mul(f.unsigned_divide(size, f.constant(together, "i64")), together)
        f.loop(0, whole, together, [], lambda at, _: self._some(place, start, at, first, vectors, together))
        f.loop(whole, size, 1, [], lambda at, _: self._some(place, start, at, first, vectors, 1))

    def _some(self, place: Place, start: Value, at: Value, first: int, vectors: int, columns: int) -> None:
        """Some vectors of some columns, over all rows of the block that see any of them."""
        f = self.writer.f
        self._rows = self.writer.halves.rows_of(at, columns)
        if place.total in self.pairs:
            sums = self.pairs[place.total].some(start, at, first, vectors, columns)
        else:
            sums = self._products(place, at, first, vectors, columns)
        pointer = at_place(self.writer, place.output, place.pointer, self.writer.operands.batch)
        for column in range(columns):
            line = f.offset(pointer, f.mul(f.add(f.add(start, at), column), place.stride))
            for n in range(vectors):
                element = first + n * self.lanes
                total = f.add(self.load(place, line, element), sums[column * vectors + n])
                self._store(place, total, line, element)

    def _products(self, place: Place, at: Value, first: int, vectors: int, columns: int) -> list[Value]:
        """What rows bring times their weights, summed."""
        writer, f = self.writer, self.writer.f
        weights = f.offset(
            writer.weights.buffers[place.total.group, place.total.weight], f.mul(at, writer.block_rows * 4)
        )

        def row(number: Value, sums: list[Value]) -> list[Value]:
            values = [
                self.row_vector(place, place.total.column, number, first + n * self.lanes) for n in range(vectors)
            ]
            here = f.offset(weights, f.shl(number, 2))
            found = []
            for column in range(columns):
                weight = f.splat(f.load(f.offset(here, column * writer.block_rows * 4), "float"), self.lanes)
                found += [f.fma(weight, value, sums[column * vectors + n]) for n, value in enumerate(values)]
            return found

        return self.over_rows([f.constant(0.0, writer.vector)] * (columns * vectors), row)

    def row_vector(self, place: Place, leaf: Scalar, number: Value, element: int) -> Value:
        """Some elements of what a row of the block brings."""
        f = self.writer.f
        line = f.offset(self.brought[place.total, leaf], f.mul(number, self.writer.padded(place.width) * 4))
        return f.load(f.offset(line, element * 4), self.writer.vector, aligned=True)

    def over_rows(self, zeros: list[Value], row: Callable[[Value, list[Value]], list[Value]]) -> list[Value]:
        """A sum over rows of the block."""
        f, (first, stop) = self.writer.f, self._rows
        return self.writer.in_steps(f.sub(stop, first), _TOGETHER, zeros, row, first)

    def end(self) -> None:
        """Multiply by what the sums are multiplied by, and look whether all is well."""
        f, writer = self.writer.f, self.writer

        def begin(place: Place) -> tuple[ColumnFactor, Value | None]:
            factor = ColumnFactor(writer, place.output)
            return factor, None if factor.is_fixed else writer.operands.allocate(self.writer.padded(place.width))

        def finish(place: Place, begun: tuple[ColumnFactor, Value | None], line: Value, column: Value) -> None:
            factor, room = begun
            elements = range(0, place.width, self.lanes)
            values = [self.load(place, line, element) for element in elements]
            if factor.factors:
                factors = factor.vectors(column, room, place.width)
                values = [f.mul(value, each) for value, each in zip(values, factors, strict=True)]
            look_at_results(writer, values, lambda: None)
            if factor.factors:
                for element, value in zip(elements, values, strict=True):
                    self._store(place, value, line, element)

        self._each_line(begin, finish)
        self.totals.end()
