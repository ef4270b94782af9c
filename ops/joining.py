"""Arrays put together and taken apart. Names and meaning: array API standard 2024.12."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.ir import Node, Values
from ..engine.labels import Axes, agreed, bare_along, unlabelled
from ..engine.leftovers import empty
from ..engine.types import Shape, TensorType
from .array import Array, ArrayLike, lift
from .casting import promoted
from .kinds import Rearrangement, countable, is_sequence, normalize_axis, whole
from .registry import public
from .shape import Reshape, Slice, Spread, broadcast_to, moveaxis


class Concat(Rearrangement):
    """One after the other along an axis."""

    parts: tuple[Node, ...]
    axis: int

    def infer(self) -> TensorType:
        """Lengths add up along the axis and agree along the others."""
        first = self.parts[0].shape
        for part in self.parts[1:]:
            if len(part.shape) != len(first) or _without(part.shape, self.axis) != _without(first, self.axis):
                raise ShapeError(f"concat: shapes {first} and {part.shape} differ beside axis {self.axis}")
        return TensorType(_in_one([part.shape for part in self.parts], self.axis), self.parts[0].dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """What all agree on; along the axis the name alone."""
        found = list(unlabelled(self.shape))
        for axes in operands:
            found = list(map(agreed, found, bare_along(axes, self.axis)))
        return tuple(found)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """To each part its own."""
        found, start = [], 0
        for part in self.parts:
            starts = tuple(start if axis == self.axis else 0 for axis in range(len(part.shape)))
            found.append(Array(Slice(upstream.node, starts, (1,) * len(starts), part.shape)))
            start += part.shape[self.axis]
        return found

    def reference(self, *parts: Values) -> Values:
        """NumPy's."""
        shape = _in_one([part.shape for part in parts], self.axis)
        return np.concatenate(parts, axis=self.axis, out=empty(shape, np.result_type(*parts)))

    def simplify(self) -> Node | None:
        """A single part is itself."""
        return self.parts[0] if len(self.parts) == 1 and not self.parts[0].type.weak else None


def adjoined(left: Node, right: Node) -> Node | None:
    """The sum of two arrays among zeros (`Spread`) whose places follow on each other: of both among zeros, once.

    So the gradient by an array that was cut into pieces is the pieces' gradients in a row, and no sum of as many arrays
    of its own size. None where they do not follow on each other.
    """
    if not (isinstance(left, Spread) and isinstance(right, Spread)) or left.type != right.type:
        return None
    apart = [axis for axis, (one, other) in enumerate(zip(left.starts, right.starts, strict=True)) if one != other]
    if len(apart) != 1 or any(step != 1 for step in (*left.steps, *right.steps)):
        return None
    (axis,) = apart
    first, second = sorted((left, right), key=lambda each: each.starts[axis])
    if first.starts[axis] + first.operand.shape[axis] != second.starts[axis]:
        return None
    if _without(first.operand.shape, axis) != _without(second.operand.shape, axis):
        return None
    parts = [each for part in (first.operand, second.operand) for each in _in_a_row(part, axis)]
    joined = Concat(tuple(parts), axis)
    return joined if joined.shape == left.shape else Spread(joined, first.starts, first.steps, left.lengths)


def _in_a_row(node: Node, axis: int) -> tuple[Node, ...]:
    return node.parts if isinstance(node, Concat) and node.axis == axis else (node,)


def _in_one(shapes: Sequence[Shape], axis: int) -> Shape:
    """Of what goes into one array along an axis, the array's."""
    first = shapes[0]
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]


def _parts(operation: str, arrays: Any) -> list[Node]:
    given = list(arrays) if isinstance(arrays, Sequence | Array) else None
    if not given:
        raise ArgumentError(f"{operation}: takes a sequence of one array or more, not {arrays!r}")
    return promoted(operation, *(lift(array, operation) for array in given))


@public("concatenate", "cat")
def concat(arrays: Sequence[ArrayLike], /, *, axis: int | None = 0) -> Array:
    """One after the other along ``axis``; None flattens them first. Types are promoted.

    Raises:
        ShapeError: If shapes differ beside that axis.
        ArgumentError: For no arrays.
    """
    parts = _parts("concat", arrays)
    if axis is None:
        parts, axis = [Array(part).reshape(-1).node for part in parts], 0
    if not parts[0].shape:
        raise ShapeError("concat: a 0-d array has no axis; use stack")
    return Array(Concat(tuple(parts), normalize_axis("concat", axis, len(parts[0].shape))))


