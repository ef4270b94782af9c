"""What a sweep returns: expressions of rows and accumulators, transposed back and stored."""

import functools
import math
from typing import TYPE_CHECKING

from ..ir import UnfusableError
from ..scalar import Scalar, below
from ..sweep import Output
from ..types import is_float
from .apply import apply, convert
from .llvm import Value
from .transpose import transpose
from .watch import look_at_results

if TYPE_CHECKING:
    from .sweep import SweepWriter


def needs_result(scalar: Scalar) -> bool:
    """Whether it is known only when the columns have ended."""
    return any(each.op in ("accumulator", "maximum_of") for each in below([scalar]))


def elementwise(output: Output) -> list[Scalar]:
    """The largest parts of a result of rows that vary along its small axis, and are no results themselves."""
    found: dict[Scalar, None] = {}
    stack = [output.value]
    while stack:
        each = stack.pop()
        if each.waits:
            stack += each.args
        elif output.small in each.axes and is_float(each.dtype):
            found[each] = None
    return list(found)


class Outputs:
    """Writes the results of one block of rows."""

    def __init__(self, writer: "SweepWriter") -> None:
        self.writer = writer

    def _row(self, scalar: Scalar, vector: int, small: Value | None, memo: dict[Scalar, Value]) -> Value:
        """An output's value for a vector of rows, at one place of its small axis."""
        f, ops = self.writer.f, self.writer.operands
        for each in self._steps(scalar):
            if each in memo:
                continue
            fixed = ops.fixed(each)
            if fixed is not None:
                memo[each] = f.splat(fixed, self.writer.lanes)
            elif each.op == "accumulator" and each.attribute.small is not None:
                assert small is not None
                at = f.add(f.mul(small, self.writer.block_rows * 4), vector * self.writer.lanes * 4)
                memo[each] = f.load(f.offset(self.writer.totals[each.attribute], at), self.writer.vector, aligned=True)
            elif each.op in ("accumulator", "maximum_of"):
                memo[each] = f.load(self.writer.kept[each.attribute, vector], self.writer.vector, aligned=True)
            elif self.writer.is_of_rows(each):
                memo[each] = ops.rows(each, vector)
            elif each in ops.packs:
                assert small is not None
                at = f.add(f.mul(small, self.writer.block_rows * 4), vector * self.writer.lanes * 4)
                memo[each] = f.load(f.offset(ops.packs[each], at), self.writer.vector, aligned=True)
            elif each.op in ("load", "reduce", "axis"):
                raise UnfusableError(f"an output that needs a {each.op} along a small axis")
            else:
                args = [memo[one] for one in each.args]
                memo[each] = (
                    convert(f, args[0], each, self.writer.integer) if each.op == "astype" else apply(f, each, args)
                )
        return memo[scalar]

    def _steps(self, scalar: Scalar) -> list[Scalar]:
        """What is computed for it, arguments first; what is known for rows already is not taken apart."""
        everything, wanted = below([scalar]), {scalar}
        for each in reversed(everything):
            if each in wanted and not self.writer.is_of_rows(each) and each not in self.writer.operands.packs:
                wanted.update(each.args)
        return [each for each in everything if each in wanted]

    def write(self, output: Output, first: Value, stop: Value) -> None:
        """All elements of a result, for the rows of a block."""
        f, ops = self.writer.f, self.writer.operands
        for leaf in elementwise(output):
            assert output.small is not None
            ops.pack_rows(leaf, output.small)
        pointer = ops.slot(("out", output.node, "pointer"))
        row_stride = small_stride = f.constant(0, "i64")
        for axis, each in enumerate(output.axes):
            stride = ops.slot(("out", output.node, axis))
            if each is self.writer.sweep.rows:
                row_stride = stride
            elif each is output.small:
                small_stride = f.constant(4, "i64") if axis == len(output.axes) - 1 else stride
            elif each in ops.batch:
                pointer = f.offset(pointer, f.mul(ops.batch[each], stride))
        pointer = f.offset(pointer, f.mul(first, row_stride))
        rows = f.sub(stop, first)
        done = 0
        if output.small is not None and small_stride.constant == 4 and output.small.length >= self.writer.lanes > 1:
            done = output.small.length // self.writer.lanes * self.writer.lanes
            for vector in range(self.writer.schedule.vectors):
                self._write_transposed(output, vector, pointer, row_stride, rows, done)
        length = 1 if output.small is None else output.small.length
        if done < length:
            one = ops.allocate(self.writer.lanes)
            for vector in range(self.writer.schedule.vectors):
                self._write_scalars(output, vector, (pointer, row_stride, small_stride), rows, one, done, length)

    def _empty(self, vector: int) -> Value | None:
        """Rows of a vector that have no weight: those left by now are hidden ones."""
        f, writer = self.writer.f, self.writer
        kept = [f.load(writer.kept[group, vector], writer.vector, aligned=True) for group in writer.groups]
        empty = [f.compare("==", each, -math.inf) for each in kept]
        return functools.reduce(f.or_, empty) if empty else None

    def _write_transposed(
        self, output: Output, vector: int, pointer: Value, row_stride: Value, rows: Value, stop: int
    ) -> None:
        f, lanes = self.writer.f, self.writer.lanes

        def columns(start: Value, _: list[Value]) -> None:
            values = [self._row(output.value, vector, f.add(start, number), {}) for number in range(lanes)]
            look_at_results(self.writer, values, functools.partial(self._empty, vector))
            for lane, value in enumerate(transpose(f, values)):
                row = f.constant(vector * lanes + lane, "i64")
                target = f.offset(f.offset(pointer, f.mul(row, row_stride)), f.shl(start, 2))
                f.when(f.compare("<", row, rows), functools.partial(f.store, value, target))

        f.loop(0, stop, lanes, [], columns)

    def _write_scalars(
        self,
        output: Output,
        vector: int,
        target: tuple[Value, Value, Value],
        rows: Value,
        one: Value,
        start: int,
        stop: int,
    ) -> None:
        f, lanes = self.writer.f, self.writer.lanes
        pointer, row_stride, small_stride = target
        count = f.max(f.min(f.sub(rows, vector * lanes), lanes), 0)

        def element(small: Value, _: list[Value]) -> None:
            value = self._row(output.value, vector, small if output.small is not None else None, {})
            value = value if value.lanes > 1 else f.splat(value, lanes)
            look_at_results(self.writer, [value], functools.partial(self._empty, vector))
            f.store(value, one, aligned=True)
            base = f.offset(pointer, f.mul(small, small_stride))

            def row(lane: Value, _: list[Value]) -> None:
                at = f.mul(f.add(lane, vector * lanes), row_stride)
                f.store(f.load(f.offset(one, f.shl(lane, 2)), "float"), f.offset(base, at))

            f.loop(0, count, 1, [], row)

        f.loop(start, stop, 1, [], element)
