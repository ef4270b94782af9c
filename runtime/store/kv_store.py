"""`KVStore`: keys and values on disk, in the user's hand."""

import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

from ...engine.errors import ArgumentError, LimitError
from ...ops.array import Array, asarray
from ...ops.quantization import dequantize
from .arguments import check_limits, new_attributes, new_layout, positive, whole, with_groups
from .codec import describe_codecs
from .files import Files, store_errors
from .information import StoreInformation, describe_store
from .layout import plan
from .places import Lock, lock, new_place, open_files
from .progress import progress_bar
from .record import NAME, Record, read_record
from .rows import as_stored
from .session import Session
from .stored_array import StoredArray
from .verification import Verification, verify
from .writing import append_rows, follow, truncate_rows


class KVStore:
    """Keys and values in a zarr group, appended to atomically and read without being loaded.

    Made by `create` and `open`. The group has the arrays ``keys`` (heads, length, dim) and ``values``
    (heads, length, value_dim), and those of a quantized store their scales and zero points, (heads, length, groups),
    beside them; zarr and ``xarray.open_zarr`` read it as it is. Its ``zarr.json`` is the
    commit record: replacing that file is what commits, for all arrays at once, and where the arrays' own
    ``zarr.json`` say something else it is right (they are repaired when the store is opened for writing).

    Rows that are not compressed lie in files as long as all the rows they may come to hold: of a head up to 64 MiB, or
    256 MiB where ``capacity`` bounds them, with holes for what is not there. ``ls`` shows that length, ``du`` what is
    used; ``cp --sparse=always`` and ``rsync -S`` keep the holes. A small ``capacity`` makes files no longer than its
    rows, a small ``chunk`` no longer than 4096 chunks.

    One object at a time may write, on this machine held to by a lock that dies with its process; in a remote
    place only objects of one process are. Any number may read. Usable in ``with``; safe to use from several
    threads; pickles as its path, to be read from.
    """

    def __init__(self, files: Files, record: Record, held: Lock | None) -> None:
        self._session = Session(files, record, held)
        self._busy = threading.RLock()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        heads: int,
        dim: int,
        value_dim: int | None = None,
        dtype: Any = "float32",
        capacity: int | None = None,
        chunk: int | None = None,
        compressor: Any = None,
        attrs: dict[str, Any] | None = None,
        storage_options: dict[str, Any] | None = None,
        group_size: int | None = None,
        symmetric: bool = False,
    ) -> "KVStore":
        """A new, empty store, open for writing.

        Args:
            path: Where there is nothing yet, or a URL that fsspec knows.
            heads: Number of heads.
            dim: Width of a key.
            value_dim: Width of a value; ``dim`` if None.
            dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"`` (which zarr shows as uint16). ``"int8"`` or
                ``"int4"`` (two in a byte): what is appended is quantized row by row, as by `ag.quantize`, and
                scales and zero points are further arrays of the group.
            capacity: The most rows it may ever hold; None for no bound.
            chunk: Rows that one checksum covers, and that are compressed together; None to choose.
            compressor: None for rows as they are, which are mapped; a name (``"zstd"``, ``"gzip"``,
                ``"blosc-lz4"`` …), a zarr codec from bytes to bytes, or a list of those. Each append
                compresses the last chunk anew: append many rows at once.
            attrs: Attributes of the group, plain data.
            storage_options: Of the URL's file system.
            group_size: Of quantized rows, how many elements share a scale: it divides both widths. None for all.
            symmetric: Whether quantized rows do without zero points.

        Raises:
            StoreError: If there is something at ``path``, or no room.
            ArgumentError: If a number is not positive, or an argument of another kind.
            DTypeError: If ``dtype`` is another.
            LimitError: If there are more heads than a record lists (2**20), or a file of so wide rows would be larger
                than files are.
        """
        layout, attributes = new_layout(heads, dim, value_dim, dtype, capacity), new_attributes(attrs)
        layout = with_groups(layout, group_size, symmetric)
        chunk = None if chunk is None else positive("chunk", chunk)
        files = open_files(path, storage_options)
        layout = plan(layout, chunk=chunk, remote=not files.mappable, encoded=compressor is not None)
        check_limits(layout)
        if compressor is not None:
            layout = replace(layout, codecs=describe_codecs(layout, compressor))
        record = Record.new(layout, attributes)
        with new_place(files, layout.arrays) as (place, held):
            follow(place, record)
            with store_errors("create", files.locate(NAME)):
                place.replace(NAME, record.document())
                place.settle([f"{key}/{NAME}" for key in layout.arrays])
        return cls(files, record, held)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], mode: str = "r", storage_options: dict[str, Any] | None = None
    ) -> "KVStore":
        """A store that is there.

        Args:
            path: Its path or URL.
            mode: ``"r"`` to read, ``"r+"`` to append and truncate, too.
            storage_options: Of the URL's file system.

        Raises:
            StoreError: If there is none, its record is damaged, or, for ``"r+"``, it is open for writing already.
            ArgumentError: If ``mode`` is another.
        """
        if mode not in ("r", "r+"):
            raise ArgumentError(f"open: mode is 'r' or 'r+', not {mode!r}")
        files = open_files(path, storage_options)
        record = read_record(files, "open")
        if mode == "r":
            return cls(files, record, None)
        held = lock(files)
        try:
            record = read_record(files, "open")  # another writer may have ended in between
            follow(files, record)
        except BaseException:
            held.release()
            raise
        return cls(files, record, held)

    @property
    def path(self) -> str:
        """Its absolute path, or its URL."""
        return self._session.path

    @property
    def mode(self) -> str:
        """``"r"`` or ``"r+"``."""
        return "r+" if self._session.writes else "r"

    @property
    def attrs(self) -> dict[str, Any]:
        """The group's attributes that are the user's, a copy."""
        attributes: dict[str, Any] = json.loads(json.dumps(self._session.now("attrs").attributes))
        return attributes

    def __len__(self) -> int:
        return self._session.now("len").length

    @property
    def keys(self) -> Array:
        """The keys, lazy, shape (heads, length, dim); the length is the present one for good.

        Raises:
            StoreError: If the store is gone or damaged.
        """
        return self._lazy("keys")

    @property
    def values(self) -> Array:
        """The values, lazy, shape (heads, length, value_dim); the length is the present one for good.

        Raises:
            StoreError: If the store is gone or damaged.
        """
        return self._lazy("values")

    def _lazy(self, key: str) -> Array:
        record = self._session.now(key)
        stored = {name: StoredArray(self._session.units, name, record) for name in record.layout.arrays}
        data = asarray(stored[key])
        if not record.layout.is_quantized:
            return data
        zero = stored.get(f"{key}_zero_point")
        return dequantize(
            data,
            asarray(stored[f"{key}_scale"]),
            None if zero is None else asarray(zero),
            dtype=record.layout.dtype,
        )

    def stored_array(self, key: str) -> StoredArray:
        """What ``keys`` and ``values`` read: blocks, gathered rows.

        Args:
            key: ``"keys"`` or ``"values"``; of a quantized store, whose numbers those are, also ``"keys_scale"``,
                ``"keys_zero_point"``, ``"values_scale"``, ``"values_zero_point"``.

        Raises:
            StoreError: If the store is gone or damaged.
            ArgumentError: If ``key`` is another.
        """
        return StoredArray(self._session.units, key, self._session.now(key))

    def append(self, k: Any, v: Any) -> int:
        """Append rows, all or none; they would survive a crash when it returns.

        Args:
            k: Keys, shape (heads, n, dim), of any float type: converted to the store's, rounding to nearest,
                or quantized, each row for itself.
            v: Values, shape (heads, n, value_dim), likewise.

        Returns:
            The new length.

        Raises:
            ShapeError: If the shapes are others.
            DTypeError: If they are not of floats.
            LimitError: If there would be more rows than ``capacity``, or a number is beyond the store's type, which NaN
                and infinity are of a quantized one's.
            StoreError: If the disk is full, the store damaged, or not open for writing. Nothing is appended then,
                unless the disk failed in the very last step, after the commit: ``len`` says.
        """
        with self._busy:
            record = self._session.writable("append")
            rows = as_stored(record.layout, "append", k, v)
            added, capacity = rows["keys"].shape[1], record.layout.capacity
            if capacity is not None and record.length + added > capacity:
                raise LimitError(f"append: {added} rows to {record.length} of at most {capacity} (capacity)")
            if added:
                self._session.commit(lambda: append_rows(self._session.units, record, rows))
            return self._session.record.length

    def extend(self, blocks: Iterable[tuple[Any, Any]], total: int | None = None, progress: bool | None = None) -> int:
        """Append pairs of keys and values, each as `append` does, showing how far it is.

        Args:
            blocks: Pairs (k, v).
            total: How many rows there will be, for the bar; None if that is not known.
            progress: Whether to show a bar; None to show it where stderr is a terminal.

        Returns:
            The new length.

        Raises:
            ArgumentError: If a block is no pair, or ``blocks`` nothing to iterate over.
            StoreError: As `append`, which raises others as well. Blocks before stay appended.
        """
        with progress_bar(f"rows to {self.path.rpartition('/')[2]}", total, progress) as advance:
            block: Any
            for block in _iterated(blocks):
                if not isinstance(block, tuple | list) or len(block) != 2:
                    raise ArgumentError(f"extend: a block is a pair (k, v), not {type(block).__name__}")
                with self._busy:
                    before = len(self)
                    advance(self.append(*block) - before)
        return len(self)

    def truncate(self, length: int) -> None:
        """Keep only the first rows, at once and durably.

        Arrays bound before see it: reading rows that are gone is a StoreError, for good.

        Args:
            length: How many.

        Raises:
            ArgumentError: If there are not that many.
            StoreError: If the store is damaged where it will end, or not open for writing. Nothing changes then.
        """
        with self._busy:
            record = self._session.writable("truncate")
            length = whole("truncate", "length", length)
            if not 0 <= length <= record.length:
                raise ArgumentError(f"truncate: to {length} rows, and there are {record.length}")
            if length < record.length:
                self._session.commit(lambda: truncate_rows(self._session.units, record, length))

    def info(self) -> StoreInformation:
        """What the store is now.

        Raises:
            StoreError: If it is gone or damaged.
        """
        record = self._session.now("info")
        with store_errors("info", self.path):
            return describe_store(self._session.units, record)

    def verify(self) -> Verification:
        """Read every committed row and compare it with its checksum.

        Returns:
            A report: true and ``.ok`` where all is well; otherwise ``.problems`` say which array, head, chunk, rows
            and file, and what is wrong.

        Raises:
            StoreError: If the commit record itself cannot be read.
        """
        return verify(self._session.units, read_record(self._session.files, "verify"))

    def close(self) -> None:
        """Let others write, and let go of the maps. Lazy arrays of the store can be computed still."""
        with self._busy:
            self._session.close()

    def __enter__(self) -> "KVStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        path, options = self._session.files.describe()
        return KVStore.open, (path, "r", options)

    def __repr__(self) -> str:
        layout, state = self._session.record.layout, "closed" if self._session.closed else self.mode
        shape = f"{layout.heads} heads, {self._session.record.length} rows of {layout.dim} and {layout.value_dim}"
        return f"<attngraph.KVStore {self.path} ({state}): {layout.dtype}, {shape}>"


def _iterated(blocks: Any) -> Iterator[Any]:
    try:
        return iter(blocks)
    except TypeError:
        raise ArgumentError(
            f"extend: blocks are pairs (k, v), in a list or any other iterable, not {type(blocks).__name__}"
        ) from None
