"""Parts of sweeps whose results add up over rows or places: gradients by keys and values, by tables, of shared heads.

Such a sweep runs whole within a task: a stretch of rows, at one place along the batch axes over which no result sums.
So it may be cut along these axes anywhere, and along rows between stretches. What several stretches add to one result
is kept apart, and added up in the order of the stretches, as in an undivided run; how many there are follows from the
whole problem.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .boxes import inside, shape_of, starts_of
from .codegen.layout import DOUBTS, address_of
from .codegen.state import Stage
from .errors import ArgumentError
from .ir import Node, Values
from .kernels import are_shared, sizes_of, total_of
from .part_boxes import Boxes
from .part_runs import Block, Part, Runner, check_part, slots_of_places
from .part_states import Finished, largest_of
from .sweep import Output

if TYPE_CHECKING:
    from .kernels import Compiled


class Stretches(NamedTuple):
    """How a sweep whose results add up may be cut.

    Attributes:
        batch: Lengths of its batch axes.
        apart: Which of them may be cut: those over which no result sums.
        rows: How many rows.
        row_unit: Rows of a stretch: they are cut at multiples of this.
    """

    batch: tuple[int, ...]
    apart: tuple[bool, ...]
    rows: int
    row_unit: int


@dataclass(frozen=True)
class Sums:
    """What some stretches of rows have left of a part. It pickles.

    Attributes:
        part: Rows and places.
        row_unit: Rows of a stretch.
        results: For each result an array of the part's shape, or, where stretches add to the same places, one of such
            arrays, one behind the other.
        doubts: Bytes over places and stretches: of which the results are in doubt.
        sizes: For inputs that have to be watched, by their numbers, the largest magnitude seen.
    """

    part: Part
    row_unit: int
    results: tuple[Values, ...]
    doubts: Values
    sizes: Mapping[int, float]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(each.nbytes for each in self.results) + self.doubts.nbytes


class SumRunner:
    """Runs a sweep whose results add up on parts of it.

    Args:
        runner: What finds its code.
        boxes: What parts of it read and write.
    """

    def __init__(self, runner: Runner, boxes: Boxes) -> None:
        self.runner, self.boxes = runner, boxes
        self.kernel, self.sweep, self.of = runner.kernel, runner.sweep, runner.of

    @property
    def stretches(self) -> Stretches:
        """How the sweep may be cut."""
        sweep = self.sweep
        lengths = tuple(int(self.of(axis.length)) for axis in sweep.batch)
        summed = {*sweep.streamed, *sweep.looped}
        *_, block_rows = self.kernel.schedule(self.runner.settings)
        apart = tuple(
            axis not in summed and (axis.length == 1 or all(axis in each.axes for each in sweep.outputs))
            for axis in sweep.batch
        )
        rows = int(self.of(sweep.rows.length))
        return Stretches(lengths, apart, rows, int(sizes_of(sweep, block_rows, self.of)["chunk"]))

    def check(self, part: Part) -> None:
        """Raise ArgumentError for what is no part of the sweep."""
        stretches = self.stretches
        check_part(part, stretches.batch, stretches.rows, stretches.row_unit)
        for each, length, apart in zip(part.batch, stretches.batch, stretches.apart, strict=True):
            if not apart and each != (0, length):
                raise ArgumentError(f"parts: places {list(each)} of an axis of {length} that results sum over")

    def run(self, blocks: Mapping[Node, Block], part: Part) -> tuple[tuple[Values, ...], Values, int]:
        """What is left of a part, of which of its tasks that is in doubt, and the rows of a stretch."""
        compiled = self.runner.compiled(Stage.WHOLE, blocks)
        whole = sizes_of(self.sweep, compiled.block_rows, self.of)
        unit = int(whole["chunk"])
        rows = int(whole["rows"])
        if part.rows != (0, rows) and part.rows[0] % unit:
            raise ArgumentError(f"parts: with these arrays, stretches of rows are of {unit}")
        first, stop = part.rows[0] // unit, -(-part.rows[1] // unit)
        summed = {*self.sweep.streamed, *self.sweep.looped}
        batch = zip(self.sweep.batch, part.batch, strict=True)
        places = [1 if axis in summed else end - start for axis, (start, end) in batch]
        doubts = np.zeros((*places, stop - first), np.uint8)
        sizes = {**whole, **slots_of_places(part), "tasks": doubts.size, "blocks": stop - first, "first_block": first}
        rooms = [self._room(number, part, first, stop, int(whole["blocks"])) for number in range(len(self._outputs))]
        self._enter(compiled, blocks, rooms, {**sizes, DOUBTS: address_of(doubts)}, doubts)
        return tuple(room.values for room in rooms), doubts, unit

    @property
    def _outputs(self) -> Sequence[Output]:
        return self.sweep.outputs

    def _is_apart(self, number: int, stretches: int) -> bool:
        """Whether each of several stretches has a result of its own."""
        return stretches > 1 and are_shared(self._outputs[number], self.sweep)

    def _room(self, number: int, part: Part, first: int, stop: int, stretches: int) -> Block:
        output, box = self._outputs[number], self.boxes.written(number, part)
        shape, starts = shape_of(box), starts_of(box)
        if self._is_apart(number, stretches):
            shape, starts = (stop - first, *shape), (first, *starts)
        make = np.empty if output.of_pairs is None else np.zeros
        return Block(make(shape, np.float32), starts)

    def _enter(
        self,
        compiled: "Compiled",
        blocks: Mapping[Node, Block],
        rooms: Sequence[Block],
        sizes: dict[Any, int],
        doubts: Values,
    ) -> None:
        written = []
        for number, (output, room) in enumerate(zip(self._outputs, rooms, strict=True)):
            is_apart = room.values.ndim > len(output.node.shape)
            written.append(room.values[0] if is_apart else room.values)
            if not output.is_of_rows:
                sizes["partial", number, "stride"] = room.values.strides[0] if is_apart else 0
        arrays = self.runner.with_summaries(compiled, blocks)
        self.runner.enter(compiled, arrays, rooms, sizes, written=written, keep=(doubts,))

    def add_up(self, sums: Sequence[Sums]) -> Finished:
        """Results of all stretches of the same places.

        Raises:
            ArgumentError: If stretches are missing, or there twice, or of different places.
        """
        parts = sorted(sums, key=lambda each: each.part.rows)
        ends = [0, *(end for each in parts for end in each.part.rows), self.stretches.rows]
        if ends[::2] != ends[1::2] or any(each.part.batch != parts[0].part.batch for each in parts):
            raise ArgumentError(f"parts: rows {[list(each.part.rows) for each in parts]} are not all rows of one part")
        whole = parts[0].part._replace(rows=(0, self.stretches.rows))
        doubts = np.concatenate([each.doubts for each in parts], axis=-1)
        if self.runner.overflow(largest_of(each.sizes for each in parts)):
            doubts[...] = 1
        results = [self._whole(number, whole, parts) for number in range(len(self._outputs))]
        return Finished(results, doubts, parts[0].row_unit)

    def _whole(self, number: int, whole: Part, parts: Sequence[Sums]) -> Values:
        pieces = [each.results[number] for each in parts]
        if pieces[0].ndim > len(self._outputs[number].node.shape):
            return total_of([stretch for piece in pieces for stretch in piece])
        if len(pieces) == 1:
            return pieces[0]
        box = self.boxes.written(number, whole)
        result = np.empty(shape_of(box), np.float32)
        for piece, each in zip(pieces, parts, strict=True):
            result[inside(self.boxes.written(number, each.part), starts_of(box))] = piece
        return result
