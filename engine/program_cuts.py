"""Where a program may be cut: which of its steps run piece by piece, and what each piece of them computes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .boxes import Box, holds, union, whole_box
from .ir import Node
from .part_runs import Range
from .passes.fuse import Step, step_inputs, step_nodes
from .passes.fused import Fused
from .scalar import Axis
from .step_parts import Ranges, StepParts, SweepStep


class Trace(NamedTuple):
    """A piece of a program.

    Attributes:
        ranges: Which steps it runs, in order, and for which ranges of their axes.
        reads: What it reads of what others bring.
        boxes: What it has of what its steps compute.
        late: Steps that would go on with what it computes, but cannot.
    """

    ranges: dict[int, Ranges]
    reads: dict[Node, Box]
    boxes: dict[Node, Box]
    late: set[int]


class Cut:
    """A program, cut along axes of one of its sweeps.

    Args:
        steps: The program's.
        parts: Those that may be cut, by their numbers.
        roots: The program's results.
        anchor: The number of the sweep.
        axes: Its axes.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        parts: Mapping[int, StepParts],
        roots: Sequence[Node],
        anchor: int,
        axes: Sequence[Axis],
    ) -> None:
        self.steps, self.parts, self.roots = steps, parts, frozenset(roots)
        self.anchor, self.axes = anchor, tuple(axes)
        self.maker = {node: number for number, step in enumerate(steps) for node in step_nodes(step)}
        # Steps that run whole: before the pieces, and after them.
        self.early: set[int] = set()
        self.late: set[int] = set()
        while self._put_aside():
            pass
        self.inside = tuple(self.trace(self._whole).ranges)
        self.exports = tuple(self._exports(self.trace(self._whole)))

    @property
    def _whole(self) -> dict[Axis, Range]:
        return {axis: (0, axis.length) for axis in self.axes}

    @property
    def flops(self) -> int:
        """Operations of the sweeps that run piece by piece."""
        return sum(_flops(self.steps[number]) for number in self.inside)

    @property
    def worth(self) -> tuple[int, int]:
        """What makes one cut better than another: what runs piece by piece, and how many pieces there may be."""
        return self.flops, math.prod(axis.length for axis in self.axes)

    # --- one piece

    def trace(self, ranges: Ranges) -> Trace:
        """What the piece for these ranges of the axes is."""
        reads: dict[Node, Box] = {}
        chosen = self._back(ranges, reads)
        boxes: dict[Node, Box] = {}
        for number in sorted(chosen):
            boxes |= self.parts[number].writes(chosen[number])
        late = self._forth(chosen, reads, boxes)
        reads = {node: box for node, box in reads.items() if node not in boxes}
        return Trace(dict(sorted(chosen.items())), reads, boxes, late)

    def _back(self, ranges: Ranges, reads: dict[Node, Box]) -> dict[int, Ranges]:
        """The steps that the anchor's piece is computed by."""
        chosen: dict[int, Ranges] = {self.anchor: ranges}
        _add(reads, self.parts[self.anchor].reads(ranges))
        for number in range(self.anchor - 1, -1, -1):
            wanted = {node: reads[node] for node in step_nodes(self.steps[number]) if node in reads}
            if wanted and number in self.parts and number not in self.early:
                chosen[number] = self.parts[number].covering(wanted)
                _add(reads, self.parts[number].reads(chosen[number]))
        return chosen

    def _forth(self, chosen: dict[int, Ranges], reads: dict[Node, Box], boxes: dict[Node, Box]) -> set[int]:
        """Further steps that go on with what the piece has; returned are those that cannot."""
        late: set[int] = set()
        ahead: set[Node] = set()
        for number, step in enumerate(self.steps):
            inputs = step_inputs(step)
            if number in chosen or not any(node in boxes or node in ahead for node in inputs):
                continue
            ranges = None
            if number in self.parts and number not in self.late and not ahead.intersection(inputs):
                ranges = self.parts[number].within(boxes)
            if ranges is None:
                late.add(number)
                ahead.update(step_nodes(step))
                continue
            chosen[number] = ranges
            _add(reads, self.parts[number].reads(ranges))
            boxes |= self.parts[number].writes(ranges)
        return late

    # --- what runs whole

    def _put_aside(self) -> bool:
        """Put aside a step of which pieces would compute something twice, or not all; whether there was one."""
        for axis in self.axes:
            traces = [self.trace({**self._whole, axis: (n, n + 1)}) for n in range(axis.length)]
            behind = set[int]().union(*(each.late for each in traces))
            if not behind <= self.late:
                self.late |= behind
                return True
            for number in traces[0].ranges:
                part = self.parts[number]
                done = sum(part.work(each.ranges.get(number, {})) for each in traces)
                if number != self.anchor and done != part.work({}):
                    return self._aside(number)
            for node in self._exports(traces[0]):
                if not _cover([each.boxes[node] for each in traces], node.shape):
                    return self._aside(self.maker[node])
        return False

    def _aside(self, number: int) -> bool:
        if number > self.anchor or number not in self._back(self._whole, {}):
            self.late.add(number)
            return True
        stack = [number]
        while stack:
            each = stack.pop()
            if each not in self.early:
                self.early.add(each)
                stack += [self.maker[node] for node in step_inputs(self.steps[each])]
        return True

    def _exports(self, trace: Trace) -> list[Node]:
        """What a piece computes that is a result, or that steps outside of pieces read."""
        outside = {
            node for number, step in enumerate(self.steps) if number not in trace.ranges for node in step_inputs(step)
        }
        return [node for node in trace.boxes if node in self.roots or node in outside]


def best_cut(steps: Sequence[Step], parts: Mapping[int, StepParts], roots: Sequence[Node]) -> Cut | None:
    """The cut by which most is computed piece by piece, along as many axes as may be; None if there is none."""
    sweeps = [number for number, part in parts.items() if isinstance(part, SweepStep)]
    total = sum(_flops(steps[number]) for number in sweeps)
    candidates = [
        (number, axes)
        for number in sweeps
        for count in range(len(parts[number].axes), 0, -1)
        for axes in itertools.combinations(parts[number].axes, count)
    ]
    candidates.sort(key=lambda each: (len(each[1]), _flops(steps[each[0]])), reverse=True)
    best: Cut | None = None
    for number, axes in candidates:
        found = Cut(steps, parts, roots, number, axes)
        if found.exports and (best is None or found.worth > best.worth):
            best = found
        if best is not None and best.flops == total:  # fewer axes are no better
            break
    return best


def _flops(step: Step) -> int:
    return int(step.sweep.flops) if isinstance(step, Fused) else 0


def _add(reads: dict[Node, Box], more: Mapping[Node, Box]) -> None:
    for node, box in more.items():
        reads[node] = union(reads[node], box) if node in reads else box


def _cover(boxes: Sequence[Box], shape: Sequence[int]) -> bool:
    """Whether pieces are the whole array together."""
    if any(holds(box, whole_box(shape)) for box in boxes):
        return True
    varies = [any((box[n].start, box[n].stop) != (0, length) for box in boxes) for n, length in enumerate(shape)]
    covered = np.zeros([length if cut else 1 for length, cut in zip(shape, varies, strict=True)], np.bool_)
    for box in boxes:
        covered[tuple(each if cut else slice(None) for each, cut in zip(box, varies, strict=True))] = True
    return bool(covered.all())
