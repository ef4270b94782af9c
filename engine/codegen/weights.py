"""Step B: per column, weights ``exp(stored - maximum)`` times their factor, and the sums of them alone."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..scalar import Scalar
from ..sweep import Accumulator
from .llvm import Value
from .math import exp_less
from .values import vector_of
from .wide import repeat, split

if TYPE_CHECKING:
    from .sweep import SweepWriter

# An exponent's group, or None, and a factor: accumulators that have both share their weights.
Key = tuple[Scalar | None, Scalar]


class Weights:
    """Writes step B of one sweep: a weight is computed once, however many accumulators take it."""

    def __init__(self, writer: "SweepWriter") -> None:
        self.writer = writer
        self.buffers: dict[Key, Value] = {}
        for each in writer.sweep.accumulators:
            key = each.group, each.weight
            if key not in self.buffers:
                self.buffers[key] = self._buffer(each)
        self._largest: dict[Scalar, Value] = {}

    def _buffer(self, accumulator: Accumulator) -> Value:
        """Where the weights are left: in place, unless two exponents share a factor."""
        writer = self.writer
        if is_plain_weight(accumulator):
            assert accumulator.group is not None
            return writer.buffers[writer.groups[accumulator.group]]
        if accumulator.group is None:
            return writer.buffers[writer.factors[accumulator.weight]]
        return writer.operands.allocate(writer.schedule.block * writer.block_rows)

    def start(self, maxima: dict[Scalar, Value]) -> None:
        """Begin a block of columns, with the maximum of each group for the block's rows."""
        self._largest = maxima

    def write(self, group: Scalar | None, size: Value, sums: Sequence[Accumulator]) -> list[Value]:
        """All weights of a group, and what the block adds to each plain sum."""
        f, together = self.writer.f, self.writer.schedule.together
        steps = [together, 1] if together > 1 else [1]
        if any(key[0] is group for key in self.writer.products.words):  # two share a word
            steps = [together, 2, 1] if together > 2 else [2, 1]
        # Sums of a block start at 0: long sums of float32 one by one would lose digits.
        nothing = [f.constant(0.0, self.writer.block_vector)] * len(sums)
        done, totals = f.constant(0, "i64"), nothing
        for step in steps:
            columns = functools.partial(self._columns, group=group, sums=sums, number=step)
            stop = f.and_(size, -step)
            totals, done = f.loop(done, stop, step, totals, columns), stop
        return totals

    def _columns(
        self, column: Value, running: list[Value], group: Scalar | None, sums: Sequence[Accumulator], number: int
    ) -> list[Value]:
        weights = self._computed(group, column, number)
        added = []
        for total, each in zip(running, sums, strict=True):
            for part in split(self.writer.f, weights[each.group, each.weight], number):
                total = self.writer.f.add(total, part)
            added.append(total)
        return added

    def _computed(self, group: Scalar | None, column: Value, number: int) -> dict[Key, Value]:
        """All weights of a group for some columns, as one value of a block of rows each; they are stored, too."""
        writer = self.writer
        f = writer.f
        ahead = f.mul(column, writer.block_rows * 4)
        exponential: Value | None = None
        if group is not None:
            stored = self._load(writer.buffers[writer.groups[group]], ahead, number)
            exponential = exp_less(f, stored, repeat(f, self._largest[group], number))
        weights: dict[Key, Value] = {}
        for key, buffer in self.buffers.items():
            if key[0] is not group:
                continue
            value = exponential
            factor = writer.buffers.get(writer.factors[key[1]])
            if factor is not None:
                loaded = self._load(factor, ahead, number)
                value = loaded if value is None else f.mul(value, loaded)
            assert value is not None
            products = writer.products
            if key in products.words:
                products.store_weights(key, column, value, number)
            if group is not None and key not in products.replaced:
                f.store(value, f.offset(buffer, ahead))
            weights[key] = value
        return weights

    def _load(self, buffer: Value, ahead: Value, number: int) -> Value:
        f = self.writer.f
        return f.load(f.offset(buffer, ahead), vector_of("float", number * self.writer.block_rows))


def is_plain_weight(accumulator: Accumulator) -> bool:
    """Whether its weights are exponentials and nothing else."""
    return accumulator.weight.is_constant and accumulator.weight.attribute == 1 and accumulator.group is not None
