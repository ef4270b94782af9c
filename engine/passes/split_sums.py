"""Sums over rows and columns, taken one after the other: the first is a sweep's, for each of its rows."""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite


def split_sums(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``sum_ij x`` is ``sum_j (sum_i x)``, ``sum_bj x`` is ``sum_b (sum_j x)``: of products for pairs of i and j.

    The gradient of a slope or a temperature is such a sum: of all scores, which are not stored.
    """
    return rewrite(roots, _split, changes)


def _split(node: Node) -> Node | None:
    return node.split() if node.role == "reduction" and _is_of_pairs(node) else None


def _is_of_pairs(node: Node) -> bool:
    """Whether what is reduced is computed from a product of its own last two axes."""
    operand = node.operands[0]
    pair = operand.shape[-2:]
    seen: set[Node] = set()
    stack = [operand]
    while stack:
        each = stack.pop()
        if each in seen or each.shape[-2:] != pair:
            continue
        seen.add(each)
        if each.role == "contraction":
            return True
        if each.role in ("pointwise", "reduction"):
            stack += each.operands
    return False
