"""Fusion: which parts of a graph become sweeps, and in what order everything runs.

A reduction is a candidate if what it reduces is computed rather than stored. Its element is lowered
with its surroundings inlined; what turns out to vary over rows or columns alone, and is more than a
load, is stored first and the candidate tried again. What cannot become a sweep runs node by node, and
the reason is kept for `explain`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ..ir import Node, UnfusableError, walk
from ..loop import Loop
from ..sweep import Sweep
from ..types import is_float
from .fused import Fused, as_sweep
from .join import joined
from .reach import Reach, with_components
from .rows import FEW_ROWS

# Each position of few rows counts for more: there is one for each column that is read.
_FEW_ROWS_COUNT = 128


Step = Node | Fused | Loop


@dataclass
class Plan:
    """Steps in order, and what was not fused: node and reason."""

    steps: list[Step] = field(default_factory=list)
    not_fused: list[tuple[Node, str]] = field(default_factory=list)

    @property
    def sweeps(self) -> list[Sweep]:
        """The sweeps among the steps."""
        return [step.sweep for step in self.steps if isinstance(step, Fused)]


def fuse(roots: Sequence[Node], rejected: Collection[Node] = (), least_work: int = 0) -> Plan:
    """The plan for a graph that the passes before have finished with.

    Args:
        roots: The results.
        rejected: Nodes that have turned out not to be sweeps.
        least_work: Positions of tiles below which a sweep is not worth its start.
    """
    plan = Plan()
    found: dict[Node, Fused] = {}
    needed: set[Node] = set(roots)
    meets: dict[Node, Node] = {}
    order = with_components(walk(roots))
    reach = Reach(order, needed)
    for node in reversed(order):  # users first: what a sweep inlines is not tried for itself
        if node.role == "pointwise":
            meets |= {operand: meets.get(node, node) for operand in node.operands if operand not in meets}
        if node not in needed:
            continue
        if node not in rejected and _is_candidate(node) and not reach.is_split(node):
            try:
                fused = joined(node, found.values(), meets, reach) or as_sweep(node, reach)
                _check_work(fused.sweep, least_work)
                found[node] = fused
            except UnfusableError as reason:
                plan.not_fused.append((node, str(reason)))
        needed.update(found[node].inputs if node in found else node.operands)
    plan.steps = _ordered(roots, found)
    return plan


def _check_work(sweep: Sweep, least: int) -> None:
    work = sweep.positions
    if sweep.rows.length <= FEW_ROWS:
        least //= _FEW_ROWS_COUNT
    if work < least:
        raise UnfusableError(f"{work} positions are not worth a kernel")


def _is_candidate(node: Node) -> bool:
    if node.role not in ("contraction", "reduction") or not is_float(node.dtype) or 0 in node.shape:
        return False
    return node.operands[0].role != "leaf" and len(node.shape) >= 1


def _ordered(roots: Sequence[Node], found: dict[Node, Fused]) -> list[Step]:
    """Everything that is needed, inputs before users."""
    steps: list[Step] = []
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        fused = found.get(node)
        inputs = node.operands if fused is None else fused.inputs
        if not ready:
            stack.append((node, True))
            stack.extend((each, False) for each in reversed(inputs) if each not in done)
            continue
        steps.append(node if fused is None else fused)
        done.update((node,) if fused is None else fused.nodes)
    return steps
