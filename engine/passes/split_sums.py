"""Sums over rows and columns, taken one after the other: the first is a sweep's, for each of its rows."""

from collections.abc import Sequence

from ..ir import Change, Node, rewrite


def split_sums(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``sum_ij x`` is ``sum_j (sum_i x)``, ``sum_bj x`` is ``sum_b (sum_j x)``, where rows i and columns j meet in x.

    The gradient of a slope or a temperature is such a sum: of all scores, which are not stored. That of the weights
    in ``sum_d a_d f(x_id + y_jd)`` is one of vectors.
    """
    return rewrite(roots, _split, changes)


def _split(node: Node) -> Node | None:
    if node.role != "reduction":
        return None
    pair = _pair(node)
    return None if pair is None else node.split(*pair)


def _pair(node: Node) -> tuple[int, int] | None:
    """The axes along which what is reduced holds something for each row and each column."""
    operand = node.operands[0]
    last = len(operand.shape) - 1
    seen: set[Node] = set()
    stack = [operand]
    while stack:
        each = stack.pop()
        if each in seen or each.shape[-2:] != operand.shape[-2:]:
            continue
        seen.add(each)
        if each.role == "contraction":
            return last - 1, last
        met = _met(each) if each.shape == operand.shape else None
        if met is not None:
            return met
        if each.role in ("pointwise", "reduction"):
            stack += each.operands
    return None


def _met(node: Node) -> tuple[int, int] | None:
    """The axes of rows and columns, where arrays of both meet element by element along a further axis."""
    if node.role != "pointwise" or len(node.operands) != 2:
        return None
    missing = [
        {axis for axis, length in enumerate(node.shape) if length != 1 and _length(operand, axis, node) == 1}
        for operand in node.operands
    ]
    if any(len(each) != 1 for each in missing) or missing[0] == missing[1]:
        return None
    first, second = sorted((*missing[0], *missing[1]))
    return (first, second) if second < len(node.shape) - 1 else None


def _length(operand: Node, axis: int, result: Node) -> int:
    """The length of an operand along an axis of the result."""
    place = axis - len(result.shape) + len(operand.shape)
    return operand.shape[place] if place >= 0 else 1
