"""What runs in tasks, on whichever worker. A value that only the undivided run can decide is `UNDECIDED`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...engine.boxes import Box, inside
from ...engine.config import Settings
from ...engine.errors import ArgumentError
from ...engine.finite import is_finite
from ...engine.ir import Node, Values
from ...engine.parts import Part, Parts, States
from ...engine.passes.fuse import step_inputs, step_nodes
from ...engine.passes.fused import Fused
from ...engine.passes.watches import shows_what_is_not_finite
from ...engine.sources import read
from ...engine.streaming import StreamingRun
from .job import Job, assembled


class Undecided:
    """Stands for a result that is in doubt: something overflowed, or is not finite. Whoever asked computes it whole."""

    def __reduce__(self) -> str:
        return "UNDECIDED"


UNDECIDED = Undecided()
Work = Callable[..., Any]


def decided(work: Work) -> Work:
    """Work that is done only if everything it is given has been decided; else it is undecided, too."""

    @functools.wraps(work)
    def checked(*given: Any) -> Any:
        return UNDECIDED if any(each is UNDECIDED for each in given) else work(*given)

    return checked


class Cut(NamedTuple):
    """A part of a step.

    Attributes:
        step: The number of the step.
        part: Rows and places.
        splits: Of its columns: the first, and the one behind the last.
        threads: Of a kernel.
        limit: Bytes that it may take while others do theirs; None for what the process may take.
    """

    step: int
    part: Part
    splits: tuple[int, int]
    threads: int | None
    limit: int | None = None


class Partial(NamedTuple):
    """What some splits leave of a part; ``accused``: whether something that should be finite is not."""

    states: States
    accused: bool


class Looked(NamedTuple):
    """A piece of an input that a guard watches, and whether it is finite: looked at once, whoever takes it."""

    array: Values
    is_finite: bool


@decided
def looked_at(array: Any) -> Any:
    """A piece, looked at."""
    return Looked(array, is_finite(array))


@decided
def states_of(job: Job, cut: Cut, *pieces: Any) -> Any:
    """The states of a part over some splits.

    Args:
        job: The expression.
        cut: What of it.
        pieces: Pieces of the step's inputs that are brought, as `brought` says.
    """
    settings = job.settings(cut.threads)
    parts = _parts(job, cut, settings)
    boxes = parts.needed(cut.part, cut.splits)
    arrays = _inputs(job, cut.step, boxes, pieces)
    accused = _is_shown(pieces) or _is_accused(job, cut.step, arrays)
    return Partial(parts.run(arrays, cut.part, cut.splits), accused)


@decided
def merged(*partials: Any) -> Any:
    """States of one part over several ranges of splits as one: of different processors they do not merge."""
    try:
        states = Parts.merge([each.states for each in partials])
    except ArgumentError:
        return UNDECIDED
    return Partial(states, any(each.accused for each in partials))


@decided
def finished(job: Job, cut: Cut, partial: Any, *pieces: Any) -> Any:
    """The results of a part, from the states of all its columns: arrays in the order of the step's."""
    if partial.accused:
        return UNDECIDED
    settings = job.settings(cut.threads)
    parts = _parts(job, cut, settings)
    arrays = _inputs(job, cut.step, parts.needed_at_end(cut.part), pieces)
    try:
        found = parts.finish(partial.states, arrays)
    except ArgumentError:  # states of another kind of processor
        return UNDECIDED
    return UNDECIDED if found.is_doubted else tuple(found.results)


@decided
def attended(job: Job, cut: Cut, count: int, *pieces: Any) -> Any:
    """The results of a part over all its columns, in one go.

    Args:
        job: The expression.
        cut: What of it.
        count: How many of the pieces are for the columns; the others are for the results.
        pieces: Pieces of inputs.
    """
    partial = states_of(job, cut, *pieces[:count])
    return finished(job, cut, partial, *pieces[count:])


@decided
def added_up(job: Job, cut: Cut, *pieces: Any) -> Any:
    """The results of a part of a sweep whose results add up, a backward pass: all rows and columns of some places."""
    if _is_shown(pieces):
        return UNDECIDED
    parts = _parts(job, cut, job.settings(cut.threads))
    found = parts.run_whole(_inputs(job, cut.step, parts.needed_whole(cut.part), pieces), cut.part)
    return UNDECIDED if found.is_doubted else tuple(found.results)


