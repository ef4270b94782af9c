"""`KVStore.info`: what a store is."""

from dataclasses import dataclass, fields

from .record import Record
from .units import Units


@dataclass(frozen=True)
class StoreInformation:
    """What a store is, at one moment; ``str()`` is a table.

    Attributes:
        path: Absolute path or URL.
        dtype: The elements' type.
        heads: Number of heads.
        length: Committed rows.
        capacity: The most rows it may hold; None for no bound.
        dim: Width of a key.
        value_dim: Width of a value.
        chunk: Rows that one checksum covers.
        file_rows: Rows that one file holds.
        codec: What chunks are compressed by; None for none.
        bytes: Of its rows, not compressed.
        bytes_on_disk: Bytes that its files take.
        mapped: Whether files are mapped into memory, not read.
        group_size: Of quantized rows, how many elements share a scale.
    """

    path: str
    dtype: str
    heads: int
    length: int
    capacity: int | None
    dim: int
    value_dim: int
    chunk: int
    file_rows: int
    codec: str | None
    bytes: int
    bytes_on_disk: int
    mapped: bool
    group_size: int | None = None

    def __str__(self) -> str:
        rows = [(field.name.replace("_", " "), getattr(self, field.name)) for field in fields(self)]
        return "\n".join(f"{name:14}{value:,}" if type(value) is int else f"{name:14}{value}" for name, value in rows)


def describe_store(units: Units, record: Record) -> StoreInformation:
    """What a store is now.

    Raises:
        OSError: If its files cannot be counted.
    """
    layout = record.layout
    return StoreInformation(
        path=units.files.describe()[0],
        dtype=layout.dtype,
        heads=layout.heads,
        length=record.length,
        capacity=layout.capacity,
        dim=layout.dim,
        value_dim=layout.value_dim,
        chunk=layout.chunk,
        file_rows=layout.unit,
        codec=", ".join(layout.codec_names()) or None,
        bytes=layout.heads * record.length * sum(layout.row_bytes(key) for key in layout.arrays),
        bytes_on_disk=units.files.stored_bytes(),
        mapped=units.mapped,
        group_size=(layout.group or layout.dim) if layout.is_quantized else None,
    )
