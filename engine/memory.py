"""The memory plan of an evaluation: known before the first byte is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from .interpreter import last_uses
from .ir import Node, walk
from .leaves import Leaf
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


def plan_memory(roots: Sequence[Node], *, all64: bool = False) -> MemoryPlan:
    """The plan of interpreting ``roots``, each value released after its last use.

    Views (a transpose, a slice) are counted as if they were copies: an upper bound.
    """
    order = walk(roots)
    release = last_uses(order, roots)
    held = peak = 0
    at: Node | None = None
    for step, node in enumerate(order):
        held += _held_bytes(node, all64)
        if held > peak:
            peak, at = held, node
        held -= sum(_held_bytes(done, all64) for done in release[step])
    return MemoryPlan(peak, at, sum(_held_bytes(root, all64) for root in set(roots)))


def _held_bytes(node: Node, all64: bool) -> int:
    return 0 if isinstance(node, Leaf) else node.type.size * carrier(node.type, all64=all64).itemsize
