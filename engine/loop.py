"""Loops: what is computed element by element, row after row, and stored once.

A loop runs over rows (its *lead* axes) and along each row (its *inner* axis). Values vary over the lead axes
alone, or over the inner axis too. Reductions run along the inner axis, several passes over one row, which
stays in the cache; nothing between the arrays that are read and those that are returned is stored.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from .ir import Node
from .kernel import Elements
from .lengths import estimate
from .order import postorder
from .scalar import Axis, Scalar, show

# What must not happen to a value, for the interpreter would take a closer look:
# "finite": that it is not finite; "upper": that it is NaN or +inf;
# "mask": either, or a -inf that none of its arguments brought.
Watch = Literal["finite", "upper", "mask"]

# Functions that take a vector about as long as this many additions.
_DEAR = {"divide": 4, "safe_divide": 5, "sqrt": 4, "reciprocal": 4, "rsqrt": 6, "floor_divide": 16, "remainder": 16}
# fmt: off
_PLAIN = frozenset({
    "abs", "add", "astype", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "ceil", "equal", "floor",
    "greater", "greater_equal", "isnan", "less", "less_equal", "logical_and", "logical_not", "logical_or",
    "logical_xor", "maximum", "minimum", "multiply", "negative", "not_equal", "positive", "reduce", "round", "sign",
    "square", "subtract", "trunc", "where",
})
# fmt: on
_TRANSCENDENTAL = 20


class LoopOutput(NamedTuple):
    """One result: its node, the loop's axis for each of its own (None where its length is 1), its element."""

    node: Node
    axes: tuple[Axis | None, ...]
    value: Scalar


class Access(NamedTuple):
    """Where a load reads: for each axis of the array a constant, and how many steps each axis of the loop makes."""

    offsets: tuple[int, ...]
    steps: tuple[dict[Axis, int], ...]


@dataclass
class Loop:
    """One loop as data.

    Attributes:
        lead: The axes of rows, none of length 1.
        inner: The axis along a row.
        outputs: What it returns.
        members: Everything that is computed inside, operands first: what NumPy runs where a watch is set off.
        inputs: The nodes whose arrays it loads.
        accesses: Where each load reads.
        watches: Values that must not leave the range of numbers, and how.
        elements: What its scalars are made by.
    """

    lead: tuple[Axis, ...]
    inner: Axis
    outputs: tuple[LoopOutput, ...]
    members: tuple[Node, ...]
    inputs: tuple[Node, ...]
    accesses: dict[Scalar, Access]
    watches: dict[Scalar, Watch]
    elements: Elements

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What it computes."""
        return tuple(output.node for output in self.outputs)

    @property
    def rows(self) -> int:
        """How many rows."""
        return math.prod(estimate(axis.length) for axis in self.lead)

    @property
    def positions(self) -> int:
        """How many elements it runs over."""
        return self.rows * int(estimate(self.inner.length))

    @cached_property
    def scalars(self) -> list[Scalar]:
        """All its scalars, arguments first; the indices of loads are none of them."""
        return values_below([output.value for output in self.outputs])

    @cached_property
    def reductions(self) -> list[Scalar]:
        """Sums and maxima along the rows, inner ones first."""
        return [each for each in self.scalars if each.op == "reduce"]

    @property
    def flops(self) -> int:
        """Operations over all rows: one for each function of an element."""
        computed = [each for each in self.scalars if each.op not in ("load", "constant", "axis")]
        inside = sum(1 for each in computed if self.inner in each.axes or each.op == "reduce")
        return self.positions * inside + self.rows * (len(computed) - inside)

    def __str__(self) -> str:
        lead = ", ".join(f"{axis}:{axis.length}" for axis in self.lead)
        lines = [f"for {lead or 'once'}; along {self.inner}:{self.inner.length}"]
        lines += [f"  return {output.node.type}: {show(output.value, 10)}" for output in self.outputs]
        return "\n".join(lines)


def values_below(roots: Sequence[Scalar]) -> list[Scalar]:
    """All values of expressions, arguments first: as `below`, but not what lies in the indices of loads."""
    return postorder(roots, lambda scalar: () if scalar.op == "load" else scalar.args)


def cost(scalar: Scalar) -> int:
    """What computing one element costs, its arguments not counted, in additions."""
    if scalar.op in ("load", "constant", "axis"):
        return 0
    return 1 if scalar.op in _PLAIN else _DEAR.get(scalar.op, _TRANSCENDENTAL)
