"""A sweep as a kernel: a block of rows against blocks of columns, in five steps.

Vectors run over rows; columns are read as scalars and broadcast, so nothing is packed but a block of
rows, strides may be anything, and softmax needs no horizontal step. For a block of rows and each block of
columns:

A. some columns at a time: contract, compute the tile values, store them, keep the running maxima;
B. per column: weights ``exp2(stored - maximum)``, and plain sums;
C. some outputs at a time: ``accumulator * rescaling + sum of column * weight``.

When the columns have ended, outputs are computed from rows and accumulators, and transposed back.
Exponents are kept to base 2, with log2(e) multiplied into what they are made of.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..ir import UnfusableError
from ..kernel import Axis, Elements, Scalar, below
from ..sweep import Accumulator, Sweep
from .layout import Layout
from .llvm import Function, Module, Value
from .masks import Masks, Tile
from .math import exp2_nonpositive
from .operands import Operands
from .outputs import Outputs, needs_result
from .scaling import fold_scales, scaled
from .target import Target
from .tile import TileValues, plain_axis

LOG2E, LN2 = math.log2(math.e), math.log(2)


@dataclass(frozen=True)
class Schedule:
    """Sizes of a kernel's tiles. They follow from the problem's shape and the target alone.

    Attributes:
        vectors: Vectors of rows in a block.
        columns: Columns contracted at once.
        width: Elements of a vector-valued accumulator computed at once.
        block: Columns of a block, between two rescalings.
        unroll: Steps of a contraction written out in its loop.
    """

    vectors: int
    columns: int
    width: int
    block: int = 128
    unroll: int = 4


def schedule_for(target: Target) -> Schedule:
    """Tiles that fill the target's registers."""
    return Schedule(1, 16, 16) if target.has_avx512 else Schedule(2, 6, 6)


