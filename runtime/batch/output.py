"""The results of a batch: zarr arrays of the whole length, of which each chunk is made by one piece of the work."""

import math
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...engine.errors import ArgumentError, DTypeError, ShapeError, StoreError
from ...engine.ir import Values
from ...engine.structure import Structure
from ..store.files import store_errors, sync_folder
from .journal import FOLDER

# Bytes of a file of the output, beyond which leading axes are cut.
_MOST_FILE_BYTES = 1 << 26


@dataclass(frozen=True)
class Result:
    """One result.

    Attributes:
        name: Of its array in the group; empty for the only one, which is no member of any.
        shape: Of the whole.
        dtype: Of its elements.
        axis: Along which pieces are put together.
        chunks: Of its files; along the axis, a piece.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    axis: int
    chunks: tuple[int, ...]

    @property
    def stored_dtype(self) -> str:
        """As zarr knows it, which has no bfloat16."""
        return "uint16" if self.dtype == "bfloat16" else self.dtype

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Result":
        """From the record."""
        return cls(given["name"], tuple(given["shape"]), given["dtype"], given["axis"], tuple(given["chunks"]))


def names_of(structure: Structure) -> list[str]:
    """What the arrays of a function's results are called.

    Raises:
        ArgumentError: If results are nested, or have names that are none of files.
    """
    if structure.kind is None:
        return [""]
    if any(part.kind is not None for part in structure.parts):
        raise ArgumentError(f"batch: results are an array, or a flat tuple, list or dict of arrays, not {structure}")
    fields: tuple[Any, ...] = getattr(structure.kind, "_fields", tuple(range(len(structure.parts))))
    names = [str(each) for each in structure.keys or fields]
    wrong = [name for name in names if not name or name.startswith((".", "__")) or "/" in name or name == "zarr.json"]
    if wrong or len(set(names)) < len(names) or not names:
        raise ArgumentError(f"batch: results called {names} cannot be arrays of one zarr group")
    return names


def result_of(name: str, values: Values, over: int, piece: int, chunk: int, length: int) -> Result:
    """The whole of which values are a piece.

    Raises:
        ShapeError: If they are not as long as the piece along the axis.
    """
    label = name or "the result"
    if not -values.ndim <= over < values.ndim:
        raise ShapeError(f"batch: {label} is {list(values.shape)}, which has no axis {over} (over)")
    axis = over % values.ndim
    if values.shape[axis] != piece:
        raise ShapeError(
            f"batch: {label} of a piece of {piece} is {list(values.shape)}, "
            f"which has {values.shape[axis]} along axis {over} (over)"
        )
    shape = tuple(length if place == axis else n for place, n in enumerate(values.shape))
    chunks = [chunk if place == axis else max(n, 1) for place, n in enumerate(shape)]
    for place in range(len(chunks)):
        if place != axis and math.prod(chunks) * values.dtype.itemsize > _MOST_FILE_BYTES:
            chunks[place] = 1
    return Result(name, shape, values.dtype.name, axis, tuple(chunks))


def _check_like_earlier(result: Result, number: int, array: Any) -> None:
    """Raise ShapeError or DTypeError unless a piece's result goes with the array that earlier pieces made."""
    label = f"batch: {result.name or 'the result'} of chunk {number}"
    apart = [shape[: result.axis] + shape[result.axis + 1 :] for shape in (result.shape, array.shape)]
    if len(result.shape) != len(array.shape) or apart[0] != apart[1]:
        raise ShapeError(
            f"{label} makes a whole of shape {list(result.shape)}, and chunks before it one of {list(array.shape)}: "
            f"results of all chunks are alike but along axis {result.axis} (over)"
        )
    if result.stored_dtype != array.dtype.name:
        raise DTypeError(f"{label} is {result.stored_dtype}, and chunks before it are {array.dtype.name}")


