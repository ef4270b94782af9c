"""Step A: contract some columns with the block's rows, compute the tile values, store them, keep the maxima."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..ir import UnfusableError
from ..scalar import Axis, Scalar, below
from .llvm import Value
from .masks import Masks
from .pair_products import multiply_pairs, word_at
from .schedule import is_product
from .tile import TileValues
from .values import vector_of
from .watch import trace
from .wide import join, split

if TYPE_CHECKING:
    from .sweep import SweepWriter


# fmt: off
_SHORT = frozenset({
    "abs", "add", "astype", "axis", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "constant", "equal",
    "greater", "greater_equal", "less", "less_equal", "load", "logical_and", "logical_not", "logical_or",
    "logical_xor", "maximum", "minimum", "multiply", "negative", "not_equal", "reduce", "square", "subtract", "where",
})
# fmt: on


# Elements of a contraction that are summed for themselves, where an exponential is taken of its sum: there the error of
# the sum counts, which grows with its length, not that relative to it. Of products others make the same.
PIECE = 32


# A column's part of a contraction, as a function of the contracted index.
Sources = dict[tuple[Scalar, int], Callable[[Value], Value]]

_EXPONENTIALS = frozenset({"exp", "exp2_weight", "exp_weight"})


class Fill:
    """Writes step A of one sweep."""

    def __init__(self, writer: "SweepWriter") -> None:
        self.writer = writer
        tile = [*writer.groups.values(), *writer.factors.values()]
        self.contractions = [each for each in below(tile) if each.op == "reduce"]
        self._exponents = self._in_exponents(tile)
        # Functions of many instructions need registers, while contractions fill them all: those wait in memory.
        is_long = any(each.op not in _SHORT and writer.sweep.columns in each.axes for each in below(tile))
        size = writer.schedule.columns * writer.block_rows
        waits = is_long or writer.schedule.contracted < writer.vectors
        self.raw = {each: writer.operands.allocate(size) for each in self.contractions} if waits else {}

    def _of_float32(self) -> list[Scalar]:
        """Contractions but those that are products of pairs."""
        return [each for each in self.contractions if each not in self.writer.products.rows]

    def brought(self) -> dict[Scalar, Axis]:
        """What columns bring into contractions, and along which axis."""
        found: dict[Scalar, Axis] = {}
        for contraction in self._of_float32():
            small = contraction.attribute[1]
            found |= dict.fromkeys(self._leaves(contraction.args[0], small)[1], small)
        return found

    def pack(self) -> None:
        """Transpose what rows bring into contractions, once for the block."""
        for contraction in self._of_float32():
            small = contraction.attribute[1]
            for leaf in self._leaves(contraction.args[0], small)[0]:
                self.writer.operands.pack_rows(leaf, small)

    def _leaves(self, body: Scalar, small: Axis) -> tuple[list[Scalar], list[Scalar]]:
        """Maximal parts of a contraction's body that a row packs, and those that a column brings."""
        sweep = self.writer.sweep
        rows: dict[Scalar, None] = {}
        columns: dict[Scalar, None] = {}
        stack = [body]
        while stack:
            each = stack.pop()
            if small not in each.axes:
                continue
            if sweep.columns not in each.axes and sweep.rows in each.axes:
                rows[each] = None
            elif sweep.rows not in each.axes:
                columns[each] = None
            elif each.op == "load":
                raise UnfusableError("a load that varies over rows, columns and a contracted axis")
            else:
                stack += each.args
        return list(rows), list(columns)

    def group(self, column: Value, start: Value, running: list[Value], masks: Masks) -> list[Value]:
        """The values of a group of columns, without masks where they are known to hide nothing of it."""
        writer, f = self.writer, self.writer.f
        count = writer.schedule.columns
        writer.ahead.ask(column)
        # The last group begins earlier, rather than reach beyond the last column.
        limit = f.sub(writer.stop_column, count)
        at = f.min(column, limit)
        if not masks.roots:
            return self.tile(at, start, running, masks, True)
        full = f.and_(masks.is_full(column, f.add(column, count - 1)), f.compare("<=", column, limit))
        self._place = f.sub(at, start)
        return f.if_else(
            full,
            lambda: self.tile(at, start, running, masks, True),
            lambda: self.tile(at, start, running, masks, False),
        )

    def tile(self, column: Value, start: Value, running: list[Value], masks: Masks, full: bool) -> list[Value]:
        """The values of a group of columns; the running maxima with them."""
        writer, f = self.writer, self.writer.f
        count = writer.schedule.columns
        tile = TileValues(writer, column, count, masks, full)
        for contraction in self.contractions:
            if contraction in writer.products.rows:
                self._contract_pairs(contraction, tile)
            elif full or not writer.halves.sides:
                self._contract(contraction, tile)
            else:
                self._contract_visible(contraction, tile)
        if writer.watch.is_needed:
            for contraction, buffer in self.raw.items():
                for number in range(count):
                    place = f.offset(buffer, number * writer.block_rows * 4)
                    tile.known[contraction, number] = f.load(place, writer.block_vector)
            running = [*running[:-1], self._watched(tile, running[-1])]
        base = f.mul(f.sub(column, start), writer.block_rows * 4)
        if not self.raw:
            for number in range(count):
                running = self._finish(tile, number, f.add(base, number * writer.block_rows * 4), running)
            return running

        def finish(number: Value, maxima: list[Value]) -> list[Value]:
            ahead = f.mul(number, writer.block_rows * 4)
            one = TileValues(writer, f.add(column, number), 1, masks, full)
            for contraction, buffer in self.raw.items():
                one.known[contraction, 0] = f.load(f.offset(buffer, ahead), writer.block_vector)
            return self._finish(one, 0, f.add(base, ahead), maxima)

        return f.loop(0, count, 1, running, finish)

    def _watched(self, tile: TileValues, nothing: Value) -> Value:
        for number in range(self.writer.schedule.columns):
            nothing = trace(self.writer, self.writer.watch, functools.partial(tile.value, number=number), nothing)
        return nothing

    def _finish(self, tile: TileValues, number: int, ahead: Value, running: list[Value]) -> list[Value]:
        """Compute and store the values of one column."""
        writer, f = self.writer, self.writer.f
        maxima = list(running)
        groups = list(writer.groups.values())
        for target, buffer in writer.buffers.items():
            value = tile.value(target, number)
            if target in groups:
                place = groups.index(target)
                maxima[place] = f.max(value, maxima[place])
            f.store(value, f.offset(buffer, ahead))
        return maxima

    def _in_exponents(self, tile: Sequence[Scalar]) -> set[Scalar]:
        """Contractions of other bodies than products that are parts of exponents."""
        writer, pair = self.writer, self.writer.sweep.pair
        exponents = [*writer.groups.values()]
        exponents += [each.args[0] for each in below(tile) if each.op in _EXPONENTIALS and pair <= each.axes]
        parts = set(below(exponents))
        return {each for each in self.contractions if each in parts and not is_product(each, pair)}

    def _in_pieces(
        self, length: int, piece: int, count: int, step: Callable[[Value, list[Value]], list[Value]]
    ) -> list[Value]:
        """Sums over ``range(length)``, of pieces that are summed for themselves and added up in memory."""
        writer, f, schedule = self.writer, self.writer.f, self.writer.schedule
        zeros = [f.constant(0.0, writer.vector)] * count

        def some(first: Value, size: int) -> list[Value]:
            return writer.in_steps(
                f.constant(size, "i64"), schedule.unroll, zeros, lambda at, sums: step(f.add(first, at), sums)
            )

        whole = (length - 1) // piece * piece
        if not whole:
            return some(f.constant(0, "i64"), length)
        totals = writer.operands.allocate(count * writer.lanes)
        places = [f.offset(totals, number * writer.lanes * 4) for number in range(count)]
        for place, each in zip(places, some(f.constant(0, "i64"), piece), strict=True):
            f.store(each, place, aligned=True)

        def add(first: Value, _: list[Value]) -> list[Value]:
            for place, each in zip(places, some(first, piece), strict=True):
                f.store(f.add(f.load(place, writer.vector, aligned=True), each), place, aligned=True)
            return []

        f.loop(piece, whole, piece, [], add)
        last = some(f.constant(whole, "i64"), length - whole)
        return [
            f.add(f.load(place, writer.vector, aligned=True), each) for place, each in zip(places, last, strict=True)
        ]

    def _sources(self, contraction: Scalar, tile: TileValues) -> Sources:
        small = contraction.attribute[1]
        return {
            (leaf, number): tile.column_source(leaf, small, number)
            for leaf in self._leaves(contraction.args[0], small)[1]
            for number in range(self.writer.schedule.columns)
        }

    def _contract_visible(self, contraction: Scalar, tile: TileValues) -> None:
        """The sums of a group of columns that only one half of the rows may see: of that half, and 0 of the other."""
        writer, f, schedule, halves = self.writer, self.writer.f, self.writer.schedule, self.writer.halves
        is_side, half = halves.side_of(self._place, schedule.columns)

        def of_half() -> list[Value]:
            ahead = f.mul(half, halves.rows * 4)
            numbers = range(schedule.columns)
            sums = self._contracted(contraction, tile, self._sources(contraction, tile), numbers, halves.vectors, ahead)
            is_last, zero = f.compare("==", half, 1), f.constant(0.0, writer.vector)
            found = []
            for first in range(0, len(sums), halves.vectors):
                mine = sums[first : first + halves.vectors]
                found += [f.select(is_last, zero, each) for each in mine]
                found += [f.select(is_last, each, zero) for each in mine]
            return self._kept(contraction, found)

        def of_all() -> list[Value]:
            self._contract(contraction, tile)
            known = [tile.known.pop((contraction, number), None) for number in range(schedule.columns)]
            return [part for each in known if each is not None for part in split(f, each, schedule.vectors)]

        self._note(contraction, tile, f.if_else(is_side, of_half, of_all))

    def _kept(self, contraction: Scalar, sums: list[Value]) -> list[Value]:
        """Sums of a group of columns that wait in memory are stored there, and none is left."""
        if contraction not in self.raw:
            return sums
        for place, each in enumerate(sums):
            self.writer.f.store(each, self.writer.f.offset(self.raw[contraction], place * self.writer.lanes * 4))
        return []

    def _note(self, contraction: Scalar, tile: TileValues, sums: list[Value]) -> None:
        vectors = self.writer.schedule.vectors
        for first in range(0, len(sums), vectors):
            tile.known[contraction, first // vectors] = join(self.writer.f, sums[first : first + vectors])

    def _contract(self, contraction: Scalar, tile: TileValues) -> None:
        """The sums of a group of columns, for as many vectors of rows at once as the schedule says."""
        writer, f, schedule = self.writer, self.writer.f, self.writer.schedule
        sources = self._sources(contraction, tile)
        if contraction not in self.raw:
            sums = self._contracted(contraction, tile, sources, range(schedule.columns), schedule.vectors, None)
            self._note(contraction, tile, sums)
            return
        vectors = schedule.vectors if is_product(contraction, writer.sweep.pair) else schedule.contracted
        columns = max(1, schedule.columns * schedule.contracted // vectors)

        def some(first: Value, _: list[Value]) -> None:
            ahead = f.mul(first, writer.lanes * 4)
            for start in range(0, schedule.columns, columns):
                numbers = range(start, start + columns)
                sums = self._contracted(contraction, tile, sources, numbers, vectors, ahead)
                for place, number in enumerate(numbers):
                    where = f.offset(self.raw[contraction], f.add(ahead, number * writer.block_rows * 4))
                    f.store(join(f, sums[place * vectors : (place + 1) * vectors]), where)

        f.loop(0, schedule.vectors, vectors, [], some)

    def _contracted(
        self,
        contraction: Scalar,
        tile: TileValues,
        sources: Sources,
        numbers: Sequence[int],
        vectors: int,
        ahead: Value | None,
    ) -> list[Value]:
        """The sums of some columns and vectors of rows, those from ``ahead`` bytes on in what is packed."""
        writer, f = self.writer, self.writer.f
        small = contraction.attribute[1]
        (body,) = contraction.args
        rows, columns = self._leaves(body, small)

        def step(at: Value, sums: list[Value]) -> list[Value]:
            sums = list(sums)
            packed = f.mul(at, writer.block_rows * 4)
            packed = packed if ahead is None else f.add(packed, ahead)
            row_values = {
                (leaf, vector): f.load(
                    f.offset(f.offset(writer.operands.packs[leaf], packed), vector * writer.lanes * 4),
                    writer.vector,
                    aligned=True,
                )
                for leaf in rows
                for vector in range(vectors)
            }
            for place, number in enumerate(numbers):
                column_values = {leaf: f.splat(sources[leaf, number](at), writer.lanes) for leaf in columns}
                for vector in range(vectors):
                    leaves = {**column_values, **{leaf: row_values[leaf, vector] for leaf in rows}}
                    which = place * vectors + vector
                    sums[which] = tile.added(body, leaves, number, vector, sums[which])
            return sums

        length = int(small.length)
        piece = PIECE if contraction in self._exponents else length
        return self._in_pieces(length, piece, len(numbers) * vectors, step)

    def _contract_pairs(self, contraction: Scalar, tile: TileValues) -> None:
        """The same by products of bfloat16 pairs."""
        writer, f, ops = self.writer, self.writer.f, self.writer.operands
        schedule, products = writer.schedule, writer.products
        small = contraction.attribute[1]
        row, column = products.rows[contraction]
        columns = [
            ops.address(column, tile.places[number], tile.scalars[number], without=small)
            for number in range(schedule.columns)
        ]
        wide = vector_of("i32", writer.lanes)

        def step(at: Value, sums: list[Value]) -> list[Value]:
            packed = f.offset(products.packs[row], f.mul(at, writer.block_rows * 4))
            rows = [
                f.load(f.offset(packed, vector * writer.lanes * 4), wide, aligned=True)
                for vector in range(schedule.vectors)
            ]
            found = []
            for number, pointer in enumerate(columns):
                word = f.splat(word_at(f, f.offset(pointer, f.shl(at, 2))), writer.lanes)
                before = sums[number * schedule.vectors : (number + 1) * schedule.vectors]
                found += [multiply_pairs(f, total, word, each) for total, each in zip(before, rows, strict=True)]
            return found

        zeros = [f.constant(0.0, writer.vector)] * (schedule.columns * schedule.vectors)
        words = f.constant(int(small.length) // 2, "i64")
        sums = writer.in_steps(words, schedule.unroll, zeros, step)
        for number in range(schedule.columns):
            value = join(f, sums[number * schedule.vectors : (number + 1) * schedule.vectors])
            if contraction in self.raw:
                f.store(value, f.offset(self.raw[contraction], number * writer.block_rows * 4))
            else:
                tile.known[contraction, number] = value
