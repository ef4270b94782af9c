"""Sparse patterns that are lists: for each block of rows, the blocks of columns that it sees."""

import math
from typing import Any

import numpy as np

from ..engine.block_states import States
from ..engine.ir import Values
from ..ops.array import Array, constant
from ..ops.membership import in_lists
from .patterns import Indices, Pattern, states_of

# Up to so many pairs a pattern of single pairs is an array of all of them where it has to be a predicate: kernels
# take columns side by side, and of a list of single ones would take many more than there are in it.
_MOST_PAIRS = 1 << 26


class Listed(Pattern):
    """Blocks of rows, and the list of the blocks of columns that each sees.

    Args:
        shape: (queries, keys), or (heads, queries, keys) with lists for each head.
        block: Rows and columns of a block.
        owners: For each block its block of rows, counted on from head to head; in order.
        members: Its block of columns, in order among those of one owner, none of them twice.
        kind: What the user has called it.
    """

    def __init__(
        self, shape: tuple[int, ...], block: tuple[int, int], owners: Values, members: Values, kind: str
    ) -> None:
        self.shape, self.owners, self.members, self.kind = shape, owners, members, kind
        # A block larger than all there is is as large as that.
        self.block = min(block[0], shape[-2]), min(block[1], shape[-1])
        self.grid = tuple(-(-length // size) for length, size in zip(shape[-2:], self.block, strict=True))
        self.heads = shape[0] if len(shape) > 2 else 1
        sizes = np.bincount(owners, minlength=self.heads * self.grid[0])
        self.longest = int(sizes.max(initial=0))
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
        # By offset: what is traced again finds the same arrays.
        self._below: dict[int, Listed] = {}
        # Nobody can change them: what kernels make of lists is kept.
        self._starts, self._indices = constant(starts), constant(np.append(members, 0).astype(np.int64))

    @property
    def is_of_pairs(self) -> bool:
        """Whether a block is a single pair of a query and a key."""
        return self.block == (1, 1)

    def visible(self, at: Indices) -> Array:
        """By a search in the lists, which kernels need not do where they go through lists."""
        rows, columns = (index if size == 1 else index // size for index, size in zip(at[1:], self.block, strict=True))
        if len(self.shape) > 2:
            rows = at.head * self.grid[0] + rows
        return in_lists(rows, columns, self._starts, self._indices, self.longest)

    @property
    def pairs(self) -> tuple[Array, Array]:
        """Queries and keys of single pairs, in order."""
        found: tuple[Array, Array] | None = getattr(self, "_pairs", None)
        if found is None:
            found = self._pairs = constant(self.owners), constant(self.members)
        return found

    def below(self, offset: int) -> "Listed":
        """The single pairs whose key comes no later than the query, ``offset`` added."""
        if offset not in self._below:
            is_past = self.owners + offset >= self.members
            kind = f"{self.kind}, causal"
            self._below[offset] = Listed(self.shape, self.block, self.owners[is_past], self.members[is_past], kind)
        return self._below[offset]

    def predicate(self) -> Array:
        """As lists; of single pairs as an array, if there are not too many places."""
        if self.is_of_pairs and math.prod(self.shape) <= _MOST_PAIRS:
            return self._array()
        return super().predicate()

    def _array(self) -> Array:
        found: Array | None = getattr(self, "_kept", None)
        if found is None:
            found = self._kept = constant(self.dense())
        return found

    def count(self) -> int:
        """How many pairs the blocks hold."""
        heights, widths = self._sizes()
        return int((heights[self.owners % max(self.grid[0], 1)] * widths[self.members]).sum())

    def dense(self) -> Values:
        """The booleans of all pairs."""
        table = np.zeros((self.heads * self.grid[0], self.grid[1]), np.bool_)
        table[self.owners, self.members] = True
        table = table.reshape(self.heads, *self.grid)
        wide = np.repeat(np.repeat(table, self.block[0], axis=1), self.block[1], axis=2)
        return np.ascontiguousarray(wide[:, : self.shape[-2], : self.shape[-1]]).reshape(self.shape)

    def states(self, block: tuple[int, int]) -> States:
        """From how much of each block the listed ones cover."""
        rows, columns = (_overlaps(n, own, b) for n, own, b in zip(self.shape[-2:], self.block, block, strict=True))
        counts = []
        for head in range(self.heads):
            mine = self.owners // max(self.grid[0], 1) == head
            by_rows = np.zeros((self.grid[1], rows.shape[1]), np.int64)
            np.add.at(by_rows, self.members[mine], rows[self.owners[mine] % self.grid[0]])
            counts.append(by_rows.T @ columns)
        return states_of(np.stack(counts), self.shape, block)

    def _sizes(self) -> tuple[Values, Values]:
        """Rows and columns of blocks, of which the last ones may be smaller."""
        heights, widths = (
            np.minimum(size, length - np.arange(0, length, size))
            for length, size in zip(self.shape[-2:], self.block, strict=True)
        )
        return heights, widths

    def __str__(self) -> str:
        if self.is_of_pairs:
            return f"{self.kind}, {len(self.members)} pairs"
        return f"{self.kind}, {len(self.members)} blocks of {self.block[0]}×{self.block[1]}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("shape", "block", "owners", "members", "kind")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _overlaps(length: int, own: int, other: int) -> Values:
    """Places that each stretch of one size shares with each of another one."""
    low, high = np.arange(0, length, own)[:, None], np.arange(0, length, other)
    shared = np.minimum(np.minimum(low + own, high + other), length) - np.maximum(low, high)
    return np.asarray(np.maximum(shared, 0))


def from_pairs(rows: Values, columns: Values, shape: tuple[int, int], kind: str) -> Listed:
    """The pattern of single pairs, of which each counts once."""
    keys = np.unique(rows * shape[1] + columns)
    return Listed(shape, (1, 1), keys // shape[1], keys % shape[1], kind)


def from_table(table: Values, block: tuple[int, int], shape: tuple[int, int], kind: str) -> Listed:
    """The pattern of the blocks that a boolean table, (block rows, block columns) or the same by head, names."""
    whole = shape if table.ndim == 2 else (table.shape[0], *shape)
    owners, members = np.nonzero(table.reshape(-1, table.shape[-1]))
    return Listed(whole, block, owners, members, kind)
