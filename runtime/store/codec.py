"""Compressed chunks: zarr's codecs, one chunk of one head at a time, in memory."""

import itertools
import json
from typing import Any

import numpy as np

from ...engine.errors import ArgumentError
from .decoding import direct_decoder
from .layout import Layout

Values = np.ndarray[Any, Any]

BLOSC = ("lz4", "lz4hc", "blosclz", "zstd", "zlib")
NAMES = ("zstd", "gzip", *(f"blosc-{name}" for name in BLOSC))
# Chunks that are encoded and decoded at the same time have each a number of its own.
_NUMBERS = 2**30


def _by_name(name: str) -> Any:
    from zarr import codecs

    if name == "zstd":
        return codecs.ZstdCodec()
    if name == "gzip":
        return codecs.GzipCodec()
    if name == "blosc" or name.removeprefix("blosc-") in BLOSC:
        return codecs.BloscCodec(cname=name.partition("-")[2] or "zstd")  # type: ignore[arg-type]
    raise ArgumentError(f"create: no compressor {name!r}: it is None, a zarr codec, or one of {', '.join(NAMES)}")


def describe_codecs(layout: Layout, compressor: Any) -> dict[str, list[Any]]:
    """Zarr's description, for each array, of chunks that are compressed and carry a CRC-32C.

    The checksum is of the compressed bytes: what is damaged is found before a decompressor sees it.

    Raises:
        ArgumentError: If ``compressor`` is no codec from bytes to bytes, nor the name of one.
    """
    import zarr
    from zarr.abc.codec import BytesBytesCodec
    from zarr.codecs import Crc32cCodec
    from zarr.storage import MemoryStore

    given = compressor if isinstance(compressor, list | tuple) else [compressor]
    compressors = [_by_name(one) if isinstance(one, str) else one for one in given]
    for one in compressors:
        if not isinstance(one, BytesBytesCodec):
            raise ArgumentError(
                f"create: a compressor is a name ({', '.join(NAMES)}) or a zarr codec from bytes to bytes, "
                f"not {type(one).__module__}.{type(one).__qualname__}"
            )
    described = {}
    for key in layout.arrays:
        shape = (1, layout.chunk, layout.width(key))
        compressing = [*compressors, Crc32cCodec()]
        made = zarr.create_array(
            MemoryStore(), shape=shape, chunks=shape, dtype=layout.stored(key), compressors=compressing, filters=None
        )
        described[key] = list(json.loads(json.dumps(made.metadata.to_dict()["codecs"])))
    return described


class ChunkCodec:
    """Rows of a chunk to bytes and back, by zarr: an array in memory whose chunks come and go.

    Safe to use from several threads.

    Args:
        layout: The store's.
        key: Which array.
    """

    def __init__(self, layout: Layout, key: str) -> None:
        import zarr
        from zarr.core.buffer import Buffer, default_buffer_prototype
        from zarr.storage import MemoryStore

        self._buffer = default_buffer_prototype().buffer.from_bytes
        document = layout.array_document(key, _NUMBERS * layout.chunk)
        document["shape"][0] = 1
        self._chunks: dict[str, Buffer] = {"zarr.json": self._buffer(json.dumps(document).encode())}
        with zarr.config.set({"array.write_empty_chunks": True}):  # a chunk of zeros is a chunk
            self._array = zarr.open_array(MemoryStore(self._chunks), mode="r+")
        self._rows, self._width, self._stored = layout.chunk, layout.width(key), layout.stored(key)
        self._numbers = itertools.cycle(range(_NUMBERS))
        self._direct = direct_decoder(document["codecs"])

    def encode(self, rows: Values) -> bytes:
        """The bytes of a whole chunk, shape (chunk, width)."""
        number = next(self._numbers)
        self._array[0, number * self._rows : (number + 1) * self._rows] = rows
        return self._chunks.pop(f"c.0.{number}.0").to_bytes()

    def decode_into(self, contents: bytes | memoryview, out: Values) -> None:
        """The rows of a whole chunk, into a contiguous array (chunk, width) of what is stored.

        Raises:
            OSError: As `decode`.
        """
        if self._direct is None:
            out[...] = self.decode(bytes(contents))
            return
        try:
            self._direct(contents, out)
        except Exception as error:  # each codec has errors of its own
            raise OSError(f"its contents are damaged: {error}") from error

    def decode(self, contents: bytes) -> Values:
        """The rows of a chunk, shape (chunk, width).

        Raises:
            OSError: If the bytes are not what `encode` made.
        """
        if self._direct is not None:
            rows = np.empty((self._rows, self._width), self._stored)
            self.decode_into(contents, rows)
            return rows
        number = next(self._numbers)
        name = f"c.0.{number}.0"
        self._chunks[name] = self._buffer(contents)
        try:
            return np.asarray(self._array[0, number * self._rows : (number + 1) * self._rows])
        except Exception as error:  # each codec has errors of its own
            raise OSError(f"its contents are damaged: {error}") from error
        finally:
            del self._chunks[name]
