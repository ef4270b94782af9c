import pickle
import uuid

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from fsspec.implementations.dirfs import DirFileSystem

import attngraph as ag
from attngraph.runtime.store.remote_files import RemoteFiles
from stores import DIM, HEADS, VALUE_DIM, check, create, rows, small_units

CHUNK, LENGTH = 8, 50
KEYS, VALUES = rows(LENGTH)


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    if request.param == "file":
        yield f"file://{tmp_path}/store"
        return
    place = f"memory://{uuid.uuid4().hex}/store"
    yield place
    fsspec.filesystem("memory").rm(place.rpartition("/")[0], recursive=True)


def remove(url, name):
    system, root = fsspec.url_to_fs(url)
    system.rm_file(f"{root}/{name}")


def change(url, name, function):
    system, root = fsspec.url_to_fs(url)
    system.pipe_file(f"{root}/{name}", bytes(function(bytearray(system.cat_file(f"{root}/{name}")))))


@pytest.mark.parametrize(("compressor", "dtype"), [(None, "float32"), (None, "bfloat16"), ("zstd", "float16")])
def test_what_is_appended_comes_back(url, compressor, dtype):
    with create(url, chunk=CHUNK, compressor=compressor, dtype=dtype) as store:
        for start in range(0, LENGTH, 20):
            store.append(KEYS[:, start : start + 20], VALUES[:, start : start + 20])
        check(store, KEYS, VALUES)
        assert store.path == url
        assert not store.info().mapped
        assert store.info().bytes_on_disk > 0
        store.truncate(17)
        check(store, KEYS[:, :17], VALUES[:, :17])
        store.append(KEYS[:, 17:], VALUES[:, 17:])
    with ag.KVStore.open(url, mode="r+") as store:
        store.append(KEYS, VALUES)
        check(store, np.concatenate([KEYS, KEYS], 1), np.concatenate([VALUES, VALUES], 1))


def test_zarr_and_xarray_read_it(url):
    with create(url, chunk=CHUNK) as store:
        store.append(KEYS, VALUES)
        assert np.array_equal(zarr.open_group(url, mode="r")["values"][...], VALUES)
        with xr.open_zarr(url) as data:
            assert np.array_equal(data["keys"].values, KEYS)


def test_only_what_is_asked_for_is_read(monkeypatch):
    url = f"memory://{uuid.uuid4().hex}"
    with create(url, chunk=32) as store:
        store.append(KEYS, VALUES)
        array, asked, real = store.stored_array("keys"), [], RemoteFiles.read

        def noted(self, name, start=0, stop=None):
            asked.append((name, start, stop))
            return real(self, name, start, stop)

        monkeypatch.setattr(RemoteFiles, "read", noted)
        assert np.array_equal(array.read(1, 30, 35), KEYS[1, 30:35])
        row = 4 * DIM
        parts = [each for each in asked if each[0] != "zarr.json"]
        assert parts == [("keys/c.1.0.0", 30 * row, 32 * row), ("keys/c.1.1.0", 0, 3 * row)]
        assert np.array_equal(array.gather(0, [40, 3]), KEYS[0, [40, 3]])
        assert array.blocks() == [(0, 32), (32, LENGTH)]


def test_one_object_writes(url):
    with create(url) as store:
        with pytest.raises(ag.StoreError, match="is open for writing already"):
            ag.KVStore.open(url, mode="r+")
        store.append(KEYS, VALUES)
        with ag.KVStore.open(url) as reader:
            check(reader, KEYS, VALUES)
    ag.KVStore.open(url, mode="r+").close()


def test_a_writer_elsewhere_is_noticed(url):
    """By its commit: there are no locks in such places."""
    with create(url) as store:
        store.append(KEYS, VALUES)
        system, root = fsspec.url_to_fs(url)
        before = system.cat_file(f"{root}/zarr.json")
        store.append(KEYS, VALUES)
        system.pipe_file(f"{root}/zarr.json", before)
        with pytest.raises(ag.StoreError, match="another writer has written to"):
            store.append(KEYS, VALUES)


def test_nothing_is_written_over(url):
    create(url).close()
    with pytest.raises(ag.StoreError, match="there is something at"):
        create(url)
    with pytest.raises(ag.StoreError, match="open: there is no store at"):
        ag.KVStore.open(f"{url}/nowhere")


