"""Tasks of dask beside what they divide: our own call in memory, dask's arrays, one process beside a cluster."""

import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from growth import watched
from measure import paired
from processes import ProcessError, run_alone

import attngraph as ag

Rows = list[dict[str, Any]]

LENGTH, WIDTH = 32768, 64
HEADS, QUERIES = 8, 64
# Bytes of a task beside its queries and results.
MOST_BYTES = 16384


def rows(rounds: int, quick: bool) -> Rows:
    """A row for each comparison, with its target. ``quick``: a store of 256 MiB instead of 8 GiB."""
    gibibytes = 0.25 if quick else 8.0
    measured = [
        ("in_memory", {"rounds": rounds, "length": 8192 if quick else LENGTH}),
        ("beside_dask_arrays", {"rounds": 1 if quick else 3, "length": 8192 if quick else LENGTH}),
        ("two_processes", {"rounds": rounds, "gibibytes": gibibytes}),
    ]
    found: Rows = []
    for name, arguments in measured:
        try:
            found += run_alone("clusters", name, arguments, 2)
        except ProcessError as error:
            found.append({"case": name, "note": str(error), "defect": True})
    return found


def _qkv(length: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, 1, length, WIDTH), dtype="float32") for _ in range(3)]


def in_memory(rounds: int, length: int) -> Rows:
    """Causal attention by dask's threads, beside our call in memory."""
    arrays = _qkv(length)
    call = ag.compile(lambda q, k, v: ag.attention(q, k, v, is_causal=True))
    x = ag.attention(*map(ag.asarray, arrays), is_causal=True)
    assert (ag.compute(x, scheduler="threads") == call(*arrays)).all()
    measured = paired(lambda: ag.compute(x, scheduler="threads"), lambda: call(*arrays), rounds)
    return [_row(f"causal, {length}, threads of dask", "our call in memory", measured.ratio, 0.9)]


def beside_dask_arrays(rounds: int, length: int) -> Rows:
    """The same beside the formula in dask's arrays: time, and what memory grows by at its peak, each alone."""
    ours, naive = _both(_qkv(length))
    np.testing.assert_allclose(ours()[0, 0], naive(), rtol=1e-3, atol=1e-4)
    measured = paired(ours, naive, rounds)
    peaks = [run_alone("clusters", "peak", {"name": name, "length": length}, 2) for name in ("naive", "ours")]
    growth = peaks[0] / peaks[1]
    return [
        _row(f"causal, {length}, threads of dask", "dask.array, time", measured.ratio, 4.0),
        _row(f"causal, {length}, threads of dask", "dask.array, peak memory", growth, 3.0),
    ]


def _both(arrays: list[np.ndarray]) -> tuple[Any, Any]:
    """Causal attention by our tasks, and by the formula in dask's arrays."""
    import dask.array as da

    length = arrays[0].shape[-2]
    q, k, v = (da.from_array(each[0, 0], chunks=(2048, -1)) for each in arrays)
    x = ag.attention(*map(ag.asarray, arrays), is_causal=True)
    i = da.arange(length, chunks=2048)

    def naive() -> np.ndarray:
        s = da.where(i[:, None] >= i[None, :], (q @ k.T) * np.float32(WIDTH**-0.5), -np.inf)
        e = da.exp(s - s.max(axis=-1, keepdims=True))
        return np.asarray(((e / e.sum(axis=-1, keepdims=True)) @ v).compute(scheduler="threads", num_workers=2))

    def ours() -> np.ndarray:
        return np.asarray(ag.compute(x, scheduler="threads"))

    return ours, naive


def peak(name: str, length: int) -> float:
    """What one of them grows the process by, in bytes; a short run before has compiled, and loaded, what it needs."""
    for size in (length // 4, length):
        ours, naive = _both(_qkv(size))
        grown = max(watched(ours if name == "ours" else naive, "VmRSS"), 1)
    return grown


def made_store(folder: Path, gibibytes: float) -> ag.KVStore:
    """A store of random keys and values that take so much."""
    length = int(gibibytes * 2**30) // (2 * HEADS * WIDTH * 4)
    rng = np.random.default_rng(0)
    store = ag.KVStore.create(folder / "store", heads=HEADS, dim=WIDTH)
    step = min(length, 1 << 16)
    block = rng.standard_normal((HEADS, step, WIDTH), dtype="float32")
    for first in range(0, length, step):
        count = min(step, length - first)
        store.append(block[:, :count], block[:, ::-1][:, :count])
    return store


def two_processes(rounds: int, gibibytes: float) -> Rows:
    """A store by a cluster of two processes, beside one process of two threads; and what a task is sent."""
    from distributed import Client, LocalCluster

    folder = Path(tempfile.mkdtemp(prefix="attngraph-"))
    try:
        with made_store(folder, gibibytes) as made:
            path = made.path
        store = ag.KVStore.open(path)
        queries = np.random.default_rng(1).standard_normal((HEADS, QUERIES, WIDTH), dtype="float32")
        x = ag.attention(ag.asarray(queries), store.keys, store.values)
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            assert (ag.compute(x, scheduler=client) == x.compute()).all()
            measured = paired(lambda: ag.compute(x, scheduler=client), x.compute, min(rounds, 5))
        tasks = x.to_dask().__dask_graph__().values()
        most = max(len(pickle.dumps(task)) for task in tasks) - queries.nbytes
    finally:
        shutil.rmtree(folder)
    case = f"store of {gibibytes:g} GiB, two processes"
    sent = {"case": case, "beside": "bytes of a task beside its queries", "bytes": max(most, 0)}
    return [
        _row(case, "one process of two threads", measured.ratio, 0.85),
        {**sent, "target": MOST_BYTES, "meets": most <= MOST_BYTES},
    ]


def _row(case: str, beside: str, ratio: float, target: float) -> dict[str, Any]:
    return {"case": case, "beside": beside, "ratio": ratio, "target": target, "meets": ratio >= target}
