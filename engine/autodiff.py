"""Gradients: a reverse walk that asks each node for its rule, graph to graph.

What a node contributes to the gradients of its operands is the node's own business (`Node.gradient`); the walk adds
the contributions up. Since rules make nodes of the same operators, gradients have gradients.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from .ir import Node, walk
from .location import inherited_lines
from .types import is_float

# A gradient as rules have it: a handle on a node.
Handle = TypeVar("Handle")


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
    for output, seed in zip(outputs, seeds, strict=True):
        if output in depends:
            arrived[output] = add(arrived[output], seed) if output in arrived else seed
    found: dict[Node, Handle] = {}
    wanted = frozenset(wrt)
    with inherited_lines() as inherit:
        for node in reversed(order):
            upstream = arrived.pop(node, None)
            if upstream is None:
                continue
            inherit(node.lines)
            if node in wanted:
                found[node] = upstream
            if not any(operand in depends for operand in node.operands):
                continue
            for operand, part in zip(node.operands, node.gradient(upstream), strict=True):
                if part is None or operand not in depends:
                    continue
                fitting = fit(part, operand)
                if fitting is not None:
                    arrived[operand] = add(arrived[operand], fitting) if operand in arrived else fitting
    return [found.get(node) for node in wrt]


def _dependents(order: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """Floats that a gradient goes through: the nodes of ``wrt``, and what is computed from them."""
    depends: set[Node] = set(wrt)
    for node in order:
        if is_float(node.dtype) and any(operand in depends for operand in node.operands):
            depends.add(node)
    return depends
