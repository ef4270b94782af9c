"""Loops over segments: rows of which each goes over the edges that belong to it, as a graph attention does.

An *edge* is a position of the array of segment ids; a *row* is a segment. Values vary over rows, over edges, and over
*small* axes, which are part of the code: what lies along them is one vector. A reduction over the edges of a row is
``reduce`` of the element at an edge, with the row as its second argument: a row is gone over once for each level of
reductions, and nothing of an edge is stored but what is a result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from .ir import Node
from .kernel import Elements
from .lengths import estimate
from .loop import Watch, cost
from .order import postorder
from .scalar import Axis, Scalar, show
from .types import is_integer

# What a result has an element for: each row, each edge, or the whole graph, a sum over all edges.
Extent = Literal["row", "edge", "total"]


class SegmentOutput(NamedTuple):
    """One result: its node, what its first axis is, the small axis of each other (None for length 1), its element."""

    node: Node
    extent: Extent
    small: tuple[Axis | None, ...]
    value: Scalar


@dataclass
class SegmentLoop:
    """One loop over segments as data.

    Attributes:
        ids: Which row each edge belongs to.
        wraps: Whether negative ids are counted from the end.
        row: The axis of rows.
        edge: The axis of edges.
        outputs: What it returns.
        members: Everything that is computed inside, operands first: what NumPy runs where a watch is set off.
        inputs: The nodes whose arrays it loads; the ids are the first.
        watches: Values that must not leave the range of numbers, and how.
        edge_index: An edge as an index.
        elements: What its scalars are made by.
    """

    ids: Node
    wraps: bool
    row: Axis
    edge: Axis
    outputs: tuple[SegmentOutput, ...]
    members: tuple[Node, ...]
    inputs: tuple[Node, ...]
    watches: dict[Scalar, Watch]
    edge_index: Scalar
    elements: Elements

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What it computes."""
        return tuple(output.node for output in self.outputs)

    @cached_property
    def scalars(self) -> list[Scalar]:
        """All its scalars, arguments first, those of indices that are loaded among them."""
        return needed_below([output.value for output in self.outputs])

    @cached_property
    def reductions(self) -> list[Scalar]:
        """Sums and maxima over the edges of a row, inner ones first."""
        return [each for each in self.scalars if self.is_over_edges(each)]

    @cached_property
    def numbers_of_edges(self) -> frozenset[Node]:
        """Inputs of one integer for each edge, which are read in the order of edges: where others lie, say."""
        loads = [each for each in self.scalars if each.op == "load"]
        others = {each.attribute for each in loads if each.args != (self.edge_index,)}
        return frozenset(each.attribute for each in loads if is_integer(each.dtype) and each.attribute not in others)

    def is_over_edges(self, scalar: Scalar) -> bool:
        """Whether it reduces over the edges of a row."""
        return scalar.op == "reduce" and scalar.attribute[1] is self.edge

    def small_axes(self, scalar: Scalar) -> list[Axis]:
        """The small axes that it varies over, in the order of lanes: those of results before those that are summed."""
        found = (each for each in scalar.axes if each is not self.row and each is not self.edge)
        return sorted(found, key=self.places.__getitem__)

    @cached_property
    def places(self) -> dict[Axis, tuple[int, int, str]]:
        """Where lanes have each small axis."""
        found: dict[Axis, tuple[int, int, str]] = {}
        for output in self.outputs:
            for number, axis in enumerate(output.small):
                if axis is not None:
                    found.setdefault(axis, (0, number, axis.name))
        for scalar in self.scalars:
            for axis in scalar.axes:
                found.setdefault(axis, (1, scalar.number, axis.name))
        return found

    def lanes(self, scalar: Scalar) -> int:
        """Elements of it for one row or edge."""
        found = 1
        for axis in self.small_axes(scalar):
            found *= int(axis.length)
        return found

    @property
    def elements_of_edges(self) -> int:
        """Elements of the widest value of all edges."""
        return int(estimate(self.edge.length)) * max(map(self.lanes, self.scalars))

    @property
    def flops(self) -> int:
        """Operations over all edges and rows: one for each function of an element."""
        rows, edges, total = int(estimate(self.row.length)), int(estimate(self.edge.length)), 0
        for scalar in self.scalars:
            if scalar.op in ("load", "constant", "axis", "length", "inside", "occupied"):
                continue
            wide = scalar.args[0] if scalar.op == "reduce" else scalar
            total += self.lanes(wide) * (edges if self.edge in wide.axes else rows)
        return total

    def __str__(self) -> str:
        rows, edges = int(estimate(self.row.length)), int(estimate(self.edge.length))
        mean = f"{edges / rows:.3g}" if rows else "no"
        lines = [f"for {self.row}:{rows} segments of {self.ids.type}; over {mean} of {self.edge}:{edges} edges each"]
        for output in self.outputs:
            small = "".join(f" {axis}:{axis.length}" for axis in output.small if axis is not None)
            lines.append(f"  return {output.node.type}, by {output.extent}{small}: {show(output.value, 6)}")
        return "\n".join(lines)


def needed_below(roots: Sequence[Scalar]) -> list[Scalar]:
    """All values of expressions, arguments first; an index that is a position or a number is none of them."""
    return postorder(roots, arguments)


def arguments(scalar: Scalar) -> tuple[Scalar, ...]:
    """What is computed for a scalar: of loads the indices that are loaded themselves; not the row of a reduction."""
    if scalar.op == "reduce":
        return scalar.args[:1]
    if scalar.op == "load":
        return tuple(each for each in scalar.args if is_computed(each))
    return scalar.args


def is_computed(index: Scalar) -> bool:
    """Whether an index of a load needs a value, rather than being arithmetic of positions."""
    return index.op in ("load", "inside", "reduce") or any(map(is_computed, index.args))


def edge_cost(loop: SegmentLoop, scalar: Scalar) -> int:
    """What computing it once for an edge costs, its arguments not counted, in additions of one register."""
    if scalar.op == "load":
        found = 4 if any(map(is_computed, scalar.args)) else 1
    elif scalar.op == "reduce":
        found = 4
    else:
        found = cost(scalar)
    wide: Any = scalar.args[0] if scalar.op == "reduce" else scalar
    return found * -(-loop.lanes(wide) // 8)
