"""`store`: results go to arrays on disk, piece by piece where the expression allows it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.boxes import Box, whole_box
from ..engine.config import Settings, config
from ..engine.errors import ArgumentError, DTypeError, LimitError, ShapeError, StoreError
from ..engine.evaluate import inputs_of
from ..engine.immediate import evaluate_now
from ..engine.ir import Node, Values, walk
from ..engine.leaves import Data
from ..engine.pieces import InterpreterNeededError, Piece, Pieces, can_be_cut
from ..engine.pipeline import optimize
from ..engine.program import Program
from ..engine.sources import library
from ..engine.types import as_dtype
from ..ops.array import lift
from .store.arguments import whole
from .store.files import store_errors


def store(sources: Any, targets: Any, *, rows: int | None = None) -> None:
    """Compute lazy arrays, and write them to arrays on disk.

    Where all of them come from one attention or other sweep, the last step, they are made and written piece by piece
    over rows and batch places: neither they nor what varies over their rows, queries in zarr, say, is ever whole in
    memory. Keys and values that are not in memory are read block by block for each piece. Anything else is computed
    whole and then written. Either way it has the bits of ``compute()``, and keeps to ``ag.config.memory_limit``.

    Pieces are unions of a zarr array's chunks as far as memory allows, so that no chunk is written twice. An error in
    the middle leaves what was written before.

    Args:
        sources: A lazy array, or a sequence of them.
        targets: For each one an array of its shape and dtype that is written to by slices: a ``zarr.Array``, a
            ``numpy.memmap``, a NumPy array. A `KVStore` takes a pair of sources, keys and values (heads, n, dim) such
            as the gradients with respect to stored ones, and appends them.
        rows: The most rows of a piece, roughly: whole chunks of the targets and multiples of 64; None to choose by
            memory.

    Raises:
        ArgumentError: If there are not as many targets as sources, a target is no such array, is read-only, or shares
            memory with what is read or with another one.
        ShapeError: If a target has another shape.
        DTypeError: If a target has another data type.
        LimitError: If not even the smallest piece fits into the memory limit.
        StoreError: If something cannot be read or written.
        NonFiniteError, IndexOutOfRangeError: As `Array.compute`.
    """
    if rows is not None:
        rows = whole("store", "rows", rows)
        if rows < 1:
            raise ArgumentError(f"store: rows is at least 1, not {rows}")
    given, places = _matched(sources, targets)
    roots = [[lift(each, "store") for each in several] for several in given]
    for number, (nodes, target) in enumerate(zip(roots, places, strict=True)):
        _check(f"target {number}", nodes, target)
    nodes = [node for several in roots for node in several]
    _check_apart(nodes, places)
    settings = config.settings()
    is_plain = all(not _is_key_value_store(target) for target in places)
    if is_plain and not settings.target.startswith("reference"):
        try:
            for piece in _pieces(nodes, places, settings, rows):
                _write(places, piece)
            return
        except _WholeError:
            pass
    values = iter(evaluate_now(nodes))
    for number, (several, target) in enumerate(zip(roots, places, strict=True)):
        _write_whole(number, [next(values) for _ in several], target)


class _WholeError(Exception):
    """It has to be computed whole."""


def _matched(sources: Any, targets: Any) -> tuple[list[list[Any]], list[Any]]:
    """For each target its sources: one, or two for a store of keys and values."""
    if not isinstance(targets, list | tuple):
        given, places = [sources], [targets]
    else:
        given, places = list(sources) if isinstance(sources, list | tuple) else [sources], list(targets)
    if len(given) != len(places) or not places:
        raise ArgumentError(f"store: {len(given)} sources for {len(places)} targets")
    matched = []
    for source, target in zip(given, places, strict=True):
        is_pair = isinstance(source, list | tuple)
        if _is_key_value_store(target):
            if not is_pair or len(source) != 2:
                raise ArgumentError("store: a KVStore takes a pair of sources, keys and values")
            matched.append(list(source))
        elif is_pair and len(source) == 1 and len(places) == 1:
            matched.append(list(source))
        elif is_pair:
            raise ArgumentError(f"store: {len(source)} sources for one target, {type(target).__name__}")
        else:
            matched.append([source])
    return matched, places


def _is_key_value_store(target: Any) -> bool:
    return hasattr(type(target), "append") and hasattr(type(target), "stored_array")


def _check(name: str, nodes: Sequence[Node], target: Any) -> None:
    """Raise an error unless the target takes these results."""
    if _is_key_value_store(target):
        if target.mode != "r+":
            raise StoreError(f"store: {name}, {target.path}, was opened to be read; open it with mode='r+'")
        return
    if not all(hasattr(target, each) for each in ("shape", "dtype", "__setitem__")):
        raise ArgumentError(f"store: {name} is an array that is written to by slices, not {type(target).__name__}")
    (node,) = nodes
    shape = tuple(int(n) for n in target.shape)
    if shape != node.shape:
        raise ShapeError(f"store: {name} has shape {list(shape)} where the source has {list(node.shape)}")
    if as_dtype(target.dtype) != node.dtype:
        raise DTypeError(
            f"store: {name} is {as_dtype(target.dtype).name} where the source is {node.dtype.name}; "
            "say .astype(...) of the source"
        )
    flags = getattr(target, "flags", None)
    if getattr(target, "read_only", False) or not getattr(flags, "writeable", True):
        raise ArgumentError(f"store: {name} ({_where(target)}) is read-only")


def _check_apart(nodes: Sequence[Node], targets: Sequence[Any]) -> None:
    """Raise ArgumentError if a target is what is read, or another target: pieces would be made of results."""
    arrays = [target for target in targets if isinstance(target, np.ndarray)]
    known = [("an input", each) for each in inputs_of(nodes)]
    for number, target in enumerate(arrays):
        others = [*known, *(("another target", each) for each in arrays[:number])]
        for kind, other in others:
            if np.may_share_memory(target, other):
                raise ArgumentError(f"store: a target shares memory with {kind}")
    read = [leaf.source for leaf in walk(nodes) if isinstance(leaf, Data)]
    paths = [_path(each) for each in read if _path(each) is not None]
    for target in targets:
        place = _path(target)
        if place is not None and (place in paths or [_path(each) for each in targets].count(place) > 1):
            raise ArgumentError(f"store: {place} is a target, and an input or another target, too")


def _path(array: Any) -> str | None:
    """Where an array lies, if it lies somewhere."""
    if isinstance(array, np.memmap):
        name = getattr(array, "filename", None)
        return None if name is None else f"{name} from byte {array.offset}"
    return str(array.store_path) if library(array) == "zarr" and hasattr(array, "store_path") else None


def _where(target: Any) -> str:
    return _path(target) or type(target).__name__


# --- piece by piece


def _pieces(nodes: Sequence[Node], targets: Sequence[Any], settings: Settings, rows: int | None) -> Iterator[Piece]:
    """The results in pieces.

    Raises:
        _WholeError: If they cannot be made so.
    """
    roots = optimize(nodes)
    program = Program(roots)
    if not program.plan.steps or not can_be_cut(program, settings):
        raise _WholeError
    pieces = Pieces(program, settings, check_finite=settings.check_finite is not False)
    steps = _steps(pieces, roots, targets)
    try:
        yield from pieces.run(pieces.cut(steps, rows), roots)
    except InterpreterNeededError:
        raise _WholeError from None
    except MemoryError as error:
        raise LimitError(f"store: there is not enough memory for a piece: {error}") from error


def _steps(pieces: Pieces, roots: Sequence[Node], targets: Sequence[Any]) -> Mapping[Any, int]:
    """For axes of the sweep, the multiples of which indices the targets are cut at."""
    steps: dict[Any, int] = {}
    for root, target in zip(roots, targets, strict=True):
        chunks = getattr(target, "shards", None) or getattr(target, "chunks", None)
        output = pieces.step.sweep.outputs[pieces.step.nodes.index(root)]
        if isinstance(chunks, tuple) and len(chunks) == len(output.axes):
            for axis, chunk in zip(output.axes, chunks, strict=True):
                if isinstance(chunk, int):
                    steps[axis] = math.lcm(steps.get(axis, 1), max(chunk, 1))
    return steps


def _write(targets: Sequence[Any], piece: Piece) -> None:
    for target, box, values in zip(targets, piece.boxes, piece.values, strict=True):
        _put(target, box, values)


def _put(target: Any, box: Box, values: Values) -> None:
    rows = ", ".join(f"{each.start}:{each.stop}" for each in box)
    with store_errors("store", f"{_where(target)}[{rows}]"):
        target[box] = values


def _write_whole(number: int, values: list[Values], target: Any) -> None:
    if _is_key_value_store(target):
        target.append(*values)
        return
    (value,) = values
    _put(target, whole_box(value.shape), value)
