"""Kernels of parts of a sweep: over a range of columns, rows and places of the batch, on pieces of its arrays."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import workers
from .boxes import Box, inside, starts_of
from .codegen.layout import DOUBTS, address_of
from .codegen.state import STATES, Stage
from .config import Settings
from .errors import ArgumentError
from .ir import Node, Values
from .scalar import Scalar, below
from .splits import Splits
from .states import aligned, empty_states, merged_run
from .summaries import hold

if TYPE_CHECKING:
    from .kernels import Compiled, SweepKernel
    from .plans import Bound

# First and last but one of a range.
Range = tuple[int, int]


class Block(NamedTuple):
    """A piece of an array.

    Attributes:
        values: The piece.
        first: Where its first element is in the whole array, along each axis.
    """

    values: Values
    first: tuple[int, ...]

    @staticmethod
    def whole(values: Values) -> "Block":
        """A piece that is all of the array."""
        return Block(values, (0,) * values.ndim)

    @staticmethod
    def placed(values: Values, box: Box) -> "Block":
        """An array as the piece of a box."""
        return Block(values, starts_of(box))

    def at(self, box: Box) -> Values:
        """A part of the whole array that lies inside the piece."""
        return self.values[inside(box, self.first)]

    @property
    def shift(self) -> int:
        """Bytes from where the whole array's first element would be to the piece."""
        return sum(first * stride for first, stride in zip(self.first, self.values.strides, strict=True))


class Part(NamedTuple):
    """Which rows, and which places along the batch axes of the sweep, in their order: ranges of each."""

    batch: tuple[Range, ...]
    rows: Range


def whole_part(kernel: "SweepKernel", of: Callable[[Any], Any] = int) -> Part:
    """All rows and places."""
    sweep = kernel.sweep
    return Part(tuple((0, int(of(axis.length))) for axis in sweep.batch), (0, int(of(sweep.rows.length))))


def check_ranges(ranges: Sequence[Range], lengths: Sequence[int], of: str) -> None:
    """Raise ArgumentError unless there is a range of each axis, inside of it; ``of``: whose axes they are."""
    if len(ranges) != len(lengths):
        raise ArgumentError(f"parts: {len(ranges)} ranges of places where the {of} has {len(lengths)}")
    for (first, stop), length in zip(ranges, lengths, strict=True):
        if not 0 <= first < stop <= length:
            raise ArgumentError(f"parts: the range [{first}, {stop}) of an axis of {length}")


def check_part(part: Part, batch: Sequence[int], rows: int, unit: int) -> None:
    """Raise ArgumentError unless there is such a part of a sweep whose rows are cut at multiples of a unit."""
    check_ranges(part.batch, batch, "sweep")
    check_ranges((part.rows,), (rows,), "sweep")
    if part.rows[0] % unit or (part.rows[1] % unit and part.rows[1] != rows):
        raise ArgumentError(f"parts: rows {list(part.rows)} are not cut at multiples of {unit}")


def wanted_loads(kernel: "SweepKernel", stage: Stage) -> list[Scalar]:
    """Loads of the arrays that kernels of a stage read."""
    sweep = kernel.sweep
    values = [output.value for output in sweep.outputs]
    if stage is Stage.FINISH:
        roots = values
    elif stage is Stage.WHOLE:
        roots = sweep.expressions()
    else:
        # Which indices of results lie outside is looked at with those of tiles.
        looked_at = [each for each in below(values) if each.op == "inside"]
        roots = [*sweep.groups, *(part for each in sweep.accumulators for part in (each.weight, each.column))]
        roots += looked_at
    return [each for each in below(roots) if each.op == "load"]


