"""Batches for tests, and the processes that are killed in the middle of one."""

import sys
import time
from pathlib import Path

import numpy as np
import zarr

import attngraph as ag

HEADS, LENGTH, WIDTH, CHUNK = 2, 40, 16, 3


def arrays(folder):
    """Queries in zarr, and a store of keys and values; made where they are not there."""
    folder = Path(folder)
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((HEADS, LENGTH, WIDTH), dtype="float32")
    keys, values = rng.standard_normal((2, HEADS, 100, WIDTH), dtype="float32")
    if not (folder / "queries.zarr").exists():
        stored = zarr.create_array(
            str(folder / "queries.zarr"), shape=queries.shape, chunks=(HEADS, 8, WIDTH), dtype="float32"
        )
        stored[:] = queries
        with ag.KVStore.create(folder / "memory", HEADS, WIDTH) as store:
            store.append(keys, values)
    return queries, keys, values


def attend(seconds=0.0):
    """Attention of two results, so slow that it can be killed; made in a function, so that it travels by value."""

    def attending(queries, keys, values, slope):
        out, lse = ag.attention(queries, keys, values, return_lse=True)
        return {"out": out * slope, "lse": lse}

    compiled = ag.compile(attending)

    def slowly(*args, **kwargs):
        time.sleep(seconds)
        return compiled(*args, **kwargs)

    return slowly if seconds else compiled


def by_chunks(folder):
    """What a batch gives: the function on one chunk after the other."""
    queries, keys, values = arrays(folder)
    pieces = [attend()(queries[:, at : at + CHUNK], keys, values, 0.5) for at in range(0, LENGTH, CHUNK)]
    return {name: np.concatenate([each[name] for each in pieces], axis=1) for name in pieces[0]}


def run(folder, fn=None, *, output="out.zarr", **options):
    folder = Path(folder)
    arrays(folder)
    store = ag.KVStore.open(folder / "memory")
    constants = {"keys": store.keys, "values": store.values, "slope": 0.5}
    options = {"chunk": CHUNK, "over": 1, "constants": constants, **options}
    return ag.batch(fn or attend(), {"queries": str(folder / "queries.zarr")}, folder / output, **options)


def found(folder, output="out.zarr"):
    group = zarr.open_group(str(Path(folder) / output), mode="r")
    return {name: array[...] for name, array in group.arrays()}


def check(folder, wanted, output="out.zarr"):
    there = found(folder, output)
    assert sorted(there) == sorted(wanted)
    for name, array in there.items():
        assert array.tobytes() == wanted[name].tobytes(), name


def run_until_killed(folder, seconds):
    """What the process does that tests kill: a batch, each chunk of which takes a while."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run(folder, attend(float(seconds)))
