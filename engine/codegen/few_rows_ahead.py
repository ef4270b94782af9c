"""Asking for columns ahead of their use, where all columns together come from memory and not from a cache."""

from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar
from .few_rows_addresses import run_of
from .few_rows_lanes import plain_place
from .llvm import Value

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter

_LINE = 64


class Ahead:
    """Asks for the elements that some columns bring along one small axis. Written when a task begins.

    Args:
        writer: The kernel's.
        loads: What is to be asked for; what does not lie side by side along the axis is left alone.
        small: The axis.
    """

    def __init__(self, writer: "FewRowsWriter", loads: list[Scalar], small: Axis) -> None:
        f, ops = writer.f, writer.operands
        self.writer, self.small = writer, small
        self.loads = [each for each in loads if self._is_plain(each)]
        # Bytes of a column: what is stored in a narrow type comes as fast in bytes, and so sooner in columns.
        self.size = max([each.dtype.itemsize for each in self.loads], default=4) * small.length
        brought = f.mul(f.mul(ops.slot("tasks"), writer.columns), self.size)
        self.is_far = f.compare(">", brought, writer.sizes.streamed) if self.loads else f.constant(0, "i1")

    def _is_plain(self, load: Scalar) -> bool:
        along, across = plain_place(load, self.small), run_of(load, self.writer.sweep.columns)
        rows = self.writer.sweep.rows in load.axes
        return along is not None and across is not None and not rows and self.writer.is_unit(load, along)

    def ask(self, column: Value, count: Value, part: tuple[Value, int] | None = None) -> None:
        """Ask for some columns, `FewRows.ahead` bytes behind a column.

        Args:
            column: The column.
            count: How many.
            part: Where along the small axis, and how much of it; None for all.
        """
        whole = self.writer.f.constant(0, "i64"), self.small.length
        part = whole if part is None else part
        f, ops, columns = self.writer.f, self.writer.operands, self.writer.sweep.columns
        steps = max(self.writer.sizes.ahead // self.size, 1)
        for load in self.loads:
            run = run_of(load, columns)
            assert run is not None
            if run.length:
                self._ask_each(load, f.add(column, steps), count, part)
                continue
            stride = ops.stride(load, run.place)
            place = {**ops.batch, columns: f.add(column, steps)}
            pointer = ops.address(load, place, {}, without=self.small)

            def one(
                number: Value, _: list[Value], load: Scalar = load, pointer: Value = pointer, stride: Value = stride
            ) -> None:
                self._ask_from(load, f.offset(pointer, f.mul(stride, number)), part)

            f.loop(0, count, 1, [], one)

    def _ask_each(self, load: Scalar, column: Value, count: Value, part: tuple[Value, int]) -> None:
        """Where a table says at which place columns lie: what it says of columns that there are not is not read."""
        f, ops, columns = self.writer.f, self.writer.operands, self.writer.sweep.columns
        last = f.sub(self.writer.columns, 1)

        def one(number: Value, _: list[Value]) -> None:
            place = {**ops.batch, columns: f.min(f.add(column, number), last)}
            self._ask_from(load, ops.address(load, place, {}, without=self.small), part)

        f.loop(0, count, 1, [], one)

    def _ask_from(self, load: Scalar, pointer: Value, part: tuple[Value, int]) -> None:
        f, (first, length) = self.writer.f, part
        pointer = f.offset(pointer, f.mul(first, load.dtype.itemsize))
        for at in range(0, load.dtype.itemsize * length, _LINE):
            f.prefetch(f.offset(pointer, at), level=2)
