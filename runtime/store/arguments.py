"""What `KVStore.create` is given, checked."""

import json
import operator
from dataclasses import replace
from typing import Any

from ...engine.errors import ArgumentError, DTypeError, LimitError
from ...engine.types import as_dtype
from .layout import DTYPES, QUANTIZED, Layout
from .record import ATTRIBUTE

_MOST_HEADS, _MOST_FILE_BYTES = 2**20, 2**62


def new_layout(heads: Any, dim: Any, value_dim: Any, dtype: Any, capacity: Any) -> Layout:
    """The layout of a new store, without rows to a chunk and a file.

    Raises:
        ArgumentError: If a number is no positive integer.
        DTypeError: If the type is none of a store's.
    """
    name = dtype if isinstance(dtype, str) and dtype in QUANTIZED else as_dtype(dtype).name
    if name not in DTYPES:
        raise DTypeError(f"create: a store's dtype is one of {', '.join(DTYPES)}, not {name}")
    width = positive("dim", dim)
    return Layout(
        heads=positive("heads", heads),
        dim=width,
        value_dim=width if value_dim is None else positive("value_dim", value_dim),
        dtype=name,
        capacity=None if capacity is None else positive("capacity", capacity),
        chunk=1,
        unit=1,
        sharded=False,
    )


def with_groups(layout: Layout, group_size: Any, symmetric: Any) -> Layout:
    """The layout, with what quantized rows share a scale.

    Raises:
        ArgumentError: If the store is not quantized, groups do not divide rows, or rows of int4 are odd.
    """
    if not isinstance(symmetric, bool):
        raise ArgumentError(f"create: symmetric is True or False, not {symmetric!r}")
    if not layout.is_quantized:
        if group_size is not None or symmetric:
            raise ArgumentError(f"create: group_size and symmetric are of quantized rows, and these are {layout.dtype}")
        return layout
    widths = layout.dim, layout.value_dim
    if layout.dtype == "int4" and any(width % 2 for width in widths):
        raise ArgumentError(f"create: two int4 share a byte, and a row of {widths[0]} or {widths[1]} is odd")
    group = None if group_size is None else positive("group_size", group_size)
    if group is not None and any(width % group for width in widths):
        raise ArgumentError(f"create: groups of {group} do not divide rows of {widths[0]} and {widths[1]}")
    return replace(layout, group=group, symmetric=symmetric)


def check_limits(layout: Layout) -> None:
    """Raise LimitError for a layout that no store can have.

    The commit record lists a number for each head.
    """
    if layout.heads > _MOST_HEADS:
        raise LimitError(f"create: a store has at most {_MOST_HEADS} heads, not {layout.heads}")
    for key in layout.arrays:
        size = layout.unit_bytes(key)
        if size > _MOST_FILE_BYTES:
            raise LimitError(
                f"create: a file of {layout.unit} rows of {layout.width(key)} ({key}) would be {size} bytes, and files "
                f"have at most {_MOST_FILE_BYTES}"
            )


def positive(name: str, given: Any) -> int:
    """A positive integer.

    Raises:
        ArgumentError: If it is none.
    """
    number = whole("create", name, given)
    if number < 1:
        raise ArgumentError(f"create: {name} is at least 1, not {number}")
    return number


def whole(operation: str, name: str, given: Any) -> int:
    """An integer, Python's or NumPy's.

    Raises:
        ArgumentError: If it is none.
    """
    try:
        if isinstance(given, bool):
            raise TypeError
        return operator.index(given)
    except TypeError:
        raise ArgumentError(f"{operation}: {name} is an integer, not {given!r}") from None


def new_attributes(given: dict[str, Any] | None) -> dict[str, Any]:
    """The user's attributes, a copy.

    Raises:
        ArgumentError: If they are not plain data, or use the name of ours.
    """
    try:
        attributes = json.loads(json.dumps(given or {}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"create: attrs are written as JSON: {error}") from None
    if not isinstance(attributes, dict) or ATTRIBUTE in attributes:
        raise ArgumentError(f"create: attrs are a dict without {ATTRIBUTE!r}, the name of the store's own attribute")
    return attributes
