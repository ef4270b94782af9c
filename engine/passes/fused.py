"""A part of a graph as a sweep: lowered, and split from what has to be stored before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..check import check_sweep
from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..lengths import FEWEST_COLUMNS
from ..scalar import Axis, Scalar, below
from ..sweep import Output, Sweep
from ..types import FLOAT32, HALVES, is_float
from .gathers import unseen_gathers
from .pack import to_pack
from .reach import Reach
from .rows import axis_of_rows, columns_reductions, single_row
from .stream import Streaming
from .stream_columns import ColumnStreaming

MOST_TRIES = 24


@dataclass
class Fused:
    """A sweep, the nodes whose arrays it loads, and what it was lowered with.

    Attributes:
        alone: For a sweep with results of columns, sweeps that compute each of its results as one of rows: the careful
            path takes these, some rows at a time.
    """

    sweep: Sweep
    elements: Elements
    inside: set[Node]
    inputs: tuple[Node, ...] = ()
    alone: list[Sweep] = field(default_factory=list)

    def streaming(self) -> Streaming:
        """What makes accumulators of further results."""
        kind = ColumnStreaming if self.sweep.adds_up else Streaming
        return kind(self.elements, self.sweep)

    @property
    def is_settled_alone(self) -> bool:
        """Whether the careful path can compute the results of some rows again without those of others."""
        sweep = self.sweep
        return not sweep.of_pairs and not sweep.streamed and not sweep.looped and not sweep.selects

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What it computes."""
        return tuple(output.node for output in self.sweep.outputs)

    def guarded(self) -> tuple[Node, ...]:
        """Inputs that an inlined guard watches for NaN and infinity."""
        found: dict[Node, None] = {}
        stack = [each for each in self.inside if each.guards]
        while stack:
            node = stack.pop()
            for operand in node.operands:
                if operand in self.inputs:
                    found[operand] = None
                elif operand.role in ("rearrangement", "pointwise"):
                    stack.append(operand)
        return tuple(found)


def as_sweep(node: Node, reach: Reach) -> Fused:
    """The sweep that computes ``node``.

    Raises:
        UnfusableError: If there is none.
    """
    return settled(node, reach.inlined(summed_product(node) or node), lowered)


def settled(node: Node, inside: set[Node], lower: Callable[[Node, set[Node]], Fused]) -> Fused:
    """The sweep that ``lower`` makes of a node, once all that it cannot have inside is stored before.

    Raises:
        UnfusableError: If there is none.
    """
    for _ in range(MOST_TRIES):
        try:
            fused = lower(node, inside)
            must_store = to_store(node, fused) or to_pack(fused.sweep, fused.elements)
        except UnfusableError as reason:
            must_store = culprit(reason, node, inside)
        if not must_store:
            finish(fused)
            return fused
        inside = inside - must_store
    raise UnfusableError(f"{node.name}: too many parts to store first")


def culprit(reason: UnfusableError, node: Node, inside: set[Node]) -> set[Node]:
    """The operand that no kernel can compute, to be stored; raises the reason if it is none."""
    if reason.node is None or reason.node is node or reason.node not in inside:
        raise reason
    return {reason.node}


def lowered(node: Node, inside: set[Node]) -> Fused:
    """The sweep that computes ``node`` with these nodes inside, as far as it may be one.

    Raises:
        UnfusableError: If there is none.
    """
    elements = Elements(lambda each: each not in inside, clamps=True, apart=True)
    source = summed_product(node) or node
    at = [elements.new_axis("o", length) for length in source.shape]
    element = elements.element(source, [elements.index(axis) for axis in at])
    columns_length, places, rows = _rows_and_columns(element, at)
    after = places[places.index(rows) + 1 :]
    small = next((axis for axis in reversed(after) if axis.length > 1), None)
    batch = tuple(axis for axis in places if axis not in (rows, small) and not (axis in after and axis.length == 1))
    sweep = Sweep(batch, rows, elements.new_axis("j", columns_length))
    kind = Streaming if source is node else ColumnStreaming
    (value,) = kind(elements, sweep).rewrite([element])
    if not sweep.accumulators and not sweep.groups:
        raise UnfusableError(f"{node.name}: nothing to stream")
    tiles = [*sweep.groups, *(each.weight for each in sweep.accumulators)]
    if small is not None and any(small in each.axes for each in tiles):
        raise UnfusableError(f"{node.name}: weights of a row and a column vary over an axis of the result, too")
    axes = axes_of_result(node, source, at, elements)
    sweep.outputs.append(Output(node, axes, value, small, source, tuple(at)))
    return Fused(sweep, elements, inside)


def summed_product(node: Node) -> Node | None:
    """The product that a sum over batch axes adds up; None for anything else.

    Heads that share keys have such gradients: what one task adds up is never stored for each head.
    """
    if node.role != "reduction" or node.operands[0].role != "contraction":
        return None
    product, *_ = node.operands
    elements = Elements(lambda _: True)
    at = [elements.new_axis("o", length) for length in product.shape]
    places = node.adds_to(elements, [elements.index(axis) for axis in at])
    if places is None:
        return None
    kept = {place.attribute for place in places if place.op == "axis"}
    lost = [axis for axis in at if axis.length != 1 and axis not in kept]
    return product if lost and not set(lost) & set(at[-2:]) else None


