"""Tile values: scalars of a row and a column, computed for a group of columns and the block's rows."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..kernel import Axis, Scalar, below
from ..types import BOOL, is_float
from .apply import apply, convert
from .llvm import Value
from .masks import Masks

if TYPE_CHECKING:
    from .sweep import SweepWriter


def plain_axis(writer: "SweepWriter", column: Scalar, small: Axis) -> int | None:
    """The place of the small axis in a column value that is a load, if its elements are neighbours."""
    if column.op != "load":
        return None
    places = [axis for axis, index in enumerate(column.args) if small in index.axes]
    if len(places) == 1 and column.args[places[0]].op == "axis" and writer.is_unit(column, places[0]):
        return places[0]
    return None


def _element(load: Scalar) -> str:
    return "float" if is_float(load.dtype) else f"i{8 * load.dtype.itemsize}"


def _slope(index: Scalar, rows: Axis) -> int | None:
    """How much an index grows from row to row, or None if that varies."""
    if rows not in index.axes:
        return 0
    if index.op == "axis":
        return 1
    slopes = [_slope(each, rows) for each in index.args]
    known = [slope for slope in slopes if slope is not None]
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

    def __init__(self, writer: "SweepWriter", column: Value, masks: Masks, full: bool) -> None:
        self.writer, self.masks, self.full = writer, masks, full
        f = writer.f
        self.places = [
            {**writer.operands.batch, writer.sweep.columns: f.add(column, number)}
            for number in range(writer.schedule.columns)
        ]
        self.known: dict[tuple[Scalar, int, int], Value] = {}
        self.scalars: list[dict[Scalar, Value]] = [{} for _ in self.places]

    def column_source(self, leaf: Scalar, small: Axis, number: int) -> Callable[[Value], Value]:
        """A column's part of a contraction, as a function of the contracted index."""
        ops, f = self.writer.operands, self.writer.f
        plain = plain_axis(self.writer, leaf, small)
        if plain is not None:
            pointer = ops.address(leaf, self.places[number], self.scalars[number], without=small)
            return lambda index: ops.read(leaf, f.offset(pointer, f.shl(index, 2)))
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
            return self.vector(scalar, number, vector)
        args = [self._pair(each, leaves, number, vector) for each in scalar.args]
        leaves[scalar] = apply(self.writer.f, scalar, args)
        return leaves[scalar]

    def _has_leaf(self, scalar: Scalar, leaves: dict[Scalar, Value]) -> bool:
        return any(each in leaves for each in below([scalar]))

    def vector(self, scalar: Scalar, number: int, vector: int) -> Value:
        """A tile value for one column and one vector of rows."""
        key = (scalar, number, vector)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._computed(scalar, number, vector)
        return found

    def _computed(self, scalar: Scalar, number: int, vector: int) -> Value:
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        sweep = writer.sweep
        if self.full and scalar in self.masks.roots:
            return f.constant(1, f"<{writer.lanes} x i1>")
        fixed = ops.fixed(scalar)
        if fixed is not None:
            return f.splat(fixed, writer.lanes)
        if sweep.rows not in scalar.axes:
            return f.splat(ops.scalar(scalar, self.places[number], self.scalars[number]), writer.lanes)
        if ops.varies_over_rows_only(scalar):
            return ops.rows(scalar, vector)
        if scalar.op == "load":
            return self._gathered(scalar, number, vector)
        if scalar.op == "where" and self.full and scalar.args[0] in self.masks.roots:
            return self.vector(scalar.args[1], number, vector)
        args = [self.vector(each, number, vector) for each in scalar.args]
        return convert(f, args[0], scalar, writer.integer) if scalar.op == "astype" else apply(f, scalar, args)

    def _gathered(self, load: Scalar, number: int, vector: int) -> Value:
        """Elements of an array at positions of rows and columns, one for each lane."""
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        step = self._step(load)
        if step is not None:
            return self._neighbours(load, number, vector, step)
        pointer = ops.slot(("in", load.attribute, "pointer"))
        offsets = f.constant(0, f"<{writer.lanes} x i64>")
        valid = self._valid(vector)
        for axis, index in enumerate(load.args):
            stride = ops.stride(load, axis)
            if writer.sweep.rows in index.axes:
                lanes = f.convert(self.vector(index, number, vector), "i64")
                offsets = f.add(offsets, f.mul(lanes, f.splat(stride, writer.lanes)))
                continue
            fixed = ops.fixed(index)
            value = fixed if fixed is not None else ops.scalar(index, self.places[number], self.scalars[number])
            pointer = f.offset(pointer, f.mul(f.convert(value, "i64"), stride))
        return self._as_read(load, f.gather(f.offset(pointer, offsets), _element(load), valid))

    def _as_read(self, load: Scalar, raw: Value) -> Value:
        f = self.writer.f
        if load.dtype == BOOL:
            return f.compare("!=", raw, 0)
        return raw if raw.is_float else f.convert(raw, self.writer.integer, unsigned=load.dtype.kind == "u")

    def _step(self, load: Scalar) -> int | None:
        """1 or -1 where the next row's element lies just behind or before this row's; else None."""
        rows = [axis for axis, index in enumerate(load.args) if self.writer.sweep.rows in index.axes]
        if len(rows) != 1 or not self.writer.is_unit(load, rows[0]):
            return None
        step = _slope(load.args[rows[0]], self.writer.sweep.rows)
        return step if step in (1, -1) else None

    def _neighbours(self, load: Scalar, number: int, vector: int, step: int) -> Value:
        """One load of neighbouring elements, turned around where they run against the rows."""
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        lanes = writer.lanes
        first = f.add(ops.row_first, vector * lanes)
        pointer = ops.address(load, {**self.places[number], writer.sweep.rows: first}, {})
        valid = self._valid(vector)
        type_ = f"<{lanes} x {_element(load)}>"
        if step == 1:
            return self._as_read(load, f.load_masked(pointer, type_, valid))
        turned = range(lanes - 1, -1, -1)
        pointer = f.offset(pointer, -(lanes - 1) * load.dtype.itemsize)
        return self._as_read(load, f.shuffle(f.load_masked(pointer, type_, f.shuffle(valid, turned)), turned))

    def _valid(self, vector: int) -> Value:
        """Rows of the block that exist."""
        writer, ops, f = self.writer, self.writer.operands, self.writer.f
        rows = f.sub(ops.row_stop, f.add(ops.row_first, vector * writer.lanes))
        return f.first_lanes(rows, writer.lanes)
