"""Pair bodies in steps C and D: what a row and a column bring together, computed where it is summed.

For results of rows vectors run over rows: of a row's part the block has a pack ``[element][row]``, and a column's part
is a scalar for all rows. For results of columns they run over the small axis: rows are laid out one after the other,
and the vectors of a few columns stay in registers while all rows of the block pass by.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..passes.pair_body import pair_parts
from ..scalar import Scalar
from ..sweep import Accumulator, Sweep
from .accumulate import Accumulate
from .apply import apply, convert
from .llvm import Value
from .wide import split

if TYPE_CHECKING:
    from .sweep import SweepWriter


class PairBody:
    """The parts of bodies along one small axis, and their values from values of these.

    Args:
        writer: The sweep's.
        accumulators: What sums them. What several bodies are made of is computed once.
    """

    def __init__(self, writer: "SweepWriter", *accumulators: Accumulator) -> None:
        small = accumulators[0].small
        assert small is not None
        self.writer, self.small = writer, small
        self.bodies = [each.column for each in accumulators]
        taken = [pair_parts(body, writer.sweep, small) for body in self.bodies]
        self.rows = tuple(dict.fromkeys(leaf for parts in taken for leaf in parts.rows))
        self.columns = tuple(dict.fromkeys(leaf for parts in taken for leaf in parts.columns))
        self.steps = tuple(dict.fromkeys(step for parts in taken for step in parts.steps))

    def values(self, parts: dict[Scalar, Value]) -> list[Value]:
        """The bodies of vectors of their parts."""
        f, ops = self.writer.f, self.writer.operands
        known = dict(parts)
        for each in self.steps:
            for argument in each.args:
                if argument not in known:
                    fixed = ops.fixed(argument)
                    assert fixed is not None
                    known[argument] = f.splat(fixed, self.writer.lanes)
            args = [known[argument] for argument in each.args]
            if each.op == "astype":
                known[each] = convert(f, args[0], each, self.writer.integer)
            else:
                known[each] = apply(f, each, args)
        return [known[body] for body in self.bodies]

    def pack(self) -> None:
        """Transpose what rows bring, once for the block; what a contraction has packed is taken from there."""
        writer, ops = self.writer, self.writer.operands
        index = writer.elements.index(self.small)
        for leaf in self.rows:
            for contraction in writer.fill.contractions:
                other = contraction.attribute[1]
                if other.length == self.small.length and leaf not in ops.packs:
                    (same,) = writer.elements.substitute([leaf], {index: writer.elements.index(other)})
                    if same in ops.packs:
                        ops.packs[leaf] = ops.packs[same]
            ops.pack_rows(leaf, self.small)


def together(sweep: Sweep) -> list[list[Accumulator]]:
    """Sums of pair bodies for rows, those beside each other that share an axis, and so what they are made of."""
    found: dict[object, list[Accumulator]] = {}
    for each in sweep.paired:
        if not each.of_columns:
            found.setdefault((each.small, each.group), []).append(each)
    return list(found.values())


class PairAccumulate:
    """Step C of pair bodies: what rows bring to some elements stays in registers while the columns pass by.

    Args:
        writer: The sweep's.
        accumulators: Sums along one small axis, of one group.
        start: The block's first column.
        size: How many columns it has.
        rescale: What the totals are multiplied by before, for each vector of rows; None for nothing.
    """

    def __init__(
        self,
        writer: "SweepWriter",
        accumulators: Sequence[Accumulator],
        start: Value,
        size: Value,
        rescale: list[Value] | None,
    ) -> None:
        self.writer, self.size = writer, size
        self.sums = [Accumulate(writer, each, start, size, rescale) for each in accumulators]
        self.keys = list(dict.fromkeys(each.key for each in self.sums))
        self.pair = PairBody(writer, *accumulators)

    def write(self) -> None:
        """All elements, as many at a time as registers hold beside the weights."""
        vectors = self.writer.schedule.vectors
        room = self.writer.module.target.registers - vectors * len(self.keys) - 2
        most = max(1, room // (vectors * (len(self.sums) + len(self.pair.rows))))
        width = 1 << (most.bit_length() - 1)
        f, length = self.writer.f, int(self.pair.small.length)
        whole = length // width * width
        f.loop(0, whole, width, [], lambda first, _: self._some(first, width))
        if whole < length:
            self._some(f.constant(whole, "i64"), length - whole)

    def _some(self, first: Value, width: int) -> None:
        writer, f = self.writer, self.writer.f
        count = width * writer.schedule.vectors
        held = [self._held(f.mul(first, writer.block_rows * 4), place) for place in range(count)]

        def column(index: Value, totals: list[Value]) -> list[Value]:
            return self._added(index, first, width, held, totals)

        zeros = [f.constant(0.0, writer.vector)] * (count * len(self.sums))
        totals = writer.in_steps(self.size, writer.schedule.summed, zeros, column)
        for number, each in enumerate(self.sums):
            each.store(first, width, totals[number * count : (number + 1) * count])

    def _held(self, packed: Value, place: int) -> dict[Scalar, Value]:
        """A vector of each pack: those of an element lie one behind the other, and so do elements."""
        writer, f = self.writer, self.writer.f
        ahead = f.add(packed, place * writer.lanes * 4)
        return {
            leaf: f.load(f.offset(writer.operands.packs[leaf], ahead), writer.vector, aligned=True)
            for leaf in self.pair.rows
        }

    def _added(
        self, index: Value, first: Value, width: int, held: list[dict[Scalar, Value]], totals: list[Value]
    ) -> list[Value]:
        """What a column adds to some elements of all sums."""
        writer, f = self.writer, self.writer.f
        count, ahead = writer.schedule.vectors, f.mul(index, writer.block_rows * 4)
        weights = {
            key: split(f, f.load(f.offset(writer.weights.buffers[key], ahead), writer.block_vector), count)
            for key in self.keys
        }
        columns = {leaf: self.sums[0].column_values(leaf, index, first, width) for leaf in self.pair.columns}
        splats = {leaf: [f.splat(value, writer.lanes) for value in values] for leaf, values in columns.items()}
        found = list(totals)
        for place, rows in enumerate(held):
            here = {leaf: values[place // count] for leaf, values in splats.items()}
            bodies = self.pair.values({**rows, **here})
            for number, (each, body) in enumerate(zip(self.sums, bodies, strict=True)):
                at = number * len(held) + place
                found[at] = f.fma(body, weights[each.key][place % count], totals[at])
        return found
