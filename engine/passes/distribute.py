"""Distribution: a product over a sum of shares as a sum of products, as gradients have it."""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite


def distribute(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``(P - Q) @ V`` is ``P @ V - Q @ V``, which a backward pass needs; `common_factors` undoes what none does."""
    return rewrite(roots, lambda node: node.distribute(), changes)
