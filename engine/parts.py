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
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .careful_sweep import Doubted, Problem, settle
from .codegen.state import Stage, StateLayout
from .config import Settings
from .errors import ArgumentError
from .ir import Node, Values
from .part_runs import Block, Part, Range, Runner, read_at_once, wanted_loads, whole_part
from .passes.gathers import any_outside
from .passes.skip import Skip
from .scalar import Axis, Scalar, below
from .splits import ROW_UNIT, Splits, splits_of
from .states import Place, merged_nodes, merged_run
from .summaries import evaluate
from .threads import limited

if TYPE_CHECKING:
    from .kernels import SweepKernel
    from .plans import Bound

__all__ = ["Block", "Box", "Division", "Finished", "Part", "Parts", "Splits", "States", "whole_part"]

# What to take of an array.
Box = tuple[slice, ...]


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
        skip = Skip(self.sweep, kernel.fused.elements)
        self.at_once = read_at_once(skip, kernel.deciding)

    @property
    def division(self) -> Division | None:
        """How the sweep may be cut; None if not at all, for its results sum over rows or places."""
        if self.sweep.adds_up:
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

    # --- what has to be brought

    def needed(self, part: Part, splits: Range) -> list[Box | None]:
        """What of each input, in the order of ``inputs``, the states of some splits are made of; None for nothing."""
        return self.needed_columns(part, (self.splits.first(splits[0]), self.splits.first(splits[1])))

    def needed_columns(self, part: Part, columns: Range) -> list[Box | None]:
        """The same for any range of columns."""
        return self._boxes(part, columns, Stage.STREAM)

    def needed_at_end(self, part: Part) -> list[Box | None]:
        """What of each input `finish` reads."""
        return self._boxes(part, (0, int(self.of(self.sweep.columns.length))), Stage.FINISH)

    def _boxes(self, part: Part, columns: Range, stage: Stage) -> list[Box | None]:
        ranges = {**dict(zip(self.sweep.batch, part.batch, strict=True)), self.sweep.rows: part.rows}
        ranges[self.sweep.columns] = columns
        found: dict[Node, list[Range]] = {}
        for load in wanted_loads(self.kernel, stage):
            shape = self.of(load.attribute.shape)
            here = [self._range(index, ranges, int(length)) for index, length in zip(load.args, shape, strict=True)]
            if load.attribute in self.at_once and stage is Stage.STREAM:
                here = [(0, int(length)) for length in shape]
            before = found.get(load.attribute, here)
            found[load.attribute] = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(before, here, strict=True)]
        if stage is Stage.STREAM:
            found |= {node: [(0, int(length)) for length in self.of(node.shape)] for node in self.at_once}
        return [tuple(slice(*each) for each in found[node]) if node in found else None for node in self.inputs]

    def _range(self, index: Scalar, ranges: Mapping[Axis, Range], length: int) -> Range:
        """Places along an axis of an array, between the first and the last that an index takes."""
        if index.is_constant:
            return int(index.attribute), int(index.attribute) + 1
        if index.op == "axis":
            return ranges.get(index.attribute, (0, length))
        # Heads that share keys: an index made of places alone is looked at; of any other, all may be needed.
        known = index.axes and index.axes <= set(self.sweep.batch)
        if not known or any(each.op in ("load", "inside") for each in below([index])):
            return 0, length
        axes = sorted(index.axes, key=repr)
        grid = np.ix_(*(np.arange(*ranges[axis]) for axis in axes))
        (values,) = evaluate([index], {}, dict(zip(axes, grid, strict=True)), self.of)
        return (int(values.min()), int(values.max()) + 1) if values.size else (0, 0)

    def result_box(self, number: int, part: Part) -> Box:
        """Where the part's results lie in a result of the sweep."""
        output = self.sweep.outputs[number]
        ranges = {**dict(zip(self.sweep.batch, part.batch, strict=True)), self.sweep.rows: part.rows}
        shape = self.of(output.node.shape)
        return tuple(slice(*ranges.get(axis, (0, int(n)))) for axis, n in zip(output.axes, shape, strict=True))

    def blocks(self, arrays: Sequence[Values | None], boxes: Sequence[Box | None]) -> dict[Node, Block]:
        """Pieces of the inputs, by their nodes.

        Args:
            arrays: For each input the piece of its box; what is not needed is not looked at.
            boxes: The boxes.

        Raises:
            ArgumentError: If a piece has another shape than its box.
        """
        found = {}
        for number, (node, array, box) in enumerate(zip(self.inputs, arrays, boxes, strict=True)):
            if box is None:
                continue
            wanted = tuple(each.stop - each.start for each in box)
            if array is None or array.shape != wanted:
                given = "nothing" if array is None else list(array.shape)
                raise ArgumentError(f"parts: input {number} is given {given} where the part needs {list(wanted)}")
            values = np.asarray(array, node.dtype.newbyteorder("="))
            found[node] = Block(values if values.flags.aligned else values.copy(), tuple(each.start for each in box))
        return found

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
        blocks = self.blocks(arrays, self.needed(part, splits))
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
        if len(part.batch) != len(division.batch):
            raise ArgumentError(f"parts: {len(part.batch)} ranges of places where the sweep has {len(division.batch)}")
        lengths = (*division.batch, division.rows)
        for (first, stop), length in zip((*part.batch, part.rows), lengths, strict=True):
            if not 0 <= first < stop <= length:
                raise ArgumentError(f"parts: the range [{first}, {stop}) of an axis of {length}")
        if part.rows[0] % ROW_UNIT or (part.rows[1] % ROW_UNIT and part.rows[1] != division.rows):
            raise ArgumentError(f"parts: rows {list(part.rows)} are not cut at multiples of {ROW_UNIT}")
        if not 0 <= splits[0] < splits[1] <= division.splits.count:
            raise ArgumentError(f"parts: splits {list(splits)} of {division.splits.count}")

    @staticmethod
    def merge(states: Sequence[States]) -> States:
        """States of the same part as one, as far as the tree of splits goes.

        Args:
            states: Those of different splits, in any order.

        Raises:
            ArgumentError: If they are of different parts, problems or kinds of processors, or of the same splits.
        """
        first = states[0]
        nodes: dict[Place, Values] = {}
        sizes: dict[int, float] = {}
        for each in states:
            if (each.part, each.splits, each.layout) != (first.part, first.splits, first.layout):
                raise ArgumentError("parts: states of different parts, problems or processors do not merge")
            nodes |= each.nodes
            sizes |= {number: max(size, sizes.get(number, 0.0)) for number, size in each.sizes.items()}
        _check_disjoint([place for each in states for place in each.nodes])
        doubts = np.bitwise_or.reduce([each.doubts for each in states])
        found = merged_nodes(first.layout, nodes, first.splits.count)
        return replace(first, nodes=found, doubts=doubts, sizes=sizes)

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
            results = [np.empty([each.stop - each.start for each in box], np.float32) for box in boxes]
        pieces = [Block(array, tuple(each.start for each in box)) for array, box in zip(results, boxes, strict=True)]
        (state,) = states.nodes.values()
        blocks = self.blocks(arrays, self.needed_at_end(part))
        doubts = states.doubts | self.runner.finish(blocks, part, state, pieces)
        if self.kernel.magnitudes.overflow({self.inputs[number]: size for number, size in states.sizes.items()}):
            doubts[...] = 1
        return Finished(list(results), doubts, states.block_rows)

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
        if self.kernel.fused.alone or not self.kernel.fused.is_settled_alone:
            return False
        shapes = [self.of(output.node.shape) for output in self.sweep.outputs]
        boxes = [self.result_box(number, part) for number in range(len(shapes))]
        whole = [_Placed(*each) for each in zip(found.results, boxes, shapes, strict=True)]
        problem = Problem(self.sweep, arrays, self.of, accused, final)
        with limited(self.settings.threads):
            return settle(problem, whole, list(self._doubted(part, found)))  # type: ignore[arg-type]

    def _doubted(self, part: Part, found: Finished) -> Iterator[Doubted]:
        rows = np.arange(*part.rows)
        for place in np.ndindex(*found.doubts.shape[:-1]):
            mine = rows[np.repeat(found.doubts[place] != 0, found.block_rows)[: len(rows)]]
            if len(mine):
                yield Doubted(tuple(at + first for at, (first, _) in zip(place, part.batch, strict=True)), mine)


class _Placed:
    """A piece of an array that is written to by indices into the whole one."""

    def __init__(self, values: Values, box: Box, shape: tuple[int, ...]) -> None:
        self.values, self.box, self.shape = values, box, shape

    def __setitem__(self, index: tuple[Any, ...], values: Values) -> None:
        self.values[tuple(at - box.start for at, box in zip(index, self.box, strict=True))] = values


def _check_disjoint(places: Sequence[Place]) -> None:
    """Raise ArgumentError if a split is in two nodes."""
    ranges = sorted((number << level, (number + 1) << level) for level, number in places)
    for (_, stop), (first, _) in itertools.pairwise(ranges):
        if first < stop:
            raise ArgumentError("parts: states of the same splits do not merge")
