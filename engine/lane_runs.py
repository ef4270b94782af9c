"""One run of a sweep in lanes (`engine.lanes`), by several threads."""

import threading
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

from .boxes import Box
from .ir import Node
from .lanes import Lane, columns_at_once
from .own_reading import OwnReading
from .part_runs import Part, Range
from .part_states import States, joined_states, largest_of, merged_states
from .parts import Parts
from .progress import Prepared, Progress
from .streamed import Streamed
from .streams import Sizes, Stream


class LaneRun:
    """A run of lanes. Each is gone through by one thread, from its first column to its last.

    Args:
        stream: The sweep, and what of it is read block by block.
        parts: The sweep.
        sizes: The memory of its columns.
        prepare: What the lanes share.
        looked_at: Inputs that are looked at for what is not finite.
    """

    def __init__(
        self, stream: Stream, parts: Parts, sizes: Sizes, prepare: Prepared, looked_at: Collection[Node]
    ) -> None:
        self._inputs, self._sizes, self._prepare, self._looked_at = stream.inputs, sizes, prepare, looked_at
        # A lane's kernels run in the lane's own thread.
        self._parts = Parts(parts.kernel, replace(parts.settings, threads=1), parts.bound)
        self.accused: set[Node] = set()
        self._is_over = threading.Event()

    def states(self, part: Part, lanes: Sequence[Lane], threads: int) -> States:
        """The states of a part that lanes make up.

        Raises:
            StoreError: If something cannot be read.
        """
        waiting = deque(lanes)
        with ThreadPoolExecutor(threads, "attngraph-lane") as pool:
            jobs = [pool.submit(self._worked_off, waiting) for _ in range(threads)]
            try:
                found = [each for job in jobs for each in job.result()]
            finally:
                self._is_over.set()
        ordered = sorted(found, key=lambda each: each.part)
        return joined_states(part, [merged_states(list(each)) for _, each in groupby(ordered, lambda each: each.part)])

    def _worked_off(self, waiting: deque[Lane]) -> list[States]:
        """What one thread does of the lanes that wait."""
        reading, found = OwnReading(self._inputs, self._looked_at), []
        while waiting and not self._is_over.is_set():
            try:
                lane = waiting.popleft()
            except IndexError:
                break
            try:
                states = self._gone_through(lane, reading)
            except BaseException:
                self._is_over.set()
                raise
            found += [] if states is None else [states]
        self.accused |= reading.accused
        return found

    def _gone_through(self, lane: Lane, reading: OwnReading) -> States | None:
        """The states of a lane; None if others have ended the run before."""
        sizes, splits = self._sizes, self._sizes.splits
        at_once = columns_at_once(sizes, self._parts, self._inputs, lane.part)
        progress = Progress(self._parts.runner, lane.part, splits, self._prepare)
        start, last = (splits.first(each) for each in lane.splits)
        boxes = boxes_of(self._parts, self._inputs, lane.part, (start, last))
        reading.begin(self._along(boxes, (0, min(at_once + 2 * sizes.block, splits.columns))))
        largest: dict[int, float] = {}
        there = start
        while start < last:
            if self._is_over.is_set():
                return None
            stop = min((there // at_once + 1) * at_once, last)
            pieces = reading.pieces(self._along(boxes, (start, stop)), there - start)
            end = last if stop == last else max(sizes.end(stop), start)
            if end > start:
                largest = largest_of((largest, self._parts.sizes(pieces)))
                progress.go_on(pieces, (start, end))
                reading.keep(end - start, stop - start)
            start, there = end, stop
        return progress.states(largest)

    def _along(self, boxes: dict[Node, Box], columns: Range) -> dict[Node, Box]:
        """Boxes of other columns."""
        return {
            each.node: (*boxes[each.node][: each.axis], slice(*columns), *boxes[each.node][each.axis + 1 :])
            for each in self._inputs
        }


def boxes_of(parts: Parts, inputs: Sequence[Streamed], part: Part, columns: Range) -> dict[Node, Box]:
    """What a part needs of what is read block by block, of a range of columns."""
    boxes = zip(parts.inputs, parts.needed_columns(part, columns), strict=True)
    nodes = {each.node for each in inputs}
    return {node: box for node, box in boxes if box is not None and node in nodes}
