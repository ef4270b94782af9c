"""Programs in parts: all steps of a forward and a backward pass, for a slice of batch and heads, in one task.

A program is cut along the batch axes of its largest sweep, its *anchor*. Steps before it compute what it reads of them;
steps after it go on with what there is. What follows is computed once, whole: *before* the pieces what all of them
need alike, *after* them what sums over them, such as gradients of what heads or batches share::

    parts = ProgramParts(program, settings)              # None of its ``lengths`` is cut where there are none
    pieces = parts.pieces(8)                             # ``places`` of each: they travel, programs are planned anew
    sources = parts.before(bindings)                     # by node: whole arrays; leaves may be read piece by piece
    found = parts.run(piece.places, [sources[node][box] ... of zip(parts.sources, piece.reads)])
    exported[node][box] = ...                            # of zip(parts.exports, piece.results)
    results = parts.after(bindings, exported)            # in the order of the program's roots

Roots among ``exports`` are ready piece by piece. The bits are those of `Program.run`. Where that would compute doubted
rows again, so do pieces; what they cannot decide is None, and the whole program has to run undivided.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .boxes import Box, shape_of
from .config import Settings
from .errors import ArgumentError, CompileError
from .execution import Execution, RejectedError, Steps
from .interpreter import Bindings, finish
from .ir import Node, UnfusableError, Values
from .leaves import Leaf
from .loop import Loop
from .part_cuts import ranges_of_axes
from .part_runs import Block, Range, check_ranges
from .passes.fuse import step_inputs, step_nodes
from .passes.fused import Fused
from .program_cuts import Cut, Trace, best_cut
from .step_parts import Judge, LoopStep, MoveStep, StepParts, SweepStep
from .threads import limited
from .types import carrier

if TYPE_CHECKING:
    from .program import Program


class ProgramPiece(NamedTuple):
    """A slice of a program.

    Attributes:
        places: A range of each of `ProgramParts.lengths`.
        reads: What it reads of each source; None for nothing.
        results: Where its results lie in each export.
    """

    places: tuple[Range, ...]
    reads: list[Box | None]
    results: list[Box]


class ProgramParts:
    """A program to be run in parts.

    Args:
        program: The program, on lengths that are known.
        settings: Threads, target and cache directory.
        check_finite: Whether NaN or infinity in what guards watch is an error.

    Attributes:
        lengths: Lengths of the axes along which it may be cut; none if not at all.
        sources: What pieces read: leaves, and what steps before them compute.
        exports: What pieces compute and others need: results, or what steps after them read.
    """

    def __init__(self, program: "Program", settings: Settings, *, check_finite: bool = False) -> None:
        self.program, self.settings, self.check_finite = program, settings, check_finite
        self.lengths: tuple[int, ...] = ()
        self.sources: tuple[Node, ...] = ()
        self.exports: tuple[Node, ...] = ()
        self._steps = dict(self._that_may_be_cut())
        found = best_cut(program.plan.steps, self._steps, program.roots)
        self._cut: Cut | None = found
        if found is not None:
            self.lengths = tuple(axis.length for axis in found.axes)
            trace = self._trace(tuple((0, length) for length in self.lengths))
            self.sources, self.exports = tuple(trace.reads), found.exports

    def _that_may_be_cut(self) -> Iterator[tuple[int, StepParts]]:
        for number, step in enumerate(self.program.plan.steps):
            if isinstance(step, Fused):
                if step.sweep.selects:  # of all columns, by a kernel that runs as a whole
                    continue
                yield number, SweepStep(self.program.kernels[number], self.settings)
            elif isinstance(step, Loop):
                yield number, LoopStep(self.program.loops[number])
            elif isinstance(step, Node) and step.role == "rearrangement":
                try:
                    yield number, MoveStep(step)
                except UnfusableError:
                    continue

    def _trace(self, places: Sequence[Range]) -> Trace:
        found = self._cut
        check_ranges(places, self.lengths, "program")
        if found is None:
            raise ArgumentError("parts: the program cannot be cut")
        return found.trace(dict(zip(found.axes, places, strict=True)))

    def piece(self, places: Sequence[Range]) -> ProgramPiece:
        """What a slice reads and computes.

        Raises:
            ArgumentError: If there is no such slice.
        """
        trace = self._trace(places)
        reads = [trace.reads.get(node) for node in self.sources]
        return ProgramPiece(tuple(places), reads, [trace.boxes[node] for node in self.exports])

    def pieces(self, count: int) -> list[ProgramPiece]:
        """Slices that are the whole program together: so many, or a few more or less, as lengths allow."""
        cuts, _ = ranges_of_axes(self.lengths, max(1, count))
        return [self.piece(places) for places in itertools.product(*cuts)] if cuts else []

    def run(self, places: Sequence[Range], arrays: Sequence[Values | None]) -> list[Values] | None:
        """The results of a slice, in the order of ``exports``; None if only an undivided run can decide.

        Args:
            places: A range of each of ``lengths``.
            arrays: Of each source what `piece` says.

        Raises:
            ArgumentError: If the slice or the arrays do not fit the program.
        """
        trace, judge = self._trace(places), Judge(self.settings, self.check_finite, self.program.roots)
        held = self._held(trace, arrays)
        with np.errstate(all="ignore"):
            for number, ranges in trace.ranges.items():
                step = self._steps[number]
                try:
                    results = step.run(held, ranges, judge)
                except (UnfusableError, CompileError):  # then the program is to be planned anew, without this step
                    return None
                if results is None:
                    return None
                boxes = step.writes(ranges)
                held |= {node: Block.placed(each, boxes[node]) for node, each in zip(boxes, results, strict=True)}
        return [
            finish(held[node].at(trace.boxes[node]), node.type, False)
            if node in self.program.roots
            else held[node].at(trace.boxes[node])
            for node in self.exports
        ]

    def _held(self, trace: Trace, arrays: Sequence[Values | None]) -> dict[Node, Block]:
        held = {}
        for node, array in zip(self.sources, arrays, strict=True):
            box = trace.reads.get(node)
            if box is None:
                continue
            if array is None or array.shape != shape_of(box):
                given = "nothing" if array is None else list(array.shape)
                raise ArgumentError(f"parts: {node.name} is given as {given} where {list(shape_of(box))} is needed")
            held[node] = Block.placed(np.asarray(array).astype(carrier(node.type), copy=False), box)
        return held

    # --- what is computed once

    def before(self, bindings: Bindings, *, leaves: bool = True) -> Mapping[Node, Values] | None:
        """The sources, whole; None if only the interpreter can decide.

        Args:
            bindings: Arrays of placeholders.
            leaves: Whether leaves are among them; else only what is computed.
        """
        return self._once(bindings, [node for node in self.sources if leaves or not isinstance(node, Leaf)], {})

    def after(self, bindings: Bindings, exported: Mapping[Node, Values]) -> list[Values] | None:
        """The program's results; None if only the interpreter can decide.

        Args:
            bindings: Arrays of placeholders.
            exported: The exports, whole, and sources that are there already.
        """
        found = self._once(bindings, self.program.roots, exported)
        return None if found is None else [finish(found[root], root.type, False) for root in self.program.roots]

    def _once(
        self, bindings: Bindings, wanted: Sequence[Node], known: Mapping[Node, Values]
    ) -> Mapping[Node, Values] | None:
        """Values of nodes, computed by whole steps from what is known."""
        steps = self.program.plan.steps
        needed, numbers = {node for node in wanted if node not in known}, []
        for number, step in reversed(list(enumerate(steps))):
            if needed & set(step_nodes(step)):
                numbers.append(number)
                needed |= {node for node in step_inputs(step) if node not in known}
        program = self.program
        all_steps = Steps(
            steps,
            program.kernels,
            program.loops,
            [()] * len(steps),
            segments=program.segments,
            products=program.products,
        )
        execution = Execution(all_steps, bindings, self.settings, self.check_finite, None, None)
        try:
            with np.errstate(all="ignore"), limited(self.settings.threads):
                found = execution.values(known, numbers[::-1], program.roots)
        except RejectedError:
            return None
        return None if found is None else {node: found[node] for node in wanted}
