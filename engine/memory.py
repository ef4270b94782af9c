"""The memory plan of an evaluation: known before the first byte is computed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from .blocks import blocks_of
from .ir import Node, walk
from .leaves import Data, Leaf
from .leftovers import LARGE
from .passes.fuse import Step, step_inputs, step_nodes
from .types import carrier


@dataclass(frozen=True)
class MemoryPlan:
    """What an evaluation holds at most.

    Attributes:
        peak_bytes: Most bytes of intermediates and results held at once; inputs in memory are the caller's.
        at: The node at whose evaluation the peak is reached, or None for an empty graph.
        result_bytes: Bytes of the results.
        beside: For steps that read block by block, the bytes of all else that is held meanwhile.
    """

    peak_bytes: int
    at: Node | None
    result_bytes: int
    beside: Mapping[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        at = "" if self.at is None else f", at {self.at.name} {self.at.type}"
        return f"peak {self.peak_bytes:,} bytes{at}; results {self.result_bytes:,} bytes"


def plan_memory(
    roots: Sequence[Node],
    *,
    all64: bool = False,
    steps: Sequence[Step] | None = None,
    streams: Mapping[int, int] = MappingProxyType({}),
    unread: Collection[Node] = (),
) -> MemoryPlan:
    """The plan of running ``steps`` (by default of interpreting), each value released after its last use.

    Views (a transpose, a slice) are counted as if they were copies: an upper bound. Scratch memory of
    kernels, some hundred kilobytes a thread, is not counted, nor what other libraries take to decode what they read.

    Args:
        roots: The results.
        all64: Whether every float is a float64.
        steps: What runs.
        streams: Bytes of what steps by these numbers read block by block, and of their states, at least.
        unread: Nodes that are never there as a whole.
    """
    steps = walk(roots) if steps is None else steps
    release = last_uses(steps, roots)
    held = peak = 0
    at: Node | None = None
    beside: dict[int, int] = {}
    for number, step in enumerate(steps):
        made = step_nodes(step)
        held += sum(_held_bytes(node, all64) for node in made if node not in unread)
        here = held + streams.get(number, 0)
        if number in streams:
            beside[number] = held
        if here > peak:
            peak, at = here, made[0]
        held -= sum(_held_bytes(done, all64) for done in release[number] if done not in unread)
    return MemoryPlan(peak, at, sum(_held_bytes(root, all64) for root in set(roots)), beside)


def last_uses(steps: Sequence[Step], roots: Sequence[Node]) -> list[list[Node]]:
    """For each step, the nodes whose values nobody needs afterwards."""
    last: dict[Node, int] = {}
    for number, step in enumerate(steps):
        last.update(dict.fromkeys((*step_nodes(step), *step_inputs(step)), number))
    for root in roots:
        last.pop(root, None)
    release: list[list[Node]] = [[] for _ in steps]
    for node, number in last.items():
        release[number].append(node)
    return release


def leavers(steps: Sequence[Step], release: Sequence[Sequence[Node]]) -> list[list[Node]]:
    """For each step, the nodes whose memory a later one can use, of those that it is the last to need."""
    wanted: set[int] = set()
    found: list[list[Node]] = []
    for step, done in zip(reversed(steps), reversed(release), strict=True):
        found.append([node for node in done if node.type.nbytes in wanted])
        wanted.update(node.type.nbytes for node in step_nodes(step) if node.type.nbytes >= LARGE)
    return found[::-1]


def _held_bytes(node: Node, all64: bool) -> int:
    if isinstance(node, Leaf) and not (isinstance(node, Data) and blocks_of(node.source) is not None):
        return 0
    return node.type.size * carrier(node.type, all64=all64).itemsize
