"""From nodes to a loop over segments: elements at a row or an edge, reductions over the edges of a row."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..leaves import Constant
from ..order import postorder
from ..scalar import Axis, Scalar, below
from ..segment_loop import Extent, SegmentLoop, SegmentOutput, is_computed, needed_below
from ..types import BOOL, INT64, Shape
from .lower_loop import Views
from .watches import watches_of

# What no loop has inside, unless it reduces segments.
_APART = frozenset({"leaf", "opaque", "placement", "contraction"})
# Elements of one value for an edge: beyond this, code takes seconds to make.
_MOST_LANES = 512
# Scalars of a loop at most: LLVM's time grows faster than their number.
_MOST_SCALARS = 400


class Grouping(NamedTuple):
    """Which edges are grouped how: loops of one grouping may be one."""

    ids: Node
    segments: int


class SegmentElements(Elements):
    """Elements at the rows and edges of one grouping.

    Args:
        grouping: The rows, and to which of them edges belong.
        stored: Nodes that are arrays by the time the loop runs.
        depends: By which groupings each node's value is reduced.
        views: What is known of rearrangements.
    """

    def __init__(
        self,
        grouping: Grouping,
        stored: Collection[Node],
        depends: Mapping[Node, Collection[Grouping]],
        views: Views,
    ) -> None:
        super().__init__(stored.__contains__, clamps=True)
        # The axis that a result is summed over, until its operator has asked for it.
        self._summed: Axis | None = None
        self.grouping, self._kept, self._depends, self._views = grouping, stored, depends, views
        self.row = self.new_axis("row", grouping.segments)
        self.edge = self.new_axis("edge", grouping.ids.shape[0])
        self.row_index = self.make("axis", (), INT64, self.row)
        self.edge_index = self.make("axis", (), INT64, self.edge)
        self._small: dict[tuple[int, int], Axis] = {}
        # Reductions that are inside.
        self.reduced: dict[Node, None] = {}

    # --- axes

    def small_axis(self, place: int, length: int) -> Axis | None:
        """The axis of results at this place behind the first; None for length 1."""
        if length == 1:
            return None
        axis = self._small.get((place, length))
        if axis is None:
            axis = self._small[place, length] = self.new_axis("s", length)
        return axis

    def new_axis(self, prefix: str, length: int) -> Axis:
        """A fresh index variable; of a sum over all rows or edges, theirs."""
        axis = self._summed
        if axis is None or length != axis.length:
            return super().new_axis(prefix, length)
        self._summed = None
        return axis

    def summed(self, node: Node, at: Sequence[Scalar], axis: Axis) -> Scalar:
        """The element of a sum over all rows or edges, of one row alone: the sum over these is left to do."""
        if not is_sum(node):
            raise UnfusableError(f"{node.name} is more than a sum")
        self._summed = axis
        try:
            found = self._own_element(node, tuple(at))
        finally:
            self._summed = None
        if self.edge in found.axes:
            raise UnfusableError(f"{node.name}: no sum over {axis}")
        return found

    def reduce(self, kind: str, axis: Axis, body: Scalar) -> Scalar:
        """Along a small axis, or over the edges of a row."""
        if axis is self.row:
            return body
        if axis is self.edge:
            if kind != "sum":
                raise UnfusableError(f"a {kind} over all edges")
            return self._over_edges(kind, body)
        if kind not in ("sum", "max"):
            raise UnfusableError(f"a {kind} along a small axis")
        if axis not in body.axes:  # the same all along it
            return body if kind == "max" else self.multiply(body, self.constant(int(axis.length), body.dtype))
        return super().reduce(kind, axis, body)

    def _over_edges(self, kind: str, body: Scalar) -> Scalar:
        """Factors of the row are taken out of a sum: what is divided by another sum need not wait for it."""
        factors: list[tuple[str, tuple[Scalar, ...]]] = []
        if kind == "sum":
            body = self._without_factors(body, factors)
        found = self.make("reduce", (body, self.row_index), body.dtype, (kind, self.edge))
        for op, others in factors:
            found = self.apply(op, found.dtype, found, *map(self._of_occupied, others))
        return found

    def _without_factors(self, body: Scalar, factors: list[tuple[str, tuple[Scalar, ...]]]) -> Scalar:
        """What is left of a product of an edge without what is the row's, which joins ``factors``."""
        if body.op not in ("multiply", "divide", "negative") or self.edge not in body.axes:
            return body
        left, *others = body.args
        if any(each.dtype != body.dtype for each in body.args):
            return body
        if all(self.edge not in each.axes for each in others):
            factors.append((body.op, tuple(others)))
            return self._without_factors(left, factors)
        if body.op == "multiply" and self.edge not in left.axes:
            factors.append((body.op, (left,)))
            return self._without_factors(others[0], factors)
        inner = [self._without_factors(left, factors)]
        inner += [self._without_factors(each, factors) if body.op == "multiply" else each for each in others]
        return self.apply(body.op, body.dtype, *inner)

    def _of_occupied(self, factor: Scalar) -> Scalar:
        """A factor of rows that have edges: where there are none, nothing is multiplied."""
        if factor.is_constant:
            return factor
        occupied = self.make("occupied", (self.row_index,), BOOL)
        return self.apply("where", factor.dtype, occupied, factor, self.constant(1.0, factor.dtype))

    # --- elements

    def element(self, node: Node, at: Sequence[Scalar]) -> Scalar:
        """One element: a load of what is stored, or lies elsewhere than in the row or edge that is gone over."""
        if self._summed is not None:
            raise UnfusableError(f"{node.name}: is not summed over {self._summed}")
        if isinstance(node, Constant) or node in self._kept:
            return super().element(node, at)
        grouped = node.segments()
        if grouped is None:
            is_inside = node.role not in _APART and self._is_inside(node, at)
        else:
            own = grouped[:2] == self.grouping and self._is_row(at[0])
            is_inside = own and all(each.op in ("axis", "constant") for each in at[1:])
        return super().element(node, at) if is_inside else self.make("load", tuple(at), node.dtype, node)

    def _is_row(self, index: Scalar) -> bool:
        return index is self.row_index or (index.is_constant and self.grouping.segments == 1)

    def _is_inside(self, node: Node, at: Sequence[Scalar]) -> bool:
        """Whether a value at these indices belongs to the row or edge: all else is made once, and loaded."""
        if self._views.is_plain(node) or self._views.is_positions(node):
            return True
        indices = below([each for each in at if not each.is_constant])
        if any(each.op in ("load", "inside") for each in indices):
            return False
        if self.edge_index in indices:
            return True
        return self.row_index in indices and self.grouping in self._depends[node]

    def over_segment(self, kind: str, node: Node, at: Sequence[Scalar]) -> Scalar:
        """Over the edges of this very row."""
        grouped = node.segments()
        if grouped is None or grouped[:2] != self.grouping:
            raise UnfusableError(f"{node.name}: reduces other segments than the loop's")
        self.reduced[node] = None
        return self._over_edges(kind, self.spread(node.operands[0], [self.edge_index, *at[1:]]))

    def inside(self, shape: Shape, at: Sequence[Scalar]) -> list[Scalar]:
        """Computed indices; an edge's own id is the row."""
        found = list(at)
        known = [each for each, index in enumerate(at) if self._is_own(index, shape[each])]
        others = [each for each in range(len(at)) if each not in known]
        rest = super().inside(tuple(shape[each] for each in others), [at[each] for each in others])
        for each, index in zip(others, rest, strict=True):
            found[each] = index
        for each in known:
            found[each] = self.row_index
        return found

    def _is_own(self, index: Scalar, length: int) -> bool:
        while index.op == "astype":
            (index,) = index.args
        if index.op != "load" or index.attribute is not self.grouping.ids or length != self.grouping.segments:
            return False
        (place,) = index.args
        return place is self.edge_index or (place.is_constant and self.edge.length == 1)


