"""Which axis of a result is that of a sweep's rows.

With a single row (one query, a vector of weights) nothing tells a tile value from a column value, for an axis of
length 1 stands in no index: what varies over the columns is computed inside the sweep, once for each column
either way.
"""

import itertools

from ..ir import UnfusableError
from ..scalar import Axis, Scalar, below
from ..sweep import Sweep

# Up to so many rows a sweep has a kernel of its own, whose vectors run over columns: there it is the quicker one.
# With AVX-512 3 times at 2 rows, 1.4 times at 8, as quick at 12; with narrower vectors twice at 4, as quick at 8.
FEW_ROWS = 8


def axis_of_rows(element: Scalar, axes: list[Axis], columns: Axis) -> Axis | None:
    """The last axis that tiles vary over but some operand of the columns does not; None if there is none.

    What accumulators sum must not vary over it; a table for pairs may, and best is an axis that nothing else
    that columns bring varies over.

    Args:
        element: An element of the result.
        axes: The result's axes.
        columns: The axis that is streamed.
    """
    loads = [each for each in below([element]) if each.op == "load" and columns in each.axes]
    contracted = _contracted(element, columns)
    scored = frozenset((columns,)).union(*(each.axes for each in contracted))
    for allowed in (scored, scored.union(*(each.axes for each in loads)) - (frozenset(axes) - scored)):
        for axis in reversed(axes):
            having = [each for each in loads if axis in each.axes]
            is_paired = any(axis not in each.axes and not each.axes <= scored for each in loads)
            is_tiles = axis.length > 1 and any(axis in each.axes for each in contracted)
            if is_tiles and is_paired and all(each.axes <= allowed for each in having):
                return axis
    return None


def columns_reductions(sweep: Sweep) -> set[Scalar]:
    """Of a single row, reductions that no tile can hold: in other reductions, and in what accumulators sum.

    With more rows they are known by varying over columns alone.
    """
    if sweep.rows.length > 1:
        return set()
    tile = below([*sweep.groups, *(each.weight for each in sweep.accumulators)])
    roots = [argument for each in tile if each.op == "reduce" for argument in each.args]
    return {each for each in below([*roots, *(each.column for each in sweep.accumulators)]) if each.op == "reduce"}


def single_row(element: Scalar, axes: list[Axis], columns: Axis) -> tuple[list[Axis], Axis]:
    """The axes of a result with one row, and the axis that is taken for that of its rows.

    It is an axis of length 1, one more if there is none: before the last axis, where that one varies in a column
    operand only; else at the end. Of several it is the first, so that results of more or fewer of them agree.

    Args:
        element: An element of the result.
        axes: The result's axes.
        columns: The axis that is streamed.

    Raises:
        UnfusableError: If nothing is contracted for the columns: no sweep is needed for that.
    """
    contracted = _contracted(element, columns)
    if not contracted:
        raise UnfusableError("no axis of rows: nothing in it is contracted for pairs of a row and a column")
    scored = frozenset[Axis]().union(*(each.axes for each in contracted))
    has_small = bool(axes) and axes[-1].length > 1 and axes[-1] not in scored
    before, small = (axes[:-1], axes[-1:]) if has_small else (axes, [])
    ones = list(itertools.takewhile(lambda axis: axis.length == 1, reversed(before)))
    if ones:
        return axes, ones[-1]
    rows = Axis("row", 1)
    return [*before, rows, *small], rows


def _contracted(element: Scalar, columns: Axis) -> list[Scalar]:
    """What is contracted for each of the columns."""
    return [each for each in below([element]) if each.op == "reduce" and columns in each.axes]
