"""Indexing: slices, and gathers by integer arrays, lazy ones too. Names: NumPy's, array API standard.

Negative indices wrap. An index outside its axis is an error only at a position that counts.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court, blame_of_any, none_if_empty
from ..engine.errors import DTypeError, IndexOutOfRangeError, ShapeError, TraceError
from ..engine.ir import Node, UnfusableError, Values
from ..engine.labels import Axes, broadcast_axes
from ..engine.leaves import Data
from ..engine.sources import library, read
from ..engine.tracing import scalars_are_traced
from ..engine.types import Shape, TensorType, broadcast, is_integer
from .array import Array, ArrayLike, lift
from .creation import arange
from .kinds import Rearrangement, normalize_axis
from .registry import FUNCTIONS, public
from .shape import PermuteDims, Reshape, Slice


class Gather(Rearrangement):
    """``operand[..., indices, ...]``: the axes ``axes`` picked by index arrays of one shape.

    The indices' shape comes first in the result, then the remaining axes in order.
    """

    # The function, for errors.
    called: ClassVar[str] = "getitem"

    operand: Node
    indices: tuple[Node, ...]
    axes: tuple[int, ...]

    def infer(self) -> TensorType:
        """Raises DTypeError for indices that are no integers."""
        for index in self.indices:
            if not is_integer(index.dtype):
                raise DTypeError(f"{self.called}: an index array holds integers, not {index.type}")
        shape = broadcast(self.called, *(index.shape for index in self.indices))
        rest = tuple(length for axis, length in enumerate(self.operand.shape) if axis not in self.axes)
        return TensorType(shape + rest, self.operand.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Those of the indices, then those that stay; of an axis that one list picks from, the name."""
        axes, *indices = operands
        rest = tuple(name for axis, name in enumerate(axes) if axis not in self.axes)
        ahead = self.shape[: len(self.shape) - len(rest)]
        shapes = [index.shape for index in self.indices]
        picked = broadcast_axes(ahead, list(zip(indices, shapes, strict=True)))
        name = axes[self.axes[0]]
        if len(ahead) == len(self.axes) == 1 and picked[0] is None and name is not None:
            picked = (name.bare(),)
        return (*picked, *rest)

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """A load at computed indices; negative ones wrap."""
        ahead = len(at) - (len(self.operand.shape) - len(self.axes))
        picked = {axis: kernel.spread(index, at[:ahead]) for axis, index in zip(self.axes, self.indices, strict=True)}
        rest = iter(at[ahead:])
        inside = [picked[axis] if axis in picked else next(rest) for axis in range(len(self.operand.shape))]
        return kernel.gathered(self.operand, inside)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, added where it was picked."""
        indices: list[Array | None] = [None] * len(self.indices)
        return Array(ScatterAdd(upstream.node, self.indices, self.axes, self.operand.shape, self.called)), *indices

    def reference(self, x: Values, *indices: Values) -> Values:
        """NumPy's take, indices clamped: whether one is an error is decided by `careful`."""
        return _pick(x, [self._clamp(index, axis) for index, axis in zip(indices, self.axes, strict=True)], self.axes)

    def _clamp(self, index: Values, axis: int) -> Values:
        return np.clip(wrapped(index, self.operand.shape[axis]), 0, max(self.operand.shape[axis] - 1, 0))

    def _outside(self, index: Values, axis: int) -> Values:
        length = self.operand.shape[axis]
        return np.asarray((index < -length) | (index >= length))

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """An index out of range."""
        return any(bool(self._outside(index, axis).any()) for index, axis in zip(operands[1:], self.axes, strict=True))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Positions that an index out of range would fill blame it."""
        operand, *indices = operands
        values = [index.value for index in indices]
        hidden = blame = None
        if operand.hidden is not None:
            hidden = none_if_empty(self.reference(operand.full_hidden(), *values))
        if operand.blame is not None:
            blame = self.reference(operand.full_blame(), *values)
        ahead = broadcast("getitem", *(index.shape for index in values))
        accused = blame_of_any([Careful(np.broadcast_to(i.value, ahead), None, i.blame) for i in indices], ahead)
        for index, axis in zip(values, self.axes, strict=True):
            outside = np.broadcast_to(self._outside(index, axis), ahead)
            if outside.any():
                number = self._accuse(court, np.broadcast_to(index, ahead)[outside], axis)
                accused = np.maximum(0 if accused is None else accused, np.where(outside, np.int32(number), 0))
        if accused is not None:
            spread = accused.reshape(ahead + (1,) * (len(self.shape) - len(ahead)))
            blame = np.broadcast_to(np.maximum(spread, 0 if blame is None else blame), value.shape)
        return Careful(value, hidden, blame)

    def _accuse(self, court: Court, wrong: Values, axis: int) -> int:
        message = (
            f"{self.called}: index {int(wrong.flat[0])} is out of range for axis {axis} of {self.operand.type}, "
            f"of length {self.operand.shape[axis]}"
        )
        return court.accuse(self, IndexOutOfRangeError, message)


class ScatterAdd(Node):
    """Zeros of shape ``to``, with ``values`` added where a `Gather` by these indices picks: its adjoint.

    What is added to one place is added in the order of the indices. An index out of range is an error unless a mask
    hides all that it brings.
    """

    role: ClassVar[str] = "placement"

    values: Node
    indices: tuple[Node, ...]
    axes: tuple[int, ...]
    to: Shape
    called: str

    def infer(self) -> TensorType:
        """``to``."""
        return TensorType(self.to, self.values.dtype)

    def segments(self) -> tuple[Node, int, bool] | None:
        """Rows that one list of indices puts along the first axis: each place gets the sum of its segment."""
        if self.axes != (0,) or len(self.indices[0].shape) != 1:
            return None
        return self.indices[0], self.to[0], True

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """A sum over the rows that are added to one place."""
        if self.segments() is None:
            raise UnfusableError(f"{self.name}: by indices of several axes")
        return kernel.over_segment("sum", self, at)

    def adds_to(self, kernel: Any, at: Sequence[Any]) -> Sequence[Any] | None:
        """Where the indices say; negative ones wrap."""
        ahead = len(at) - (len(self.to) - len(self.axes))
        picked = {axis: kernel.spread(index, at[:ahead]) for axis, index in zip(self.axes, self.indices, strict=True)}
        rest = iter(at[ahead:])
        places = [picked[axis] if axis in picked else next(rest) for axis in range(len(self.to))]
        found: Sequence[Any] = kernel.inside(self.to, places)
        return found

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, picked."""
        indices: list[Array | None] = [None] * len(self.indices)
        return Array(Gather(upstream.node, self.indices, self.axes)), *indices

    def reference(self, values: Values, *indices: Values) -> Values:
        """Added in float64 one after the other; what lies outside adds nothing."""
        shape = np.broadcast_shapes(*(index.shape for index in indices))
        rest = tuple(length for axis, length in enumerate(self.to) if axis not in self.axes)
        result = np.zeros(tuple(self.to[axis] for axis in self.axes) + rest, np.float64)
        places = [np.broadcast_to(wrapped(i, self.to[a]), shape) for i, a in zip(indices, self.axes, strict=True)]
        inside = ~self._outside(indices)
        np.add.at(result, tuple(place[inside] for place in places), values[inside])
        return np.moveaxis(result, range(len(self.axes)), self.axes)

    def _outside(self, indices: Sequence[Values]) -> Values:
        outside = np.zeros(np.broadcast_shapes(*(index.shape for index in indices)), np.bool_)
        for index, axis in zip(indices, self.axes, strict=True):
            outside = outside | (index < -self.to[axis]) | (index >= self.to[axis])
        return outside

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """An index out of range, or a value that is not finite."""
        return bool(self._outside(operands[1:]).any()) or super().trouble(value, operands, check_finite)

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden values add nothing; a place blames whom the visible values there blame."""
        values, *indices = operands
        places = [index.value for index in indices]
        blame = None
        if values.hidden is not None:
            value = self.reference(values.contribution(), *places).astype(value.dtype)
        if values.blame is not None:
            blame = self._worst(values.full_blame(), places)
        outside = self._outside(places)
        levels = values.full_hidden()
        visible = (levels == 0).any(axis=tuple(range(outside.ndim, levels.ndim)))
        wrong = outside & visible
        accused = blame_of_any(
            [Careful(np.broadcast_to(i.value, wrong.shape), None, i.blame) for i in indices], wrong.shape
        )
        worst = 0 if accused is None else int(accused[visible].max(initial=0))
        if wrong.any():
            message = f"{self.called}: the gradient adds to an index out of range for {self.type}"
            worst = max(worst, court.accuse(self, IndexOutOfRangeError, message))
        if worst:
            blame = np.maximum(0 if blame is None else blame, np.full(value.shape, worst, np.int32))
        return Careful(value, None, blame)

    def _worst(self, blame: Values, indices: Sequence[Values]) -> Values:
        shape = np.broadcast_shapes(*(index.shape for index in indices))
        rest = tuple(length for axis, length in enumerate(self.to) if axis not in self.axes)
        result = np.zeros(tuple(self.to[axis] for axis in self.axes) + rest, np.int32)
        places = [np.broadcast_to(wrapped(i, self.to[a]), shape) for i, a in zip(indices, self.axes, strict=True)]
        inside = ~self._outside(indices)
        np.maximum.at(result, tuple(place[inside] for place in places), blame[inside])
        return np.moveaxis(result, range(len(self.axes)), self.axes)


class Take(Gather):
    """`take`."""

    called: ClassVar[str] = "take"


class TakeAlongAxis(Gather):
    """`take_along_axis`."""

    called: ClassVar[str] = "take_along_axis"


def wrapped(index: Values, length: int) -> Values:
    """Indices as int64, negative ones counted from the end. In their own type the sum could overflow."""
    largest = np.iinfo(np.int64).max
    signed = (np.minimum(index, largest) if index.dtype == np.uint64 else index).astype(np.int64)
    return np.where(signed < 0, signed + length, signed)


def _pick(x: Values, indices: Sequence[Values], axes: tuple[int, ...]) -> Values:
    shape = np.broadcast_shapes(*(index.shape for index in indices))
    if any(x.shape[axis] == 0 for axis in axes):  # nothing to pick from: any value will do
        rest = tuple(length for axis, length in enumerate(x.shape) if axis not in axes)
        return np.zeros(shape + rest, x.dtype)
    front = np.moveaxis(x, axes, range(len(axes)))
    return np.asarray(front[tuple(indices)])


@public()
def getitem(x: ArrayLike, key: Any, /) -> Array:
    """``x[key]`` as NumPy does it: integers, slices, ``...``, None, and integer arrays, lazy ones too.

    Raises:
        IndexOutOfRangeError: Now for plain integers, at evaluation for arrays.
        DTypeError: For lazy boolean masks (the result's shape would depend on them), and for floats.
        ShapeError: For more indices than axes.
    """
    return FUNCTIONS["gathered_per_position"](x, key) if scalars_are_traced() else indexed(Gather, x, key)


def indexed(kind: type[Gather], x: ArrayLike, key: Any, *, first: bool = False) -> Array:
    """``x[key]``, for the function whose gathers are of this kind.

    Args:
        kind: The operator.
        x: The array.
        key: Its index.
        first: Whether the axes of index arrays come first in the result, wherever the arrays stand.
    """
    operation = kind.called
    node = lift(x, operation)
    items = _expand_ellipsis(operation, _as_tuple(operation, key), node)
    starts, steps, lengths = [], [], []
    shape: list[int] = []
    arrays: list[tuple[int, Node]] = []
    advanced: list[int] = []
    axis = 0
    for place, item in enumerate(items):
        if item is None:
            shape.append(1)
        if item is None or item is Ellipsis:
            continue
        length = node.shape[axis]
        start, step, count = _range_of(operation, item, length, axis, node)
        starts.append(start)
        steps.append(step)
        lengths.append(count)
        if isinstance(item, Node | int):
            advanced.append(place)  # beside an array an integer counts as one
        if isinstance(item, Node):
            arrays.append((len(shape), item))
            shape.append(count)
        elif isinstance(item, slice):
            shape.append(count)
        axis += 1
    sliced = node
    if node.shape:
        # One node for what changes nothing: x[...] is x, so its reference needs no pass.
        sliced = Slice(node, tuple(starts), tuple(steps), tuple(lengths))
        sliced = sliced.simplify() or sliced
    reshaped = sliced if sliced.shape == tuple(shape) and not sliced.type.weak else Reshape(sliced, tuple(shape))
    if not arrays:
        return Array(reshaped)
    together = not first and advanced == list(range(advanced[0], advanced[0] + len(advanced)))
    return Array(_gather(kind, reshaped, arrays, together))


def _gather(kind: type[Gather], node: Node, arrays: list[tuple[int, Node]], together: bool) -> Node:
    """NumPy's placement: the new axes stand where the index arrays did, or in front if these are apart."""
    axes = tuple(axis for axis, _ in arrays)
    gathered = kind(node, tuple(index for _, index in arrays), axes)
    if not together or axes[0] == 0:
        return gathered
    new = len(gathered.shape) - (len(node.shape) - len(axes))
    before = axes[0]
    order = (*range(new, new + before), *range(new), *range(new + before, len(gathered.shape)))
    return PermuteDims(gathered, order)


def _as_tuple(operation: str, key: Any) -> list[Any]:
    return [_as_item(operation, item) for item in (key if isinstance(key, tuple) else (key,))]


def _as_item(operation: str, item: Any) -> Any:
    """An integer, a slice, an ellipsis, None, or the node of an index array."""
    if item is None or item is Ellipsis:
        return item
    if isinstance(item, slice):
        return slice(*(_whole(operation, part) for part in (item.start, item.stop, item.step)))
    if isinstance(item, bool | np.bool_):
        raise DTypeError(f"{operation}: a boolean scalar is no index; use where")
    if isinstance(item, int | np.integer):
        return int(item)
    node = lift(item, operation)
    # Whose values are there now: a mask of another library, but neither a lazy array nor a graph of tasks.
    present = not isinstance(item, Array) and library(item) != "dask"
    if isinstance(node, Data) and present and node.dtype == np.bool_:
        if not node.shape:
            raise DTypeError(f"{operation}: a boolean scalar is no index; use where")
        return read(node.source)
    if isinstance(item, list) and node.type.size == 0:
        node = lift(np.zeros(node.shape, np.int64), operation)
    if node.dtype == np.bool_:
        raise DTypeError(f"{operation}: the shape of x[mask] depends on the lazy mask {node.type}; use where")
    if not is_integer(node.dtype):
        raise DTypeError(f"{operation}: an index is an integer or an array of integers, not {node.type}")
    return node


def _whole(operation: str, part: Any) -> int | None:
    if part is None:
        return None
    if isinstance(part, Array):
        raise TraceError(f"{operation}: a slice's bounds are integers now, not a lazy {part.node.type}")
    try:
        return int(part.__index__())
    except (AttributeError, TypeError):
        raise DTypeError(f"{operation}: a slice's bounds are integers, not {part!r}") from None


def _expand_ellipsis(operation: str, items: list[Any], node: Node) -> list[Any]:
    """Every axis with an item of its own; known boolean masks as their integer arrays."""
    widened: list[Any] = []
    covered: list[tuple[int, Values]] = []
    for item in items:
        if isinstance(item, np.ndarray):
            covered.append((len(widened), item))
            widened.extend(lift(places, operation) for places in np.nonzero(item))
        else:
            widened.append(item)
    used = sum(1 for item in widened if item is not None and item is not Ellipsis)
    dots = sum(1 for item in widened if item is Ellipsis)
    missing = len(node.shape) - used
    if missing < 0 or dots > 1:
        problem = "more than one ellipsis" if dots > 1 else f"{used} indices"
        raise ShapeError(f"{operation}: {problem} for {node.type} with {len(node.shape)} axes")
    if not dots:
        widened.append(Ellipsis)
    dotted = next(number for number, item in enumerate(widened) if item is Ellipsis)
    for place, mask in covered:
        before = sum(1 for item in widened[:place] if item is not None and item is not Ellipsis)
        _check_mask(operation, mask, node, before + (missing if place > dotted else 0))
    # Dots for no axes stay: they keep index arrays apart as NumPy's do.
    spread: list[Any] = [slice(None)] * missing
    return widened[:dotted] + (spread or [Ellipsis]) + widened[dotted + 1 :]


def _check_mask(operation: str, mask: Values, node: Node, axis: int) -> None:
    axes = node.shape[axis : axis + mask.ndim]
    if mask.shape != axes:
        raise ShapeError(f"{operation}: a mask of shape {mask.shape} on axes of shape {axes} of {node.type}")


def _range_of(operation: str, item: Any, length: int, axis: int, node: Node) -> tuple[int, int, int]:
    """Start, step and count of what an item takes of an axis; index arrays take all for now."""
    if isinstance(item, Node):
        return 0, 1, length
    if isinstance(item, slice):
        if item.step == 0:
            raise ShapeError(f"{operation}: a slice of axis {axis} of {node.type} with step 0")
        chosen = range(*item.indices(length))
        return (chosen.start, chosen.step, len(chosen)) if len(chosen) else (0, 1, 0)
    if not -length <= item < length:
        raise IndexOutOfRangeError(
            f"{operation}: index {item} is out of range for axis {axis} of {node.type}, of length {length}"
        )
    return item % length, 1, 1


@public("index_select")
def take(x: ArrayLike, indices: ArrayLike, /, *, axis: int | None = None) -> Array:
    """``x`` at ``indices`` along ``axis`` (needed but for one axis).

    Raises:
        ShapeError: For several axes without ``axis``.
        IndexOutOfRangeError: At evaluation, where it counts.
    """
    array = Array(lift(x, "take"))
    if axis is None:
        if array.ndim != 1:
            raise ShapeError(f"take: {array.node.type} has {array.ndim} axes: say along which one")
        axis = 0
    place = normalize_axis("take", axis, array.ndim)
    picked = (
        indices if isinstance(indices, int | slice) and not isinstance(indices, bool) else Array(lift(indices, "take"))
    )
    return indexed(Take, array, (*(slice(None),) * place, picked))


@public()
def take_along_axis(x: ArrayLike, indices: ArrayLike, /, *, axis: int = -1) -> Array:
    """``x`` at ``indices`` along ``axis``, the other axes matched one by one (and broadcast).

    Raises:
        ShapeError: If the numbers of axes differ or the others do not broadcast.
        IndexOutOfRangeError: At evaluation, where it counts.
    """
    return along_axis(TakeAlongAxis, x, indices, axis)


def along_axis(kind: type[Gather], x: ArrayLike, indices: ArrayLike, axis: Any) -> Array:
    """`take_along_axis`, for the function whose gathers are of this kind."""
    operation = kind.called
    array, index = Array(lift(x, operation)), Array(lift(indices, operation))
    if array.ndim != index.ndim:
        raise ShapeError(f"{operation}: {array.node.type} and indices {index.node.type} differ in axes")
    place = normalize_axis(operation, axis, array.ndim)
    key: list[Any] = []
    for other, length in enumerate(array.shape):
        if other == place:
            key.append(index)
            continue
        along = tuple(-1 if each == other else 1 for each in range(array.ndim))
        if length not in (1, index.shape[other]) and index.shape[other] != 1:
            raise ShapeError(
                f"{operation}: {array.node.type} and indices {index.node.type} do not match along axis {other}"
            )
        positions = arange(length) if length != 1 else arange(1)
        key.append(positions.reshape(along))
    return indexed(kind, array, tuple(key))
