"""How arrays of other libraries are read block by block."""

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from cut import Stored

from attngraph.engine.blocks import HeadwiseBlocks, blocks_of
from attngraph.engine.sources import is_lazy_source, read

ARRAY = np.random.default_rng(0).standard_normal((3, 100, 8)).astype("float32")
BOX = (slice(1, 3), slice(17, 60), slice(0, 8))


class Heads:
    """As a store of heads is read."""

    shape = ARRAY.shape

    def read(self, head, start, stop):
        return ARRAY[head, start:stop]


@pytest.mark.parametrize("kind", ["zarr", "dask", "xarray of dask", "own", "heads"])
def test_a_box(kind):
    lazy = {
        "zarr": lambda: zarr.array(ARRAY, chunks=(1, 32, 8)),
        "dask": lambda: dask.array.from_array(ARRAY, chunks=(1, 32, 8)),
        "xarray of dask": lambda: xarray.DataArray(dask.array.from_array(ARRAY, chunks=(1, 32, 8))),
        "own": lambda: Stored(ARRAY, 32),
        "heads": lambda: None,
    }[kind]()
    blocks = HeadwiseBlocks(Heads(), 32) if kind == "heads" else blocks_of(lazy)
    assert blocks.steps[1] == 32
    found = blocks.read(BOX)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, ARRAY[BOX])


def test_one_head_is_not_copied():
    found = HeadwiseBlocks(Heads(), 1).read((slice(1, 2), slice(0, 50), slice(0, 8)))
    assert np.shares_memory(found, ARRAY)


def test_what_is_in_memory_has_no_blocks(tmp_path):
    mapped = np.memmap(tmp_path / "array", np.float32, "w+", shape=(4, 4))
    for each in (ARRAY, mapped, xarray.DataArray(ARRAY), 3.0, np.float32(3)):
        assert blocks_of(each) is None


def test_a_class_of_its_own_is_read_as_a_whole_too():
    stored = Stored(ARRAY)
    assert is_lazy_source(stored)
    np.testing.assert_array_equal(read(stored), ARRAY)
