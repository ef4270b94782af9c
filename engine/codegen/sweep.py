"""A sweep as a kernel: a block of rows against blocks of columns, in four steps.

Vectors run over rows; columns are read as scalars and broadcast, so nothing is packed but a block of
rows, strides may be anything, and softmax needs no horizontal step. For a block of rows and each block of
columns:

A. some columns at a time: contract, compute the tile values, store them, keep the running maxima (``fill``);
B. per column: weights ``exp2(stored - maximum)``, and plain sums (``weights``);
C. some outputs at a time: ``accumulator * rescaling + sum of column * weight`` (``accumulate``);
D. some results of columns at a time: ``+= sum of row * weight`` (``column_sums``).

When the columns have ended, outputs are computed from rows and accumulators, and transposed back.
Exponents are kept to base 2, with log2(e) multiplied into what they are made of.
"""

import functools
import math
from collections.abc import Callable, Sequence

from ..scalar import Scalar
from ..sweep import Accumulator
from .accumulate import Accumulate
from .column_sums import ColumnSums
from .dense import Dense
from .fill import Fill
from .llvm import Value
from .masks import Masks
from .math import exp2_nonpositive
from .outputs import Outputs
from .pair_body import PairAccumulate, PairBody, together
from .rows_ahead import RowsAhead
from .runs import Runs
from .schedule import Schedule, schedule_for
from .tile import TileValues
from .values import vector_of
from .weights import Weights, is_plain_weight
from .wide import split
from .writer import Parts, Writer

__all__ = ["Schedule", "SweepWriter", "schedule_for"]

LN2 = math.log(2)


