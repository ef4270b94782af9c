"""The loop over the runs of columns that lists leave of a sweep, and what a row sees of a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..passes.listed import Listed
from .llvm import Function, Value
from .operands import Operands
from .values import vector_of

if TYPE_CHECKING:
    from .masks import Masks
    from .runs import Run

_WORD = 8
_RUN = 3 * _WORD


class Entry(NamedTuple):
    """A run: its first column, that behind its last one, and the rows that see it, a bit each."""

    first: Value
    stop: Value
    rows: Value


class ListedRuns:
    """Writes what is done for each run of a task's list.

    Args:
        operands: Those of the task, which has begun.
        listed: The lists.
        block_rows: Rows of a block.
    """

    def __init__(self, operands: Operands, listed: Listed, block_rows: int) -> None:
        self.operands, self.listed, self.block_rows = operands, listed, block_rows
        self.f: Function = operands.f

    def each(
        self,
        masks: "Masks",
        bounds: tuple[Value, Value],
        carried: list[Value],
        within: Callable[[Value, Value, list[Value], "Run"], list[Value]],
        run: "Run",
    ) -> list[Value]:
        """Go through the runs, as far as they lie between bounds; what has been carried.

        Args:
            masks: What decides in a run; it is told which one is gone through.
            bounds: The first column, and that behind the last one.
            carried: What is carried from run to run.
            within: Does something for each part of a range of columns that is as long as a block at most.
            run: What it is to do.
        """
        f, ops = self.f, self.operands
        place = ops.slot(("in", self.listed.begins, "pointer"))
        for number, axis in enumerate(self.listed.batch):
            place = f.offset(place, f.mul(ops.batch[axis], ops.slot(("in", self.listed.begins, number))))
        block = f.unsigned_divide(ops.row_first, f.constant(self.block_rows, "i64"))
        place = f.offset(place, f.mul(block, _WORD))
        begin, end = f.load(place, "i64"), f.load(f.offset(place, _WORD), "i64")
        runs = ops.slot(("in", self.listed.runs, "pointer"))
        low, high = bounds

        def one(number: Value, state: list[Value]) -> list[Value]:
            at = f.offset(runs, f.mul(number, _RUN))
            first, stop, rows = (f.load(f.offset(at, _WORD * place), "i64") for place in range(3))
            first, stop = f.max(first, low), f.min(stop, high)
            masks.entry = Entry(first, stop, rows)
            return within(first, f.max(stop, first), state, run)

        result = f.loop(begin, end, 1, carried, one)
        masks.entry = None
        return result


def in_pieces(
    f: Function, bounds: tuple[Value, Value], step: int, is_aligned: Value, carried: list[Value], run: "Run"
) -> list[Value]:
    """Go through a range of columns in pieces of so many at most.

    Args:
        f: The function being written.
        bounds: The first column, and that behind the last one.
        step: Columns of a piece.
        is_aligned: Whether pieces end at multiples of their length: so they are the same wherever the range ends.
        carried: What is carried from piece to piece.
        run: What is done for each.
    """
    low, high = bounds

    def test(values: list[Value]) -> tuple[Value, list[Value]]:
        return f.compare("<", values[0], high), values

    def piece(values: list[Value]) -> list[Value]:
        at, *state = values
        whole = f.mul(f.add(f.unsigned_divide(at, f.constant(step, "i64")), 1), step)
        stop = f.min(f.select(is_aligned, whole, f.add(at, step)), high)
        return [stop, *run(at, stop, state)]

    return f.repeat([low, *carried], test, piece)[1:]


def is_whole(f: Function, entry: Entry, first: Value, last: Value, block_rows: int) -> Value:
    """Whether all rows of a block see all columns from the first to the last one."""
    every = f.constant(-1 if block_rows == 64 else (1 << block_rows) - 1, "i64")
    inside = f.and_(f.compare(">=", first, entry.first), f.compare("<", last, entry.stop))
    return f.and_(inside, f.compare("==", entry.rows, every))


def seen(f: Function, entry: Entry, column: Value, block_rows: int) -> Value:
    """Which rows see a column, one a lane."""
    whole = f"i{block_rows}"
    bits = f.convert(entry.rows, whole)
    rows = f.emit(vector_of("i1", block_rows), f"bitcast {bits} to {vector_of('i1', block_rows)}", "rows")
    inside = f.and_(f.compare(">=", column, entry.first), f.compare("<", column, entry.stop))
    return f.and_(rows, f.splat(inside, block_rows))


def seen_by_row(f: Function, entry: Entry, row: Value, columns: Value) -> Value:
    """Which of some columns, one a lane, a row of the block sees."""
    bit = f.and_(f.shifted_right(entry.rows, row), f.constant(1, "i64"))
    first, stop = (f.splat(each, columns.lanes) for each in (entry.first, entry.stop))
    inside = f.and_(f.compare(">=", columns, first), f.compare("<", columns, stop))
    return f.and_(inside, f.splat(f.compare("!=", bit, 0), columns.lanes))
