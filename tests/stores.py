"""Stores for tests, and what should be in them."""

import itertools
import sys
from pathlib import Path

import numpy as np

import attngraph as ag
from attngraph.runtime.store import layout as layout_module

HEADS, DIM, VALUE_DIM = 2, 4, 3


def rows(count, seed=0, heads=HEADS, dim=DIM, value_dim=VALUE_DIM):
    """Keys and values, some of them nothing that arithmetic would give."""
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((heads, count, dim), dtype="float32")
    return keys, rng.standard_normal((heads, count, value_dim), dtype="float32")


def small_units(monkeypatch, rows_of_a_unit, row_bytes=4 * DIM):
    """Files of so few rows that some of them fill up."""
    monkeypatch.setattr(layout_module, "_UNIT_BYTES", rows_of_a_unit * row_bytes)


def create(path, **arguments):
    arguments = {"heads": HEADS, "dim": DIM, "value_dim": VALUE_DIM, **arguments}
    return ag.KVStore.create(path, **arguments)


def check(store, keys, values):
    """The store holds these rows, bit for bit, and finds itself well."""
    dtype = store.keys.dtype
    assert len(store) == keys.shape[1]
    for found, expected in ((store.stored_array("keys"), keys), (store.stored_array("values"), values)):
        assert found.read_all().tobytes() == expected.astype(dtype).tobytes()
    report = store.verify()
    assert report, str(report)


def operations(seed):
    """Without end: ("append", rows) or ("truncate", share of what there is)."""
    rng = np.random.default_rng(seed)
    for number in itertools.count():
        if number % 7 == 6:
            yield "truncate", float(rng.random())
        else:
            yield "append", int(rng.integers(1, 40))


def apply(model, operation, seed):
    """What is there after an operation; rows are unlike those that any other one appends."""
    kind, amount = operation
    if kind == "truncate":
        length = int(model[0].shape[1] * amount)
        return model[0][:, :length], model[1][:, :length]
    return tuple(np.concatenate(pair, 1) for pair in zip(model, rows(amount, seed), strict=True))


def say(what):
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def write_until_killed(path, seed):
    """What the process does that tests kill: says the number of each operation that is done."""
    with ag.KVStore.open(path, mode="r+") as store:
        say("ready")
        for number, (kind, amount) in enumerate(operations(int(seed))):
            if kind == "truncate":
                store.truncate(int(len(store) * amount))
            else:
                store.append(*rows(amount, number))
            say(number)


def files_of(store, key):
    return sorted(Path(store.path).glob(f"{key}/c.*"))
