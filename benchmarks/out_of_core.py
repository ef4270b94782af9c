"""Attention over stores larger than what a process may take, beside the same in memory; growth; decoding; gathers.

``python benchmarks/out_of_core.py [GIBIBYTES]`` prints the rows. Each is measured in a process of its own, on stores
that are warm in the system's page cache. Linux only.
"""

import gc
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from growth import reset_peak, watched
from measure import paired, turns
from processes import ProcessError, run_alone

import attngraph as ag
import stores

HEADS, DIM, QUERIES = 8, 64, 64
THREADS = min(2, os.cpu_count() or 1)
GIBIBYTES, LIMIT = 8.0, 256
RAM_TARGET, DECODING_TARGET, GATHER_TARGET = 0.8, 0.75, 200.0
# Keys that are made, and appended, at once.
_BLOCK = 32_768
_KEY_BYTES = 2 * HEADS * DIM * 4
_SETS = 4


def rows(rounds: int, quick: bool, gibibytes: float | None = None) -> list[dict[str, Any]]:
    """A row for each claim, with its target and whether it meets it.

    Args:
        rounds: Pairs of measurements at most.
        quick: Small stores.
        gibibytes: Of the store of keys and values together; None to choose.
    """
    if gibibytes is None:
        gibibytes = 0.25 if quick else GIBIBYTES
    found = []
    with tempfile.TemporaryDirectory() as folder:
        raw, encoded = str(Path(folder) / "raw"), str(Path(folder) / "zstd")
        arguments = {"gibibytes": gibibytes, "rounds": rounds}
        found.append(_alone("beside_memory", {"path": raw, **arguments}))
        for blocks in (1, 4) if quick else (1, 8, 64):
            found.append(_alone("growth", {"path": raw, "blocks": blocks}))
        found.append(_alone("beside_decoding", {"path": encoded, **arguments, "gibibytes": gibibytes / 8}))
        for blocks in (1, 4) if quick else (1, 64):
            found.append(_alone("growth", {"path": encoded, "blocks": blocks}))
    found.append(_alone("gathered", {"rounds": rounds}))
    return found


def _alone(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(run_alone("out_of_core", function, arguments, THREADS))
    except ProcessError as error:
        return {"case": f"{function} {arguments}", "note": str(error), "defect": True}


def _filled(path: str, gibibytes: float, compressor: str | None = None) -> ag.KVStore:
    """A store of about that size, made of other numbers every so often."""
    rng = np.random.default_rng(0)
    blocks = max(2, int(gibibytes * 2**30) // _KEY_BYTES // _BLOCK)
    sides = [rng.standard_normal((HEADS, _BLOCK, DIM), dtype="float32") for _ in range(4)]
    with ag.KVStore.create(path, heads=HEADS, dim=DIM, compressor=compressor) as store:
        pairs = ((sides[n % 4], sides[(n + 1) % 4]) for n in range(blocks))
        store.extend(pairs, total=blocks * _BLOCK)
    return ag.KVStore.open(path)


def _queries(blocks: int = 1) -> list[tuple[Any]]:
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((HEADS, QUERIES * blocks, DIM), dtype="float32"),) for _ in range(_SETS)]


def beside_memory(path: str, gibibytes: float, rounds: int) -> dict[str, Any]:
    """One block of queries over a mapped store, and over a quarter of it in memory: keys a second, ours over that."""
    store = _filled(path, gibibytes)
    part = len(store) // 4
    stored = store.stored_array("keys"), store.stored_array("values")
    held = [np.concatenate([each.read(head, 0, part)[None] for head in range(HEADS)]) for each in stored]
    ours = turns(lambda q: ag.attention(q, *stored).compute(), _queries())
    other = turns(lambda q: ag.attention(q, *held).compute(), _queries())
    times = paired(ours, other, rounds)
    ratio = times.ratio * len(store) / part
    return {
        "case": f"{QUERIES} queries x {HEADS} heads, {len(store):,} keys in a store, beside memory, per key",
        "seconds": times.ours,
        "ratio": ratio,
        "target": RAM_TARGET,
        "meets": ratio >= RAM_TARGET,
    }


def beside_decoding(path: str, gibibytes: float, rounds: int) -> dict[str, Any]:
    """The same over a store that zstd compressed: its speed over that of decoding alone, on as many threads."""
    store = _filled(path, gibibytes, "zstd")
    stored = store.stored_array("keys"), store.stored_array("values")
    blocks = [each.__attngraph_blocks__() for each in stored]
    whole = tuple(slice(0, length) for length in stored[0].shape)
    pieces = [(each, piece) for each in blocks for piece in each.pieces(whole)]
    room = threading.local()

    def decode(each: Any, piece: Any) -> None:
        if not hasattr(room, "out"):
            room.out = np.empty((1, stored[0].chunk, DIM), np.float32)
        each.read_into(piece, room.out[:, : piece[1].stop - piece[1].start])

    def alone() -> None:
        with ThreadPoolExecutor(ag.config.threads) as pool:
            for job in [pool.submit(decode, *each) for each in pieces]:
                job.result()

    times = paired(turns(lambda q: ag.attention(q, *stored).compute(), _queries()), alone, rounds)
    return {
        "case": f"{QUERIES} queries x {HEADS} heads, {len(store):,} keys, zstd, beside decoding alone",
        "seconds": times.ours,
        "ratio": times.ratio,
        "target": DECODING_TARGET,
        "meets": times.ratio >= DECODING_TARGET,
    }


def growth(path: str, blocks: int) -> dict[str, Any]:
    """What a process grows by under a limit, results included; pages of mapped files are not its own."""
    store = ag.KVStore.open(path)
    ((queries,), *_) = _queries(blocks)
    with ag.config.set(memory_limit=f"{LIMIT}MiB"), tempfile.TemporaryDirectory() as folder:
        with _filled(str(Path(folder) / "small"), 0.0) as small:
            ag.attention(queries, small.keys, small.values).compute()  # code is compiled and loaded
        gc.collect()
        reset_peak()
        start = time.perf_counter()
        grown = watched(ag.attention(queries, store.keys, store.values).compute, "RssAnon")
    mebibytes = grown / 2**20
    return {
        "case": f"{blocks} x {QUERIES} queries, {len(store):,} keys{', zstd' if store.info().codec else ''}: MiB",
        "seconds": time.perf_counter() - start,
        "mebibytes": mebibytes,
        "target": float(LIMIT),
        "meets": mebibytes <= LIMIT,
    }


def gathered(rounds: int) -> dict[str, Any]:
    """Rows gathered from a store, beside zarr's ``oindex``: see `stores`."""
    found = stores.gathered_beside_zarr(min(rounds, 7))
    ratio = found["ratio"]
    return {
        "case": f"{found['case']}, time of zarr's oindex over ours",
        "seconds": found["milliseconds"] / 1e3,
        "ratio": ratio,
        "target": GATHER_TARGET,
        "meets": ratio >= GATHER_TARGET,
    }


if __name__ == "__main__":
    for row in rows(5, quick=False, gibibytes=float(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(row, flush=True)