@pytest.mark.parametrize("compressor", [None, "zstd"])
def test_objects_that_are_gone_or_short_are_named(url, compressor):
    with create(url, chunk=CHUNK, compressor=compressor) as store:
        store.append(KEYS, VALUES)
        array = store.stored_array("values")
        change(url, "values/c.1.2.0", lambda contents: contents[:10])
        with pytest.raises(ag.StoreError, match=rf"values, head 1, chunk 2 \(rows 16:24\): {url}/values/c\.1\.2\.0"):
            array.read(1, 16, 24)
        remove(url, "values/c.1.2.0")
        with pytest.raises(ag.StoreError, match=rf"gather: values, head 1, chunk 2 .*{url}/values/c\.1\.2\.0"):
            array.gather(None, [17])
        (problem,) = store.verify().problems
        assert (problem.array, problem.head, problem.chunk, problem.rows) == ("values", 1, 2, (16, 24))
        assert problem.file == f"{url}/values/c.1.2.0"
        assert np.array_equal(array.read(1, 0, 16), VALUES[1, :16])


def test_a_flipped_bit_is_found(url):
    with create(url, chunk=CHUNK) as store:
        store.append(KEYS, VALUES)

        def flip(contents):
            contents[VALUE_DIM * 4] ^= 16
            return contents

        change(url, f"values/c.{HEADS - 1}.6.0", flip)
        (problem,) = store.verify().problems
        assert (problem.array, problem.head, problem.chunk, problem.rows) == ("values", HEADS - 1, 6, (48, LENGTH))


def test_an_append_that_fails_on_the_way_changes_nothing(monkeypatch):
    url = f"memory://{uuid.uuid4().hex}"
    with create(url, chunk=CHUNK) as store:
        store.append(KEYS, VALUES)
        real, made = RemoteFiles.replace, []

        def failing(self, name, contents, *, durable=True):
            if not left:
                raise OSError("the network is down")
            made.append(name)
            left.pop()
            real(self, name, contents, durable=durable)

        for count in range(2 * HEADS * 2 + 2):
            left = [None] * count
            with monkeypatch.context() as patched:
                patched.setattr(RemoteFiles, "replace", failing)
                with pytest.raises(ag.StoreError, match=r"append: .*the network is down"):
                    store.append(KEYS[:, :9], VALUES[:, :9])
            check(store, KEYS, VALUES)
        made.clear()
        with monkeypatch.context() as patched:
            patched.setattr(RemoteFiles, "replace", failing)
            left = [None] * 100
            store.append(KEYS[:, :9], VALUES[:, :9])
        assert made[-3:] == ["zarr.json", "keys/zarr.json", "values/zarr.json"]


def test_a_store_that_was_copied_there_is_read_and_written(tmp_path, monkeypatch):
    small_units(monkeypatch, 32)
    with create(tmp_path / "store", chunk=CHUNK) as store:
        store.append(KEYS, VALUES)
    url = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(str(tmp_path / "store"), url, recursive=True)
    with ag.KVStore.open(url, mode="r+") as store:
        check(store, KEYS, VALUES)
        store.append(KEYS, VALUES)
        check(store, np.concatenate([KEYS, KEYS], 1), np.concatenate([VALUES, VALUES], 1))
        assert np.array_equal(zarr.open_group(url, mode="r")["keys"][:, LENGTH:], KEYS)


def test_it_pickles_as_its_url(url):
    with create(url) as store:
        store.append(KEYS, VALUES)
        again, lazy = pickle.loads(pickle.dumps((store, store.values)))
        check(again, KEYS, VALUES)
        assert np.array_equal(lazy.compute(), VALUES)


def test_options_reach_the_file_system(tmp_path):
    options = {"path": str(tmp_path), "fs": fsspec.filesystem("file", auto_mkdir=True)}
    assert isinstance(fsspec.url_to_fs("dir://store", **options)[0], DirFileSystem)
    with create("dir://store", storage_options=options) as store:
        store.append(KEYS, VALUES)
        check(store, KEYS, VALUES)
        assert store.stored_array("keys").descriptor().storage_options == options
    with ag.KVStore.open("dir://store", storage_options=options) as store:
        check(store, KEYS, VALUES)


def test_a_place_that_fsspec_does_not_know():
    with pytest.raises(ag.ArgumentError, match="fsspec cannot open nowhere://x"):
        create("nowhere://x")
