"""Pieces of what a sweep reads, made in the thread that computes with them, one after the other in the same room."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from .boxes import Box, inside, shape_of, starts_of
from .finite import is_finite
from .ir import Node, Values
from .part_runs import Block, Range
from .streamed import Streamed

Boxes = Callable[[Range], Mapping[Node, Box]]


class OwnReading:
    """Reads ranges of columns for one thread, each behind what is left of the one before.

    Args:
        inputs: What is read.
        looked_at: Inputs that are looked at for what is not finite.
    """

    def __init__(self, inputs: Sequence[Streamed], looked_at: Collection[Node] = ()) -> None:
        self._copied = [each for each in inputs if not each.is_view]
        self._views = [each for each in inputs if each.is_view]
        self._looked_at = looked_at
        # Those that hold something that is not finite, as far as they have been read.
        self.accused: set[Node] = set()
        self._rooms: dict[Node, Values] = {}
        self._there: dict[Node, Values] = {}

    def begin(self, boxes: Mapping[Node, Box]) -> None:
        """See that there is room for pieces like these; what was there is no more."""
        for each in self._copied:
            shape = shape_of(boxes[each.node])
            room = self._rooms.get(each.node)
            if room is None or room.size < math.prod(shape):
                room = self._rooms[each.node] = np.empty(math.prod(shape), each.node.dtype)
            self._there[each.node] = room[: math.prod(shape)].reshape(shape)

    def pieces(self, boxes: Mapping[Node, Box], held: int) -> dict[Node, Block]:
        """Columns of all inputs, of which the first ones are there already; good until the next ones are read.

        Args:
            boxes: Where they are in each input.
            held: How many `keep` has kept.

        Raises:
            StoreError: If something cannot be read.
        """
        found = {}
        for each in self._copied:
            box, axis = boxes[each.node], each.axis
            here = self._there[each.node][_along(axis, 0, box[axis].stop - box[axis].start)]
            fresh = (*box[:axis], slice(box[axis].start + held, box[axis].stop), *box[axis + 1 :])
            for piece in each.pieces(fresh):
                each.read_into(piece, here[inside(piece, starts_of(box))])
            self._look(each, here[_along(axis, held, None)])
            found[each.node] = Block.placed(here, box)
        for each in self._views:
            found[each.node] = Block.placed(each.read(boxes[each.node]), boxes[each.node])
            self._look(each, found[each.node].values)
        return found

    def keep(self, first: int, stop: int) -> None:
        """Bring what is left of the columns, by their places among those that are there, to the front."""
        for each in self._copied if first < stop else ():
            there = self._there[each.node]
            there[_along(each.axis, 0, stop - first)] = there[_along(each.axis, first, stop)]

    def _look(self, each: Streamed, value: Values) -> None:
        if each.node in self._looked_at and each.node not in self.accused and not is_finite(value):
            self.accused.add(each.node)


def _along(axis: int, first: int, stop: int | None) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(first, stop))
