"""Where a sweep is cut whose results are made piece by piece: where files are, and as seldom as memory allows."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise, product

from .part_runs import Part, Range
from .parts import Division
from .splits import ROW_UNIT


def cut_parts(division: Division, steps: Sequence[int], rows: int | None, fits: Callable[[Part], bool]) -> list[Part]:
    """Parts that are all of the sweep, in the order of its batch axes and rows.

    Args:
        division: How the sweep may be cut.
        steps: For each batch axis, and the rows, the multiples at which parts are best cut: chunks of files.
        rows: The most rows of a part; None for as many as fit.
        fits: Whether there is memory for a part.
    """
    lengths = [*division.batch, division.rows]
    fine = [*(1 for _ in division.batch), min(ROW_UNIT, division.rows)]
    coarse = [min(math.lcm(one, step), length) for one, step, length in zip(fine, steps, lengths, strict=True)]
    unit = coarse if fits(_part(coarse)) else fine
    size = _grown(unit, lengths, rows, fits)
    ranges = [ranges_by(length, n) for n, length in zip(size, lengths, strict=True)]
    return [Part(tuple(each[:-1]), each[-1]) for each in product(*ranges)]


def _grown(unit: Sequence[int], lengths: Sequence[int], rows: int | None, fits: Callable[[Part], bool]) -> list[int]:
    """How long a part is along each axis: multiples of a unit, the innermost grown first.

    An axis is grown where those inside it are whole, or results would not be made in the order in which they lie.
    """
    size = list(unit)
    for place in reversed(range(len(size))):
        most = lengths[place]
        if place == len(size) - 1 and rows is not None:
            most = min(max(rows // unit[place], 1) * unit[place], most)
        step = 1 << (-(-most // unit[place])).bit_length()
        while step:
            tried = [*size[:place], min(size[place] + step * unit[place], most), *size[place + 1 :]]
            if size[place] < tried[place] and fits(_part(tried)):
                size = tried
            step //= 2
        if size[place] < lengths[place]:
            break
    return size


def ranges_by(length: int, size: int) -> tuple[Range, ...]:
    """Ranges of a size, the last one of what is left."""
    return tuple((first, min(first + size, length)) for first in range(0, length, size))


def even_ranges(length: int, count: int, unit: int = 1) -> tuple[Range, ...]:
    """So many ranges of about the same length, each but the last a multiple of a unit; less, if there is less."""
    units = -(-length // unit)
    cuts = [min(length, number * units // count * unit) for number in range(count)] + [length]
    return tuple((first, stop) for first, stop in pairwise(cuts) if first < stop)


def ranges_of_axes(
    lengths: Sequence[int], count: int, may_be_cut: Sequence[bool] | None = None
) -> tuple[tuple[tuple[Range, ...], ...], int]:
    """Axes cut, the first ones first, into so many pieces together, or a few more; and how many more are wanted.

    Args:
        lengths: Those of the axes.
        count: How many pieces.
        may_be_cut: Which of the axes may be; all if None.
    """
    found: list[tuple[Range, ...]] = []
    for length, may in zip(lengths, [True] * len(lengths) if may_be_cut is None else may_be_cut, strict=True):
        number = max(1, min(length, count)) if may else 1
        longest = -(-length // number)
        # As many as there have to be for none to be longer: of the same length, who takes two of them is done no later.
        found.append(even_ranges(length, max(1, -(-length // max(longest, 1)))))
        count = -(-count // number)
    return tuple(found), count


def _part(size: Sequence[int]) -> Part:
    ranges: list[Range] = [(0, n) for n in size]
    return Part(tuple(ranges[:-1]), ranges[-1])
