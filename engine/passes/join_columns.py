"""Results for columns: what another sweep would compute with rows and columns exchanged, from the same tiles.

The gradients by keys and values stream queries for blocks of keys; that by queries streams keys. Tiles are the same,
so one pass computes them once, sums for its rows, and adds to its columns' results block by block.
"""

from collections.abc import Sequence

from ..ir import Node, UnfusableError, walk
from ..kernel import Elements
from ..scalar import Scalar, below
from ..sweep import Output, Sweep
from ..types import is_float
from .fused import MOST_TRIES, Fused, finish, lowered, to_store
from .pack import to_pack
from .places import in_order, placed
from .reach import Reach
from .rows import FEW_ROWS
from .stream_columns import ColumnStreaming


def join_columns(node: Node, fused: Fused, reach: Reach) -> bool:
    """Make ``node`` a result for columns of a sweep, if it is one of the same tiles; the sweep is lowered anew."""
    sweep = fused.sweep
    fits = placed(node.shape, sweep, sweep.columns, fused.elements) is not None
    if not fits or sweep.rows.length <= FEW_ROWS or any(not _is_plain(output, sweep) for output in sweep.outputs):
        return False
    if node in walk(fused.inputs) or set(fused.nodes) & set(walk(node.operands)):
        return False
    try:
        found = _found(node, fused, reach)
    except UnfusableError:
        return False
    if found is not None:
        fused.sweep, fused.elements, fused.inside, fused.alone = found.sweep, found.elements, found.inside, found.alone
        finish(fused)
    return found is not None


def _is_plain(output: Output, sweep: Sweep) -> bool:
    return in_order(output.axes, sweep.batch)


def _found(node: Node, fused: Fused, reach: Reach) -> Fused | None:
    """The sweep with one more result.

    Raises:
        UnfusableError: If there is none.
    """
    inside = fused.inside | (reach.inlined(node) - set(fused.inputs))
    for _ in range(MOST_TRIES):
        found = _relowered(node, fused, inside)
        must_store = to_store(node, found) or to_pack(found.sweep, found.elements)
        if must_store & fused.inside:
            return None
        if not must_store:
            return found if _shares(found.sweep) and _can_be_settled(node, fused, found) else None
        inside = inside - must_store
    return None


def _relowered(node: Node, fused: Fused, inside: set[Node]) -> Fused:
    before = fused.sweep
    elements = Elements(lambda each: each not in inside, clamps=True, apart=True)
    sweep = Sweep(before.batch, before.rows, before.columns)
    streaming = ColumnStreaming(elements, sweep)
    for output in before.outputs:
        element = elements.element(output.node, [elements.index(axis) for axis in output.axes])
        if output.total is None:
            (value,) = streaming.rewrite([element])
        else:
            value = streaming.column_output(element)
        sweep.outputs.append(Output(output.node, output.axes, value, output.small))
    place = placed(node.shape, before, before.columns, elements)
    assert place is not None
    axes, small = place
    value = streaming.column_output(elements.element(node, [elements.index(axis) for axis in axes]))
    sweep.outputs.append(Output(node, axes, value, small))
    if sweep.groups:
        raise UnfusableError("a running maximum, beside results of columns")
    return Fused(sweep, elements, inside)


def _shares(sweep: Sweep) -> bool:
    """Whether results of columns are made of tile values that those of rows need anyway: else two sweeps do as well."""
    of_rows = _met(sweep, [each.weight for each in sweep.accumulators if not each.of_columns])
    of_columns = _met(sweep, [each.weight for each in sweep.totals_of_columns])
    return bool(of_columns) and of_columns <= of_rows


def _met(sweep: Sweep, tiles: Sequence[Scalar]) -> set[Scalar]:
    """Floats in which rows and columns meet first."""
    tile = [each for each in below(tiles) if sweep.pair <= each.axes and is_float(each.dtype)]
    return {each for each in tile if not any(sweep.pair <= argument.axes for argument in each.args)}


def _can_be_settled(node: Node, fused: Fused, found: Fused) -> bool:
    """See that the careful path has a sweep for every result, which loads nothing else."""
    found.alone = [*(fused.alone or [fused.sweep]), lowered(node, found.inside).sweep]
    return _loads(found.alone) <= _loads([found.sweep])


def _loads(sweeps: Sequence[Sweep]) -> set[Node]:
    expressions = [expression for sweep in sweeps for expression in sweep.expressions()]
    return {each.attribute for each in below(expressions) if each.op == "load"}
