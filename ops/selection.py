"""``where``: the operator that masks are made of."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..engine.careful import HIDDEN, Careful, Court, clear, none_if_empty
from ..engine.ir import Node, Values
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

    def reference(self, condition: Values, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.where(condition, left, right)

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Never: nothing is computed."""
        return False

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden and blame of the branch taken; hidden where that is a mask's value."""
        condition, left, right = operands
        taken = np.broadcast_to(condition.value, value.shape)
        hidden = None
        masks = _is_mask_value(self.left), _is_mask_value(self.right)
        if any(masks) or left.hidden is not None or right.hidden is not None:
            sides = [
                np.broadcast_to(HIDDEN if mask else side.full_hidden(), value.shape)
                for mask, side in zip(masks, (left, right), strict=True)
            ]
            hidden = np.where(taken, sides[0], sides[1])
            if condition.blame is not None:  # a condition that is itself in question hides nothing
                hidden = np.where(condition.full_blame() > 0, np.minimum(*sides), hidden)
            hidden = none_if_empty(hidden)
        blame = None
        if left.blame is not None or right.blame is not None:
            blame = np.where(taken, left.full_blame(), right.full_blame())
        if condition.blame is not None:
            questioned = np.broadcast_to(condition.blame, value.shape)
            blame = questioned if blame is None else np.maximum(blame, questioned)
        return Careful(value, hidden, clear(blame, hidden))

    def simplify(self) -> Node | None:
        """A condition known now chooses now. Equal branches need it too: an index in it may be an error."""
        if isinstance(self.condition, Constant):
            chosen = self.left if self.condition.value else self.right
            return chosen if chosen.type == self.type else None
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
