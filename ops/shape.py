"""Moving elements without computing on them. Names and meaning: array API standard 2024.12."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.errors import ShapeError
from ..engine.ir import Node, Values
from ..engine.labels import Axes, reshaped, spread
from ..engine.types import Shape, TensorType, broadcast
from .array import Array, ArrayLike, lift
from .kinds import Rearrangement, countable, is_sequence, normalize_axes, normalize_axis, whole
from .registry import public


class Reshape(Rearrangement):
    """The same elements, rows first, in another shape."""

    keeps_order: ClassVar[bool] = True

    operand: Node
    to: Shape

    def infer(self) -> TensorType:
        """``to``."""
        return TensorType(self.to, self.operand.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Those of axes that stay; split ones are found again when they are put together."""
        return reshaped(operands[0], self.operand.shape, self.to)

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The operand's element at the same place, rows first."""
        return kernel.element(self.operand, kernel.reindexed(at, self.to, self.operand.shape))

    def adds_to(self, kernel: Any, at: Sequence[Any]) -> Sequence[Any] | None:
        """The same place, rows first."""
        found: Sequence[Any] = kernel.reindexed(at, self.operand.shape, self.to)
        return found

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream in the operand's shape."""
        return (Array(Reshape(upstream.node, self.operand.shape)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.reshape(x, self.to)

    def simplify(self) -> Node | None:
        """To the same shape: nothing. Twice: once."""
        if self.operand.type == self.type:
            return self.operand
        return Reshape(self.operand.operand, self.to) if isinstance(self.operand, Reshape) else None


class PermuteDims(Rearrangement):
    """The axes in another order: axis ``n`` of the result is ``axes[n]`` of the operand."""

    operand: Node
    axes: tuple[int, ...]

    def infer(self) -> TensorType:
        """The lengths in that order."""
        return TensorType(tuple(self.operand.shape[axis] for axis in self.axes), self.operand.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """In that order."""
        return tuple(operands[0][axis] for axis in self.axes)

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The indices in the operand's order."""
        return kernel.element(self.operand, [at[self.axes.index(axis)] for axis in range(len(at))])

    def adds_to(self, kernel: Any, at: Sequence[Any]) -> Sequence[Any] | None:
        """The indices in the result's order."""
        return [at[axis] for axis in self.axes]

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The axes put back."""
        back = tuple(self.axes.index(axis) for axis in range(len(self.axes)))
        return (Array(PermuteDims(upstream.node, back)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return x.transpose(self.axes)

    def simplify(self) -> Node | None:
        """In the same order: nothing. Twice: once. Some operators have a better way (`Node.permuted`)."""
        if self.axes == tuple(range(len(self.axes))) and not self.operand.type.weak:
            return self.operand
        return self.operand.permuted(self.axes)

    def permuted(self, axes: tuple[int, ...]) -> Node | None:
        """Both at once."""
        return PermuteDims(self.operand, tuple(self.axes[axis] for axis in axes))


class BroadcastTo(Rearrangement):
    """Repeated along new axes and axes of length 1, without a copy."""

    operand: Node
    to: Shape

    def infer(self) -> TensorType:
        """``to``; raises ShapeError if the operand does not broadcast to it."""
        if broadcast("broadcast_to", self.operand.shape, self.to) != self.to:
            raise ShapeError(f"broadcast_to: shape {self.operand.shape} does not broadcast to {self.to}")
        return TensorType(self.to, self.operand.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Those of axes that are not repeated."""
        return spread(operands[0], self.operand.shape, self.to)

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The operand's element, axes of length 1 at 0."""
        return kernel.spread(self.operand, at)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, summed over what it was repeated along."""
        return (upstream,)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.broadcast_to(x, self.to)

    def simplify(self) -> Node | None:
        """To the same shape: nothing. Twice: once."""
        if self.operand.type == self.type:
            return self.operand
        return BroadcastTo(self.operand.operand, self.to) if isinstance(self.operand, BroadcastTo) else None


class Slice(Rearrangement):
    """Every ``step``-th element from ``start`` on, ``length`` of them, along each axis."""

    operand: Node
    starts: tuple[int, ...]
    steps: tuple[int, ...]
    lengths: Shape

    def infer(self) -> TensorType:
        """``lengths``."""
        return TensorType(self.lengths, self.operand.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Coordinates are sliced with the axes."""
        return tuple(
            None if axis is None else axis.sliced(start, step, length, of)
            for axis, start, step, length, of in zip(
                operands[0], self.starts, self.steps, self.lengths, self.operand.shape, strict=True
            )
        )

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``start + step * index`` along each axis."""
        inside = [
            kernel.add(kernel.multiply(index, kernel.constant(step)), kernel.constant(start))
            for index, start, step in zip(at, self.starts, self.steps, strict=True)
        ]
        return kernel.element(self.operand, inside)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream at its places, among zeros."""
        return (Array(Spread(upstream.node, self.starts, self.steps, self.operand.shape)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return x[_places(self.starts, self.steps, self.lengths)]

    def simplify(self) -> Node | None:
        """All of it: nothing."""
        whole = self.lengths == self.operand.shape and all(step == 1 for step in self.steps)
        return self.operand if whole and not self.operand.type.weak else None


class Spread(Rearrangement):
    """The operand every ``step``-th place from ``start`` on along each axis, among zeros: the adjoint of `Slice`."""

    adds_zeros: ClassVar[bool] = True

    operand: Node
    starts: tuple[int, ...]
    steps: tuple[int, ...]
    lengths: Shape

    def infer(self) -> TensorType:
        """``lengths``."""
        return TensorType(self.lengths, self.operand.dtype)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream at those places."""
        return (Array(Slice(upstream.node, self.starts, self.steps, self.operand.shape)),)

    def reference(self, x: Values) -> Values:
        """Written into zeros."""
        result = np.zeros(self.lengths, x.dtype)
        result[_places(self.starts, self.steps, x.shape)] = x
        return result


def _places(starts: Sequence[int], steps: Sequence[int], lengths: Shape) -> tuple[slice, ...]:
    """NumPy's key, with stops that a negative step needs."""
    key = []
    for start, step, length in zip(starts, steps, lengths, strict=True):
        stop = start + step * length
        key.append(slice(0, 0) if length == 0 else slice(start, stop if stop >= 0 else None, step))
    return tuple(key)


class Flip(Rearrangement):
    """Reversed along some axes."""

    operand: Node
    axes: tuple[int, ...]

    def infer(self) -> TensorType:
        """The operand's type."""
        return TensorType(self.operand.shape, self.operand.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Coordinates are turned with the axes."""
        return tuple(
            axis if axis is None or place not in self.axes else axis.sliced(length - 1, -1, length, length)
            for place, (axis, length) in enumerate(zip(operands[0], self.shape, strict=True))
        )

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """Counted from the end along the turned axes."""
        inside = [
            kernel.subtract(kernel.constant(length - 1), index) if axis in self.axes else index
            for axis, (index, length) in enumerate(zip(at, self.shape, strict=True))
        ]
        return kernel.element(self.operand, inside)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, turned back."""
        return (Array(Flip(upstream.node, self.axes)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.flip(x, self.axes)

    def simplify(self) -> Node | None:
        """Along no axis: nothing. Twice: once, along what only one of them turns."""
        if not self.axes and not self.operand.type.weak:
            return self.operand
        if isinstance(self.operand, Flip):
            return Flip(self.operand.operand, tuple(sorted(set(self.axes) ^ set(self.operand.axes))))
        return None


@public("view")
def reshape(x: ArrayLike, /, shape: Any, *, copy: bool | None = None) -> Array:
    """The same elements, rows first, in ``shape``; one length may be -1.

    Raises:
        ShapeError: If the number of elements differs.
    """
    node = lift(x, "reshape")
    given = list(shape) if is_sequence(shape) else [shape]
    lengths = [whole("reshape", "a length", length) for length in given]
    unknown = [place for place, length in enumerate(lengths) if length == -1]
    known = math.prod(length for length in lengths if length != -1)
    if len(unknown) == 1 and known > 0 and node.type.size % known == 0:
        lengths[unknown[0]] = node.type.size // known
        known *= lengths[unknown[0]]
    if any(length < 0 for length in lengths) or known != node.type.size:
        raise ShapeError(f"reshape: {node.type} with {node.type.size} elements cannot have shape {tuple(given)}")
    return Array(Reshape(node, tuple(lengths)))


@public("transpose", "permute")
def permute_dims(x: ArrayLike, /, axes: Any = None) -> Array:
    """The axes in the order ``axes`` (reversed by default).

    Raises:
        ShapeError: If ``axes`` is not a permutation.
    """
    node = lift(x, "permute_dims")
    ndim = len(node.shape)
    given = range(ndim)[::-1] if axes is None else axes if is_sequence(axes) else (axes,)
    order = tuple(normalize_axis("permute_dims", axis, ndim) for axis in given)
    if sorted(order) != list(range(ndim)):
        raise ShapeError(f"permute_dims: {axes} is no permutation of the {ndim} axes of {node.type}")
    return Array(PermuteDims(node, order))


@public("adjoint")
def matrix_transpose(x: ArrayLike, /) -> Array:
    """The last two axes exchanged.

    Raises:
        ShapeError: For fewer than two axes.
    """
    node = lift(x, "matrix_transpose")
    ndim = len(node.shape)
    if ndim < 2:
        raise ShapeError(f"matrix_transpose: {node.type} has fewer than two axes")
    return Array(PermuteDims(node, (*range(ndim - 2), ndim - 1, ndim - 2)))


@public()
def swapaxes(x: ArrayLike, axis1: int, axis2: int, /) -> Array:
    """Two axes exchanged (NumPy's and torch's name)."""
    node = lift(x, "swapaxes")
    order = list(range(len(node.shape)))
    one, other = (normalize_axis("swapaxes", axis, len(order)) for axis in (axis1, axis2))
    order[one], order[other] = order[other], order[one]
    return Array(PermuteDims(node, tuple(order)))


@public()
def moveaxis(x: ArrayLike, source: Any, destination: Any, /) -> Array:
    """Axes ``source`` moved to the places ``destination``, the others in order.

    Raises:
        ShapeError: If the counts differ or an axis is named twice.
    """
    node = lift(x, "moveaxis")
    ndim = len(node.shape)
    sources, targets = (
        [normalize_axis("moveaxis", axis, ndim) for axis in (given if isinstance(given, tuple | list) else (given,))]
        for given in (source, destination)
    )
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ShapeError(f"moveaxis: from {source} to {destination}: counts differ or an axis is named twice")
    order = [axis for axis in range(ndim) if axis not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return Array(PermuteDims(node, tuple(order)))


@public("unsqueeze")
def expand_dims(x: ArrayLike, /, *, axis: Any = 0) -> Array:
    """With new axes of length 1 at the places ``axis`` of the result.

    Raises:
        ShapeError: If a place lies outside, or is named twice.
    """
    node = lift(x, "expand_dims")
    places = axis if isinstance(axis, tuple | list) else (axis,)
    ndim = len(node.shape) + len(places)
    new = normalize_axes("expand_dims", tuple(places), ndim)
    remaining = iter(node.shape)
    return Array(Reshape(node, tuple(1 if place in new else next(remaining) for place in range(ndim))))


@public()
def squeeze(x: ArrayLike, /, axis: Any = None) -> Array:
    """Without axes of length 1: those named, or all.

    Raises:
        ShapeError: If a named axis is longer.
    """
    node = lift(x, "squeeze")
    if axis is None:
        axes = tuple(place for place, length in enumerate(node.shape) if length == 1)
    else:
        axes = normalize_axes("squeeze", axis, len(node.shape))
    if any(node.shape[place] != 1 for place in axes):
        raise ShapeError(f"squeeze: axes {axes} of {node.type} are not all of length 1")
    return Array(Reshape(node, tuple(length for place, length in enumerate(node.shape) if place not in axes)))


@public("expand")
def broadcast_to(x: ArrayLike, /, shape: Any) -> Array:
    """Repeated along new axes and axes of length 1, without a copy.

    Raises:
        ShapeError: If the shapes do not go together.
    """
    node = lift(x, "broadcast_to")
    lengths = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not all(isinstance(length, int | np.integer) and length >= 0 for length in lengths):
        raise ShapeError(f"broadcast_to: a shape is made of integers not below 0, not {shape!r}")
    to = countable("broadcast_to", [int(length) for length in lengths])
    return Array(node if node.shape == to and to else BroadcastTo(node, to))


@public()
def broadcast_arrays(*arrays: ArrayLike) -> list[Array]:
    """All in the shape that they broadcast to."""
    nodes = [lift(array, "broadcast_arrays") for array in arrays]
    shape = broadcast("broadcast_arrays", *(node.shape for node in nodes))
    return [Array(BroadcastTo(node, shape)) for node in nodes]


@public()
def flip(x: ArrayLike, /, axis: Any = None) -> Array:
    """Reversed along ``axis`` (one, several, None for all)."""
    node = lift(x, "flip")
    return Array(Flip(node, normalize_axes("flip", axis, len(node.shape))))
