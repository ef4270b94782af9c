"""Sorting: sort, argsort, topk. Stable: of equal elements the earlier comes first."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court
from ..engine.errors import LimitError, ShapeError
from ..engine.ir import Node, UnfusableError, Values
from ..engine.labels import Axes, bare_along
from ..engine.types import INT64, DType, TensorType
from .array import Array, ArrayLike, lift
from .indexing import take_along_axis
from .kinds import AlongAxis, flag, line_maximum, normalize_axis, whole
from .registry import public


def _order(x: Values, axis: int, descending: bool) -> Values:
    """Places in order, ties by place, NaN last when ascending and first when descending."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # Turned around twice, so that ties stay in the order of their places.
    turned = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.asarray(x.shape[axis] - 1 - np.flip(turned, axis))


class Argsort(AlongAxis):
    """The places of the elements in order."""

    descending: bool

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """The operand's; along the axis the name alone."""
        return bare_along(operands[0], self.axis)

    def result_dtype(self, dtype: DType) -> DType:
        """int64."""
        return INT64

    def reference(self, x: Values) -> Values:
        """NumPy's stable sort."""
        return _order(x, self.axis, self.descending)


class Topk(AlongAxis):
    """The places of the ``k`` largest (or smallest) along an axis, in order, ties to the lower place."""

    role: ClassVar[str] = "selection"

    k: int
    largest: bool

    def infer(self) -> TensorType:
        """``k`` along the axis."""
        shape = list(self.operand.shape)
        shape[self.axis] = self.k
        return TensorType(tuple(shape), INT64)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """The operand's; along the axis the name alone."""
        return bare_along(operands[0], self.axis)

    def places_in(self) -> int:
        """The axis."""
        return self.operand.shape[self.axis]

    def selects_along(self) -> tuple[int, int]:
        """Its axis."""
        return self.axis, self.operand.shape[self.axis]

    def compared(self, kernel: Any, at: Sequence[Any], place: Any) -> Any:
        """The element, or for the smallest what it is negated."""
        if not self.largest:  # there hidden elements are the last ones to be taken, and none is as good as hidden
            raise UnfusableError("topk: the smallest have no kernel")
        return kernel.element(self.operand, [*at[: self.axis], place, *at[self.axis + 1 :]])

    def reference(self, x: Values) -> Values:
        """The head of the sorted order."""
        return np.take(_order(x, self.axis, self.largest), np.arange(self.k), axis=self.axis)

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A place blames whom any element of its line blames."""
        blame = line_maximum(operands[0], self.axis)
        return Careful(value, None, None if blame is None else np.broadcast_to(blame, value.shape))


def _axis(operation: str, node: Node, axis: Any) -> int:
    if not node.shape:
        raise ShapeError(f"{operation}: a 0-d array has no axis")
    return normalize_axis(operation, axis, len(node.shape))


@public()
def argsort(x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """The places (int64) of the elements in order along ``axis``. Always stable; NaN counts as largest.

    Raises:
        ShapeError: If there is no such axis.
    """
    node = lift(x, "argsort")
    return Array(Argsort(node, _axis("argsort", node, axis), flag("argsort", "descending", descending)))


@public()
def sort(x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """The elements in order along ``axis``; NaN counts as largest.

    Raises:
        ShapeError: If there is no such axis.
    """
    places = argsort(x, axis=axis, descending=descending)
    return take_along_axis(x, places, axis=axis)


@public()
def topk(x: ArrayLike, k: int, /, axis: int = -1, *, largest: bool = True) -> tuple[Array, Array]:
    """The ``k`` largest (or smallest) along ``axis``, in order, and their places; ties to the lower place.

    Returns:
        ``(values, indices)``, both with ``k`` elements along the axis.

    Raises:
        ShapeError: If there is no such axis.
        LimitError: If there are fewer than ``k`` elements, or ``k`` is below 0.
    """
    node = lift(x, "topk")
    place = _axis("topk", node, axis)
    count = whole("topk", "k", k)
    if not 0 <= count <= node.shape[place]:
        raise LimitError(f"topk: k={k} of the {node.shape[place]} elements along axis {place} of {node.type}")
    indices = Array(Topk(node, place, count, flag("topk", "largest", largest)))
    return take_along_axis(x, indices, axis=place), indices
