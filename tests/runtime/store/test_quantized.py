"""Stores of 8 and 4 bits: rows are quantized as they come, and read as what they stand for."""

import json
import pickle

import numpy as np
import pytest
import xarray as xr
import zarr

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.config import config
from attngraph.runtime.store import layout
from stores import HEADS, rows, small_units

CHUNK, UNIT = 8, 32
KINDS = [("int8", None, False), ("int8", 2, True), ("int4", None, True), ("int4", 2, False)]
WIDTH, VALUE_WIDTH = 8, 4


@pytest.fixture
def path(tmp_path, monkeypatch):
    small_units(monkeypatch, UNIT)
    return tmp_path / "store"


def pair(length, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((HEADS, length, width)).astype("float32") for width in (WIDTH, VALUE_WIDTH))


def create(path, dtype="int8", group_size=None, symmetric=False, **options):
    return ag.KVStore.create(
        path, HEADS, WIDTH, VALUE_WIDTH, dtype, chunk=CHUNK, group_size=group_size, symmetric=symmetric, **options
    )


def read_back(given, dtype, group_size, symmetric):
    return ag.dequantize(ag.quantize(given, dtype, group_size=group_size, symmetric=symmetric)).compute()


@pytest.mark.parametrize(("dtype", "group_size", "symmetric"), KINDS)
@pytest.mark.parametrize("compressor", [None, "zstd"])
def test_rows_are_quantized_one_by_one(path, dtype, group_size, symmetric, compressor):
    keys, values = pair(97)
    wanted = [read_back(each, dtype, group_size, symmetric) for each in (keys, values)]
    with create(path, dtype, group_size, symmetric, compressor=compressor) as store:
        start = 0
        for count in (1, 6, 1, 24, 40, 0, 25):
            store.append(keys[:, start : start + count], values[:, start : start + count])
            start += count
            assert np.array_equal(store.keys.compute(), wanted[0][:, :start])
        assert store.verify().ok
        assert store.verify().chunks == len(store.stored_array("keys")) * 13 * (4 if symmetric else 6)
    with ag.KVStore.open(path) as again:
        assert again.keys.dtype == again.values.dtype == np.float32
        assert again.values.shape == (HEADS, 97, VALUE_WIDTH)
        for found, each in zip((again.keys, again.values), wanted, strict=True):
            assert np.array_equal(found.compute(), each)
        information = again.info()
        assert information.dtype == dtype
        assert information.group_size == (group_size or WIDTH)
        assert information.bytes < 97 * HEADS * (WIDTH + VALUE_WIDTH) * 4


@pytest.mark.parametrize(("dtype", "group_size", "symmetric"), KINDS)
@pytest.mark.parametrize("compressor", [None, "gzip"])
@pytest.mark.parametrize("queries", [2, 20])
def test_attention_reads_what_is_stored(monkeypatch, tmp_path, dtype, group_size, symmetric, compressor, queries):
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    keys, values = pair(150)
    query = np.random.default_rng(1).standard_normal((HEADS, queries, WIDTH)).astype("float32")
    with create(tmp_path / "store", dtype, group_size, symmetric, compressor=compressor) as store:
        store.append(keys, values)
        out = ag.attention(query, store.keys, store.values)
        found = out.compute()
        wanted = ag.attention(query, *(read_back(each, dtype, group_size, symmetric) for each in (keys, values)))
        with ag.config.set(target="reference64"):
            np.testing.assert_allclose(found, wanted.compute(), atol=1e-6)
        if compressor is None:  # nothing is read but through maps, and no float32 is made of it
            made = program.Program([out.node])
            assert made.streams is not None
            assert all(each.is_view for stream in made.streams.steps.values() for each in stream.inputs)
            assert len(made.kernels) == 1
            assert made.memory(config.settings()).peak_bytes < keys.nbytes


