"""The state of a sweep: what it knows of some rows when a part of the columns has been streamed.

``(largest exponent of each group, whether anything was seen of it, sums)``, for all rows of a task side by side, in
float32, as the kernel that left it has them. The state of a task is a row of `StateLayout.floats` numbers; states of
different columns merge (`engine.states`), and a kernel of the last stage makes results of one.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ..sweep import Sweep
from .few_rows_sizes import FewRows
from .schedule import Schedule

# Where the states of a call lie.
STATES = ("states", "", "pointer")
# Floats of a cache line, where every field begins.
_LINE = 16


class Stage(Enum):
    """What of a sweep a kernel does.

    Attributes:
        WHOLE: All of it: from columns to results.
        STREAM: Go on with states, over a range of columns.
        FINISH: Make results of states whose columns have ended.
    """

    WHOLE = "whole"
    STREAM = "stream"
    FINISH = "finish"


class Field(NamedTuple):
    """Numbers of one kind in a state.

    Attributes:
        offset: Where it begins, in floats.
        rows: How many rows.
        width: Numbers of each row.
        by_row: Whether a row's numbers lie side by side; else those of all rows do.
        group: Of a sum, the exponent by whose largest value it is scaled, by its number; None for none.
    """

    offset: int
    rows: int
    width: int
    by_row: bool
    group: int | None = None

    @property
    def floats(self) -> int:
        """How many numbers."""
        return self.rows * self.width


@dataclass(frozen=True)
class StateLayout:
    """Where the parts of a state are.

    Attributes:
        largest: The largest exponent of each group.
        seen: For each group, 1 for rows to which a column was visible although no exponent is more than -inf.
        sums: What accumulates, in the order of the sweep's accumulators.
        floats: Numbers of a state: whole cache lines.
    """

    largest: tuple[Field, ...]
    seen: tuple[Field, ...]
    sums: tuple[Field, ...]
    floats: int


def state_layout(sweep: Sweep, schedule: Schedule | FewRows, lanes: int) -> StateLayout:
    """The layout that kernels of a schedule have."""
    few = isinstance(schedule, FewRows)
    rows = (1 if schedule.single else schedule.rows) if isinstance(schedule, FewRows) else schedule.vectors * lanes
    place = 0

    def field(width: int, group: int | None = None) -> Field:
        nonlocal place
        found = Field(place, rows, width, few, group)
        place += -(-found.floats // _LINE) * _LINE
        return found

    largest = tuple(field(1) for _ in sweep.groups)
    seen = tuple(field(1) for _ in sweep.groups)
    sums = []
    for each in sweep.accumulators:
        group = None if each.group is None else sweep.groups.index(each.group)
        if each.small is not None:
            width = int(each.small.length)
            sums.append(field(-(-width // lanes) * lanes if few else width, group))
        else:  # of few rows a sum has as many parts as vectors have lanes, until the columns end
            sums.append(field(lanes if few else 1, group))
    return StateLayout(largest, seen, tuple(sums), place)
