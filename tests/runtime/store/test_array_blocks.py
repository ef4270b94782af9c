import os

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.blocks import HeadwiseBlocks, is_divided, is_mapped
from attngraph.runtime.store.array_blocks import DecodedBlocks, ViewedBlocks
from attngraph.runtime.store.regions import REGIONS
from stores import small_units

HEADS, DIM, CHUNK, UNIT, LENGTH = 2, 16, 64, 128, 300
RNG = np.random.default_rng(0)
KEYS, VALUES = (RNG.standard_normal((HEADS, LENGTH, DIM), dtype="float32") for _ in range(2))
WIDTH = slice(0, DIM)


def create(path, **options):
    store = ag.KVStore.create(path, heads=HEADS, dim=DIM, chunk=CHUNK, **options)
    store.append(KEYS, VALUES)
    return store


@pytest.fixture(params=["raw", "zstd", "gzip"])
def store(request, tmp_path, monkeypatch):
    small_units(monkeypatch, UNIT)
    with create(tmp_path / "store", compressor=None if request.param == "raw" else request.param) as made:
        yield made


def blocks_of(store, key="keys"):
    return store.stored_array(key).__attngraph_blocks__()


@pytest.mark.parametrize(("start", "stop"), [(0, LENGTH), (0, 1), (100, 200), (127, 129), (5, 5)])
def test_any_part_is_read(store, start, stop):
    blocks = blocks_of(store)
    box = slice(0, HEADS), slice(start, stop), WIDTH
    assert np.array_equal(blocks.read(box), KEYS[:, start:stop])
    assert np.array_equal(blocks.read((slice(1, 2), slice(start, stop), slice(3, 7))), KEYS[1:, start:stop, 3:7])


def test_mapped_files_are_viewed_and_others_decoded(store):
    blocks = blocks_of(store)
    if store.stored_array("keys").mapped:
        assert isinstance(blocks, ViewedBlocks)
        assert is_mapped(blocks)
        box = slice(0, HEADS), slice(100, 290), WIDTH
        first, again = blocks.read(box), blocks.read(box)
        blocks.fetch(box)
        assert np.shares_memory(first, again)
        assert not first.flags.writeable
    else:
        assert isinstance(blocks, DecodedBlocks)
        assert is_divided(blocks)
        box = slice(0, HEADS), slice(10, LENGTH), WIDTH
        out = np.empty((HEADS, LENGTH - 10, DIM), "float32")
        for piece in blocks.pieces(box):
            inside = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(piece, box, strict=True))
            blocks.read_into(piece, out[inside])
        assert np.array_equal(out, KEYS[:, 10:])


def test_a_damaged_file_is_named(store):
    name = "c.1.0.0"
    blocks = blocks_of(store)
    box = slice(0, HEADS), slice(0, 100), WIDTH
    blocks.read(box)
    path = f"{store.path}/keys/{name}"
    os.truncate(path, os.path.getsize(path) - 9)  # noqa: PTH202
    if is_mapped(blocks):
        blocks.fetch(box)
    with pytest.raises(ag.StoreError, match=rf"read: keys, head 1, chunks? .*{name}"):
        blocks.read(box)
    os.unlink(path)  # noqa: PTH108
    with pytest.raises(ag.StoreError, match=rf"read: keys, head 1, chunks? .*{name}"):
        blocks.read(box)
    blocks.read((slice(0, 1), slice(0, 100), WIDTH))


def test_a_truncated_store_is_told(store):
    if not store.stored_array("keys").mapped:
        pytest.skip("said by the same check")
    blocks = blocks_of(store)
    store.truncate(50)
    with pytest.raises(ag.StoreError, match="was truncated to 50"):
        blocks.read((slice(0, HEADS), slice(0, 100), WIDTH))
    assert np.array_equal(blocks.read((slice(0, HEADS), slice(0, 50), WIDTH)), KEYS[:, :50])


def test_what_is_appended_joins_the_region(tmp_path, monkeypatch):
    small_units(monkeypatch, UNIT)
    with create(tmp_path / "store") as store:
        before = len(REGIONS)
        old = blocks_of(store).read((slice(0, HEADS), slice(0, LENGTH), WIDTH))
        assert len(REGIONS) == before + 1
        store.append(KEYS[:, :200], VALUES[:, :200])
        new = blocks_of(store).read((slice(0, HEADS), slice(0, LENGTH + 200), WIDTH))
        assert np.shares_memory(old, new)
        assert np.array_equal(new[:, LENGTH:], KEYS[:, :200])
        del old, new
    assert len(REGIONS) == before


def test_rows_that_are_no_whole_pages_are_read_head_by_head(tmp_path, monkeypatch):
    small_units(monkeypatch, 65)
    with ag.KVStore.create(tmp_path / "store", heads=HEADS, dim=DIM, chunk=65) as store:
        store.append(KEYS, VALUES)
        blocks = blocks_of(store)
        assert isinstance(blocks, HeadwiseBlocks)
        assert np.array_equal(blocks.read((slice(0, HEADS), slice(0, LENGTH), WIDTH)), KEYS)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("compressor", [None, "zstd"])
def test_attention_is_that_of_arrays(tmp_path, monkeypatch, dtype, compressor):
    small_units(monkeypatch, 1024)
    length = 5000
    keys, values = (RNG.standard_normal((HEADS, length, DIM), dtype="float32") for _ in range(2))
    queries = RNG.standard_normal((HEADS, 5, DIM), dtype="float32")
    with ag.KVStore.create(
        tmp_path / "store", heads=HEADS, dim=DIM, chunk=512, dtype=dtype, compressor=compressor
    ) as store:
        store.append(keys, values)
        held = [np.asarray(store.stored_array(key)).astype("float32") for key in ("keys", "values")]
        wanted = ag.attention(queries, *held).compute()
        found = ag.attention(queries, *(ag.astype(each, ag.float32) for each in (store.keys, store.values))).compute()
        assert found.tobytes() == wanted.tobytes()
        with ag.config.set(memory_limit=2_000_000):
            assert np.array_equal(ag.attention(queries, *held).compute(), wanted)