def test_snapshots_keep_their_length_and_see_truncation(path):
    keys, values = pair(40)
    with create(path) as store:
        store.append(keys[:, :30], values[:, :30])
        before = store.keys
        store.append(keys[:, 30:], values[:, 30:])
        assert np.array_equal(before.compute(), read_back(keys[:, :30], "int8", None, False))
        store.truncate(13)
        assert store.verify().ok
        with pytest.raises(ag.StoreError, match="truncated to 13"):
            before.compute()
        assert np.array_equal(store.keys.compute(), read_back(keys[:, :13], "int8", None, False))
        again = pickle.loads(pickle.dumps(store))
        assert np.array_equal(again.values.compute(), store.values.compute())


@pytest.mark.parametrize(("dtype", "group_size", "symmetric"), KINDS)
def test_it_is_a_plain_zarr_group(path, dtype, group_size, symmetric):
    keys, values = pair(33)
    with create(path, dtype, group_size, symmetric) as store:
        store.append(keys, values)
    wanted = ag.quantize(keys, dtype, group_size=group_size, symmetric=symmetric).compute()
    group = zarr.open_group(path, mode="r")
    assert np.array_equal(group["keys"][...], wanted.data)
    assert np.array_equal(group["keys_scale"][...], wanted.scale)
    assert ("keys_zero_point" in group) is not symmetric
    with xr.open_zarr(path) as data:
        assert np.array_equal(data["values"].values, group["values"][...])
        assert data["keys_scale"].dims == ("head", "position", "dim_group")


def test_damage_of_any_array_is_found(path):
    keys, values = pair(40)
    with create(path) as store:
        store.append(keys, values)
        file = path / "values_scale" / "c.1.0.0"
        contents = bytearray(file.read_bytes())
        contents[5] ^= 1
        file.write_bytes(contents)
        (problem,) = store.verify().problems
        assert (problem.array, problem.head, problem.chunk) == ("values_scale", 1, 0)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_the_largest_numbers_are_read_finite(path, dtype):
    keys, values = (np.where(np.sign(each) < 0, -3.4e38, 3.4e38).astype("float32") for each in pair(3))
    with create(path, dtype) as store:
        store.append(keys, values)
        assert np.allclose(store.keys.compute(), keys, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_has_no_number_is_not_appended(path, bad):
    keys, values = pair(3)
    with create(path) as store:
        store.append(keys, values)
        keys[1, 1, 1] = bad
        with pytest.raises(ag.LimitError, match="keys hold NaN or infinity, which int8 cannot"):
            store.append(keys, values)
        with pytest.raises(ag.LimitError, match="beyond float32"):
            store.append(np.full(keys.shape, 1e300), values)
        assert len(store) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"group_size": 3}, "groups of 3 do not divide rows of 8 and 4"),
        ({"group_size": 8}, "groups of 8 do not divide"),
        ({"group_size": 0}, "group_size is at least 1"),
        ({"group_size": 2.0}, "group_size is an integer"),
        ({"symmetric": 1}, "symmetric is True or False"),
        ({"dtype": "float32", "group_size": 2}, "are of quantized rows"),
        ({"dtype": "float16", "symmetric": True}, "are of quantized rows"),
    ],
)
def test_bad_arguments_make_nothing(path, wrong, message):
    with pytest.raises(ag.ArgumentError, match=message):
        create(path, **wrong)
    assert not path.exists()


def test_rows_of_int4_are_even(path):
    with pytest.raises(ag.ArgumentError, match="is odd"):
        ag.KVStore.create(path, 1, 5, dtype="int4")


def test_records_of_other_stores_are_as_they_were(path):
    with ag.KVStore.create(path, 1, 4, chunk=CHUNK):
        own = json.loads((path / "zarr.json").read_bytes())["attributes"]["attngraph"]
    assert own["format"] == 1
    assert "group" not in own["layout"]
    assert layout.Layout(**own["layout"]).arrays == layout.KEYS


def test_unknown_arrays_are_named(path):
    with create(path, symmetric=True) as store, pytest.raises(ag.ArgumentError, match="keys_scale and values_scale"):
        store.stored_array("keys_zero_point")
    assert rows(1)[0].shape[1] == 1
