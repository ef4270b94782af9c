"""What a plan keeps from step to step, and what several steps compute again instead: read off the plan itself."""

from collections.abc import Sequence
from typing import NamedTuple

from .ir import Node, walk
from .loop import Loop
from .order import postorder
from .passes.fuse import Step, step_inputs, step_nodes
from .passes.fused import Fused
from .passes.generations import begun_from
from .segment_loop import SegmentLoop


class Kept(NamedTuple):
    """A value that one step stores and later ones read.

    Attributes:
        node: The value.
        nbytes: What it takes.
        made: The number of the step that makes it.
        read: The numbers of the steps that read it.
        flops: Operations of its step for each of its elements: what computing it where it is read would take.
        why: Why it is kept.
    """

    node: Node
    nbytes: int
    made: int
    read: tuple[int, ...]
    flops: float
    why: str

    def __str__(self) -> str:
        read = ", ".join(map(str, self.read))
        name = f"{self.node.name} {self.node.type}"
        return f"kept: {name}, {self.nbytes:,} bytes, from step {self.made} for {read}: {self.why}"


class Recomputed(NamedTuple):
    """A value that several steps compute, each for itself, and none stores.

    Attributes:
        node: The value.
        nbytes: What storing it would take.
        steps: The numbers of the steps.
        flops: Operations for each of its elements, in each of them.
    """

    node: Node
    nbytes: int
    steps: tuple[int, ...]
    flops: int

    def __str__(self) -> str:
        steps = ", ".join(map(str, self.steps))
        return (
            f"computed again: {self.node.name} {self.node.type}, in steps {steps}: {self.flops} operations an element "
            f"instead of {self.nbytes:,} bytes"
        )


def kept_values(steps: Sequence[Step], roots: Sequence[Node]) -> list[Kept]:
    """What is stored by one step and read by later ones, the largest first. Leaves are the caller's."""
    begins = set(begun_from(walk(roots)))
    readers: dict[Node, list[int]] = {}
    for number, step in enumerate(steps):
        for node in dict.fromkeys(step_inputs(step)):
            readers.setdefault(node, []).append(number)
    found = []
    for number, step in enumerate(steps):
        for node in step_nodes(step):
            if node in readers and node.role not in ("leaf", "rearrangement"):
                flops = _flops(step) / max(node.type.size, 1)
                why = _reason(step, flops, node in roots, node in begins)
                found.append(Kept(node, node.type.nbytes, number, tuple(readers[node]), flops, why))
    return sorted(found, key=lambda each: -each.nbytes)


def recomputed_values(steps: Sequence[Step]) -> list[Recomputed]:
    """What several kernels have inside, the largest first: of what is made of each other, the last.

    What takes one operation is left out.
    """
    places: dict[Node, list[int]] = {}
    for number, step in enumerate(steps):
        if not isinstance(step, Node):
            for node in _inside(step):
                places.setdefault(node, []).append(number)
    shared = {node: tuple(numbers) for node, numbers in places.items() if len(numbers) > 1}
    inner = {below for node, numbers in shared.items() for below in node.operands if shared.get(below) == numbers}
    found = [
        Recomputed(node, node.type.nbytes, numbers, _operations(node, shared))
        for node, numbers in shared.items()
        if node not in inner
    ]
    return sorted((each for each in found if each.flops > 1), key=lambda each: -each.nbytes)


def _flops(step: Step) -> int:
    if isinstance(step, Node):
        return step.type.size * _of_node(step)
    return step.sweep.flops if isinstance(step, Fused) else step.flops


def _of_node(node: Node) -> int:
    """Operations for each element of one node."""
    if node.role == "contraction":
        return 2 * int(node.operands[0].shape[-1])
    if node.role == "reduction":
        return max(1, node.operands[0].type.size // max(node.type.size, 1))
    return int(node.role == "pointwise")


def _operations(node: Node, shared: dict[Node, tuple[int, ...]]) -> int:
    """Operations for each element of a value, with all that the same steps compute for it."""
    steps = {*shared[node]}
    order = postorder([node], lambda each: [below for below in each.operands if steps <= {*shared.get(below, ())}])
    return round(sum(_of_node(each) * each.type.size for each in order) / max(node.type.size, 1))


def _inside(step: Fused | Loop | SegmentLoop) -> list[Node]:
    """What a kernel computes on the way from its inputs to its results."""
    stored = {*step.inputs, *step.nodes}
    roots = [part for node in step.nodes for part in (*node.operands, *node.components())]
    order = postorder(
        [each for each in roots if each not in stored],
        lambda node: [each for each in (*node.operands, *node.components()) if each not in stored],
    )
    return [node for node in order if node.role not in ("leaf", "rearrangement")]


def _reason(step: Step, flops: float, is_result: bool, begins: bool) -> str:
    if begins:
        return "what a checkpoint computes again begins from it"
    if is_result:
        return "it is a result"
    if isinstance(step, Fused):
        return f"a sweep makes it, of {flops:,.0f} operations an element"
    if isinstance(step, SegmentLoop):
        return f"a loop over segments makes it, of {flops:,.0f} operations an element"
    if isinstance(step, Loop):
        return f"{flops:,.0f} operations an element, which its readers would repeat"
    return "a step of NumPy makes it"
