"""Who computes the pieces of a batch: this thread, more of them, processes, or the workers of a cluster."""

import contextlib
import contextvars
import multiprocessing
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ...engine.config import config
from ...engine.errors import ArgumentError, StoreError
from .job import Done, Job

# How often in a row processes may die before none of their pieces is done.
_MOST_DEATHS = 3
# Pieces that are sent ahead, for each that can be computed at once.
_AHEAD = 2
# How long a scheduler may take to answer.
_PATIENCE = "10s"
# What workers take from the settings here; how many threads they have is theirs.
_TAKEN = ("target", "distance_form", "memory_limit", "check_finite", "max_length")

Run = Callable[[Sequence[int]], Iterator[Done]]


@contextlib.contextmanager
def runner(job: Job, scheduler: Any) -> Iterator[Run]:
    """What runs pieces by their numbers, and gives them back as they finish.

    The scheduler is one that `check_scheduler` has let through.
    """
    if scheduler is None:
        yield lambda numbers: map(job.run, numbers)
    elif _is(scheduler, "threads"):
        with ThreadPoolExecutor(config.threads, "attngraph-batch") as pool, config.set(threads=1):
            context = contextvars.copy_context()
            yield lambda numbers: _on(pool, lambda n: pool.submit(context.copy().run, job.run, n), numbers)
    elif _is(scheduler, "processes"):
        yield lambda numbers: _in_processes(job, numbers)
    else:
        with _client(scheduler) as client:
            yield lambda numbers: _on_cluster(job, client, numbers)


def check_scheduler(scheduler: Any) -> None:
    """Raise ArgumentError for what is no scheduler."""
    is_client = hasattr(scheduler, "submit") and hasattr(scheduler, "nthreads") and not isinstance(scheduler, type)
    is_address = isinstance(scheduler, str) and "://" in scheduler
    if not (scheduler is None or is_client or is_address or _is(scheduler, "threads") or _is(scheduler, "processes")):
        raise ArgumentError(
            'batch: scheduler is None, "threads", "processes", a distributed.Client or an address such as '
            f'"tcp://host:8786", not {scheduler!r}'
        )


def _is(scheduler: Any, name: str) -> bool:
    return isinstance(scheduler, str) and scheduler == name


def is_elsewhere(scheduler: Any) -> bool:
    """Whether other processes compute."""
    return scheduler is not None and not _is(scheduler, "threads")


def _on(pool: Executor, submit: Callable[[int], "Future[Done]"], numbers: Sequence[int]) -> Iterator[Done]:
    """Pieces on a pool, some ahead; what has not begun is dropped when somebody stops asking."""
    rest, ahead = list(reversed(numbers)), _AHEAD * config.threads + 1
    running: set[Future[Done]] = set()
    try:
        while rest or running:
            while rest and len(running) < max(ahead, 2):
                running.add(submit(rest.pop()))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for each in finished:
                yield each.result()
    finally:
        for each in running:
            each.cancel()


def _in_processes(job: Job, numbers: Sequence[int]) -> Iterator[Done]:
    """Pieces in processes of our own; those of one that dies are computed again."""
    import cloudpickle

    settings, workers = _taken(), config.threads
    rest, deaths = dict.fromkeys(numbers), 0
    while rest:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))

        def submit(number: int, pool: Executor = pool) -> "Future[Done]":
            return pool.submit(_run_pickled, cloudpickle.dumps(job.of_piece(number)), number, settings)

        try:
            for done in _on(pool, submit, list(rest)):
                deaths = 0
                del rest[done.number]
                yield done
        except BrokenProcessPool as error:
            deaths += 1
            if deaths == _MOST_DEATHS:
                raise StoreError(f"batch: processes died {deaths} times before any of {len(rest)} chunks") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _run_pickled(job: bytes, number: int, settings: dict[str, Any]) -> Done:
    import cloudpickle

    return run_elsewhere(cloudpickle.loads(job), number, settings)


_entering = threading.Lock()


def run_elsewhere(job: Job, number: int, settings: dict[str, Any]) -> Done:
    """A piece in a worker, which has one thread for it."""
    with contextlib.ExitStack() as stack:
        with _entering:  # setting touches the process's settings for a moment
            stack.enter_context(config.set(**settings, threads=1))
        return job.run(number)


def _taken() -> dict[str, Any]:
    settings = config.settings()
    return {name: getattr(settings, name) for name in _TAKEN}


@contextlib.contextmanager
def _client(scheduler: Any) -> Iterator[Any]:
    if not isinstance(scheduler, str):
        yield scheduler
        return
    import distributed

    try:
        connect: Any = distributed.Client
        client = connect(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise StoreError(f"batch: there is no scheduler at {scheduler}: {error}") from error
    with client:
        yield client


def _on_cluster(job: Job, client: Any, numbers: Sequence[int]) -> Iterator[Done]:
    """A task a piece, some ahead.

    Those of a worker that dies are computed again by another one, for nothing tells one run of a piece from the next.
    """
    import dask
    import distributed

    settings, name, rest = _taken(), uuid.uuid4().hex[:8], list(reversed(numbers))
    futures: dict[Any, int] = {}
    as_completed: Any = distributed.as_completed

    def submit() -> Any:
        number = rest.pop()
        key = f"attngraph-batch-{name}-{number}"
        # Slices of arrays in memory go with their tasks: that is what was asked for.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            future = client.submit(run_elsewhere, job.of_piece(number), number, settings, key=key, pure=False)
        futures[future] = number
        return future

    finished = as_completed([], loop=client.loop)
    try:
        while rest or futures:
            ahead = max(_AHEAD * sum(client.nthreads().values()), 2)
            while rest and len(futures) < ahead:
                finished.add(submit())
            future = next(finished)
            number = futures.pop(future)
            try:
                yield future.result()
            except distributed.KilledWorker as error:
                raise StoreError(f"batch: chunk {number} was given up: {error}") from error
            future.release()
    finally:
        client.cancel(list(futures))
