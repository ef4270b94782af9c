"""A part of a sweep as lanes: each reads its own columns, piece by piece, and goes on with them in the same thread.

What is decoded is computed with while it is in the processor's cache: it never goes to memory, and the room that it is
decoded into is used again for the next piece. That beats reading ahead wherever reading is work for a processor, which
computing would have to share. Lanes are places of the batch that read different pieces, and where there are too few of
them for the threads, ranges of splits. What is computed stays the same to the last bit.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from .boxes import shape_of
from .part_cuts import even_ranges, ranges_by
from .part_runs import Part, Range
from .parts import Parts
from .streamed import Streamed
from .streams import Sizes

# Bytes of the pieces of all inputs that a lane reads at once, where chunks are smaller: they stay in a cache.
_NEAR = 1 << 20
# Lanes for a thread that are enough: when it is done with its own, not much of another one's is left.
_ENOUGH = 4
# How much of the threads' time has to be used, if all lanes take the same.
_LEAST_USED = 0.9
# Lanes of a batch at most: each has something to begin with.
_MOST = 256
# What lanes read together may be so much more than what is read.
_MOST_AGAIN = 1 / 16


class Lane(NamedTuple):
    """Some places of the batch, and some splits.

    Attributes:
        part: All rows of these places.
        splits: The first split, and the one behind the last.
    """

    part: Part
    splits: Range


def columns_at_once(sizes: Sizes, parts: Parts, inputs: Sequence[Streamed], part: Part) -> int:
    """How many columns a lane reads at once."""
    bytes_of_unit = _bytes(parts, inputs, part, sizes.unit)
    return min(sizes.unit * max(1, _NEAR // max(bytes_of_unit, 1)), sizes.splits.columns)


def lanes_of(
    parts: Parts, inputs: Sequence[Streamed], sizes: Sizes, part: Part, threads: int, budget: int | None
) -> list[Lane]:
    """The lanes that a part is cut into; none if it is not to be cut so.

    Args:
        parts: The sweep.
        inputs: What of it is read block by block.
        sizes: Their memory.
        part: Rows and places.
        threads: How many may work at once.
        budget: Bytes that pieces and states may take; None for no limit.
    """
    is_near = all(each.is_view or (each.is_divided and each.is_near) for each in inputs)
    if threads < 2 or not is_near or all(each.is_view for each in inputs):
        return []
    places = _places(parts, inputs, part)
    runs = _runs(sizes, len(places), threads)
    lanes = [Lane(each, run) for run in runs for each in places]
    room = threads * _bytes(parts, inputs, places[0], columns_at_once(sizes, parts, inputs, places[0]) + sizes.block)
    fits = budget is None or room + sizes.least - 2 * sizes.column * sizes.unit <= budget
    return lanes if fits and _used(len(lanes), threads) >= _LEAST_USED else []


def _places(parts: Parts, inputs: Sequence[Streamed], part: Part) -> list[Part]:
    """The part's places, cut as finely as pieces are not read twice for it."""
    found = [part]
    for axis, (first, stop) in enumerate(part.batch):
        for size in range(1, stop - first):
            if len(found) * -(-(stop - first) // size) > _MOST:
                continue
            cut = [(first + one, first + other) for one, other in ranges_by(stop - first, size)]
            here = [part._replace(batch=(*part.batch[:axis], each, *part.batch[axis + 1 :])) for each in cut]
            most = _bytes(parts, inputs, part, 1) * (1 + _MOST_AGAIN)
            # The first one says at once where a size will not do.
            is_likely = len(here) * _bytes(parts, inputs, here[0], 1) <= most
            if is_likely and sum(_bytes(parts, inputs, each, 1) for each in here) <= most:
                found = [
                    each._replace(batch=(*each.batch[:axis], one, *each.batch[axis + 1 :]))
                    for each, one in product(found, cut)
                ]
                break
    return found


def _runs(sizes: Sizes, places: int, threads: int) -> list[Range]:
    """Ranges of splits: as few as keep threads busy. Between two of them a unit may be read twice."""
    splits, most = sizes.splits, int(sizes.splits.columns / sizes.unit * _MOST_AGAIN)
    counts = range(1, max(1, min(splits.count, most)) + 1)
    good = [each for each in counts if _used(places * each, threads) >= _LEAST_USED]
    enough = [each for each in good if places * each >= _ENOUGH * threads]
    return list(even_ranges(splits.count, next(iter([*enough, *good[::-1], 1]))))


def _used(lanes: int, threads: int) -> float:
    """How much of the threads' time is used."""
    return lanes / (-(-lanes // threads) * threads)


def _bytes(parts: Parts, inputs: Sequence[Streamed], part: Part, columns: int) -> int:
    """Bytes of so many columns, as they are stored and as they are computed with."""
    boxes = dict(zip(parts.inputs, parts.needed_columns(part, (0, columns)), strict=True))
    there = ((each, boxes[each.node]) for each in inputs if not each.is_view)
    return sum(math.prod(shape_of(box)) * each.element_bytes for each, box in there if box is not None)
