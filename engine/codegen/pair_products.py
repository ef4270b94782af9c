"""Products of bfloat16 by the processor's own instruction, which multiplies pairs of them and adds both to a float32.

Twice as many products an instruction as a multiply-add of float32 has. Two numbers that are summed lie side by side in
a word of 32 bits:

* of scores, pairs lie along the contracted axis: rows are packed as words ``[e / 2][row]``, columns are read as words
  where they lie and broadcast. Products of bfloat16 are exact in float32, sums are rounded as they are elsewhere;
* of weights times what columns bring, pairs are neighbouring columns: weights are rounded to bfloat16 and left as words
  ``[column / 2][row]``, columns are laid out as words ``[column / 2][e]``, block by block. This is done only where the
  result becomes bfloat16 itself: its own rounding is the larger error.

The instruction takes denormal numbers for 0, which is far below what either sum keeps.
"""

from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar, below
from ..sweep import Accumulator
from ..types import BFLOAT16, FLOAT32
from .accumulate import Accumulate
from .llvm import Function, Value
from .operands import Operands
from .tile import plain_axis
from .transpose import transpose
from .values import vector_of
from .weights import Key, is_plain_weight
from .wide import split

if TYPE_CHECKING:
    from .sweep import SweepWriter


def multiply_pairs(f: Function, total: Value, left: Value, right: Value) -> Value:
    """``total + low * low + high * high`` of the halves of words."""
    assert f.target.pair_product is not None
    pairs = vector_of("bfloat", 2 * total.lanes)
    sides = [f.emit(pairs, f"bitcast {each} to {pairs}", "pairs") for each in (left, right)]
    return f.intrinsic(f.target.pair_product, total.type, [total, *sides])


def rounded_pairs(f: Function, low: Value, high: Value) -> Value:
    """Words of two vectors of float32 above 0, rounded to bfloat16: what lies halfway is rounded up."""
    low, high = (f.add(f.bits(each), 0x8000) for each in (low, high))
    return f.or_(f.lshr(low, 16), f.and_(high, -0x10000))


def stored_pairs(scalar: Scalar) -> Scalar | None:
    """The load of bfloat16 that a value is, widened."""
    if scalar.op == "astype" and scalar.dtype == FLOAT32:
        (scalar,) = scalar.args
    return scalar if scalar.op == "load" and scalar.dtype == BFLOAT16 else None


