"""`batch`: a function mapped over a large store, chunk by chunk, with a record of what is done."""

import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.config import config
from ...engine.errors import ArgumentError, ShapeError, StoreError
from ...engine.structure import unflatten
from ..mapped_file import MappedFile, mapped_file
from ..store.arguments import whole
from ..store.files import store_errors
from ..store.lock import WriterLock
from ..store.progress import progress_bar
from .identity import token_of
from .job import Done, Job, constants_of
from .journal import FOLDER, LOCK, Journal
from .output import Output, Result
from .schedule import check_scheduler, is_elsewhere, runner
from .sources import Source, Stored, source_of
from .summary import BatchSummary

# Bytes of the inputs of a piece, where nobody says how long one is.
_PIECE_BYTES = 1 << 25
# Constants from this size on go to other processes as a file.
_LARGE_CONSTANT = 1 << 16


def batch(
    fn: Any,
    inputs: Any,
    output: str | os.PathLike[str],
    *,
    over: int = 0,
    chunk: int | None = None,
    constants: Any = None,
    resume: bool = True,
    scheduler: Any = None,
    progress: bool | None = None,
) -> BatchSummary:
    """Map a function over arrays that may be larger than memory, chunk by chunk, into zarr arrays.

    What is done is recorded in the output's folder once it would survive a crash, so that the same call goes on where
    it was stopped, by whatever: a process that was killed, a full disk. Every chunk of the output is made by one piece
    of the work, at once, so what was interrupted and gone on with has the bits of what was not: those that ``fn`` gives
    for that chunk.

    Args:
        fn: Called with a chunk of each input and with the constants; as a rule made by `attngraph.compile`. Returns an
            array, or a flat tuple, list or dict of them, each as long along ``over`` as the chunk.
        inputs: What is cut: an array or a sequence of them, given by position, or a dict of them, by name. A zarr
            array, the path of one or of a ``.npy`` file, a memory map, keys or values of a `KVStore`, a NumPy array.
        output: A folder: a zarr array for one result, a group of them for several, called by the keys of the dict
            or by their numbers.
        over: The axis along which inputs are cut and results put together.
        chunk: How long a chunk is; by default some 32 MiB of the inputs, whole chunks of theirs.
        constants: What every call gets as it is: a sequence of further arguments or a dict of them, by name. What lies
            on disk (keys and values of a store, zarr arrays) is read block by block, within
            ``ag.config.memory_limit``.
        resume: Whether to go on with what is there; False computes everything anew.
        scheduler: None computes one chunk after the other with all threads; ``"threads"`` and ``"processes"`` several
            at once, each with one; a ``distributed.Client`` or the address of a scheduler, a task for each chunk. Then
            the output must be a place that workers see; what lies on disk they read themselves.
        progress: Whether to show a bar; None to show it where stderr is a terminal.

    Raises:
        ArgumentError: If an argument is of a wrong kind, or ``resume`` finds the record of another job: the
            function, what it takes from around it, inputs, constants, chunks or the version are others. The instruction
            set may be another one: the summary names them all.
        ShapeError: If inputs are not of one length, or a result is not as long as its chunk.
        StoreError: If something cannot be read or written, another process is at work on the output, or it holds
            something that is no batch's.
    """
    begin = time.perf_counter()
    if not callable(fn):
        raise ArgumentError(f"batch: fn is a function, not {fn!r}")
    check_scheduler(scheduler)
    if not isinstance(resume, bool):
        raise ArgumentError(f"batch: resume is True or False, not {resume!r}")
    if not isinstance(progress, bool | None):
        raise ArgumentError(f"batch: progress is True, False or None, not {progress!r}")
    job = _job(fn, inputs, output, over, chunk, constants)
    fingerprint = _fingerprint(job)
    job = replace(job, token=token_of(fingerprint))
    with _locked(job.output):
        journal = _begun(job, fingerprint, resume)
        there = _done_before(job, journal)
        numbers = [number for number in range(job.count) if number not in there]
        if is_elsewhere(scheduler):
            job = _with_files(job)
        finished = []
        with progress_bar(f"chunks of {Path(job.output.path).name}", job.count, progress) as advance:
            advance(len(there))
            for done in _pieces(job, journal, numbers, scheduler):
                finished.append(done)
                advance(1)
        _tidy(job, journal)
    sets = dict.fromkeys(entry["set"] for _, entry in sorted(journal.chunks.items()))
    return _summary(job, finished, len(there), tuple(sets), time.perf_counter() - begin)


