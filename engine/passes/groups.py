"""Groups of nodes that may run as one loop.

Nodes get a *stage*: what only a product, a sweep or NumPy can make opens the next one. Element-wise nodes of one
stage that run over the same rows are one group, whatever connects them: no path leads from one of them through
another stage and back. A node is computed as late as all its users allow, so that what one later loop needs
alone is never stored. Values of a group are rows, or one number a row; reductions along the last axis turn rows
into numbers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ..ir import Node, walk
from ..types import Shape, is_float
from .fuse import Plan, Step, step_inputs
from .generations import generations
from .lower_loop import Views, keeps_digits, squeezed
from .reach import with_components

# Lowering recurses on the nodes of a loop, and LLVM's time grows faster than their number.
_MOST_WEIGHT = 80
# Functions that the interpreter computes wide take some forty instructions.
_WIDE_WEIGHT = 4


@dataclass(frozen=True)
class Domain:
    """What a group runs over.

    Attributes:
        lead: Lengths of the axes of rows, without those of 1.
        inner: Length of a row; None where all values have the shape ``lead``, and nothing says which
            of its axes is the inner one.
    """

    lead: Shape
    inner: int | None

    def meet(self, other: "Domain") -> "Domain | None":
        """What both can run over together, or None."""
        first, second = sorted((self, other), key=lambda each: (each.inner is not None, len(each.lead)))
        if first == second:
            return first
        if first.inner is not None:
            return None
        if second.inner is None:
            return Domain(first.lead, second.lead[-1]) if second.lead[:-1] == first.lead else None
        return second if first.lead in (second.lead, (*second.lead, second.inner)) else None

    def shape(self) -> tuple[Shape, int]:
        """Lengths of the lead axes, and of the inner one."""
        if self.inner is not None:
            return self.lead, self.inner
        return (self.lead[:-1], self.lead[-1]) if self.lead else ((), 1)


@dataclass(eq=False)
class Group:
    """Nodes of one stage that run together."""

    stage: int
    domain: Domain
    members: dict[Node, None] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """How much code it is, in simple nodes."""
        return sum(_WIDE_WEIGHT if node.wide else 1 for node in self.members)


class Grouping:
    """Stages and groups of a plan's nodes."""

    def __init__(self, plan: Plan, roots: Sequence[Node], apart: Collection[Node], views: Views) -> None:
        self.roots, self.views, self.apart = set(roots), views, apart
        self.generations = generations(with_components(walk(roots)))
        self.nodes = [step for step in plan.steps if isinstance(step, Node)]
        self.stages: dict[Node, int] = {}
        self.groups: dict[Node, Group] = {}
        # Who reads a node: other nodes, or None for a root or a sweep.
        self.users: dict[Node, list[Node | None]] = {root: [None] for root in roots}
        for step in plan.steps:
            for operand in step_inputs(step):
                self.users.setdefault(operand, []).append(step if isinstance(step, Node) else None)
        for step in plan.steps:
            self._place(step)
        for node in reversed(self.nodes):
            self._delay(node)
        self._join_readers()

    def _place(self, step: Step) -> None:
        if not isinstance(step, Node):
            stage = 1 + max((self._ready(each) for each in step.inputs), default=0)
            self.stages.update(dict.fromkeys(step.nodes, stage))
        elif step.role == "rearrangement":
            self._place_view(step)
        elif step.operands and (domain := self._domain(step)) is not None:
            self._place_member(step, domain)
        else:
            opens = bool(step.operands)
            self.stages[step] = opens + max((self._ready(each) for each in step.operands), default=0)

    def _ready(self, node: Node) -> int:
        """The stage at whose end the node is stored."""
        return self.stages.get(node, 0)

    def _place_view(self, node: Node) -> None:
        (*_, operand) = node.operands
        group = self.groups.get(operand)
        if group is not None and node not in self.apart and self.views.keeps_rows(node):
            self.groups[node] = group
            self.stages[node] = group.stage
            return
        self.stages[node] = max(self._ready(each) + (each in self.groups) for each in node.operands)

    def _domain(self, node: Node) -> Domain | None:
        """What a node runs over if it may be part of a loop."""
        if node in self.apart or node.type.weak or 0 in node.shape or keeps_digits(node):
            return None
        if node.role == "pointwise":
            return Domain(squeezed(node.shape), None)
        if node.role == "reduction" and is_float(node.dtype) and len(node.operands) == 1:
            shape = node.operands[0].shape
            fits = node.shape in (shape, shape[:-1], (*shape[:-1], 1))
            if shape and shape[-1] > 1 and fits and 0 not in shape:
                return Domain(squeezed(shape[:-1]), shape[-1])
        return None

    def _place_member(self, node: Node, domain: Domain) -> None:
        stage = max(self._ready(each) for each in node.operands)
        found: list[Group] = []
        for operand in node.operands:
            group = self.groups.get(operand)
            if group is not None and group.stage == stage and group not in found:
                joint = domain.meet(group.domain) if self._aligned(node, operand) else None
                if joint is None and self.views.is_positions(operand):
                    continue
                if joint is None or sum(each.weight for each in (*found, group)) >= _MOST_WEIGHT:
                    found, domain, stage = [], self._domain(node) or domain, stage + 1
                    break
                found.append(group)
                domain = joint
        whole = found[0] if found else Group(stage, domain)
        for other in found[1:]:
            self._merge(whole, other)
        whole.domain = domain
        whole.members[node] = None
        self.groups[node] = whole
        self.stages[node] = stage

    def _merge(self, whole: Group, other: Group) -> None:
        whole.members |= other.members
        for node, group in self.groups.items():
            if group is other:
                self.groups[node] = whole

    def _aligned(self, node: Node, operand: Node) -> bool:
        """Whether row meets row: a number a row is not spread along the rows instead."""
        if node.role == "reduction" or squeezed(node.shape) == squeezed(operand.shape):
            return True
        return operand.shape == () or operand.shape[-1] == 1

    def _delay(self, node: Node) -> None:
        """Move a node to the one later loop that uses it."""
        group = self.groups.get(node)
        if group is None or node not in group.members or node.role == "reduction":
            return
        users = self._real_users(node)
        later = {id(self.groups[each]): self.groups[each] for each in users if each in self.groups}
        if None in users or len(later) != 1 or any(each not in self.groups for each in users):
            return
        (target,) = later.values()
        domain = target.domain.meet(Domain(squeezed(node.shape), None))
        if target is group or domain is None or target.weight >= _MOST_WEIGHT:
            return
        if not all(self._aligned(each, node) for each in users if each is not None):
            return
        del group.members[node]
        # In front: members stand in the order of the graph.
        target.members = {node: None, **target.members}
        target.domain = domain
        self.groups[node] = target
        self.stages[node] = target.stage
        for view in self._views_of(node):
            self.groups[view] = target
            self.stages[view] = target.stage

    def _join_readers(self) -> None:
        """Make loops of one stage one that read the same array row by row."""
        by_stage: dict[int, list[Group]] = {}
        for group in self.all_groups():
            others = by_stage.setdefault(group.stage, [])
            for other in others:
                domain = other.domain.meet(group.domain)
                few = other.weight + group.weight <= _MOST_WEIGHT
                if domain is not None and few and self._share(group, other):
                    self._merge(other, group)
                    other.domain = domain
                    break
            else:
                others.append(group)

    def _share(self, group: Group, other: Group) -> bool:
        """Whether two groups read an array that is there for both, and neither computes anew what the other does."""
        ages = [{self.generations.get(node, 0) for node in each.members} for each in (group, other)]
        return ages[0] == ages[1] and not self._reads(group).isdisjoint(self._reads(other))

    def _reads(self, group: Group) -> set[Node]:
        """Arrays from elsewhere in the shape of the loop's rows."""
        lead, inner = group.domain.shape()
        return {
            operand
            for node in group.members
            for operand in node.operands
            if self.groups.get(operand) is not group and squeezed(operand.shape) == (*lead, *squeezed((inner,)))
        }

    def _views_of(self, node: Node) -> list[Node]:
        """Rearrangements of it that its group computes."""
        found = []
        stack: list[Node | None] = list(self.users.get(node, ()))
        while stack:
            user = stack.pop()
            if user is not None and user.role == "rearrangement" and user in self.groups:
                found.append(user)
                stack += self.users.get(user, ())
        return found

    def _real_users(self, node: Node) -> list[Node | None]:
        """Who computes with a node, seen through the rearrangements of its group."""
        found: list[Node | None] = []
        stack: list[Node | None] = list(self.users.get(node, ()))
        while stack:
            user = stack.pop()
            if user is not None and user.role == "rearrangement" and user in self.groups:
                stack += self.users.get(user, ())
            else:
                found.append(user)
        return found

    def outputs(self, group: Group) -> list[Node]:
        """Members that somebody else needs."""
        return [
            node for node in group.members if any(self._needs(user, node, group) for user in self._real_users(node))
        ]

    def _needs(self, user: Node | None, node: Node, group: Group) -> bool:
        """Whether a user reads the node's array: other loops compute positions anew."""
        if user is None or user not in self.groups:
            return True
        return self.groups[user] is not group and not self.views.is_positions(node)

    def all_groups(self) -> list[Group]:
        """Every group once, in the order of the graph."""
        found = {id(group): group for group in self.groups.values()}
        return [group for group in found.values() if group.members]
