"""Running sums. Array API standard 2024.12."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.careful import Careful, Court
from ..engine.errors import ShapeError
from ..engine.ir import Values
from ..engine.leftovers import empty
from ..engine.types import as_dtype
from .array import Array, ArrayLike, lift
from .casting import cast
from .creation import zeros
from .joining import concat
from .kinds import AlongAxis, flag, normalize_axis
from .reduction import Accumulation
from .registry import public
from .shape import Flip

# Sums beside each other from which on NumPy's calls for a step of all cost less than walking along each.
_SIDE_BY_SIDE = 512


class CumulativeSum(AlongAxis):
    """Running sums along an axis."""

    result_dtype = Accumulation.result_dtype

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """Running sums of the upstream from the other end."""
        turned = CumulativeSum(Flip(upstream.node, (self.axis,)), self.axis)
        return (Array(Flip(turned, (self.axis,))),)

    def reference(self, x: Values) -> Values:
        """NumPy's, in the widest type of the kind."""
        if x.dtype.kind != "f":
            return np.asarray(np.cumsum(x, axis=self.axis, dtype=self.dtype))
        return _running_sums(x, self.axis)

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden positions add nothing; a sum blames those up to its own place."""
        (operand,) = operands
        if operand.hidden is not None:
            value = self.reference(operand.contribution()).astype(value.dtype)
        blame = None if operand.blame is None else np.maximum.accumulate(operand.full_blame(), axis=self.axis)
        return Careful(value, None, blame)


def _running_sums(x: Values, axis: int) -> Values:
    """`np.cumsum` in float64, rounded to the type of ``x``.

    NumPy walks along the axis for each place beside it, and reads a whole line of the cache for every number where
    they lie far apart. Where there are many places, all take a step together: the same sums in the same order.
    """
    if x.size < _SIDE_BY_SIDE * x.shape[axis]:
        return np.asarray(np.cumsum(x, axis=axis, dtype=np.float64).astype(x.dtype, copy=False))
    result = empty(x.shape, x.dtype)
    steps, sums = np.moveaxis(x, axis, 0), np.moveaxis(result, axis, 0)
    total = np.zeros(steps.shape[1:], np.float64)
    for place, step in enumerate(steps):
        total += step
        sums[place] = total
    return result


@public("cumsum")
def cumulative_sum(x: ArrayLike, axis: Any = None, *, dtype: Any = None, include_initial: bool = False) -> Array:
    """Running sums along ``axis`` (needed but for one axis), with a leading 0 if ``include_initial``.

    Raises:
        ShapeError: For an array of several axes without ``axis``.
    """
    node = lift(x, "cumulative_sum")
    if dtype is not None:
        node = cast(node, as_dtype(dtype))
    if axis is None:
        if len(node.shape) != 1:
            raise ShapeError(f"cumulative_sum: {node.type} has {len(node.shape)} axes: say along which one")
        axis = 0
    number = normalize_axis("cumulative_sum", axis, len(node.shape))
    result = Array(CumulativeSum(node, number))
    if dtype is not None:
        result = result.astype(dtype)
    if not flag("cumulative_sum", "include_initial", include_initial):
        return result
    first = tuple(1 if each == number else length for each, length in enumerate(node.shape))
    return concat([zeros(first, dtype=result.dtype), result], axis=number)