class Asked(NamedTuple):
    """A result that is asked for, and what it has elements for."""

    node: Node
    extent: Extent
    # Of a total: whether it is one over edges.
    of_edges: bool = False


def is_sum(node: Node) -> bool:
    """Whether an element is the sum of elements of its operand, and nothing else."""
    elements = Elements(lambda each: each is not node)
    try:
        value = elements.element(node, [elements.index(elements.new_axis("o", length)) for length in node.shape])
    except UnfusableError:
        return False
    while value.op == "reduce" and value.attribute[0] == "sum":
        (value,) = value.args
    return value.op == "load" and value.dtype == node.dtype


def lower_segments(
    grouping: Grouping,
    asked: Sequence[Asked],
    stored: Collection[Node],
    depends: Mapping[Node, Collection[Grouping]],
    views: Views,
    check: Callable[[Scalar], None],
) -> SegmentLoop:
    """The loop that computes what is asked for.

    Args:
        grouping: Its rows and edges.
        asked: The results.
        stored: Nodes that are arrays by the time the loop runs.
        depends: By which groupings each node's value is reduced.
        views: What is known of rearrangements.
        check: Raises UnfusableError for a scalar that no loop can compute.

    Raises:
        UnfusableError: If none does; with the node that had better be stored, if there is one.
    """
    elements = SegmentElements(grouping, stored, depends, views)
    outputs = tuple([_output(elements, each) for each in asked])
    scalars = needed_below([output.value for output in outputs])
    for each in scalars:
        _check(elements, each, check)
    if len(scalars) > _MOST_SCALARS:
        raise UnfusableError(f"more than {_MOST_SCALARS} operations would be in one kernel")
    inputs = tuple(dict.fromkeys([grouping.ids, *_loaded(scalars)]))
    wraps = all(node.segments()[2] for node in elements.reduced)  # type: ignore[index]
    trusted = {each for each in scalars if each.op == "reduce" and each.attribute == ("max", elements.edge)}
    loop = SegmentLoop(
        grouping.ids,
        wraps,
        elements.row,
        elements.edge,
        outputs,
        _members([each.node for each in asked], inputs),
        inputs,
        watches_of(scalars, trusted),
        elements.edge_index,
        elements,
    )
    if max(map(loop.lanes, scalars)) > _MOST_LANES:
        raise UnfusableError(f"values of more than {_MOST_LANES} elements for each edge")
    return loop


