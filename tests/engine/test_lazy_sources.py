"""Arrays of other libraries: described without being read, read at every evaluation, left as they were."""

import numpy as np
import pytest

import attngraph as ag

X = np.arange(12, dtype="float32").reshape(3, 4)


def counting_store(zarr):
    class Counting(zarr.storage.WrapperStore):
        """A store that knows which chunks were asked for."""

        gets = 0

        async def get(self, key, *args, **kwargs):
            if not key.endswith(".json"):
                type(self).gets += 1
            return await super().get(key, *args, **kwargs)

    return Counting


def check(lazy, count, change):
    """Nothing is read before an evaluation, something at each."""
    assert (lazy.shape, lazy.dtype) == ((3, 4), np.float32)
    twice = ag.sum(lazy * 2, axis=0)
    repr(twice)
    assert count() == 0
    np.testing.assert_allclose(twice.compute(), 2 * X.sum(0))
    first = count()
    assert first > 0
    change()
    np.testing.assert_allclose(twice.compute(), 2 * X.sum(0) + [200, 0, 0, 0])
    assert count() == 2 * first


def test_zarr():
    zarr = pytest.importorskip("zarr")
    store = counting_store(zarr)(zarr.storage.MemoryStore())
    stored = zarr.create_array(store, shape=X.shape, chunks=(2, 2), dtype="float32")
    stored[...] = X
    type(store).gets = 0

    def change():
        before = type(store).gets
        stored[0, 0] = 100
        type(store).gets = before

    check(ag.asarray(stored), lambda: type(store).gets, change)


def test_dask():
    da = pytest.importorskip("dask.array")
    source, calls = X.copy(), []

    def block(block_info=None):
        calls.append(block_info[None]["chunk-location"])
        (rows, columns) = block_info[None]["array-location"]
        return source[slice(*rows), slice(*columns)]

    chunked = da.map_blocks(block, chunks=((2, 1), (2, 2)), dtype="float32", meta=np.empty((0, 0), "float32"))
    calls.clear()

    def change():
        source[0, 0] = 100

    check(ag.asarray(chunked), lambda: len(calls), change)


def test_a_map_of_a_file_is_not_copied(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(X.tobytes())
    mapped = np.memmap(path, "float32", "r+", shape=X.shape)
    lazy = ag.asarray(mapped)
    assert lazy.node.source is mapped
    assert np.shares_memory(lazy.node.reference(), mapped)
    mapped[0, 0] = 100
    assert lazy.compute()[0, 0] == 100


def unloaded(tmp_path):
    """Of a store, as xarray opens it without dask: read when needed, and then kept."""
    xr, zarr = pytest.importorskip("xarray"), pytest.importorskip("zarr")
    store = counting_store(zarr)(zarr.storage.LocalStore(tmp_path / "store"))
    group = zarr.create_group(store)
    stored = group.create_array("x", shape=X.shape, chunks=(3, 4), dtype="float32", dimension_names=("a", "b"))
    stored[...] = X
    dataset = xr.open_zarr(store, chunks=None, consolidated=False)
    type(store).gets = 0
    return dataset.x, stored, store


def test_xarray_reads_nothing_and_keeps_nothing(tmp_path):
    labelled, stored, store = unloaded(tmp_path)
    lazy = ag.asarray(labelled)
    assert lazy.labels == ("a", "b")

    def change():
        before = type(store).gets
        stored[0, 0] = 100
        type(store).gets = before

    check(lazy, lambda: type(store).gets, change)
    assert not labelled._in_memory
    compiled = ag.compile(lambda x: x * 2)
    assert compiled(labelled).dims == ("a", "b")
    assert not labelled._in_memory


def test_xarray_over_dask_is_not_loaded():
    xr, da = pytest.importorskip("xarray"), pytest.importorskip("dask.array")
    labelled = xr.DataArray(da.from_array(X, chunks=(2, 2)), dims=("a", "b"), coords={"a": [1, 2, 3]})
    lazy = ag.asarray(labelled)
    assert lazy.labels == ("a", "b")
    np.testing.assert_array_equal((lazy + 1).compute(), X + 1)
    assert labelled.chunks is not None
    assert list(lazy.to_xarray().a.values) == [1, 2, 3]
    assert isinstance(lazy.to_xarray().data, ag.Array)


def test_xarray_over_numpy_shares_its_memory():
    xr = pytest.importorskip("xarray")
    labelled = xr.DataArray(X.copy(), dims=("a", "b"))
    lazy = ag.asarray(labelled)
    assert np.shares_memory(lazy.node.reference(), labelled.data)
    labelled[0, 0] = 100
    assert lazy.compute()[0, 0] == 100
