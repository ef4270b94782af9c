"""Names of axes, read off a graph: every operator says what becomes of its operands' (`Node.labelled`).

Nothing is carried along while a graph is written, so what has no labels pays nothing for them. The arrays that bring
labels are xarray's; they are told by what they have, and xarray is not imported here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .sources import library
from .types import Shape

if TYPE_CHECKING:
    from .ir import Node


class Axis(NamedTuple):
    """An axis that has a name.

    Args:
        dim: Its name; None for one whose operands disagree, which is no name and stays none.
        coordinates: xarray Variables along this axis alone, by name.
        part: ``(place, count)`` where a labelled axis was split; all parts side by side are that axis again.
        whole: The object whose axis this is, all of it in order: more than one axis of it may have coordinates.
    """

    dim: Any
    coordinates: Mapping[Any, Any] = {}
    part: tuple[int, int] = (0, 1)
    whole: Any = None

    def bare(self) -> "Axis":
        """The name alone: which elements stand here is not known."""
        return Axis(self.dim)

    def sliced(self, start: int, step: int, length: int, of: int) -> "Axis":
        """Every ``step``-th from ``start`` on, of as many."""
        if (start, step, length) == (0, 1, of) or self.dim is None:
            return self
        if self.part != (0, 1):
            return CONFLICT
        stop = start + step * length
        picked = slice(start, stop if stop >= 0 else None, step) if length else slice(0, 0)
        return Axis(self.dim, {name: each.isel({self.dim: picked}) for name, each in self.coordinates.items()})


CONFLICT = Axis(None)
Axes = tuple[Axis | None, ...]


class Labels(NamedTuple):
    """What a value's axes are called, and the labelled array that it takes its name and attributes from."""

    axes: Axes
    lead: Any = None


def unlabelled(shape: Shape) -> Axes:
    """No names."""
    return (None,) * len(shape)


def bare_along(axes: Axes, axis: int) -> Axes:
    """The same where elements change places along an axis: of that one, the name alone."""
    along = axes[axis]
    return (*axes[:axis], along and along.bare(), *axes[axis + 1 :])


def agreed(left: Axis | None, right: Axis | None) -> Axis | None:
    """One axis of two operands: what both say, and what one of them says where the other is silent."""
    if left is None or right is None or left is right:
        return right if left is None else left
    if left.dim is None or right.dim is None:
        return CONFLICT
    if (left.part == (0, 1)) != (right.part == (0, 1)):  # heads in groups beside the keys' heads, which they share
        return right if left.part == (0, 1) else left
    if left.dim != right.dim or left.part != right.part:
        return CONFLICT
    both = {
        name: each
        for name, each in {**right.coordinates, **left.coordinates}.items()
        if all(name not in side.coordinates or side.coordinates[name].equals(each) for side in (left, right))
    }
    same = len(both) >= max(len(left.coordinates), len(right.coordinates))
    return Axis(left.dim, both, left.part, left.whole if same else None)


def first_of(left: Axis | None, right: Axis | None) -> Axis | None:
    """The left operand's axis, if it has a name."""
    return right if left is None else left


def spread(axes: Axes, shape: Shape, to: Shape) -> Axes:
    """Axes of an operand that is broadcast: what is repeated has no name."""
    new = len(to) - len(shape)
    kept = [
        axis if length == to[new + place] else None
        for place, (axis, length) in enumerate(zip(axes, shape, strict=True))
    ]
    return (*unlabelled(to[:new]), *kept)


def broadcast_axes(shape: Shape, operands: Sequence[tuple[Axes, Shape]]) -> Axes:
    """Axes of an element-wise result."""
    found = unlabelled(shape)
    for axes, own in operands:
        found = tuple(agreed(one, other) for one, other in zip(found, spread(axes, own, shape), strict=True))
    return found


def reshaped(axes: Axes, shape: Shape, to: Shape) -> Axes:
    """Axes in another shape: those that stay, those that are split, and split ones put together again."""
    if shape == to:
        return axes
    if 0 in shape:
        return unlabelled(to)
    found: list[Axis | None] = []
    for before, after in _groups(shape, to):
        found += _regrouped([axes[n] for n in before], [shape[n] for n in before], [to[n] for n in after])
    return tuple(found)


def _groups(shape: Shape, to: Shape) -> Iterator[tuple[range, range]]:
    """The shortest runs of axes on either side that hold as many elements."""
    one = other = 0
    while one < len(shape) or other < len(to):
        first, second = one, other
        one, other = min(one + 1, len(shape)), min(other + 1, len(to))
        while math.prod(shape[first:one]) != math.prod(to[second:other]):
            if math.prod(shape[first:one]) < math.prod(to[second:other]):
                one += 1
            else:
                other += 1
        yield range(first, one), range(second, other)


def _regrouped(axes: list[Axis | None], shape: list[int], to: list[int]) -> list[Axis | None]:
    """Within such a run, axes of length 1 come and go."""
    if shape == to:
        return axes
    long = [axis for axis, length in zip(axes, shape, strict=True) if length != 1]
    lengths = [length for length in to if length != 1]
    count = len(lengths)
    if lengths == [length for length in shape if length != 1]:
        kept = long
    elif len(long) == 1:
        (axis,) = long
        whole = axis is not None and axis.part == (0, 1)
        kept = [axis._replace(part=(n, count)) if axis is not None and whole else None for n in range(count)]
    else:
        kept = [_joined(long)] * count if count == 1 else [None] * count
    parts = iter(kept)
    return [None if length == 1 else next(parts) for length in to]


def _joined(axes: Sequence[Axis | None]) -> Axis | None:
    first = axes[0]
    if first is None or any(axis is None or axis.dim != first.dim for axis in axes):
        return None
    parts = [axis.part for axis in axes if axis is not None]
    return first._replace(part=(0, 1)) if parts == [(n, len(axes)) for n in range(len(axes))] else None


def labels_of_source(source: Any) -> Labels | None:
    """Of an xarray DataArray or Variable: its dimensions, and the coordinates along each. None of anything else."""
    if library(source) != "xarray" or not hasattr(source, "dims"):
        return None
    coordinates = source.coords.variables if hasattr(source, "coords") else {}
    axes = []
    for dim in source.dims:
        along = {name: each for name, each in coordinates.items() if each.dims == (dim,)}
        axes.append(Axis(dim, along, whole=source))
    return Labels(tuple(axes), source if hasattr(source, "coords") else None)


def labels_of(roots: "Sequence[Node]", nodes: "Sequence[Node]", known: "Mapping[Node, Labels]") -> list[Labels]:
    """The labels of roots, from those of nodes that are known and of the arrays that the graph holds.

    Args:
        roots: What to label.
        nodes: All nodes of their graph, operands first (`engine.ir.walk`).
        known: Labels of placeholders, and of other nodes that have some of their own.
    """
    found: dict[Node, Labels] = {}
    for node in nodes:
        own = known.get(node) or labels_of_source(getattr(node, "source", None))
        if own is not None and len(own.axes) == len(node.shape):
            found[node] = own
            continue
        operands = [found[operand] for operand in node.operands]
        if not any(any(each.axes) or each.lead is not None for each in operands):
            found[node] = Labels(unlabelled(node.shape))
            continue
        leads = [found[node.named_after()].lead] if node.operands else []
        lead = next((each for each in (*leads, *(each.lead for each in operands)) if each is not None), None)
        found[node] = Labels(node.labelled([each.axes for each in operands]), lead)
    return [found[root] for root in roots]
