"""Gathers of which nobody has proven that their indices lie inside: who looks at which of them.

A kernel looks at the indices of the tiles that it computes. Where masks decide what is computed, an index that a mask
itself is made of must be looked at before; and one that varies over more than rows and columns is no tile value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import Node, Values
from ..scalar import Scalar, below
from ..summaries import evaluate
from ..sweep import Sweep


def unseen_gathers(sweep: Sweep) -> set[Scalar]:
    """Elements that are gathered by indices that neither a kernel nor `any_outside` can look at."""
    everything = below(sweep.expressions())
    if not any(each.op == "inside" for each in everything):
        return set()
    deciding = _of_conditions(sweep)
    own = {sweep.rows, sweep.columns, *sweep.batch}
    unseen = [
        each
        for each in everything
        if each.op == "inside" and (not each.axes <= own or (each in deciding and sweep.pair <= each.axes))
    ]
    found: set[Scalar] = set()
    for inside in unseen:
        users = [each for each in everything if each.op == "load" and inside in below(each.args)]
        found |= set(users or [inside])
    return found


def deciding_gathers(sweep: Sweep) -> list[Scalar]:
    """Indices that masks are made of: of rows or columns, or the same for all of them."""
    return [each for each in _of_conditions(sweep) if each.op == "inside"]


def any_outside(gathers: Sequence[Scalar], arrays: Mapping[Node, Values], of: Callable[[Any], Any]) -> bool:
    """Whether any index lies outside its axis."""
    for each in gathers:
        axes = sorted(each.axes, key=repr)
        lengths = [int(of(axis.length)) for axis in axes]
        grid = [np.arange(length).reshape((-1,) + (1,) * (len(axes) - 1 - n)) for n, length in enumerate(lengths)]
        index, length = evaluate(each.args, arrays, dict(zip(axes, grid, strict=True)), of)
        if np.any((index < -length) | (index >= length)):
            return True
    return False


def _of_conditions(sweep: Sweep) -> dict[Scalar, None]:
    conditions = [each.args[0] for each in below(sweep.expressions()) if each.op == "where"]
    pair, batch = {sweep.rows, sweep.columns}, set(sweep.batch)
    return dict.fromkeys(below([each for each in conditions if pair & each.axes or each.axes <= batch]))