def _pieces(job: Job, journal: Journal, numbers: Sequence[int], scheduler: Any) -> Iterator[Done]:
    """Run pieces, and record each; the first one makes the arrays of the results, and so it runs alone."""
    if not numbers:
        return
    first = 0 if journal.results is not None else 1
    with runner(job, scheduler) as run:
        for some in (numbers[:first], numbers[first:]):
            for done in run(some):
                results = [each.to_json() for each in done.results]
                if journal.results is None:
                    journal.add({"results": results})
                elif journal.results != results:
                    raise ShapeError(
                        f"batch: results of chunk {done.number} are {results}, those before {journal.results}"
                    )
                journal.add(done.to_json())
                yield done


def _job(fn: Any, inputs: Any, output: Any, over: Any, chunk: Any, constants: Any) -> Job:
    """The job that was asked for, checked."""
    if not isinstance(output, str | os.PathLike) or "://" in str(output):
        raise ArgumentError(f"batch: output is the path of a folder, not {output!r}")
    names, given = _named(inputs)
    sources = tuple(source_of(each, f"input {name!r}") for name, each in zip(names, given, strict=True))
    over = whole("batch", "over", over)
    length = _length(names, sources, over)
    if chunk is None:
        chunk = _chunk_for(sources, over, length)
    chunk = whole("batch", "chunk", chunk)
    if chunk < 1:
        raise ArgumentError(f"batch: chunk is at least 1, not {chunk}")
    leaves, structure = constants_of(constants)
    path = os.path.abspath(os.fspath(output))  # noqa: PTH100 - links stay as they are
    by_name = tuple(names) if isinstance(inputs, Mapping) else ()
    return Job(fn, sources, by_name, leaves, structure, over, min(chunk, length), length, Output(path))


def _named(inputs: Any) -> tuple[list[str], list[Any]]:
    if isinstance(inputs, Mapping):
        names, given = [str(name) for name in inputs], list(inputs.values())
    else:
        given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        names = [str(number) for number in range(len(given))]
    if not given:
        raise ArgumentError("batch: there is no input to map over")
    return names, given


def _length(names: Sequence[str], sources: Sequence[Source], over: int) -> int:
    """How long the inputs are along the axis."""
    for name, each in zip(names, sources, strict=True):
        if not -len(each.shape) <= over < len(each.shape):
            raise ShapeError(f"batch: input {name!r} is {list(each.shape)}, which has no axis {over} (over)")
    lengths = [each.shape[over] for each in sources]
    for name, length in zip(names, lengths, strict=True):
        if length != lengths[0]:
            raise ShapeError(
                f"batch: along axis {over} input {names[0]!r} has {lengths[0]} and input {name!r} has {length}"
            )
    if not lengths[0]:
        raise ArgumentError(f"batch: the inputs are empty along axis {over}: there is nothing to map over")
    return lengths[0]


