"""Simplification: every node's own ``simplify`` rule, until none of them finds anything."""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite, until_stable


def simplify(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``x * 1`` is x, ``-(-x)`` is x, ``log(sum(exp(x)))`` is logsumexp; the rules stand with the operators."""
    return until_stable(roots, lambda graph: rewrite(graph, simplified, changes))


def simplified(node: Node) -> Node | None:
    """The node's own rule, followed as far as it leads; None if it leads nowhere."""
    better = node.simplify()
    result = better
    while better is not None:
        result, better = better, better.simplify()
    return result
