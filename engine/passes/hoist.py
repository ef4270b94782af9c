"""Hoisting: factors that do not vary over what is summed leave the sum.

``sum_j(r_i * x_ij)`` is ``r_i * sum_j(x_ij)``: the normaliser of a softmax is divided by once a row,
not once an element.
"""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite, until_stable, users


def hoist_row_factors(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """Each node's own ``hoist`` rule, told how often every node is used."""

    def sweep(graph: tuple[Node, ...]) -> tuple[Node, ...]:
        uses = users(graph)
        return rewrite(graph, lambda node: node.hoist(uses), changes)

    return until_stable(roots, sweep)
