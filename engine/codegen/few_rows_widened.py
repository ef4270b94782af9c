"""What columns bring to a contraction and is more than a load, computed once for a group of columns and all rows.

Keys of a narrow type are widened, freed of their zero point and scaled here: eight rows that did so for themselves would
do it eight times. What is left lies in a cache, column by column, as float32.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar, below
from ..types import is_float
from .few_rows_lanes import Lanes
from .llvm import Value
from .operands import Place

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter


def is_widened(writer: "FewRowsWriter", scalar: Scalar, small: Axis) -> bool:
    """Whether several rows take a value that a column has to compute first."""
    sweep = writer.sweep
    if sweep.rows.length == 1 or sweep.rows in scalar.axes or scalar.op == "load":
        return False
    return sweep.columns in scalar.axes and small in scalar.axes and is_float(scalar.dtype)


class Widened:
    """Values of columns along a small axis, ``room[column][e]`` for a group of columns.

    Args:
        writer: The kernel's.
        scalars: What is computed.
        small: The axis.
    """

    def __init__(self, writer: "FewRowsWriter", scalars: Iterable[Scalar], small: Axis) -> None:
        self.writer, self.small = writer, small
        lanes = writer.lanes
        self.width = -(-small.length // lanes) * lanes
        self.rooms = {each: writer.operands.allocate(self.width * lanes) for each in scalars}
        # Values of a column alone, such as its scale: read once, not once a vector.
        self.fixed = [part for part in dict.fromkeys(self._parts()) if not part.is_constant]

    def _parts(self) -> Iterable[Scalar]:
        for each in below([*self.rooms]):
            if self.small in each.axes and each.op != "load":
                yield from (part for part in each.args if self.small not in part.axes)

    def fill(self, places: list[Place], pointers: list[dict[Scalar, Value]]) -> None:
        """Compute the values of a group of columns."""
        writer, f, ops = self.writer, self.writer.f, self.writer.operands
        wholes = [{**ops.batch, **place} for place in places]
        memos: list[dict[Scalar, Value]] = [{} for _ in places]
        for whole, memo in zip(wholes, memos, strict=True):
            for part in self.fixed:
                if ops.fixed(part) is None:
                    memo[part] = ops.scalar(part, whole, memo)

        def chunk(first: Value, valid: Value | None) -> None:
            for number, whole in enumerate(wholes):
                scalars = dict(memos[number])
                lanes = Lanes(
                    writer, self.small, first, whole, scalars=scalars, pointers=pointers[number], valid=valid
                )
                for each in self.rooms:
                    f.store(lanes(each), self._place(each, number, first), aligned=True)

        if self.rooms:
            writer.in_chunks(self.small.length, chunk)

    def at(self, number: int, first: Value) -> dict[Scalar, Value]:
        """The values of a column of the group, a vector of them."""
        f, vector = self.writer.f, self.writer.vector
        return {each: f.load(self._place(each, number, first), vector, aligned=True) for each in self.rooms}

    def _place(self, scalar: Scalar, number: int, first: Value) -> Value:
        f = self.writer.f
        return f.offset(f.offset(self.rooms[scalar], number * self.width * 4), f.shl(first, 2))
