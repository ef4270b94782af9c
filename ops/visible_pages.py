"""Where the positions of what was computed from paged arrays are there: lengths go with the positions.

A paged array is 0 at and beyond a length, but 0 is a key like any other. So attention asks of its keys and
values where positions are there, whatever has been made of the pages before: casts and other element-wise functions,
slices, joins and rearrangements, and what keeps a position's row a row, as products with weights do. What sums
positions up (their mean, say) has no such positions any more, and takes the zeros for what they are.
"""

import weakref
from collections.abc import Sequence

from ..engine.ir import Node
from ..engine.order import postorder
from ..engine.types import BOOL
from .array import Array
from .creation import ones
from .guard import Guard
from .identities import Identity
from .joining import Concat
from .kinds import Rearrangement
from .logic import logical_and
from .pages import Pages
from .reduction import all as all_true
from .shape import broadcast_to

# What has been found of nodes, which are one for each expression: a deep graph is not gone through for each layer.
_known: "weakref.WeakKeyDictionary[Node, Node | None]" = weakref.WeakKeyDictionary()


def visible_pages(node: Node) -> tuple[Node, Node | None]:
    """What an array reads, and where its positions are there, in axes that broadcast to its own; None for everywhere.

    Of a paged array itself that is what lies in its pages, whatever it is beyond the lengths.
    """
    return (node.left if isinstance(node, Pages) else node), _visible(node)


def visible_rows(node: Node) -> Array | None:
    """Where an array's positions are there, (…, positions, 1); None for everywhere."""
    visible = _visible(node)
    if visible is None:
        return None
    return Array(visible) if visible.shape[-1] == 1 else all_true(Array(visible), -1, keepdims=True)


def _visible(node: Node) -> Node | None:
    for each in postorder([node], lambda one: () if one in _known or isinstance(one, Pages) else one.operands):
        if each not in _known:
            _known[each] = _carried(each)
    return _known[node]


def _carried(node: Node) -> Node | None:
    """The same of a node whose operands are known."""
    if isinstance(node, Pages):
        return node.condition
    found = [_known[each] for each in node.operands]
    if not any(each is not None for each in found):
        return None
    if isinstance(node, Guard | Identity):
        return found[0]
    if isinstance(node, Rearrangement):
        return _moved(node, found)
    if node.role == "pointwise":
        return _both([each for each in found if each is not None])
    return _of_rows(node, found)


def _both(conditions: Sequence[Node]) -> Node:
    first, *rest = (Array(each) for each in dict.fromkeys(conditions))
    for each in rest:
        first = logical_and(first, each)
    return first.node


def _moved(node: Rearrangement, found: Sequence[Node | None]) -> Node | None:
    """Conditions move as elements do; indices stay what they are."""
    moved = len(found) if isinstance(node, Concat) else 1
    if all(each is None for each in found[:moved]):
        return None
    operands = list(node.operands)
    for place, (operand, condition) in enumerate(zip(node.operands[:moved], found, strict=False)):
        seen = ones((), dtype=BOOL) if condition is None else Array(condition)
        operands[place] = broadcast_to(seen, operand.shape).node
    return node.with_operands(operands)


def _of_rows(node: Node, found: Sequence[Node | None]) -> Node | None:
    """Rows that stay rows are there where they were; of what does anything else with positions nothing is known."""
    conditions = []
    for operand, condition in zip(node.operands, found, strict=True):
        if condition is not None and len(operand.shape) > 1 and operand.shape[:-1] == node.shape[:-1]:
            rows = Array(condition)
            conditions.append((rows if rows.shape[-1] == 1 else all_true(rows, -1, keepdims=True)).node)
    return _both(conditions) if conditions else None
