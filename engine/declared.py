"""What arrays of other libraries give when they are read, held against what they declared.

A lazy array says its shape and type before it computes anything, and what it computes may be something else.
"""

import functools
import importlib
import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .boxes import Box, inside, shape_of, starts_of
from .errors import DTypeError, ShapeError
from .types import DType, TensorType, as_dtype, is_float, is_integer

Values = np.ndarray[Any, Any]


def as_declared(came: Any, box: Box, dtype: Any, source: Any, what: str = "") -> Values:
    """A piece that was read, in the type that was declared; as it came if only the order of bytes is another.

    Args:
        came: What reading gave.
        box: Which piece it should be.
        dtype: The declared type, in any byte order.
        source: The array that it is of, for the message.
        what: Which piece of it, if it has a name.

    Raises:
        ShapeError: If it has another shape.
        DTypeError: If it has a type whose numbers are not always numbers of the declared one, and these are not.
    """
    array, shape, dtype = np.asarray(came), shape_of(box), np.dtype(dtype)
    if array.shape != shape:
        raise ShapeError(_message(array, box, dtype, source, what))
    if array.dtype.newbyteorder("=") == dtype.newbyteorder("="):
        return array
    dtype = as_dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype) if _is_of_a_kind(array.dtype, dtype) else None
    if cast is None or not _holds(cast, array):
        raise DTypeError(_message(array, box, dtype, source, what))
    return cast


def read_dask(source: Any, box: Box) -> Values:
    """A piece of a dask array. Every block is looked at as it was computed, before it is cut and put together.

    Raises:
        ShapeError: If a block has not the shape that the array's chunks say.
        DTypeError: If one has a type that is not the array's, and holds what that type cannot.
    """
    if not math.prod(shape_of(box)):
        return np.empty(shape_of(box), source.dtype)
    # It is there: the array is its.
    array, graphs = sys.modules["dask.array"], importlib.import_module("dask.highlevelgraph")
    chosen = tuple(_reached(lengths, each) for lengths, each in zip(source.chunks, box, strict=True))
    blocks = source.blocks[chosen] if chosen else source
    ends = [np.cumsum((0, *lengths)).tolist() for lengths in source.chunks]
    name = f"attngraph-looked-at-{blocks.name}"
    layer = {}
    for place in itertools.product(*map(range, blocks.numblocks)):
        number = tuple(each.start + at for each, at in zip(chosen, place, strict=True))
        whole = tuple(slice(along[at], along[at + 1]) for along, at in zip(ends, number, strict=True))
        look = functools.partial(_looked_at, box=whole, dtype=source.dtype, name=source.name, number=number)
        layer[name, *place] = (look, (blocks.name, *place))
    graph = graphs.HighLevelGraph.from_collections(name, layer, [blocks])
    looked_at = array.Array(graph, name, blocks.chunks, dtype=source.dtype, meta=source._meta)
    here = inside(box, [along[each.start] for along, each in zip(ends, chosen, strict=True)])
    return as_declared(looked_at[here].compute(), box, source.dtype, source)


def _reached(lengths: Sequence[int], wanted: slice) -> slice:
    """The blocks along an axis that hold a range of it, by their numbers."""
    ends = np.cumsum(lengths)
    return slice(int(np.searchsorted(ends, wanted.start, "right")), int(np.searchsorted(ends, wanted.stop)) + 1)


def _looked_at(block: Any, *, box: Box, dtype: DType, name: str, number: tuple[int, ...]) -> Values:
    return as_declared(block, box, dtype, f"the dask array {name}", f"block {number}")


def _is_of_a_kind(came: Any, declared: DType) -> bool:
    """Whether numbers of one type can be numbers of the other."""
    try:
        known = as_dtype(came)
    except DTypeError:
        return False
    return is_float(declared) or known == declared or (is_integer(declared) and not is_float(known))


def _holds(cast: Values, given: Values) -> bool:
    """Whether a cast kept the numbers: whole ones all the same, floats as near as their type has them."""
    if is_float(cast.dtype):
        return bool(np.array_equal(np.isfinite(cast), np.isfinite(given)))
    return bool(np.array_equal(cast, given))


def _message(came: Values, box: Box, dtype: DType, source: Any, what: str) -> str:
    place = ", ".join(f"{start}:{start + length}" for start, length in zip(starts_of(box), shape_of(box), strict=True))
    name = source if isinstance(source, str) else _named(source)
    declared = TensorType(shape_of(box), dtype)
    got = f"{came.dtype.name}{list(came.shape)}"
    reason = "" if came.shape != shape_of(box) else f", and holds what {dtype.name} cannot"
    return f"read: {what + ' of ' if what else ''}{name}, [{place}], is {got} where {declared} was declared{reason}"


def _named(source: Any) -> str:
    kind, name = type(source), getattr(source, "name", None)
    library = kind.__module__.split(".", 1)[0]
    return f"the {library} {kind.__name__}" + (f" {name}" if isinstance(name, str) and name else "")