class PairProducts:
    """Which contractions and sums of a sweep are made of such products, and where their words are.

    Args:
        writer: The sweep's, whose task has begun.
    """

    def __init__(self, writer: "SweepWriter") -> None:
        self.writer = writer
        self.rows: dict[Scalar, tuple[Scalar, Scalar]] = {}
        self.sums: dict[Accumulator, Scalar] = {}
        self.packs: dict[Scalar, Value] = {}
        self.words: dict[Key, Value] = {}
        self.lines: dict[Accumulator, Value] = {}
        # Weights that nothing takes as float32.
        self.replaced: set[Key] = set()
        if writer.module.target.pair_product is None:
            return
        for contraction in writer.fill.contractions:
            pair = self._sides(contraction)
            if pair is not None:
                self.rows[contraction] = pair
        for each in writer.wide:
            load = stored_pairs(each.column)
            if load is not None and self._may_be_rounded(each) and self._is_plain(load, each.small):
                self.sums[each] = load
        self._allocate()

    # --- contractions

    def _sides(self, contraction: Scalar) -> tuple[Scalar, Scalar] | None:
        """What a row and a column bring to a product, if both are stored as bfloat16."""
        sweep, ((body,), (kind, small)) = self.writer.sweep, (contraction.args, contraction.attribute)
        if kind != "sum" or body.op != "multiply" or small.length % 2:
            return None
        loads = [stored_pairs(each) for each in body.args]
        for row, column in (loads, loads[::-1]):
            if row is None or column is None or sweep.rows not in row.axes or sweep.columns in row.axes:
                continue
            if sweep.rows not in column.axes and self._is_plain(row, small) and self._is_plain(column, small):
                return row, column
        return None

    def _is_plain(self, load: Scalar, small: Axis | None) -> bool:
        return small is not None and plain_axis(self.writer, load, small) is not None

    def pack(self) -> None:
        """The rows of a block as words, once."""
        for contraction, (row, _) in self.rows.items():
            if row not in self.packs:
                self.packs[row] = _packed(self.writer.operands, row, contraction.attribute[1])

    # --- sums

    def _may_be_rounded(self, accumulator: Accumulator) -> bool:
        """Whether all results that it is a part of become bfloat16."""
        if not is_plain_weight(accumulator):
            return False
        using = [
            output
            for output in self.writer.sweep.outputs
            if any(each.attribute is accumulator for each in below([output.value]) if each.op == "accumulator")
        ]
        return bool(using) and all(output.rounded == BFLOAT16 for output in using)

    def _allocate(self) -> None:
        """Room for the words of weights, and of what columns bring."""
        writer, pairs = self.writer, -(-self.writer.schedule.block // 2)
        for each in self.sums:
            self.words.setdefault((each.group, each.weight), writer.operands.allocate(pairs * writer.block_rows))
            self.lines[each] = writer.operands.allocate(pairs * self.width(each))
        others = {(each.group, each.weight) for each in writer.wide if each not in self.sums}
        self.replaced = set(self.words) - others

    def width(self, accumulator: Accumulator) -> int:
        """Elements of what a column brings, in whole vectors."""
        assert accumulator.small is not None
        return self.writer.padded(int(accumulator.small.length))

    def store_weights(self, key: Key, column: Value, weights: Value, number: int) -> None:
        """Leave the weights of neighbouring columns as words; the last one may be alone."""
        writer, f = self.writer, self.writer.f
        place = f.offset(self.words[key], f.mul(f.lshr(column, 1), 4 * writer.block_rows))
        parts = split(f, weights, number)
        if number == 1:
            parts.append(f.constant(0.0, parts[0].type))
        for pair in range(len(parts) // 2):
            word = rounded_pairs(f, *parts[2 * pair : 2 * pair + 2])
            f.store(word, f.offset(place, pair * 4 * writer.block_rows))

    def lay_out(self, start: Value, size: Value) -> None:
        """What a block of columns brings, as words of two columns each; of a last one alone with 0."""
        f = self.writer.f
        if not self.sums:
            return
        whole = f.and_(size, -2)

        def pair(at: Value, _: list[Value]) -> None:
            for each in self.sums:
                self._lay_out(each, start, at, False)

        f.loop(0, whole, 2, [], pair)

        def last() -> None:
            for each in self.sums:
                self._lay_out(each, start, whole, True)

        f.when(f.compare("!=", whole, size), last)

    def _lay_out(self, accumulator: Accumulator, start: Value, at: Value, is_alone: bool) -> None:
        writer, f, ops = self.writer, self.writer.f, self.writer.operands
        load, small = self.sums[accumulator], accumulator.small
        assert small is not None
        line = f.offset(self.lines[accumulator], f.mul(f.lshr(at, 1), 4 * self.width(accumulator)))
        columns = [f.add(start, at)] if is_alone else [f.add(start, at), f.add(f.add(start, at), 1)]
        pointers = [
            ops.address(load, {**ops.batch, writer.sweep.columns: column}, {}, without=small) for column in columns
        ]
        lanes, length, narrow = writer.lanes, int(small.length), vector_of("i16", writer.lanes)
        for first in range(0, length, lanes):
            valid = None if first + lanes <= length else f.first_lanes(f.constant(length - first, "i64"), lanes)
            halves = []
            for pointer in pointers:
                here = f.offset(pointer, 2 * first)
                raw = f.load(here, narrow) if valid is None else f.load_masked(here, narrow, valid)
                halves.append(f.convert(raw, "i32", unsigned=True))
            word = halves[0] if is_alone else f.or_(halves[0], f.shl(halves[1], 16))
            f.store(word, f.offset(line, 4 * first), aligned=True)


class AccumulatePairs(Accumulate):
    """Writes step C for one such sum and one block of columns: two columns at a time, for all rows."""

    def write(self) -> None:
        """All elements, as many at a time as registers hold."""
        self.each(self.writer.schedule.width, self._some)

    def _some(self, first: Value, width: int) -> None:
        writer, f, products = self.writer, self.writer.f, self.writer.products
        vectors = writer.schedule.vectors
        words, lines = products.words[self.key], products.lines[self.accumulator]
        type_ = vector_of("i32", writer.block_rows)

        def pair(index: Value, totals: list[Value]) -> list[Value]:
            weights = split(f, f.load(f.offset(words, f.mul(index, 4 * writer.block_rows)), type_), vectors)
            line = f.offset(lines, f.shl(f.add(f.mul(index, products.width(self.accumulator)), first), 2))
            brought = [f.splat(f.load(f.offset(line, 4 * number), "i32"), writer.lanes) for number in range(width)]
            return [
                multiply_pairs(f, total, brought[place // vectors], weights[place % vectors])
                for place, total in enumerate(totals)
            ]

        zeros = [f.constant(0.0, writer.vector)] * (width * vectors)
        pairs = f.lshr(f.add(self.size, 1), 1)
        self.store(first, width, writer.in_steps(pairs, writer.schedule.summed, zeros, pair))


def word_at(f: Function, pointer: Value) -> Value:
    """Two neighbouring elements of 16 bits, which need not be aligned for more."""
    both = f.load(pointer, vector_of("i16", 2))
    return f.emit("i32", f"bitcast {both} to i32", "word")


def _packed(ops: Operands, load: Scalar, small: Axis) -> Value:
    """``pack[e / 2][row]``, of words, of what rows bring."""
    f, lanes, words = ops.f, ops.lanes, int(small.length) // 2
    pack = ops.allocate(words * ops.block)
    whole = words // lanes * lanes
    narrow, wide = vector_of("i16", 2 * lanes), vector_of("i32", lanes)

    def pointer(row: Value) -> Value:
        place = f.min(f.add(ops.row_first, row), f.sub(ops.row_stop, 1))
        return ops.address(load, {**ops.batch, ops.sweep.rows: place}, {}, without=small)

    for vector in range(ops.vectors) if whole else ():
        rows = [pointer(f.constant(vector * lanes + lane, "i64")) for lane in range(lanes)]

        def square(start: Value, _: list[Value], rows: list[Value] = rows, vector: int = vector) -> None:
            raw = [f.load(f.offset(row, f.shl(start, 2)), narrow) for row in rows]
            values = [f.emit(wide, f"bitcast {each} to {wide}", "words") for each in raw]
            target = f.offset(pack, f.mul(start, ops.block * 4))
            for number, value in enumerate(transpose(f, values)):
                f.store(value, f.offset(target, (number * ops.block + vector * lanes) * 4), aligned=True)

        f.loop(0, whole, lanes, [], square)

    def one(row: Value, _: list[Value]) -> None:
        source = pointer(row)
        for word in range(whole, words):
            value = word_at(f, f.offset(source, 4 * word))
            f.store(value, f.offset(pack, f.shl(f.add(row, word * ops.block), 2)))

    if whole < words:
        f.loop(0, ops.block, 1, [], one)
    return pack
