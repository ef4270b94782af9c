"""`ag.compute` by a scheduler of dask: threads, processes, or a cluster."""

import importlib
from collections.abc import Sequence
from typing import Any

from ...engine.config import TARGETS, config
from ...engine.errors import ArgumentError
from ...ops.array import Array
from .collection import to_dask
from .cutting import LEAST_DISTRIBUTED, LEAST_THREADED, Resources

SCHEDULERS = ("threads", "synchronous", "processes")


def compute_with(scheduler: Any, expressions: Sequence[Array]) -> list[Any]:
    """The arrays of expressions, by ``"threads"``, ``"synchronous"``, ``"processes"`` or a ``distributed.Client``.

    Raises:
        ArgumentError: For anything else.
    """
    dask: Any = importlib.import_module("dask")
    settings = config.settings()
    if isinstance(scheduler, str):
        if scheduler not in SCHEDULERS:
            raise ArgumentError(f"compute: scheduler is one of {', '.join(SCHEDULERS)} or a Client, not {scheduler!r}")
        workers = 1 if scheduler == "synchronous" else settings.threads
        collections = to_dask(expressions, resources=Resources(workers, LEAST_THREADED, settings.memory_limit))
        options = {} if scheduler == "synchronous" else {"num_workers": workers}
        return list(dask.compute(*collections, scheduler=scheduler, **options))
    if not hasattr(scheduler, "scheduler_info") or not hasattr(scheduler, "compute"):
        raise ArgumentError(f"compute: scheduler is one of {', '.join(SCHEDULERS)} or a Client, not {scheduler!r}")
    known = scheduler.run(_target_of_worker, on_error="ignore")  # of workers that die meanwhile nothing is asked
    workers = sum(scheduler.nthreads().values()) or 1
    target = settings.target if settings.target != "native" else _common(set(known.values()))
    with config.set(target=target):
        resources = Resources(workers, LEAST_DISTRIBUTED, settings.memory_limit)
        collections = to_dask(expressions, resources=resources)
        futures = scheduler.compute(collections)
    return list(scheduler.gather(futures))


def _target_of_worker() -> str:
    """The instruction set that a worker's kernels use."""
    from ...engine.codegen.target import named_target

    target = named_target(config.target)
    return "x86-64-v4" if target.has_avx512 else "x86-64-v3" if target.has_fma else "x86-64-v2"


def _common(targets: set[str]) -> str:
    """The set of instructions that all have: where all have the same, their own."""
    if len(targets) <= 1:
        return "native"
    return min(targets, key=TARGETS.index)
