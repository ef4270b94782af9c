"""What makers of graphs are given, as checked arrays of their own: nobody can change those afterwards."""

import os
from typing import Any, NamedTuple

import numpy as np

from ..engine.config import config
from ..engine.errors import ArgumentError, DTypeError, IndexOutOfRangeError, LimitError, ShapeError
from ..engine.ir import Values
from ..engine.types import TensorType, is_integer
from .array import Array, ArrayLike, lift
from .kinds import whole


class Sizes(NamedTuple):
    """How many nodes edges come from, and how many they lead to."""

    sources: int
    targets: int


def counted(operation: str, name: str, value: Any) -> int:
    """A number that is not negative, now.

    Raises:
        ArgumentError: If it is none.
    """
    number = -1 if isinstance(value, bool | np.bool_) else whole(operation, name, value)
    if number < 0:
        raise ArgumentError(f"{operation}: {name} is a whole number that is not negative, not {value!r}")
    return number


def integers(operation: str, name: str, given: ArrayLike, axes: str) -> Values:
    """The integers of an array as they are now, in their own type: a copy.

    Args:
        operation: For errors.
        name: The argument.
        given: Anything that can become an array; a lazy one is computed.
        axes: What its axes are, as in ``"(2, edges)"``; a number among them is a length.

    Raises:
        DTypeError: If it holds anything else, or cannot become an array.
        ShapeError: If it has other axes.
        TraceError: If it is lazy, and a function is being traced.
    """
    if isinstance(given, Array):
        values = np.asarray(given)
    else:
        node = lift(given, f"{operation}: {name}")
        values = np.array(node.reference()) if node.shape else np.zeros((), node.dtype)
    lengths = axes.strip("(,)").replace(" ", "").split(",")
    fits = values.ndim == len(lengths) and all(
        not due.isdigit() or int(due) == length for due, length in zip(lengths, values.shape, strict=True)
    )
    if not fits:
        turned = "; pass its transpose" if values.ndim == 2 and values.shape[1] == 2 else ""
        raise ShapeError(f"{operation}: {name} is {axes}, not {TensorType(values.shape, values.dtype)}{turned}")
    if not values.size and isinstance(given, list | tuple):
        return np.zeros(values.shape, np.int64)  # an empty list says no type
    if not is_integer(values.dtype):
        raise DTypeError(f"{operation}: {name} holds integers, not {TensorType(values.shape, values.dtype)}")
    return values


def extremes(values: Values) -> tuple[int, int]:
    """The least and the largest, as Python's integers; 0 and -1 of none."""
    return (int(values.min()), int(values.max())) if values.size else (0, -1)


def check_nodes(operation: str, what: str, nodes: Values, number: int, of: str) -> None:
    """Raise IndexOutOfRangeError for a node below 0, or not below ``number``."""
    least, largest = extremes(nodes)
    if least < 0:
        raise IndexOutOfRangeError(
            f"{operation}: {what} {least} of edge {int(np.argmin(nodes))} is negative: nodes are counted from 0, "
            "and none from the end"
        )
    if largest >= number:
        raise IndexOutOfRangeError(
            f"{operation}: {what} {largest} of edge {int(np.argmax(nodes))} is out of range for {of}={number}"
        )


def check_pointers(operation: str, indptr: Values, edges: int) -> None:
    """Raise ArgumentError unless rows begin at 0, never before the last one, and end with the edges."""
    if not indptr.size:
        raise ArgumentError(f"{operation}: indptr has one more entry than there are targets, not none")
    if int(indptr[0]) != 0:
        raise ArgumentError(f"{operation}: indptr begins at 0, not at {int(indptr[0])}")
    falls = np.flatnonzero(indptr[1:] < indptr[:-1])
    if falls.size:
        place = int(falls[0])
        raise ArgumentError(
            f"{operation}: indptr never decreases, but row {place} is from {int(indptr[place])} "
            f"to {int(indptr[place + 1])}"
        )
    if int(indptr[-1]) != edges:
        raise ArgumentError(f"{operation}: indptr ends at {int(indptr[-1])}, and there are {edges} indices")


def check_room(operation: str, nodes: int, edges: int) -> None:
    """Raise LimitError for a graph that is larger than ``config.memory_limit``, or half of the machine's memory."""
    limit = config.settings().memory_limit
    said = f"config.memory_limit of {limit}"
    if limit is None:
        limit = _machines_memory() // 2
        said = f"half of this machine's memory, {limit}"
    bytes_ = 24 * (nodes + edges)
    if bytes_ > limit:
        raise LimitError(
            f"{operation}: {nodes} nodes and {edges} edges take some {bytes_} bytes, beyond the {said} bytes; "
            "number nodes without gaps, as by numpy.unique(..., return_inverse=True)"
        )


def _machines_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 2**34
