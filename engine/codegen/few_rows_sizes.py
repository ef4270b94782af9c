"""Sizes of a kernel for few rows."""

from dataclasses import dataclass

from ..scalar import below
from ..sweep import Sweep


@dataclass(frozen=True)
class FewRows:
    """Sizes of a kernel for few rows.

    Attributes:
        block: Columns of a block, between two rescalings.
        single: Whether there is one row, which the code knows.
        rows: Rows of a task at most.
        together: Rows that a column's elements are read for at once, a power of two.
        ahead: Bytes of columns that are asked for before they are needed.
        streamed: Bytes that all tasks bring from which on that is done: less comes from a cache anyway.
    """

    block: int
    single: bool = False
    rows: int = 8
    together: int = 1
    ahead: int = 1 << 14
    streamed: int = 1 << 21


# Rows at once: so many sums, with as many columns as fit into the registers.
_MOST_TOGETHER = 4
# Bytes of a block's columns that are read for several rows, and again for the next accumulator.
_BLOCK_BYTES = 1 << 17
_LONGEST_BLOCK = 512


def few_rows_for(sweep: Sweep) -> FewRows:
    """Blocks of columns that stay in a cache while all rows are taken through them; of a single row, long ones."""
    if sweep.rows.length == 1:
        return FewRows(_LONGEST_BLOCK, single=True)
    tile = [*sweep.groups, *(each.weight for each in sweep.accumulators)]
    widths = [each.attribute[1].length for each in below(tile) if each.op == "reduce"]
    widths += [each.small.length for each in sweep.accumulators if each.small is not None]
    fitting = _BLOCK_BYTES // (4 * max(widths, default=1))
    block = max(64, min(_LONGEST_BLOCK, 1 << (fitting.bit_length() - 1)))
    # One code for any number of rows: those that are left over are taken one by one.
    return FewRows(block=block, together=_MOST_TOGETHER)
