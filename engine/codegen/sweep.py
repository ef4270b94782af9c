"""A sweep as a kernel: a block of rows against blocks of columns, in steps.

Vectors run over rows; columns are read as scalars and broadcast, so nothing is packed but a block of
rows, strides may be anything, and softmax needs no horizontal step. For a block of rows and each block of
columns:

A. some columns at a time: contract, compute the tile values, store them, keep the running maxima (``fill``);
B. per column: weights ``exp(stored - maximum)``, and plain sums (``weights``);
C. some outputs at a time: ``accumulator * rescaling + sum of column * weight`` (``accumulate``);
D. some results of columns at a time: ``+= sum of row * weight`` (``column_sums``), or lists of the largest tile values
   (``select``);
E. what every pair of a row and a column adds at a place of its own (``places``).

When the columns have ended, outputs are computed from rows and accumulators, and transposed back.
Exponents are natural, as they were written: a backward pass has the same to the last bit, which with log2(e) multiplied
into rows here and columns there it would not.
"""

import functools
import math
from collections.abc import Callable, Sequence

from ..scalar import Axis, Scalar
from ..sweep import Accumulator
from .accumulate import Accumulate
from .brought import Brought
from .column_sums import ColumnSums
from .dense import Dense
from .fill import Fill
from .halves import Halves
from .listed_runs import ListedRuns, in_pieces
from .llvm import Value
from .masks import Masks
from .math import exp_less
from .outputs import Outputs
from .pair_body import PairAccumulate, PairBody, together
from .pair_products import AccumulatePairs, PairProducts
from .places import Places
from .rows_ahead import RowsAhead
from .runs import Run, Runs
from .schedule import Schedule, schedule_for
from .select import Selection
from .state import Stage, state_layout
from .tile import TileValues
from .values import vector_of
from .weights import Weights, is_plain_weight
from .wide import split
from .writer import Parts, Writer

__all__ = ["Schedule", "SweepWriter", "schedule_for"]


def is_of_rows(accumulator: Accumulator) -> bool:
    """Whether it is a sum over columns, for each row of a block."""
    return not accumulator.of_columns and not accumulator.of_pairs and not accumulator.selects


