"""Where a sweep is cut along its columns: at places that follow from the whole problem's shape alone.

Each split leaves a state, and the states are merged by one tree over the splits' numbers. So results are the same to
the last bit however many threads compute the splits, and in whatever chunks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .sweep import Sweep

# Columns of a split are a multiple of this, which is one of every schedule's blocks: 64 to 512, and 144.
UNIT = 4608
# Rows of a part are a multiple of this, which is one of every schedule's: 8, 16, 32 and 64.
ROW_UNIT = 64
# Tasks from which on there are enough of them without splits, and how many a split makes of fewer, more or less.
_ENOUGH, _WANTED = 64, 128
_MOST = 256
# Columns of a split at most, as far as there may be so many: what a machine of its own takes a second or two for.
_LONGEST = 1 << 20
# Operations of a split at least, for a block of rows: what merging takes is little beside that.
_LEAST_OPERATIONS = 1 << 23


@dataclass(frozen=True)
class Splits:
    """Ranges of columns.

    Attributes:
        columns: How many there are in all.
        size: Columns of a split; the last one has what is left, more or fewer.
        count: How many splits.
    """

    columns: int
    size: int
    count: int

    def first(self, number: int) -> int:
        """The first column of a split; of the one behind the last, the number of columns."""
        return self.columns if number >= self.count else number * self.size


def splits_of(sweep: Sweep, of: Callable[[Any], Any] = int, flops: int | None = None) -> Splits:
    """The splits of a sweep: one, where there are enough tasks or too little work, or where results are of columns.

    Args:
        sweep: The sweep, of the whole problem.
        of: What its lengths are, if they are free.
        flops: Operations of a position, if they are known.
    """
    rows, columns = int(of(sweep.rows.length)), int(of(sweep.columns.length))
    if columns < 2 * UNIT or sweep.adds_up or sweep.selects:
        return Splits(columns, max(columns, 1), 1)
    tasks = math.prod(int(of(axis.length)) for axis in sweep.batch) * -(-rows // ROW_UNIT)
    if tasks >= _ENOUGH:
        return Splits(columns, columns, 1)
    work = (sweep.flops_of_position if flops is None else flops) * min(rows, ROW_UNIT)
    least = max(UNIT, -(-_LEAST_OPERATIONS // max(work, 1)))
    wanted = min(max(-(-_WANTED // max(tasks, 1)), -(-columns // _LONGEST)), columns // least, _MOST)
    if wanted <= 1:
        return Splits(columns, columns, 1)
    size = -(-(columns // UNIT) // wanted) * UNIT
    count = columns // size
    # What is left makes a split of its own, unless it is short.
    return Splits(columns, size, max(1, count + (columns - count * size >= UNIT)))