class SweepWriter(Writer):
    """Writes the kernel of one sweep in tiles: vectors run over rows."""

    def __init__(self, parts: Parts, schedule: Schedule) -> None:
        super().__init__(parts, schedule.vectors, schedule.vectors * parts.target.lanes("float32"))
        self.schedule = schedule
        self.block_vector = vector_of("float", self.block_rows)

    def _stretch_of_rows(self, chunk: Value, first: Value, stop: Value, blocks: Callable[[], object]) -> None:
        self.column_sums = ColumnSums(self, chunk)
        self.column_sums.begin()
        blocks()
        self.column_sums.end()

    def _block_of_rows(self, first: Value, stop: Value) -> None:
        self.operands.prepare_rows(self._row_values(self.expressions()))
        self.fill = Fill(self)
        self.fill.pack()
        for each in together(self.sweep):
            PairBody(self, *each).pack()
        if self.sweep.totals_of_columns:
            self.column_sums.lay_out()
        self.dense = Dense(self)
        self._sweep(first, stop)
        for output in self.sweep.outputs:
            if output.total is None:
                Outputs(self).write(output, first, stop)

    # --- the sweep

    def _sweep(self, first: Value, stop: Value) -> None:
        f, ops, schedule = self.f, self.operands, self.schedule
        of_rows = [each for each in self.sweep.accumulators if not each.of_columns]
        sums = [each for each in of_rows if each.small is None]
        wide = [each for each in of_rows if each.small is not None]
        self._allocate(wide)
        zero, least = f.constant(0.0, self.block_vector), f.constant(-math.inf, self.block_vector)
        state = [*[least] * len(self.groups), *[zero] * self.watch.is_needed, *[zero] * len(sums)]
        masks = Masks(ops, self.skip, self.block_rows, schedule.strip, schedule.block)
        low, high = masks.column_bounds(self.columns)
        self.ahead = RowsAhead(self, low, high)

        def block(start: Value, stop: Value, carried: list[Value]) -> list[Value]:
            return self._block(start, f.sub(stop, start), carried, sums, wide, masks)

        if masks.tests:
            state = Runs(f, masks).each(low, high, state, block)
        else:
            step = schedule.block
            state = f.loop(low, high, step, state, lambda at, old: block(at, f.min(f.add(at, step), high), old))
        self._keep(state, sums)
        self._look_at_rows(masks, low, high)

    def _allocate(self, wide: list[Accumulator]) -> None:
        """Buffers of tile values, with room in front for the overlap of ragged columns; accumulators of 0."""
        f, ops = self.f, self.operands
        room = self.schedule.columns
        self.buffers: dict[Scalar, Value] = {}
        targets = list(self.groups.values())
        targets += [self.factors[each.weight] for each in self.sweep.accumulators if not is_plain_weight(each)]
        for target in dict.fromkeys(targets):
            whole = ops.allocate((self.schedule.block + 2 * room) * self.block_rows)
            self.buffers[target] = f.offset(whole, room * self.block_rows * 4)
        self.weights = Weights(self)
        self.totals: dict[Accumulator, Value] = {}
        zero = f.constant(0.0, self.vector)
        for each in wide:
            assert each.small is not None
            size = each.small.length * self.block_rows
            place = self.totals[each] = ops.allocate(size)
            self._clear(place, size, zero)

    def _clear(self, place: Value, elements: int, value: Value) -> None:
        f = self.f
        f.loop(0, elements * 4, 4 * self.lanes, [], lambda at, _: f.store(value, f.offset(place, at), aligned=True))

    def _block(
        self,
        start: Value,
        size: Value,
        carried: Sequence[Value],
        sums: list[Accumulator],
        wide: list[Accumulator],
        masks: Masks,
    ) -> list[Value]:
        f = self.f
        count = len(self.groups) + self.watch.is_needed
        before, totals = list(carried[:count]), list(carried[count:])
        self.dense.fill(start, size)

        def group(column: Value, running: list[Value]) -> list[Value]:
            return self.fill.group(column, start, running, masks)

        running = f.loop(start, f.add(start, size), self.schedule.columns, before, group)
        before, maxima = before[: len(self.groups)], running[: len(self.groups)]
        safe = [f.select(f.compare("==", m, -math.inf), f.constant(0.0, m.type), m) for m in maxima]
        rescale = [exp2_nonpositive(f, f.sub(old, new)) for old, new in zip(before, safe, strict=True)]
        scales = dict(zip(self.groups, rescale, strict=True))
        self.weights.start(dict(zip(self.groups, safe, strict=True)))
        added = self._weigh_and_accumulate(start, size, sums, wide, scales)
        for place, each in enumerate(sums):
            more = added[each]
            kept = totals[place]
            totals[place] = f.add(kept, more) if each.group is None else f.fma(kept, scales[each.group], more)
        return [*running, *totals]

    def _weigh_and_accumulate(
        self,
        start: Value,
        size: Value,
        sums: list[Accumulator],
        wide: list[Accumulator],
        scales: dict[Scalar, Value],
    ) -> dict[Accumulator, Value]:
        """Steps B and C; what the block adds to each plain sum."""
        added: dict[Accumulator, Value] = {}
        for group in dict.fromkeys(each.group for each in self.sweep.accumulators):
            plain = [each for each in sums if each.group is group]
            if plain or group is not None:
                added.update(zip(plain, self.weights.write(group, size, plain), strict=True))

        def rescaled(group: Scalar | None) -> list[Value] | None:
            return None if group is None else split(self.f, scales[group], self.schedule.vectors)

        for each in wide:
            if each not in self.sweep.paired:
                Accumulate(self, each, start, size, rescaled(each.group)).write()
        for several in together(self.sweep):
            PairAccumulate(self, several, start, size, rescaled(several[0].group)).write()
        if self.sweep.totals_of_columns:
            self.column_sums.add(start, size)
        return added

    def in_steps(
        self,
        length: Value,
        step: int,
        carried: list[Value],
        body: Callable[[Value, list[Value]], list[Value]],
    ) -> list[Value]:
        """A loop over ``range(length)``, ``step`` rounds (a power of two) written out, the rest one by one."""
        f = self.f

        def several(index: Value, values: list[Value]) -> list[Value]:
            for number in range(step):
                values = body(f.add(index, number), values)
            return values

        if length.constant is not None:
            whole: Value = f.constant(int(length.constant) // step * step, "i64")
        else:
            whole = f.and_(length, -step)
        carried = f.loop(0, whole, step, carried, several)
        return carried if step == 1 else f.loop(whole, length, 1, carried, body)

    # --- when the columns have ended

    def _keep(self, state: list[Value], sums: list[Accumulator]) -> None:
        """The running maxima and sums, kept in memory for the outputs."""
        f, ops = self.f, self.operands
        self.kept: dict[tuple[object, int], Value] = {}
        maxima, totals = state[: len(self.groups)], state[len(self.groups) + self.watch.is_needed :]
        self.maxima = dict(zip(self.groups, maxima, strict=True))
        for value in state[len(maxima) : len(state) - len(totals)]:
            self.doubt(f.any_lane(f.is_nan(value)))
        names: list[object] = [*self.groups, *sums]
        for name, value in zip(names, [*maxima, *totals], strict=True):
            place = ops.allocate(self.block_rows)
            f.store(f.mul(value, LN2) if name in self.groups else value, place)
            for vector in range(self.schedule.vectors):
                self.kept[name, vector] = f.offset(place, vector * self.lanes * 4)

    def _look_at_rows(self, masks: Masks, low: Value, high: Value) -> None:
        """Doubt rows without any weight to which some column was visible."""
        f = self.f
        for group, largest in self.maxima.items():
            empty = f.compare("==", largest, -math.inf)
            f.when(f.any_lane(empty), functools.partial(self._look_at_empty, group, empty, masks, low, high))

    def _look_at_empty(self, group: Scalar, empty: Value, masks: Masks, low: Value, high: Value) -> None:
        f, conditions = self.f, self.watch.visible[group]

        def run(start: Value, stop: Value, carried: list[Value]) -> list[Value]:
            self.dense.fill(start, f.sub(stop, start))

            def look(column: Value, seen: list[Value]) -> list[Value]:
                return [self._seen(column, conditions, masks, seen[0])]

            return f.loop(start, stop, 1, carried, look)

        seen = f.constant(0.0, self.block_vector)
        if not conditions:
            seen = f.constant(1.0, self.block_vector)
        elif masks.tests:
            (seen,) = Runs(f, masks).each(low, high, [seen], run)
        else:
            step = self.schedule.block
            (seen,) = f.loop(low, high, step, [seen], lambda at, old: run(at, f.min(f.add(at, step), high), old))
        self.doubt(f.any_lane(f.and_(empty, f.compare(">", seen, 0.0))))

    def _seen(self, column: Value, conditions: Sequence[Scalar], masks: Masks, seen: Value) -> Value:
        """1 for rows to which this column, or one before, is visible."""
        f, tile = self.f, TileValues(self, column, 1, masks, False)
        shows = f.constant(1, vector_of("i1", self.block_rows))
        for each in conditions:
            shows = f.and_(shows, tile.value(each, 0))
        return f.select(shows, f.constant(1.0, seen.type), seen)
