"""The careful path's values: what is hidden by a mask, and what is to blame for an error.

The plain interpreter runs first. Where it meets trouble (a value that is not finite, an index out of
range), the whole graph is evaluated again with three things at every position:

* the value, with every float in float64, so that what overflowed on the way need not;
* ``hidden``: the position holds the 0 or -inf that a mask put there (`HIDDEN`), or is a reduction
  over nothing but such positions (`EMPTY`). A hidden position adds nothing to a sum, softmax or
  product, whatever the other operand holds; an empty one stays 0, whatever scales it, so a row with
  nothing to attend to gives zeros also where its normaliser is 0.
* ``blame``: the number of an accusation (an index out of range, a NaN in a query) that this position
  depends on. Blame at hidden positions is dropped; blame that reaches a result is raised.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .errors import AttnGraphError
from .ir import Node

Values = np.ndarray[Any, Any]
Levels = np.ndarray[Any, np.dtype[np.uint8]]
Blame = np.ndarray[Any, np.dtype[np.int32]]

HIDDEN, EMPTY = np.uint8(1), np.uint8(2)


class Careful(NamedTuple):
    """A value, where it is hidden, and whom each position blames (0: nobody). None means nowhere."""

    value: Values
    hidden: Levels | None = None
    blame: Blame | None = None

    def full_hidden(self) -> Levels:
        """``hidden`` in the value's shape."""
        if self.hidden is None:
            return np.zeros(self.value.shape, np.uint8)
        return np.broadcast_to(self.hidden, self.value.shape)

    def full_blame(self) -> Blame:
        """``blame`` in the value's shape."""
        if self.blame is None:
            return np.zeros(self.value.shape, np.int32)
        return np.broadcast_to(self.blame, self.value.shape)

    def hidden_zeros(self) -> Levels:
        """Levels where a mask's 0 stands, or what became of it (0 times NaN); 0 elsewhere."""
        levels: Levels = self.full_hidden() * ~_is_minus_infinity(self.value)
        return levels

    def hidden_infinities(self) -> Levels:
        """Levels where a mask's -inf stands; 0 elsewhere."""
        levels: Levels = self.full_hidden() * _is_minus_infinity(self.value)
        return levels

    def contribution(self) -> Values:
        """The value with what a mask hides from sums as plain 0."""
        return self.value if self.hidden is None else np.where(self.hidden_zeros() > 0, 0, self.value)


def _is_minus_infinity(value: Values) -> Values:
    return np.isneginf(value) if value.dtype.kind == "f" else np.zeros(value.shape, np.bool_)


class Court:
    """The accusations of one evaluation, numbered from 1 in the order of the graph."""

    def __init__(self, check_finite: bool) -> None:
        self.check_finite = check_finite
        self._accusations: list[tuple[Node, type[AttnGraphError], str]] = []

    def accuse(self, node: Node, error: type[AttnGraphError], message: str) -> int:
        """The number under which positions blame ``node``."""
        self._accusations.append((node, error, message))
        return len(self._accusations)

    def judge(self, results: Sequence[Careful]) -> None:
        """Raise the first accusation that a result depends on."""
        blames = [result.blame for result in results if result.blame is not None]
        guilty = [int(blame[blame > 0].min()) for blame in blames if blame.any()]
        if guilty:
            node, error, message = self._accusations[min(guilty) - 1]
            raise error(message, node.lines[0] if node.lines else None)


def _any(mask: Values | None) -> bool:
    return mask is not None and bool(mask.any())


def none_if_empty(levels: Any) -> Any:
    """``levels``, or None where nothing is set: most positions are neither hidden nor blamed."""
    return levels if _any(levels) else None


def hidden_by_infinity(operand: Careful) -> Levels | None:
    """Where an exponent of -inf makes a weight of nothing.

    Not where the -inf came out of an input that is to blame: infinity in a query is no mask.
    """
    hidden = _is_minus_infinity(operand.value)
    if operand.blame is not None:
        hidden = hidden & ((operand.full_hidden() > 0) | (operand.full_blame() == 0))
    levels: Levels | None = none_if_empty(HIDDEN * hidden)
    return levels


def adds_nothing(value: Values) -> Values:
    """Where a value is one that a mask writes: adds nothing to a sum (0), or to a maximum (-inf)."""
    return np.asarray((value == 0) | _is_minus_infinity(value))


def blame_of_any(operands: Sequence[Careful], shape: tuple[int, ...]) -> Blame | None:
    """Element-wise blame: a position blames whom any operand blames there."""
    blames = [operand.full_blame() for operand in operands if operand.blame is not None]
    if not blames:
        return None
    result = np.zeros(shape, np.int32)
    for blame in blames:
        np.maximum(result, blame, out=result)
    return result


def clear(blame: Blame | None, hidden: Levels | None) -> Blame | None:
    """Blame with what is hidden dropped."""
    if blame is None or hidden is None:
        return blame
    cleared: Blame = np.where(hidden > 0, np.int32(0), blame)
    return cleared


def chosen(value: Values, operands: Sequence[Careful], masks: Sequence[bool]) -> Careful:
    """Hidden and blame of ``where``: those of the branch taken; hidden where that is a mask's value.

    A condition that is itself in question hides nothing, and is to blame wherever nothing is hidden.

    Args:
        value: What was chosen.
        operands: The condition, what is chosen where it is true, and where it is not.
        masks: Of these two, which one is a plain 0 or -inf.
    """
    condition, left, right = operands
    taken = np.broadcast_to(condition.value, value.shape)
    hidden = blame = None
    if any(masks) or left.hidden is not None or right.hidden is not None:
        sides = [
            np.broadcast_to(HIDDEN if mask else side.full_hidden(), value.shape)
            for mask, side in zip(masks, (left, right), strict=True)
        ]
        hidden = np.where(taken, sides[0], sides[1])
        if condition.blame is not None:
            hidden = np.where(condition.full_blame() > 0, np.minimum(*sides), hidden)
        hidden = none_if_empty(hidden)
    if left.blame is not None or right.blame is not None:
        blame = np.where(taken, left.full_blame(), right.full_blame())
    questioned = blame_of_any([condition], value.shape)
    if questioned is not None:
        blame = questioned if blame is None else np.maximum(blame, questioned)
    return Careful(value, hidden, clear(blame, hidden))
