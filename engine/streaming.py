"""Sweeps over more than memory holds: columns are read block by block, the next one while the present one computes.

What is computed does not depend on how much is read at once: within a split states are carried from block to block,
which begin and end where the kernel's own blocks do, and splits merge by their tree.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .config import Settings
from .errors import NonFiniteError
from .finite import is_finite
from .ir import Node, Values
from .lane_runs import LaneRun, boxes_of
from .lanes import lanes_of
from .part_runs import Block, Part, Range
from .part_states import largest_of
from .parts import Parts, States
from .passes.watches import shows_what_is_not_finite
from .progress import Prepared, Progress
from .reading import Reading
from .streamed import Streamed
from .streams import Sizes, Stream


class Beside(NamedTuple):
    """Inputs of a part that are read neither whole nor column by column, and what is known of all of them.

    Attributes:
        blocks: Pieces that hold what the part needs.
        indexed: The same inputs, for who asks for any of their elements.
        sizes: Largest magnitudes of the whole inputs, as far as they are known.
    """

    blocks: Mapping[Node, Block] = MappingProxyType({})
    indexed: Mapping[Node, Any] = MappingProxyType({})
    sizes: Mapping[int, float] = MappingProxyType({})


class StreamingRun:
    """One run of a sweep some of whose inputs are read block by block.

    Args:
        stream: The sweep and those inputs.
        settings: Threads, target and cache directory.
        budget: Bytes that blocks and states may take; None for no limit.
        guarded: Inputs of which an element that is not finite is an error where it counts.
        part: What it will run on, if not on all rows and places.
    """

    def __init__(
        self,
        stream: Stream,
        settings: Settings,
        budget: int | None = None,
        guarded: Collection[Node] = (),
        part: Part | None = None,
    ) -> None:
        self.stream, self.settings, self.guarded = stream, settings, guarded
        self.parts = Parts(stream.kernel, settings)
        self.sizes: Sizes = stream.sizes(settings, part)
        self.at_once, self.budget = self.sizes.columns_within(budget), budget
        self.accused: set[Node] = set()
        self.largest: dict[int, float] = {}

    def results(
        self,
        arrays: Mapping[Node, Values],
        *,
        accused: Collection[Node] = (),
        final: Collection[Node] = (),
        part: Part | None = None,
        results: Sequence[Values] | None = None,
        beside: Beside = Beside(),  # noqa: B008 - it holds nothing that changes
    ) -> list[Values] | None:
        """The sweep's results, or None if the interpreter has to decide.

        Args:
            arrays: The inputs that are in memory, whole.
            accused: Those that hold something that is not finite, which is an error where it counts.
            final: Nodes from which nothing else is computed.
            part: Rows and places, cut as `Parts` says; all of them if None.
            results: Float32 arrays of the part's shapes to write to; new ones if None.
            beside: Inputs that are in memory in part.

        Raises:
            NonFiniteError: If there is a budget, and what is guarded and not finite counts.
            StoreError: If something cannot be read.
        """
        part = self.parts.whole if part is None else part
        held = {**{node: Block.whole(array) for node, array in arrays.items()}, **beside.blocks}
        states = self._streamed(held, part)
        states = replace(states, sizes={**states.sizes, **beside.sizes})
        boxes = self.parts.needed_at_end(part)
        given = [
            None if box is None else held[node].at(box) for node, box in zip(self.parts.inputs, boxes, strict=True)
        ]
        found = self.parts.finish(states, given, results)
        if found.is_doubted or self.accused:
            accused = {*accused, *self._accused(part)}
        if accused:
            found.doubts[...] = 1
        if not found.is_doubted:
            return found.results
        everything = {**arrays, **beside.indexed, **{each.node: Indexed(each) for each in self.stream.inputs}}
        if self.parts.settle(part, found, everything, accused=accused, final=final):
            return found.results
        # With a limit the interpreter, which needs everything at once, would not get to say who is to blame.
        if self.budget is not None and accused and self.parts.settle(part, found, everything, final=final):
            raise self._not_finite(accused)
        return None

    def _not_finite(self, accused: Collection[Node]) -> NonFiniteError:
        node = next(iter(accused))
        line = node.lines[0] if node.lines else None
        return NonFiniteError(
            f"compute: {node.name} {node.type} holds NaN or infinity at a position that counts; "
            "check_finite=False (ag.config, ag.compile) lets it through",
            line,
        )

    def _streamed(self, held: Mapping[Node, Block], part: Part) -> States:
        outside = np.uint8(self.parts.is_outside(held))
        lanes = lanes_of(self.parts, self.stream.inputs, self.sizes, part, self.settings.threads, self.budget)
        prepare = Prepared(self.parts.runner, held)
        if lanes:
            run = LaneRun(self.stream, self.parts, self.sizes, prepare, self._looked_at())
            states = run.states(part, lanes, self.settings.threads)
            self.accused |= run.accused
        else:
            states = self._read_ahead(prepare, part)
        self.largest = largest_of((states.sizes, self.parts.sizes(held)))
        return replace(states, doubts=states.doubts | outside, sizes=self.largest)

    def _read_ahead(self, prepare: Prepared, part: Part) -> States:
        """The states of a part, while what comes next is read."""
        progress = Progress(self.parts.runner, part, self.sizes.splits, prepare)
        largest: dict[int, float] = {}
        for blocks, columns in self._ranges(part):
            largest = largest_of((largest, self.parts.sizes(blocks)))
            progress.go_on(blocks, columns)
            del blocks  # before the next ones come
        return progress.states(largest)

    # --- reading

    def _ranges(self, part: Part) -> Iterator[tuple[dict[Node, Block], Range]]:
        """Blocks of all inputs, and the range of columns that they are good for."""
        columns, rest, start = self.sizes.splits.columns, dict[Node, Values](), 0
        cuts = [(first, min(first + self.at_once, columns)) for first in range(0, columns, self.at_once)]
        with self._reading(part, self._looked_at()) as reading:
            reading.begin(cuts[0])
            for number, (first, stop) in enumerate(cuts):
                pieces = reading.taken()
                self.accused |= reading.accused
                for each in cuts[number + 1 : number + 2]:
                    reading.begin(each)
                pieces = self._joined(rest, pieces)
                end = self.sizes.end(stop)
                if end > start:
                    here = self._blocks(part, pieces, (start, end), start) | reading.views((start, end))
                    yield here, (start, end)
                    rest = {
                        each.node: _along(pieces[each.node], each.axis, end - start, None).copy()
                        for each in reading.copied
                        if stop > end
                    }
                    start = end
                    del here
                else:
                    rest = {node: piece.copy() for node, piece in pieces.items()}
                del pieces
                assert first <= start

    def _reading(self, part: Part, looked_at: Collection[Node]) -> Reading:
        return Reading(self.stream.inputs, lambda columns: self._boxes(part, columns), self.settings.threads, looked_at)

    def _looked_at(self) -> set[Node]:
        """What is guarded, and could hold what is not finite without a doubt about results."""
        return {node for node in self.guarded if not shows_what_is_not_finite(self.parts.sweep, node)}

    def _accused(self, part: Part) -> set[Node]:
        """What is guarded and holds something that is not finite: read once more, now that results are in doubt."""
        looked_at = set(self.guarded) & self.stream.nodes - self.accused - self._looked_at()
        columns = self.sizes.splits.columns
        if looked_at:
            for each in [each for each in self.stream.inputs if each.node in looked_at]:
                for first in range(0, columns, self.at_once):
                    box = self._boxes(part, (first, min(first + self.at_once, columns)))[each.node]
                    if not is_finite(each.read(box)):
                        self.accused.add(each.node)
                        break
        return self.accused

    def _boxes(self, part: Part, columns: Range) -> dict[Node, tuple[slice, ...]]:
        return boxes_of(self.parts, self.stream.inputs, part, columns)

    def _joined(self, rest: Mapping[Node, Values], pieces: dict[Node, Values]) -> dict[Node, Values]:
        """What was left of the block before, and this one."""
        if not rest:
            return pieces
        axes = {each.node: each.axis for each in self.stream.inputs}
        return {node: np.concatenate([rest[node], piece], axes[node]) for node, piece in pieces.items()}

    def _blocks(self, part: Part, pieces: Mapping[Node, Values], columns: Range, start: int) -> dict[Node, Block]:
        boxes = self._boxes(part, columns)
        found = {}
        for each in [each for each in self.stream.inputs if each.node in pieces]:
            piece = _along(pieces[each.node], each.axis, 0, columns[1] - start)
            found[each.node] = Block.placed(piece, boxes[each.node])
        return found


class Indexed:
    """An input that is read block by block, for who asks for elements by arrays of indices: in order, mostly."""

    def __init__(self, streamed: Streamed) -> None:
        self.streamed = streamed
        self.shape, self.dtype = tuple(map(int, streamed.node.shape)), streamed.node.dtype
        self.size = int(np.prod(self.shape))
        self._held: tuple[Range, ...] | None = None
        self._values: Values | None = None

    def __getitem__(self, index: tuple[Any, ...]) -> Values:
        wanted = []
        for axis, (each, length) in enumerate(zip(index, self.shape, strict=True)):
            low, high = int(np.min(each)), int(np.max(each)) + 1
            step = int(self.streamed.blocks.steps[axis]) if axis == self.streamed.axis else 1
            wanted.append((low // step * step, min(-(-high // step) * step, length)))
        held = self._held
        is_there = held is not None and all(a <= c and d <= b for (a, b), (c, d) in zip(held, wanted, strict=True))
        if not is_there:
            self._held = held = tuple(wanted)
            self._values = self.streamed.read(tuple(slice(*each) for each in wanted))
        assert held is not None
        assert self._values is not None
        return np.asarray(self._values[tuple(each - first for each, (first, _) in zip(index, held, strict=True))])


def _along(array: Values, axis: int, first: int, stop: int | None) -> Values:
    return array[(slice(None),) * axis + (slice(first, stop),)]
