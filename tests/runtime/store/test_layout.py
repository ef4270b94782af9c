import google_crc32c
import numpy as np
import pytest

from attngraph.runtime.store.layout import KEYS, Layout, plan, shard_index


def layout(**changes):
    given = {"heads": 8, "dim": 128, "value_dim": 128, "dtype": "float32", "capacity": None}
    return Layout(**{**given, "chunk": 1, "unit": 1, "sharded": False, **changes})


def planned(chunk=None, remote=False, encoded=False, **changes):
    return plan(layout(**changes), chunk=chunk, remote=remote, encoded=encoded)


@pytest.mark.parametrize(("chunks", "size"), [(1, 4), (7, 100), (300, 2**20)])
def test_the_index_is_zarrs(chunks, size):
    pairs = np.array([[number * size, size] for number in range(chunks)], "<u8").tobytes()
    assert shard_index(chunks, size) == pairs + google_crc32c.value(pairs).to_bytes(4, "little")


def test_files_of_large_stores_are_worth_mapping():
    made = planned()
    assert made.sharded
    assert made.unit % made.chunk == 0
    assert made.unit_bytes("keys") >= 2**23
    assert made.unit_bytes("keys") % 4096 == 0
    assert made.file_bytes("keys") == made.unit_bytes("keys") + len(made.index("keys"))
    assert planned(capacity=524_288).unit == 524_288


@pytest.mark.parametrize("capacity", [1, 5, 1000, 10**7])
@pytest.mark.parametrize("chunk", [None, 1, 3, 10**6])
@pytest.mark.parametrize(("remote", "encoded"), [(False, False), (True, False), (False, True)])
def test_any_size_has_a_layout(capacity, chunk, remote, encoded):
    made = planned(chunk=chunk, remote=remote, encoded=encoded, capacity=capacity, value_dim=3)
    assert made.chunk == chunk or (chunk is None and 1 <= made.chunk <= capacity)
    assert made.unit % made.chunk == 0
    assert made.sharded is not (remote or encoded)
    assert made.unit // made.chunk <= 4096
    assert all(made.units(0, capacity)[-1] == (capacity - 1) // made.unit for _ in KEYS)


def test_places_are_named():
    made = layout(chunk=8, unit=32)
    assert made.place("keys", 3, 0, 8) == "keys, head 3, chunk 0 (rows 0:8)"
    assert made.place("values", 0, 6, 33) == "values, head 0, chunks 0 to 4 (rows 6:33)"
    assert made.name("keys", 3, 2) == "keys/c.3.2.0"
    assert list(made.units(31, 65)) == [0, 1, 2]
    assert list(made.units(0, 0)) == []
