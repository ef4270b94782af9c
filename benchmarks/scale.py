"""How a query block over a store scales: measured with one and two workers here, and a model for more.

    python benchmarks/scale.py                 # measures, predicts, and plans 10^9 keys on 100 workers
    python benchmarks/scale.py --gibibytes 2   # a smaller store

The model. A block of queries over N keys, which `runtime.tasks` cuts into T tasks for W workers, takes

    seconds = start + busiest(W) * key(W) + T * task + depth(T) * merge + bytes / network

* ``busiest(W)``: keys of the worker that has most to do: each takes the next task when it is done with one. A task of
  some heads counts as the keys that all heads would take as long for.
* ``key(1)``: seconds a key on one worker. It is fitted, with ``start``, to one worker on a quarter and on half of the
  store; everything else is predicted from that.
* ``key(W)``: workers of one machine share its memory: ``max(key(1), W * bytes of a key / bandwidth)``, with the
  bandwidth measured here. On machines of their own, ``key(1)``.
* ``task``: what the scheduler takes for a task, measured with empty ones; it does one after the other.
* ``depth(T) * merge``: states are merged in a tree of eight, ``merge`` seconds each, measured.
* ``bytes / network``: what is sent: states, not keys. 1 GB/s where the network is not known.

It says nothing of disks slower than memory, of networks that others use, of workers that fail, or of a scheduler and a
client that share the workers' processors: with as many workers as there are processors here, it predicts too little.
"""

import argparse
import heapq
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import clusters
import numpy as np

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.parts import Parts
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.roofline import roofline
from attngraph.runtime.tasks.cutting import LEAST_DISTRIBUTED, Resources, chosen

NETWORK = 1e9
TOLERANCE = 0.2


class Model(NamedTuple):
    """Seconds; see above.

    Attributes:
        start: Of a computation whatever its size.
        key: Of a key, on one worker.
        task: Of a task, in the scheduler.
        merge: Of merging eight states.
        bandwidth: Bytes of memory a second that the workers of one machine share.
    """

    start: float
    key: float
    task: float
    merge: float
    bandwidth: float

    def seconds(self, keys: int, workers: int, *, shared: bool) -> float:
        """What a computation is predicted to take. ``shared``: whether all workers are on one machine."""
        key = self.key
        if shared:
            key = max(key, workers * KEY_BYTES / self.bandwidth)
        tasks = work_of_tasks(keys, workers)
        depth = math.ceil(math.log(max(len(tasks), 2), 8))
        sent = len(tasks) * STATE_BYTES / NETWORK if not shared else 0.0
        return self.start + busiest(tasks, workers) * key + len(tasks) * self.task + depth * self.merge + sent


KEY_BYTES = 2 * clusters.HEADS * clusters.WIDTH * 4
STATE_BYTES = clusters.HEADS * clusters.QUERIES * (clusters.WIDTH + 2) * 4


def measured(gibibytes: float, rounds: int) -> dict[str, Any]:
    """The model fitted to one worker and a part of the store, and what it says beside what is measured."""
    folder = Path(tempfile.mkdtemp(prefix="attngraph-"))
    try:
        with clusters.made_store(folder, gibibytes) as made:
            path, length = made.path, len(made)
        parts = {part: _store(folder, path, gibibytes * part) for part in (0.25, 0.5)}
        one = _times(1, {**parts, 1.0: path}, rounds)
        two = _times(2, {1.0: path}, rounds)
        task, merge = _overheads()
    finally:
        shutil.rmtree(folder)
    lengths = {part: int(length * part) for part in (0.25, 0.5, 1.0)}
    less = {part: one[part] - len(work_of_tasks(lengths[part], 1)) * task - merge for part in (0.25, 0.5)}
    key = (less[0.5] - less[0.25]) / (lengths[0.5] - lengths[0.25])
    bandwidth = roofline(config.settings()).bytes
    model = Model(max(less[0.25] - key * lengths[0.25], 0.0), key, task, merge, bandwidth)
    rows = []
    for workers, seconds in ((1, one[1.0]), (2, two[1.0])):
        predicted = model.seconds(length, workers, shared=True)
        off = predicted / seconds - 1
        rows.append({"workers": workers, "keys": length, "measured": seconds, "predicted": predicted, "off": off})
    return {"model": model, "rows": rows}


