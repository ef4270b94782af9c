"""Generations: what is computed anew for a backward pass is kept apart from what the forward pass has computed.

Otherwise one sweep would do both at once, for they read the same arrays, and the forward pass would keep all that is
to be computed again.
"""

from collections.abc import Sequence

from ..ir import Node


def generations(order: Sequence[Node]) -> dict[Node, int]:
    """For each node, as a set of bits, what it takes that is computed anew. Nodes without any are left out.

    Args:
        order: A graph's nodes, operands first.
    """
    found: dict[Node, int] = {}
    count = 0
    for node in order:
        bits = 0
        for operand in node.operands:
            bits |= found.get(operand, 0)
        if node.begins_anew:
            bits |= 1 << count
            count += 1
        if bits:
            found[node] = bits
    return found


def begun_from(order: Sequence[Node]) -> list[Node]:
    """What is stored for what is computed anew to begin from, and not the parts that it was made of."""
    return [operand for node in order if node.begins_anew for operand in node.operands if operand.role != "leaf"]