def _chunk_for(sources: Sequence[Source], over: int, length: int) -> int:
    """How long a piece is: from shapes alone, so that it is the same on every machine."""
    one = sum(math.prod(each.shape) // length * np.dtype(each.dtype).itemsize for each in sources)
    chunk = max(1, min(_PIECE_BYTES // max(one, 1), length))
    step = math.lcm(*(each.steps[over] for each in sources if isinstance(each, Stored)), 1)
    return min(chunk // step * step or step, length) if step <= length else chunk


def _fingerprint(job: Job) -> dict[str, str]:
    """What has to be the same for a job to be gone on with, by the names that a message uses."""
    version = sys.modules[__package__.partition(".")[0]].__version__
    function = f"{getattr(job.fn, '__name__', type(job.fn).__name__)} ({token_of(job.fn)})"
    names = job.names or tuple(map(str, range(len(job.inputs))))
    inputs = {f"input {name!r}": each.identity for name, each in zip(names, job.inputs, strict=True)}
    return {
        "function": function,
        **inputs,
        **_constants(job),
        "over": str(job.over),
        "chunk": str(job.chunk),
        "attngraph": version,
        "distance_form": config.distance_form,
        "max_length": str(config.max_length),
    }


def _constants(job: Job) -> dict[str, str]:
    """The same of constants; numbers and text as they are."""
    leaves = [each.identity if isinstance(each, MappedFile) else each for each in job.constants]
    given = unflatten(job.structure, iter(leaves))
    pairs = given.items() if isinstance(given, dict) else enumerate(given)
    plain = bool, int, float, str
    return {f"constant {str(name)!r}": repr(each) if type(each) in plain else token_of(each) for name, each in pairs}


@contextmanager
def _locked(output: Output) -> Iterator[None]:
    """The right to write to an output, of one process at a time; its folder is there then."""
    root, folder = Path(output.path), output.record_folder
    if root.exists() and not folder.exists() and (not root.is_dir() or any(root.iterdir())):
        raise StoreError(f"batch: there is something at {root} that no batch has made; remove it first")
    with store_errors("batch", str(root)):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = WriterLock(folder / LOCK, output.path)
        except StoreError:
            raise StoreError(f"batch: another process, or thread, is at work on {root}") from None
    try:
        yield
    finally:
        held.release()


def _begun(job: Job, fingerprint: dict[str, str], resume: bool) -> Journal:
    """The record: that of the same job, or a new one."""
    folder = job.output.record_folder
    if not resume:
        with store_errors("batch", job.output.path):
            (folder / "record").unlink(missing_ok=True)  # first: nothing that is half gone counts as done
            for each in Path(job.output.path).iterdir():
                if each.name != FOLDER:
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
    journal = Journal(folder)
    if journal.job is None:
        journal.add({"job": fingerprint})
    journal.check(fingerprint)
    return journal


def _done_before(job: Job, journal: Journal) -> set[int]:
    """Chunks that are recorded, and all of whose files are there."""
    if journal.results is None:
        return set()
    results = [Result.from_json(each) for each in journal.results]
    job.output.create(results)
    return {number for number in journal.chunks if all(job.output.is_there(each, number) for each in results)}


def _with_files(job: Job) -> Job:
    """The job with large constants in files of the output's, so that each travels once, if at all."""
    leaves = list(job.constants)
    for number, leaf in enumerate(leaves):
        if type(leaf) is np.ndarray and leaf.nbytes >= _LARGE_CONSTANT:
            file = job.output.record_folder / f"constant-{number}.npy"
            with store_errors("batch", str(file)):
                np.save(file, leaf)
            leaves[number] = mapped_file(np.load(file, mmap_mode="r"))
    return replace(job, constants=tuple(leaves))


def _tidy(job: Job, journal: Journal) -> None:
    """Remove what only an unfinished batch needs."""
    for file in job.output.record_folder.glob("constant-*.npy"):
        file.unlink(missing_ok=True)
    job.output.remove_partial([Result.from_json(each) for each in journal.results or ()])


def _summary(job: Job, done: Sequence[Done], skipped: int, sets: tuple[str, ...], seconds: float) -> BatchSummary:
    flops, spent = sum(each.flops for each in done), sum(each.seconds for each in done)
    return BatchSummary(
        output=job.output.path,
        chunks_done=len(done),
        chunks_skipped=skipped,
        flops=flops,
        bytes_read=sum(each.read for each in done),
        bytes_written=sum(each.written for each in done),
        seconds=seconds,
        fraction_of_peak=sum(each.least_seconds for each in done) / spent if flops and spent else None,
        instruction_sets=sets,
    )
