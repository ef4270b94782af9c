"""A sweep as a kernel: a block of rows against blocks of columns, in five steps.

Vectors run over rows; columns are read as scalars and broadcast, so nothing is packed but a block of
rows, strides may be anything, and softmax needs no horizontal step. For a block of rows and each block of
columns:

A. some columns at a time: contract, compute the tile values, store them, keep the running maxima (``fill``);
B. per column: weights ``exp2(stored - maximum)``, and plain sums (``weights``);
C. some outputs at a time: ``accumulator * rescaling + sum of column * weight`` (``accumulate``).

When the columns have ended, outputs are computed from rows and accumulators, and transposed back.
Exponents are kept to base 2, with log2(e) multiplied into what they are made of.
"""

import functools
import math
from collections.abc import Callable, Sequence

from ..scalar import Scalar
from ..sweep import Accumulator
from .accumulate import Accumulate
from .dense import Dense
from .fill import Fill
from .llvm import Value
from .masks import Masks
from .math import exp2_nonpositive
from .outputs import Outputs
from .runs import Runs
from .schedule import Schedule, schedule_for
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

    def _block_of_rows(self, first: Value, stop: Value) -> None:
        self.operands.prepare_rows(self._row_values(self.expressions()))
        self.fill = Fill(self)
        self.fill.pack()
        self.dense = Dense(self)
        self._sweep(first, stop)
        for output in self.sweep.outputs:
            Outputs(self).write(output, first, stop)

    # --- the sweep

    def _sweep(self, first: Value, stop: Value) -> None:
        f, ops, schedule = self.f, self.operands, self.schedule
        sums = [each for each in self.sweep.accumulators if each.small is None]
        wide = [each for each in self.sweep.accumulators if each.small is not None]
        self._allocate(wide)
        zero, least = f.constant(0.0, self.block_vector), f.constant(-math.inf, self.block_vector)
        state = [least] * len(self.groups) + [zero] * len(sums)
        masks = Masks(ops, self.skip, self.block_rows, schedule.strip, schedule.block)
        low, high = masks.column_bounds(self.columns)

        def block(start: Value, stop: Value, carried: list[Value]) -> list[Value]:
            return self._block(start, f.sub(stop, start), carried, sums, wide, masks)

        if masks.tests:
            state = Runs(f, masks).each(low, high, state, block)
        else:
            step = schedule.block
            state = f.loop(low, high, step, state, lambda at, old: block(at, f.min(f.add(at, step), high), old))
        self._keep(state, sums)

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
        before, totals = list(carried[: len(self.groups)]), list(carried[len(self.groups) :])
        self.dense.fill(start, size)

        def group(column: Value, running: list[Value]) -> list[Value]:
            return self.fill.group(column, start, running, masks)

        maxima = f.loop(start, f.add(start, size), self.schedule.columns, before, group)
        safe = [f.select(f.compare("==", m, -math.inf), f.constant(0.0, m.type), m) for m in maxima]
        rescale = [exp2_nonpositive(f, f.sub(old, new)) for old, new in zip(before, safe, strict=True)]
        scales = dict(zip(self.groups, rescale, strict=True))
        self.weights.start(dict(zip(self.groups, safe, strict=True)))
        added = self._weigh_and_accumulate(start, size, sums, wide, scales)
        for place, each in enumerate(sums):
            more = added[each]
            kept = totals[place]
            totals[place] = f.add(kept, more) if each.group is None else f.fma(kept, scales[each.group], more)
        return [*maxima, *totals]

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
        for each in wide:
            rescale = None if each.group is None else split(self.f, scales[each.group], self.schedule.vectors)
            Accumulate(self, each, start, size, rescale).write()
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
        empty = self.layout.place("empty")
        names: list[object] = [*self.groups, *sums]
        for name, value in zip(names, state, strict=True):
            place = ops.allocate(self.block_rows)
            if name in self.groups:
                value = f.mul(value, LN2)
            f.store(value, place)
            for vector in range(self.schedule.vectors):
                self.kept[name, vector] = f.offset(place, vector * self.lanes * 4)
            if name in self.groups:  # a row without any weight: hidden, or all its exponents overflowed
                none = [f.any_lane(f.compare("==", part, -math.inf)) for part in split(f, value, self.schedule.vectors)]
                hidden = functools.reduce(f.or_, none)
                f.when(hidden, lambda: f.store(f.constant(1, "i64"), f.offset(f["descriptor"], empty)))
