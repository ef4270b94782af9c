"""Results for columns: what another sweep would compute with rows and columns exchanged, from the same tiles.

The gradients by keys and values stream queries for blocks of keys; that by queries streams keys. Tiles are the same,
so one pass computes them once, sums for its rows, and adds to its columns' results block by block.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..scalar import Axis, Scalar, below
from ..sweep import Output, Sweep
from ..types import is_float
from .fused import MOST_TRIES, Fused, axes_of_result, finish, is_circular, lowered, summed_product, to_store
from .pack import to_pack
from .places import in_order, placed
from .reach import Reach
from .rows import FEW_ROWS
from .stream_columns import ColumnStreaming


def join_columns(node: Node, fused: Fused, others: Mapping[Node, Fused], reach: Reach) -> bool:
    """Make ``node`` a result for columns of a sweep, if it is one of the same tiles; the sweep is lowered anew."""
    sweep = fused.sweep
    source = summed_product(node) or node
    fits = placed(source.shape, sweep, sweep.columns, fused.elements) is not None
    if not fits or sweep.rows.length <= FEW_ROWS or any(not _is_plain(output, sweep) for output in sweep.outputs):
        return False
    if is_circular(node, fused, others):
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
    return in_order(output.at, sweep.batch)


def _found(node: Node, fused: Fused, reach: Reach) -> Fused | None:
    """The sweep with one more result.

    Raises:
        UnfusableError: If there is none.
    """
    inside = fused.inside | (reach.inlined(summed_product(node) or node) - set(fused.inputs))
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
    found, streaming = lowered_again(fused, inside)
    sweep, elements = found.sweep, found.elements
    source = summed_product(node) or node
    place = placed(source.shape, sweep, sweep.columns, elements)
    assert place is not None
    at, small = place
    value = streaming.column_output(elements.element(source, [elements.index(axis) for axis in at]))
    sweep.outputs.append(Output(node, axes_of_result(node, source, at, elements), value, small, source, at))
    return found


def lowered_again(fused: Fused, inside: set[Node]) -> tuple[Fused, ColumnStreaming]:
    """The same results with other nodes inside, and without a running maximum.

    Raises:
        UnfusableError: If there is no such sweep.
    """
    before = fused.sweep
    elements = Elements(lambda each: each not in inside, clamps=True, apart=True)
    sweep = Sweep(before.batch, before.rows, before.columns)
    streaming = ColumnStreaming(elements, sweep)
    for output in before.outputs:
        element = elements.element(output.source, [elements.index(axis) for axis in output.at])
        places = output.places
        if output.of_pairs is not None:
            value, places = (
                streaming.pair_output(element),
                places_of(output.node, output.source, output.at, elements) or (),
            )
        elif output.total is not None:
            value = streaming.column_output(element)
        else:
            (value,) = streaming.rewrite([element])
        sweep.outputs.append(dataclasses.replace(output, value=value, places=places))
    if sweep.groups:
        raise UnfusableError("a running maximum, beside results of columns")
    return Fused(sweep, elements, inside), streaming


def places_of(node: Node, source: Node, at: Sequence[Axis], elements: Elements) -> tuple[Scalar, ...] | None:
    """Where in a result its source's element at ``at`` is added, through all that lies between; None if it is not."""
    between = [node]
    while between[-1] is not source:
        between.append(between[-1].operands[0])
    places: Sequence[Scalar] | None = [elements.index(axis) for axis in at]
    for each in reversed(between[:-1]):
        places = None if places is None else each.adds_to(elements, places)
    return None if places is None else tuple(places)


def _shares(sweep: Sweep) -> bool:
    """Whether results of columns are made of tile values that those of rows need anyway: else two sweeps do as well."""
    of_rows = met(sweep, [each.weight for each in sweep.accumulators if not each.of_columns and not each.of_pairs])
    of_columns = met(sweep, [each.weight for each in sweep.totals_of_columns])
    return bool(of_columns) and of_columns <= of_rows


def met(sweep: Sweep, tiles: Sequence[Scalar]) -> set[Scalar]:
    """Floats in which rows and columns meet first."""
    tile = [each for each in below(tiles) if sweep.pair <= each.axes and is_float(each.dtype)]
    return {each for each in tile if not any(sweep.pair <= argument.axes for argument in each.args)}


def _can_be_settled(node: Node, fused: Fused, found: Fused) -> bool:
    """See that the careful path has a sweep for every result, which loads nothing else."""
    if not found.is_settled_alone:  # then the interpreter does
        return True
    found.alone = [*(fused.alone or [fused.sweep]), lowered(node, found.inside).sweep]
    return _loads(found.alone) <= _loads([found.sweep])


def _loads(sweeps: Sequence[Sweep]) -> set[Node]:
    expressions = [expression for sweep in sweeps for expression in sweep.expressions()]
    return {each.attribute for each in below(expressions) if each.op == "load"}
