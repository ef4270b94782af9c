"""What is subtracted from whole lines of scores before they are exponentiated: their largest, mostly.

A softmax is the same without it. Where a shift is -inf, as written every weight of the line would be NaN; it is -inf
only where there is nothing to attend to, and such a line has no weights.
"""

import numpy as np

from ..engine.ir import Node
from ..engine.leaves import Constant
from .arithmetic import Maximum, Negative, Subtract
from .kinds import Reduction, constant_value, reduced_shape
from .reduction import Max
from .selection import Where
from .shape import Reshape


def shifted(scores: Node, axis: int) -> tuple[Node, Node] | None:
    """The x and r of scores ``x - r``, where r does not vary along the axis."""
    if not isinstance(scores, Subtract) or scores.left.type != scores.type:
        return None
    place = axis - len(scores.shape)
    is_row = len(scores.right.shape) < -place or scores.right.shape[place] == 1
    return (scores.left, scores.right) if is_row else None


def shift_outside(scores: Node, axis: int) -> Node | None:
    """``where(c, x, -inf) - r`` for ``where(c, x - r, -inf)``, where r does not vary along the axis."""
    if isinstance(scores, Where) and constant_value(scores.right) == -np.inf:
        inner = shifted(scores.left, axis)
        if inner is not None and scores.left.type == scores.type:
            return Subtract(Where(scores.condition, inner[0], scores.right), inner[1])
    return None


def plus(sink: Node, shift: Node) -> Node | None:
    """``sink + shift`` where that leaves less than there was; None elsewhere."""
    if isinstance(sink, Subtract) and sink.right is shift:
        return sink.left
    if isinstance(sink, Negative) and sink.operand is shift:
        return Constant(0.0, sink.dtype, False)
    return None


def is_largest(shift: Node, scores: Node) -> bool:
    """Whether a shift is the largest of each line of scores, or of what they are before some are hidden."""
    shift = _plain(shift)
    while True:
        if axis_of(shift, Max, scores) is not None:
            return True
        if not isinstance(scores, Where) or constant_value(scores.right) != -np.inf:
            return False
        scores = scores.left


def is_largest_with(shift: Node, sink: Node) -> bool:
    """Whether a shift is at least the sink."""
    shift = _plain(shift)
    if not isinstance(shift, Maximum):
        return False
    return any(each is sink or constant_value(each) == constant_value(sink) is not None for each in shift.operands)


def axis_of(node: Node, kind: type[Reduction], operand: Node) -> int | None:
    """The axis along which a node reduces ``operand`` and stays 1 long, if it does."""
    shape = node.shape
    if isinstance(node, Reshape):
        node = node.operand
    if type(node) is not kind or node.operands[0] is not operand or not isinstance(node, Reduction):
        return None
    return node.axes[0] if len(node.axes) == 1 and shape == reduced_shape(operand.shape, node.axes, True) else None


def _plain(node: Node) -> Node:
    """Without what is said of its gradients: a softmax has none by what is subtracted from a line."""
    while node.of_gradients and node.operands:
        node = node.operands[0]
    return node
