"""Doubted rows of a part of a sweep, computed again with care: into the part's results, whatever they are pieces of."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .careful_sweep import Doubted, Problem, all_rows, settle
from .ir import Node, Values
from .part_boxes import Boxes
from .part_runs import Block, Part
from .part_states import Finished
from .threads import limited

if TYPE_CHECKING:
    from .kernels import SweepKernel


class Judgement(NamedTuple):
    """What the careful path is told.

    Attributes:
        arrays: All inputs by their nodes, whole, or what is read as they are.
        accused: Inputs that hold something that is not finite, which is an error where it counts.
        final: Nodes from which nothing else is computed.
    """

    arrays: Mapping[Node, Any]
    accused: Collection[Node]
    final: Collection[Node]


def settle_part(
    kernel: "SweepKernel", boxes: Boxes, part: Part, found: Finished, judgement: Judgement, threads: int
) -> bool:
    """Compute doubted rows of a part again, into its results; False if only the interpreter can decide."""
    of: Callable[[Any], Any] = boxes.of
    sweep, fused = kernel.sweep, kernel.fused
    if not fused.is_settled_alone:
        return False
    if sweep.adds_up and part.rows != (0, int(of(sweep.rows.length))):
        return False
    made = {
        output.node: _Placed(Block.placed(result, boxes.written(number, part)), output.node, of)
        for number, (output, result) in enumerate(zip(sweep.outputs, found.results, strict=True))
    }
    doubted = list(_doubted(part, found))
    with limited(threads):
        for one in fused.alone or [sweep]:
            # Every row may have added to a column: all rows of those places are computed again.
            rows = all_rows(one, sweep, doubted, of) if fused.alone else doubted
            problem = Problem(one, judgement.arrays, of, judgement.accused, judgement.final)
            results: Sequence[Any] = [made[output.node] for output in one.outputs]
            if not settle(problem, results, rows):
                return False
    return True


def _doubted(part: Part, found: Finished) -> Iterator[Doubted]:
    rows = np.arange(*part.rows)
    for place in np.ndindex(*found.doubts.shape[:-1]):
        mine = rows[np.repeat(found.doubts[place] != 0, found.block_rows)[: len(rows)]]
        if len(mine):
            yield Doubted(tuple(at + first for at, (first, _) in zip(place, part.batch, strict=True)), mine)


class _Placed:
    """A piece of an array that is written to by indices into the whole one."""

    def __init__(self, block: Block, node: Node, of: Callable[[Any], Any]) -> None:
        self._block, self.shape = block, of(node.shape)

    def __setitem__(self, index: tuple[Any, ...], values: Values) -> None:
        self._block.values[tuple(at - start for at, start in zip(index, self._block.first, strict=True))] = values


class Piece:
    """A piece of an array that is read by indices into the whole one, as the careful path reads.

    Args:
        block: The piece.
        shape: The whole array's.
    """

    def __init__(self, block: Block, shape: tuple[int, ...]) -> None:
        self._block, self.shape, self.dtype = block, shape, block.values.dtype
        self.ndim, self.size = len(shape), int(np.prod(shape, dtype=np.int64))

    def __getitem__(self, index: Any) -> Values:
        at = index if isinstance(index, tuple) else (index,)
        found: Values = self._block.values[tuple(n - start for n, start in zip(at, self._block.first, strict=True))]
        return found
