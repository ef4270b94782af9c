"""Short rows that a loop only reduces: as many at once as a vector has lanes, so that their numbers are one vector.

Each row is a vector. Halves of two rows are added, then halves of what two such pairs make, until every row has one
lane left: the additions of a single row, in the same order, but for all rows at once. What is made of a row's numbers
is computed, watched and stored as a vector, too.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..scalar import Scalar
from .compensated import added
from .llvm import Function, Value
from .loop_passes import row_scalars
from .loop_values import computed, held
from .values import bytes_of, vector_of

if TYPE_CHECKING:
    from .loop import LoopWriter, State


class RowsTogether:
    """Writes groups of rows for a loop's writer."""

    def __init__(self, writer: "LoopWriter") -> None:
        self.writer, self.count = writer, writer.lanes

    @staticmethod
    def fits(writer: "LoopWriter") -> bool:
        """Whether rows are short and only reduced, and nothing else is read for what is made of the sums."""
        loop = writer.loop
        if not writer.is_short or writer.lanes < 2 or writer.form.axes < 1 or len(writer.passes) != 1:
            return False
        if any(loop.inner in output.axes or held(output.value.dtype) == "i1" for output in loop.outputs):
            return False
        finals = row_scalars([output.value for output in loop.outputs])
        leaves = [each for each in finals if not each.args or each.op in ("load", "axis", "reduce")]
        return all(each.is_constant or each.op == "reduce" for each in leaves)

    def write(self, coordinates: "State", seen: "State") -> "State":
        """A group that lies along the last axis, from a row with these coordinates on."""
        writer, f = self.writer, self.writer.f
        base = writer.pointers_of(coordinates)
        (each,) = writer.passes
        sums = [one for one in each.reductions if one.attribute[0] == "sum"]
        peaks = [one for one in each.reductions if one.attribute[0] != "sum"]
        begin = [f.constant(0.0, writer.vector(one)) for one in sums]
        begin += [f.constant(-math.inf, writer.vector(one)) for one in peaks]
        rows: list[list[Value]] = []
        for number in range(self.count):
            *others, last = coordinates
            writer.scalars.start_row([*others, f.add(last, number)], self._moved(base, number))
            seen = writer.row_values(each.before, seen)
            writer.spread_before(each)
            state = writer.vectors(each, f.constant(0, "i64"), [*begin, *seen], 1, None)
            rows.append(state[: len(begin)])
            seen = state[len(begin) :]
        writer.scalars.start_row(list(coordinates), base)
        self._reduce(sums, peaks, rows)
        seen = writer.watched(each.reductions, writer.scalars.known, seen)
        return self._store(base, seen)

    def _moved(self, base: dict[tuple[str, int], Value], number: int) -> dict[tuple[str, int], Value]:
        """Pointers of a row so many places on."""
        f, slots, last = self.writer.f, self.writer.slots, self.writer.form.axes - 1
        return {key: f.offset(pointer, f.mul(slots[*key, last], number)) for key, pointer in base.items()}

    def _reduce(self, sums: list[Scalar], peaks: list[Scalar], rows: Sequence[Sequence[Value]]) -> None:
        """The numbers of all rows, a vector for each reduction."""
        writer, f = self.writer, self.writer.f
        zero = f.constant(0.0, vector_of("double", self.count))
        for place, one in enumerate(sums):
            parts = [added(f, zero, zero, row[place]) for row in rows]
            is_double = held(one.dtype) == "double"
            vectors = [f.add(total, lost) if is_double else total for total, lost in parts]
            writer.scalars.row[one] = f.convert(across(f, f.add, vectors), held(one.dtype))
        for place, one in enumerate(peaks, len(sums)):
            writer.scalars.row[one] = across(f, f.max_nan, [row[place] for row in rows])

    def _store(self, base: dict[tuple[str, int], Value], seen: "State") -> "State":
        writer, f = self.writer, self.writer.f
        for number, output in enumerate(writer.loop.outputs):
            for scalar in row_scalars([output.value]):
                if writer.scalars.known(scalar) is None:
                    args = [self._value(each) for each in scalar.args]
                    writer.scalars.row[scalar] = computed(f, scalar, args)
                    seen = writer.watched([scalar], self._value, seen)
            value = self._value(output.value)
            step = writer.slots["out", number, writer.form.axes - 1]
            self._store_vector(value, base["out", number], step)
        return seen

    def _value(self, scalar: Scalar) -> Value:
        """The value of each row of the group."""
        found = self.writer.scalars.known(scalar)
        assert found is not None
        return found if found.lanes == self.count else self.writer.scalars.spread(scalar, self.count)

    def _store_vector(self, value: Value, pointer: Value, step: Value) -> None:
        f = self.writer.f

        def apart() -> None:
            for lane in range(self.count):
                f.store(f.extract(value, lane), f.offset(pointer, f.mul(step, lane)))

        f.if_else(f.compare("==", step, bytes_of(value.element)), lambda: f.store(value, pointer), apart)


def across(f: Function, combine: Callable[[Value, Value], Value], rows: Sequence[Value]) -> Value:
    """Of as many vectors as they have lanes the reduction of each, in the order of `Function.reduce`."""
    parts, lanes = list(rows), len(rows)
    segment = lanes  # lanes that belong to one row
    while len(parts) > 1:
        half = segment // 2
        lows = [start + lane for start in range(0, 2 * lanes, segment) for lane in range(half)]
        highs = [lane + half for lane in lows]
        parts = [
            combine(f.shuffle(left, lows, "lows", right), f.shuffle(left, highs, "highs", right))
            for left, right in zip(parts[::2], parts[1::2], strict=True)
        ]
        segment = half
    return parts[0]
