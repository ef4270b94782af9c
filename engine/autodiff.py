"""Gradients: a reverse walk that asks each node for its rule, graph to graph.

What a node contributes to the gradients of its operands is the node's own business (`Node.gradient`); the walk adds
the contributions up. Since rules make nodes of the same operators, gradients have gradients.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from .ir import Node, walk
from .location import inherited_lines
from .types import DType, Shape, is_float


class _Shaped(Protocol):
    @property
    def shape(self) -> Shape: ...

    @property
    def dtype(self) -> DType: ...


# A gradient as rules have it: a handle on a node.
Handle = TypeVar("Handle", bound=_Shaped)


def reverse(
    outputs: Sequence[Node],
    seeds: Sequence[Handle],
    wrt: Sequence[Node],
    *,
    add: Callable[[Handle, Handle], Handle],
    fit: Callable[[Handle, Node], Handle | None],
) -> list[Handle | None]:
    """The gradients of ``sum(output * seed)`` over all outputs, for each node of ``wrt``; None where it is zero.

    Args:
        outputs: What is differentiated.
        seeds: The gradient that arrives at each output.
        wrt: By what.
        add: Adds two contributions.
        fit: Brings a contribution to a node's own shape and data type: a rule may leave it in the shape that the
            node was broadcast to. None where that is known to be zero.
    """
    order = walk(outputs)
    depends = _dependents(order, wrt)
    arrived: dict[Node, Handle] = {}

    def arrives(node: Node, part: Handle) -> None:
        if node not in arrived and _may_stay_spread(part, node):
            arrived[node] = part
            return
        before = fit(arrived.pop(node), node) if node in arrived else None
        both = before, fit(part, node)
        fitting = [each for each in both if each is not None]
        if fitting:
            arrived[node] = fitting[0] if len(fitting) == 1 else add(fitting[0], fitting[1])

    for output, seed in zip(outputs, seeds, strict=True):
        if output in depends:
            arrives(output, seed)
    found: dict[Node, Handle] = {}
    wanted = frozenset(wrt)
    with inherited_lines() as inherit:
        for node in reversed(order):
            upstream = arrived.pop(node, None)
            if upstream is None:
                continue
            inherit(node.lines)
            if node in wanted:
                fitting = fit(upstream, node)
                if fitting is None:
                    continue
                found[node] = upstream = fitting
            if not any(operand in depends for operand in node.operands):
                continue
            for operand, part in zip(node.operands, node.gradient(upstream), strict=True):
                if part is not None and operand in depends:
                    arrives(operand, part)
    return [found.get(node) for node in wrt]


def _may_stay_spread(part: _Shaped, node: Node) -> bool:
    """Whether a contribution may stay in the shape that a matrix was broadcast to, until its own operands need less.

    What is made of the scores of all heads, say, and summed over them now, would be an array of all pairs. The
    operands of an element-wise function are mostly smaller, and sums for them are a sweep's.
    """
    matrix = node.shape[-2:]
    if node.role != "pointwise" or len(matrix) < 2 or 1 in matrix or part.dtype != node.dtype:
        return False
    return part.shape[-2:] == matrix and part.shape != node.shape


def _dependents(order: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """Floats that a gradient goes through: the nodes of ``wrt``, and what is computed from them."""
    depends: set[Node] = set(wrt)
    for node in order:
        if is_float(node.dtype) and any(operand in depends for operand in node.operands):
            depends.add(node)
    return depends
