"""What rows bring along a small axis, for a block of them: transposed, so that vectors run over rows.

Rows hold it the other way, neighbours along the small axis. So vectors along that axis are read, or computed from such
vectors, and squares of them transposed; what is left over, or is not read so, is computed one by one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..order import postorder
from ..scalar import Axis, Scalar
from ..types import BOOL, FLOAT32, UINT64, is_float
from .apply import apply
from .llvm import Value
from .transpose import transpose
from .values import vector_of

if TYPE_CHECKING:
    from .operands import Operands, Place

# What is no function of floats of the same place.
_OTHER = frozenset({"axis", "length", "call", "astype", "reduce", "accumulator", "maximum_of"})


class RowPack:
    """Writes one pack, ``pack[e][row]``.

    Args:
        operands: The task's, where the pack has its room.
        leaf: The value of rows and the small axis.
        small: That axis.
    """

    def __init__(self, operands: "Operands", leaf: Scalar, small: Axis) -> None:
        self.operands, self.f = operands, operands.f
        self.leaf, self.small, self.pack = leaf, small, operands.packs[leaf]
        self.lanes = operands.lanes
        self.whole = small.length // self.lanes * self.lanes if self.lanes > 1 else 0
        self.parts = _computed(leaf)

    def write(self) -> None:
        """The whole pack."""
        load, scale = _scaled_load(self.leaf)
        done = self.whole
        if done and load is not None and self._is_plain(load):
            self._read(load, scale)
        elif done and self._is_of_vectors():
            self._computed()
        else:
            done = 0
        if done < self.small.length:
            self.f.loop(0, self.operands.block, 1, [], lambda row, _: self._one_by_one(row, done))

    def _read(self, load: Scalar, scale: Scalar | None) -> None:
        """Rows are read where they lie, perhaps widened."""
        f, ops, itemsize = self.f, self.operands, load.dtype.itemsize
        for vector in range(ops.vectors):
            first = vector * self.lanes
            rows = [self._address(load, self._place(first + lane)) for lane in range(self.lanes)]

            def element(row: Value, start: Value) -> Value:
                return f.convert(ops.read(load, f.offset(row, f.mul(start, itemsize)), self.lanes), "float")

            self._transposed(rows, element, scale, vector)

    def _place(self, row: "Value | int") -> "Place":
        """A row of the block; of those beyond its end the last one."""
        ops, f = self.operands, self.f
        return {**ops.batch, ops.sweep.rows: f.min(f.add(ops.row_first, row), f.sub(ops.row_stop, 1))}

    def _address(self, load: Scalar, place: "Place") -> Value:
        return self.operands.address(load, place, {}, without=self.small)

    def _is_plain(self, load: Scalar) -> bool:
        """Whether the small axis is one index of its own, its elements neighbours."""
        places = [axis for axis, index in enumerate(load.args) if self.small in index.axes]
        if len(places) != 1 or load.args[places[0]].op != "axis":
            return False
        return self.operands.is_unit(load, places[0])

    def _is_of_vectors(self) -> bool:
        """Whether neighbours along the small axis make a vector: floats, of floats that are neighbours or the same."""
        for each in self.parts:
            if not is_float(each.dtype) or each.op in _OTHER:
                return False
            is_narrow = each.op == "load" and each.dtype.itemsize != 4
            if is_narrow or (each.op == "load" and self.small in each.axes and not self._is_plain(each)):
                return False
        return True

    def _computed(self) -> None:
        """Rows are computed one by one, and then transposed as if they were read."""
        f, size = self.f, 4 * self.whole
        room, whole = self.operands.allocate(self.lanes * self.whole), vector_of("float", self.lanes)

        def row(lane: Value, vector: int) -> None:
            element = self._vectors(self._place(f.add(lane, vector * self.lanes)))
            start_of_row = f.offset(room, f.mul(lane, size))

            def elements(start: Value, _: list[Value]) -> None:
                ahead = f.shl(start, 2)
                f.store(element(ahead), f.offset(start_of_row, ahead), aligned=True)

            f.loop(0, self.whole, self.lanes, [], elements)

        for vector in range(self.operands.vectors):
            f.loop(0, self.lanes, 1, [], lambda lane, _, vector=vector: row(lane, vector))  # type: ignore[misc]
            rows = [f.offset(room, lane * size) for lane in range(self.lanes)]
            self._transposed(rows, lambda row, start: f.load(f.offset(row, f.shl(start, 2)), whole), None, vector)

    def _vectors(self, place: "Place") -> Callable[[Value], Value]:
        """What makes the vector of one row that stands so many bytes ahead."""
        ops, f = self.operands, self.f
        inside = [each for each in self.parts if self.small in each.axes]
        needed = {argument for each in inside if each.op != "load" for argument in each.args} - set(inside)
        same = {each: f.splat(ops.scalar(each, place, {}), self.lanes) for each in self.parts if each in needed}
        pointers = {each: self._address(each, place) for each in inside if each.op == "load"}

        def element(ahead: Value) -> Value:
            memo = dict(same)
            for each in inside:
                if each.op == "load":
                    memo[each] = ops.read(each, f.offset(pointers[each], ahead), self.lanes)
                else:
                    memo[each] = apply(f, each, [memo[argument] for argument in each.args])
            return memo[self.leaf]

        return element

    def _transposed(
        self, rows: list[Value], element: Callable[[Value, Value], Value], scale: Scalar | None, vector: int
    ) -> None:
        """The whole vectors of as many rows as a vector has lanes: what one at an address has from an element on."""
        f, lanes, block = self.f, self.lanes, self.operands.block

        def columns(start: Value, _: list[Value]) -> None:
            values = [element(row, start) for row in rows]
            if scale is not None:
                fixed = self.operands.fixed(scale)
                assert fixed is not None
                factor = f.splat(fixed, lanes)
                values = [f.mul(value, factor) for value in values]
            target = f.offset(self.pack, f.mul(start, block * 4))
            for number, value in enumerate(transpose(f, values)):
                f.store(value, f.offset(target, (number * block + vector * lanes) * 4), aligned=True)

        f.loop(0, self.whole, lanes, [], columns)

    def _one_by_one(self, row: Value, start: int) -> None:
        f, ops = self.f, self.operands
        place = self._place(row)

        def element(index: Value, _: list[Value]) -> None:
            value = ops.scalar(self.leaf, {**place, self.small: index}, {})
            f.store(value, f.offset(self.pack, f.shl(f.add(f.mul(index, ops.block), row), 2)))

        f.loop(start, self.small.length, 1, [], element)


def _computed(leaf: Scalar) -> list[Scalar]:
    """What an element takes, arguments first; not what lies in the indices of loads."""
    return postorder([leaf], lambda scalar: () if scalar.op == "load" else scalar.args)


def _scaled_load(leaf: Scalar) -> tuple[Scalar | None, Scalar | None]:
    """A leaf that is a load, perhaps widened, or that times a number."""
    scale = None
    if leaf.op == "multiply" and any(each.is_constant for each in leaf.args):
        leaf, scale = leaf.args if leaf.args[1].is_constant else leaf.args[::-1]
    if leaf.op == "astype" and leaf.dtype == FLOAT32:
        (leaf,) = leaf.args
        if leaf.dtype == UINT64:  # not what signed integers become
            return None, None
    return (leaf, scale) if leaf.op == "load" and leaf.dtype != BOOL else (None, None)
