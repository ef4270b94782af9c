"""Values of neighbouring places along one axis, one a lane, at one place along all other axes.

Tile values have lanes along the columns, what is contracted or accumulated lanes along the small axis:
the same code evaluates both.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..ir import UnfusableError
from ..scalar import Axis, Scalar
from ..types import BOOL
from .apply import apply, convert
from .llvm import Value
from .operands import Place, memory_type
from .values import vector_of

if TYPE_CHECKING:
    from .writer import Writer


def plain_place(load: Scalar, axis: Axis) -> int | None:
    """Which index of an array the axis itself is, if it stands in no other; else None."""
    places = [place for place, index in enumerate(load.args) if axis in index.axes]
    return places[0] if len(places) == 1 and load.args[places[0]].op == "axis" else None


def slope(index: Scalar, axis: Axis) -> int | None:
    """How much an index grows from place to place along an axis, or None if that varies."""
    if axis not in index.axes:
        return 0
    if index.op == "axis":
        return 1
    if index.op in ("add", "subtract"):
        left, right = (slope(each, axis) for each in index.args)
        if left is None or right is None:
            return None
        return left + right if index.op == "add" else left - right
    return None


def repeats(index: Scalar, axis: Axis, lanes: int) -> int | None:
    """How many lanes have the same place, where ``index`` is the axis divided by a number; else None.

    Lanes along a small axis begin at multiples of their number: a vector holds whole groups, or lies in one.
    """
    if index.op != "floor_divide" or index.args[0].op != "axis" or index.args[0].attribute is not axis:
        return None
    divisor = index.args[1].attribute if index.args[1].is_constant else 0
    return int(divisor) if divisor > 0 and (lanes % divisor == 0 or divisor % lanes == 0) else None


class Lanes:
    """Evaluates scalars along an axis. All that it writes stands on one straight line of code.

    Args:
        writer: The kernel's.
        axis: Where the lanes lie; None for one place, of one lane.
        first: The first lane's place along the axis.
        place: Places along the other axes.
        known: Values that are given: of contractions, packed operands, accumulators.
        scalars: Values at the place that are known already; grows.
        pointers: Addresses of loads at place 0 of the axis.
        valid: Lanes that exist; None if all do. Nothing is read for the others.
        holding: Conditions known to hold everywhere.
    """

    def __init__(
        self,
        writer: "Writer",
        axis: Axis | None,
        first: Value,
        place: Place,
        *,
        known: Mapping[Scalar, Value] | None = None,
        scalars: dict[Scalar, Value] | None = None,
        pointers: Mapping[Scalar, Value] | None = None,
        valid: Value | None = None,
        holding: Iterable[Scalar] = (),
    ) -> None:
        self.writer, self.axis, self.first, self.place = writer, axis, first, place
        self.lanes = 1 if axis is None else writer.lanes
        self.known = dict(known or {})
        self.scalars = {} if scalars is None else scalars
        self.pointers = pointers or {}
        self.valid, self.holding = valid, frozenset(holding)

    def __call__(self, root: Scalar) -> Value:
        """The value's lanes."""
        stack = [root]
        while stack:
            scalar = stack[-1]
            missing = [] if scalar in self.known else [each for each in self._parts(scalar) if each not in self.known]
            if missing:
                stack += reversed(missing)
                continue
            if scalar not in self.known:
                self.known[scalar] = self._computed(scalar)
            stack.pop()
        return self.known[root]

    def _varies(self, scalar: Scalar) -> bool:
        return (self.axis is not None and self.axis in scalar.axes) or self.writer.holds_result(scalar)

    def _parts(self, scalar: Scalar) -> list[Scalar]:
        """What is evaluated before it."""
        if scalar in self.holding or not self._varies(scalar):
            return []
        if scalar.op == "where" and scalar.args[0] in self.holding:
            return [scalar.args[1]]
        if scalar.op == "load":
            is_direct = self._step(scalar) is not None or self._repeats(scalar) is not None
            return [] if is_direct else [each for each in scalar.args if self._varies(each)]
        return list(scalar.args)

    def _computed(self, scalar: Scalar) -> Value:
        writer, f = self.writer, self.writer.f
        if scalar in self.holding:
            return f.constant(1, vector_of("i1", self.lanes))
        if not self._varies(scalar):
            return f.splat(self._scalar(scalar), self.lanes)
        if scalar.op == "axis":
            first = f.splat(f.convert(self.first, writer.integer), self.lanes)
            return f.add(first, f.iota(self.lanes, writer.integer)) if self.lanes > 1 else first
        if scalar.op == "where" and scalar.args[0] in self.holding:
            return self.known[scalar.args[1]]
        if scalar.op == "load":
            step, repeats = self._step(scalar), self._repeats(scalar)
            if repeats is not None:
                return self._repeated(scalar, repeats)
            return self._gathered(scalar) if step is None else self._neighbours(scalar, step)
        if scalar.op in ("reduce", "accumulator", "maximum_of"):
            raise UnfusableError(f"a {scalar.op} where nothing computes it")
        args = [self.known[each] for each in scalar.args]
        return convert(f, args[0], scalar, writer.integer) if scalar.op == "astype" else apply(f, scalar, args)

    def _scalar(self, scalar: Scalar) -> Value:
        ops = self.writer.operands
        found = self.scalars.get(scalar) or ops.fixed(scalar)
        return ops.scalar(scalar, self.place, self.scalars) if found is None else found

    # --- loads

    def _step(self, load: Scalar) -> int | None:
        """1 or -1 where the next lane's element lies just behind or before this lane's; else None."""
        assert self.axis is not None
        places = [place for place, index in enumerate(load.args) if self.axis in index.axes]
        if len(places) != 1 or not self.writer.is_unit(load, places[0]):
            return None
        step = slope(load.args[places[0]], self.axis)
        return step if step in (1, -1) else None

    def _repeats(self, load: Scalar) -> int | None:
        """How many neighbouring lanes share an element, if that is known of all of them."""
        assert self.axis is not None
        places = [place for place, index in enumerate(load.args) if self.axis in index.axes]
        if len(places) != 1 or self.axis is self.writer.sweep.columns:  # where blocks begin anywhere
            return None
        found = repeats(load.args[places[0]], self.axis, self.lanes)
        is_one = found is not None and found >= self.lanes
        return found if is_one or self.writer.is_unit(load, places[0]) else None

    def _repeated(self, load: Scalar, times: int) -> Value:
        """Each of some neighbouring elements in as many lanes as share it."""
        f, ops = self.writer.f, self.writer.operands
        assert self.axis is not None
        place = {**self.place, self.axis: self.first}
        pointer = ops.address(load, place, {})
        count = max(1, self.lanes // times)
        if count == 1:  # the first lane exists, if this is written at all
            return f.splat(self._as_read(load, f.load(pointer, memory_type(load))), self.lanes)
        type_, firsts = vector_of(memory_type(load), count), range(0, self.lanes, times)
        if self.valid is None:
            raw = f.load(pointer, type_)
        else:
            raw = f.load_masked(pointer, type_, f.shuffle(self.valid, firsts))
        return self._as_read(load, f.shuffle(raw, [lane // times for lane in range(self.lanes)]))

    def _neighbours(self, load: Scalar, step: int) -> Value:
        f, ops, size = self.writer.f, self.writer.operands, load.dtype.itemsize
        assert self.axis is not None
        if load in self.pointers:
            pointer = f.offset(self.pointers[load], f.mul(self.first, size))
        elif plain_place(load, self.axis) is not None:
            start = ops.address(load, self.place, self.scalars, without=self.axis)
            pointer = f.offset(start, f.mul(self.first, size))
        else:
            pointer = ops.address(load, {**self.place, self.axis: self.first}, {})
        type_ = vector_of(memory_type(load), self.lanes)
        valid = self.valid
        if step == -1:
            turned = range(self.lanes - 1, -1, -1)
            pointer = f.offset(pointer, -(self.lanes - 1) * size)
            valid = None if valid is None else f.shuffle(valid, turned)
        raw = f.load(pointer, type_) if valid is None else f.load_masked(pointer, type_, valid)
        return self._as_read(load, raw if step == 1 else f.shuffle(raw, turned))

    def _gathered(self, load: Scalar) -> Value:
        f, ops = self.writer.f, self.writer.operands
        pointer = ops.slot(("in", load.attribute, "pointer"))
        offsets = f.constant(0, vector_of("i64", self.lanes))
        for axis, index in enumerate(load.args):
            stride = ops.stride(load, axis)
            if self._varies(index):
                places = f.convert(self.known[index], "i64")
                offsets = f.add(offsets, f.mul(places, f.splat(stride, self.lanes)))
            else:
                pointer = f.offset(pointer, f.mul(f.convert(self._scalar(index), "i64"), stride))
        if self.lanes > 1:
            return self._as_read(load, f.gather(f.offset(pointer, offsets), memory_type(load), self.valid))
        return self._as_read(load, f.gather(f.offset(pointer, offsets), memory_type(load), self.valid))

    def _as_read(self, load: Scalar, raw: Value) -> Value:
        f = self.writer.f
        if load.dtype == BOOL:
            return f.compare("!=", raw, 0)
        if raw.is_float:
            return f.convert(raw, "float")
        return f.convert(raw, self.writer.integer, unsigned=load.dtype.kind == "u")
