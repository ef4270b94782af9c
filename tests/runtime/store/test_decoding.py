import numcodecs
import numpy as np
import pytest

from attngraph.runtime.store.decoding import direct_decoder

BYTES, CRC = {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}
ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def encoded(codec):
    google_crc32c = pytest.importorskip("google_crc32c")
    body = bytes(codec.encode(ROWS.tobytes()))
    return body + google_crc32c.value(body).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("name", "codec"), [("zstd", numcodecs.Zstd()), ("gzip", numcodecs.GZip()), ("blosc", numcodecs.Blosc())]
)
def test_it_decodes_where_rows_belong_and_finds_damage(name, codec):
    decode = direct_decoder([BYTES, {"name": name}, CRC])
    contents, out = encoded(codec), np.empty_like(ROWS)
    decode(contents, out)
    assert np.array_equal(out, ROWS)
    with pytest.raises(ValueError, match="checksum"):
        decode(contents[:7] + b"!" + contents[8:], out)
    with pytest.raises(ValueError, match="checksum"):
        decode(contents[:-1], out)


def test_what_only_zarr_knows():
    assert direct_decoder([BYTES, CRC]) is None
    assert direct_decoder([BYTES, {"name": "zstd"}, {"name": "gzip"}, CRC]) is None
    assert direct_decoder([BYTES, {"name": "other"}, CRC]) is None
    assert direct_decoder([{"name": "bytes"}, {"name": "zstd"}, CRC]) is None
