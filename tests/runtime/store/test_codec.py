from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

import attngraph as ag
from attngraph.runtime.store.codec import NAMES
from stores import check, create, rows


@pytest.mark.parametrize(
    "compressor", [*NAMES, "blosc", GzipCodec(level=1), [ZstdCodec(level=3)], ["zstd", Crc32cCodec()]]
)
def test_any_codec_of_zarrs(tmp_path, compressor):
    keys, values = rows(20)
    with create(tmp_path / "store", chunk=8, compressor=compressor) as store:
        store.append(keys, values)
        check(store, keys, values)
        assert store.info().codec
    assert np.array_equal(zarr.open_group(tmp_path / "store", mode="r")["keys"][...], keys)


def test_chunks_of_zeros_are_chunks(tmp_path):
    zeros = np.zeros((2, 20, 4), "float32"), np.zeros((2, 20, 3), "float32")
    with create(tmp_path / "store", chunk=8, compressor="zstd") as store:
        store.append(*zeros)
        check(store, *zeros)
        next((tmp_path / "store" / "keys").glob("c.*")).unlink()
        assert not store.verify()


def test_codecs_that_would_reorder_rows_are_refused(tmp_path):
    with pytest.raises(ag.ArgumentError, match=r"a zarr codec from bytes to bytes, not zarr.*TransposeCodec"):
        create(tmp_path / "store", compressor=TransposeCodec(order=(0, 2, 1)))


def test_threads_may_decode_at_once(tmp_path):
    keys, values = rows(400)
    with create(tmp_path / "store", chunk=10, compressor=BloscCodec(cname="lz4")) as store:
        store.append(keys, values)
        array = store.stored_array("keys")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda block: array.read(1, *block), array.blocks()))
        assert np.array_equal(np.concatenate(found), keys[1])
