"""Results of pairs: the weights of a sweep themselves, added up at places of a result.

The gradient of a table that scores are read from is such a result, and that of a bias: every pair of a row and a
column adds its weight at the place that its score was read from. The pass that computes the weights anyway adds them
there, block by block.
"""

from collections.abc import Mapping

from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..lengths import FEWEST_COLUMNS, estimate
from ..scalar import Axis, Scalar, below
from ..sweep import Output, Sweep
from ..types import is_float
from .fused import MOST_TRIES, Fused, culprit, finish, is_circular, to_store
from .join_columns import lowered_again, met, places_of
from .pack import to_pack
from .places import in_order
from .reach import Reach
from .rows import FEW_ROWS
from .stream_columns import ColumnStreaming


def source_of_pairs(node: Node) -> Node | None:
    """What a result adds up for pairs of a row and a column; None if it is no such result."""
    source = node
    while source.role in ("placement", "reduction") or (source is not node and source.role == "rearrangement"):
        source = source.operands[0]
    if source.role != "pointwise" or not is_float(source.dtype) or len(source.shape) < 2:
        return None
    return source if source is node or _adds_pairs(node, source) else None


def _adds_pairs(node: Node, source: Node) -> bool:
    """Whether pairs of the last two axes are not summed over as such: then a sweep of its own does it."""
    elements = Elements(lambda _: True, clamps=True)
    at = [elements.new_axis("o", length) for length in source.shape]
    try:
        places = places_of(node, source, at, elements)
    except UnfusableError:
        return False
    kept = frozenset[Axis]().union(*(place.axes for place in places or ()))
    return {axis for axis in at[-2:] if axis.length != 1} <= kept


def join_pairs(node: Node, fused: Fused, others: Mapping[Node, Fused], reach: Reach) -> bool:
    """Make ``node`` a result of a sweep's pairs, if it is one of the same tiles; the sweep is lowered anew."""
    sweep, source = fused.sweep, source_of_pairs(node)
    assert source is not None
    batch = tuple(axis.length for axis in sweep.batch)
    pair = (sweep.rows, sweep.columns)
    if sweep.rows.length <= FEW_ROWS or not all(in_order(each.at, sweep.batch) for each in sweep.outputs):
        return False
    if is_circular(node, fused, others):
        return False
    for axes in (pair, pair[::-1]):
        if source.shape == (*batch, *(axis.length for axis in axes)):
            found = _found(node, source, fused, axes, reach)
            if found is not None:
                fused.sweep, fused.elements = found.sweep, found.elements
                fused.inside, fused.inputs, fused.alone = found.inside, found.inputs, found.alone
                return True
    return False


def _found(node: Node, source: Node, fused: Fused, pair: tuple[Axis, ...], reach: Reach) -> Fused | None:
    """The sweep with one more result; None if there is none."""
    try:
        inside = fused.inside | (reach.inlined(source) - set(fused.inputs))
        for _ in range(MOST_TRIES):
            found, streaming = lowered_again(fused, inside)
            _add(node, source, found, pair, streaming)
            must_store = to_store(node, found) or to_pack(found.sweep, found.elements)
            if not must_store:
                finish(found)
                return found if _shares(found.sweep) else None
            if must_store & fused.inside:
                return None
            inside = inside - must_store
    except UnfusableError:
        pass
    return None


def _add(node: Node, source: Node, fused: Fused, pair: tuple[Axis, ...], streaming: ColumnStreaming) -> None:
    """One more result of the sweep.

    Raises:
        UnfusableError: If it is none.
    """
    sweep, elements = fused.sweep, fused.elements
    at = (*sweep.batch, *pair)
    value = streaming.pair_output(elements.element(source, [elements.index(axis) for axis in at]))
    places = places_of(node, source, at, elements)
    assert places is not None
    # Only what a place is itself keeps results apart: of heads that share a table, several add to one place.
    kept = {place.attribute for place in places if place.op == "axis"}
    axes = tuple(axis for axis in at if axis in kept)
    sweep.outputs.append(Output(node, axes, value, None, source, at, places))


def _shares(sweep: Sweep) -> bool:
    """Whether results of pairs are made of tile values that others need anyway."""
    others = met(sweep, [each.weight for each in sweep.accumulators if not each.of_pairs])
    of_pairs = met(sweep, _weights(sweep))
    return bool(of_pairs) and of_pairs <= others


def _weights(sweep: Sweep) -> list[Scalar]:
    return [each.weight for each in sweep.accumulators if each.of_pairs]


def pairs_alone(node: Node, reach: Reach) -> Fused:
    """A sweep that computes nothing but a result of pairs.

    Raises:
        UnfusableError: If there is none, or nothing is contracted in it more than once: then a product is quicker.
    """
    source = source_of_pairs(node)
    if source is None or len(source.shape) < 2 or estimate(source.shape[-2]) <= FEW_ROWS:
        raise UnfusableError(f"{node.name}: no result of pairs of rows and columns")
    if source.shape[-1] < FEWEST_COLUMNS:
        raise UnfusableError(f"only {source.shape[-1]} columns")
    inside = reach.inlined(source)
    for _ in range(MOST_TRIES):
        elements = Elements(lambda each: each not in inside, clamps=True, apart=True)  # noqa: B023
        *batch, rows, columns = (elements.new_axis("o", length) for length in source.shape)
        fused = Fused(Sweep(tuple(batch), rows, columns), elements, inside)
        try:
            _add(node, source, fused, (rows, columns), ColumnStreaming(elements, fused.sweep))
            must_store = to_store(node, fused) or to_pack(fused.sweep, elements)
        except UnfusableError as reason:
            must_store = culprit(reason, node, inside)
        if not must_store:
            if node.role != "placement" and len(_contractions(fused.sweep)) < 2:
                raise UnfusableError(f"{node.name}: a single product is quicker for itself")
            finish(fused)
            return fused
        inside = inside - must_store
    raise UnfusableError(f"{node.name}: too many parts to store first")


def _contractions(sweep: Sweep) -> list[Scalar]:
    tiles = below([each.weight for each in sweep.accumulators])
    return [each for each in tiles if each.op == "reduce" and sweep.pair <= each.axes]
