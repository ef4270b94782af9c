"""Where rows lie: the arrays' zarr metadata, the names of their files, and the offsets inside.

Each array is ``(heads, length, width)``. A *chunk* is what one checksum covers: so many rows of one
head. A *unit* is what one file holds: of a raw store on a disk a zarr shard of many chunks, whose
file begins with the rows as they are and ends with zarr's index, so that it can be mapped; otherwise
one chunk.
"""

import functools
import struct
from dataclasses import asdict, dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from ...engine.types import DType

KEYS = ("keys", "values")

# Of one head. Small appends do not touch more than a chunk's checksum; a map is worth its while from 8 MiB on.
_CHUNK_BYTES, _REMOTE_CHUNK_BYTES = 2**20, 2**22
_UNIT_BYTES, _LARGEST_UNIT_BYTES = 2**26, 2**28
_MOST_CHUNKS_IN_UNIT = 4096

# The elements, and how zarr stores them: it has no bfloat16, and of int4 two share a byte.
_ELEMENTS: dict[str, DType] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
    "int4": np.dtype(np.uint8),
}
_STORED: dict[str, DType] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
    "int4": np.dtype("u1"),
}
DTYPES = tuple(_ELEMENTS)
QUANTIZED = ("int8", "int4")
# What stands beside quantized keys and values, by the ends of their names.
_SCALE, _ZERO_POINT = "_scale", "_zero_point"

