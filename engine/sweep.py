"""Sweeps: what streams over columns for a block of rows, and what it accumulates.

A value is *row-valued*, *column-valued* or *tile-valued* by the axes that it spans. Tile values are
recomputed for every tile and never stored. A sweep runs over the columns once and feeds any number of
accumulators; outputs are expressions of rows and accumulators, evaluated when it ends.
"""

import math
from dataclasses import dataclass, field

from .ir import Node
from .kernel import Axis, Scalar, below, show


@dataclass(frozen=True)
class Accumulator:
    """``sum over columns of exp(group - running maximum) * weight * column``.

    Attributes:
        group: The exponent, a tile value; accumulators of one group share a running maximum and are
            rescaled together. None: nothing is exponentiated, nothing rescaled.
        weight: A further tile factor; the constant 1 for none.
        column: What a column contributes, which may vary over ``small``; the constant 1 for a plain sum.
        small: The axis of a vector-valued accumulator, or None.
    """

    group: Scalar | None
    weight: Scalar
    column: Scalar
    small: Axis | None


@dataclass
class Output:
    """One result: the node that it computes, the axes of its indices, and its value per row."""

    node: Node
    axes: tuple[Axis, ...]
    value: Scalar
    small: Axis | None


@dataclass
class Sweep:
    """One pass over the columns for every block of rows, for every place along the batch axes."""

    batch: tuple[Axis, ...]
    rows: Axis
    columns: Axis
    outputs: list[Output] = field(default_factory=list)
    groups: list[Scalar] = field(default_factory=list)
    accumulators: list[Accumulator] = field(default_factory=list)

    @property
    def positions(self) -> int:
        """Pairs of a row and a column, over the whole batch."""
        return math.prod(axis.length for axis in (*self.batch, self.rows, self.columns))

    @property
    def flops(self) -> int:
        """Operations for all positions: two for each step of a contraction, one for each function."""
        scalars = below([*self.groups, *(each.weight for each in self.accumulators)])
        tile = [each for each in scalars if {self.rows, self.columns} <= each.axes and each.op != "load"]
        contracted = sum(2 * each.attribute[1].length if each.op == "reduce" else 1 for each in tile)
        summed = sum(2 * (1 if each.small is None else each.small.length) for each in self.accumulators)
        return self.positions * (contracted + summed + len(self.groups))

    def __str__(self) -> str:
        batch = ", ".join(f"{axis}:{axis.length}" for axis in self.batch)
        lines = [
            f"for {batch or 'once'}; rows {self.rows}:{self.rows.length}; sweep {self.columns}:{self.columns.length}"
        ]
        for number, group in enumerate(self.groups):
            lines.append(f"  group {number}: {show(group, 12)}")
        for number, each in enumerate(self.accumulators):
            scale = "" if each.group is None else f"exp(group {self.groups.index(each.group)}) * "
            lines.append(f"  sum {number}: {scale}{show(each.weight, 8)} * {show(each.column, 8)}")
        lines += [f"  return {output.node.type}: {show(output.value, 8)}" for output in self.outputs]
        return "\n".join(lines)
