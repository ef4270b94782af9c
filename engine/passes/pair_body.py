"""Pair bodies: what a row and a column bring together to a sum, along one small axis.

The gradient of a distance is ``sum_j T_ij (x_id - y_jd)``. Distributed into ``x_id sum_j T_ij - sum_j T_ij y_jd`` it
would lose the digits that near points share, so the difference stays one *body*, computed where it is summed, as the
body of a contraction is: ``sign(x - y)``, ``1 - tanh(x + y)**2`` and a select of ``x + y`` are others.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ..ir import UnfusableError
from ..scalar import Axis, Scalar, below
from ..sweep import Sweep


class PairParts(NamedTuple):
    """What a body is computed from.

    Attributes:
        rows: Its largest parts that vary over rows and the small axis.
        columns: Its largest parts that vary over the small axis, and not over rows.
        steps: What is computed of them for each row and column, arguments first; the body is the last.
    """

    rows: tuple[Scalar, ...]
    columns: tuple[Scalar, ...]
    steps: tuple[Scalar, ...]


def small_axes(scalar: Scalar, sweep: Sweep) -> frozenset[Axis]:
    """The axes that it varies over beside the sweep's own."""
    return scalar.axes - {sweep.rows, sweep.columns, *sweep.batch}


def is_paired(scalar: Scalar, sweep: Sweep) -> bool:
    """Whether it varies over rows, columns and a further axis."""
    return {sweep.rows, sweep.columns} <= scalar.axes and bool(small_axes(scalar, sweep))


def brought_along_small(
    factors: Mapping[Scalar, int], sweep: Sweep, streamed: Axis
) -> tuple[dict[Scalar, int], dict[Scalar, int]]:
    """Factors with an axis of their own: those that stay in a sum over ``streamed``, and those that leave it.

    What varies over no row and no column stays with what is brought for each of those, and leaves a body of pairs.
    """
    small = {f: p for f, p in factors.items() if small_axes(f, sweep)}
    paired = any(is_paired(f, sweep) for f in small)
    both = {sweep.rows, sweep.columns}
    leaving = {f: p for f, p in small.items() if streamed not in f.axes and (paired or f.axes & both)}
    return {f: p for f, p in small.items() if f not in leaving}, leaving


def pair_parts(body: Scalar, sweep: Sweep, small: Axis) -> PairParts:
    """A body taken apart.

    Raises:
        UnfusableError: If it is made of more than what rows bring, what columns bring, and numbers.
    """
    rows: dict[Scalar, None] = {}
    columns: dict[Scalar, None] = {}
    steps: set[Scalar] = set()
    stack = [body]
    while stack:
        each = stack.pop()
        if each in steps:
            continue
        own = each.axes & {sweep.rows, sweep.columns}
        if small not in each.axes:
            if own or each.waits:
                raise UnfusableError("a value of rows or columns alone inside what a pair of them brings")
        elif sweep.rows not in own:
            columns[each] = None
        elif sweep.columns not in own:
            rows[each] = None
        elif each.op in ("load", "reduce", "call"):
            raise UnfusableError("a value that varies over rows, columns and a further axis at once")
        else:
            steps.add(each)
            stack += each.args
    ordered = tuple(each for each in below([body]) if each in steps)
    return PairParts(tuple(rows), tuple(columns), ordered)
