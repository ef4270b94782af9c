"""What a sparse mask is made of, checked."""

import math
from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, DTypeError, IndexOutOfRangeError, LimitError, ShapeError
from ..engine.ir import Values
from ..engine.types import BOOL
from ..ops.array import Array, ArrayLike, lift
from .listed_pattern import Listed, from_table

# A sequence is shorter than this: products of two positions are numbers of 64 bits.
_MOST_POSITIONS = 1 << 31
# Lists that may be kept: there is a number for each.
_MOST_LISTS = 1 << 27


def checked_count(function: str, name: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``.

    Raises:
        ArgumentError: For anything else.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{function}: {name} is a whole number of at least {least}, not {value!r}")
    return int(value)


def checked_seed(function: str, seed: Any) -> int:
    """A whole number that is not negative."""
    return checked_count(function, "seed", seed, 0)


def checked_shape(function: str, shape: Any) -> tuple[int, int]:
    """(queries, keys), both positive.

    Raises:
        ShapeError: For anything else.
    """
    given = tuple(shape) if isinstance(shape, tuple | list) else ()
    whole = [
        isinstance(each, int | np.integer) and not isinstance(each, bool | np.bool_) and 0 < each < _MOST_POSITIONS
        for each in given
    ]
    if len(given) != 2 or not all(whole):
        raise ShapeError(f"{function}: shape is (queries, keys), two positive integers, not {shape!r}")
    return int(given[0]), int(given[1])


def checked_size(function: str, block_size: Any) -> tuple[int, int]:
    """Rows and columns of a block, given as one number or two.

    Raises:
        ArgumentError: For anything else.
    """
    given = tuple(block_size) if isinstance(block_size, tuple | list) else (block_size, block_size)
    if len(given) != 2:
        raise ArgumentError(f"{function}: block_size is one size or two, not {block_size!r}")
    rows, columns = (checked_count(function, "block_size", each, 1) for each in given)
    return min(rows, _MOST_POSITIONS), min(columns, _MOST_POSITIONS)


def check_lists(function: str, count: int) -> None:
    """Raise LimitError for more lists than are kept."""
    if count > _MOST_LISTS:
        raise LimitError(f"{function}: {count} lists are more than {_MOST_LISTS}; larger blocks need fewer")


def checked_dense(array: ArrayLike) -> Array:
    """A boolean array of two axes at least.

    Raises:
        DTypeError: If it is not boolean.
        ShapeError: If it has fewer axes.
    """
    node = lift(array, "SparseMask.dense")
    if node.dtype != BOOL:
        raise DTypeError(f"SparseMask.dense: a mask is boolean (True = attend), not {node.type}")
    if len(node.shape) < 2:
        raise ShapeError(f"SparseMask.dense: a mask is (…, queries, keys), not {node.type}")
    return Array(node)


def checked_pairs(
    function: str, rows: ArrayLike, columns: ArrayLike, lengths: tuple[int, int]
) -> tuple[Values, Values]:
    """Queries and keys of pairs, as int64.

    Raises:
        DTypeError, ShapeError, IndexOutOfRangeError: If they are none.
    """
    check_lists(function, lengths[0])
    found = [_integers(function, name, each) for name, each in (("rows", rows), ("cols", columns))]
    for name, each, length in zip(("rows", "cols"), found, lengths, strict=True):
        if each.ndim != 1:
            raise ShapeError(f"{function}: {name} has one axis, not shape {each.shape}")
        _check_inside(function, name, each, length)
    if len(found[0]) != len(found[1]):
        raise ShapeError(f"{function}: {len(found[0])} rows and {len(found[1])} cols are no pairs")
    return found[0].astype(np.int64), found[1].astype(np.int64)


def checked_blocks(function: str, active: Any, block: tuple[int, int], lengths: tuple[int, int]) -> Listed:
    """The pattern of blocks that are given as pairs or as booleans.

    Raises:
        DTypeError, ShapeError, IndexOutOfRangeError, ArgumentError: If they are none.
    """
    grid = tuple(-(-length // size) for length, size in zip(lengths, block, strict=True))
    array = _numbers(function, "active_blocks", active)
    if array.dtype == BOOL:
        if array.ndim not in (2, 3) or array.shape[-2:] != grid:
            raise ShapeError(f"{function}: of {grid[0]}×{grid[1]} blocks booleans of shape {array.shape} say nothing")
        check_lists(function, math.prod(array.shape[:-1]))
        return from_table(array, block, lengths, "blocks")
    check_lists(function, grid[0])
    pairs = _integers(function, "active_blocks", array) if array.size else np.zeros((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ShapeError(f"{function}: active_blocks are pairs, (n, 2), not of shape {pairs.shape}")
    for name, each, length in zip(("rows", "columns"), pairs.T, grid, strict=True):
        _check_inside(function, f"blocks of {name}", each, length)
    keys, counts = np.unique(pairs[:, 0].astype(np.int64) * grid[1] + pairs[:, 1].astype(np.int64), return_counts=True)
    if (counts > 1).any():
        twice = divmod(int(keys[counts > 1][0]), grid[1])
        raise ArgumentError(f"{function}: block {twice} is given {int(counts.max())} times; np.unique makes it one")
    return Listed(lengths, block, keys // grid[1], keys % grid[1], "blocks")


def _numbers(function: str, name: str, given: Any) -> Values:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{function}: {name} is no array: {error}") from None


def _integers(function: str, name: str, given: Any) -> Values:
    array = _numbers(function, name, given)
    if array.size == 0 and array.dtype.kind == "f":  # as an empty list has it
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{function}: {name} are integers, not {array.dtype}")
    return array


def _check_inside(function: str, name: str, array: Values, length: int) -> None:
    if array.size and (int(array.min()) < 0 or int(array.max()) >= length):
        wrong = array[(array < 0) | (array >= length)].flat[0]
        raise IndexOutOfRangeError(f"{function}: {name} has {int(wrong)}, which is out of range for {length}")
