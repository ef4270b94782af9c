"""Joining: results that stream what a sweep streams already become further outputs of it."""

from collections.abc import Mapping

from ..ir import Node, UnfusableError
from ..scalar import Scalar
from ..sweep import Accumulator, Output, Sweep
from .fused import MOST_TRIES, Fused, axes_of_result, finish, is_circular, leaves_of, lowered, summed_product, to_store
from .join_columns import join_columns
from .pack import to_pack
from .places import placed
from .reach import Reach


def joined(node: Node, others: Mapping[Node, Fused], meets: Mapping[Node, Node], reach: Reach) -> Fused | None:
    """A sweep that streams the same already, with ``node`` as one more output; None if there is none.

    Args:
        node: What is to join.
        others: The sweeps so far, by what they compute.
        meets: For what is an operand of element-wise functions, the last one that it goes into.
        reach: What it may compute inside.
    """
    own = reach.generations.get(node, 0)
    coeval = [each for each in others.values() if own == reach.generations.get(each.nodes[0], 0)]
    candidates = list({id(each): each for each in coeval}.values())
    growing: list[Fused] = []
    for fused in candidates:
        meet = node in meets and any(meets.get(each) is meets[node] for each in fused.nodes)
        if _join(node, fused, others, meet, reach, growing):
            return fused
    for fused in candidates:
        if join_columns(node, fused, others, reach):
            return fused
    return next((fused for fused in growing if _join(node, fused, others, False, reach)), None)


def _join(
    node: Node, fused: Fused, others: Mapping[Node, Fused], meet: bool, reach: Reach, growing: list[Fused] | None = None
) -> bool:
    """Add ``node`` to a sweep, if it meets its results or shares work, and nothing depends on itself then.

    A sweep that would have to contract more for it is added to ``growing`` instead, where that is given: another one
    may have all that is contracted already.
    """
    sweep, elements = fused.sweep, fused.elements
    source = summed_product(node) or node
    place = placed(source.shape, sweep, sweep.rows, elements)
    if place is None or is_circular(node, fused, others):
        return False
    at, small = place
    axes = axes_of_result(node, source, at, elements)
    if tuple(axis for axis in sweep.batch if axis not in axes and axis.length != 1) != sweep.streamed:
        return False
    before = list(sweep.groups), list(sweep.accumulators), set(fused.inside)
    outputs, leaves = list(sweep.outputs), _leaves_of_tiles(sweep)
    fused.inside |= reach.inlined(source) - set(fused.inputs)
    try:
        for _ in range(MOST_TRIES):
            element = elements.element(source, [elements.index(axis) for axis in at])
            (value,) = fused.streaming().rewrite([element])
            sweep.outputs.append(Output(node, axes, value, small, source, at))
            must_store = to_store(node, fused) or to_pack(sweep, elements)
            joins = not must_store and (meet or _shares(sweep, *before[:2], leaves))
            if joins and not meet and growing is not None and not _leaves_of_tiles(sweep) <= leaves:
                growing.append(fused)
                raise UnfusableError(f"{node.name}: the sweep would contract more for it")
            if joins:
                if fused.alone:  # a sweep of its own for the careful path, as the other results have
                    fused.alone.append(lowered(node, fused.inside).sweep)
                finish(fused)
                return True
            sweep.outputs.pop()
            if not must_store or must_store & before[2]:
                break
            sweep.accumulators = list(before[1])
            fused.inside -= must_store
            elements.forget_lowered()
    except UnfusableError:
        pass
    sweep.groups, sweep.accumulators, sweep.outputs = before[0], before[1], outputs
    fused.inside &= before[2]
    elements.forget_lowered()
    return False


def _shares(sweep: Sweep, groups: list[Scalar], sums: list[Accumulator], leaves: set[Scalar]) -> bool:
    """Whether one more output exponentiates what others do, or is made of the same contractions, or one of them."""
    new = [each for each in sweep.accumulators if each not in sums]
    if sweep.groups == groups and all(each.group in groups for each in new):
        return True
    contracted = {each for each in leaves_of(sweep, [each.weight for each in new]) if each.op == "reduce"}
    return _leaves_of_tiles(sweep) == leaves or not contracted.isdisjoint(leaves)


def _leaves_of_tiles(sweep: Sweep) -> set[Scalar]:
    """What tiles are made of."""
    return leaves_of(sweep, [*sweep.groups, *(each.weight for each in sweep.accumulators)])