def _store(folder: Path, path: str, gibibytes: float) -> str:
    """The beginning of a store as one of its own."""
    length = int(gibibytes * 2**30) // KEY_BYTES
    whole = ag.KVStore.open(path)
    keys, values = (whole.stored_array(name) for name in ("keys", "values"))
    with ag.KVStore.create(folder / f"part-{gibibytes:g}", heads=clusters.HEADS, dim=clusters.WIDTH) as part:
        step = 1 << 16
        for first in range(0, length, step):
            stop = min(first + step, length)
            part.append(
                *(np.stack([each.read(h, first, stop) for h in range(clusters.HEADS)]) for each in (keys, values))
            )
        return part.path


def _times(workers: int, paths: dict[float, str], rounds: int) -> dict[float, float]:
    """Median seconds of a query block over stores, by so many workers of one thread each."""
    from distributed import Client, LocalCluster

    queries = np.random.default_rng(1).standard_normal((clusters.HEADS, clusters.QUERIES, clusters.WIDTH), "float32")
    found = {}
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(_on_one_thread)  # a task that is alone would take all of the machine's
        for part, path in paths.items():
            store = ag.KVStore.open(path)
            x = ag.attention(ag.asarray(queries), store.keys, store.values)
            ag.compute(x, scheduler=client)  # compiles, and maps the files
            seconds = []
            for _ in range(rounds):
                start = time.perf_counter()
                ag.compute(x, scheduler=client)
                seconds.append(time.perf_counter() - start)
            found[part] = statistics.median(seconds)
    return found


def _on_one_thread() -> None:
    ag.config.set(threads=1)


def work_of_tasks(keys: int, workers: int) -> list[float]:
    """The keys of each task, of a part of the heads fewer: as `ag.compute` cuts them, in the order that they come."""
    query, *sides = (ag.placeholder((clusters.HEADS, n, clusters.WIDTH)) for n in (clusters.QUERIES, keys, keys))
    program = Program(optimize([ag.attention(query, *sides).node]))
    parts = Parts(program.kernels[len(program.plan.steps) - 1], config.settings())
    assert parts.division is not None, "heads are batch axes"
    chunks = chosen(parts.sweep, parts.division, Resources(workers, LEAST_DISTRIBUTED, None), 0)
    heads = [math.prod(stop - first for first, stop in part.batch) / clusters.HEADS for part in chunks.parts]
    first = parts.division.splits.first
    return [share * (first(stop) - first(start)) for share in heads for start, stop in chunks.splits]


def busiest(tasks: Sequence[float], workers: int) -> float:
    """What the worker with most to do takes, if each begins the next task when it is done with one."""
    until = [0.0] * workers
    for each in tasks:
        heapq.heapreplace(until, until[0] + each)
    return max(until)


def _overheads() -> tuple[float, float]:
    """Seconds of an empty task of a cluster, and of merging eight states."""
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather(client.map(abs, range(100)))
        start = time.perf_counter()
        client.gather(client.map(abs, range(1000, 1400)))
        task = (time.perf_counter() - start) / 400
    states = np.random.default_rng(0).standard_normal((8, STATE_BYTES // 4)).astype("float32")
    start = time.perf_counter()
    for _ in range(20):
        np.exp(states[0]) * states[1:].sum(axis=0)
    return task, (time.perf_counter() - start) / 20


def planned(model: Model, keys: int, workers: int) -> dict[str, Any]:
    """How many keys on so many workers would be cut, and what the model says of it: nothing beyond it."""
    tasks = len(work_of_tasks(keys, workers))
    seconds = model.seconds(keys, workers, shared=False)
    return {
        "keys": keys,
        "workers": workers,
        "bytes": keys * KEY_BYTES,
        "tasks": tasks,
        "keys_of_a_task": keys // tasks,
        "merge_depth": math.ceil(math.log(tasks, 8)),
        "bytes_sent": tasks * STATE_BYTES,
        "seconds": seconds,
        "of_it_in_the_scheduler": tasks * model.task,
    }


def report(gibibytes: float, rounds: int) -> str:
    """What is measured, predicted and planned, as text."""
    found = measured(gibibytes, rounds)
    lines = [f"model: {found['model']}"]
    for row in found["rows"]:
        lines.append(
            f"{row['workers']} workers, {row['keys']:,} keys: measured {row['measured']:.3f} s, "
            f"predicted {row['predicted']:.3f} s ({row['off']:+.0%})"
        )
    lines.append("plan, by the model:")
    lines += [
        f"  {name}: {value:,}" if isinstance(value, int) else f"  {name}: {value:.3g}"
        for name, value in planned(found["model"], 10**9, 100).items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gibibytes", type=float, default=4.0, help="size of the store")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(report(arguments.gibibytes, arguments.rounds))
