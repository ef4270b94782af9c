"""Packing: what a sweep would compute again for every block of rows is computed once, before it.

A tile's columns are read anew for every block of rows. What a column brings is left where it stands if it is
a load, or a scalar of one cheap operation; anything else (``v * v``, rotated or normalised keys, a cast) is a
step before, of the size of its own array. What a row brings is computed once for its block anyway, and left
there.
"""

import math
from collections.abc import Iterable

from ..ir import Node
from ..kernel import Elements
from ..lengths import LEAST, estimate
from ..scalar import Axis, Scalar, below
from ..sweep import Sweep
from ..types import is_float
from .pair_body import is_paired, pair_parts

# Fewer rows read their columns so seldom that a step before does not pay.
FEWEST_ROWS = LEAST
# Operations of a column's scalar that is computed for every block of rows all the same.
_FREE = 2
# Of what is stored in a narrow type: it is widened for a block of columns at a time, and scaled in passing.
_NARROW = 6
_DEAR = frozenset({"divide", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "sin", "cos", "pow", "erf", "log1p"})
# A node may be larger than what is used of it, by a slice say; not by this much.
_LARGER = 4


def to_pack(sweep: Sweep, elements: Elements) -> set[Node]:
    """Nodes that are better stored before the sweep runs."""
    if sweep.rows.length < FEWEST_ROWS:
        return set()
    found: set[Node] = set()
    for scalar in _brought_by_columns(sweep):
        if _cost(scalar, sweep) > _free(scalar, sweep):
            node = elements.origin.get(scalar)
            if node is not None and _size(node.shape) <= _LARGER * _size(axis.length for axis in scalar.axes):
                found.add(node)
    return found


def _free(scalar: Scalar, sweep: Sweep) -> int:
    """So many operations are done in the sweep."""
    small = _small(scalar, sweep)
    if not small:
        return _FREE
    loads = [each for each in below([scalar]) if each.op == "load" and small & each.axes and sweep.columns in each.axes]
    return _NARROW if any(each.dtype.itemsize < 4 for each in loads) else 0


def _brought_by_columns(sweep: Sweep) -> list[Scalar]:
    """The largest parts of tiles that vary over columns and not over rows, and what accumulators weigh."""
    found: dict[Scalar, None] = {}
    for accumulator in sweep.accumulators:
        brought = [accumulator.column]
        if accumulator.small is not None and is_paired(accumulator.column, sweep):
            brought = list(pair_parts(accumulator.column, sweep, accumulator.small).columns)
        found |= dict.fromkeys(each for each in brought if sweep.columns in each.axes)
    for scalar in below([*sweep.groups, *(each.weight for each in sweep.accumulators)]):
        if sweep.rows in scalar.axes:
            parts = [each for each in scalar.args if sweep.columns in each.axes and sweep.rows not in each.axes]
            found |= dict.fromkeys(each for each in parts if is_float(each.dtype))
    return list(found)


def _small(scalar: Scalar, sweep: Sweep) -> frozenset[Axis]:
    return scalar.axes - {sweep.columns, *sweep.batch}


def _cost(scalar: Scalar, sweep: Sweep) -> int:
    """Operations on floats for one element, those that are dear counted more often."""
    inner = [each for each in below([scalar]) if sweep.columns in each.axes and is_float(each.dtype)]
    return sum((8 if each.op in _DEAR else 1) for each in inner if each.op != "load")


def _size(lengths: Iterable[int]) -> int:
    return math.prod(map(estimate, lengths))
