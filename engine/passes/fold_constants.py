"""Constant folding: what depends on scalars of the program alone is computed now."""

from collections.abc import Sequence

import numpy as np

from ..ir import Change, Node, rewrite
from ..leaves import Constant
from ..types import carrier, is_float, widen


def fold_constants(roots: Sequence[Node], changes: list[Change] | None = None) -> tuple[Node, ...]:
    """``exp(2) * x`` is ``7.389… * x``."""
    return rewrite(roots, folded, changes)


def folded(node: Node) -> Node | None:
    """The constant that a node of constants is, or None."""
    if node.shape or not node.operands:
        return None
    constants = [operand for operand in node.operands if isinstance(operand, Constant)]
    if len(constants) != len(node.operands):
        return None
    with np.errstate(all="ignore"):
        values = [operand.reference().astype(carrier(operand.type)) for operand in constants]
        if node.wide:
            values = [widen(value) for value in values]
        result = np.asarray(node.reference(*values))
        if node.rounds:
            result = result.astype(node.dtype)
        result = result.astype(carrier(node.type))
    value = float(result) if is_float(node.dtype) else result.item()
    return Constant(value, node.dtype, node.type.weak)
