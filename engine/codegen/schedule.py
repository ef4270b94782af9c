"""Sizes of a kernel's tiles: what is held in registers at once, and how far loops are written out."""

import math
from collections.abc import Set
from dataclasses import dataclass

from ..lengths import estimate
from ..scalar import Axis, Scalar, below
from ..splits import UNIT
from ..sweep import Sweep
from .target import Target


@dataclass(frozen=True)
class Schedule:
    """Sizes of a kernel's tiles. They follow from the problem's shape and the target alone.

    Attributes:
        vectors: Vectors of rows in a block.
        columns: Columns contracted at once.
        width: Elements of a vector-valued accumulator computed at once.
        block: Columns of a block, between two rescalings.
        unroll: Steps of a contraction written out in its loop.
        together: Columns whose weights are computed in one round of their loop: chains of
            instructions that do not wait for each other.
        summed: Columns added to an accumulator in one round of its loop.
        at_once: Vectors of rows contracted at once; all of a block's if None.
    """

    vectors: int
    columns: int
    width: int
    block: int = 128
    unroll: int = 4
    together: int = 4
    summed: int = 4
    at_once: int | None = None

    @property
    def contracted(self) -> int:
        """Vectors of rows contracted at once."""
        return self.at_once or self.vectors

    @property
    def strip(self) -> int:
        """Columns that are tested for being empty together: a whole number of groups, and a part of a block."""
        strip = self.columns * -(-_LEAST_STRIP // self.columns)
        return strip if self.block % strip == 0 else self.block


# Columns of a strip at least: fewer are hardly worth a test.
_LEAST_STRIP = 16
# Rows and tasks from which on a block of several vectors of rows pays: it reads columns a fourth as often, and
# there must be enough blocks left for every thread. Shorter ones end with less of a block unused.
_MANY_ROWS, _MANY_TASKS = 1024, 64
# What share of the blocks of fewer rows has to be used.
_LEAST_USED = 0.9


def schedule_for(target: Target, sweep: Sweep, *, is_narrow: bool = False) -> Schedule:
    """Tiles that fill the target's registers, for a long or a short sweep.

    Args:
        target: The processor.
        sweep: The sweep.
        is_narrow: Whether rows may see few columns: then small blocks of rows leave out more.
    """
    if not target.has_fma:  # a product takes a register of its own before it is added
        return Schedule(4, 2, 2, together=1)
    if target.registers < 32:  # a block of which 6 columns, a strip and each loop's rounds are whole parts
        return Schedule(2, 6, 6, block=144)
    if not target.has_avx512:
        return Schedule(4, 4, 4, together=1)
    if is_narrow or not _is_long(sweep, 4 * target.lanes("float32")):
        return Schedule(1, 16, 16)
    if not sweep.adds_up and any(map(_is_of_differences, _contractions(sweep))):
        return Schedule(4, 16, 4, together=1, at_once=1)  # a difference takes a register of its own for each vector
    return Schedule(4, 4, 4, together=1)


def is_product(contraction: Scalar, pair: Set[Axis]) -> bool:
    """Whether it sums products of what a row and what a column brings."""
    (body,) = contraction.args
    return body.op == "multiply" and not any(pair <= each.axes for each in body.args)


def _is_of_differences(contraction: Scalar) -> bool:
    """Whether it sums squares of differences: what takes more operations fills the processor as well in any tile."""
    (body,) = contraction.args
    sides = body.args * 2 if body.op == "square" else body.args
    return body.op in ("square", "multiply") and sides[0] is sides[1] and sides[0].op == "subtract"


def _contractions(sweep: Sweep) -> list[Scalar]:
    tiles = [*sweep.groups, *(each.weight for each in sweep.accumulators)]
    return [each for each in below(tiles) if each.op == "reduce" and sweep.pair <= each.axes]


def _is_long(sweep: Sweep, block_rows: int) -> bool:
    """Whether large blocks of rows leave enough tasks, and little of a block unused."""
    rows, columns = estimate(sweep.rows.length), estimate(sweep.columns.length)
    batch = math.prod(estimate(axis.length) for axis in sweep.batch)
    if rows >= _MANY_ROWS:
        return bool(batch * rows >= _MANY_TASKS * block_rows)
    # Of few rows and many columns, splits of the columns are the tasks.
    blocks, splits = -(-rows // block_rows), 1 if sweep.adds_up else columns // UNIT
    return bool(blocks * block_rows * _LEAST_USED <= rows and batch * blocks * splits >= _MANY_TASKS)
