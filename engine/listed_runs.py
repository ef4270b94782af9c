"""Runs of columns that blocks of rows see, made of lists by NumPy once a call.

All work is in proportion to rows, columns, and entries of the lists: there is never a place for a pair of both.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from .ir import Values
from .passes.listed import Listed
from .scalar import Axis, Scalar
from .sweep import Sweep

Evaluate = Callable[[Scalar, Mapping[Axis, Values]], Values]
# One bit of an entry says whether a row sees it.
MOST_ROWS = 64


class _Stretches(NamedTuple):
    """Neighbouring rows, or columns, for which a number is the same."""

    first: Values
    stop: Values
    number: Values


def runs_of(
    listed: Listed, sweep: Sweep, starts: Values, indices: Values, block_rows: int, length_of: Callable[[int], int],
    evaluate: Evaluate,
) -> tuple[Values, Values]:  # fmt: skip
    """The arrays that `Listed.begins` and `Listed.runs` stand for.

    Args:
        listed: The condition.
        sweep: Its sweep.
        starts: Where lists begin.
        indices: What they hold.
        block_rows: Rows of a block, `MOST_ROWS` at most.
        length_of: The lengths of axes in this call.
        evaluate: The values of an expression at places of its axes.

    Returns:
        (places of the batch…, blocks of rows + 1), and (runs, 3), both int64.
    """
    assert block_rows <= MOST_ROWS
    is_of_rows = sweep.columns not in listed.which.axes
    own, other = (sweep.rows, sweep.columns) if is_of_rows else (sweep.columns, sweep.rows)
    which, value = (_along(each, axis, listed.batch, length_of, evaluate)
                    for each, axis in ((listed.which, own), (listed.value, other)))  # fmt: skip
    shape = tuple(length_of(axis.length) for axis in listed.batch)
    blocks = -(-length_of(sweep.rows.length) // block_rows)
    begins, found, total = np.zeros((*shape, blocks + 1), np.int64), [], 0
    for place in np.ndindex(*shape):
        lists, values = _stretches(which[place]), _stretches(value[place])
        one, another = _entries(lists, values, starts, indices)
        rows, columns = (lists, values) if is_of_rows else (values, lists)
        pairs = (one, another) if is_of_rows else (another, one)
        of_block, runs = _runs(rows, columns, pairs, blocks, block_rows)
        begins[place] = total + np.searchsorted(of_block, np.arange(blocks + 1))
        total += len(runs)
        found.append(runs)
    # Somewhere must lie what nobody reads.
    return begins, np.concatenate([*found, np.zeros((1, 3), np.int64)])


def _along(
    scalar: Scalar, axis: Axis, batch: tuple[Axis, ...], length_of: Callable[[int], int], evaluate: Evaluate
) -> Values:
    """The values of an expression: (batch…, places of the axis)."""
    axes = (*batch, axis)
    lengths = tuple(length_of(each.length) for each in axes)
    grid = np.ogrid[tuple(slice(length) for length in lengths)]
    values = evaluate(scalar, dict(zip(axes, grid, strict=True)))
    return np.broadcast_to(values, lengths)


def _stretches(numbers: Values) -> _Stretches:
    edges = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    first = np.concatenate([np.zeros(min(len(numbers), 1), np.int64), edges])
    return _Stretches(first, np.append(first[1:], len(numbers)), numbers[first])


def _entries(lists: _Stretches, values: _Stretches, starts: Values, indices: Values) -> tuple[Values, Values]:
    """Pairs of a stretch of lists, and a stretch of values that stand in its list."""
    count = len(starts) - 1
    exists = (lists.number >= 0) & (lists.number < count)
    number = np.clip(lists.number, 0, max(count - 1, 0))
    sizes = np.where(exists, starts[number + 1] - starts[number], 0) if count else np.zeros(len(number), np.int64)
    owner, at = _spread(sizes)
    entries = indices[starts[number[owner]] + at]
    order = np.argsort(values.number, kind="stable")
    known = values.number[order]
    low = np.searchsorted(known, entries, "left")
    pair, at = _spread(np.searchsorted(known, entries, "right") - low)
    return owner[pair], order[low[pair] + at]


def _spread(sizes: Values) -> tuple[Values, Values]:
    """For things that are repeated so many times: which one it is, and the number of the repetition."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner]


def _runs(
    rows: _Stretches, columns: _Stretches, pairs: tuple[Values, Values], blocks: int, block_rows: int
) -> tuple[Values, Values]:
    """The block of rows of each run, in order, and the runs."""
    of_rows, of_columns = pairs
    # Rows behind the last one see what that one sees: a block is then full where all of its rows are.
    stop = np.where(np.arange(len(rows.stop)) == len(rows.stop) - 1, blocks * block_rows, rows.stop)
    low, high = rows.first[of_rows], stop[of_rows]
    pair, at = _spread((high - 1) // block_rows - low // block_rows + 1)
    block = low[pair] // block_rows + at
    bits = _bits(low[pair] - block * block_rows, high[pair] - block * block_rows, block_rows)
    # One entry for each block of rows and stretch of columns, of all rows that see it.
    key = block * len(columns.first) + of_columns[pair]
    order = np.argsort(key, kind="stable")
    key = key[order]
    edges = np.flatnonzero(np.diff(key, prepend=-1))
    block, column = key[edges] // max(len(columns.first), 1), key[edges] % max(len(columns.first), 1)
    bits = np.bitwise_or.reduceat(bits[order], edges) if len(edges) else bits[:0]
    first, end = columns.first[column], columns.stop[column]
    # Neighbours that the same rows see are one run.
    joins = (block[1:] == block[:-1]) & (bits[1:] == bits[:-1]) & (first[1:] == end[:-1])
    begin = np.concatenate([np.ones(min(len(block), 1), np.bool_), ~joins])
    last = np.append(begin[1:], True)[: len(begin)]
    return block[begin], np.stack([first[begin], end[last], bits[begin]], axis=1)


def _bits(low: Values, high: Values, most: int) -> Values:
    """The bits of rows from ``low`` to before ``high``, which may lie outside of the block."""
    every = np.uint64(2**64 - 1)

    def below(count: Values) -> Values:
        count = np.clip(count, 0, most).astype(np.uint64)
        return np.where(count == 0, np.uint64(0), every >> (np.uint64(64) - np.maximum(count, np.uint64(1))))

    return np.asarray(below(high) & ~below(low)).view(np.int64)
