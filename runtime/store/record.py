"""The commit record: the group's ``zarr.json``, whose replacement by one rename is what commits.

It holds the metadata of both arrays too ("consolidated"), so that zarr and xarray see the rows of
both switch together. The arrays' own ``zarr.json`` follow after; where they differ, this one is right.
"""

import json
import uuid
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...engine.errors import StoreError
from .files import Files
from .layout import Layout

NAME = "zarr.json"
ATTRIBUTE = "attngraph"
# The second one came with quantized rows: what has none is read by what knows the first.
_FORMAT, _QUANTIZED_FORMAT = 1, 2
# Earlier truncations that are told apart; older ones are merged with their successors.
_MOST_TRUNCATIONS = 16


@dataclass(frozen=True)
class Record:
    """What is committed.

    Attributes:
        layout: How it lies on disk.
        identity: Of this store, unlike that of any other at the same place.
        generation: How many commits there were.
        length: Rows.
        tails: For each array and head the checksum of its last chunk, where that is not full.
        truncations: How often it was truncated.
        lowest: Pairs of a truncation's number and its length, the lengths ascending: a snapshot from
            before a truncation has rows only up to the first length whose number is above its own.
        attributes: The user's.
    """

    layout: Layout
    identity: str
    generation: int
    length: int
    tails: dict[str, tuple[int, ...]]
    truncations: int
    lowest: tuple[tuple[int, int], ...]
    attributes: dict[str, Any]

    @classmethod
    def new(cls, layout: Layout, attributes: dict[str, Any]) -> "Record":
        """Of an empty store."""
        tails = dict.fromkeys(layout.arrays, (0,) * layout.heads)
        return cls(layout, uuid.uuid4().hex, 0, 0, tails, 0, (), attributes)

    def appended(self, rows: int, tails: dict[str, tuple[int, ...]]) -> "Record":
        """With so many rows more."""
        return replace(self, generation=self.generation + 1, length=self.length + rows, tails=tails)

    def truncated(self, length: int, tails: dict[str, tuple[int, ...]]) -> "Record":
        """With only so many rows."""
        number = self.truncations + 1
        lowest = [(before, kept) for before, kept in self.lowest if kept < length] + [(number, length)]
        while len(lowest) > _MOST_TRUNCATIONS:  # refuses some rows that are there, never grants one that is not
            (_, least), (later, _) = lowest[0], lowest[1]
            lowest[:2] = [(later, least)]
        return replace(
            self,
            generation=self.generation + 1,
            length=length,
            tails=tails,
            truncations=number,
            lowest=tuple(lowest),
        )

    def still_there(self, length: int, truncations: int) -> int:
        """Of a snapshot of so many rows, taken after so many truncations: the rows that are there still."""
        return min([length, *(kept for number, kept in self.lowest if number > truncations)])

    def document(self) -> bytes:
        """The group's ``zarr.json``."""
        own: dict[str, Any] = {
            "format": _QUANTIZED_FORMAT if self.layout.is_quantized else _FORMAT,
            "layout": self.layout.to_json(),
            "identity": self.identity,
            "generation": self.generation,
            "length": self.length,
            "tails": {key: np.array(tails, "<u4").tobytes().hex() for key, tails in self.tails.items()},
            "truncations": self.truncations,
            "lowest": [list(pair) for pair in self.lowest],
        }
        own["checksum"] = _checksum(own)
        arrays = {key: self.layout.array_document(key, self.length) for key in self.layout.arrays}
        group = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {**self.attributes, ATTRIBUTE: own},
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
        }
        return json.dumps(group).encode()

    @classmethod
    def parse(cls, document: bytes, operation: str, file: str) -> "Record":
        """The record in a group's ``zarr.json``.

        Raises:
            StoreError: If it is no store's, or is damaged.
        """
        try:
            attributes = json.loads(document)["attributes"]
            own = attributes.pop(ATTRIBUTE)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(f"{operation}: {file} is not, or no longer, the record of an attngraph store") from None
        try:
            if own["format"] > _QUANTIZED_FORMAT:
                known = _QUANTIZED_FORMAT
                raise StoreError(f"{operation}: {file} has format {own['format']}; this attngraph reads {known}")
            if own.pop("checksum") != _checksum(own):
                raise StoreError(f"{operation}: {file} is damaged: its checksum is not its contents'")
            layout = Layout(**own["layout"])
            checked = {key: bytes.fromhex(own["tails"][key]) for key in layout.arrays}
            tails = {key: tuple(np.frombuffer(tail, "<u4").tolist()) for key, tail in checked.items()}
            lowest = tuple((number, kept) for number, kept in own["lowest"])
            numbers = own["generation"], own["length"], tails, own["truncations"]
            return cls(layout, own["identity"], *numbers, lowest, attributes)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{operation}: {file} is damaged: {error!r}") from None


def _checksum(own: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(own, sort_keys=True).encode())


def read_document(files: Files, operation: str) -> bytes:
    """The commit record's bytes.

    Raises:
        StoreError: If there is none.
    """
    try:
        return files.read(NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{operation}: there is no store at {files.describe()[0]} (no {NAME})") from None
    except OSError as error:
        raise StoreError(f"{operation}: {files.locate(NAME)}: {error.strerror or error}") from error


def read_record(files: Files, operation: str) -> Record:
    """What is committed now.

    Raises:
        StoreError: If there is no store, or its record is damaged.
    """
    return Record.parse(read_document(files, operation), operation, files.locate(NAME))
