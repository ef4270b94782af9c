"""Centering: sums over what adds up to 0 along a line are taken of deviations from that line's mean."""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite


def center(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``sum(D X)`` is ``sum(D (X - sum(P X)))`` for gradients D of a softmax P: those of slopes and temperatures.

    It is done while what D subtracts from a line is still written as that line's mean, which `exchange` rewrites.
    """
    return rewrite(roots, lambda node: node.center(), changes)
