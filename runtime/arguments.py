"""Arguments of compiled functions: what is traced, what is static, and what a trace is found by."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.blocks import blocks_of
from ..engine.config import Settings
from ..engine.errors import ArgumentError
from ..engine.ir import Node, Values
from ..engine.leaves import Placeholder
from ..engine.sources import is_buffer, is_lazy_source, read
from ..engine.types import DEFAULT_FLOAT, SUPPORTED, TensorType
from ..ops.array import Array, lift

# Bytes from which on an array that lies elsewhere is read block by block, not as a whole; with a limit, the share
# of it that a whole one may take.
_LEAST_STREAMED, _SHARE = 1 << 26, 8
# Python's numbers in lists beyond which somebody means an array: each would be an operand, or part of the key.
_MOST_NUMBERS = 4096
_STATIC = (bool, int, str, bytes, type(None))
_DTYPES = {dtype: dtype for dtype in SUPPORTED}


class SameObject:
    """What a trace that holds an array of another place is found by: that very object."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameObject) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


class Argument(NamedTuple):
    """An argument: its part of the key, and for what is traced its type and present value.

    What is to be read block by block has no value: it is captured, and ``node`` reads it.
    """

    key: Any
    kind: TensorType | None
    value: Values | None
    given: Any
    node: Node | None = None

    def stand_in(self) -> Any:
        """What the function is traced with."""
        if self.node is not None:
            return Array(self.node)
        return self.given if self.kind is None else Array(Placeholder.new(self.kind))


def is_array(leaf: Any) -> bool:
    """Whether it is an array of a library that is read, or one of NumPy's scalars."""
    if isinstance(leaf, np.ndarray | np.generic):
        return True
    # The classes, data types and devices of the libraries whose arrays are read are static.
    readable = hasattr(leaf, "__dlpack__") or (is_lazy_source(leaf) and hasattr(leaf, "shape"))
    if readable:
        return not isinstance(leaf, type)
    # Bytes, as strings, are static.
    return not isinstance(leaf, _STATIC) and is_buffer(leaf)


def is_traced(leaf: Any) -> bool:
    """Whether a graph has a place for its value, which is read at every call."""
    return isinstance(leaf, np.ndarray | float) or is_array(leaf)


def kinds_of(arguments: Sequence[Any]) -> tuple[Any, ...] | None:
    """Shapes and types of arguments that are arrays of NumPy's as they stand; None if one is anything else."""
    kinds: list[Any] = []
    for each in arguments:
        if type(each) is not np.ndarray or each.dtype not in _DTYPES or not each.dtype.isnative:
            return None
        kinds += each.shape, each.dtype
    return tuple(kinds)


def argument_of(leaf: Any, name: str, settings: Settings) -> Argument:
    """Arrays, Python floats and NumPy scalars are traced; all else is static."""
    dtype = _DTYPES.get(leaf.dtype) if type(leaf) is np.ndarray else None
    if dtype is not None:
        kind = TensorType(leaf.shape, dtype)
        return Argument(kind, kind, leaf, None)
    if isinstance(leaf, np.generic):
        kind = TensorType((), lift(leaf, name).dtype, True)
        return Argument(kind, kind, np.asarray(leaf), None)
    if isinstance(leaf, float):
        kind = TensorType((), DEFAULT_FLOAT, True)
        return Argument(kind, kind, np.asarray(leaf), None)
    if is_array(leaf):
        node = lift(leaf, name)
        if _is_streamed(leaf, node, settings):
            return Argument((node.type, SameObject(leaf)), node.type, None, leaf, node)
        value = leaf if isinstance(leaf, np.ndarray) else read(getattr(node, "source", leaf))
        return Argument(node.type, node.type, value if value.dtype.isnative else value.astype(node.dtype), None)
    return Argument((type(leaf), leaf), None, None, leaf)


def _is_streamed(leaf: Any, node: Node, settings: Settings) -> bool:
    """Whether it lies elsewhere, and is so large that sweeps should read it block by block."""
    limit = settings.memory_limit
    least = _LEAST_STREAMED if limit is None else min(_LEAST_STREAMED, limit // _SHARE)
    return is_lazy_source(leaf) and node.type.size * node.dtype.itemsize >= least and blocks_of(leaf) is not None


def check_count(leaves: Sequence[Any], name: str) -> None:
    """Raise ArgumentError for so many of Python's numbers that an array must be meant."""
    if len(leaves) > _MOST_NUMBERS:
        numbers = sum(type(leaf) in (int, float, bool) for leaf in leaves)
        if numbers > _MOST_NUMBERS:
            raise ArgumentError(
                f"{name}: {numbers} of Python's numbers in lists, each an argument of its own; pass an array, "
                "such as numpy.asarray of the list"
            )


def is_hashable(value: Any) -> bool:
    """Whether it may be part of a key."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
