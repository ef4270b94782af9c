"""Transposing a square of values that stands in registers, by shuffles of two operands."""

from collections.abc import Callable, Sequence

from .llvm import Function, Value
from .values import bits_of


def transpose(f: Function, rows: Sequence[Value]) -> list[Value]:
    """The columns of as many vectors as they have lanes: log2(lanes) stages of a shuffle for each vector.

    A stage puts the even elements of two vectors into one and the odd ones into the other. After as many
    stages as there are bits in a lane's number, each vector holds a column. Stages first take elements
    inside the 128 bits that x86 shuffles within, then whole groups of 128 bits: each shuffle is one instruction.
    """
    lanes = rows[0].lanes
    if len(rows) != lanes:
        raise TypeError(f"{len(rows)} vectors of {lanes} lanes are no square")
    group = min(lanes, 128 // bits_of(rows[0].element))  # elements that a shuffle moves freely
    vectors = list(rows)
    for first in range(0, lanes, group):
        vectors[first : first + group] = _stages(f, vectors[first : first + group], _within(lanes, group))
    columns: list[Value] = [rows[0]] * lanes
    for place in range(group):
        columns[place::group] = _stages(f, vectors[place::group], _between(lanes, group))
    return columns


def _stages(f: Function, vectors: list[Value], halves: Callable[[int], list[int]]) -> list[Value]:
    """Columns of a square of parts: neighbours exchange parts until there are no neighbours left."""
    if len(vectors) == 1:
        return vectors
    evens = [f.shuffle(a, halves(0), right=b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    odds = [f.shuffle(a, halves(1), right=b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    columns: list[Value] = [vectors[0]] * len(vectors)
    columns[::2], columns[1::2] = _stages(f, evens, halves), _stages(f, odds, halves)
    return columns


def _within(lanes: int, group: int) -> Callable[[int], list[int]]:
    """Lanes of the even or the odd elements of each group of two vectors, group by group."""

    def half(odd: int) -> list[int]:
        chosen: list[int] = []
        for start in range(0, lanes, group):
            for vector in (0, lanes):
                chosen += range(vector + start + odd, vector + start + group, 2)
        return chosen

    return half


def _between(lanes: int, group: int) -> Callable[[int], list[int]]:
    """Lanes of the even or the odd groups of two vectors, first of one, then of the other."""

    def half(odd: int) -> list[int]:
        starts = range(odd * group, 2 * lanes, 2 * group)
        return [start + place for start in starts for place in range(group)]

    return half
