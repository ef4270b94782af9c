"""Sparse patterns: which pairs of a query and a key there are, as predicates of positions and as numbers.

A pattern of positions is arithmetic, so kernels tell whole tiles empty or full by it; one of lists
(`attention.listed_pattern`) is gone through as lists.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..engine.block_states import EMPTY, FULL, PARTIAL, States, block_states
from ..engine.errors import LimitError
from ..engine.immediate import evaluate_now
from ..engine.ir import Values
from ..ops.array import Array
from ..ops.creation import arange
from ..ops.shape import broadcast_to

# Positions that are looked at together.
_MOST_POSITIONS = 1 << 22


class Indices(NamedTuple):
    """Index arrays that broadcast to (heads, queries, keys), or to any other shape."""

    head: Array
    row: Array
    column: Array


class Pattern(ABC):
    """Which pairs of a query and a key there are.

    Attributes:
        shape: (queries, keys), or (…, heads, queries, keys) where they differ by head.
        block: Rows and columns of blocks in which all pairs are there or none.
    """

    shape: tuple[int, ...]
    block: tuple[int, int] = (1, 1)

    @abstractmethod
    def visible(self, at: Indices) -> Array:
        """Whether there are pairs, booleans in the shape that the indices broadcast to (or in a smaller one)."""

    @abstractmethod
    def __str__(self) -> str:
        """What it is, in a few words."""

    def predicate(self) -> Array:
        """The booleans of all pairs, lazily: they broadcast to ``shape``."""
        return self.visible(indices(self.shape, range(self.shape[-2])))

    def count(self) -> int:
        """How many pairs there are."""
        return sum(int(strip.sum()) for strip in self._strips())

    def dense(self) -> Values:
        """The booleans of all pairs.

        Raises:
            LimitError: If there is no memory for them.
        """
        try:
            found = np.empty(self.shape, np.bool_)
        except (MemoryError, ValueError):  # more than an array may have
            size = math.prod(self.shape)
            raise LimitError(f"SparseMask: {self}: no memory for {size:,} booleans, {list(self.shape)}") from None
        first = 0
        for strip in self._strips():
            found[..., first : first + strip.shape[-2], :] = strip
            first += strip.shape[-2]
        return found

    def states(self, block: tuple[int, int]) -> States:
        """Whether blocks are empty, partial or full: (heads or 1, blocks of rows, blocks of columns)."""
        *ahead, rows, columns = self.shape
        whole = (1, int(np.prod(ahead)), rows, columns)
        states = block_states(broadcast_to(self.predicate(), self.shape).reshape(whole).node, block)
        return (
            states_of(counts_in(self.dense().reshape(whole[1:]), block), self.shape, block)
            if states is None
            else states[0]
        )

    def _strips(self) -> Iterator[Values]:
        """Some rows at a time."""
        *ahead, rows, columns = self.shape
        step = max(1, _MOST_POSITIONS // max(1, int(np.prod(ahead)) * columns))
        for first in range(0, rows, step):
            some = range(first, min(first + step, rows))
            shape = (*ahead, len(some), columns)
            (values,) = evaluate_now([broadcast_to(self.visible(indices(self.shape, some)), shape).node])
            yield np.asarray(values)


def indices(shape: tuple[int, ...], rows: range) -> Indices:
    """Index arrays for some rows of (…, heads, queries, keys)."""
    heads = shape[-3] if len(shape) > 2 else 1
    return Indices(
        arange(heads).reshape((heads, 1, 1)) if len(shape) > 2 else arange(1).reshape((1, 1)),
        arange(rows.start, rows.stop).reshape((len(rows), 1)),
        arange(shape[-1]).reshape((1, shape[-1])),
    )


def counts_in(mask: Values, block: tuple[int, int]) -> Values:
    """How many hold in each block of (heads, rows, columns)."""
    by_rows = np.add.reduceat(mask.astype(np.int64), np.arange(0, mask.shape[1], block[0]), axis=1)
    return np.asarray(np.add.reduceat(by_rows, np.arange(0, mask.shape[2], block[1]), axis=2))


def states_of(counts: Values, shape: tuple[int, ...], block: tuple[int, int]) -> States:
    """Empty, partial or full, from how many positions of each block there are."""
    sizes = [np.minimum(size, n - np.arange(0, n, size)) for n, size in zip(shape[-2:], block, strict=True)]
    full = counts == sizes[0][:, None] * sizes[1]
    return np.where(counts == 0, EMPTY, np.where(full, FULL, PARTIAL)).astype(np.int8)


class Dense(Pattern):
    """Whatever a boolean array says."""

    def __init__(self, mask: Array) -> None:
        self.mask, self.shape = mask, tuple(int(length) for length in mask.shape)

    def visible(self, at: Indices) -> Array:
        """Its elements."""
        found: Array = self.mask[..., at.row, at.column]
        return found

    def predicate(self) -> Array:
        """Itself."""
        return self.mask

    def _strips(self) -> Iterator[Values]:
        yield np.asarray(evaluate_now([self.mask.node])[0])

    def __str__(self) -> str:
        return "dense"


class Positions(Pattern):
    """A pattern of two positions: of each row it is known how many columns it sees."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        # Beyond this distance there is nothing: larger numbers mean the same.
        self.far = sum(shape)

    def count(self) -> int:
        """How many pairs there are, from the numbers of each row."""
        rows, columns = self.shape
        parts = (np.arange(first, min(first + _MOST_POSITIONS, rows)) for first in range(0, rows, _MOST_POSITIONS))
        return sum(int(self.of_rows(part, columns).sum()) for part in parts)

    @abstractmethod
    def of_rows(self, row: Values, columns: int) -> Values:
        """How many columns each row sees."""


