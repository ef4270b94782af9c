"""Where the elements of neighbouring columns begin: a stride apart, or some of them, as in the pages of a pool.

What varies over the columns by ``column // n`` alone is the same for ``n`` of them, and ``column % n`` grows by one:
inside such a run a pointer is the one before and a stride, and what a page table says is read once for it.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from ..scalar import Axis, Scalar
from .few_rows_lanes import plain_place
from .llvm import Value

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter

# Where a sweep's columns begin at least, so that runs do: a multiple of this.
ALIGNMENT = 16


class Run(NamedTuple):
    """Columns that lie a stride apart.

    Attributes:
        place: The index of the array that grows by one from column to column.
        length: How many there are from each multiple of it on, a divisor of `ALIGNMENT`; 0 if it is all of them.
    """

    place: int
    length: int

    def within(self, count: int) -> int:
        """Of so many columns from a multiple of it on, how many lie in a run."""
        return math.gcd(self.length, count)


def run_of(load: Scalar, columns: Axis) -> Run | None:
    """How a load's columns lie, or None if each may lie anywhere."""
    place = plain_place(load, columns)
    if place is not None:
        return Run(place, 0)
    remainders = [place for place, index in enumerate(load.args) if _divided(index, "remainder", columns) is not None]
    if len(remainders) != 1:
        return None
    length = _divided(load.args[remainders[0]], "remainder", columns) or 0
    others = [index for place, index in enumerate(load.args) if place != remainders[0]]
    run = math.gcd(length, ALIGNMENT)
    if run == 1 or not all(_is_same_in_runs(each, columns, length) for each in others):
        return None
    return Run(remainders[0], run)


def _divided(index: Scalar, op: str, columns: Axis) -> int | None:
    """The number n of ``column // n`` or ``column % n``."""
    if index.op != op or index.args[0].op != "axis" or index.args[0].attribute is not columns:
        return None
    divisor = index.args[1]
    return int(divisor.attribute) if divisor.is_constant and divisor.attribute > 0 else None


def _is_same_in_runs(index: Scalar, columns: Axis, length: int) -> bool:
    """Whether it varies over the columns by ``column // length`` alone."""
    stack, seen = [index], {index}
    while stack:
        each = stack.pop()
        if columns not in each.axes or _divided(each, "floor_divide", columns) == length:
            continue
        if not each.args:
            return False
        stack += [part for part in each.args if part not in seen]
        seen.update(each.args)
    return True


def addresses(
    writer: "FewRowsWriter", load: Scalar, small: Axis, column: Value, count: int, *, last: Value | None = None
) -> list[Value]:
    """Pointers to the elements of neighbouring columns at place 0 of a small axis.

    Args:
        writer: The kernel's.
        load: What is read.
        small: The axis.
        column: The first of them: a multiple of ``count``, or of `ALIGNMENT`.
        count: How many.
        last: The last column that there is, which stands for those behind it; None if all are there.
    """
    f, ops, columns = writer.f, writer.operands, writer.sweep.columns
    run = run_of(load, columns)
    together = 1 if run is None or last is not None else run.within(count)
    found: list[Value] = []
    for number in range(0, count, together):
        first = f.add(column, number)
        first = first if last is None else f.min(first, last)
        pointer = ops.address(load, {**ops.batch, columns: first}, {}, without=small)
        stride = ops.stride(load, run.place) if run is not None and together > 1 else None
        found += [pointer] if stride is None else writer.neighbours(pointer, stride, together)
    return found
