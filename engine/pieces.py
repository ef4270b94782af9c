"""Results that need not be there as a whole: those of a program's last sweep, made piece by piece.

The sweep is cut along its rows and places as `engine.parts` says, so the bits are those of the undivided run. What of
its inputs lies on disk and varies over rows is read for each piece: as much as the piece needs.

What an undivided run looks for in whole inputs, NaN and numbers so large that something may overflow unseen, is found
piece by piece here. It changes how all rows are computed, so whoever finds some begins anew, knowing of it.
"""

import functools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .blocks import blocks_of
from .boxes import Box, shape_of, union
from .config import Settings
from .errors import LimitError
from .execution import Execution, Steps, ToStream
from .finite import is_finite
from .ir import Node, Values
from .leaves import Data
from .memory import MemoryPlan, last_uses, plan_memory
from .part_cuts import cut_parts
from .part_runs import Block, Part
from .part_states import largest_of
from .parts import Division, Finished, Parts
from .passes.fuse import Step, step_inputs
from .passes.fused import Fused
from .program import Program
from .splits import ROW_UNIT
from .streamed import Streamed
from .streaming import Beside, Indexed, StreamingRun
from .streams import Stream, Streams, chain_of
from .threads import limited

# Bytes of a piece, where no limit says less: enough that columns are not read again too often.
_ENOUGH = 1 << 28


class Piece(NamedTuple):
    """A piece of the results.

    Attributes:
        boxes: Where it lies in each.
        values: Its elements, in the types of the results.
    """

    boxes: list[Box]
    values: list[Values]


class InterpreterNeededError(Exception):
    """Only the interpreter can decide, which needs everything at once."""


class _AnewError(Exception):
    """Something was found that concerns the pieces before, too."""


