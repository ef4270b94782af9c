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
from .few_rows_addresses import addresses
from .few_rows_ahead import Ahead
from .few_rows_lanes import Lanes, plain_place
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
        self.packed, self.inner, self.loads = self._parts()
        self.brought = [each for each in below([self.body]) if self._is_brought(each)]
        self.along_columns = not self._lies_along_small()
        self.ahead = Ahead(writer, [] if self.along_columns else self.loads, self.small)
        self.width = -(-self.small.length // writer.lanes) * writer.lanes
        self.dots = writer.operands.allocate(0 if self.along_columns else writer.lanes * writer.block_rows)

    def _parts(self) -> tuple[list[Scalar], list[Scalar], list[Scalar]]:
        """Parts that rows pack, parts that do not vary over the small axis, loads that columns bring."""
        columns = self.writer.sweep.columns
        packed: dict[Scalar, None] = {}
        inner: dict[Scalar, None] = {}
        loads: dict[Scalar, None] = {}
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
                stack += each.args
        return list(packed), [each for each in inner if not each.is_constant], list(loads)

    def _is_brought(self, scalar: Scalar) -> bool:
        """Whether it is a value of a column along the small axis, whatever the row."""
        sweep = self.writer.sweep
        return sweep.columns in scalar.axes and self.small in scalar.axes and sweep.rows not in scalar.axes

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

    def fill(self, column: Value, last: Value | None) -> None:
        """Contract a group of neighbouring columns with all rows: `dots` holds a lane for each column then.

        Args:
            column: The first.
            last: The last one that there is, if that may be before the group's.
        """
        if self.along_columns:
            return
        f, rows, sizes = self.writer.f, self.writer.rows, self.writer.sizes
        most = min(sizes.together, self.writer.lanes)
        many = f.and_(rows, -most) if most > 1 else rows
        f.loop(0, many, most, [], lambda row, _: self._fill_rows(column, last, row, most))
        if most > 1:
            f.loop(many, rows, 1, [], lambda row, _: self._fill_rows(column, last, row, 1))

    def _fill_rows(self, column: Value, last: Value | None, row: Value, rows: int) -> None:
        """Some rows: as many columns at once as make a sum for each lane with them."""
        f, lanes = self.writer.f, self.writer.lanes
        columns = lanes // rows

        asks = f.and_(self.ahead.is_needed(False), f.compare("==", row, 0))
        asks = f.constant(0, "i1") if last is not None else asks

        def some(first: Value) -> None:
            at = f.add(column, first)
            if rows > 1 and self.ahead.loads and last is None:
                total = self._sums(at, last, row, (rows, columns), self.ahead.pointers(at, columns, asks))
            else:
                (total,) = f.if_else(
                    asks,
                    lambda: [self._sums(at, last, row, (rows, columns), self.ahead.pointers(at, columns))],
                    lambda: [self._sums(at, last, row, (rows, columns))],
                )
            for number in range(rows):
                part = total if rows == 1 else f.shuffle(total, range(number * columns, (number + 1) * columns))
                at = f.add(f.mul(f.add(row, number), lanes), first)
                f.store(part, f.offset(self.dots, f.shl(at, 2)))

        if rows == 1:
            some(f.constant(0, "i64"))
        else:
            f.loop(0, lanes, columns, [], lambda first, _: some(first))

    def _sums(
        self,
        column: Value,
        last: Value | None,
        row: Value,
        counts: tuple[int, int],
        ahead: list[list[Value]] | None = None,
    ) -> Value:
        """The contractions of some rows, each with the same columns side by side; ``ahead``: where to ask meanwhile."""
        f, writer = self.writer.f, self.writer
        rows, columns = counts
        numbers = [f.add(column, number) for number in range(columns)]
        places: list[Place] = [{writer.sweep.columns: each if last is None else f.min(each, last)} for each in numbers]
        pointers = self._pointers(column, last, columns)
        packs = [f.add(row, number) for number in range(rows)]
        wholes = [{**writer.row_place(each), **place} for each in packs for place in places]
        memos = [dict(scalars) for scalars in map(writer.row_scalars, packs) for _ in places]
        for whole, memo in zip(wholes, memos, strict=True):
            for part in self.inner:
                if part not in memo and writer.operands.fixed(part) is None:
                    memo[part] = writer.operands.scalar(part, whole, memo)

        def chunks(firsts: list[Value], sums: list[Value], valid: Value | None) -> list[Value]:
            # Lines of memory are asked for and read in their order, one column after the other: as processors foresee.
            for column_ahead, (place, first) in itertools.product(ahead or (), enumerate(firsts)):
                self.ahead.ask(column_ahead, first, place)
            after = list(sums)
            for number, first in itertools.product(range(columns), firsts):
                brought: dict[Scalar, Value] = {}
                for place in range(number, len(sums), columns):
                    lanes = Lanes(
                        writer,
                        self.small,
                        first,
                        wholes[place],
                        known={**self._packed(packs[place // columns], first), **brought},
                        scalars=dict(memos[place]),
                        pointers=pointers[number],
                        valid=valid,
                    )
                    after[place] = self._added(lanes, after[place])
                    # What the column brings is the same for the next row: widened, and freed of its zero point, too.
                    brought.update((part, lanes.known[part]) for part in self.brought if part in lanes.known)
            return after

        sums = [f.constant(0.0, writer.vector)] * writer.lanes
        return sum_lanes(f, writer.in_chunks_of(self.small.length, _MOST_CHUNKS, sums, chunks))

    def _packed(self, row: Value, first: Value) -> dict[Scalar, Value]:
        """A vector of each of a row's parts."""
        f = self.writer.f
        return {
            leaf: f.load(f.offset(self._row_part(leaf, row), f.shl(first, 2)), self.writer.vector, aligned=True)
            for leaf in self.packed
        }

    def _pointers(self, column: Value, last: Value | None, count: int) -> list[dict[Scalar, Value]]:
        """For each column, where the elements of its loads begin."""
        found: list[dict[Scalar, Value]] = [{} for _ in range(count)]
        for load in self.loads:
            if self.writer.sweep.rows in load.axes or plain_place(load, self.small) is None:
                continue
            each = addresses(self.writer, load, self.small, column, count, last=last)
            for pointers, address in zip(found, each, strict=True):
                pointers[load] = address
        return found

    def value(self, column: Value, row: Value, valid: Value | None) -> Value:
        """The contraction of a row with the columns from ``column`` on, a lane for each."""
        if self.along_columns:
            return self._by_steps(column, row, valid)
        f, lanes = self.writer.f, self.writer.lanes
        return f.load(f.offset(self.dots, f.mul(row, 4 * lanes)), self.writer.vector, aligned=True)

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
