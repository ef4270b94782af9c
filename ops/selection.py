"""``where``: the operator that masks are made of."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..engine.careful import Careful, Court, chosen
from ..engine.ir import Node, Values
from ..engine.labels import Axes, broadcast_axes, first_of, spread
from ..engine.leaves import Constant
from ..engine.types import BOOL
from .array import Array, ArrayLike, lift
from .casting import cast, promoted
from .kinds import Elementwise, constant_value
from .registry import public


class Where(Elementwise):
    """``x1`` where the condition holds, else ``x2``.

    Where the branch taken is a plain 0 or -inf, the position counts as hidden: it adds nothing to
    what is reduced over it, whatever the other operands hold there.
    """

    may_hide: ClassVar[bool] = True

    condition: Node
    left: Node
    right: Node

    def value_operand(self) -> Node:
        """The branches decide the type."""
        return self.left

    def named_after(self) -> Node:
        """A branch that is no number."""
        return self.left if constant_value(self.left) is None else self.right

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """The branches', and the condition's where they have none."""
        condition, *branches = operands
        shapes = [self.left.shape, self.right.shape]
        found = broadcast_axes(self.shape, list(zip(branches, shapes, strict=True)))
        return tuple(map(first_of, found, spread(condition, self.condition.shape, self.shape)))

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, to the branch that is taken."""
        condition = Array(self.condition)
        return None, where(condition, upstream, 0.0), where(condition, 0.0, upstream)

    def reference(self, condition: Values, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.where(condition, left, right)

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Never: nothing is computed."""
        return False

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden and blame of the branch taken; hidden where that is a mask's value."""
        return chosen(value, operands, (_is_mask_value(self.left), _is_mask_value(self.right)))

    def simplify(self) -> Node | None:
        """A condition known now chooses now. Equal branches need it too: an index in it may be an error.

        What stands beside a 0 may know how to be hidden.
        """
        if isinstance(self.condition, Constant):
            chosen = self.left if self.condition.value else self.right
            return chosen if chosen.type == self.type else None
        for side, other, hides_where in ((self.left, self.right, False), (self.right, self.left, True)):
            if constant_value(other) == 0:
                found = side.shown(self.condition, hides_where)
                return found if found is not None and found.type == self.type else None
        return None


def _is_mask_value(node: Node) -> bool:
    value = constant_value(node)
    return value is not None and (value == 0 or value == -np.inf)


@public()
def where(condition: ArrayLike, x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """``x1`` where ``condition`` is true (not zero), else ``x2``, broadcast together.

    ``where(mask, scores, -inf)`` hides what the mask does not let through: a hidden position adds
    nothing to a softmax or product, even if NaN stands there.

    Raises:
        ShapeError: If the three do not broadcast.
    """
    left, right = promoted("where", lift(x1, "where"), lift(x2, "where"))
    return Array(Where(cast(lift(condition, "where"), BOOL), left, right))