def _check(elements: SegmentElements, scalar: Scalar, check: Callable[[Scalar], None]) -> None:
    """Raise UnfusableError, with the node that is to be stored instead, for what no loop computes."""
    if scalar.op in ("inside", "length", "occupied"):
        return
    try:
        check(scalar)
        if scalar.op == "call":
            raise UnfusableError("a scalar function inside a loop over segments")
    except UnfusableError as reason:
        reason.node = elements.origin.get(scalar)
        raise


def _output(elements: SegmentElements, asked: Asked) -> SegmentOutput:
    node, extent, _ = asked
    shape = node.shape if extent == "total" else node.shape[1:]
    # A sum that keeps the axis of edges has the others where its rows would have them.
    ahead = int(extent == "total" and len(shape) == len(node.operands[0].shape))
    parts = _parts(node) if extent == "row" else [[length] for length in shape]
    lengths = [length for part in parts for length in part]
    small = tuple(elements.small_axis(place - ahead, length) for place, length in enumerate(lengths))
    indices = iter([elements.constant(0) if axis is None else elements.index(axis) for axis in small])
    at = [_flat(elements, [(next(indices), length) for length in part]) for part in parts]
    if extent == "total":
        axis = elements.edge if asked.of_edges else elements.row
        return SegmentOutput(node, extent, small, elements.summed(node, at, axis))
    first = elements.row_index if extent == "row" else elements.edge_index
    value = elements._own_element(node, (first, *at))
    return SegmentOutput(node, extent, small, value)


def _parts(node: Node) -> list[list[int]]:
    """Lengths of the axes behind the first: each as those of what is reduced for it, of which it may be several in one.

    Heads laid out one behind the other stay axes of their own: what has one value for a head is computed once for it.
    """
    whole = [[length] for length in node.shape[1:]]
    bases = {base.shape[1:] for base in _reduced_below(node)}
    if len(bases) != 1 or node.shape[1:] in bases:
        return whole
    rest, parts = list(bases.pop()), []
    for length in node.shape[1:]:
        part: list[int] = []
        while rest and (rest[0] == 1 or math.prod(part) < length):
            part.append(rest.pop(0))
        parts.append(part)
    fits = not rest and all(math.prod(part) == length for part, (length,) in zip(parts, whole, strict=True))
    return parts if fits else whole


def _reduced_below(node: Node) -> list[Node]:
    """The reductions of segments that it is made of, element by element."""

    def made_of(each: Node) -> tuple[Node, ...]:
        return each.operands if each.role in ("pointwise", "rearrangement") and not each.segments() else ()

    return [each for each in postorder([node], made_of) if each.segments()]


def _flat(elements: SegmentElements, indices: Sequence[tuple[Scalar, int]]) -> Scalar:
    """One index made of those of its parts."""
    found = elements.constant(0)
    for index, length in indices:
        found = elements.add(elements.multiply(found, elements.constant(length)), index)
    return found


def _loaded(scalars: Sequence[Scalar]) -> list[Node]:
    return [each.attribute for each in scalars if each.op == "load"]


def _members(outputs: Sequence[Node], inputs: Collection[Node]) -> tuple[Node, ...]:
    """What lies between inputs and outputs, constants among it."""
    return tuple(postorder(outputs, lambda node: node.operands, set(inputs)))


def reads_elsewhere(loop: SegmentLoop) -> bool:
    """Whether an edge reads anything but what is its own: rows of other arrays, or its row."""
    return bool(loop.reductions) or any(
        each.op == "load" and (loop.row in each.axes or any(map(is_computed, each.args))) for each in loop.scalars
    )
