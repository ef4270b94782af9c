"""Tile values: scalars of a row and a column, computed for a group of columns and the block's rows."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar, below
from .apply import apply, convert
from .external import apply_foreign
from .llvm import Value
from .masks import Masks
from .operands import memory_type
from .values import vector_of
from .wide import join, split

if TYPE_CHECKING:
    from .sweep import SweepWriter


# Columns whose elements are asked for while others are computed.
_AHEAD = 8


def plain_axis(writer: "SweepWriter", column: Scalar, small: Axis) -> int | None:
    """The place of the small axis in a column value that is a load, if its elements are neighbours."""
    if column.op != "load":
        return None
    places = [axis for axis, index in enumerate(column.args) if small in index.axes]
    if len(places) == 1 and column.args[places[0]].op == "axis" and writer.is_unit(column, places[0]):
        return places[0]
    return None


def slope(index: Scalar, axis: Axis) -> int | None:
    """How much an index grows from one place of an axis to the next, or None if that varies."""
    if axis not in index.axes:
        return 0
    if index.op == "axis":
        return 1
    slopes = [slope(each, axis) for each in index.args]
    known = [each for each in slopes if each is not None]
    if len(known) < len(slopes):
        return None
    if index.op in ("add", "subtract"):
        return known[0] + known[1] if index.op == "add" else known[0] - known[1]
    if index.op == "negative":
        return -known[0]
    if index.op == "multiply" and index.args[1].is_constant:
        return known[0] * int(index.args[1].attribute)
    return None


class TileValues:
    """The values of one group of columns: memoised, for they lie on one straight line of code."""

    def __init__(self, writer: "SweepWriter", column: Value, columns: int, masks: Masks, full: bool) -> None:
        self.writer, self.column, self.masks, self.full = writer, column, masks, full
        f = writer.f
        self.places = [
            {**writer.operands.batch, writer.sweep.columns: f.add(column, number)} for number in range(columns)
        ]
        self.known: dict[tuple[Scalar, int], Value] = {}
        self.scalars: list[dict[Scalar, Value]] = [{} for _ in self.places]

    def column_source(self, leaf: Scalar, small: Axis, number: int) -> Callable[[Value], Value]:
        """A column's part of a contraction, as a function of the contracted index."""
        ops, f = self.writer.operands, self.writer.f
        line = self.writer.brought.line(leaf, self.places[number][self.writer.sweep.columns])
        if line is not None:
            return lambda index: f.load(f.offset(line, f.shl(index, 2)), "float")
        plain = plain_axis(self.writer, leaf, small)
        if plain is not None:
            pointer = ops.address(leaf, self.places[number], self.scalars[number], without=small)
            return lambda index: ops.read(leaf, f.offset(pointer, f.mul(index, leaf.dtype.itemsize)))
        return lambda index: ops.scalar(leaf, {**self.places[number], small: index}, {})

    def added(self, body: Scalar, leaves: dict[Scalar, Value], number: int, vector: int, total: Value) -> Value:
        """``total + body``, as a multiply-add where the body is a product."""
        f = self.writer.f
        if body.op in ("multiply", "square"):
            sides = [self._pair(each, leaves, number, vector) for each in (body.args * 2)[:2]]
            return f.fma(sides[0], sides[1], total)
        return f.add(total, self._pair(body, leaves, number, vector))

    def _pair(self, scalar: Scalar, leaves: dict[Scalar, Value], number: int, vector: int) -> Value:
        if scalar in leaves:
            return leaves[scalar]
        if not scalar.args or scalar.op in ("load", "reduce") or not self._has_leaf(scalar, leaves):
            return split(self.writer.f, self.value(scalar, number), self.writer.schedule.vectors)[vector]
        args = [self._pair(each, leaves, number, vector) for each in scalar.args]
        leaves[scalar] = apply(self.writer.f, scalar, args)
        return leaves[scalar]

    def _has_leaf(self, scalar: Scalar, leaves: dict[Scalar, Value]) -> bool:
        return any(each in leaves for each in below([scalar]))

    def value(self, scalar: Scalar, number: int) -> Value:
        """A tile value for one column and the block's rows, as one wide value."""
        key = (scalar, number)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._computed(scalar, number)
        return found

    def _computed(self, scalar: Scalar, number: int) -> Value:
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        sweep, lanes = writer.sweep, writer.block_rows
        if self.full and scalar in self.masks.roots:
            return f.constant(1, vector_of("i1", lanes))
        if scalar.op == "visible":
            return self.masks.seen(self.places[number][sweep.columns])
        fixed = ops.fixed(scalar)
        if fixed is not None:
            return f.splat(fixed, lanes)
        if sweep.rows not in scalar.axes:
            return f.splat(ops.scalar(scalar, self.places[number], self.scalars[number]), lanes)
        if ops.varies_over_rows_only(scalar):
            return join(f, [ops.rows(scalar, vector) for vector in range(writer.schedule.vectors)])
        if scalar.op == "load":
            return self._loaded(scalar, number)
        if scalar.op == "where" and self.full and scalar.args[0] in self.masks.roots:
            return self.value(scalar.args[1], number)
        args = [self.value(each, number) for each in scalar.args]
        if scalar.op == "call":
            return apply_foreign(f, scalar.attribute.foreign, scalar, args, self._valid())
        return convert(f, args[0], scalar, writer.integer) if scalar.op == "astype" else apply(f, scalar, args)

    def _loaded(self, load: Scalar, number: int) -> Value:
        """Elements of an array at positions of rows and columns, one for each lane."""
        step = self._step(load)
        if step is not None:
            return self._neighbours(load, number, step)
        dense = self.writer.dense.read(load, self.column, number)
        return self._gathered(load, number) if dense is None else dense

    def _gathered(self, load: Scalar, number: int) -> Value:
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        lanes = writer.block_rows
        pointer = ops.slot(("in", load.attribute, "pointer"))
        offsets = f.constant(0, vector_of("i64", lanes))
        for axis, index in enumerate(load.args):
            stride = ops.stride(load, axis)
            if writer.sweep.rows in index.axes:
                places = f.convert(self.value(index, number), "i64")
                offsets = f.add(offsets, f.mul(places, f.splat(stride, lanes)))
                continue
            fixed = ops.fixed(index)
            value = fixed if fixed is not None else ops.scalar(index, self.places[number], self.scalars[number])
            pointer = f.offset(pointer, f.mul(f.convert(value, "i64"), stride))
        return ops.as_read(load, f.gather(f.offset(pointer, offsets), memory_type(load), self._valid()))

    def _step(self, load: Scalar) -> int | None:
        """1 or -1 where the next row's element lies just behind or before this row's; else None."""
        rows = [axis for axis, index in enumerate(load.args) if self.writer.sweep.rows in index.axes]
        if len(rows) != 1 or not self.writer.is_unit(load, rows[0]):
            return None
        step = slope(load.args[rows[0]], self.writer.sweep.rows)
        return step if step in (1, -1) else None

    def _neighbours(self, load: Scalar, number: int, step: int) -> Value:
        """One load of neighbouring elements, turned around where they run against the rows."""
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        lanes, valid = writer.block_rows, self._valid()
        pointer = ops.address(load, {**self.places[number], writer.sweep.rows: ops.row_first}, {})
        type_ = vector_of(memory_type(load), lanes)
        self._ask_ahead(load, number, step)
        if step == 1:
            return ops.as_read(load, f.load_masked(pointer, type_, valid))
        turned = range(lanes - 1, -1, -1)
        pointer = f.offset(pointer, -(lanes - 1) * load.dtype.itemsize)
        return ops.as_read(load, f.shuffle(f.load_masked(pointer, type_, f.shuffle(valid, turned)), turned))

    def _ask_ahead(self, load: Scalar, number: int, step: int) -> None:
        """Ask for the rows' elements of a column further on, where those of the next one are lines of memory away."""
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        unit = next(axis for axis, index in enumerate(load.args) if writer.sweep.rows in index.axes)
        others = [index for axis, index in enumerate(load.args) if axis != unit]
        if not any(index.op == "axis" and index.attribute is writer.sweep.columns for index in others):
            return
        column = f.add(self.places[number][writer.sweep.columns], _AHEAD)
        place = {**self.places[number], writer.sweep.columns: column, writer.sweep.rows: ops.row_first}
        pointer = ops.address(load, place, {})
        for line in range(0, writer.block_rows * load.dtype.itemsize, 64):
            f.prefetch(f.offset(pointer, step * line))

    def _valid(self) -> Value:
        """Rows of the block that exist."""
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        return f.first_lanes(f.sub(ops.row_stop, ops.row_first), writer.block_rows)