def _window(row: Values, reach: int, columns: int) -> tuple[Values, Values]:
    """The first column within reach, and that behind the last one."""
    low = np.minimum(np.maximum(row - reach, 0), columns)
    return low, np.maximum(np.minimum(row + reach + 1, columns), low)


def _multiples(row: Values, step: int, low: Any, stop: Any) -> Values:
    """Columns from ``low`` to before ``stop`` that are whole steps away from the row."""
    return np.asarray((stop - 1 - row) // step - (low - 1 - row) // step)


class Windowed(Positions):
    """Neighbours, and tokens that see all and are seen by all."""

    def __init__(self, shape: tuple[int, int], window: int, tokens: int) -> None:
        super().__init__(shape)
        self.window, self.tokens = min(window, self.far), min(tokens, self.far)

    def visible(self, at: Indices) -> Array:
        """``|i - j| <= window``, or one of the first tokens."""
        near = abs(at.row - at.column) <= self.window
        return near | (at.row < self.tokens) | (at.column < self.tokens) if self.tokens else near

    def of_rows(self, row: Values, columns: int) -> Values:
        """The window, and the tokens that are not in it."""
        low, stop = _window(row, self.window, columns)
        tokens = min(self.tokens, columns)
        outside = np.minimum(low, tokens) + np.maximum(tokens - stop, 0)
        seen = stop - low + outside
        return np.asarray(np.where(row < self.tokens, columns, seen))

    def __str__(self) -> str:
        return f"windowed, window_size={self.window}, global_tokens={self.tokens}"


class Strided(Positions):
    """Neighbours, and every so-manieth position."""

    def __init__(self, shape: tuple[int, int], stride: int, window: int) -> None:
        super().__init__(shape)
        self.stride, self.window = min(stride, self.far), min(window, self.far)

    def visible(self, at: Indices) -> Array:
        """``|i - j| <= window``, or a whole number of strides away."""
        distance = at.row - at.column
        return (abs(distance) <= self.window) | (distance % self.stride == 0)

    def of_rows(self, row: Values, columns: int) -> Values:
        """The window, and the strides that are not in it."""
        low, stop = _window(row, self.window, columns)
        strides = _multiples(row, self.stride, 0, columns) - _multiples(row, self.stride, low, stop)
        return np.asarray(stop - low + strides)

    def __str__(self) -> str:
        return f"strided, stride={self.stride}, window_size={self.window}"


class Dilated(Positions):
    """Neighbours that are whole steps away."""

    def __init__(self, shape: tuple[int, int], window: int, dilation: int) -> None:
        super().__init__(shape)
        self.window, self.dilation = min(window, self.far), min(dilation, self.far)
        self.reach = min(self.window * self.dilation, self.far)

    def visible(self, at: Indices) -> Array:
        """At most ``window`` steps of ``dilation`` away."""
        distance = at.row - at.column
        return (abs(distance) <= self.reach) & (distance % self.dilation == 0)

    def of_rows(self, row: Values, columns: int) -> Values:
        """The whole steps within reach."""
        return _multiples(row, self.dilation, *_window(row, self.reach, columns))

    def __str__(self) -> str:
        return f"dilated, window_size={self.window}, dilation={self.dilation}"


class Combined(Pattern):
    """Where both of two patterns hold, or either of them."""

    def __init__(self, left: Pattern, right: Pattern, both: bool) -> None:
        self.left, self.right, self.both = left, right, both
        self.shape = max(left.shape, right.shape, key=len)

    def visible(self, at: Indices) -> Array:
        """``left & right``, or ``left | right``."""
        left, right = self.left.visible(at), self.right.visible(at)
        return left & right if self.both else left | right

    def __str__(self) -> str:
        return f"({self.left}) {'&' if self.both else '|'} ({self.right})"
