"""Step D of pair bodies: a few columns' vectors stay in registers, beside their sums, while rows pass by."""

from typing import TYPE_CHECKING

from ..scalar import Scalar
from .llvm import Value
from .pair_body import PairBody
from .tile import plain_axis

if TYPE_CHECKING:
    from .column_sums import ColumnSums, Place

# Registers for a weight, and for what is computed of it.
_SPARE = 4


class PairSums:
    """Writes step D for one result of columns whose rows and columns meet in a body.

    Args:
        sums: What writes that step of the sweep.
        place: The result.
    """

    def __init__(self, sums: "ColumnSums", place: "Place") -> None:
        self.sums, self.place, self.writer = sums, place, sums.writer
        self.pair = PairBody(self.writer, place.total)
        registers = self.writer.module.target.registers
        self.vectors = 4 if registers >= 32 else 2
        held = self.vectors * (1 + len(self.pair.columns))
        self.columns = max(1, (registers - _SPARE - self.vectors * len(self.pair.rows)) // held)
        # Columns whose elements are no neighbours are collected here.
        scattered = [leaf for leaf in self.pair.columns if not self._is_plain(leaf)]
        self.collected = {leaf: self.writer.operands.allocate(self.writer.padded(place.width)) for leaf in scattered}

    def _is_plain(self, leaf: Scalar) -> bool:
        return plain_axis(self.writer, leaf, self.pair.small) is not None

    def some(self, start: Value, at: Value, first: int, vectors: int, columns: int) -> list[Value]:
        """What all rows of the block add to some vectors of some columns."""
        sums, writer, f = self.sums, self.writer, self.writer.f
        place, count = self.place, columns * vectors
        weights = f.offset(
            writer.weights.buffers[place.total.group, place.total.weight], f.mul(at, writer.block_rows * 4)
        )
        held = [self._column(f.add(f.add(start, at), column), first, vectors) for column in range(columns)]

        def row(number: Value, totals: list[Value]) -> list[Value]:
            rows = [
                {leaf: sums.row_vector(place, leaf, number, first + n * writer.lanes) for leaf in self.pair.rows}
                for n in range(vectors)
            ]
            found = []
            for column in range(columns):
                here = f.offset(f.offset(weights, f.shl(number, 2)), column * writer.block_rows * 4)
                weight = f.splat(f.load(here, "float"), writer.lanes)
                for n in range(vectors):
                    (body,) = self.pair.values({**rows[n], **held[column][n]})
                    found.append(f.fma(weight, body, totals[column * vectors + n]))
            return found

        return sums.over_rows([f.constant(0.0, writer.vector)] * count, row)

    def _column(self, column: Value, first: int, vectors: int) -> list[dict[Scalar, Value]]:
        """Some vectors of what a column brings."""
        f, ops, sums = self.writer.f, self.writer.operands, self.sums
        at = {**ops.batch, self.writer.sweep.columns: column}
        found: list[dict[Scalar, Value]] = [{} for _ in range(vectors)]
        for leaf in self.pair.columns:
            if self._is_plain(leaf):
                line = ops.address(leaf, at, {}, without=self.pair.small)
            else:
                line = self.collected[leaf]

                def one(index: Value, _: list[Value], leaf: Scalar = leaf, line: Value = line) -> None:
                    f.store(ops.scalar(leaf, {**at, self.pair.small: index}, {}), f.offset(line, f.shl(index, 2)))

                f.loop(0, self.place.width, 1, [], one)
            for n, values in enumerate(found):
                values[leaf] = sums.load(self.place, line, first + n * self.writer.lanes)
        return found
