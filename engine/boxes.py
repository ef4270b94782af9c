"""Boxes: pieces of arrays as slices along every axis, each with a start and a stop."""

from collections.abc import Sequence

Box = tuple[slice, ...]


def whole_box(shape: Sequence[int]) -> Box:
    """All of an array."""
    return tuple(slice(0, int(length)) for length in shape)


def shape_of(box: Box) -> tuple[int, ...]:
    """The shape of a piece."""
    return tuple(each.stop - each.start for each in box)


def starts_of(box: Box) -> tuple[int, ...]:
    """Where a piece begins."""
    return tuple(each.start for each in box)


def inside(box: Box, first: Sequence[int]) -> Box:
    """A box of the whole array as one of a piece of it that begins at ``first``."""
    return tuple(slice(each.start - at, each.stop - at) for each, at in zip(box, first, strict=True))


def holds(box: Box, other: Box) -> bool:
    """Whether one piece holds another."""
    return all(a.start <= b.start and b.stop <= a.stop for a, b in zip(box, other, strict=True))


def union(one: Box, other: Box) -> Box:
    """The least piece that holds two."""
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
