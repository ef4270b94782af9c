"""A loop over segments as a kernel: tasks of whole rows, each of which goes over its edges once for each pass.

What lies along small axes is one vector; edges come one after the other. Sums of float32 are added up in float64
after every few edges, those of float64 with what was rounded away, so a row of very many edges loses no more than a
short one.
Rows of large arrays that edges point to are asked for some edges ahead.
"""

import math
from collections.abc import Callable

from ..scalar import Scalar
from ..segment_loop import SegmentLoop, is_computed
from .compensated import added
from .llvm import Function, Module, Value
from .loop_layout import read_slots
from .loop_passes import Pass
from .loop_values import held
from .loop_watch import leaves_numbers
from .segment_layout import POINTERS, SegmentForm, SegmentLayout, passes_over_edges, row_values
from .segment_values import SegmentValues
from .target import Target
from .values import bytes_of, vector_of

# Edges that a sum adds before it is put to the others.
_BLOCK = 64
# Edges by which rows of other arrays are asked for ahead.
_AHEAD = 24
_LINE = 64
_MOST_LINES = 16
# What the passes carry from edge to edge: sums and maxima, then what watches have seen.
State = list[Value]


class SegmentWriter:
    """Writes the kernel of one loop over segments."""

    def __init__(self, loop: SegmentLoop, form: SegmentForm, target: Target) -> None:
        self.loop, self.form = loop, form
        self.layout = SegmentLayout(loop)
        self.module = Module(target)
        self.passes = passes_over_edges(loop, form.keeps_edges)
        self.rooms: dict[Scalar, int] = {}
        self.edge_bytes = 0
        for each in self.passes:
            for scalar in each.fills:
                self.rooms[scalar] = self.edge_bytes
                size = bytes_of(vector_of(_in_memory(held(scalar.dtype)), loop.lanes(scalar)))
                self.edge_bytes += -(-size // 8) * 8
        sums = [[one for one in each.reductions if one.attribute[0] == "sum"] for each in self.passes]
        # What the sums of a long row take, at the beginning of the scratch memory.
        self.row_bytes = max(
            [sum([2 * _whole_lines(bytes_of(self._wide(one))) for one in each]) for each in sums], default=0
        )
        self.seen = sorted({self._type(each) for each in loop.watches})
        self.ahead = self._asked_for_ahead() if form.asks_ahead else []
        self.totals = [output for output in loop.outputs if output.extent == "total"]

    @property
    def planned_scratch_bytes(self) -> int:
        """Scratch memory of each thread, for each edge of the longest row."""
        return self.edge_bytes

    def scratch_bytes(self, edges: int) -> int:
        """Scratch memory that each thread needs for rows of at most so many edges."""
        return self.row_bytes + self.edge_bytes * edges

    def _type(self, scalar: Scalar) -> str:
        return vector_of(held(scalar.dtype), self.loop.lanes(scalar))

    def _asked_for_ahead(self) -> list[Scalar]:
        """Of each array that edges point to, the load that reads most."""
        found: dict[tuple[object, ...], Scalar] = {}
        for scalar in self.loop.scalars:
            if scalar.op != "load" or self.loop.edge not in scalar.axes or not any(map(is_computed, scalar.args)):
                continue
            if any(each.op not in ("inside", "load") for each in scalar.args if is_computed(each)):
                continue
            key = (scalar.attribute, *(each for each in scalar.args if is_computed(each)))
            if key not in found or self.loop.lanes(found[key]) < self.loop.lanes(scalar):
                found[key] = scalar
        return list(found.values())

    def write(self) -> str:
        """The module's text."""
        arguments = {"descriptor": "ptr noalias", "counter": "ptr", "scratch": "ptr noalias"}
        self.f = f = Function(self.module, "segments", arguments)
        with f.flags("contract"):
            self._write()
        return self.module.text()

    def _write(self) -> None:
        f = self.f
        self.slots = slots = read_slots(f, self.layout.places)
        self.bounds, self.starts, self.order = (slots[each, "pointer"] for each in POINTERS)
        self.values = SegmentValues(f, self.loop, self.form, slots, self.layout.lengths)
        for scalar in self.loop.scalars:
            if self.values.is_fixed(scalar):
                self.values.compute(scalar)
        nothing = [f.constant(0.0, type_) for type_ in self.seen]
        nothing = self._watched(list(self.values.fixed), [f.constant(0, "i1"), *nothing])

        def next_task(carried: State) -> tuple[Value, State]:
            task = f.atomic_add(f["counter"], 1)
            return f.compare("<", task, slots["tasks"]), [task, *carried]

        outside, *found = f.repeat(nothing, next_task, lambda values: self._task(values[0], values[1:]))[1:]
        for each in found:
            outside = f.or_(outside, f.any_lane(f.is_nan(each)))
        place = f.offset(f["descriptor"], 8 * self.layout.places["trouble"])
        f.when(outside, lambda: f.store(f.constant(1, "i64"), place))
        f.ret()

    # --- rows

    def _task(self, task: Value, seen: State) -> State:
        f = self.f
        first = self._entry(self.bounds, task)
        stop = self._entry(self.bounds, f.add(task, 1))
        zeros = [f.constant(0.0, self._wide(output.value)) for output in self.totals for _ in (0, 1)]
        sums = len(zeros)

        def row(number: Value, carried: State) -> State:
            return [*self._row(number, carried[:sums], carried[sums:])]

        carried = f.loop(first, stop, 1, [*zeros, *seen], row)
        for number, output in enumerate(self.totals):
            total, lost = carried[2 * number : 2 * number + 2]
            value = f.add(total, lost)
            pointer = self.slots["out", self.loop.outputs.index(output), "pointer"]
            axes = [axis for axis in output.small if axis is not None]
            value = self.values.spread_value(value, self.loop.small_axes(output.value), axes)
            f.store(value, f.offset(pointer, f.mul(task, bytes_of(value.type))))
        return carried[sums:]

    def _entry(self, pointer: Value, index: Value) -> Value:
        return self.f.load(self.f.offset(pointer, self.f.shl(index, 3)), "i64")

    def _row(self, row: Value, totals: State, seen: State) -> State:
        f = self.f
        self.begin, self.end = self._entry(self.starts, row), self._entry(self.starts, f.add(row, 1))
        self.values.start_row(row, f.compare("<", self.begin, self.end))
        for number, each in enumerate(self.passes):
            seen = self._row_values(each.before, seen)
            seen = self._pass(each, seen, is_first=number == 0)
        roots = [output.value for output in self.loop.outputs if output.extent != "edge"]
        seen = self._row_values(row_values(self.loop, roots), seen)
        for number, output in enumerate(self.loop.outputs):
            if output.extent == "row":
                self._store(number, row)
        sums: State = []
        for number, output in enumerate(self.totals):
            sums += added(f, totals[2 * number], totals[2 * number + 1], self.values.value(output.value))
        return [*sums, *seen]

    def _row_values(self, scalars: list[Scalar], seen: State) -> State:
        """Compute what is wanted of the row, and watch it."""
        fresh = [each for each in scalars if self.values.known(each) is None]
        for scalar in fresh:
            self.values.compute(scalar)
        return self._watched(fresh, seen)

    def _store(self, number: int, place: Value) -> None:
        """Write a result of a row or an edge."""
        f, output = self.f, self.loop.outputs[number]
        axes = [axis for axis in output.small if axis is not None]
        value = self.values.spread(output.value, axes)
        value = f.convert(value, "i8") if value.element == "i1" else value
        f.store(value, f.offset(self.slots["out", number, "pointer"], f.mul(place, bytes_of(value.type))))

    # --- watches

    def _watched(self, scalars: list[Scalar], seen: State) -> State:
        """What was seen, and with it these values: NaN where one leaves the range of numbers."""
        f, (outside, *seen) = self.f, seen
        for scalar in scalars:
            if scalar.op == "inside":
                outside = f.or_(outside, self.values.outside(scalar))
            kind = self.loop.watches.get(scalar)
            if kind is None:
                continue
            value = self.values.value(scalar)
            place = self.seen.index(value.type)
            if kind == "finite":
                seen[place] = f.add(seen[place], f.mul(value, 0.0))
                continue
            axes = self.loop.small_axes(scalar)
            wrong = leaves_numbers(f, kind, value, (self.values.spread(each, axes) for each in scalar.args))
            nan, zero = f.constant(math.nan, value.type), f.constant(0.0, value.type)
            seen[place] = f.add(seen[place], f.select(wrong, nan, zero))
        return [outside, *seen]

    # --- passes

    def _pass(self, each: Pass, seen: State, *, is_first: bool) -> State:
        f = self.f
        sums = [one for one in each.reductions if one.attribute[0] == "sum"]
        peaks = [one for one in each.reductions if one.attribute[0] != "sum"]
        zeros = [f.constant(0.0, self._type(one.args[0])) for one in sums]
        rest = [*(f.constant(-math.inf, self._type(one.args[0])) for one in peaks), *seen]
        is_long = f.compare(">", f.sub(self.end, self.begin), _BLOCK)

        def edges(first: Value, stop: Value, carried: State) -> State:
            return f.loop(first, stop, 1, carried, lambda at, state: self._edge(each, at, state, is_first))

        def block(first: Value, carried: State) -> State:
            stop = f.min(f.add(first, _BLOCK), self.end)
            state = edges(first, stop, [*zeros, *carried[len(sums) :]])
            f.when(is_long, lambda: self._put_by(sums, state, f.compare("==", first, self.begin)))
            return state

        if sums:
            state = f.loop(self.begin, self.end, _BLOCK, [*zeros, *rest], block)
        else:
            state = edges(self.begin, self.end, rest)
        # A short row's sums are those of its one block; -0 becomes 0, as where it is added to 0.
        short = [f.add(value, 0.0) for value in state[: len(sums)]]
        whole = f.if_else(is_long, lambda: self._put_together(sums), lambda: short) if sums else []
        self.values.of_row.update(zip([*sums, *peaks], [*whole, *state[len(sums) :]], strict=False))
        return self._watched(each.reductions, state[len(sums) + len(peaks) :])

    def _put_by(self, sums: list[Scalar], state: State, is_first: Value) -> None:
        """Add the sums of a block to those of the blocks before: long rows are rare, so these lie in memory."""
        f = self.f
        for place, one, value in zip(self._places(sums), sums, state, strict=False):
            nothing = f.constant(0.0, self._wide(one))
            before = [f.select(is_first, nothing, f.load(each, nothing.type)) for each in place]
            for each, more in zip(place, added(f, before[0], before[1], value), strict=True):
                f.store(more, each)

    def _put_together(self, sums: list[Scalar]) -> State:
        """The sums of all blocks."""
        f = self.f
        pairs = [
            [f.load(each, self._wide(one)) for each in place]
            for place, one in zip(self._places(sums), sums, strict=True)
        ]
        return [f.convert(f.add(*pair), held(one.dtype)) for one, pair in zip(sums, pairs, strict=True)]

    def _places(self, sums: list[Scalar]) -> list[tuple[Value, Value]]:
        """Where a long row's sums lie, and what was rounded away of them."""
        f, found, ahead = self.f, [], 0
        for one in sums:
            size = _whole_lines(bytes_of(self._wide(one)))
            found.append((f.offset(f["scratch"], ahead), f.offset(f["scratch"], ahead + size)))
            ahead += 2 * size
        return found

    def _wide(self, scalar: Scalar) -> str:
        return vector_of("double", self.loop.lanes(scalar))

    def _edge(self, each: Pass, at: Value, state: State, is_first: bool) -> State:
        f, values = self.f, self.values
        if is_first:
            self._ask_ahead(at)
        values.start_edge(self._edge_at(at), at)
        room = f.offset(f["scratch"], f.add(f.mul(f.sub(at, self.begin), self.edge_bytes), self.row_bytes))
        for scalar in each.kept:
            type_ = vector_of(_in_memory(held(scalar.dtype)), self.loop.lanes(scalar))
            raw = f.load(f.offset(room, self.rooms[scalar]), type_)
            values.of_edge[scalar] = f.convert(raw, "i1") if held(scalar.dtype) == "i1" else raw
        for scalar in each.scalars:
            values.compute(scalar)
        for scalar in each.fills:
            value = values.value(scalar)
            value = f.convert(value, "i8") if value.element == "i1" else value
            f.store(value, f.offset(room, self.rooms[scalar]))
        reductions = sorted(each.reductions, key=lambda one: one.attribute[0] != "sum")
        state = list(state)
        for number, one in enumerate(reductions):
            value = values.value(one.args[0])
            combine: Callable[[Value, Value], Value] = f.add if one.attribute[0] == "sum" else f.max_nan
            state[number] = combine(state[number], value)
        for number in each.stored:
            assert values.edge is not None
            self._store(number, values.edge)
        seen = self._watched(each.scalars, state[len(reductions) :])
        return [*state[: len(reductions)], *seen]

    def _edge_at(self, at: Value) -> Value:
        """The edge at a place of the order by rows."""
        return at if self.form.is_sorted else self._entry(self.order, at)

    # --- what is asked for ahead

    def _ask_ahead(self, at: Value) -> None:
        """Rows of other arrays that edges soon point to, of this row or the next ones."""
        if not self.ahead:
            return
        f, values = self.f, self.values
        place = f.min(f.add(at, _AHEAD), f.sub(self.slots["edges"], 1))
        values.start_edge(self._edge_at(place), place)
        for load in self.ahead:
            for each in load.args:
                if is_computed(each):
                    for one in _indices(each):
                        if values.known(one) is None:
                            values.compute(one)
            pointer, offsets, moving = values.address(load)
            if moving is not None:
                continue
            size = bytes_of(self.form.types[values.inputs[load.attribute]])
            lines = range(min(offsets), max(offsets) + size, _LINE)
            for line in list(lines)[:_MOST_LINES]:
                f.prefetch(f.offset(pointer, line))


def _indices(index: Scalar) -> list[Scalar]:
    """What an index takes, arguments first."""
    found: list[Scalar] = []
    for each in index.args:
        found += _indices(each) if each.op in ("inside", "load", "length") else []
    return [*found, index]


def _whole_lines(size: int) -> int:
    return -(-size // _LINE) * _LINE


def _in_memory(element: str) -> str:
    return "i8" if element == "i1" else element