def is_circular(node: Node, fused: Fused, others: Mapping[Node, Fused]) -> bool:
    """Whether the sweep, with ``node`` as one more result, would wait for itself.

    Args:
        node: What is to join.
        fused: The sweep.
        others: All sweeps so far, by what they compute: each waits for all of its inputs.
    """
    results, seen = {node, *fused.nodes}, set[Node]()
    stack = [*node.operands, *fused.inputs]
    while stack:
        each = stack.pop()
        if each in results:
            return True
        if each not in seen:
            seen.add(each)
            stack += each.operands
            stack += others[each].inputs if each in others else ()
    return False


def axes_of_result(node: Node, source: Node, at: Sequence[Axis], elements: Elements) -> tuple[Axis, ...]:
    """The axes of a result's indices: those of what it adds up that stay, and others of length 1."""
    if source is node:
        return tuple(at)
    places = node.adds_to(elements, [elements.index(axis) for axis in at])
    assert places is not None
    return tuple(place.attribute if place.op == "axis" else elements.new_axis("o", 1) for place in places)


def finish(fused: Fused) -> None:
    """Leave out what no result needs, and say what is loaded."""
    sweep = fused.sweep
    used = {each.group for each in sweep.accumulators}
    used |= {each.attribute for each in below([output.value for output in sweep.outputs]) if each.op == "maximum_of"}
    sweep.groups = [group for group in sweep.groups if group in used]
    streamed = set(sweep.streamed)
    of_rows = below([output.value for output in sweep.outputs if output.is_of_rows])
    if any(streamed & each.axes for each in of_rows if each.op in ("load", "axis")):
        raise UnfusableError("a result that varies over a batch axis which it sums over")
    if sweep.groups and sweep.adds_up:
        raise UnfusableError("a running maximum, beside results that several tasks add to")
    loads = [each.attribute for each in below(fused.sweep.expressions()) if each.op == "load"]
    fused.inputs = tuple(dict.fromkeys(loads))
    check_sweep(sweep)


def leaves_of(sweep: Sweep, tiles: Sequence[Scalar]) -> set[Scalar]:
    """What tile values are made of: contractions, and loads for pairs of a row and a column."""
    return {each for each in below(tiles) if each.op in ("reduce", "load") and sweep.pair <= each.axes}


def _rows_and_columns(element: Scalar, axes: list[Axis]) -> tuple[int, list[Axis], Axis]:
    """The length of what is streamed, the axes of the result, and which of them is that of rows.

    Rows are an axis that tiles vary over; without one, there is a single row.
    """
    outer = next((each for each in reversed(below([element])) if each.op == "reduce"), None)
    if outer is None:
        raise UnfusableError("no reduction")
    columns = outer.attribute[1]
    if columns.length < FEWEST_COLUMNS:
        raise UnfusableError(f"only {columns.length} columns")
    rows = axis_of_rows(element, axes, columns)
    if rows is not None:
        return columns.length, axes, rows
    return columns.length, *single_row(element, axes, columns)


def to_store(node: Node, fused: Fused) -> set[Node]:
    """Nodes whose values vary over rows or columns alone, and are reductions or not float32."""
    sweep, elements = fused.sweep, fused.elements
    everything = below(sweep.expressions())
    flagged = columns_reductions(sweep) | unseen_gathers(sweep)
    for each in everything:
        if any(map(_is_wide, (each, *each.args))) and not _is_read_narrow(each, sweep):
            if sweep.rows.length > 1 and sweep.pair <= each.axes and not _is_read(each):
                raise UnfusableError(f"{node.name}: tiles are float32, not {each.dtype}")
            flagged.add(each)
        elif each.op == "reduce" and not sweep.pair <= each.axes:
            flagged.add(each)
    inner = set(below([argument for each in flagged for argument in each.args]))
    store = {elements.origin.get(each) for each in flagged - inner}
    if None in store or store & {node, *(output.source for output in sweep.outputs)}:
        raise UnfusableError(f"{node.name}: a part of it has no node that could be stored")
    return {each for each in store if each is not None}


def _is_read(scalar: Scalar) -> bool:
    """An element of a table of other floats, or that as float32: the table is stored as float32 as a whole."""
    return (scalar.args[0] if scalar.op == "astype" else scalar).op == "load"


def _is_read_narrow(scalar: Scalar, sweep: Sweep) -> bool:
    """Whether it is what a row or a column has of a stored array of half floats, or that as float32.

    A kernel reads those as they are stored. Where several tasks add to a result everything is laid out for columns
    and for rows: there they are widened once, before.
    """
    load = scalar.args[0] if scalar.op == "astype" and scalar.dtype == FLOAT32 else scalar
    if load.op != "load" or load.dtype not in HALVES or load.attribute.role != "leaf" or sweep.adds_up:
        return False
    return sweep.rows.length == 1 or not sweep.pair <= load.axes


def _is_wide(scalar: Scalar) -> bool:
    return is_float(scalar.dtype) and scalar.dtype.itemsize != 4 and scalar.op != "constant"
