"""Loops over segments: which nodes they compute, several at once where they go over the same edges.

Users come first. What a result needs of its own row or edge is computed inside of its loop; what it needs of other rows
is stored by a loop or step before. What two loops would compute, the earlier one stores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..ir import Node, UnfusableError, walk
from ..scalar import Scalar
from ..segment_loop import SegmentLoop
from ..types import is_float
from .lower_loop import Views
from .lower_segments import Asked, Grouping, lower_segments, reads_elsewhere

# How often a node that turns out not to fit is stored instead, for one result.
_MOST_ATTEMPTS = 16


@dataclass(eq=False)
class _Group:
    """One loop that is being put together."""

    grouping: Grouping
    asked: list[Asked]
    loop: SegmentLoop
    apart: set[Node] = field(default_factory=set)


def find_segments(
    roots: Sequence[Node], rejected: Mapping[Node, str], least_elements: int, check: Callable[[Scalar], None]
) -> tuple[dict[Node, SegmentLoop], list[tuple[Node, str]]]:
    """The loops over segments of a graph, by each node that they return; and what is in none, and why.

    Args:
        roots: The results.
        rejected: Nodes that have turned out not to be parts of such loops.
        least_elements: Elements of values of edges below which a loop is not worth its start.
        check: Raises UnfusableError for a scalar that no loop can compute.
    """
    order = walk(roots)
    if not any(node.segments() for node in order):
        return {}, []
    search = _Search(order, roots, rejected, least_elements, check)
    search.run()
    search.share()
    search.settle()
    found = {asked.node: group.loop for group in search.groups for asked in group.asked}
    reasons = [each for each in search.reasons.items() if each[0] not in found]
    return found, reasons


class _Search:
    """One walk over a graph, users first."""

    def __init__(
        self,
        order: Sequence[Node],
        roots: Sequence[Node],
        rejected: Mapping[Node, str],
        least_elements: int,
        check: Callable[[Scalar], None],
    ) -> None:
        self.order, self.rejected, self.least_elements, self.check = order, rejected, least_elements, check
        self.groups: list[_Group] = []
        self.reasons: dict[Node, str] = dict(rejected)
        self.needed: set[Node] = {*roots, *(node for node in order if node.role == "leaf")}
        self.views = Views()
        # By which groupings it reduces, anywhere below, and where one comes to it without another in between.
        self.depends: dict[Node, frozenset[Grouping]] = {}
        self._bases: dict[Node, frozenset[Node]] = {}
        # What lies below each node, as bits.
        self._below: dict[Node, int] = {}
        self._bits = {node: 1 << place for place, node in enumerate(order)}
        for node in order:
            self._note(node)
        self.groupings = list(dict.fromkeys(each for node in order for each in self._own(node)))

    def _note(self, node: Node) -> None:
        below, depends = self._bits[node], set(self._own(node))
        bases: set[Node] = {node} if node.segments() else set()
        for operand in node.operands:
            below |= self._below[operand]
            if node.role in ("pointwise", "rearrangement", "reduction") or node.segments():
                depends |= self.depends[operand]
                bases |= set() if node.segments() else self._bases[operand]
        self._below[node], self.depends[node], self._bases[node] = below, frozenset(depends), frozenset(bases)

    def _own(self, node: Node) -> Iterator[Grouping]:
        grouped = node.segments()
        if grouped is not None and is_float(node.dtype) and node not in self.rejected:
            ids, count, _ = grouped
            if count and ids.shape[0]:
                yield Grouping(ids, count)

    # --- looking

    def run(self) -> None:
        """Find the loops, each by itself."""
        for node in reversed(self.order):
            if node not in self.needed or node.role == "leaf":
                continue
            group = self._taken(node)
            self.needed.update(node.operands if group is None else group.loop.inputs)

    def _taken(self, node: Node) -> _Group | None:
        if node in self.rejected or not is_float(node.dtype) or 0 in node.shape or node.type.weak:
            return None
        for grouping, asked in self._ways(node):
            group = self._joined(grouping, asked) or self._alone(grouping, asked)
            if group is not None:
                return group
        return None

    def _ways(self, node: Node) -> Iterator[tuple[Grouping, Asked]]:
        """What loops may make of it."""
        if node.segments() is None and node.role not in ("pointwise", "reduction"):
            return
        own = [each for each in self.groupings if each in self.depends[node]]
        if len(based := self._based(node)) == 1:
            (grouping,) = based
            if node.shape and node.shape[0] == grouping.segments and self._is_no_larger(node):
                yield grouping, Asked(node, "row")
            if node.role == "reduction" and node.operands[0].shape[:1] == (grouping.segments,):
                yield grouping, Asked(node, "total")
        if node.segments() is not None:
            return
        for grouping in (*own, *(each for each in self.groupings if each not in own)):
            if not self._below[node] & self._bits[grouping.ids]:
                continue
            edges = grouping.ids.shape[0]
            if node.shape and node.shape[0] == edges:
                yield grouping, Asked(node, "edge")
            elif node.role == "reduction" and node.operands[0].shape[:1] == (edges,):
                yield grouping, Asked(node, "total", True)

    def _based(self, node: Node) -> set[Grouping]:
        return {grouping for base in self._bases[node] for grouping in self._own(base)}

    def _is_no_larger(self, node: Node) -> bool:
        """Whether it is no larger than what is reduced for it, and worth storing instead."""
        return bool(node.type.size <= max(base.type.size for base in self._bases[node]))

    def _joined(self, grouping: Grouping, asked: Asked) -> _Group | None:
        for group in self.groups:
            if group.grouping != grouping or self._reads(group, asked.node) & self._bits[asked.node]:
                continue
            before = group.asked, group.loop
            loop = self._lowered(grouping, [*group.asked, asked], group.apart)
            if loop is None:
                continue
            group.asked, group.loop = [*group.asked, asked], loop
            if self._is_acyclic():
                return group
            group.asked, group.loop = before
        return None

    def _alone(self, grouping: Grouping, asked: Asked) -> _Group | None:
        apart: set[Node] = set()
        loop = self._lowered(grouping, [asked], apart)
        if loop is None or not _is_worth_it(loop, asked) or loop.elements_of_edges < self.least_elements:
            return None
        group = _Group(grouping, [asked], loop, apart)
        self.groups.append(group)
        if not self._is_acyclic():
            self.groups.pop()
            return None
        return group

    def _lowered(self, grouping: Grouping, asked: Sequence[Asked], apart: set[Node]) -> SegmentLoop | None:
        """The loop of these results; what does not fit into it is stored by others."""
        results = {each.node for each in asked}
        for _ in range(_MOST_ATTEMPTS):
            stored = {node for node in (*self.needed, *apart) if node not in results and not self.views.is_plain(node)}
            try:
                return lower_segments(grouping, asked, stored, self.depends, self.views, self.check)
            except UnfusableError as reason:
                self.reasons[asked[-1].node] = str(reason)
                if reason.node is None or reason.node in stored or reason.node in results:
                    return None
                apart.add(reason.node)
        return None

    def _is_acyclic(self) -> bool:
        """Whether loops can run one after the other: no result is needed for what its own loop reads."""
        makes = [self._mask(each.node for each in group.asked) for group in self.groups]
        reads = [self._reads(group) for group in self.groups]
        after = [[n for n, made in enumerate(makes) if read & made] for read in reads]
        state = [0] * len(self.groups)
        for start in range(len(self.groups)):
            stack = [(start, False)]
            while stack:
                number, is_done = stack.pop()
                if is_done:
                    state[number] = 2
                elif state[number] == 0:
                    state[number] = 1
                    stack.append((number, True))
                    for each in after[number]:
                        if state[each] == 1:
                            return False
                        stack.append((each, False))
        return True

    def _mask(self, nodes: Iterator[Node]) -> int:
        found = 0
        for node in nodes:
            found |= self._bits[node]
        return found

    def _reads(self, group: _Group, without: Node | None = None) -> int:
        found = 0
        for node in group.loop.inputs:
            if node is not without:
                found |= self._below[node]
        return found

    # --- afterwards

    def share(self) -> None:
        """Store what several loops would compute."""
        inside: dict[Node, int] = {}
        for group in self.groups:
            for node in group.loop.elements.reduced:  # type: ignore[attr-defined]
                inside[node] = inside.get(node, 0) + 1
        for node in reversed(self.order):
            if inside.get(node, 0) > 1 and node not in self.needed and self._taken(node) is not None:
                self.needed.add(node)

    def settle(self) -> None:
        """Lower each loop again, now that it is known what others store."""
        made = {asked.node for group in self.groups for asked in group.asked}
        for group in self.groups:
            kept = [each for each in group.asked if each.extent != "row" or self._has_own(each.node, made, group)]
            group.asked = kept
        self.groups = [group for group in self.groups if group.asked]
        for group in self.groups:
            before, group.loop = group.loop, self._lowered(group.grouping, group.asked, group.apart) or group.loop
            if not self._is_acyclic():
                group.loop = before

    def _has_own(self, node: Node, made: set[Node], group: _Group) -> bool:
        """Whether a result of rows is more than arithmetic on what is stored anyway."""
        seen, stack = set[Node](), [node]
        while stack:
            each = stack.pop()
            if each.segments() is not None:
                if group.grouping in self._own(each):
                    return True
                continue
            for operand in each.operands:
                if operand not in seen and operand not in made and group.grouping in self.depends[operand]:
                    seen.add(operand)
                    stack.append(operand)
        return False


def _is_worth_it(loop: SegmentLoop, asked: Asked) -> bool:
    """Whether a loop does what others would need large arrays for."""
    return bool(loop.reductions) if asked.extent == "row" else reads_elsewhere(loop)
