"""Steps of a program on pieces of their arrays: sweeps, loops, and nodes that move elements.

Each says along which axes it may be cut, what it reads and writes for ranges of these axes, and runs on them with the
bits of the undivided step. What NumPy computes is no such step: in which order it adds, and which of its loops it
takes, follows from the shapes and strides that it is given.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .boxes import Box, holds, inside, shape_of
from .codegen.loop_layout import positions_used
from .codegen.state import Stage
from .config import Settings
from .finite import is_finite
from .ir import Node, UnfusableError, Values
from .kernel import Elements
from .part_boxes import range_of
from .part_runs import Block, Part, Range, wanted_loads
from .part_settling import Piece
from .parts import Parts
from .scalar import Axis, Scalar, below
from .summaries import evaluate

if TYPE_CHECKING:
    from .kernels import SweepKernel
    from .loops import LoopKernel

Ranges = Mapping[Axis, Range]
# Places at which an index is looked at.
_MOST_PLACES = 1 << 16


class StepParts(ABC):
    """A step that may be cut.

    Attributes:
        axes: Along which axes.
        accesses: What it loads: nodes, and the indices.
        written: What it computes: for each node the axis of each index, None where there is none.
    """

    axes: tuple[Axis, ...]
    accesses: Sequence[tuple[Node, Sequence[Scalar]]]
    written: Mapping[Node, Sequence[Axis | None]]

    @abstractmethod
    def reads(self, ranges: Ranges) -> dict[Node, Box]:
        """What it reads."""

    @abstractmethod
    def run(self, arrays: Mapping[Node, Block], ranges: Ranges, judge: "Judge") -> list[Values] | None:
        """Its results, in the order of ``written``; None if only an undivided run can decide."""

    def writes(self, ranges: Ranges) -> dict[Node, Box]:
        """What it computes."""
        return {
            node: tuple(
                slice(*ranges.get(axis, (0, length))) if axis is not None else slice(0, length)
                for axis, length in zip(axes, node.shape, strict=True)
            )
            for node, axes in self.written.items()
        }

    def work(self, ranges: Ranges) -> int:
        """At how many places along its axes it is computed."""
        return math.prod(stop - first for first, stop in self._all(ranges).values())

    def _all(self, ranges: Ranges) -> dict[Axis, Range]:
        return {axis: ranges.get(axis, (0, axis.length)) for axis in self.axes}

    def covering(self, wanted: Mapping[Node, Box]) -> dict[Axis, Range]:
        """The least ranges that compute these pieces of its results."""
        found: dict[Axis, Range] = {}
        for node, axes in self.written.items():
            for axis, each in zip(axes, wanted.get(node, ()), strict=False):
                if axis in self.axes:
                    assert axis is not None
                    first, stop = found.get(axis, (each.start, each.stop))
                    found[axis] = min(first, each.start), max(stop, each.stop)
        return found

    def within(self, there: Mapping[Node, Box]) -> dict[Axis, Range] | None:
        """The largest ranges that need no more of these arrays than these pieces; None if there are none."""
        ranges = self._all({})
        for node, indices in self.accesses:
            for index, each, length in zip(indices, there.get(node, ()), node.shape, strict=False):
                if (each.start, each.stop) == (0, length):
                    continue
                limits = _limits(index, each, self.axes)
                if limits is None:
                    return None
                for axis, (first, stop) in limits.items():
                    ranges[axis] = max(first, ranges[axis][0]), min(stop, ranges[axis][1])
        if any(first >= stop for first, stop in ranges.values()):
            return None
        needed = self.reads(ranges)
        fits = all(holds(box, needed[node]) for node, box in there.items() if node in needed)
        return ranges if fits else None


class Judge:
    """What steps in doubt are told.

    Args:
        settings: Threads, target and cache directory.
        check_finite: Whether NaN or infinity in what guards watch is an error.
        final: Nodes from which nothing else is computed.
    """

    def __init__(self, settings: Settings, check_finite: bool, final: Collection[Node]) -> None:
        self.settings, self.check_finite, self.final = settings, check_finite, final


class SweepStep(StepParts):
    """A sweep: cut along batch axes over which no result sums."""

    def __init__(self, kernel: "SweepKernel", settings: Settings) -> None:
        self.parts, self.sweep = Parts(kernel, settings), kernel.sweep
        stretches = self.parts.stretches
        apart = [True] * len(self.sweep.batch) if stretches is None else stretches.apart
        self.axes = tuple(axis for axis, cut in zip(self.sweep.batch, apart, strict=True) if cut and axis.length > 1)
        self.accesses = [(load.attribute, load.args) for load in wanted_loads(kernel, Stage.WHOLE)]
        self.written = {each.node: each.axes for each in self.sweep.outputs}

    def _part(self, ranges: Ranges) -> Part:
        whole = self.parts.whole
        batch = zip(self.sweep.batch, whole.batch, strict=True)
        return whole._replace(batch=tuple(ranges.get(axis, each) for axis, each in batch))

    def reads(self, ranges: Ranges) -> dict[Node, Box]:
        """What it reads."""
        boxes = zip(self.parts.inputs, self.parts.needed_whole(self._part(ranges)), strict=True)
        return {node: box for node, box in boxes if box is not None}

    def writes(self, ranges: Ranges) -> dict[Node, Box]:
        """What it computes."""
        part = self._part(ranges)
        return {node: self.parts.result_box(number, part) for number, node in enumerate(self.written)}

    def run(self, arrays: Mapping[Node, Block], ranges: Ranges, judge: Judge) -> list[Values] | None:
        """Its results; None if only an undivided run can decide."""
        part, fused = self._part(ranges), self.parts.kernel.fused
        held = {node: Block(block.values.astype(node.dtype, copy=False), block.first) for node, block in arrays.items()}
        boxes = self.parts.needed_whole(part)
        given = [
            None if box is None else held[node].at(box) for node, box in zip(self.parts.inputs, boxes, strict=True)
        ]
        guarded = [node for node in fused.guarded() if node in held] if judge.check_finite else []
        accused = [node for node in guarded if not is_finite(held[node].values)]
        found = self.parts.run_whole(given, part)
        if accused:
            found.doubts[...] = 1
        if found.is_doubted:
            pieces = {node: Piece(block, node.shape) if node.shape else block.values for node, block in held.items()}
            if not self.parts.settle(part, found, pieces, accused=accused, final=judge.final):
                return None
        return found.results


class LoopStep(StepParts):
    """A loop: cut along axes of its rows."""

    def __init__(self, kernel: "LoopKernel") -> None:
        self.kernel, loop = kernel, kernel.loop
        self.axes = tuple(axis for axis in loop.lead if axis not in positions_used(loop))
        self.accesses = [(load.attribute, load.args) for load in loop.accesses]
        self.written = {each.node: each.axes for each in loop.outputs}

    def reads(self, ranges: Ranges) -> dict[Node, Box]:
        """What it reads."""
        return self.kernel.reads(ranges)

    def run(self, arrays: Mapping[Node, Block], ranges: Ranges, judge: Judge) -> list[Values] | None:
        """Its results; None if a watch was set off."""
        return self.kernel.run_part(arrays, ranges, judge.settings)


class MoveStep(StepParts):
    """A node that moves elements.

    Raises:
        UnfusableError: If an element of it is more than one of another array.
    """

    def __init__(self, node: Node) -> None:
        elements = Elements(lambda each: each is not node)
        self.node, self.at = node, [elements.new_axis("o", length) for length in node.shape]
        load = elements.element(node, [elements.index(axis) for axis in self.at])
        if load.op != "load" or any(each.op in ("load", "inside") for each in below(load.args)):
            raise UnfusableError(f"{node.name}: more than an element of another array")
        self.source, self.indices = load.attribute, load.args
        mixed = [index for index in self.indices if index.axes and index.op != "axis"]
        if any(math.prod(axis.length for axis in index.axes) > _MOST_PLACES for index in mixed):
            raise UnfusableError(f"{node.name}: too many places")
        self.axes = tuple(axis for axis in self.at if axis.length > 1)
        self.accesses, self.written = [(self.source, self.indices)], {node: self.at}

    def reads(self, ranges: Ranges) -> dict[Node, Box]:
        """What it reads."""
        every = self._all(ranges)
        pairs = zip(self.indices, self.source.shape, strict=True)
        return {self.source: tuple(slice(*range_of(index, every, n, self.axes)) for index, n in pairs)}

    def run(self, arrays: Mapping[Node, Block], ranges: Ranges, judge: Judge) -> list[Values] | None:
        """Its result."""
        (box,) = self.writes(ranges).values()
        block, rest = arrays[self.source], self._rest()
        count = len(self.at) - rest
        grid = np.ogrid[box[:count]]
        places = dict(zip(self.at[:count], grid, strict=True))
        head = self.indices[: len(self.indices) - rest]
        index = [each - first for each, first in zip(evaluate(head, {}, places), block.first, strict=False)]
        picked: tuple[Any, ...] = (*index, *inside(box[count:], block.first[len(head) :]))
        found = block.values[picked]
        return [np.ascontiguousarray(np.broadcast_to(found, shape_of(box)))]

    def _rest(self) -> int:
        """How many of the last axes are those of the source, too: their elements are taken together."""
        count = 0
        for index, axis, length in zip(self.indices[::-1], self.at[::-1], self.source.shape[::-1], strict=False):
            if not (index.op == "axis" and index.attribute is axis) and not axis.length == length == 1:
                break
            count += 1
        rest = set(self.at[len(self.at) - count :])
        head = self.indices[: len(self.indices) - count]
        return 0 if any(rest & each.axes for each in head) else count


def _limits(index: Scalar, wanted: slice, axes: Sequence[Axis]) -> dict[Axis, Range] | None:
    """Where axes may be for an index to lie in a range: ranges, of which all combinations are right; None if none."""
    known = index.axes and index.axes <= set(axes) and not any(each.op in ("load", "inside") for each in below([index]))
    if not known or math.prod(axis.length for axis in index.axes) > _MOST_PLACES:
        return None
    own = sorted(index.axes, key=repr)
    grid = np.ix_(*(np.arange(axis.length) for axis in own))
    (values,) = evaluate([index], {}, dict(zip(own, grid, strict=True)))
    shows = (values >= wanted.start) & (values < wanted.stop)
    found: dict[Axis, Range] = {}
    for number, axis in enumerate(own):
        places = np.flatnonzero(shows.any(axis=tuple(n for n in range(len(own)) if n != number)))
        if not len(places):
            return None
        found[axis] = int(places[0]), int(places[-1]) + 1
    is_box = math.prod(stop - first for first, stop in found.values()) == np.count_nonzero(shows)
    return found if is_box else None