class Pieces:
    """The results of a program whose last step is one sweep that can be cut.

    Args:
        program: The program, for which `last_sweep` has found that it is so.
        settings: Threads, target, cache directory and limit.
        check_finite: Whether NaN or infinity in what guards watch is an error.
    """

    def __init__(self, program: Program, settings: Settings, *, check_finite: bool) -> None:
        self.program, self.settings, self.check_finite = program, settings, check_finite
        self.number = len(program.plan.steps) - 1
        self.step, self.kernel = last_sweep(program), program.kernels[self.number]
        self.parts = Parts(self.kernel, settings)
        division = self.parts.division
        assert division is not None
        self.division: Division = division
        self.stream: Stream | None = program.stream_of(self.number)
        self.by_rows = self._read_by_rows()
        streamed = set() if self.stream is None else self.stream.nodes
        self.wanted = [node for node in self.parts.inputs if node not in streamed and node not in self.by_rows]
        self._guarded = self._watched() if check_finite else set()
        # What was found so far: inputs that are not finite, and largest magnitudes.
        self._accused: set[Node] = set()
        self._sizes: dict[int, float] = {}

    def _watched(self) -> set[Node]:
        streamed = self.step.guarded() if self.stream is None else self.stream.guarded
        return {*streamed, *(node for node, each in self.by_rows.items() if each.is_guarded)}

    # --- what is read for each piece

    def _read_by_rows(self) -> dict[Node, Streamed]:
        """Inputs on disk of which a piece needs a piece, and nobody else needs anything."""
        steps = self.program.plan.steps
        users: dict[Node, int] = {}
        for step in steps:
            for node in step_inputs(step):
                users[node] = users.get(node, 0) + 1
        found = {}
        for node in self.parts.inputs:
            chain = chain_of(node)
            leaf = chain[0]
            is_streamed = self.stream is not None and node in self.stream.nodes
            if (
                not isinstance(leaf, Data)
                or node in self.kernel.at_once
                or is_streamed
                or any(users[each] > 1 for each in chain)
            ):
                continue
            blocks = blocks_of(leaf.source)
            if blocks is not None and self._box(node, self._first()) != self._box(node, self.parts.whole):
                found[node] = Streamed(node, leaf, tuple(chain[1:]), blocks, 0)
        return found

    def _first(self) -> Part:
        """The smallest part."""
        return Part(tuple((0, 1) for _ in self.division.batch), (0, min(ROW_UNIT, self.division.rows)))

    def _box(self, node: Node, part: Part) -> Box:
        """What of an input a part needs, for its states and at its end."""
        place = self.parts.inputs.index(node)
        boxes = self.parts.needed(part, (0, self.division.splits.count))[place], self.parts.needed_at_end(part)[place]
        there = [box for box in boxes if box is not None]
        if not there:
            return (slice(0, 0),) * len(node.shape)
        return functools.reduce(union, there)

    def bytes_of(self, part: Part) -> int:
        """Bytes that a part takes: its results, twice for their types, and what is read for it."""
        results = [self.parts.result_box(number, part) for number in range(len(self.step.nodes))]
        total = 8 * sum(map(_elements, results))
        for node, each in self.by_rows.items():
            kept = {one: one.dtype.itemsize for one in (each.leaf, *each.casts)}
            total += _elements(self._box(node, part)) * sum(kept.values())
        return total

    # --- how it is cut

    def cut(self, steps: Mapping[Any, int], rows: int | None) -> list[Part]:
        """The parts, in order: as large as memory allows, cut where each step along an axis says if that is possible.

        Args:
            steps: For axes of the sweep, at multiples of what index pieces are best cut.
            rows: The most rows of a part; None to choose.

        Raises:
            LimitError: If not even the smallest part fits into memory.
        """
        sweep, limit = self.step.sweep, self.settings.memory_limit
        least = max(self._needs(self._first()), self._plan_before.peak_bytes)
        if limit is not None and least > limit:
            raise LimitError(
                f"store: needs {least} bytes at its peak, more than memory_limit={limit}; "
                f"the smallest possible is {least}"
            )
        wanted = [steps.get(axis, 1) for axis in (*sweep.batch, sweep.rows)]
        return cut_parts(self.division, wanted, rows, self._fits)

    def _fits(self, part: Part) -> bool:
        limit = self.settings.memory_limit
        return self.bytes_of(part) <= _ENOUGH and (limit is None or self._needs(part) <= limit)

    def _needs(self, part: Part) -> int:
        """Bytes of a part and of all that is held meanwhile."""
        streamed = 0 if self.stream is None else self.stream.sizes(self.settings, part).least
        return self._held + self.bytes_of(part) + streamed

    @functools.cached_property
    def _plan_before(self) -> MemoryPlan:
        """The memory of what is computed before, and held."""
        streams = self._streams_before
        least = streams.least(self.settings)
        return plan_memory(self.wanted, steps=self._steps_before, streams=least, unread=streams.unread)

    @property
    def _held(self) -> int:
        return self._plan_before.result_bytes

    # --- running

    @property
    def _steps_before(self) -> Sequence[Step]:
        return self.program.plan.steps[:-1]

    @functools.cached_property
    def _streams_before(self) -> Streams:
        """What the steps before do not read whole."""
        known, streams = self.program.streams, Streams((), {}, ())
        streams.unread = {node for each in self.by_rows.values() for node in (each.leaf, *each.casts)}
        if known is not None:
            streams.steps = {number: each for number, each in known.steps.items() if number != self.number}
            streams.unread |= known.unread
        return streams

    def _before(self) -> dict[Node, Values]:
        """Inputs that are in memory, computed by the steps before."""
        steps, streams, limit = self._steps_before, self._streams_before, self.settings.memory_limit
        to_stream = ToStream.within(streams, self._plan_before.beside, limit)
        plan = Steps(
            steps,
            self.program.kernels,
            self.program.loops,
            last_uses(steps, self.wanted),
            to_stream,
            segments=self.program.segments,
            products=self.program.products,
        )
        with np.errstate(all="ignore"), limited(self.settings.threads):
            execution = Execution(plan, {}, self.settings, self.check_finite, None, None)
            values = execution.results(self.wanted)
        if values is None:
            raise InterpreterNeededError
        # As `Execution` gives them to a sweep.
        typed = [value.astype(node.dtype, copy=False) for node, value in zip(self.wanted, values, strict=True)]
        return dict(zip(self.wanted, typed, strict=True))

    def run(self, parts: Sequence[Part], roots: Sequence[Node]) -> Iterator[Piece]:
        """The pieces, one after the other; from the first one again where something turns out to concern them all.

        Args:
            parts: All of them.
            roots: The results, nodes that the sweep computes.

        Raises:
            InterpreterNeededError: If the sweep cannot decide.
            NonFiniteError: For NaN or infinity where it counts.
            StoreError: If something cannot be read.
        """
        arrays = self._before()
        self._accused |= {node for node in self._guarded if node in arrays and not is_finite(arrays[node])}
        self._note(self.parts.sizes({node: Block.whole(array) for node, array in arrays.items()}))
        places = [self.step.nodes.index(root) for root in roots]
        while True:
            try:
                for part in parts:
                    results = self._part(part, arrays, roots)
                    boxes = [self.parts.result_box(place, part) for place in places]
                    typed = [
                        results[place].astype(root.dtype, copy=False) for place, root in zip(places, roots, strict=True)
                    ]
                    yield Piece(boxes, typed)
            except _AnewError:
                continue
            return

    def _note(self, sizes: Mapping[int, float]) -> None:
        self._sizes = largest_of((self._sizes, sizes))

    def _overflows(self) -> bool:
        return self.parts.runner.overflow(self._sizes)

    def _part(self, part: Part, arrays: Mapping[Node, Values], roots: Sequence[Node]) -> list[Values]:
        before = set(self._accused), self._overflows()
        blocks = {}
        for node, each in self.by_rows.items():
            box = self._box(node, part)
            blocks[node] = Block.placed(each.read(box), box)
            if node in self._guarded and not is_finite(blocks[node].values):
                self._accused.add(node)
        self._note(self.parts.sizes(blocks))
        indexed = {node: Indexed(each) for node, each in self.by_rows.items()}
        beside = Beside(blocks, indexed, dict(self._sizes))
        find = self._in_memory if self.stream is None else self._streaming
        results = find(part, arrays, beside, set(roots))
        if (self._accused, self._overflows()) != before:
            raise _AnewError
        if results is None:
            raise InterpreterNeededError
        return results

    def _in_memory(
        self, part: Part, arrays: Mapping[Node, Values], beside: Beside, final: Collection[Node]
    ) -> list[Values] | None:
        """A part of which all columns are in memory."""
        splits = 0, self.division.splits.count
        held = {**{node: Block.whole(array) for node, array in arrays.items()}, **beside.blocks}
        states = self.parts.run(self._given(held, self.parts.needed(part, splits)), part, splits)
        states = replace(states, sizes={**states.sizes, **beside.sizes})
        found: Finished = self.parts.finish(states, self._given(held, self.parts.needed_at_end(part)))
        if self._accused:
            found.doubts[...] = 1
        everything = {**arrays, **beside.indexed}
        if found.is_doubted and not self.parts.settle(part, found, everything, accused=self._accused, final=final):
            return None
        return found.results

    def _given(self, held: Mapping[Node, Block], boxes: Sequence[Box | None]) -> list[Values | None]:
        pairs = zip(self.parts.inputs, boxes, strict=True)
        return [None if box is None else held[node].at(box) for node, box in pairs]

    def _streaming(
        self, part: Part, arrays: Mapping[Node, Values], beside: Beside, final: Collection[Node]
    ) -> list[Values] | None:
        """A part whose columns are read block by block."""
        assert self.stream is not None
        limit = self.settings.memory_limit
        budget = None if limit is None else limit - self._held - self.bytes_of(part)
        run = StreamingRun(self.stream, self.settings, budget, self._guarded, part)
        results = run.results(arrays, accused=self._accused, final=final, part=part, beside=beside)
        self._accused |= run.accused
        self._note(run.largest)
        return results


def last_sweep(program: Program) -> Fused:
    """The step that all results come from."""
    step = program.plan.steps[-1]
    assert isinstance(step, Fused)
    return step


def can_be_cut(program: Program, settings: Settings) -> bool:
    """Whether all results come from one sweep, the last step, that can be cut along rows and places."""
    step = program.plan.steps[-1]
    if not isinstance(step, Fused) or not set(program.roots) <= set(step.nodes):
        return False
    division = Parts(program.kernels[len(program.plan.steps) - 1], settings).division
    axes = {*step.sweep.batch, step.sweep.rows}
    is_of_all = all(axes <= set(output.axes) for output in step.sweep.outputs)
    return division is not None and is_of_all and min((*division.batch, division.rows)) > 0


def _elements(box: Box) -> int:
    return math.prod(shape_of(box))
