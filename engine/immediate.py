"""Evaluating at once: what optimizes, plans and runs is loaded with the first evaluation, not with the package."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .ir import Node, Values
from .lazily import Lazily

if TYPE_CHECKING:
    from . import evaluate as _evaluation
else:
    _evaluation = Lazily(f"{__package__}.evaluate")


def evaluate_now(roots: Sequence[Node], check_finite: bool | None = None) -> list[Values]:
    """The arrays of ``roots``, from one evaluation under the settings in force.

    Args:
        roots: What to compute; shared work is done once.
        check_finite: Overrides the setting; on by default here.

    Raises:
        NonFiniteError, IndexOutOfRangeError, ShapeError, LimitError, ArgumentError: See `evaluate.evaluate`.
    """
    return _evaluation.evaluate_at_once(roots, check_finite)
