"""Loops: which nodes outside sweeps run together, as one pass over rows, and for which of them that pays."""

import math
from collections.abc import Callable, Mapping, Sequence

from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..lengths import estimate
from ..loop import Loop, cost
from ..scalar import Scalar, below
from ..segment_loop import SegmentLoop
from ..types import Shape
from .fuse import Plan, Step, step_inputs, step_nodes
from .fused import Fused
from .groups import Group, Grouping
from .lower_loop import Views, lower_loop

# Elements of a loop below which NumPy's calls cost less than ours.
LEAST_ELEMENTS = 1 << 13
# What a node costs in additions for each element to be worth a loop alone.
_DEAR_ALONE = 4


def find_loops(
    plan: Plan,
    roots: Sequence[Node],
    rejected: Mapping[Node, str],
    least_elements: int,
    check: Callable[[Scalar], None],
) -> tuple[dict[Node, Loop], dict[Node, str]]:
    """The loops of a plan, by each node that they return; and what cannot be part of one, and why.

    Args:
        plan: Sweeps, and the nodes outside them.
        roots: The results.
        rejected: Nodes that have turned out not to be parts of loops.
        least_elements: Elements below which a loop is not worth its start.
        check: Raises UnfusableError for a scalar that no loop can compute.
    """
    views = Views()
    reasons = dict(rejected)
    # What one round has lowered, the next, without the misfits, need not lower again.
    lowered: dict[tuple[object, ...], Loop] = {}
    while True:
        grouping = Grouping(plan, roots, reasons, views)
        found: dict[Node, Loop] = {}
        misfits: dict[Node, str] = {}
        for group in grouping.all_groups():
            lead, inner = group.domain.shape()
            outputs = grouping.outputs(group)
            if not _may_pay(lead, inner, least_elements):
                continue
            members = frozenset(node for node, each in grouping.groups.items() if each is group)
            key = lead, inner, tuple(outputs), members
            try:
                if key not in lowered:
                    lowered[key] = _checked(lower_loop(lead, inner, outputs, members, views), check)
                loop = lowered[key]
            except UnfusableError as reason:
                misfits |= _culprits(group, check) or {_suspect(group): str(reason)}
                continue
            if _pays(loop):
                found.update(dict.fromkeys(outputs, loop))
        if not misfits:
            return found, reasons
        reasons |= misfits


def _may_pay(lead: Shape, inner: int, least_elements: int) -> bool:
    """Whether there is enough work."""
    return bool(math.prod(map(estimate, (*lead, inner))) >= least_elements)


def _checked(loop: Loop, check: Callable[[Scalar], None]) -> Loop:
    for scalar in loop.scalars:
        check(scalar)
    return loop


def _culprits(group: Group, check: Callable[[Scalar], None]) -> dict[Node, str]:
    """Nodes that no loop can compute, and why."""
    found = {}
    for node in group.members:
        elements = Elements(lambda each, node=node: each is not node)  # type: ignore[misc]
        try:
            at = [elements.index(elements.new_axis("o", length)) for length in node.shape]
            for scalar in below([elements.element(node, at)]):
                check(scalar)
        except UnfusableError as reason:
            found[node] = str(reason)
    return found


def _suspect(group: Group) -> Node:
    """A node without which the group may be a loop: reductions are what most often does not fit."""
    return next((node for node in reversed(group.members) if node.role == "reduction"), next(reversed(group.members)))


def _pays(loop: Loop) -> bool:
    """Whether it does more than one pass of NumPy does as well."""
    work = sum(map(cost, loop.scalars))
    computed = sum(1 for each in loop.scalars if each.op not in ("load", "constant", "axis"))
    return computed > 1 or work >= _DEAR_ALONE


def with_loops(plan: Plan, roots: Sequence[Node], loops: Mapping[Node, Loop]) -> list[Step]:
    """The steps of a plan, with loops in place of what they compute, inputs before users."""
    producers: dict[Node, Step] = dict(loops.items())
    for step in plan.steps:
        if isinstance(step, Fused | SegmentLoop):
            producers |= dict.fromkeys(step.nodes, step)
    steps: list[Step] = []
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        step = producers.get(node, node)
        if ready:
            steps.append(step)
            done.update(step_nodes(step))
            continue
        stack.append((node, True))
        stack.extend((each, False) for each in reversed(step_inputs(step)) if each not in done)
    return steps
