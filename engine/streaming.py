"""Sweeps over more than memory holds: columns are read block by block, the next one while the present one computes.

What is computed does not depend on how much is read at once: within a split states are carried from block to block,
which begin and end where the kernel's own blocks do, and splits merge by their tree.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .codegen.state import Stage
from .config import Settings
from .errors import NonFiniteError
from .finite import is_finite
from .ir import Node, Values
from .lengths import FEWEST_COLUMNS
from .part_runs import Block, Part, Range
from .part_states import largest_of
from .parts import Parts, States
from .passes.watches import shows_what_is_not_finite
from .reading import Reading
from .states import Place, merged_nodes, merged_run
from .streamed import Streamed
from .streams import Sizes, Stream

if TYPE_CHECKING:
    from .codegen.state import StateLayout
    from .kernels import Compiled


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
        self.at_once, self.is_limited = self.sizes.columns_within(budget), budget is not None
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
        if self.is_limited and accused and self.parts.settle(part, found, everything, final=final):
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
        progress = _Progress(self.parts, part, self.sizes.splits)
        outside = self.parts.is_outside(held)
        for blocks, columns in self._ranges(part):
            there = {**held, **blocks}
            self.largest = largest_of((self.largest, self.parts.sizes(there)))
            progress.go_on(there, columns)
            del there, blocks  # before the next ones come
        doubts = progress.doubts | np.uint8(outside)
        layout, rows = progress.compiled.held, progress.compiled.block_rows
        return States(part, self.sizes.splits, layout, rows, progress.nodes, doubts, self.largest)

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
                end = self._end(stop, columns)
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

    def _end(self, stop: int, columns: int) -> int:
        """Where a range may end when columns up to ``stop`` are there: no group of columns reaches beyond the last."""
        if stop == columns:
            return columns
        end = stop // self.sizes.block * self.sizes.block
        return end if columns - end >= FEWEST_COLUMNS else end - self.sizes.block

    def _boxes(self, part: Part, columns: Range) -> dict[Node, tuple[slice, ...]]:
        boxes = zip(self.parts.inputs, self.parts.needed_columns(part, columns), strict=True)
        return {node: box for node, box in boxes if box is not None and node in self.stream.nodes}

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


class _Progress:
    """What has been computed of a part: nodes of the splits' tree, and the state of a split that has begun."""

    def __init__(self, parts: Parts, part: Part, splits: Any) -> None:
        self.parts, self.part, self.splits = parts, part, splits
        self.nodes: dict[Place, Values] = {}
        self._begun: Values | None = None
        self._compiled: Compiled | None = None
        self._doubts: list[Values] = []

    @property
    def compiled(self) -> "Compiled":
        assert self._compiled is not None
        return self._compiled

    @property
    def doubts(self) -> Values:
        return np.asarray(np.bitwise_or.reduce(self._doubts))

    def go_on(self, blocks: Mapping[Node, Block], columns: Range) -> None:
        """Take the next columns."""
        runner, splits = self.parts.runner, self.splits
        self._compiled = runner.compiled(Stage.STREAM, blocks)
        first, stop = columns
        while first < stop:
            number = min(first // splits.size, splits.count - 1)
            last = number
            while last < splits.count and splits.first(last + 1) <= stop:
                last += 1
            if first == splits.first(number) and last > number and self._begun is None:
                states = runner.empty(self.compiled, self.part, last - number)
                end = splits.first(last)
                self._stream(blocks, number, (first, end), states)
                self._take(merged_run(self.compiled.held, states, number, splits.count))
            else:
                end = min(splits.first(number + 1), stop)
                if self._begun is None:
                    self._begun = runner.empty(self.compiled, self.part)
                self._stream(blocks, number, (first, end), self._begun)
                if end == splits.first(number + 1):
                    self._take({(0, number): self._begun[0]})
                    self._begun = None
            first = end

    def _stream(self, blocks: Mapping[Node, Block], number: int, columns: Range, states: Values) -> None:
        doubts = self.parts.runner.stream(
            self.compiled, blocks, self.part, self.splits, number, columns, states, divided=True
        )
        self._doubts = [np.bitwise_or.reduce([doubts, *self._doubts])]

    def _take(self, nodes: Mapping[Place, Values]) -> None:
        layout: StateLayout = self.compiled.held
        self.nodes = merged_nodes(layout, {**self.nodes, **nodes}, self.splits.count)


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