class Runner:
    """Runs the kernels of a sweep on parts of it.

    Args:
        kernel: The sweep's.
        settings: Threads, target and cache directory.
        bound: What the sweep's lengths are, if they are free.
    """

    def __init__(self, kernel: "SweepKernel", settings: Settings, bound: "Bound | None" = None) -> None:
        self.kernel, self.sweep, self.settings, self.bound = kernel, kernel.sweep, settings, bound
        self.of: Callable[[Any], Any] = _unchanged if bound is None else bound.of

    def compiled(self, stage: Stage, arrays: Mapping[Node, Block]) -> "Compiled":
        """The code of a stage for arrays with these strides."""
        given = [self.given(node, arrays).values for node in self.kernel.fused.inputs]
        compiled = self.kernel.compiled(given, self.settings, stage=stage)
        values = {node: block.values for node, block in arrays.items()}
        if stage is not Stage.FINISH and not hold(compiled.skip, values):
            compiled = self.kernel.compiled(given, self.settings, reads=False, stage=stage)
        if self.bound is not None:
            self.bound.check()
        return compiled

    def given(self, node: Node, arrays: Mapping[Node, Block]) -> Block:
        """A piece of an input; of one that is not read, any."""
        block = arrays.get(node)
        return Block.whole(np.zeros((1,) * len(node.shape), node.dtype)) if block is None else block

    def overflow(self, sizes: Mapping[int, float]) -> bool:
        """Whether the largest magnitudes of inputs, by their numbers, are so large that something may overflow."""
        inputs = self.kernel.fused.inputs
        return self.kernel.magnitudes.overflow({inputs[number]: size for number, size in sizes.items()})

    def with_summaries(self, compiled: "Compiled", arrays: Mapping[Node, Block]) -> dict[Node, Block]:
        """Pieces of the inputs, and what masks are decided by, which is computed of them."""
        summaries = compiled.summaries.of({node: block.values for node, block in arrays.items()}, self.of)
        return {**arrays, **{node: Block.whole(array) for node, array in summaries.items()}}

    def shape(self, compiled: "Compiled", part: Part) -> tuple[int, ...]:
        """Lengths of the states' axes for a part: places along the batch, and blocks of rows."""
        first, stop = part.rows
        assert first % compiled.block_rows == 0
        return (*(stop - first for first, stop in part.batch), -(-(stop - first) // compiled.block_rows))

    def empty(self, compiled: "Compiled", part: Part, splits: int = 1) -> Values:
        """States of no columns: an axis of splits, those of `shape`, and one of numbers."""
        return empty_states(compiled.held, (splits, *self.shape(compiled, part)))

    def stream(
        self,
        compiled: "Compiled",
        arrays: Mapping[Node, Block],
        part: Part,
        splits: Splits,
        first_split: int,
        columns: Range,
        states: Values,
        *,
        divided: bool,
    ) -> Values:
        """Go on with the states of some splits over what a range of columns has of them.

        Args:
            compiled: The code of `Stage.STREAM`.
            arrays: Pieces of what it reads, which hold all that the part and the columns need.
            part: Rows and places.
            splits: The splits of the whole problem.
            first_split: The number of the split that the first states are of.
            columns: The range. It begins and ends where a block does, or at an end of the columns.
            states: As `empty` makes them, or as they were left; changed.
            divided: Whether other calls, or other splits, are about other columns of the same rows.

        Returns:
            Of which places and blocks of rows the results are in doubt, as bytes.
        """
        numbers: dict[Any, int] = {
            "first_split": first_split,
            "split": splits.size,
            "last_split": splits.count - 1,
            "first_column": columns[0],
            "stop_column": columns[1],
            "divided": int(divided),
        }
        doubts = np.zeros(states.shape[:-1], np.uint8)
        self._run(compiled, self.with_summaries(compiled, arrays), (), part, states, doubts, numbers)
        return np.asarray(doubts.any(axis=0)).astype(np.uint8)

    def finish(self, arrays: Mapping[Node, Block], part: Part, states: Values, results: Sequence[Block]) -> Values:
        """Make results of states of all columns.

        Args:
            arrays: Pieces of what results are made of beside states: rows of the part, tables.
            part: Rows and places.
            states: Those of all columns: the axes of `shape`, and one of numbers.
            results: Where the results go, in the order of the sweep's.

        Returns:
            Of which places and blocks of rows the results are in doubt, as bytes.
        """
        wanted = {each.attribute for each in wanted_loads(self.kernel, Stage.FINISH)}
        there = {node: block for node, block in arrays.items() if node in wanted}
        compiled = self.compiled(Stage.FINISH, there)
        doubts = np.zeros(states.shape[:-1], np.uint8)
        self._run(compiled, there, results, part, aligned(states), doubts, {})
        return doubts

    def _run(
        self,
        compiled: "Compiled",
        arrays: Mapping[Node, Block],
        results: Sequence[Block],
        part: Part,
        states: Values,
        doubts: Values,
        numbers: Mapping[Any, int],
    ) -> None:
        sweep = self.sweep
        sizes: dict[Any, int] = {
            **numbers,
            **slots_of_places(part),
            "tasks": math.prod(states.shape[:-1]),
            "blocks": states.shape[-2],
            "rows": int(self.of(sweep.rows.length)),
            "columns": int(self.of(sweep.columns.length)),
            "first_block": part.rows[0] // compiled.block_rows,
            DOUBTS: address_of(doubts),
            STATES: address_of(states),
        }
        self.enter(compiled, arrays, results, sizes, keep=(states, doubts))

    def enter(
        self,
        compiled: "Compiled",
        arrays: Mapping[Node, Block],
        results: Sequence[Block],
        sizes: Mapping[Any, int],
        *,
        written: Sequence[Values] | None = None,
        keep: tuple[Any, ...] = (),
    ) -> None:
        """Run code on pieces of arrays: all of them are given as if they were whole.

        Args:
            compiled: The code.
            arrays: Pieces of what it reads.
            results: Where the results go, in the order of the sweep's.
            sizes: What else it is given, ``tasks`` among it.
            written: Results as arrays of their axes, where pieces have more of them.
            keep: What must not go before it ends.
        """
        layout = compiled.layout
        blocks = {node: self.given(node, arrays) for node in layout.inputs}
        values = {node: block.values for node, block in blocks.items()}
        written = [block.values for block in results] if written is None else written
        descriptor = layout.bind(values, written, {**sizes, **layout.lengths(self.of)})
        for role, pieces in (("in", blocks.items()), ("out", zip(layout.outputs, results, strict=True))):
            for node, block in pieces:
                descriptor[layout.place((role, node, "pointer")) // 8] -= block.shift
        workers.run(
            compiled.module.address("sweep"),
            descriptor.ctypes.data,
            sizes["tasks"],
            compiled.scratch_bytes,
            self.settings.threads,
            keep=(descriptor, blocks, results, compiled.module, *keep),
        )


def slots_of_places(part: Part) -> dict[Any, int]:
    """What a kernel is given of a part's places: how many along each batch axis, and the first."""
    slots: dict[Any, int] = {}
    for number, (first, stop) in enumerate(part.batch):
        slots |= {f"batch{number}": stop - first, f"first_batch{number}": first}
    return slots


def run_splits(
    kernel: "SweepKernel", held: Mapping[Node, Values], settings: Settings, bound: "Bound | None", splits: Splits
) -> tuple[list[Values], int, Values]:
    """A sweep split along its columns, in memory: results, rows of a task, and of which tasks they are in doubt."""
    runner = Runner(kernel, settings, bound)
    arrays = {node: Block.whole(array) for node, array in held.items()}
    compiled = runner.compiled(Stage.STREAM, arrays)
    part = whole_part(kernel, runner.of)
    states = runner.empty(compiled, part, splits.count)
    doubts = runner.stream(compiled, arrays, part, splits, 0, (0, splits.columns), states, divided=True)
    ((_, state),) = merged_run(compiled.held, states, 0, splits.count).items()
    results = [np.empty(runner.of(output.node.shape), np.float32) for output in kernel.sweep.outputs]
    doubts |= runner.finish(arrays, part, state, [Block.whole(each) for each in results])
    return results, compiled.block_rows, doubts.reshape(-1)


def _unchanged(value: Any) -> Any:
    return value
