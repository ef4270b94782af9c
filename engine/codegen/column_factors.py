"""What a result of columns is multiplied by when its sum has ended: numbers, what columns bring, what elements have."""

from typing import TYPE_CHECKING

from ..ir import UnfusableError
from ..scalar import Axis, Scalar, below
from ..sweep import Output
from .llvm import Value

if TYPE_CHECKING:
    from .sweep import SweepWriter


def factors_of(output: Output) -> list[Scalar]:
    """The factors of the sum, or of several sums added up, that a result of columns is a multiple of.

    Raises:
        UnfusableError: If there is more to it.
    """
    found: list[Scalar] = []
    value = output.value
    while value.op == "multiply":
        waiting = [each for each in value.args if each.waits]
        found += [each for each in value.args if not each.waits]
        value = waiting[0]
        if len(waiting) != 1:
            break
    added, stack = list[Scalar](), [value]
    while stack:
        each = stack.pop()
        if each.op == "add":
            stack += each.args
        else:
            added.append(each)
    # Each sum is added to the result once: one that is to count twice would not.
    if {each.op for each in added} != {"accumulator"} or len(set(added)) < len(added):
        raise UnfusableError("a result of columns that is more than sums added up")
    if any(each.op == "reduce" for each in below(found)):
        raise UnfusableError("a result of columns that is more than a multiple of a sum")
    return [each for each in found if not (each.is_constant and each.attribute == 1)]


class ColumnFactor:
    """The factors of one result, evaluated behind the loop over the blocks of rows.

    Args:
        writer: The sweep's.
        output: A result of columns.
    """

    def __init__(self, writer: "SweepWriter", output: Output) -> None:
        self.writer, self.small = writer, output.small
        self.factors = factors_of(output)
        ops = writer.operands
        # What is fixed for the task was computed within that loop: here it has to be computed anew.
        ops.start_task(ops.batch, ops.row_first, ops.row_stop, self.factors)

    @property
    def is_fixed(self) -> bool:
        """Whether it is the same for all columns and elements."""
        return all(self.writer.operands.fixed(each) is not None for each in self.factors)

    def times(self, value: Value, place: dict[Axis, Value]) -> Value:
        """A number of the result, multiplied."""
        for each in self.factors:
            value = self.writer.f.mul(value, self.writer.operands.scalar(each, place, {}))
        return value

    def vectors(self, column: Value, room: Value | None, width: int) -> list[Value]:
        """The factors of all elements of a column, by whole vectors; in ``room`` they are collected, if they differ."""
        writer, f = self.writer, self.writer.f
        one, starts = f.constant(1.0, "float"), range(0, width, writer.lanes)
        place = {**writer.operands.batch, writer.sweep.columns: column}
        if room is None:
            return [f.splat(self.times(one, place), writer.lanes)] * len(starts)
        small = self.small
        assert small is not None

        def element(index: Value, _: list[Value]) -> None:
            f.store(self.times(one, {**place, small: index}), f.offset(room, f.shl(index, 2)))

        f.loop(0, width, 1, [], element)
        return [f.load(f.offset(room, 4 * start), writer.vector, aligned=True) for start in starts]
