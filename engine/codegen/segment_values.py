"""Values of a loop over segments as instructions: all that lies along small axes is one vector.

A value that does not vary over small axes is a number; one that varies over heads alone has a lane for each head. Where
values of different axes meet, lanes are repeated; where a small axis is reduced, lanes are added as a tree of halves.
"""

import itertools
import math
from collections.abc import Callable, Sequence

from ..lengths import estimate
from ..passes.lower_loop import affine
from ..scalar import Axis, Scalar
from ..segment_loop import SegmentLoop, is_computed
from .apply import RULES
from .llvm import Function, Value
from .loop_values import as_read, computed, program_number
from .segment_layout import SegmentForm
from .values import bytes_of, constants, vector_of

# Lanes of several rows of a small table that are read at once, to be put in order.
_MOST_SPREAD = 2


class SegmentValues:
    """Values of the call, of a row, and of an edge.

    Args:
        f: The function being written.
        loop: Its loop.
        form: The call's form.
        slots: The descriptor.
        lengths: Slots of lengths.
    """

    def __init__(
        self,
        f: Function,
        loop: SegmentLoop,
        form: SegmentForm,
        slots: dict[object, Value],
        lengths: dict[Scalar, tuple[str, int]],
    ) -> None:
        self.f, self.loop, self.form, self.slots, self.lengths = f, loop, form, slots, lengths
        self.inputs = {node: number for number, node in enumerate(loop.inputs)}
        self.row: Value | None = None
        self.edge: Value | None = None
        self.place: Value | None = None
        self.fixed: dict[Scalar, Value] = {}
        self.of_row: dict[Scalar, Value] = {}
        self.of_edge: dict[Scalar, Value] = {}
        self.occupied = f.constant(0, "i1")

    def start_row(self, row: Value, occupied: Value) -> None:
        """From here on values are those of this row, which has edges or none."""
        self.row, self.occupied, self.of_row = row, occupied, {}

    def start_edge(self, edge: Value, place: Value) -> None:
        """From here on values are those of this edge as well, at this place of the order."""
        self.edge, self.place, self.of_edge = edge, place, {}

    def known(self, scalar: Scalar) -> Value | None:
        """The value, if it has been computed."""
        return self.of_edge.get(scalar) or self.of_row.get(scalar) or self.fixed.get(scalar)

    def value(self, scalar: Scalar) -> Value:
        """The value, computed now if it takes nothing but positions and numbers."""
        found = self.known(scalar)
        return self.compute(scalar) if found is None else found

    def is_fixed(self, scalar: Scalar) -> bool:
        """Whether it is the same for all rows."""
        return (
            scalar.is_constant
            or scalar.op == "length"
            or (
                scalar.op not in ("load", "reduce", "axis", "occupied")
                and all(each in self.fixed for each in scalar.args)
            )
        )

    def compute(self, scalar: Scalar) -> Value:
        """The value of a scalar whose arguments are known."""
        value = self._computed(scalar)
        known = self.fixed if self.is_fixed(scalar) else self.of_edge if self.loop.edge in scalar.axes else self.of_row
        known[scalar] = value
        return value

    def _computed(self, scalar: Scalar) -> Value:
        f = self.f
        if scalar.is_constant:
            return program_number(f, scalar, self.slots)
        if scalar.op == "length":
            return self.slots[self.lengths[scalar]]
        if scalar.op == "axis":
            return self._position(scalar.attribute)
        if scalar.op == "load":
            return self._loaded(scalar)
        if scalar.op == "inside":
            return RULES["inside"](f, *self._index_and_length(scalar))
        if scalar.op == "reduce":
            return self._reduced(scalar)
        if scalar.op == "occupied":
            return self.occupied
        axes = self.loop.small_axes(scalar)
        return computed(f, scalar, [self.spread(each, axes) for each in scalar.args])

    def outside(self, scalar: Scalar) -> Value:
        """Whether the index that an ``inside`` holds lies outside."""
        return self.f.any_lane(RULES["outside"](self.f, *self._index_and_length(scalar)))

    def _index_and_length(self, inside: Scalar) -> tuple[Value, Value]:
        index, length = self.index(inside.args[0]), self.value(inside.args[1])
        return index, self.f.splat(length, index.lanes)

    def _position(self, axis: Axis) -> Value:
        if axis is self.loop.row:
            assert self.row is not None
            return self.row
        if axis is self.loop.edge:
            assert self.edge is not None
            return self.edge
        return self.f.iota(int(axis.length), "i64")

    def index(self, scalar: Scalar) -> Value:
        """A value as an index of 64 bits."""
        return self.f.convert(self.value(scalar), "i64", unsigned=scalar.dtype.kind == "u")

    # --- lanes

    def spread(self, scalar: Scalar, axes: Sequence[Axis]) -> Value:
        """The value with a lane for each place along ``axes``, of which its own are some."""
        own = self.loop.small_axes(scalar)
        return self.spread_value(self.value(scalar), own, axes)

    def spread_value(self, value: Value, own: Sequence[Axis], axes: Sequence[Axis]) -> Value:
        """As `spread`, of a value with lanes for the axes ``own``."""
        if list(own) == list(axes):
            return value
        if not own:
            return self.f.splat(value, math.prod(int(axis.length) for axis in axes))
        if value.constant is not None:
            return self.f.constant(value.constant, vector_of(value.element, _lanes(axes)))
        lanes = [_lane(dict(zip(axes, place, strict=True)), own) for place in _places(axes)]
        return self.f.shuffle(value, lanes, "spread")

    def _reduced(self, scalar: Scalar) -> Value:
        """Along a small axis: halves are added until one is left."""
        f, (kind, axis) = self.f, scalar.attribute
        axes = sorted({*self.loop.small_axes(scalar.args[0]), axis}, key=self.loop.places.__getitem__)
        value = self.spread(scalar.args[0], axes)
        place = axes.index(axis)
        inner = _lanes(axes[place + 1 :])
        outer, length = _lanes(axes[:place]), int(axis.length)
        combine: Callable[[Value, Value], Value] = f.add if kind == "sum" else f.max_nan

        def part(whole: Value, count: int, first: int, some: int) -> Value:
            lanes = [
                (before * count + first + each) * inner + after
                for before in range(outer)
                for each in range(some)
                for after in range(inner)
            ]
            return whole if len(lanes) == whole.lanes else f.shuffle(whole, lanes, "part")

        while length > 1:
            half = length // 2
            rest = part(value, length, 2 * half, 1) if length % 2 else None
            value = combine(part(value, length, 0, half), part(value, length, half, half))
            if rest is not None:
                first = combine(part(value, half, 0, 1), rest)
                value = first if half == 1 else self._with_first(value, first, outer, half, inner)
            length = half
        return value

    def _with_first(self, value: Value, first: Value, outer: int, count: int, inner: int) -> Value:
        """The value with the first of ``count`` parts replaced."""
        widened = first if first.lanes == value.lanes else self._widened(first, value.lanes)
        lanes = []
        for before, each, after in itertools.product(range(outer), range(count), range(inner)):
            own = (before * count + each) * inner + after
            lanes.append(own if each else value.lanes + before * inner + after)
        return self.f.shuffle(value, lanes, "joined", widened)

    def _widened(self, value: Value, lanes: int) -> Value:
        return (
            self.f.splat(value, lanes)
            if value.lanes == 1
            else self.f.shuffle(value, [lane % value.lanes for lane in range(lanes)])
        )

    # --- memory

    def _loaded(self, load: Scalar) -> Value:
        f = self.f
        type_ = self.form.types[self.inputs[load.attribute]]
        pointer, offsets, moving = self.address(load)
        lanes = self.loop.lanes(load)
        if moving is not None:
            steps = f.add(moving, constants(offsets, "i64")) if len(offsets) > 1 else f.add(moving, offsets[0])
            return as_read(f, load, f.gather(f.offset(pointer, steps), type_))
        size = bytes_of(type_)
        first, last = min(offsets), max(offsets)
        span = (last - first) // size + 1
        if span <= max(_MOST_SPREAD * lanes, 1) and all((each - first) % size == 0 for each in offsets):
            raw = f.load(f.offset(pointer, first), vector_of(type_, span))
            order = [(each - first) // size for each in offsets]
            value = raw if order == list(range(span)) else f.shuffle(raw, order, "ordered")
            return as_read(f, load, value)
        return as_read(f, load, f.gather(f.offset(pointer, constants(offsets, "i64")), type_))

    def address(self, load: Scalar) -> tuple[Value, list[int], Value | None]:
        """Where a load reads: an address, for each lane how far from it, and what is added to these if it varies."""
        f, node = self.f, load.attribute
        axes = self.loop.small_axes(load)
        size = bytes_of(self.form.types[self.inputs[node]])
        pointer = self.slots["in", self.inputs[node], "pointer"]
        offsets = [0] * _lanes(axes)
        moving: Value | None = None
        for number, index in enumerate(load.args):
            stride = size * math.prod(int(length) for length in node.shape[number + 1 :])
            small = self.loop.small_axes(index)
            fixed = self._lane_indices(index, axes)
            steps = affine(index)
            if fixed is not None:
                offsets = [have + stride * more for have, more in zip(offsets, fixed, strict=True)]
            elif steps is not None:
                ahead, known = steps
                for axis, step in known.items():
                    if axis is self.loop.row or axis is self.loop.edge:
                        place = self.place if node in self.loop.numbers_of_edges else self._position(axis)
                        assert place is not None
                        pointer = f.offset(pointer, f.mul(place, step * stride))
                places = [dict(zip(axes, each, strict=True)) for each in _places(axes)]
                more = [ahead + sum(known.get(axis, 0) * at for axis, at in each.items()) for each in places]
                offsets = [have + stride * each for have, each in zip(offsets, more, strict=True)]
            elif not small:
                pointer = f.offset(pointer, f.mul(self.index(index), stride))
            else:
                more_ = self.spread_value(f.mul(self.index(index), stride), small, axes)
                moving = more_ if moving is None else f.add(moving, more_)
        return pointer, offsets, moving

    def _lane_indices(self, index: Scalar, axes: Sequence[Axis]) -> list[int] | None:
        """An index that is known for each lane; None if it is not."""
        if is_computed(index) or self.loop.row in index.axes or self.loop.edge in index.axes:
            return None
        found = []
        for place in _places(axes):
            number = _evaluated(index, dict(zip(axes, place, strict=True)))
            if number is None:
                return None
            found.append(number)
        return found


def _evaluated(index: Scalar, place: dict[Axis, int]) -> int | None:
    """Index arithmetic at one place."""
    if index.op == "constant":
        return int(index.attribute)
    if index.op == "axis":
        return place[index.attribute]
    args = [_evaluated(each, place) for each in index.args]
    known = [each for each in args if each is not None]
    rule = _INDEX_RULES.get(index.op)
    return None if rule is None or len(known) < len(args) else rule(*known)


_INDEX_RULES: dict[str, Callable[..., int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "negative": lambda a: -a,
    "floor_divide": lambda a, b: a // b,
    "remainder": lambda a, b: a % b,
    "astype": lambda a: a,
}


def _lanes(axes: Sequence[Axis]) -> int:
    return math.prod(int(estimate(axis.length)) for axis in axes)


def _places(axes: Sequence[Axis]) -> list[tuple[int, ...]]:
    """All places along some axes, the last one running quickest: the order of lanes."""
    return list(itertools.product(*(range(int(axis.length)) for axis in axes)))


def _lane(place: dict[Axis, int], axes: Sequence[Axis]) -> int:
    lane = 0
    for axis in axes:
        lane = lane * int(axis.length) + place[axis]
    return lane
