"""Asking for columns ahead of their use, where all columns together come from memory and not from a cache."""

from typing import TYPE_CHECKING

from ..scalar import Axis, Scalar
from .few_rows_addresses import ALIGNMENT, addresses, run_of
from .few_rows_lanes import plain_place
from .llvm import Value

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter

# Bytes that come from memory together.
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

    def pointers(self, column: Value, count: int, asks: Value | None = None) -> list[list[Value]]:
        """For each of some columns, where to ask: for the columns `FewRows.ahead` bytes behind them.

        Where there are none, or it is not the time, it is the columns themselves: to ask for these costs little.

        Args:
            column: The first column: a multiple of ``count``, or of `ALIGNMENT`.
            count: How many.
            asks: Whether it is the time; None for always.
        """
        f, writer = self.writer.f, self.writer
        steps = -(-max(writer.sizes.ahead // self.size, 1) // ALIGNMENT) * ALIGNMENT
        is_there = f.compare("<=", f.add(column, steps + count), writer.columns)
        is_there = is_there if asks is None else f.and_(is_there, asks)
        first = f.select(is_there, f.add(column, steps), column)
        found = [addresses(writer, load, self.small, first, count) for load in self.loads]
        return [list(each) for each in zip(*found, strict=True)] if found else [[] for _ in range(count)]

    def ask(self, pointers: list[Value], first: Value, number: int) -> None:
        """Ask for the elements of a column from a place along the axis on: a line of memory, which is asked for once.

        Args:
            pointers: Of `pointers`, the column's.
            first: The place of a vector.
            number: Which one it is of those that follow each other; several narrow ones lie in one line.
        """
        f = self.writer.f
        for load, pointer in zip(self.loads, pointers, strict=True) if pointers else ():
            if number % max(1, _LINE // (self.writer.lanes * load.dtype.itemsize)) == 0:
                f.prefetch(f.offset(pointer, f.mul(first, load.dtype.itemsize)), level=2)

    def is_needed(self, is_in_order: bool) -> Value:
        """Whether to ask: not where columns are read from end to end, one after the other, as processors foresee.

        Args:
            is_in_order: Whether each column is read as a whole before the next one.
        """
        f, ops = self.writer.f, self.writer.operands
        needed = self.is_far
        for load in self.loads if is_in_order else ():
            run = run_of(load, self.writer.sweep.columns)
            if run is not None and not run.length:
                needed = f.and_(needed, f.compare("!=", ops.stride(load, run.place), self.size))
        return needed