class SweepWriter(Writer):
    """Writes the kernel of one sweep in tiles: vectors run over rows."""

    def __init__(self, parts: Parts, schedule: Schedule) -> None:
        lanes = parts.target.lanes("float32")
        super().__init__(parts, schedule.vectors, schedule.vectors * lanes, state_layout(parts.sweep, schedule, lanes))
        self.schedule = schedule
        self.selections: list[Selection] = []  # of a sweep that selects, when it has begun
        self.block_vector = vector_of("float", self.block_rows)

    def _stretch_of_rows(self, batch: dict[Axis, Value], chunk: Value) -> None:
        f, ops = self.f, self.operands
        first = f.mul(chunk, ops.slot("chunk"))
        stop = f.min(f.add(first, ops.slot("chunk")), ops.slot("rows"))
        ops.batch = batch
        self.column_sums, self.places = ColumnSums(self, batch, chunk), Places(self, chunk)
        self.column_sums.begin()

        def block(at: Value, _: list[Value]) -> None:
            end = f.min(f.add(at, self.block_rows), stop)
            self.along(self.sweep.looped, batch, [], lambda place, _: self._block_that_adds(place, at, end))

        f.loop(first, stop, self.block_rows, [], block)
        self.column_sums.end()

    def along(
        self,
        axes: Sequence[Axis],
        place: dict[Axis, Value],
        carried: list[Value],
        body: Callable[[dict[Axis, Value], list[Value]], list[Value]],
    ) -> list[Value]:
        """Loops over batch axes, around what ``body`` writes for each of their places."""
        if not axes:
            return body(place, carried)
        axis, *rest = axes
        length = self.operands.slot(f"batch{self.sweep.batch.index(axis)}")
        return self.f.loop(
            0, length, 1, carried, lambda index, old: self.along(rest, {**place, axis: index}, old, body)
        )

    def _block_that_adds(self, batch: dict[Axis, Value], first: Value, stop: Value) -> list[Value]:
        """A block of rows at a place, all of the places that its results sum over."""
        ops, streamed = self.operands, self.sweep.streamed

        def place(here: dict[Axis, Value], state: list[Value]) -> list[Value]:
            ops.start_task(here, first, stop, self.expressions())
            return self._stream(state)

        self._allocate()
        self._keep(self.along(streamed, batch, self._nothing(), place))
        of_rows = [output.value for output in self.sweep.outputs if output.is_of_rows]
        if streamed:
            ops.start_task(batch, first, stop, of_rows)
            ops.prepare_rows(self._row_values(of_rows))
        self._write(first, stop)
        return []

    def _block_of_rows(self, first: Value, stop: Value) -> None:
        if self.stage is Stage.FINISH:
            self._finish()
        else:
            self._allocate()
            self._keep(self._stream(self._nothing() if self.stage is Stage.WHOLE else self._gone_before()))
            self._look_at_rows()
        if self.stage is not Stage.STREAM:
            self._write(first, stop)

    def _write(self, first: Value, stop: Value) -> None:
        for selection, output in zip(self.selections, self.sweep.outputs, strict=False):
            selection.write(output, first, stop)
        for output in self.sweep.outputs if not self.selections else ():
            if output.is_of_rows:
                Outputs(self).write(output, first, stop)

    # --- the sweep

    def _nothing(self) -> list[Value]:
        """Maxima, what is watched, and plain sums, before the first column."""
        f = self.f
        self.sums = [each for each in self.sweep.accumulators if is_of_rows(each) and each.small is None]
        zero, least = f.constant(0.0, self.block_vector), f.constant(-math.inf, self.block_vector)
        return [*[least] * len(self.groups), *[zero] * self.watch.is_needed, *[zero] * len(self.sums)]

    def _stream(self, state: list[Value]) -> list[Value]:
        """Go through the columns."""
        f, ops, schedule = self.f, self.operands, self.schedule
        ops.prepare_rows(self._row_values(self.expressions()))
        self.fill = Fill(self)
        self.products = PairProducts(self)
        self.fill.pack()
        self.products.pack()
        for each in together(self.sweep):
            PairBody(self, *each).pack()
        if self.sweep.adds_up:
            self.column_sums.lay_out()
            self.places.lay_out()
        self.dense = Dense(self)
        wide = {each.column: each.small for each in self.wide if each.small is not None}
        in_pairs = {each.column for each in self.products.sums}
        wide = {column: small for column, small in wide.items() if column not in in_pairs}
        self.brought = Brought(self, {**self.fill.brought(), **wide})
        masks = self.masks = Masks(ops, self.skip, self.block_rows, schedule.strip, schedule.block)
        self.halves = Halves(self, masks)
        low, high = self.bounds = self.within(*masks.column_bounds(self.columns), schedule.block)
        self.ahead = RowsAhead(self, low, high)

        def block(start: Value, stop: Value, carried: list[Value]) -> list[Value]:
            return self._block(start, f.sub(stop, start), carried, masks)

        return self._each_run(masks, (low, high), state, block)

    def _each_run(self, masks: Masks, bounds: tuple[Value, Value], state: list[Value], run: Run) -> list[Value]:
        """Do something for each run of columns that may be visible."""
        within = functools.partial(self._within_range, masks)
        if self.skip.listed is None:
            return within(*bounds, state, run)
        lists = ListedRuns(self.operands, self.skip.listed, self.block_rows)
        return lists.each(masks, bounds, state, within, run)

    def _within_range(self, masks: Masks, low: Value, high: Value, state: list[Value], run: Run) -> list[Value]:
        f, step = self.f, self.schedule.block
        is_divided = self.is_divided if self.stage is Stage.STREAM else None
        if masks.tests:
            return Runs(f, masks, is_divided).each(low, high, state, run)
        if self.skip.listed is not None and is_divided is not None:
            return in_pieces(f, (low, high), step, is_divided, state, run)
        return f.loop(low, high, step, state, lambda at, old: run(at, f.min(f.add(at, step), high), old))

    def _allocate(self) -> None:
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
        self.selections = [Selection(self, each) for each in self.sweep.accumulators if each.selects]
        for selection in self.selections:
            selection.begin()
        self.totals: dict[Accumulator, Value] = {}
        zero = f.constant(0.0, self.vector)
        self.wide = [each for each in self.sweep.accumulators if is_of_rows(each) and each.small is not None]
        if self.stage is not Stage.WHOLE:
            self.totals = self._held_totals()
            return
        for each in self.wide:
            assert each.small is not None
            size = each.small.length * self.block_rows
            place = self.totals[each] = ops.allocate(size)
            self._clear(place, size, zero)

    def _clear(self, place: Value, elements: int, value: Value) -> None:
        f = self.f
        f.loop(0, elements * 4, 4 * self.lanes, [], lambda at, _: f.store(value, f.offset(place, at), aligned=True))

    def _block(self, start: Value, size: Value, carried: Sequence[Value], masks: Masks) -> list[Value]:
        f = self.f
        count = len(self.groups) + self.watch.is_needed
        before, totals = list(carried[:count]), list(carried[count:])
        self.halves.find(start, size)
        self.dense.fill(start, size)
        self.brought.fill(start, size)
        self.products.lay_out(start, size)

        def group(column: Value, running: list[Value]) -> list[Value]:
            return self.fill.group(column, start, running, masks)

        running = f.loop(start, f.add(start, size), self.schedule.columns, before, group)
        before, maxima = before[: len(self.groups)], running[: len(self.groups)]
        safe = [f.select(f.compare("==", m, -math.inf), f.constant(0.0, m.type), m) for m in maxima]
        rescale = [exp_less(f, old, new) for old, new in zip(before, safe, strict=True)]
        scales = dict(zip(self.groups, rescale, strict=True))
        self.weights.start(dict(zip(self.groups, safe, strict=True)))
        added = self._weigh_and_accumulate(start, size, scales)
        for place, each in enumerate(self.sums):
            more = added[each]
            kept = totals[place]
            totals[place] = f.add(kept, more) if each.group is None else f.fma(kept, scales[each.group], more)
        return [*running, *totals]

    def _weigh_and_accumulate(self, start: Value, size: Value, scales: dict[Scalar, Value]) -> dict[Accumulator, Value]:
        """Steps B and C; what the block adds to each plain sum."""
        added: dict[Accumulator, Value] = {}
        for group in dict.fromkeys(each.group for each in self.sweep.accumulators):
            plain = [each for each in self.sums if each.group is group]
            if plain or group is not None:
                added.update(zip(plain, self.weights.write(group, size, plain), strict=True))

        def rescaled(group: Scalar | None) -> list[Value] | None:
            return None if group is None else split(self.f, scales[group], self.schedule.vectors)

        for each in self.wide:
            if each in self.products.sums:
                AccumulatePairs(self, each, start, size, rescaled(each.group)).write()
            elif each not in self.sweep.paired:
                Accumulate(self, each, start, size, rescaled(each.group)).write()
        for several in together(self.sweep):
            PairAccumulate(self, several, start, size, rescaled(several[0].group)).write()
        for selection in self.selections:
            selection.add(self.buffers[self.factors[selection.accumulator.weight]], start, size)
        if self.sweep.adds_up:
            self.column_sums.add(start, size)
            self.places.add(start, size)
        return added

    def in_steps(
        self,
        length: Value,
        step: int,
        carried: list[Value],
        body: Callable[[Value, list[Value]], list[Value]],
        first: Value | None = None,
    ) -> list[Value]:
        """A loop over so many numbers from the first, ``step`` rounds (a power of two) written out, then one by one."""
        f = self.f
        first = f.constant(0, "i64") if first is None else first

        def several(index: Value, values: list[Value]) -> list[Value]:
            for number in range(step):
                values = body(f.add(index, number), values)
            return values

        if length.constant is not None:
            whole: Value = f.constant(int(length.constant) // step * step, "i64")
        else:
            whole = f.and_(length, -step)
        carried = f.loop(first, f.add(first, whole), step, carried, several)
        return carried if step == 1 else f.loop(f.add(first, whole), f.add(first, length), 1, carried, body)

    # --- when the columns have ended

    def _keep(self, state: list[Value]) -> None:
        """The running maxima and sums, kept in memory for the outputs."""
        f, ops = self.f, self.operands
        self.kept: dict[tuple[object, int], Value] = {}
        held = [] if self.stage is Stage.WHOLE else self._held()
        maxima, totals = state[: len(self.groups)], state[len(self.groups) + self.watch.is_needed :]
        self.maxima = dict(zip(self.groups, maxima, strict=True))
        for value in state[len(maxima) : len(state) - len(totals)]:
            self.doubt(f.any_lane(f.is_nan(value)))
        names: list[object] = [*self.groups, *self.sums]
        for number, (name, value) in enumerate(zip(names, [*maxima, *totals], strict=True)):
            place = held[number] if held else ops.allocate(self.block_rows)
            f.store(value, place)
            for vector in range(self.schedule.vectors):
                self.kept[name, vector] = f.offset(place, vector * self.lanes * 4)

    def _look_at_rows(self) -> None:
        """Doubt rows without any weight to which some column was visible."""
        f, masks, (low, high) = self.f, self.masks, self.bounds
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
        else:
            (seen,) = self._each_run(masks, (low, high), [seen], run)
        if self.stage is Stage.WHOLE:
            self.doubt(f.any_lane(f.and_(empty, f.compare(">", seen, 0.0))))
            return
        # Other columns may have an exponent for these rows: then this does not matter.
        place = self.room(self.held.seen[list(self.groups).index(group)])
        seen = f.select(empty, seen, f.constant(0.0, seen.type))
        f.store(f.max(f.load(place, self.block_vector), seen), place)

    # --- states

    def _held(self) -> list[Value]:
        """Where maxima and plain sums are in the task's state, in the order in which they are carried."""
        places = dict(zip(self.sweep.accumulators, self.held.sums, strict=True))
        return list(map(self.room, [*self.held.largest, *(places[each] for each in self.sums)]))

    def _held_totals(self) -> dict[Accumulator, Value]:
        pairs = zip(self.sweep.accumulators, self.held.sums, strict=True)
        return {each: self.room(field) for each, field in pairs if each.small is not None}

    def _gone_before(self) -> list[Value]:
        """Maxima, what is watched, and plain sums, as the columns before this range have left them."""
        f, (*nothing,) = self.f, self._nothing()
        held = [f.load(place, self.block_vector) for place in self._held()]
        count = len(self.groups)
        return [*held[:count], *nothing[count : count + self.watch.is_needed], *held[count:]]

    def _finish(self) -> None:
        """Take a state for that of all columns."""
        f = self.f
        self.operands.prepare_rows(self._row_values(self.expressions()))
        self.sums = [each for each in self.sweep.accumulators if each.small is None]
        self.totals, self.kept = self._held_totals(), {}
        names: list[object] = [*self.groups, *self.sums]
        for name, place in zip(names, self._held(), strict=True):
            for vector in range(self.schedule.vectors):
                self.kept[name, vector] = f.offset(place, vector * self.lanes * 4)
        for largest, seen in zip(self.held.largest, self.held.seen, strict=True):
            is_empty = f.compare("==", f.load(self.room(largest), self.block_vector), -math.inf)
            is_seen = f.compare(">", f.load(self.room(seen), self.block_vector), 0.0)
            self.doubt(f.any_lane(f.and_(is_empty, is_seen)))

    def _seen(self, column: Value, conditions: Sequence[Scalar], masks: Masks, seen: Value) -> Value:
        """1 for rows to which this column, or one before, is visible."""
        f, tile = self.f, TileValues(self, column, 1, masks, False)
        shows = f.constant(1, vector_of("i1", self.block_rows))
        for each in conditions:
            shows = f.and_(shows, tile.value(each, 0))
        return f.select(shows, f.constant(1.0, seen.type), seen)
