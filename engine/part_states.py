"""What parts of a sweep leave: states, which merge, and results."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .codegen.state import StateLayout
from .errors import ArgumentError
from .ir import Values
from .part_runs import Part
from .splits import Splits
from .states import Place, aligned_like, merged_nodes


@dataclass(frozen=True)
class States:
    """What some splits have left of a part. It pickles.

    Attributes:
        part: Rows and places.
        splits: The splits of the whole problem.
        layout: What is in a state: the same on processors of one kind.
        block_rows: Rows of a block.
        nodes: States as nodes of the splits' tree, by level and number: arrays of float32 over places, blocks of
            rows, and the numbers of a state.
        doubts: Bytes over places and blocks of rows: of which the results are in doubt.
        sizes: For inputs that have to be watched, by their numbers, the largest magnitude seen.
    """

    part: Part
    splits: Splits
    layout: StateLayout
    block_rows: int
    nodes: Mapping[Place, Values]
    doubts: Values
    sizes: Mapping[int, float]

    @property
    def is_complete(self) -> bool:
        """Whether they are of all columns."""
        level = (self.splits.count - 1).bit_length()
        return set(self.nodes) == {(level, 0)}

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(each.nbytes for each in self.nodes.values()) + self.doubts.nbytes


class Finished(NamedTuple):
    """Results of a part.

    Attributes:
        results: Float32 arrays of the part's shapes (`Parts.result_box`), in the order of the sweep's results.
        doubts: Bytes over places and blocks of rows: of which they cannot be trusted.
        block_rows: Rows of a block.
    """

    results: list[Values]
    doubts: Values
    block_rows: int

    @property
    def is_doubted(self) -> bool:
        """Whether any of them cannot be trusted."""
        return bool(self.doubts.any())


def merged_states(states: Sequence[States]) -> States:
    """States of the same part as one, as far as the tree of splits goes.

    Args:
        states: Those of different splits, in any order.

    Raises:
        ArgumentError: If they are of different parts, problems or kinds of processors, or of the same splits.
    """
    first = states[0]
    nodes: dict[Place, Values] = {}
    for each in states:
        if (each.part, each.splits, each.layout) != (first.part, first.splits, first.layout):
            raise ArgumentError("parts: states of different parts, problems or processors do not merge")
        nodes |= each.nodes
    _check_disjoint([place for each in states for place in each.nodes])
    doubts = np.bitwise_or.reduce([each.doubts for each in states])
    found = merged_nodes(first.layout, nodes, first.splits.count)
    return replace(first, nodes=found, doubts=doubts, sizes=largest_of(each.sizes for each in states))


def joined_states(part: Part, states: Sequence[States]) -> States:
    """States of the same splits, and of places that together are all of a part, as the states of the part."""
    first = states[0]
    lengths = tuple(stop - start for start, stop in part.batch)
    blocks = first.doubts.shape[-1]
    nodes = {place: aligned_like((*lengths, blocks, first.layout.floats)) for place in first.nodes}
    doubts = np.empty((*lengths, blocks), np.uint8)
    for each in states:
        pairs = zip(each.part.batch, part.batch, strict=True)
        here = tuple(slice(begin - start, stop - start) for (begin, stop), (start, _) in pairs)
        doubts[here] = each.doubts
        for place, whole in nodes.items():
            whole[here] = each.nodes[place]
    sizes = largest_of(each.sizes for each in states)
    return replace(first, part=part, nodes=nodes, doubts=doubts, sizes=sizes)


def largest_of(several: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """For inputs, by their numbers, the largest magnitude that any part has seen."""
    found: dict[int, float] = {}
    for sizes in several:
        found |= {number: max(size, found.get(number, 0.0)) for number, size in sizes.items()}
    return found


def _check_disjoint(places: Sequence[Place]) -> None:
    """Raise ArgumentError if a split is in two nodes."""
    ranges = sorted((number << level, (number + 1) << level) for level, number in places)
    for (_, stop), (first, _) in itertools.pairwise(ranges):
        if first < stop:
            raise ArgumentError("parts: states of the same splits do not merge")
