"""A loop as a kernel: tasks of whole rows, or of pieces of a row where nothing is reduced.

A row is gone over once for each level of reductions and once to store. Vectors lie along the row, several at
once; what is left at its end is done under masks. Sums of float32 are added up in float64 after every few
hundred terms, those of float64 with what was rounded away, so a long row loses no more than a short one.
"""

import math
from collections.abc import Callable, Sequence

from ..lengths import estimate
from ..loop import Loop
from ..scalar import Scalar
from .compensated import added
from .llvm import Function, Module, Value
from .loop_layout import HEAD, Form, LoopLayout, read_slots
from .loop_passes import Pass, passes_of, row_scalars
from .loop_together import RowsTogether
from .loop_values import Lanes, Scalars, held
from .loop_watch import leaves_numbers
from .target import Target
from .values import bytes_of, vector_of

# Vectors that a sum adds before it is put to the others.
_BLOCK = 8
_FLOATS = ("float", "double")
# What the passes carry from vector to vector: sums and maxima, then what the watches have seen.
State = list[Value]
ValueOf = Callable[[Scalar], Value | None]


def lanes_of_loop(loop: Loop, target: Target) -> int:
    """Elements of a vector: as many as registers hold of the widest float."""
    wide = any(held(each.dtype) == "double" for each in loop.scalars)
    return max(1, target.vector_bytes // (8 if wide else 4))


class LoopWriter:
    """Writes the kernel of one loop."""

    def __init__(self, loop: Loop, form: Form, target: Target) -> None:
        self.loop, self.form = loop, form
        self.layout = LoopLayout(loop, form)
        self.lanes = lanes_of_loop(loop, target)
        # A short row is one vector, without a loop along it.
        self.is_short = 0 < form.short <= self.lanes
        if self.is_short:
            self.lanes = form.short
        self.module = Module(target)
        self.passes = passes_of(loop, form.keeps_rows)
        self.kept = [scalar for each in self.passes for scalar in each.fills]
        self.together = RowsTogether(self) if RowsTogether.fits(self) else None
        self.seen = [type_ for type_ in _FLOATS if any(held(each.dtype) == type_ for each in loop.watches)]

    @property
    def planned_scratch_bytes(self) -> int:
        """Scratch memory of each thread, for rows of the length that the loop was planned with."""
        return self.scratch_bytes(estimate(self.loop.inner.length))

    def scratch_bytes(self, length: int) -> int:
        """Scratch memory that each thread needs for rows of this length."""
        return len(self.kept) * 32 * ((length + 4 * self.lanes - 1) // 4)

    def write(self) -> str:
        """The module's text."""
        arguments = {"descriptor": "ptr noalias", "counter": "ptr", "scratch": "ptr noalias"}
        self.f = f = Function(self.module, "loop", arguments)
        with f.flags("contract"):
            self._write()
        return self.module.text()

    def _write(self) -> None:
        f = self.f
        self.slots = slots = read_slots(f, self.layout.places)
        self.scalars = Scalars(f, self.loop, self.form, slots)
        self._fixed()
        stride = f.mul(f.ashr(f.add(slots["length"], 4 * self.lanes - 1), 2), 4 * 8)
        self.rooms = {each: f.offset(f["scratch"], f.mul(stride, n)) for n, each in enumerate(self.kept)}
        nothing = [f.constant(0.0, vector_of(type_, self.lanes)) for type_ in self.seen]
        nothing = self.watched(list(self.scalars.fixed), self.scalars.known, nothing)

        def next_task(carried: State) -> tuple[Value, State]:
            task = f.atomic_add(f["counter"], 1)
            return f.compare("<", task, slots["tasks"]), [task, *carried]

        found = f.repeat(nothing, next_task, lambda values: self._task(values[0], values[1:]))[1:]
        trouble = f.constant(0, "i1")
        for each in found:
            trouble = f.or_(trouble, f.any_lane(f.is_nan(each)))
        place = f.offset(f["descriptor"], 8 * HEAD.index("trouble"))
        f.when(trouble, lambda: f.store(f.constant(1, "i64"), place))
        f.ret()

    def _fixed(self) -> None:
        """Numbers, and what follows from them alone."""
        for scalar in self.loop.scalars:
            known = scalar.args and all(each in self.scalars.fixed for each in scalar.args)
            if scalar.is_constant or (known and scalar.op not in ("load", "reduce")):
                self.scalars.compute(scalar)
        for scalar in self.loop.scalars:
            if self.loop.inner in scalar.axes and scalar.op != "load":
                for each in scalar.args:
                    if each in self.scalars.fixed:
                        self.scalars.spread(each, self.lanes)

    # --- rows

    def _task(self, task: Value, seen: State) -> State:
        f, slots = self.f, self.slots
        block = f.unsigned_modulo(task, slots["blocks"])
        first = f.mul(f.unsigned_divide(task, slots["blocks"]), slots["task_rows"])
        stop = f.min(f.add(first, slots["task_rows"]), slots["rows"])
        start = f.mul(block, slots["chunk"])
        end = f.min(f.add(start, slots["chunk"]), slots["length"])
        axes = self.form.axes

        def row(_: Value, carried: State) -> State:
            return [*self._following(carried[:axes]), *self._row(carried[:axes], start, end, carried[axes:])]

        carried = [*self._coordinates(first), *seen]
        if self.together is not None:
            whole = self._rows_together(first, stop)
            carried = f.loop(first, whole, self.lanes, carried, lambda _, state: self._group(state))
            first = whole
        return f.loop(first, stop, 1, carried, row)[axes:]

    def _rows_together(self, first: Value, stop: Value) -> Value:
        """Up to where rows can be taken together: those of a group lie along the last axis."""
        f, count = self.f, self.lanes
        whole = f.add(first, f.and_(f.sub(stop, first), -count))
        if self.form.axes == 1:
            return whole
        ends = f.or_(first, self.slots["axis", self.form.axes - 1])
        return f.select(f.compare("==", f.and_(ends, count - 1), 0), whole, first)

    def _group(self, carried: State) -> State:
        assert self.together is not None
        axes = self.form.axes
        return [*self._following(carried[:axes], self.lanes), *self.together.write(carried[:axes], carried[axes:])]

    def _coordinates(self, row: Value) -> State:
        """Where a row lies along each axis."""
        f, rest = self.f, row
        coordinates: list[Value] = []
        for axis in reversed(range(self.form.axes)):
            length = self.slots["axis", axis]
            coordinates.insert(0, rest if axis == 0 else f.unsigned_modulo(rest, length))
            rest = rest if axis == 0 else f.unsigned_divide(rest, length)
        return coordinates

    def _following(self, coordinates: State, count: int = 1) -> State:
        """Where the next row lies: a division for each row would take as long as a short one.

        So many rows on, if these lie along the last axis.
        """
        f, more = self.f, self.f.constant(count, "i64")
        following: list[Value] = []
        for axis in reversed(range(self.form.axes)):
            moved = f.add(coordinates[axis], more)
            if axis > 0:
                is_end = f.compare("==", moved, self.slots["axis", axis])
                moved, more = f.select(is_end, f.constant(0, "i64"), moved), f.convert(is_end, "i64", unsigned=True)
            following.insert(0, moved)
        return following

    def _row(self, coordinates: State, start: Value, end: Value, seen: State) -> State:
        self.scalars.start_row(coordinates, self.pointers_of(coordinates))
        for each in self.passes:
            seen = self.row_values(each.before, seen)
            seen = self._pass(each, start, end, seen)
        return self._store_numbers(seen)

    def pointers_of(self, coordinates: State) -> dict[tuple[str, int], Value]:
        """Where a row begins in every array."""
        f, slots = self.f, self.slots
        pointers: dict[tuple[str, int], Value] = {}
        for kind, count in (("in", len(self.loop.accesses)), ("out", len(self.loop.outputs))):
            for number in range(count):
                pointer = slots[kind, number, "pointer"]
                for axis, coordinate in enumerate(coordinates):
                    pointer = f.offset(pointer, f.mul(coordinate, slots[kind, number, axis]))
                pointers[kind, number] = pointer
        return pointers

    def row_values(self, scalars: list[Scalar], seen: State) -> State:
        """Compute what is wanted of the row, and watch it."""
        fresh = [each for each in scalars if self.scalars.known(each) is None]
        for scalar in fresh:
            self.scalars.compute(scalar)
        return self.watched(fresh, self.scalars.known, seen)

    def _store_numbers(self, seen: State) -> State:
        for number, output in enumerate(self.loop.outputs):
            if self.loop.inner in output.axes:
                continue
            seen = self.row_values(row_scalars([output.value]), seen)
            value = self.scalars.known(output.value)
            assert value is not None
            value = self.f.convert(value, "i8") if value.element == "i1" else value
            self.f.store(value, self.scalars.pointers["out", number])
        return seen

    # --- watches

    def watched(self, scalars: Sequence[Scalar], value_of: ValueOf, seen: State, valid: Value | None = None) -> State:
        """What was seen, and with it these values: NaN where one leaves the range of numbers."""
        f, seen = self.f, list(seen)
        for scalar in scalars:
            kind = self.loop.watches.get(scalar)
            value = value_of(scalar)
            if kind is None or value is None:
                continue
            place = self.seen.index(value.element)
            lanes = seen[place].lanes
            if kind == "finite":
                value = value if valid is None else f.select(valid, value, f.constant(0.0, value.type))
                term = f.mul(value, 0.0)
            else:
                wrong = leaves_numbers(f, kind, value, map(value_of, scalar.args))
                wrong = wrong if valid is None else f.and_(wrong, valid)
                term = f.select(wrong, f.constant(math.nan, value.type), f.constant(0.0, value.type))
            seen[place] = f.add(seen[place], term if term.lanes == lanes else f.splat(term, lanes))
        return seen

    # --- passes

    def _pass(self, each: Pass, start: Value, end: Value, seen: State) -> State:
        f = self.f
        self.spread_before(each)
        unroll = 1 if self.is_short else 4 if each.cost <= 16 else 2 if each.cost <= 40 else 1
        sums = [one for one in each.reductions if one.attribute[0] == "sum"]
        peaks = [one for one in each.reductions if one.attribute[0] != "sum"]
        totals = [f.constant(0.0, vector_of("double", self.lanes)) for _ in sums for _ in (0, 1)]
        maxima = [f.constant(-math.inf, self.vector(one)) for one in peaks for _ in range(unroll)]
        zeros = [f.constant(0.0, self.vector(one)) for one in sums for _ in range(unroll)]
        rest = [*maxima, *(f.constant(0.0, one.type) for one in seen for _ in range(unroll))]
        if self.is_short:
            state = self.vectors(each, f.constant(0, "i64"), [*zeros, *rest], unroll, None)
        else:
            totals, state = self._along(each, start, end, unroll, (totals, zeros, rest))
        totals = self._added(totals, state, unroll)
        state = state[len(zeros) :]
        self._finish(sums, totals, peaks, state, unroll)
        for place in range(len(seen)):
            for vector in state[len(maxima) + place * unroll : len(maxima) + (place + 1) * unroll]:
                seen[place] = f.add(seen[place], vector)
        return self.watched(each.reductions, self.scalars.known, seen)

    def _along(
        self, each: Pass, start: Value, end: Value, unroll: int, given: tuple[State, State, State]
    ) -> tuple[State, State]:
        """A row vector by vector: totals, and what its last vectors leave to be added to them, with all else."""
        f, (totals, zeros, rest) = self.f, given
        step = unroll * self.lanes
        full = f.add(start, f.and_(f.sub(end, start), -step))

        def vectors(begin: Value, stop: Value, carried: State) -> State:
            return f.loop(begin, stop, step, carried, lambda at, state: self.vectors(each, at, state, unroll, None))

        def block(begin: Value, carried: State) -> State:
            stop = f.min(f.add(begin, _BLOCK * step), full)
            state = vectors(begin, stop, [*zeros, *carried[len(totals) :]])
            return [*self._added(carried[: len(totals)], state, unroll), *state[len(zeros) :]]

        def tail(at: Value, carried: State) -> State:
            return self.vectors(each, at, carried, unroll, f.first_lanes(f.sub(end, at), self.lanes))

        state = [*totals, *rest]
        state = f.loop(start, full, _BLOCK * step, state, block) if zeros else vectors(start, full, state)
        totals, rest = state[: len(totals)], state[len(totals) :]
        return totals, f.loop(full, end, self.lanes, [*zeros, *rest], tail)

    def vector(self, scalar: Scalar) -> str:
        return vector_of(held(scalar.dtype), self.lanes)

    def spread_before(self, each: Pass) -> None:
        """Numbers of the row in every lane, before the loop that uses them."""
        inside = {*each.scalars, *each.kept}
        wanted = [argument for scalar in each.scalars if scalar.op != "load" for argument in scalar.args]
        wanted += [one.args[0] for one in each.reductions] + [self.loop.outputs[n].value for n in each.stored]
        for scalar in wanted:
            if scalar not in inside:
                self.scalars.spread(scalar, self.lanes)

    def vectors(self, each: Pass, at: Value, state: State, unroll: int, valid: Value | None) -> State:
        """Some vectors at once; under a mask only one."""
        f, state = self.f, list(state)
        sums = [one for one in each.reductions if one.attribute[0] == "sum"]
        peaks = [one for one in each.reductions if one.attribute[0] != "sum"]
        head = (len(sums) + len(peaks)) * unroll
        for number in range(unroll if valid is None else 1):
            lanes = Lanes(self.scalars, self.lanes, at, number * self.lanes, valid)
            for scalar in each.kept:
                place = lanes.place(self.rooms[scalar], bytes_of(held(scalar.dtype)))
                lanes.memo[scalar] = f.load(place, self.vector(scalar))
            for scalar in each.scalars:
                lanes.compute(scalar)
            for scalar in each.fills:
                f.store(lanes.memo[scalar], lanes.place(self.rooms[scalar], bytes_of(held(scalar.dtype))))
            places = [head + place * unroll + number for place in range(len(self.seen))]
            watched = self.watched(each.scalars, lanes.value, [state[place] for place in places], valid)
            for where, value in zip(places, watched, strict=True):
                state[where] = value
            for index, one in enumerate((*sums, *peaks)):
                where = index * unroll + number
                state[where] = self._reduced(one, state[where], lanes.value(one.args[0]), valid)
            for index in each.stored:
                lanes.store(lanes.value(self.loop.outputs[index].value), self.scalars.pointers["out", index])
        return state

    def _reduced(self, reduction: Scalar, running: Value, value: Value, valid: Value | None) -> Value:
        f = self.f
        is_sum = reduction.attribute[0] == "sum"
        if valid is not None:
            value = f.select(valid, value, f.constant(0.0 if is_sum else -math.inf, value.type))
        return f.add(running, value) if is_sum else f.max_nan(running, value)

    def _added(self, totals: State, state: State, unroll: int) -> State:
        """Totals, and what their last additions rounded away, with the sums of a block."""
        f = self.f
        result: State = []
        for number in range(len(totals) // 2):
            parts = state[number * unroll : (number + 1) * unroll]
            with f.flags(""):
                while len(parts) > 1:
                    parts = [f.add(left, right) for left, right in zip(parts[::2], parts[1::2], strict=True)]
            result += added(f, totals[2 * number], totals[2 * number + 1], parts[0])
        return result

    def _finish(self, sums: list[Scalar], totals: State, peaks: list[Scalar], state: State, unroll: int) -> None:
        """Reductions as numbers of the row."""
        f = self.f
        for number, one in enumerate(sums):
            vector = totals[2 * number]
            if held(one.dtype) == "double":
                vector = f.add(vector, totals[2 * number + 1])
            self.scalars.row[one] = f.convert(f.reduce(f.add, vector), held(one.dtype))
        for number, one in enumerate(peaks):
            parts = state[number * unroll : (number + 1) * unroll]
            vector = parts[0]
            for part in parts[1:]:
                vector = f.max_nan(vector, part)
            self.scalars.row[one] = f.reduce(f.max_nan, vector)
