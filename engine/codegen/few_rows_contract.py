"""Contractions of one row with neighbouring columns: a vector with a lane for each column.

Where a column's elements lie side by side, vectors run along the contracted axis, one sum for each column,
and a tree of shuffles adds up the lanes of all of them at once. Where the columns themselves lie side by
side, vectors run over them from the start.
"""

import functools
import itertools
from typing import TYPE_CHECKING

from ..ir import UnfusableError
from ..scalar import Axis, Scalar, below
from ..types import is_float
from .few_rows_ahead import Ahead
from .few_rows_lanes import Lanes, plain_place
from .few_rows_widened import Widened, is_widened
from .llvm import Function, Value
from .operands import Place
from .values import bits_of

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter

# A shorter axis is contracted step by step, whatever its elements' places.
_FEWEST_STEPS = 4
# Vectors along the contracted axis that are written out in a row.
_MOST_CHUNKS = 8
# Sums that a contraction step by step is spread over: chains that do not wait for each other.
_CHAINS = 4


def sum_lanes(f: Function, vectors: list[Value]) -> Value:
    """As many vectors as they have lanes, each added up: lane n is the sum of vector n.

    Every stage puts halves of two vectors side by side and adds: first inside the 128 bits that x86 shuffles
    within, then whole groups of them.
    """
    lanes = vectors[0].lanes
    group = min(lanes, 128 // bits_of(vectors[0].element))
    while len(vectors) > 1:
        inside = lanes // len(vectors) < group
        step = 1 if inside else group
        evens, odds = _halves(lanes, group, step, 0), _halves(lanes, group, step, 1)
        pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
        vectors = [f.add(f.shuffle(a, evens, right=b), f.shuffle(a, odds, right=b)) for a, b in pairs]
    return vectors[0]


def _halves(lanes: int, group: int, step: int, odd: int) -> list[int]:
    """Every other element (step 1) of each group of two vectors, or every other group of them."""
    if step == 1:
        chosen: list[int] = []
        for start, vector in itertools.product(range(0, lanes, group), (0, lanes)):
            chosen += range(vector + start + odd, vector + start + group, 2)
        return chosen
    return [start + place for start in range(odd * group, 2 * lanes, 2 * group) for place in range(group)]


class Contraction:
    """Writes one contraction: its rows packed once for a task, then a vector for each row and group of columns."""

    def __init__(self, writer: "FewRowsWriter", scalar: Scalar) -> None:
        self.writer, self.scalar = writer, scalar
        (self.body,) = scalar.args
        self.small: Axis = scalar.attribute[1]
        self.packed, self.inner, self.loads, widened = self._parts()
        self.along_columns = not self._lies_along_small()
        self.widened = Widened(writer, () if self.along_columns else widened, self.small)
        self.ahead = Ahead(writer, [] if self.along_columns else self.loads, self.small)
        self.width = -(-self.small.length // writer.lanes) * writer.lanes

    def _parts(self) -> tuple[list[Scalar], list[Scalar], list[Scalar], list[Scalar]]:
        """Parts that rows pack, parts that do not vary over the small axis, loads that columns bring, what is widened."""
        columns = self.writer.sweep.columns
        packed: dict[Scalar, None] = {}
        inner: dict[Scalar, None] = {}
        loads: dict[Scalar, None] = {}
        widened: dict[Scalar, None] = {}
        stack = [self.body]
        while stack:
            each = stack.pop()
            if self.small not in each.axes:
                inner[each] = None
            elif columns not in each.axes and is_float(each.dtype) and self._has_load(each):
                packed[each] = None
            elif each.op == "load":
                if columns in each.axes:
                    loads[each] = None
            else:
                if is_widened(self.writer, each, self.small):
                    widened[each] = None
                stack += each.args
        outermost = [each for each in widened if not any(each in other.args for other in widened)]
        return list(packed), [each for each in inner if not each.is_constant], list(loads), outermost

    def _has_load(self, scalar: Scalar) -> bool:
        return any(each.op == "load" for each in below([scalar]))

    def _lies_along_small(self) -> bool:
        """Whether a column's elements are neighbours, and enough of them."""
        if self.writer.lanes == 1 or self.small.length < _FEWEST_STEPS:
            return False
        return all(self._is_unit(load, self.small) for load in self.loads) or not any(
            self._is_unit(load, self.writer.sweep.columns) for load in self.loads
        )

    def _is_unit(self, load: Scalar, axis: Axis) -> bool:
        place = plain_place(load, axis)
        return place is not None and self.writer.is_unit(load, place)

    # --- rows

    def pack(self, rows: Value) -> None:
        """The rows' parts, side by side along the small axis; zeros behind their end."""
        writer, f = self.writer, self.writer.f
        for leaf in self.packed:
            if leaf in writer.packs:
                continue
            varies = writer.sweep.rows in leaf.axes
            pack = writer.packs[leaf] = writer.operands.allocate(self.width * (writer.block_rows if varies else 1))
            count = rows if varies else f.constant(1, "i64")
            f.loop(0, count, 1, [], functools.partial(self._pack_row, leaf, pack))

    def _pack_row(self, leaf: Scalar, pack: Value, row: Value, _: list[Value]) -> None:
        writer, f = self.writer, self.writer.f
        target = f.offset(pack, f.mul(row, 4 * self.width))
        place, scalars = writer.row_place(row), writer.row_scalars(row)

        def chunk(first: Value, valid: Value | None) -> None:
            value = Lanes(writer, self.small, first, place, scalars=dict(scalars), valid=valid)(leaf)
            if valid is not None:
                value = f.select(valid, value, f.constant(0.0, value.type))
            f.store(value, f.offset(target, f.shl(first, 2)), aligned=True)

        writer.in_chunks(self.small.length, chunk)

    def _row_part(self, leaf: Scalar, row: Value) -> Value:
        """Where a row's pack begins."""
        f, varies = self.writer.f, self.writer.sweep.rows in leaf.axes
        pack = self.writer.packs[leaf]
        return f.offset(pack, f.mul(row, 4 * self.width)) if varies else pack

    # --- columns

    def addresses(self, places: list[Place], spread: bool) -> list[dict[Scalar, Value]]:
        """For each column, where the elements of its loads begin.

        Args:
            places: The columns.
            spread: Whether they follow each other.
        """
        if self.along_columns:
            return []
        ops, columns = self.writer.operands, self.writer.sweep.columns
        found: list[dict[Scalar, Value]] = [{} for _ in places]
        for load in self.loads:
            if self.writer.sweep.rows in load.axes or plain_place(load, self.small) is None:
                continue
            place = plain_place(load, columns)
            if not spread or place is None:
                for number, each in enumerate(places):
                    found[number][load] = ops.address(load, each, {}, without=self.small)
                continue
            stride = ops.stride(load, place)
            pointer = ops.address(load, places[0], {}, without=self.small)
            for pointers, address in zip(found, self.writer.neighbours(pointer, stride, len(places)), strict=True):
                pointers[load] = address
        return found

    def value(
        self, column: Value, places: list[Place], pointers: list[dict[Scalar, Value]], row: Value, valid: Value | None
    ) -> Value:
        """The contraction of a row with the columns from ``column`` on, a lane for each."""
        if self.along_columns:
            return self._by_steps(column, row, valid)
        f, writer = self.writer.f, self.writer
        at_row = writer.row_place(row)
        scalars = writer.row_scalars(row)
        memos = [dict(scalars) for _ in places]
        wholes = [{**at_row, **place} for place in places]
        for whole, memo in zip(wholes, memos, strict=True):
            for part in self.inner:
                if part not in memo and writer.operands.fixed(part) is None:
                    memo[part] = writer.operands.scalar(part, whole, memo)

        def chunk(first: Value, sums: list[Value], valid: Value | None) -> list[Value]:
            packs = {
                leaf: f.load(f.offset(self._row_part(leaf, row), f.shl(first, 2)), writer.vector, aligned=True)
                for leaf in self.packed
            }
            after = []
            for number, total in enumerate(sums):
                known = {**packs, **self.widened.at(number, first)}
                lanes = Lanes(
                    writer,
                    self.small,
                    first,
                    wholes[number],
                    known=known,
                    scalars=dict(memos[number]),
                    pointers=pointers[number],
                    valid=valid,
                )
                after.append(self._added(lanes, total))
            return after

        sums = [f.constant(0.0, writer.vector)] * writer.lanes
        sums = writer.in_chunks_of(self.small.length, _MOST_CHUNKS, sums, chunk)
        return sum_lanes(f, sums)

    def _by_steps(self, column: Value, row: Value, valid: Value | None) -> Value:
        f, writer = self.writer.f, self.writer
        place, scalars = writer.row_place(row), writer.row_scalars(row)

        def steps(index: Value, sums: list[Value], count: int) -> list[Value]:
            after = list(sums)
            for number in range(count):
                at = f.add(index, number)
                packs = {
                    leaf: f.splat(f.load(f.offset(self._row_part(leaf, row), f.shl(at, 2)), "float"), writer.lanes)
                    for leaf in self.packed
                }
                lanes = Lanes(
                    writer,
                    writer.sweep.columns,
                    column,
                    {**place, self.small: at},
                    known=packs,
                    scalars=dict(scalars),
                    valid=valid,
                )
                after[number] = self._added(lanes, after[number])
            return after

        chains = min(_CHAINS, self.small.length)
        whole = self.small.length // chains * chains
        sums = [f.constant(0.0, writer.vector)] * chains
        sums = f.loop(0, whole, chains, sums, lambda index, carried: steps(index, carried, chains))
        sums = f.loop(whole, self.small.length, 1, sums, lambda index, carried: steps(index, carried, 1))
        while len(sums) > 1:
            sums = [
                f.add(*sums[place : place + 2]) if place + 1 < len(sums) else sums[place]
                for place in range(0, len(sums), 2)
            ]
        return sums[0]

    def _added(self, lanes: Lanes, total: Value) -> Value:
        """``total + body``, as a multiply-add where the body is a product."""
        f, body = self.writer.f, self.body
        if not is_float(body.dtype):
            raise UnfusableError(f"a sum of {body.dtype} inside a tile")
        if body.op in ("multiply", "square"):
            left, right = (lanes(each) for each in (body.args * 2)[:2])
            after = f.fma(left, right, total)
        else:
            after = f.add(total, lanes(body))
        return after if lanes.valid is None or self.along_columns else f.select(lanes.valid, after, total)