_BYTES_CODEC = {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass(frozen=True)
class Layout:
    """All that does not change in a store's life.

    Attributes:
        heads: Number of heads.
        dim: Width of a key.
        value_dim: Width of a value.
        dtype: Name of the elements' type.
        capacity: The most rows that it may hold; None for no bound.
        chunk: Rows of a chunk.
        unit: Rows of a file, a multiple of ``chunk``.
        sharded: Whether the files are zarr shards.
        codecs: zarr's description of what rows are encoded by; None for rows as they are.
        group: Of quantized rows, how many elements share a scale; None for all of a row.
        symmetric: Of quantized rows, whether they have no zero points.
    """

    heads: int
    dim: int
    value_dim: int
    dtype: str
    capacity: int | None
    chunk: int
    unit: int
    sharded: bool
    codecs: dict[str, list[Any]] | None = None
    group: int | None = None
    symmetric: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether rows are numbers of few bits, with scales beside them."""
        return self.dtype in QUANTIZED

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of all arrays: keys and values, then what those are read by."""
        ends = () if not self.is_quantized else (_SCALE,) if self.symmetric else (_SCALE, _ZERO_POINT)
        return (*KEYS, *(f"{key}{end}" for key in KEYS for end in ends))

    def _named(self, key: str) -> str:
        """The name of an array's type."""
        return self.dtype if key in KEYS else "float32" if key.endswith(_SCALE) else "int8"

    def element(self, key: str) -> DType:
        """The type of an array's elements, as NumPy knows it."""
        return _ELEMENTS[self._named(key)]

    def stored(self, key: str) -> DType:
        """The type that zarr stores them in, little-endian."""
        return _STORED[self._named(key)]

    def given_width(self, key: str) -> int:
        """Numbers of a row of keys or values as they are appended."""
        return self.dim if key == "keys" else self.value_dim

    def width(self, key: str) -> int:
        """Elements of a row of an array."""
        numbers = self.dim if key.startswith("keys") else self.value_dim
        if key in KEYS:
            return numbers // 2 if self.dtype == "int4" else numbers
        return 1 if self.group is None else numbers // self.group

    def row_bytes(self, key: str) -> int:
        """Bytes of a row that is not encoded."""
        return self.width(key) * self.stored(key).itemsize

    def unit_bytes(self, key: str) -> int:
        """Bytes of a file's rows, not encoded."""
        return self.unit * self.row_bytes(key)

    def index(self, key: str) -> bytes:
        """What follows the rows in a file: a shard's index."""
        return shard_index(self.unit // self.chunk, self.chunk * self.row_bytes(key)) if self.sharded else b""

    def file_bytes(self, key: str) -> int | None:
        """The size of each file; None where rows are encoded."""
        if self.codecs is not None:
            return None
        return self.unit_bytes(key) + (16 * (self.unit // self.chunk) + 4 if self.sharded else 0)

    def name(self, key: str, head: int, unit: int) -> str:
        """A file's name below the store, as zarr's default chunk keys have it.

        They are separated by dots: all files of an array lie in one folder, which is one to make durable.
        """
        return f"{key}/c.{head}.{unit}.0"

    def units(self, start: int, stop: int) -> range:
        """The files that rows from ``start`` to ``stop`` lie in."""
        return range(start // self.unit, -(-stop // self.unit))

    def place(self, key: str, head: int, start: int, stop: int) -> str:
        """For messages: which chunks rows from ``start`` to ``stop`` lie in."""
        first, last = start // self.chunk, max(start, stop - 1) // self.chunk
        chunks = f"chunk {first}" if first == last else f"chunks {first} to {last}"
        return f"{key}, head {head}, {chunks} (rows {start}:{stop})"

    def array_document(self, key: str, length: int) -> dict[str, Any]:
        """The array's ``zarr.json``, of so many rows."""
        named = self._named(key)
        attributes = {"element_type": named} if named in ("bfloat16", "int4") else {}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [self.heads, length, self.width(key)],
            "data_type": self.stored(key).name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, self.unit, self.width(key)]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": 0 if self.stored(key).kind in "iu" else 0.0,
            "codecs": self._codecs(key),
            "attributes": attributes,
            "dimension_names": ["head", "position", self._dimension(key)],
            "storage_transformers": [],
        }

    def _dimension(self, key: str) -> str:
        """The name of the last axis: xarray has one length for each."""
        name = "dim" if key.startswith("keys") else "value_dim"
        if key in KEYS:
            return f"{name}_pair" if self.dtype == "int4" else name
        return f"{name}_group"

    def _codecs(self, key: str) -> list[Any]:
        if self.codecs is not None:
            return self.codecs[key]
        if not self.sharded:
            return [_BYTES_CODEC]
        configuration = {
            "chunk_shape": [1, self.chunk, self.width(key)],
            "codecs": [_BYTES_CODEC],
            "index_codecs": [_BYTES_CODEC, {"name": "crc32c"}],
            "index_location": "end",
        }
        return [{"name": "sharding_indexed", "configuration": configuration}]

    def codec_names(self) -> tuple[str, ...]:
        """What rows are compressed by."""
        named = [] if self.codecs is None else self.codecs["keys"]
        return tuple(codec["name"] for codec in named if codec["name"] not in ("bytes", "crc32c"))

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        plain = asdict(self)
        if not self.is_quantized:  # as it was before there were such
            del plain["group"], plain["symmetric"]
        return plain


def plan(shape: Layout, *, chunk: int | None, remote: bool, encoded: bool) -> Layout:
    """The layout with rows to a chunk and a unit, chosen where they are not given.

    Args:
        shape: All else; its ``chunk``, ``unit`` and ``sharded`` do not count.
        chunk: Rows of a chunk; None to choose.
        remote: Whether it lies where files are replaced as a whole.
        encoded: Whether rows will be compressed.
    """
    row = max(shape.row_bytes(key) for key in shape.arrays)
    if chunk is None:
        chunk = 1 << max(0, ((_REMOTE_CHUNK_BYTES if remote else _CHUNK_BYTES) // row).bit_length() - 1)
        chunk = chunk if shape.capacity is None else min(chunk, shape.capacity)
    if remote or encoded:
        return replace(shape, chunk=chunk, unit=chunk, sharded=False)
    rows = _UNIT_BYTES // row if shape.capacity is None else min(shape.capacity, _LARGEST_UNIT_BYTES // row)
    chunks = min(max(1, -(-rows // chunk)), _MOST_CHUNKS_IN_UNIT)
    return replace(shape, chunk=chunk, unit=chunks * chunk, sharded=True)


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


@functools.lru_cache(maxsize=64)
def shard_index(chunks: int, chunk_bytes: int) -> bytes:
    """A zarr shard's index of chunks that follow each other, all there: offsets, lengths, and their CRC-32C."""
    index = b"".join(struct.pack("<QQ", number * chunk_bytes, chunk_bytes) for number in range(chunks))
    table, checksum = _crc32c_table(), 0xFFFFFFFF
    for byte in index:
        checksum = table[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    return index + struct.pack("<I", checksum ^ 0xFFFFFFFF)
