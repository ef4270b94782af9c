"""What a predicate of positions lets through, block by block, without an array of all positions.

Blocks are told empty or full by the bounds of `passes.predicate`, the ones that kernels leave out tiles by; only in a
block that these leave open are positions looked at.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .block_states import EMPTY, FULL, PARTIAL, States
from .immediate import evaluate_now
from .ir import Node, UnfusableError, Values
from .kernel import Elements
from .passes.bound_rules import Truth
from .passes.predicate import Bounds, Corners, is_small
from .scalar import Axis, Scalar
from .summaries import evaluate, summarize
from .types import BOOL

_OPEN = -1
# Positions that are looked at together.
_MOST_POSITIONS = 1 << 20


class _Predicate(NamedTuple):
    """A predicate as an expression of indices, with what it loads."""

    elements: Elements
    scalar: Scalar
    axes: tuple[Axis, ...]
    arrays: Mapping[Node, Values]


def states_of(predicate: Node, block: tuple[int, int]) -> States | None:
    """What `block_states.block_states` tells."""
    try:
        found = _lowered(predicate)
        states = _decided(found, block)
        if 0 not in states.shape:
            for places in _in_parts(np.argwhere(states == _OPEN), block):
                states[tuple(places.T)] = _looked_at(found, places, block)
    except UnfusableError:
        return None
    return states


def _lowered(predicate: Node) -> _Predicate:
    elements = Elements(lambda node: node.role in ("leaf", "opaque", "placement", "reduction", "contraction"))
    axes = tuple(Axis(name, length) for name, length in zip(("b", "h", "i", "j"), predicate.shape, strict=True))
    scalar = elements.element(predicate, [elements.index(axis) for axis in axes])
    return _Predicate(elements, scalar, axes, _loaded(scalar))


def _loaded(scalar: Scalar) -> dict[Node, Values]:
    stack, nodes = [scalar], dict[Node, None]()
    seen = {scalar}
    while stack:
        each = stack.pop()
        if each.op == "load":
            nodes[each.attribute] = None
        new = [one for one in each.args if one not in seen]
        seen.update(new)
        stack += new
    return dict(zip(nodes, evaluate_now(list(nodes)), strict=True)) if nodes else {}


def _decided(predicate: _Predicate, block: tuple[int, int]) -> States:
    """The states that bounds tell, `_OPEN` for the others."""
    batch, rows, columns = predicate.axes[:2], predicate.axes[2], predicate.axes[3]
    corners = Corners.of(rows, columns)
    bounds = Bounds(predicate.elements, corners, rows, columns, batch, reads=True)
    truth = bounds.truth(predicate.scalar)
    if not all(is_small(predicate.arrays[node]) for node in bounds.guarded):
        bounds = Bounds(predicate.elements, corners, rows, columns, batch, reads=False)
        truth = bounds.truth(predicate.scalar)
    arrays = dict(predicate.arrays)
    for summary in bounds.summaries:
        size = block[0] if summary.axis is rows else block[1]
        arrays[summary.low], arrays[summary.high] = summarize(summary, arrays, [size], int)
    return _from_truth(truth, arrays, _corner_places(predicate, corners, block))


def _corner_places(predicate: _Predicate, corners: Corners, block: tuple[int, int]) -> dict[Axis, Values]:
    """Where blocks begin and end, in shapes that broadcast to (batch, heads, blocks, blocks)."""
    places: dict[Axis, Values] = {}
    for number, axis in enumerate(predicate.axes[:2]):
        places[axis] = _along(np.arange(axis.length), number)
    for side, (axis, size) in enumerate(zip(predicate.axes[2:], block, strict=True)):
        first, last, stretch = corners[3 * side : 3 * side + 3]
        starts = np.arange(0, axis.length, size)
        places[first] = _along(starts, 2 + side)
        places[last] = _along(np.minimum(starts + (size - 1), axis.length - 1), 2 + side)
        places[stretch] = _along(np.arange(len(starts)), 2 + side)
    return places


def _along(values: Values, place: int) -> Values:
    return values.reshape([-1 if each == place else 1 for each in range(4)])


def _from_truth(truth: Truth, arrays: Mapping[Node, Values], places: Mapping[Axis, Values]) -> States:
    shape = np.broadcast_shapes(*(each.shape for each in places.values()))
    everywhere, nowhere = evaluate(truth, arrays, places)
    states = np.full(shape, _OPEN, np.int8)
    states[np.broadcast_to(everywhere, shape)] = FULL
    states[np.broadcast_to(nowhere, shape)] = EMPTY
    return states


def _in_parts(places: Values, block: tuple[int, int]) -> Iterator[Values]:
    step = max(1, _MOST_POSITIONS // (block[0] * block[1]))
    return (places[start : start + step] for start in range(0, len(places), step))


def _looked_at(predicate: _Predicate, places: Values, block: tuple[int, int]) -> States:
    """The states of some blocks, from every position in them: of large blocks a part at a time."""
    some, every = np.zeros(len(places), np.bool_), np.ones(len(places), np.bool_)
    width = min(block[1], _MOST_POSITIONS)
    height = min(block[0], max(1, _MOST_POSITIONS // width))
    for row, column in itertools.product(range(0, block[0], height), range(0, block[1], width)):
        part = range(row, min(row + height, block[0])), range(column, min(column + width, block[1]))
        visible, inside = _positions(predicate, places, block, part)
        some |= (visible & inside).any((1, 2))
        every &= (visible | ~inside).all((1, 2))
    return np.where(every, FULL, np.where(some, PARTIAL, EMPTY)).astype(np.int8)


def _positions(
    predicate: _Predicate, places: Values, block: tuple[int, int], part: tuple[range, range]
) -> tuple[Values, Values]:
    """Of some rows and columns of blocks: which are visible, and which there are at all."""
    at: dict[Axis, Values] = {}
    for number, axis in enumerate(predicate.axes[:2]):
        at[axis] = places[:, number, None, None]
    inside = np.ones((len(places), 1, 1), np.bool_)
    for side, (axis, size) in enumerate(zip(predicate.axes[2:], block, strict=True)):
        steps = np.arange(part[side].start, part[side].stop).reshape((1, -1, 1) if side == 0 else (1, 1, -1))
        along = places[:, 2 + side, None, None] * size + steps
        inside = inside & (along < axis.length)
        at[axis] = np.minimum(along, axis.length - 1)
    (visible,) = evaluate([predicate.scalar], predicate.arrays, at)
    assert visible.dtype == BOOL
    return visible, inside
