"""What is kept of few rows between the steps of a sweep: tile values, running maxima, plain sums."""

import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..scalar import Scalar
from ..sweep import Accumulator
from .few_rows_lanes import Lanes
from .llvm import Value
from .math import exp_less
from .state import Stage
from .watch import trace
from .weights import is_plain_weight

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter


class RowState:
    """Tile values of a block, running maxima and plain sums, row by row in memory."""

    def __init__(self, writer: "FewRowsWriter") -> None:
        self.writer = writer
        ops, rows, lanes = writer.operands, writer.block_rows, writer.lanes
        self.columns = writer.sizes.block + lanes
        self.groups = list(writer.groups.values())
        accumulators = writer.sweep.accumulators
        self.plain = [each for each in accumulators if each.small is None]
        targets = list(self.groups)
        targets += [writer.factors[each.weight] for each in accumulators if not is_plain_weight(each)]
        self.listed = {writer.factors[each.weight] for each in accumulators if each.selects}
        self.buffers = {each: ops.allocate(self.columns * rows) for each in dict.fromkeys(targets)}
        self.weights: dict[tuple[Scalar | None, Scalar], Value] = {}
        for each in accumulators:
            self._weight_buffer(each)
        self.running = [ops.allocate(lanes * rows) for _ in self.groups]
        begins = writer.stage is Stage.WHOLE
        held = writer.held
        self.maxima = [ops.allocate(rows) if begins else writer.room(field) for field in held.largest]
        self.traces = [ops.allocate(lanes * rows) for _ in range(writer.watch.is_needed)]
        self.scales = [ops.allocate(rows) for _ in self.groups]
        plain = [field for each, field in zip(accumulators, held.sums, strict=True) if each.small is None]
        self.totals = [ops.allocate(lanes * rows) if begins else writer.room(field) for field in plain]
        self.seen = [] if begins else list(map(writer.room, held.seen))
        self._clear()

    def _weight_buffer(self, accumulator: Accumulator) -> None:
        """Where step B leaves the weights: in place, unless two exponents share a factor."""
        writer, key = self.writer, (accumulator.group, accumulator.weight)
        if key in self.weights:
            return
        if accumulator.group is None:
            self.weights[key] = self.buffers[writer.factors[accumulator.weight]]
        else:
            self.weights[key] = writer.operands.allocate(self.columns * writer.block_rows)

    def at_row(self, buffer: Value, row: Value) -> Value:
        """A row's part of a buffer of a block."""
        return self.writer.f.offset(buffer, self.writer.f.mul(row, 4 * self.columns))

    def _vector(self, buffer: Value, row: Value) -> Value:
        return self.writer.f.offset(buffer, self.writer.f.mul(row, 4 * self.writer.lanes))

    def _number(self, buffer: Value, row: Value) -> Value:
        return self.writer.f.offset(buffer, self.writer.f.shl(row, 2))

    def _clear(self) -> None:
        f, zero = self.writer.f, self.writer.f.constant(0.0, self.writer.vector)

        begins = self.writer.stage is Stage.WHOLE

        def clear(row: Value) -> None:
            for each in self.maxima if begins else ():
                f.store(f.constant(-math.inf, "float"), self._number(each, row))
            for each in (*(self.totals if begins else ()), *self.traces):
                f.store(zero, self._vector(each, row), aligned=True)

        self.writer.each_row(clear)

    def start_block(self) -> None:
        """Nothing has been seen of the block."""
        f, least = self.writer.f, self.writer.f.constant(-math.inf, self.writer.vector)

        def start(row: Value) -> None:
            for each in self.running:
                f.store(least, self._vector(each, row), aligned=True)

        self.writer.each_row(start)

    def store(self, row: Value, at: Value, tile: Lanes) -> None:
        """Keep the tile values of some columns: those that do not exist weigh nothing."""
        f = self.writer.f
        for each in self.traces:
            place = self._vector(each, row)
            before = f.load(place, self.writer.vector, aligned=True)
            after = trace(self.writer, self.writer.watch, tile, before)
            after = after if tile.valid is None else f.select(tile.valid, after, before)
            f.store(after, place, aligned=True)
        for target, buffer in self.buffers.items():
            value = tile(target)
            is_group = target in self.groups
            if tile.valid is not None:
                nothing = -math.inf if is_group or target in self.listed else 0.0
                value = f.select(tile.valid, value, f.constant(nothing, value.type))
            f.store(value, f.offset(self.at_row(buffer, row), f.shl(at, 2)), aligned=True)
            if is_group:
                place = self._vector(self.running[self.groups.index(target)], row)
                f.store(f.max(value, f.load(place, self.writer.vector, aligned=True)), place, aligned=True)

    def end_block(self, size: Value) -> None:
        """Step B."""
        self.writer.each_row(lambda row: self._weigh(row, size))

    def _weigh(self, row: Value, size: Value) -> None:
        writer, f = self.writer, self.writer.f
        safe, scales = [], []
        for running, maximum, scale in zip(self.running, self.maxima, self.scales, strict=True):
            before = f.load(self._number(maximum, row), "float")
            after = f.max(f.reduce(f.max, f.load(self._vector(running, row), writer.vector, aligned=True)), before)
            safe.append(f.select(f.compare("==", after, -math.inf), f.constant(0.0, "float"), after))
            scales.append(exp_less(f, before, safe[-1]))
            f.store(after, self._number(maximum, row))
            f.store(scales[-1], self._number(scale, row))
        wide = [f.splat(each, writer.lanes) for each in safe]
        sums = [f.constant(0.0, writer.vector)] * len(self.plain)
        sums = f.loop(0, size, writer.lanes, sums, lambda at, carried: self._weigh_some(row, at, wide, carried))
        for each, place, added in zip(self.plain, self.totals, sums, strict=True):
            pointer = self._vector(place, row)
            total = f.load(pointer, writer.vector, aligned=True)
            if each.group is None:
                total = f.add(total, added)
            else:
                total = f.fma(total, f.splat(scales[self.group_number(each.group)], writer.lanes), added)
            f.store(total, pointer, aligned=True)

    def group_number(self, group: Scalar) -> int:
        """A group's place among all."""
        return list(self.writer.groups).index(group)

    def _weigh_some(self, row: Value, at: Value, maxima: list[Value], sums: list[Value]) -> list[Value]:
        writer, f = self.writer, self.writer.f
        bytes_ = f.shl(at, 2)

        def stored(buffer: Value) -> Value:
            return f.load(f.offset(self.at_row(buffer, row), bytes_), writer.vector, aligned=True)

        values = {target: stored(buffer) for target, buffer in self.buffers.items()}
        exponentials = {
            group: exp_less(f, values[target], largest)
            for (group, target), largest in zip(writer.groups.items(), maxima, strict=True)
        }
        weights: dict[tuple[Scalar | None, Scalar], Value] = {}
        for (group, factor), buffer in self.weights.items():
            target = writer.factors[factor]
            if group is None:
                weights[group, factor] = values[target]
                continue
            value = exponentials[group]
            value = f.mul(value, values[target]) if target in values else value
            f.store(value, f.offset(self.at_row(buffer, row), bytes_), aligned=True)
            weights[group, factor] = value
        return [f.add(total, weights[each.group, each.weight]) for total, each in zip(sums, self.plain, strict=True)]

    def scale(self, group: Scalar, row: Value) -> Value:
        """What the latest block has multiplied a row's accumulators by."""
        return self.writer.f.load(self._number(self.scales[self.group_number(group)], row), "float")

    def largest(self, row: Value) -> dict[Scalar, Value]:
        """The largest exponent of each group in a row, when the columns have ended."""
        f = self.writer.f
        places = zip(self.writer.groups, self.maxima, strict=True)
        return {group: f.load(self._number(place, row), "float") for group, place in places}

    def look(self, row: Value) -> None:
        """Doubt a row of which something was not as it should be, or without any weight although it saw a column."""
        writer, f = self.writer, self.writer.f
        for each in self.traces:
            found = f.load(self._vector(each, row), writer.vector, aligned=True)
            writer.doubt(f.any_lane(f.is_nan(found)))
        for number, (group, largest) in enumerate(self.largest(row).items()):
            is_empty = f.compare("==", largest, -math.inf)
            if writer.stage is Stage.FINISH:
                is_seen = f.compare(">", f.load(self._number(self.seen[number], row), "float"), 0.0)
                writer.doubt(f.and_(is_empty, is_seen))
            else:
                f.when(is_empty, functools.partial(self._look_for_columns, group, row))

    def _look_for_columns(self, group: Scalar, row: Value) -> None:
        writer, f = self.writer, self.writer.f
        conditions = writer.skip.without_lists(writer.watch.visible[group])
        low, high = f.constant(0, "i64"), writer.columns
        if writer.stage is Stage.STREAM:
            low, high = writer.first_column, writer.stop_column

        def columns(first: Value, carried: list[Value]) -> list[Value]:
            valid = f.first_lanes(f.sub(high, first), writer.lanes)
            place, scalars = writer.row_place(row), writer.row_scalars(row)
            tile = Lanes(writer, writer.sweep.columns, first, place, scalars=scalars, valid=valid)
            for each in conditions:
                valid = f.and_(valid, tile(each))
            return [f.or_(carried[0], f.any_lane(valid))]

        seen = f.constant(1, "i1")
        if conditions:
            (seen,) = f.loop(low, high, writer.lanes, [f.constant(0, "i1")], columns)
        if writer.stage is Stage.WHOLE:
            writer.doubt(seen)
            return
        # Another range of columns may have an exponent for this row: then this does not matter.
        place = self._number(self.seen[self.group_number(group)], row)
        f.when(seen, lambda: f.store(f.constant(1.0, "float"), place))

    def results(self, row: Value) -> Iterator[tuple[object, Value]]:
        """Largest exponents and plain sums of a row, when the columns have ended."""
        f = self.writer.f
        yield from self.largest(row).items()
        for each, place in zip(self.plain, self.totals, strict=True):
            yield each, f.reduce(f.add, f.load(self._vector(place, row), self.writer.vector, aligned=True))
