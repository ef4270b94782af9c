"""The columns of a sweep as lists: where a condition says that a row sees the columns in a list of its own.

A condition ``listed(found, which, value)`` holds where ``value`` stands in list ``which``. If one of them is a number
of rows, and the other one of columns, then what a block of rows sees is known before the sweep begins: runs of columns,
which it goes through instead of all of them. For a sweep the other way round the lists are turned around.
"""

from typing import NamedTuple

from ..ir import Node
from ..kernel import Elements
from ..leaves import Placeholder
from ..scalar import Axis, Scalar
from ..sweep import Sweep
from ..types import BOOL, INT64, TensorType


class Listed(NamedTuple):
    """A sweep's condition that lists decide.

    Attributes:
        condition: It holds where a row sees a column.
        which: The number of a list.
        value: What is looked for in it.
        batch: The batch axes that lists or values vary over, in the order of the axes of ``begins``.
        begins: Stands for the array of where the runs of a block of rows begin, and behind the last one end.
        runs: Stands for the array of runs: the first column, that behind the last one, and the rows that see them, a
            bit each.
        visible: Stands for the condition in code that goes through the runs.
    """

    condition: Scalar
    which: Scalar
    value: Scalar
    batch: tuple[Axis, ...]
    begins: Node
    runs: Node
    visible: Scalar

    @property
    def starts(self) -> Node:
        """The array of where lists begin."""
        found: Node = self.condition.attribute[0]
        return found

    @property
    def indices(self) -> Node:
        """The array of what lists hold."""
        found: Node = self.condition.attribute[1]
        return found


def listed_by(sweep: Sweep, elements: Elements, condition: Scalar) -> Listed | None:
    """The lists that decide a condition, or None."""
    if condition.op != "listed":
        return None
    _, which, value = condition.args
    sides = [frozenset((sweep.rows, sweep.columns)) & each.axes for each in (which, value)]
    # A single row is the same wherever it is: no index varies over it.
    rows, columns = sweep.pair - {sweep.columns}, frozenset((sweep.columns,))
    if sides not in ([rows, columns], [columns, rows]):
        return None
    batch = tuple(axis for axis in sweep.batch if axis in which.axes | value.axes)
    if not which.axes | value.axes <= {sweep.rows, sweep.columns, *batch}:
        return None
    begins = Placeholder.new(TensorType((0,) * (len(batch) + 1), INT64), "begins")
    runs = Placeholder.new(TensorType((0, 3), INT64), "runs")
    pair = (elements.index(sweep.rows), elements.index(sweep.columns))
    return Listed(condition, which, value, batch, begins, runs, elements.make("visible", pair, BOOL))
