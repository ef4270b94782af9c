"""Selections: the places of the largest of what is computed for pairs of a row and a column, kept while they stream.

A list of the largest is one more thing that a sweep accumulates: nothing of the size of all pairs is stored. What is
made of what was selected is a matter of other steps, whose columns are gathered by the list.
"""

from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..lengths import FEWEST_COLUMNS
from ..scalar import Axis, Scalar
from ..sweep import Accumulator, Output, Sweep
from ..types import FLOAT32
from .fused import Fused, settled
from .reach import Reach
from .rows import axis_of_rows

# Longer lists would have every row of a block hold too much beside its tiles.
LONGEST_LIST = 1024


def as_selection(node: Node, reach: Reach) -> Fused:
    """The sweep that computes ``node``, which selects.

    Raises:
        UnfusableError: If there is none.
    """
    return settled(node, reach.inlined(node), _lowered)


def _lowered(node: Node, inside: set[Node]) -> Fused:
    elements = Elements(lambda each: each not in inside, clamps=True, apart=True)
    at = [elements.new_axis("o", length) for length in node.shape]
    place, length = node.selects_along()
    if length < FEWEST_COLUMNS:
        raise UnfusableError(f"only {length} columns")
    if int(node.shape[place]) > LONGEST_LIST:
        raise UnfusableError(f"{node.name}: a list of {node.shape[place]} is too long to be kept for each row")
    columns = elements.new_axis("j", length)
    score = node.compared(elements, [elements.index(axis) for axis in at], elements.index(columns))
    if score.dtype != FLOAT32:
        raise UnfusableError(f"{node.name}: tiles are float32, not {score.dtype}")
    others = [axis for number, axis in enumerate(at) if number != place]
    rows = _rows(node, score, others, columns)
    sweep = Sweep(tuple(axis for axis in others if axis is not rows), rows, columns)
    listed = Accumulator(None, score, elements.constant(1.0, FLOAT32), at[place], selects=True)
    sweep.accumulators.append(listed)
    value = elements.make("accumulator", (), node.dtype, listed)
    value.axes = frozenset(at)
    sweep.outputs.append(Output(node, tuple(at), value, at[place], node, tuple(at)))
    return Fused(sweep, elements, inside)


def _rows(node: Node, score: Scalar, axes: list[Axis], columns: Axis) -> Axis:
    """The axis of rows; of a single row, one of length 1."""
    rows = axis_of_rows(score, axes, columns) or next((each for each in reversed(axes) if each.length == 1), None)
    if rows is None:
        raise UnfusableError(f"{node.name}: no axis of rows")
    return rows