class Output:
    """The folder of a batch's results. It travels.

    Args:
        path: Absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Output({self.path!r})"

    def place(self, result: Result) -> Path:
        """The folder of an array."""
        return Path(self.path) / result.name if result.name else Path(self.path)

    def create(self, results: list[Result], number: int = 0) -> None:
        """Make the arrays that are not there.

        Args:
            results: What they are.
            number: The piece whose results say so; the first one made them.

        Raises:
            ShapeError, DTypeError: If an earlier piece said something else.
            StoreError: If there is no room, or another array in their place.
        """
        import zarr

        with store_errors("batch", self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types that are no part of zarr's specification yet
            for each in results:
                if not (self.place(each) / "zarr.json").exists():
                    self._create(each)
                self._opened(each, number)
            if results and results[0].name and not (Path(self.path) / "zarr.json").exists():
                # Listed in one file, so that nobody looks into the folder, where the record lies, too.
                zarr.open_group(self.path, mode="a")
                zarr.consolidate_metadata(self.path)
            _sync(Path(self.path) / "zarr.json")

    def _create(self, result: Result) -> None:
        import zarr

        is_float = result.stored_dtype.startswith("float")
        zarr.create_array(
            store=str(self.place(result)),
            shape=result.shape,
            chunks=result.chunks,
            dtype=result.stored_dtype,
            compressors=None,
            filters=None,
            fill_value=math.nan if is_float else 0,  # what is not computed yet does not pass for a result
            attributes={"dtype": "bfloat16"} if result.dtype == "bfloat16" else {},
        )
        _sync(self.place(result) / "zarr.json")

    def _opened(self, result: Result, number: int = 0) -> Any:
        import zarr

        place = self.place(result)
        try:
            array = zarr.open_array(str(place), mode="r+")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"batch: {place}: {error}") from error
        found = array.shape, array.dtype.name, array.chunks
        wanted = result.shape, result.stored_dtype, result.chunks
        if number:
            _check_like_earlier(result, number, array)
        if found != wanted:
            raise StoreError(f"batch: {place} is {found} (shape, dtype, chunks) where the results are {wanted}")
        return array.with_config({"write_empty_chunks": True})

    def write(self, result: Result, number: int, values: Values) -> int:
        """Write a piece so that it would survive a crash; how many bytes.

        Raises:
            StoreError: If there is no room. What was there stays, or the new is there, file by file.
        """
        start = number * result.chunks[result.axis]
        box = tuple(
            slice(start, start + n) if place == result.axis else slice(0, n) for place, n in enumerate(values.shape)
        )
        stop = start + values.shape[result.axis]
        if values.dtype.name == "bfloat16":
            values = values.view(np.uint16)
        subject = f"{self.place(result)}, chunk {number} ({start}:{stop})"
        with store_errors("batch", subject):
            self._opened(result)[box] = values
            files = self.files(result, number)
            for file in files:
                _sync(file, folder=False)
            for folder in {folder for file in files for folder in self._folders(result, file)}:
                sync_folder(folder)
        return int(values.nbytes)

    def _folders(self, result: Result, file: Path) -> list[Path]:
        """The folders above a file, up to the array's."""
        root = self.place(result)
        return [folder for folder in file.parents if folder == root or root in folder.parents]

    def files(self, result: Result, number: int) -> list[Path]:
        """The files that a piece is in."""
        counts = [-(-n // chunk) for n, chunk in zip(result.shape, result.chunks, strict=True)]
        counts[result.axis] = 1
        places = np.ndindex(*counts)
        shifted = [[at + number * (axis == result.axis) for axis, at in enumerate(place)] for place in places]
        return [self.place(result).joinpath("c", *map(str, place)) for place in shifted]

    def is_there(self, result: Result, number: int) -> bool:
        """Whether all files of a piece are there, of the right size."""
        size = math.prod(result.chunks) * np.dtype(result.stored_dtype).itemsize
        return all(_size(file) == size for file in self.files(result, number))

    def remove_partial(self, results: list[Result]) -> None:
        """Remove what killed processes have left half written beside the files that they did not get to replace."""
        for each in results:
            for file in self.place(each).rglob("*.partial"):
                file.unlink(missing_ok=True)

    @property
    def record_folder(self) -> Path:
        """Where the record lies."""
        return Path(self.path) / FOLDER


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sync(file: Path, *, folder: bool = True) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if folder:
        sync_folder(file.parent)