class SweepWriter:
    """Writes the kernel of one sweep."""

    def __init__(
        self,
        sweep: Sweep,
        elements: Elements,
        layout: Layout,
        target: Target,
        schedule: Schedule,
        is_unit: Callable[[Scalar, int], bool],
        integer: str,
    ) -> None:
        self.sweep, self.elements, self.layout, self.schedule = sweep, elements, layout, schedule
        self.module = Module(target)
        self.is_unit, self.integer = is_unit, integer
        self.lanes = target.lanes("float32")
        self.block_rows = schedule.vectors * self.lanes
        self.vector = f"<{self.lanes} x float>"
        self._scale()

    def _scale(self) -> None:
        """Exponents to base 2, and scales where they are free: `groups` and `factors`, by what they were."""
        factors = [each.weight for each in self.sweep.accumulators]
        binary = [scaled(self.elements, group, LOG2E) for group in self.sweep.groups]
        final = fold_scales(self.elements, self.sweep, [*binary, *factors])
        self.groups = dict(zip(self.sweep.groups, final, strict=False))
        self.factors = dict(zip(factors, final[len(binary) :], strict=True))

    def expressions(self) -> list[Scalar]:
        """All scalars of the kernel."""
        found = [*self.groups.values(), *(output.value for output in self.sweep.outputs)]
        for each in self.sweep.accumulators:
            found += [self.factors[each.weight], each.column]
        return found

    def write(self) -> str:
        """The module's text; `scratch_bytes` is known afterwards."""
        arguments = {"descriptor": "ptr noalias", "counter": "ptr", "scratch": "ptr noalias"}
        self.f = f = Function(self.module, "sweep", arguments)
        self.operands = Operands(f, self.sweep, self.layout, self.schedule.vectors, self.is_unit, self.integer)
        tasks, blocks = self.operands.slot("tasks"), self.operands.slot("blocks")

        def next_task(_: list[Value]) -> tuple[Value, list[Value]]:
            task = f.atomic_add(f["counter"], 1)
            return f.compare("<", task, tasks), [task]

        f.repeat([], next_task, lambda values: self._task(values[0], blocks))
        f.ret()
        return self.module.text()

    @property
    def scratch_bytes(self) -> int:
        """Scratch memory that each thread needs."""
        return self.operands.scratch_bytes + 64

    # --- one task

    def _task(self, task: Value, blocks: Value) -> None:
        f, ops = self.f, self.operands
        flat = f.unsigned_divide(task, blocks)
        # The last rows of a causal sweep see most columns: longest first leaves no straggler.
        block = f.sub(f.sub(blocks, 1), f.unsigned_modulo(task, blocks))
        batch: dict[Axis, Value] = {}
        for number, axis in reversed(list(enumerate(self.sweep.batch))):
            length = ops.slot(f"batch{number}")
            batch[axis] = f.unsigned_modulo(flat, length)
            flat = f.unsigned_divide(flat, length)
        rows, self.columns = ops.slot("rows"), ops.slot("columns")
        first = f.mul(block, self.block_rows)
        stop = f.min(f.add(first, self.block_rows), rows)
        everything = self.expressions()
        ops.start_task(batch, first, stop, everything)
        ops.prepare_rows(self._row_values(everything))
        self._pack()
        self._sweep(first, stop)
        for output in self.sweep.outputs:
            Outputs(self).write(output, first, stop)

    def _row_values(self, everything: list[Scalar]) -> list[Scalar]:
        """Maximal row values that tiles, contractions and outputs use."""
        ops = self.operands
        inner: set[Scalar] = set()
        found: dict[Scalar, None] = {}
        for scalar in below(everything):
            whole = ops.varies_over_rows_only(scalar) and not needs_result(scalar)
            for each in scalar.args:
                if ops.varies_over_rows_only(each) and not needs_result(each):
                    (inner.add if whole or scalar.op == "load" else found.setdefault)(
                        each, *(() if whole or scalar.op == "load" else (None,))
                    )
        for root in everything:
            if ops.varies_over_rows_only(root) and not needs_result(root):
                found[root] = None
        return list(found)

    def _contractions(self) -> list[Scalar]:
        tile = [*self.groups.values(), *self.factors.values()]
        return [each for each in below(tile) if each.op == "reduce"]

    def _pack(self) -> None:
        for contraction in self._contractions():
            small = contraction.attribute[1]
            for leaf in self._leaves(contraction.args[0], small)[0]:
                self.operands.pack_rows(leaf, small)

    def _leaves(self, body: Scalar, small: Axis) -> tuple[list[Scalar], list[Scalar]]:
        """Maximal parts of a contraction's body that a row packs, and those that a column brings."""
        rows: dict[Scalar, None] = {}
        columns: dict[Scalar, None] = {}
        stack = [body]
        while stack:
            each = stack.pop()
            if small not in each.axes:
                continue
            if self.sweep.columns not in each.axes and self.sweep.rows in each.axes:
                rows[each] = None
            elif self.sweep.rows not in each.axes:
                columns[each] = None
            elif each.op == "load":
                raise UnfusableError("a load that varies over rows, columns and a contracted axis")
            else:
                stack += each.args
        return list(rows), list(columns)

    # --- the sweep

    def _sweep(self, first: Value, stop: Value) -> None:
        f, ops, schedule = self.f, self.operands, self.schedule
        sums = [each for each in self.sweep.accumulators if each.small is None]
        wide = [each for each in self.sweep.accumulators if each.small is not None]
        self._allocate(wide)
        zero, least = f.constant(0.0, self.vector), f.constant(-math.inf, self.vector)
        count = schedule.vectors
        state = [least] * (len(self.groups) * count) + [zero] * (len(sums) * count)
        masks = Masks(f, self.sweep, ops.wide)
        last = f.sub(stop, 1)
        low, high = masks.column_bounds(first, last, self.columns)

        def block(start: Value, carried: list[Value]) -> list[Value]:
            size = f.min(f.sub(high, start), schedule.block)

            def masked() -> list[Value]:
                return self._block(start, size, carried, sums, wide, masks, False)

            def unmasked() -> list[Value]:
                return self._block(start, size, carried, sums, wide, masks, True)

            if not masks.roots:
                return unmasked()
            tile = Tile(first, last, start, f.sub(f.add(start, size), 1))
            # The last columns of a short block may lie beyond it, and be hidden.
            full = f.and_(masks.all_true(tile), f.compare("==", size, schedule.block))
            if not masks.skipping:
                return f.if_else(full, unmasked, masked)
            empty = masks.all_false(tile)
            return f.if_else(empty, lambda: list(carried), lambda: f.if_else(full, unmasked, masked))

        state = f.loop(low, high, schedule.block, state, block)
        self._keep(state, sums)

    def _allocate(self, wide: list[Accumulator]) -> None:
        """Buffers of tile values, with room in front for the overlap of ragged columns; accumulators of 0."""
        f, ops = self.f, self.operands
        room = self.schedule.columns
        self.buffers: dict[Scalar, Value] = {}
        targets = list(self.groups.values())
        targets += [self.factors[each.weight] for each in self.sweep.accumulators if not self._is_plain_weight(each)]
        for target in dict.fromkeys(targets):
            whole = ops.allocate((self.schedule.block + 2 * room) * self.block_rows)
            self.buffers[target] = f.offset(whole, room * self.block_rows * 4)
        self.weights: dict[tuple[Scalar | None, Scalar], Value] = {}
        for each in self.sweep.accumulators:
            self._weight_buffer(each)
        self.totals: dict[Accumulator, Value] = {}
        zero = f.constant(0.0, self.vector)
        for each in wide:
            assert each.small is not None
            size = each.small.length * self.block_rows
            place = self.totals[each] = ops.allocate(size)
            self._fill(place, size, zero)

    def _fill(self, place: Value, elements: int, value: Value) -> None:
        f = self.f
        f.loop(0, elements * 4, 4 * self.lanes, [], lambda at, _: f.store(value, f.offset(place, at), aligned=True))

    def _is_plain_weight(self, accumulator: Accumulator) -> bool:
        return accumulator.weight.is_constant and accumulator.weight.attribute == 1 and accumulator.group is not None

    def _weight_buffer(self, accumulator: Accumulator) -> None:
        """Where step B leaves the weights: in place, unless two exponents share a factor."""
        key = (accumulator.group, accumulator.weight)
        if key in self.weights:
            return
        if self._is_plain_weight(accumulator):
            assert accumulator.group is not None
            self.weights[key] = self.buffers[self.groups[accumulator.group]]
        elif accumulator.group is None:
            self.weights[key] = self.buffers[self.factors[accumulator.weight]]
        else:
            self.weights[key] = self.operands.allocate(self.schedule.block * self.block_rows)

    def _block(
        self,
        start: Value,
        size: Value,
        carried: Sequence[Value],
        sums: list[Accumulator],
        wide: list[Accumulator],
        masks: Masks,
        full: bool,
    ) -> list[Value]:
        f, count = self.f, self.schedule.vectors
        before = list(carried[: len(self.groups) * count])
        totals = list(carried[len(before) :])
        limit = f.sub(self.columns, self.schedule.columns)
        maxima = f.loop(
            start,
            f.add(start, size),
            self.schedule.columns,
            before,
            lambda column, running: self._tile(f.min(column, limit), start, running, masks, full),
        )
        safe = [f.select(f.compare("==", m, -math.inf), f.constant(0.0, m.type), m) for m in maxima]
        rescale = [exp2_nonpositive(f, f.sub(old, new)) for old, new in zip(before, safe, strict=True)]
        # Sums of a block start at 0: long sums of float32 one by one would lose digits.
        nothing = [f.constant(0.0, self.vector)] * len(totals)
        added = f.loop(0, size, 1, nothing, lambda column, running: self._weigh(column, running, sums, safe))
        for place, each in enumerate(each for each in sums for _ in range(count)):
            if each.group is None:
                totals[place] = f.add(totals[place], added[place])
            else:
                totals[place] = f.fma(totals[place], rescale[self._group(each) * count + place % count], added[place])
        for each in wide:
            self._accumulate(each, start, size, rescale)
        return [*maxima, *totals]

    def _group(self, accumulator: Accumulator) -> int:
        assert accumulator.group is not None
        return list(self.groups).index(accumulator.group)

    # --- step A

    def _tile(self, column: Value, start: Value, running: list[Value], masks: Masks, full: bool) -> list[Value]:
        f = self.f
        tile = TileValues(self, column, masks, full)
        for contraction in self._contractions():
            self._contract(contraction, tile)
        maxima = list(running)
        base = f.mul(f.sub(column, start), self.block_rows * 4)
        groups = list(self.groups.values())
        for target, buffer in self.buffers.items():
            pointer = f.offset(buffer, base)
            for number in range(self.schedule.columns):
                for vector in range(self.schedule.vectors):
                    value = tile.vector(target, number, vector)
                    if target in groups:
                        place = groups.index(target) * self.schedule.vectors + vector
                        maxima[place] = f.max(value, maxima[place])
                    f.store(
                        value, f.offset(pointer, (number * self.block_rows + vector * self.lanes) * 4), aligned=True
                    )
        return maxima

    def _contract(self, contraction: Scalar, tile: TileValues) -> None:
        f, schedule = self.f, self.schedule
        small = contraction.attribute[1]
        (body,) = contraction.args
        rows, columns = self._leaves(body, small)
        sources = {
            (leaf, number): tile.column_source(leaf, small, number)
            for leaf in columns
            for number in range(schedule.columns)
        }
        zero = f.constant(0.0, self.vector)

        def steps(index: Value, sums: list[Value], count: int) -> list[Value]:
            sums = list(sums)
            for step in range(count):
                at = f.add(index, step)
                packed = f.mul(at, self.block_rows * 4)
                row_values = {
                    (leaf, vector): f.load(
                        f.offset(f.offset(self.operands.packs[leaf], packed), vector * self.lanes * 4),
                        self.vector,
                        aligned=True,
                    )
                    for leaf in rows
                    for vector in range(schedule.vectors)
                }
                for number in range(schedule.columns):
                    column_values = {leaf: f.splat(sources[leaf, number](at), self.lanes) for leaf in columns}
                    for vector in range(schedule.vectors):
                        leaves = {**column_values, **{leaf: row_values[leaf, vector] for leaf in rows}}
                        place = number * schedule.vectors + vector
                        sums[place] = tile.added(body, leaves, number, vector, sums[place])
            return sums

        whole = small.length // schedule.unroll * schedule.unroll
        sums = [zero] * (schedule.columns * schedule.vectors)
        sums = f.loop(0, whole, schedule.unroll, sums, lambda index, carried: steps(index, carried, schedule.unroll))
        sums = f.loop(whole, small.length, 1, sums, lambda index, carried: steps(index, carried, 1))
        for number in range(schedule.columns):
            for vector in range(schedule.vectors):
                tile.known[contraction, number, vector] = sums[number * schedule.vectors + vector]

    # --- step B

    def _weigh(self, column: Value, running: list[Value], sums: list[Accumulator], maxima: list[Value]) -> list[Value]:
        f, count = self.f, self.schedule.vectors
        running = list(running)
        at = f.mul(column, self.block_rows * 4)
        weights: dict[tuple[Scalar | None, Scalar, int], Value] = {}
        exponentials: dict[tuple[Scalar, int], Value] = {}
        for (group, factor), buffer in self.weights.items():
            for vector in range(count):
                ahead = f.add(at, vector * self.lanes * 4)
                if group is None:
                    weights[group, factor, vector] = f.load(f.offset(buffer, ahead), self.vector, aligned=True)
                    continue
                key = (group, vector)
                if key not in exponentials:
                    stored = f.load(f.offset(self.buffers[self.groups[group]], ahead), self.vector, aligned=True)
                    largest = maxima[list(self.groups).index(group) * count + vector]
                    exponentials[key] = exp2_nonpositive(f, f.sub(stored, largest))
                value = exponentials[key]
                if self.factors[factor] in self.buffers:
                    value = f.mul(
                        value, f.load(f.offset(self.buffers[self.factors[factor]], ahead), self.vector, aligned=True)
                    )
                f.store(value, f.offset(buffer, ahead), aligned=True)
                weights[group, factor, vector] = value
        for number, each in enumerate(sums):
            for vector in range(count):
                value = weights[each.group, each.weight, vector]
                place = number * count + vector
                running[place] = f.add(running[place], value)
        return running

    # --- step C

    def _accumulate(self, each: Accumulator, start: Value, size: Value, rescale: list[Value]) -> None:
        assert each.small is not None
        length, width = each.small.length, self.schedule.width
        whole = length // width * width
        f = self.f
        f.loop(0, whole, width, [], lambda first, _: self._accumulate_some(each, first, width, start, size, rescale))
        if whole < length:
            self._accumulate_some(each, f.constant(whole, "i64"), length - whole, start, size, rescale)

    def _accumulate_some(
        self, each: Accumulator, first: Value, width: int, start: Value, size: Value, rescale: list[Value]
    ) -> None:
        f, count = self.f, self.schedule.vectors
        places = [(number, vector) for number in range(width) for vector in range(count)]
        base = f.offset(self.totals[each], f.mul(first, self.block_rows * 4))
        pointers = {place: f.offset(base, (place[0] * self.block_rows + place[1] * self.lanes) * 4) for place in places}
        sums = [f.constant(0.0, self.vector)] * len(places)
        weights = self.weights[each.group, each.weight]
        assert each.small is not None
        plain = plain_axis(self, each.column, each.small)

        def column(index: Value, carried: list[Value]) -> list[Value]:
            at = f.offset(weights, f.mul(index, self.block_rows * 4))
            vectors = [
                f.load(f.offset(at, vector * self.lanes * 4), self.vector, aligned=True) for vector in range(count)
            ]
            place = {**self.operands.batch, self.sweep.columns: f.add(start, index)}
            values = self._column_values(each, plain, place, first, width)
            return [
                f.fma(f.splat(values[number], self.lanes), vectors[vector], total)
                for total, (number, vector) in zip(carried, places, strict=True)
            ]

        sums = f.loop(0, size, 1, sums, column)
        for place, added in zip(places, sums, strict=True):
            total = f.load(pointers[place], self.vector, aligned=True)
            if each.group is None:
                total = f.add(total, added)
            else:
                total = f.fma(total, rescale[self._group(each) * count + place[1]], added)
            f.store(total, pointers[place], aligned=True)

    def _column_values(
        self, each: Accumulator, plain: int | None, place: dict[Axis, Value], first: Value, width: int
    ) -> list[Value]:
        f = self.f
        assert each.small is not None
        if plain is not None:
            pointer = self.operands.address(each.column, place, {}, without=each.small)
            pointer = f.offset(pointer, f.shl(first, 2))
            return [self.operands.read(each.column, f.offset(pointer, 4 * number)) for number in range(width)]
        return [
            self.operands.scalar(each.column, {**place, each.small: f.add(first, number)}, {})
            for number in range(width)
        ]

    # --- when the columns have ended

    def _keep(self, state: list[Value], sums: list[Accumulator]) -> None:
        """The running maxima and sums, kept in memory for the outputs."""
        f, ops, count = self.f, self.operands, self.schedule.vectors
        self.kept: dict[tuple[object, int], Value] = {}
        empty = self.layout.place("empty")
        names: list[object] = [*self.groups, *sums]
        for number, name in enumerate(names):
            place = ops.allocate(self.block_rows)
            for vector in range(count):
                value = state[number * count + vector]
                if name in self.groups:
                    value = f.mul(value, LN2)
                pointer = self.kept[name, vector] = f.offset(place, vector * self.lanes * 4)
                f.store(value, pointer, aligned=True)
                if name in self.groups:  # a row without any weight: hidden, or all its exponents overflowed
                    none = f.any_lane(f.compare("==", value, -math.inf))
                    f.when(none, lambda: f.store(f.constant(1, "i64"), f.offset(f["descriptor"], empty)))
