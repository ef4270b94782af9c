"""Sums over gradients of scores, which a row's own error does not reach.

What arrives at the scores of a softmax P is ``D = P (g - m)`` with ``m = sum(P g)`` along its axis, and the sum of D
along that axis is 0. As it is computed it is not: m is rounded, mostly as a sum over other products than those of g
(`Sum.exchange`), and an error e of m is one of ``-e P`` in all of a row. A parameter inside scores, a slope or a
temperature, has the gradient ``sum(D X)``: an error of ``-e sum(P X)``, however much the terms cancel. From X its mean
by P may be subtracted, since D adds up to 0: ``sum(D (X - sum(P X)))``, where the error is multiplied by
``sum(P (X - sum(P X)))``, which is 0 to rounding.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..engine.ir import Node, walk
from ..engine.leaves import Constant
from .arithmetic import Divide, Multiply, Negative, Subtract
from .kinds import Reduction, constant_value
from .selection import Where
from .shape import BroadcastTo, Reshape

# What is computed element by element from what is there.
_IN_PLACE = frozenset({"leaf", "pointwise", "rearrangement"})
# Factors of a product that are looked at.
_MOST_FACTORS = 64


def balanced_by(node: Node) -> Node | None:
    """The weights P of ``P (g - sum(P g))``, which adds up to 0 along the axis of P; None of anything else."""
    if not isinstance(node, Multiply) or not isinstance(node.right, Subtract):
        return None
    weights, (upstream, mean) = node.left, node.right.operands
    axis = weights.adds_up_to_one()
    if axis is None or weights.shape != node.shape or not isinstance(mean, Reduction) or mean.kernel_kind != "sum":
        return None
    product = mean.operand
    is_mean = isinstance(product, Multiply) and product.operands == (weights, upstream)
    return weights if is_mean and mean.axes == (axis,) and mean.keepdims else None


def vanishes(node: Node, axes: Sequence[int]) -> bool:
    """Whether the sum along these axes is 0: of ``P (g - sum(P g))`` it is, where P is a softmax along one of them.

    So nothing arrives at what is subtracted from whole lines of scores, such as their maximum.
    """
    while isinstance(node, Negative):
        node = node.operand
    weights = balanced_by(node)
    return weights is not None and weights.adds_up_to_one() in axes


class _Weighed(NamedTuple):
    """A product ``balanced * factor`` of which the first adds up to 0 along the axis of a softmax.

    Attributes:
        balanced: ``P (g - sum(P g))``, times what does not vary along that axis, and 0 where scores are hidden.
        softmax: P.
        factor: What varies along the axis; None for nothing.
    """

    balanced: Node
    softmax: Node
    factor: Node | None

    def varies(self, node: Node) -> bool:
        """Whether a node varies along the softmax's axis."""
        axis = self.softmax.adds_up_to_one()
        assert axis is not None
        place = axis - len(self.softmax.shape)
        while isinstance(node, BroadcastTo) and len(node.operand.shape) >= -place:
            node = node.operand
        return len(node.shape) >= -place and node.shape[place] != 1 and constant_value(node) is None

    def times(self, other: Node) -> "_Weighed":
        """Multiplied by another factor."""
        if not self.varies(other):
            return self._replace(balanced=Multiply(self.balanced, other))
        return self._replace(factor=other if self.factor is None else Multiply(self.factor, other))

    def over(self, divisor: Node) -> "_Weighed":
        """Divided by something."""
        if not self.varies(divisor):
            return self._replace(balanced=Divide(self.balanced, divisor))
        return self._replace(factor=Divide(self.factor or _one(divisor), divisor))

    def masked(self, choose: Callable[[Node], Node], hides: bool) -> "_Weighed":
        """0 where the mask has it so: what is hidden is 0 as it is, and stays hidden from NaN; what is not, is X."""
        if hides:
            return self._replace(balanced=choose(self.balanced))
        return self._replace(factor=choose(self.factor or _one(self.balanced)))


def centered(total: Reduction) -> Node | None:
    """``sum(D (X - sum(P X)))`` for ``sum(D X)`` with ``D = P (g - sum(P g))``; None for anything else.

    The axis of P is one that is summed over, and X varies along it. The sum of P X is to be one more of the sweep that
    makes P: so X consists of the same products as its scores. What has been centered does not, and is not again.
    """
    left = iter(range(_MOST_FACTORS))
    found = _weighed(total.operand, left)
    if found is not None:
        return _centered(total, found)
    whole = _written_out(total, left)
    found = None if whole is None else _weighed(whole.operand, left)
    result = None if whole is None or found is None else _centered(whole, found)
    return None if result is None else Reshape(result, total.shape)


