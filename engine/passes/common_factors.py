"""Common factors: ``a*x + a*y`` is ``a*(x + y)``, one product over the large shape less."""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite, until_stable, users


def common_factors(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """Each node's own ``factor_out`` rule, told how often every node is used."""

    def sweep(graph: tuple[Node, ...]) -> tuple[Node, ...]:
        uses = users(graph)
        return rewrite(graph, lambda node: node.factor_out(uses), changes)

    return until_stable(roots, sweep)