@decided
def streamed(job: Job, cut: Cut, *inputs: Any) -> Any:
    """The results of a part, whose keys are read block by block; inputs that are not are brought whole."""
    settings, stream = job.settings(cut.threads), job.program.stream_of(cut.step)
    assert stream is not None
    arrays = dict(zip(inputs_of_step(job, cut.step), inputs, strict=True))
    guarded = stream.guarded if job.check_finite else ()
    accused = [node for node in guarded if node in arrays and not is_finite(arrays[node])]
    limits = [each for each in (cut.limit, settings.memory_limit) if each is not None]
    run = StreamingRun(stream, settings, min(limits, default=None), guarded)
    found = run.results(arrays, accused=accused, part=cut.part)
    return UNDECIDED if found is None else tuple(found)


@decided
def whole_step(job: Job, step: int, threads: int | None, *inputs: Any) -> Any:
    """What a step that is not cut makes: arrays in the order of its nodes."""
    program = job.program
    values = dict(zip(inputs_of_step(job, step), inputs, strict=True))
    found = program.run_step(step, values, job.settings(threads), check_finite=job.check_finite)
    if found is None:
        return UNDECIDED
    return tuple(found[node] for node in step_nodes(program.plan.steps[step]))


def inputs_of_step(job: Job, step: int) -> list[Node]:
    """What a step that is not cut is brought, in this order: what is read block by block is not."""
    program = job.program
    stream = program.stream_of(step)
    nodes = dict.fromkeys(step_inputs(program.plan.steps[step]))
    return [node for node in nodes if stream is None or node not in stream.nodes]


def read_leaf(job: Job, step: int) -> Any:
    """An array that lies elsewhere, whole."""
    leaf = job.program.plan.steps[step]
    return (np.asarray(read(leaf.source)),)  # type: ignore[union-attr]


@decided
def picked(results: Any, number: int, box: Box | None = None, first: Sequence[int] = ()) -> Any:
    """One of the arrays that a step made, or a box of it."""
    array = results[number]
    return array if box is None else array[inside(box, first or (0,) * array.ndim)]


@decided
def put_together(shape: Sequence[int], dtype: Any, number: int, boxes: Sequence[Box], *pieces: Any) -> Any:
    """An array of the pieces that several tasks made, as the only one of a tuple."""
    named = {place: (box, each[number]) for place, (box, each) in enumerate(zip(boxes, pieces, strict=True))}
    return (assembled(shape, dtype, named),)


def _fused(job: Job, step: int) -> Fused:
    fused = job.program.plan.steps[step]
    assert isinstance(fused, Fused)
    return fused


def _parts(job: Job, cut: Cut, settings: Settings) -> Parts:
    return Parts(job.program.kernels[cut.step], settings)


def brought(job: Job, step: int, boxes: Sequence[Box | None]) -> list[int]:
    """The numbers of inputs of which a task is brought pieces: it reads the others itself, where they lie."""
    stream = job.program.stream_of(step)
    elsewhere = set() if stream is None else stream.nodes
    inputs = _fused(job, step).inputs
    return [number for number, box in enumerate(boxes) if box is not None and inputs[number] not in elsewhere]


def _inputs(job: Job, step: int, boxes: Sequence[Box | None], pieces: Sequence[Any]) -> list[Values | None]:
    """The step's inputs: pieces that were brought, and what is read here."""
    stream = job.program.stream_of(step)
    elsewhere = {} if stream is None else {each.node: each for each in stream.inputs}
    remaining = iter(pieces)
    found: list[Values | None] = []
    for node, box in zip(_fused(job, step).inputs, boxes, strict=True):
        if box is None:
            found.append(None)
        elif node in elsewhere:
            found.append(elsewhere[node].read(box))
        else:
            piece = next(remaining)
            array = piece.array if isinstance(piece, Looked) else piece
            found.append(array.astype(node.dtype, copy=False))
    return found


def _is_shown(pieces: Sequence[Any]) -> bool:
    """Whether something was seen, in pieces that were looked at, that is not finite."""
    return any(isinstance(each, Looked) and not each.is_finite for each in pieces)


def _is_accused(job: Job, step: int, arrays: Sequence[Values | None]) -> bool:
    """Whether something that is read here, and that a guard watches, is not finite.

    Whether it counts, the undivided run says. What shows in results, if it counts, need not be looked at.
    """
    fused, stream = _fused(job, step), job.program.stream_of(step)
    if not job.check_finite or stream is None:
        return False
    guarded = {
        node for node in stream.guarded if node in stream.nodes and not shows_what_is_not_finite(fused.sweep, node)
    }
    pairs = zip(fused.inputs, arrays, strict=True)
    return any(node in guarded and array is not None and not is_finite(array) for node, array in pairs)


@decided
def picked_alone(array: Any) -> Any:
    """An array as what a task with one result makes."""
    return (array,)
