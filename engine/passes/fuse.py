"""Fusion: which parts of a graph become sweeps, and in what order everything runs.

A reduction is a candidate if what it reduces is computed rather than stored. Its element is lowered
with its surroundings inlined; what turns out to vary over rows or columns alone, and is more than a
load, is stored first and the candidate tried again. What cannot become a sweep runs node by node, and
the reason is kept for `explain`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ..ir import Node, UnfusableError, walk
from ..loop import Loop
from ..segment_loop import SegmentLoop
from ..sweep import Sweep
from ..types import DType, is_float
from .fused import Fused, as_sweep
from .generations import begun_from
from .join import joined
from .join_pairs import join_pairs, pairs_alone, source_of_pairs
from .reach import Reach, with_components
from .rows import FEW_ROWS
from .select import as_selection

# Each position of few rows counts for more: there is one for each column that is read.
_FEW_ROWS_COUNT = 128


Step = Node | Fused | Loop | SegmentLoop

_NONE: Mapping[Node, SegmentLoop] = MappingProxyType({})


def step_nodes(step: Step) -> tuple[Node, ...]:
    """What a step computes."""
    return (step,) if isinstance(step, Node) else step.nodes


def step_inputs(step: Step) -> tuple[Node, ...]:
    """What a step reads."""
    return step.operands if isinstance(step, Node) else step.inputs


@dataclass
class Plan:
    """Steps in order, and what was not fused: node and reason."""

    steps: list[Step] = field(default_factory=list)
    not_fused: list[tuple[Node, str]] = field(default_factory=list)

    @property
    def sweeps(self) -> list[Sweep]:
        """The sweeps among the steps."""
        return [step.sweep for step in self.steps if isinstance(step, Fused)]


def fuse(
    roots: Sequence[Node],
    rejected: Collection[Node] = (),
    least_work: int = 0,
    segments: Mapping[Node, SegmentLoop] = _NONE,
) -> Plan:
    """The plan for a graph that the passes before have finished with.

    Args:
        roots: The results.
        rejected: Nodes that have turned out not to be sweeps.
        least_work: Positions of tiles below which a sweep is not worth its start.
        segments: Loops over segments, by what they return.
    """
    stored: dict[Node, str] = {}
    while True:
        search = _Search(roots, {*rejected, *stored}, least_work, segments)
        search.run()
        if not search.lost:
            plan = search.plan
            plan.not_fused += stored.items()
            plan.steps = _ordered(roots, {**search.found, **segments})
            _mark_rounded(plan.steps, roots)
            return plan
        stored |= search.lost


class _Search:
    """One walk over a graph, users first: what a sweep inlines is not tried for itself.

    Results of pairs are tried when the sweeps are known that may compute them beside others. One that turns out to be
    no part of any is ``lost``: the graph is searched again with it as an array that others read.
    """

    def __init__(
        self,
        roots: Sequence[Node],
        rejected: Collection[Node],
        least_work: int,
        segments: Mapping[Node, SegmentLoop],
    ) -> None:
        self.plan = Plan()
        self.found: dict[Node, Fused] = {}
        self.lost: dict[Node, str] = {}
        self._order = with_components(walk(roots))
        self._segments = segments
        stored = {*_compared(self._order), *begun_from(self._order), *segments}
        self._rejected, self._least_work = {*rejected, *stored}, least_work
        self._needed: set[Node] = {*roots, *stored}
        self._reach = Reach(self._order, self._needed, self._may_be_of_pairs, segments)
        self._meets: dict[Node, Node] = {}
        for node in reversed(self._order):
            if node.role == "pointwise":
                met = self._meets.get(node, node)
                self._meets |= {operand: met for operand in node.operands if operand not in self._meets}
        self._seen: set[Node] = set()

    def _may_be_of_pairs(self, node: Node) -> bool:
        return node.role == "pointwise" and node not in self._rejected

    def run(self) -> None:
        """Find all sweeps."""
        while not self.lost:
            waiting = [node for node in reversed(self._order) if node in self._needed and self._look_at(node)]
            if not waiting:
                return
            for node in waiting:
                self._join_pairs(node)

    def _look_at(self, node: Node) -> bool:
        """Look for the sweep of a node that is needed; whether it has to wait for the sweeps of others."""
        if node in self._seen:
            return False
        self._seen.add(node)
        if node in self._segments:
            self._needed.update(self._segments[node].inputs)
            return False
        if self._waits(node):
            return True
        if node not in self._rejected and _is_candidate(node) and not self._reach.is_split(node):
            try:
                self._take(node, self._sweep_of(node))
            except UnfusableError as reason:
                self.plan.not_fused.append((node, str(reason)))
        self._needed.update(self.found[node].inputs if node in self.found else node.operands)
        return False

    def _sweep_of(self, node: Node) -> Fused:
        if node.role == "selection":
            return as_selection(node, self._reach)
        sums = {each: fused for each, fused in self.found.items() if not fused.sweep.selects}
        return joined(node, sums, self._meets, self._reach) or as_sweep(node, self._reach)

    def _waits(self, node: Node) -> bool:
        """Whether it is a result of pairs: of tiles that some sweep has inside, or that it would store for itself."""
        source = None if node in self._rejected else source_of_pairs(node)
        if source is None or not self._reach.is_tile(source) or any(length <= 1 for length in source.shape[-2:]):
            return False
        return source is not node or any(node in fused.inside for fused in self.found.values())

    def _join_pairs(self, node: Node) -> None:
        for fused in {id(each): each for each in self.found.values()}.values():
            if join_pairs(node, fused, self.found, self._reach):
                self._take(node, fused)
                self._needed.update(fused.inputs)
                return
        try:
            if node.role == "pointwise":
                raise UnfusableError(f"{node.name}: no sweep computes all of it")
            self._take(node, pairs_alone(node, self._reach))
            self._needed.update(self.found[node].inputs)
        except UnfusableError as reason:
            self.lost[node] = str(reason)

    def _take(self, node: Node, fused: Fused) -> None:
        _check_work(fused.sweep, self._least_work)
        self.found[node] = fused


def _compared(order: Sequence[Node]) -> set[Node]:
    """What is compared with its own largest, say: that is stored, so that both are made of the same numbers."""
    found: set[Node] = set()
    for node in order:
        for one, other in (node.operands, node.operands[::-1]) if node.is_exact else ():
            while other.role == "rearrangement":
                other = other.operands[0]
            if other.role == "reduction" and one in other.operands:
                found.add(one)
    return found


def _check_work(sweep: Sweep, least: int) -> None:
    work = sweep.positions
    if sweep.rows.length <= FEW_ROWS:
        least //= _FEW_ROWS_COUNT
    if work < least:
        raise UnfusableError(f"{work} positions are not worth a kernel")


def _is_candidate(node: Node) -> bool:
    if node.role == "selection":
        return 0 not in node.shape and node.operands[0].role != "leaf"
    if node.role not in ("contraction", "reduction") or not is_float(node.dtype) or 0 in node.shape:
        return False
    return node.operands[0].role != "leaf" and len(node.shape) >= 1


def _mark_rounded(steps: Sequence[Step], roots: Sequence[Node]) -> None:
    """Say of results what type all their users round them to: so much of them counts."""
    users: dict[Node, list[Step]] = {}
    for step in steps:
        for node in step_inputs(step):
            users.setdefault(node, []).append(step)

    def rounded(node: Node) -> DType | None:
        found: set[DType | None] = {None} if node in roots else set()
        for user in users.get(node, ()):
            if not isinstance(user, Node):
                found.add(None)
            elif user.rounds:
                found.add(user.dtype)
            else:
                found.add(rounded(user) if user.role == "rearrangement" else None)
        return next(iter(found)) if len(found) == 1 else None

    for step in steps:
        for output in step.sweep.outputs if isinstance(step, Fused) else ():
            output.rounded = rounded(output.node)


def _ordered(roots: Sequence[Node], found: Mapping[Node, Fused | SegmentLoop]) -> list[Step]:
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
