"""The memory plan of an evaluation: known before the first byte is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from .ir import Node, walk
from .leaves import Leaf
from .passes.fuse import Step
from .types import carrier


@dataclass(frozen=True)
class MemoryPlan:
    """What an evaluation holds at most.

    Attributes:
        peak_bytes: Most bytes of intermediates and results held at once; inputs are the caller's.
        at: The node at whose evaluation the peak is reached, or None for an empty graph.
        result_bytes: Bytes of the results.
    """

    peak_bytes: int
    at: Node | None
    result_bytes: int

    def __str__(self) -> str:
        at = "" if self.at is None else f", at {self.at.name} {self.at.type}"
        return f"peak {self.peak_bytes:,} bytes{at}; results {self.result_bytes:,} bytes"


def plan_memory(roots: Sequence[Node], *, all64: bool = False, steps: Sequence[Step] | None = None) -> MemoryPlan:
    """The plan of running ``steps`` (by default of interpreting), each value released after its last use.

    Views (a transpose, a slice) are counted as if they were copies: an upper bound. Scratch memory of
    kernels, some hundred kilobytes a thread, is not counted.
    """
    steps = walk(roots) if steps is None else steps
    release = last_uses(steps, roots)
    held = peak = 0
    at: Node | None = None
    for number, step in enumerate(steps):
        made = (step,) if isinstance(step, Node) else step.nodes
        held += sum(_held_bytes(node, all64) for node in made)
        if held > peak:
            peak, at = held, made[0]
        held -= sum(_held_bytes(done, all64) for done in release[number])
    return MemoryPlan(peak, at, sum(_held_bytes(root, all64) for root in set(roots)))


def last_uses(steps: Sequence[Step], roots: Sequence[Node]) -> list[list[Node]]:
    """For each step, the nodes whose values nobody needs afterwards."""
    last: dict[Node, int] = {}
    for number, step in enumerate(steps):
        made, used = ((step,), step.operands) if isinstance(step, Node) else (step.nodes, step.inputs)
        last.update(dict.fromkeys(made, number))
        last.update(dict.fromkeys(used, number))
    for root in roots:
        last.pop(root, None)
    release: list[list[Node]] = [[] for _ in steps]
    for node, number in last.items():
        release[number].append(node)
    return release


def _held_bytes(node: Node, all64: bool) -> int:
    return 0 if isinstance(node, Leaf) else node.type.size * carrier(node.type, all64=all64).itemsize
