"""From an expression to a dask graph: for each step of its program the tasks that make it."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...engine.boxes import Box, holds, starts_of, whole_box
from ...engine.config import Settings
from ...engine.errors import ArgumentError
from ...engine.ir import Node, Values
from ...engine.leaves import Data
from ...engine.part_sums import Stretches
from ...engine.parts import Division, Part, Parts
from ...engine.passes.fuse import step_inputs, step_nodes
from ...engine.passes.fused import Fused
from . import work
from .cutting import Chunks, Resources, chosen, given, places_chosen
from .job import Job

# Keys of a dask graph.
Key = tuple[Any, ...]


class Held(NamedTuple):
    """An array of the job in memory here: tasks get pieces of it."""

    array: Values


class Made(NamedTuple):
    """What tasks make: pieces, each the array ``number`` of what a key holds.

    Attributes:
        number: Which array of the tasks' results.
        boxes: Where the pieces lie.
        keys: Who makes them.
    """

    number: int
    boxes: tuple[Box, ...]
    keys: tuple[Key, ...]


class Wanted(NamedTuple):
    """How the user wants a result cut: chunk lengths by its axes, keys of a chunk, and what was written."""

    sizes: dict[int, int]
    keys: int | None
    written: Any


class TaskGraph:
    """The tasks of a job.

    Args:
        job: The expression.
        arrays: Arrays of its placeholders.
        resources: Who does the tasks.
        settings: Those of the client: kinds of instructions, the limit.
        wanted: How the last step is to be cut; None for as is best.
    """

    def __init__(
        self,
        job: Job,
        arrays: dict[Node, Values],
        resources: Resources,
        settings: Settings,
        wanted: Wanted | None = None,
    ) -> None:
        self.job, self.resources, self.settings, self.wanted = job, resources, settings, wanted
        self.program = job.program
        # Tasks that are cut otherwise are others.
        self.token = hashlib.sha256(repr((job.token, resources, wanted)).encode()).hexdigest()[:16]
        self.layers: dict[str, dict[Any, Any]] = {}
        self.chunks: dict[int, Chunks] = {}
        self.values: dict[Node, Held | Made] = {node: Held(array) for node, array in arrays.items()}
        self._pieces: dict[Any, Any] = {}
        # One object in the graph, to which all tasks refer: so it travels once to each worker.
        self.job_key: Key = (self._name("expression"), 0)
        self._put("expression", self.job_key, None, job)
        for number, step in enumerate(self.program.plan.steps):
            self._step(number, step)
        self.roots = [self._whole(root) for root in self.program.roots]

    # --- steps

    def _step(self, number: int, step: Any) -> None:
        streams = self.program.streams
        if isinstance(step, Node) and step in self.values:
            return
        if streams is not None and isinstance(step, Node) and step in streams.unread:
            return
        if isinstance(step, Fused):
            parts = Parts(self.program.kernels[number], self.settings)
            division = parts.division
            if division is not None:
                self._cut(number, step, parts, division)
                return
            stretches = parts.stretches
            if stretches is not None and any(stretches.apart) and self.program.stream_of(number) is None:
                self._cut_places(number, step, parts, stretches)
                return
        nodes = step_nodes(step)
        name = "read" if isinstance(step, Data) else nodes[-1].name
        key = (self._name(name), number, 0)
        if isinstance(step, Data):
            self._put(name, key, work.read_leaf, number)
        else:
            inputs = [self._input(node) for node in work.inputs_of_step(self.job, number)]
            self._put(name, key, work.whole_step, number, None, *inputs)
        for place, node in enumerate(nodes):
            self.values[node] = Made(place, (whole_box(node.shape),), (key,))

    def _cut(self, number: int, step: Fused, parts: Parts, division: Division) -> None:
        chunks = self.chunks[number] = self._chunks(number, step, parts, division)
        name, is_streamed = step.nodes[0].name, self.program.stream_of(number) is not None
        parts_of, keys = chunks.parts, []
        threads = None if len(parts_of) * len(chunks.splits) == 1 else 1
        for place, part in enumerate(parts_of):
            if is_streamed and division.splits.count == 1:
                limit = self.resources.share_of(len(parts_of))
                key = self._read_in_blocks(name, place, work.Cut(number, part, (0, 1), threads, limit))
            elif len(chunks.splits) == 1:
                key = self._in_one_go(name, number, place, part, parts, threads)
            else:
                key = self._by_splits(name, number, place, part, parts, chunks.splits)
            keys.append(key)
        self._made(step, parts, parts_of, keys)

    def _cut_places(self, number: int, step: Fused, parts: Parts, stretches: Stretches) -> None:
        """A backward pass: places of the batch over which no result sums are tasks of their own."""
        chunks = self.chunks[number] = places_chosen(step.sweep, stretches, self.resources)
        name, keys = f"{step.nodes[0].name}-backward", []
        parts_of = chunks.parts
        threads = None if len(parts_of) == 1 else 1
        for place, part in enumerate(parts_of):
            key = (self._name(name), number, place)
            pieces = self._brought(number, parts, parts.needed_whole(part))
            self._put(name, key, work.added_up, work.Cut(number, part, (0, 1), threads), *pieces)
            keys.append(key)
        self._made(step, parts, parts_of, keys)

    def _made(self, step: Fused, parts: Parts, parts_of: Sequence[Part], keys: Sequence[Key]) -> None:
        for output, node in enumerate(step.nodes):
            boxes = tuple(parts.result_box(output, part) for part in parts_of)
            self.values[node] = Made(output, boxes, tuple(keys))

    def _read_in_blocks(self, name: str, place: int, cut: work.Cut) -> Key:
        key = (self._name(f"{name}-streamed"), cut.step, place)
        inputs = [self._input(node) for node in work.inputs_of_step(self.job, cut.step)]
        self._put(f"{name}-streamed", key, work.streamed, cut, *inputs)
        return key

    def _in_one_go(self, name: str, number: int, place: int, part: Part, parts: Parts, threads: int | None) -> Key:
        key = (self._name(name), number, place)
        cut = work.Cut(number, part, (0, parts.splits.count), threads)
        pieces = self._brought(number, parts, parts.needed(part, cut.splits))
        at_end = self._brought(number, parts, parts.needed_at_end(part))
        self._put(name, key, work.attended, cut, len(pieces), *pieces, *at_end)
        return key

    def _by_splits(
        self, name: str, number: int, place: int, part: Part, parts: Parts, splits: Sequence[tuple[int, int]]
    ) -> Key:
        states: list[Key] = []
        key: Key
        for chunk, each in enumerate(splits):
            key = (self._name(f"{name}-states"), number, place, chunk)
            pieces = self._brought(number, parts, parts.needed(part, each))
            self._put(f"{name}-states", key, work.states_of, work.Cut(number, part, each, 1), *pieces)
            states.append(key)
        level = 0
        while len(states) > 1:  # a tree, so that no worker is sent the states of all
            groups = [states[first : first + 8] for first in range(0, len(states), 8)]
            states = []
            for group_number, group in enumerate(groups):
                key = (self._name(f"{name}-merged"), number, place, level, group_number)
                self._put(f"{name}-merged", key, work.merged, *map(_reference, group), with_job=False)
                states.append(key)
            level += 1
        key = (self._name(f"{name}-finished"), number, place)
        at_end = self._brought(number, parts, parts.needed_at_end(part))
        cut = work.Cut(number, part, (0, parts.splits.count), 1)
        self._put(f"{name}-finished", key, work.finished, cut, _reference(states[0]), *at_end)
        return key

    def _chunks(self, number: int, step: Fused, parts: Parts, division: Division) -> Chunks:
        if self.wanted is None or step is not self._last_sweep():
            stream = self.program.stream_of(number)
            inputs = () if stream is None else stream.inputs
            return chosen(step.sweep, division, self.resources, sum(each.column_bytes for each in inputs))
        output = step.sweep.outputs[0]
        axes: list[str | int] = []
        for axis in output.axes:
            if axis is step.sweep.rows:
                axes.append("rows")
            else:
                axes.append(step.sweep.batch.index(axis) if axis in step.sweep.batch else "whole")
        return given(division, axes, self.wanted.sizes, self.wanted.keys, self.wanted.written)

    def _last_sweep(self) -> Fused | None:
        """The sweep whose result is asked for, that chunks are given for.

        Raises:
            ArgumentError: If the result is not a sweep's own.
        """
        (root, *others) = self.program.roots
        for step in self.program.plan.steps:
            if isinstance(step, Fused) and step.nodes[0] is root and not others:
                return step
        assert self.wanted is not None
        raise ArgumentError(
            f"to_dask: chunks={self.wanted.written!r} of what is no kernel's own result: leave them out"
        )

    # --- what tasks are brought

    def _brought(self, number: int, parts: Parts, boxes: Sequence[Box | None]) -> list[Any]:
        found = []
        guarded = parts.kernel.fused.guarded() if self.job.check_finite else ()
        for place in work.brought(self.job, number, boxes):
            box, node = boxes[place], parts.inputs[place]
            assert box is not None
            found.append(self._looked_at(node, box) if node in guarded else self._piece(node, box))
        return found

    def _looked_at(self, node: Node, box: Box) -> Any:
        """The same of what a guard watches."""
        name = (node, tuple((each.start, each.stop) for each in box), "looked at")
        if name not in self._pieces:
            key = (self._name("looked-at"), len(self._pieces))
            self._put("looked-at", key, work.looked_at, self._piece(node, box), with_job=False)
            self._pieces[name] = key
        return _reference(self._pieces[name])

    def _piece(self, node: Node, box: Box) -> Any:
        """A reference to a box of a value: whoever asks for the same gets the same."""
        name = (node, tuple((each.start, each.stop) for each in box))
        if name not in self._pieces:
            self._pieces[name] = self._new_piece(node, box)
        return _reference(self._pieces[name])

    def _new_piece(self, node: Node, box: Box) -> Key:
        key = (self._name("piece"), len(self._pieces))
        value = self.values[node]
        if isinstance(value, Held):
            self._put("piece", key, None, np.asarray(value.array[box]))
            return key
        for place, made in zip(value.boxes, value.keys, strict=True):
            if holds(place, box):
                picked = _reference(made), value.number, box, starts_of(place)
                self._put("piece", key, work.picked, *picked, with_job=False)
                return key
        whole = self._whole(node)
        self._put("piece", key, work.picked, _reference(whole.keys[0]), whole.number, box, with_job=False)
        return key

    def _input(self, node: Node) -> Any:
        """A reference to a whole value."""
        return self._piece(node, whole_box(node.shape))

    def _whole(self, node: Node) -> Made:
        """A value as the result of one task, or pieces of a root as they are."""
        value = self.values[node]
        if isinstance(value, Held):
            key = self._new_piece(node, whole_box(node.shape))
            packed = (self._name("array"), len(self._pieces), node.name)
            self._put("array", packed, work.picked_alone, _reference(key), with_job=False)
            return Made(0, (whole_box(node.shape),), (packed,))
        if len(value.keys) == 1:
            return value
        if node in self.program.roots and node not in self._inner():
            return value
        key = (self._name("together"), len(self._pieces), node.name, len(self.layers.get(self._name("together"), {})))
        references = map(_reference, value.keys)
        shape = tuple(int(length) for length in node.shape)
        self._put(
            "together", key, work.put_together, shape, node.dtype, value.number, value.boxes, *references,
            with_job=False,
        )  # fmt: skip
        self.values[node] = Made(0, (whole_box(node.shape),), (key,))
        return self.values[node]  # type: ignore[return-value]

    def _inner(self) -> set[Node]:
        """What steps read."""
        return {node for step in self.program.plan.steps for node in step_inputs(step)}

    # --- keys

    def _name(self, what: str) -> str:
        return f"attngraph-{what}-{self.token}"

    def _put(self, what: str, key: Key, function: Any, *args: Any, with_job: bool = True) -> None:
        from dask._task_spec import DataNode, Task

        layer = self.layers.setdefault(self._name(what), {})
        if function is None:
            layer[key] = DataNode(key, args[0])
        else:
            first = (_reference(self.job_key),) if with_job else ()
            layer[key] = Task(key, function, *first, *args)


def _reference(key: Any) -> Any:
    from dask._task_spec import TaskRef

    return key if isinstance(key, TaskRef) else TaskRef(key)