def _centered(total: Reduction, found: _Weighed) -> Node | None:
    if found.factor is None or found.softmax.type != total.operand.type:
        return None
    axis, x = found.softmax.adds_up_to_one(), found.factor
    if axis is None or axis not in total.axes or x.dtype != total.dtype or not _is_made_with(x, found.softmax):
        return None
    mean = type(total)(Multiply(found.softmax, x), (axis,), True)
    result = Multiply(found.balanced, Subtract(x, mean))
    return total.with_operands((result,)) if result.type == total.operand.type else None


def _written_out(total: Reduction, left: Iterator[int]) -> Reduction | None:
    """``sum_ij (D_ij X_j)`` for ``sum_j (X_j sum_i D_ij)``: what a slope has whose X is the same for all rows."""
    found = _inner_sum(total, total.operand, left)
    if found is None:
        return None
    inner, x = found
    extra = len(inner.shape) - len(total.operand.shape)
    axes = {*inner.axes, *(axis + extra for axis in total.axes)}
    return type(total)(Multiply(inner.operand, x), tuple(sorted(axes)), True)


def _inner_sum(total: Reduction, node: Node, left: Iterator[int]) -> tuple[Reduction, Node] | None:
    """The sum that is a factor of a product, but for leading axes of length 1, and the product of the others."""
    if not isinstance(node, Multiply) or next(left, None) is None:
        return None
    for one, other in (node.operands, node.operands[::-1]):
        inner = one.operand if isinstance(one, Reshape) else one
        if isinstance(inner, type(total)) and inner.keepdims and len(inner.shape) >= len(node.shape):
            ahead = len(inner.shape) - len(node.shape)
            return (inner, other) if inner.shape[ahead:] == one.shape == node.shape else None
        found = _inner_sum(total, one, left)
        if found is not None:
            return found[0], Multiply(found[1], other)
    return None


def _weighed(node: Node, left: Iterator[int]) -> _Weighed | None:
    """A product taken apart, through signs, quotients and masks; as many factors are looked at as are ``left``."""
    if next(left, None) is None:
        return None
    softmax = balanced_by(node)
    if softmax is not None:
        return _Weighed(node, softmax, None)
    if isinstance(node, Multiply):
        for one, other in (node.operands, node.operands[::-1]):
            found = _weighed(one, left)
            if found is not None:
                return found.times(other)
    elif isinstance(node, Divide):
        found = _weighed(node.left, left)
        return None if found is None else found.over(node.right)
    elif isinstance(node, Negative):
        found = _weighed(node.operand, left)
        return None if found is None else found._replace(balanced=Negative(found.balanced))
    elif isinstance(node, Where):
        return _masked(node, left)
    return None


def _masked(node: Where, left: Iterator[int]) -> _Weighed | None:
    """``where(c, D X, 0)``, or that 0 and the product exchanged."""
    for product, zero, hides_where in ((node.left, node.right, False), (node.right, node.left, True)):
        found = _weighed(product, left) if constant_value(zero) == 0 else None
        if found is not None:
            choose = functools.partial(_chosen, node.condition, hides_where, zero)
            return found.masked(choose, _is_hidden(found.softmax, node.condition, hides_where))
    return None


def _chosen(condition: Node, hides_where: bool, zero: Node, kept: Node) -> Node:
    return Where(condition, *((zero, kept) if hides_where else (kept, zero)))


def _is_hidden(softmax: Node, condition: Node, hides_where: bool) -> bool:
    """Whether scores are -inf where the condition is ``hides_where``: weights are 0 there."""
    scores = softmax.operands[0]
    while isinstance(scores, Where):
        hidden_where = constant_value(scores.left) == -np.inf
        if not hidden_where and constant_value(scores.right) != -np.inf:
            return False
        if scores.condition is condition and hidden_where is hides_where:
            return True
        scores = scores.right if hidden_where else scores.left
    return False


def _is_made_with(x: Node, softmax: Node) -> bool:
    """Whether all sums and products that x is made of are some that a softmax is made of, too."""
    there = frozenset(walk([*softmax.operands]))
    return all(each.role in _IN_PLACE or each in there for each in walk([x]))


def _one(like: Node) -> Node:
    return Constant(1.0, like.dtype, False)
