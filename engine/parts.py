"""Sweeps in parts: on pieces of their arrays, in any order, in any process, with the bits of the undivided run.

A sweep runs over batch places, rows and columns. It may be cut along all of them: rows at multiples of
`Division.row_unit`, places anywhere, columns at the boundaries of its *splits*, which follow from the whole problem's
shape alone. What a part of the columns leaves is a *state*; states of the same rows and places merge in the order of
the splits' tree, whatever was computed together::

    parts = Parts(kernel, settings)                      # kernel: of a program, ``program.kernels[step]``
    division = parts.division                            # None: this sweep cannot be cut
    part = Part(batch=((0, 1), (0, 8)), rows=(0, 64))    # a range of each batch axis, a range of rows
    boxes = parts.needed(part, splits=(0, 4))            # what to bring of each input: slices, None for nothing
    one = parts.run([array[box] ...], part, (0, 4))      # States: pickle them, send them
    both = parts.merge([one, other])                     # in any order, any number at a time
    found = parts.finish(both, [array[box] ... of parts.needed_at_end(part)])
    found.results                                        # arrays of the part's shapes, in the order of the sweep's

A task of a graph may hold a union of neighbouring splits, so a chunk of keys is ``splits.first(a)`` to
``splits.first(b)``. `Finished.is_doubted` says that results cannot be trusted (something overflowed or is not finite):
then `Parts.settle` computes those rows again in float64, or, where it cannot either, the whole expression must go to
the interpreter, as in an undivided run.

Where results are sums over rows or places (`Sweep.adds_up`: most gradients), ``division`` is None and ``stretches``
says how: along batch axes that are ``apart``, and, where places are few, between stretches of rows::

    part = parts.whole._replace(batch=((0, 1), (2, 4)))  # axes that results sum over have to be whole
    found = parts.run_whole([array[box] ... of parts.needed_whole(part)], part)

    some = part._replace(rows=(0, 2 * parts.stretches.row_unit))
    one = parts.run_sums([array[box] ... of parts.needed_whole(some)], some)   # Sums: they pickle
    found = parts.add_up([one, ...])                     # all rows, in any order

What several stretches add to one place is kept apart until then, and added up in their order: for few places that is
up to 16 arrays of the result's shape. `run_whole` is for sweeps of both kinds. Whether something might have overflowed
unseen is judged for each part from what it reads: an undivided run doubts all rows for one part's large numbers.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .boxes import Box, shape_of, union
from .codegen.state import Stage
from .config import Settings
from .errors import ArgumentError
from .ir import Node, Values
from .part_boxes import Boxes
from .part_runs import Block, Part, Range, Runner, check_part, whole_part
from .part_settling import Judgement, settle_part
from .part_states import Finished, States, merged_states
from .part_sums import Stretches, SumRunner, Sums
from .passes.gathers import any_outside
from .splits import ROW_UNIT, Splits, splits_of
from .states import merged_run

if TYPE_CHECKING:
    from .kernels import SweepKernel
    from .plans import Bound

__all__ = [
    "Block",
    "Box",
    "Division",
    "Finished",
    "Part",
    "Parts",
    "Splits",
    "States",
    "Stretches",
    "Sums",
    "whole_part",
]


class Division(NamedTuple):
    """How a sweep may be cut.

    Attributes:
        batch: Lengths of its batch axes.
        rows: How many rows.
        row_unit: Rows are cut at multiples of this.
        splits: Ranges of columns: they are cut between these.
    """

    batch: tuple[int, ...]
    rows: int
    row_unit: int
    splits: Splits


class Parts:
    """A sweep to be run in parts.

    Args:
        kernel: The sweep's.
        settings: Threads, target and cache directory.
        bound: What the sweep's lengths are, if they are free.
    """

    def __init__(self, kernel: "SweepKernel", settings: Settings, bound: "Bound | None" = None) -> None:
        self.kernel, self.settings, self.bound = kernel, settings, bound
        self.sweep, self.inputs = kernel.sweep, kernel.fused.inputs
        self.runner = Runner(kernel, settings, bound)
        self.of: Callable[[Any], Any] = self.runner.of
        self.boxes = Boxes(kernel, self.of)
        self._sums = SumRunner(self.runner, self.boxes)

    @property
    def division(self) -> Division | None:
        """How the sweep may be cut; None if not at all, for its results sum over rows or places, or select."""
        if self.sweep.adds_up or self.sweep.selects:
            return None
        batch = tuple(int(self.of(axis.length)) for axis in self.sweep.batch)
        return Division(batch, int(self.of(self.sweep.rows.length)), ROW_UNIT, splits_of(self.sweep, self.of))

    @property
    def splits(self) -> Splits:
        """The ranges of columns."""
        return splits_of(self.sweep, self.of)

    @property
    def whole(self) -> Part:
        """All rows and places."""
        return whole_part(self.kernel, self.of)

    @property
    def stretches(self) -> Stretches | None:
        """How a sweep whose results add up may be cut; None for others, of which `division` says it."""
        return self._sums.stretches if self.sweep.adds_up else None

    # --- what has to be brought

    def needed(self, part: Part, splits: Range) -> list[Box | None]:
        """What of each input, in the order of ``inputs``, the states of some splits are made of; None for nothing."""
        return self.needed_columns(part, (self.splits.first(splits[0]), self.splits.first(splits[1])))

    def needed_columns(self, part: Part, columns: Range) -> list[Box | None]:
        """The same for any range of columns."""
        return self.boxes.read(part, columns, Stage.STREAM)

    def needed_at_end(self, part: Part) -> list[Box | None]:
        """What of each input `finish` reads."""
        return self.boxes.read(part, self._columns, Stage.FINISH)

    def needed_whole(self, part: Part) -> list[Box | None]:
        """What of each input `run_whole` and `run_sums` read."""
        if self.sweep.adds_up:
            return self.boxes.read(part, self._columns, Stage.WHOLE)
        both = zip(self.needed_columns(part, self._columns), self.needed_at_end(part), strict=True)
        return [union(one, other) if one and other else one or other for one, other in both]

    @property
    def _columns(self) -> Range:
        return 0, int(self.of(self.sweep.columns.length))

    def result_box(self, number: int, part: Part) -> Box:
        """Where the part's results lie in a result of the sweep."""
        return self.boxes.written(number, part)

    # --- running

    def run(self, arrays: Sequence[Values | None], part: Part, splits: Range) -> States:
        """The states that some neighbouring splits leave of a part.

        Args:
            arrays: For each input, what `needed` says: NumPy arrays, in the order of ``inputs``.
            part: Rows and places.
            splits: The first split, and the one behind the last.

        Raises:
            ArgumentError: If the part or the arrays do not fit the sweep.
        """
        self._check(part, splits)
        blocks = self.boxes.blocks(arrays, self.needed(part, splits))
        compiled = self.runner.compiled(Stage.STREAM, blocks)
        states = self.runner.empty(compiled, part, splits[1] - splits[0])
        columns = self.splits.first(splits[0]), self.splits.first(splits[1])
        divided = self.splits.count > 1
        doubts = self.runner.stream(compiled, blocks, part, self.splits, splits[0], columns, states, divided=divided)
        doubts |= np.uint8(self.is_outside(blocks))
        nodes = merged_run(compiled.held, states, splits[0], self.splits.count)
        return States(part, self.splits, compiled.held, compiled.block_rows, nodes, doubts, self.sizes(blocks))

    def is_outside(self, blocks: Mapping[Node, Block]) -> bool:
        """Whether an index that masks are made of lies outside its axis."""
        return any_outside(self.kernel.deciding, {node: each.values for node, each in blocks.items()}, self.of)

    def sizes(self, blocks: Mapping[Node, Block]) -> dict[int, float]:
        """The largest magnitudes of what has to be watched, by the numbers of inputs."""
        found = self.kernel.magnitudes.sizes({node: block.values for node, block in blocks.items()})
        return {self.inputs.index(node): size for node, size in found.items()}

    def _check(self, part: Part, splits: Range) -> None:
        division = self.division
        if division is None:
            raise ArgumentError("parts: a sweep whose results sum over rows or batch places cannot be cut")
        check_part(part, division.batch, division.rows, division.row_unit)
        if not 0 <= splits[0] < splits[1] <= division.splits.count:
            raise ArgumentError(f"parts: splits {list(splits)} of {division.splits.count}")

    merge = staticmethod(merged_states)

    def finish(
        self, states: States, arrays: Sequence[Values | None], results: Sequence[Values] | None = None
    ) -> Finished:
        """Results of the states of all columns.

        Args:
            states: Those of all splits, merged.
            arrays: For each input, what `needed_at_end` says.
            results: Float32 arrays to write to, of the shapes of `result_box`; new ones if None.

        Raises:
            ArgumentError: If splits are missing.
        """
        if not states.is_complete:
            raise ArgumentError(f"parts: states of {sorted(states.nodes)} are not those of all splits")
        part = states.part
        boxes = [self.result_box(number, part) for number in range(len(self.sweep.outputs))]
        if results is None:
            results = [np.empty(shape_of(box), np.float32) for box in boxes]
        pieces = [Block.placed(array, box) for array, box in zip(results, boxes, strict=True)]
        (state,) = states.nodes.values()
        blocks = self.boxes.blocks(arrays, self.needed_at_end(part))
        doubts = states.doubts | self.runner.finish(blocks, part, state, pieces)
        if self.runner.overflow(states.sizes):
            doubts[...] = 1
        return Finished(list(results), doubts, states.block_rows)

    # --- results that add up

    def run_sums(self, arrays: Sequence[Values | None], part: Part) -> Sums:
        """What some stretches of rows leave, of a sweep whose results add up.

        Args:
            arrays: For each input, what `needed_whole` says.
            part: Rows and places.

        Raises:
            ArgumentError: If the part or the arrays do not fit the sweep.
        """
        if not self.sweep.adds_up:
            raise ArgumentError("parts: no results of this sweep add up: `run` leaves states of it")
        self._sums.check(part)
        blocks = self.boxes.blocks(arrays, self.needed_whole(part))
        results, doubts, unit = self._sums.run(blocks, part)
        doubts |= np.uint8(self.is_outside(blocks))
        return Sums(part, unit, results, doubts, self.sizes(blocks))

    def add_up(self, sums: Sequence[Sums]) -> Finished:
        """Results of the sums of all rows of the same places, in any order.

        Raises:
            ArgumentError: If rows are missing, or there twice.
        """
        return self._sums.add_up(sums)

    def run_whole(self, arrays: Sequence[Values | None], part: Part) -> Finished:
        """Results of a part, of all columns at once: of any sweep; of one whose results add up, all of its rows.

        Args:
            arrays: For each input, what `needed_whole` says.
            part: Rows and places.

        Raises:
            ArgumentError: If the part or the arrays do not fit the sweep.
        """
        if self.sweep.adds_up:
            return self.add_up([self.run_sums(arrays, part)])
        given = self.boxes.blocks(arrays, self.needed_whole(part))
        every = (0, self.splits.count)
        boxes = self.needed(part, every), self.needed_at_end(part)
        stream, end = (
            [None if box is None else given[node].at(box) for node, box in zip(self.inputs, each, strict=True)]
            for each in boxes
        )
        return self.finish(self.run(stream, part, every), end)

    def settle(
        self,
        part: Part,
        found: Finished,
        arrays: Mapping[Node, Any],
        *,
        accused: Collection[Node] = (),
        final: Collection[Node] = (),
    ) -> bool:
        """Compute doubted rows again, in float64, into the results; False if only the interpreter can decide.

        Args:
            part: Rows and places.
            found: Their results.
            arrays: All inputs by their nodes, whole: arrays, or what has ``shape``, ``size``, ``dtype`` and is read by
                arrays of indices, as NumPy's are. Columns are read twice for each 128 rows in doubt, some at a time.
            accused: Inputs that hold something that is not finite, which is an error where it counts.
            final: Nodes from which nothing else is computed.
        """
        judgement = Judgement(arrays, accused, final)
        return settle_part(self.kernel, self.boxes, part, found, judgement, self.settings.threads)