@public()
def stack(arrays: Sequence[ArrayLike], /, *, axis: int = 0) -> Array:
    """Arrays of one shape along a new axis.

    Raises:
        ShapeError: If shapes differ.
        ArgumentError: For no arrays.
    """
    parts = _parts("stack", arrays)
    for part in parts[1:]:
        if part.shape != parts[0].shape:
            raise ShapeError(f"stack: shapes {parts[0].shape} and {part.shape} differ")
    place = normalize_axis("stack", axis, len(parts[0].shape) + 1)
    shape = (*parts[0].shape[:place], 1, *parts[0].shape[place:])
    return Array(Concat(tuple(Reshape(part, shape) for part in parts), place))


@public()
def split(x: ArrayLike, sections: Any, /, *, axis: int = 0) -> list[Array]:
    """NumPy's split: into equal parts (an integer), or at places (a sequence).

    Raises:
        ShapeError: If the axis does not divide.
    """
    array = Array(lift(x, "split"))
    place = normalize_axis("split", axis, array.ndim)
    length = array.shape[place]
    if is_sequence(sections):
        places = [whole("split", "a place", edge) for edge in sections]
        edges = [0, *(slice(None, edge).indices(length)[1] for edge in places), length]
    else:
        count = whole("split", "the number of parts", sections)
        if count <= 0 or length % count:
            raise ShapeError(f"split: axis {place} of {array.node.type} does not divide into {count} equal parts")
        edges = [length // count * part for part in range(count + 1)]
    before = (slice(None),) * place
    return [array[(*before, slice(first, max(first, last)))] for first, last in pairwise(edges)]


@public()
def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The slices along an axis, without it."""
    array = moveaxis(x, axis, 0)
    return tuple(array[number] for number in range(array.shape[0]))


@public()
def roll(x: ArrayLike, /, shift: Any, *, axis: Any = None) -> Array:
    """Shifted around: what leaves at one end comes back at the other.

    Raises:
        ShapeError: If counts of shifts and axes differ.
    """
    array = Array(lift(x, "roll"))
    if axis is None:
        return roll(array.reshape(-1), shift, axis=0).reshape(array.shape)
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    shifts = tuple(shift) if isinstance(shift, tuple | list) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for amount, each in zip(shifts, axes, strict=True):
        place = normalize_axis("roll", each, array.ndim)
        turn = whole("roll", "a shift", amount) % max(array.shape[place], 1)
        before = (slice(None),) * place
        if turn:
            array = concat([array[(*before, slice(-turn, None))], array[(*before, slice(None, -turn))]], axis=place)
    return array


@public()
def repeat(x: ArrayLike, repeats: Any, /, *, axis: int | None = None) -> Array:
    """Each element ``repeats`` times (one count, or one for each element along ``axis``).

    Raises:
        DTypeError: If counts are no integers known now.
        ShapeError: If their number does not fit.
    """
    array = Array(lift(x, "repeat"))
    if axis is None:
        array, axis = array.reshape(-1), 0
    place = normalize_axis("repeat", axis, array.ndim)
    if isinstance(repeats, Array):
        raise DTypeError("repeat: counts are numbers now, for the result's shape depends on them")
    lift(repeats, "repeat")  # refuses what is no array
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iu" or (counts < 0).any():
        raise DTypeError(f"repeat: counts are integers not below 0, not {repeats!r}")
    if counts.ndim > 1 or (counts.ndim == 1 and counts.size not in (1, array.shape[place])):
        raise ShapeError(f"repeat: {counts.size} counts for {array.shape[place]} elements of axis {place}")
    chosen = np.repeat(np.arange(array.shape[place]), counts.astype(np.int64))
    return array[(*(slice(None),) * place, chosen)]


@public()
def tile(x: ArrayLike, repetitions: Any, /) -> Array:
    """The whole array again and again along each axis."""
    array = Array(lift(x, "tile"))
    given = repetitions if is_sequence(repetitions) else (repetitions,)
    counts = tuple(whole("tile", "a count", each) for each in given)
    if any(count < 0 for count in counts):
        raise ShapeError(f"tile: repetitions {counts} are below 0")
    ndim = max(array.ndim, len(counts))
    shape = (1,) * (ndim - array.ndim) + array.shape
    counts = (1,) * (ndim - len(counts)) + counts
    inner = tuple(each for length in shape for each in (1, length))
    outer = tuple(each for pair in zip(counts, shape, strict=True) for each in pair)
    countable("tile", outer)
    spread = broadcast_to(array.reshape(inner), outer)
    return spread.reshape(tuple(count * length for count, length in zip(counts, shape, strict=True)))
