"""Blocks of what a sweep reads, one range of columns ahead of what is computed.

What is mapped is only brought into memory ahead, and read where it lies, when its turn comes: its files are looked at
right before. What is decoded or widened is made by as many threads as compute, in pieces. All else is read by one
thread.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np

from .blocks import is_mapped
from .boxes import Box, inside, shape_of, starts_of
from .finite import is_finite
from .ir import Node, Values
from .part_runs import Block, Range
from .streamed import Streamed

Boxes = Callable[[Range], Mapping[Node, Box]]


class Reading:
    """Reads a range of columns while another one is computed. Used in ``with``.

    Args:
        inputs: What is read.
        boxes: What of each input a range of columns needs.
        threads: How many may decode at once.
        looked_at: Inputs that are looked at for what is not finite.
    """

    def __init__(
        self, inputs: Sequence[Streamed], boxes: Boxes, threads: int, looked_at: Collection[Node] = ()
    ) -> None:
        self.copied = [each for each in inputs if not each.is_view]
        self._views = [each for each in inputs if each.is_view]
        self._boxes, self._looked_at = boxes, looked_at
        # Those that hold something that is not finite, as far as they have been read.
        self.accused: set[Node] = set()
        self._reader = ThreadPoolExecutor(1, "attngraph-reader")
        self._decoders = ThreadPoolExecutor(threads, "attngraph-decoder")  # without work it has no threads
        self._made: dict[Node, Values | Future[Values]] = {}
        self._jobs: list[Future[Any]] = []
        self._rooms: dict[Node, list[Values]] = {}

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for pool in (self._decoders, self._reader):
            pool.shutdown(cancel_futures=error is not None)

    def begin(self, columns: Range) -> None:
        """Begin with a range; the one before must have been taken."""
        boxes = self._boxes(columns)
        for each in self._views:
            self._jobs.append(self._reader.submit(self._fetched, each, boxes[each.node]))
        divided = [each for each in self.copied if each.is_divided]
        for each in self.copied:
            if each not in divided:
                self._made[each.node] = self._reader.submit(self._read, each, boxes[each.node])
        for each in divided:
            box = boxes[each.node]
            out = self._made[each.node] = self._room(each, shape_of(box))
            for piece in each.pieces(box):
                self._jobs.append(self._decoders.submit(self._read_into, each, piece, box, out))

    def _room(self, each: Streamed, shape: Sequence[int]) -> Values:
        """Room for a block: that of the block before the last one, which is done with; new pages take their time."""
        size, dtype = math.prod(shape), each.node.dtype
        rooms = self._rooms.setdefault(each.node, [])
        if len(rooms) == 2:
            rooms.reverse()
        else:
            rooms.insert(0, np.empty(size, dtype))
        if len(rooms[0]) < size:
            rooms[0] = np.empty(size, dtype)
        return rooms[0][:size].reshape(shape)

    def taken(self) -> dict[Node, Values]:
        """What was begun with, of all that is copied, when it is there; good until the next but one is begun with.

        Raises:
            StoreError: If something could not be read.
        """
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.result()
        made, self._made = self._made, {}
        return {node: each.result() if isinstance(each, Future) else each for node, each in made.items()}

    def views(self, columns: Range) -> dict[Node, Block]:
        """A range of columns of all that is read where it lies, looked at now.

        Raises:
            StoreError: If a file is not as it should be.
        """
        boxes, found = self._boxes(columns), {}
        for each in self._views:
            box = boxes[each.node]
            found[each.node] = Block.placed(each.read(box), box)
        return found

    def _fetched(self, each: Streamed, box: Box) -> None:
        if is_mapped(each.blocks):
            each.blocks.fetch(box)
        if each.node in self._looked_at:
            self._look(each, each.read(box))

    def _read(self, each: Streamed, box: Box) -> Values:
        value = each.read(box)
        self._look(each, value)
        return value

    def _read_into(self, each: Streamed, piece: Box, box: Box, out: Values) -> None:
        here = out[inside(piece, starts_of(box))]
        each.read_into(piece, here)
        self._look(each, here)

    def _look(self, each: Streamed, value: Values) -> None:
        if each.node in self._looked_at and each.node not in self.accused and not is_finite(value):
            self.accused.add(each.node)
