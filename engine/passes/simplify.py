"""Simplification: every node's own ``simplify`` rule, until none of them finds anything."""

from collections.abc import Callable, Collection, Sequence

from ..ir import Change, Node, rewrite, until_stable
from .fold_constants import folded


def simplify(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``x * 1`` is x, ``-(-x)`` is x, ``log(sum(exp(x)))`` is logsumexp; the rules stand with the operators."""
    return until_stable(roots, lambda graph: rewrite(graph, simplified, changes))


def normal_form(roots: Sequence[Node], kept: Collection[Node]) -> tuple[Node, ...]:
    """The graph as it is differentiated: simplified, but for what says something about gradients.

    Rules that make a product of one function of what many wrote in several do so for their gradients, too; and since a
    graph that is run is simplified by the same rules, it shares with its gradients what both need.

    Args:
        roots: What is differentiated.
        kept: By what: these nodes stay.
    """
    stays = frozenset(kept)

    def rule(node: Node) -> Node | None:
        if node.of_gradients or node in stays:
            return None
        return simplified(node, lambda each: each.of_gradients or each in stays) or node.distribute()

    return until_stable(roots, lambda graph: rewrite(graph, rule, kept=kept))


def simplified(node: Node, stays: Callable[[Node], bool] = lambda _: False) -> Node | None:
    """The node's own rule, followed as far as it leads, or to what stays; None if it leads nowhere."""
    result: Node | None = None
    better = node
    while not stays(better):
        found = better.simplify() or folded(better)
        if found is None:
            break
        result = better = found
    return result
