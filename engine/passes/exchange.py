"""Sums over products that the graph holds, in place of sums over what it would have to compute again."""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite, walk


def exchange(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``sum_j P (dO @ V.mT)`` is ``sum_d dO (P @ V)`` where ``P @ V`` is there: the row sums of a backward pass."""
    present = frozenset(node for node in walk(roots) if node.role == "contraction")
    return rewrite(roots, lambda node: node.exchange(present), changes)
