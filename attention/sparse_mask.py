"""`SparseMask`: sparse patterns of attention, made of pairs, blocks, or positions."""

from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, ShapeError
from ..engine.immediate import evaluate_now
from ..engine.ir import Values
from ..ops.array import Array, ArrayLike, asarray
from .block_picture import MOST_SHOWN, drawn
from .listed_pattern import Listed, from_pairs
from .mask_operators import RefusesOperators, refuse
from .patterns import Combined, Dense, Dilated, Indices, Pattern, Strided, Windowed
from .random_blocks import bigbird_lists, random_lists
from .sparse_arguments import (
    check_lists,
    checked_blocks,
    checked_count,
    checked_dense,
    checked_pairs,
    checked_seed,
    checked_shape,
    checked_size,
)


class SparseMask(RefusesOperators):
    """Which pairs of a query and a key attend to each other, as ``mask=`` of any attention.

    Make one by `dense`, `coo`, `blocks`, `windowed`, `strided`, `dilated`, `random_blocks` or `bigbird`, and of two of
    them, or of one and a boolean array, others by ``&`` and ``|``. Lists of blocks are gone through as lists, forward
    and backward; of pairs alone (`coo`) `attention` computes those pairs alone, where they are few; windows and strides
    are arithmetic of positions, by which kernels leave out whole tiles. An array of all pairs is there only where one
    was given.

    Attributes:
        shape: (queries, keys), or (…, heads, queries, keys) where heads differ.
    """

    hint = "& and | take sparse masks and boolean arrays: SparseMask.dense(...) makes one of all pairs"
    inverse = "what is not there is not sparse: SparseMask.dense(~mask.to_dense()) is one of all pairs"

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern

    @property
    def shape(self) -> tuple[int, ...]:
        """(queries, keys), or (…, heads, queries, keys) where heads differ."""
        return self.pattern.shape

    # --- how one is made

    @staticmethod
    def dense(array: ArrayLike) -> "SparseMask":
        """What a boolean array says, True = attend: (…, queries, keys).

        Raises:
            DTypeError: If it is not boolean.
            ShapeError: If it has less than two axes.
        """
        return SparseMask(Dense(checked_dense(array)))

    @staticmethod
    def coo(rows: ArrayLike, cols: ArrayLike, shape: tuple[int, int]) -> "SparseMask":
        """Pairs of a query and a key, ``(rows[n], cols[n])``, in any order; a pair that is given twice counts once.

        Args:
            rows: Queries, integers of one axis.
            cols: Keys, as many.
            shape: (queries, keys).

        Raises:
            DTypeError: If they are no integers.
            ShapeError: If there are not as many of both, or ``shape`` is not two positive integers.
            IndexOutOfRangeError: For one that is negative or too large.
        """
        function = "SparseMask.coo"
        lengths = checked_shape(function, shape)
        return SparseMask(from_pairs(*checked_pairs(function, rows, cols, lengths), lengths, "coo"))

    @staticmethod
    def blocks(active_blocks: Any, block_size: int | tuple[int, int], shape: tuple[int, int]) -> "SparseMask":
        """Blocks of queries and keys; where lengths are no multiples of a block's, the last ones are smaller.

        Args:
            active_blocks: Pairs (block of queries, block of keys), integers (n, 2); or which blocks there are, booleans
                (blocks of queries, blocks of keys), or for each head (heads, blocks of queries, blocks of keys).
            block_size: Queries and keys of a block: one number, or two.
            shape: (queries, keys).

        Raises:
            DTypeError: If blocks are neither integers nor booleans.
            ShapeError: If they are no pairs, booleans of another number of blocks, or ``shape`` is not two positive
                integers.
            IndexOutOfRangeError: For a block outside.
            ArgumentError: For a block that is given twice, or a size that is no positive integer.
        """
        function = "SparseMask.blocks"
        lengths, block = checked_shape(function, shape), checked_size(function, block_size)
        return SparseMask(checked_blocks(function, active_blocks, block, lengths))

    @staticmethod
    def windowed(window_size: int, global_tokens: int, shape: tuple[int, int]) -> "SparseMask":
        """Keys at most ``window_size`` away, and first tokens that see all and are seen by all (Longformer).

        Source: arXiv:2004.05150.

        Args:
            window_size: The largest distance, ``|i - j|``: 0 for the position itself alone.
            global_tokens: How many first positions are global.
            shape: (queries, keys).

        Raises:
            ArgumentError: For a number that is negative or no integer.
            ShapeError: If ``shape`` is not two positive integers.
        """
        function = "SparseMask.windowed"
        window = checked_count(function, "window_size", window_size, 0)
        return SparseMask(
            Windowed(checked_shape(function, shape), window, checked_count(function, "global_tokens", global_tokens, 0))
        )

    @staticmethod
    def strided(stride: int, window_size: int, shape: tuple[int, int]) -> "SparseMask":
        """Keys at most ``window_size`` away, and those a whole number of strides away (Sparse Transformer).

        Source: arXiv:1904.10509; beside ``is_causal=True`` it is that paper's.

        Args:
            stride: The stride.
            window_size: The largest distance, ``|i - j|``, of neighbours.
            shape: (queries, keys).

        Raises:
            ArgumentError: For a stride that is no positive integer, a window that is negative or no integer.
            ShapeError: If ``shape`` is not two positive integers.
        """
        function = "SparseMask.strided"
        step = checked_count(function, "stride", stride, 1)
        window = checked_count(function, "window_size", window_size, 0)
        return SparseMask(Strided(checked_shape(function, shape), step, window))

    @staticmethod
    def dilated(window_size: int, dilation: int, shape: tuple[int, int]) -> "SparseMask":
        """Keys that are at most ``window_size`` steps of ``dilation`` away, on either side (Longformer).

        Source: arXiv:2004.05150.

        Args:
            window_size: The largest number of steps.
            dilation: Positions of a step.
            shape: (queries, keys).

        Raises:
            ArgumentError: For a window that is negative, a step that is not positive, or one that is no integer.
            ShapeError: If ``shape`` is not two positive integers.
        """
        function = "SparseMask.dilated"
        window = checked_count(function, "window_size", window_size, 0)
        step = checked_count(function, "dilation", dilation, 1)
        return SparseMask(Dilated(checked_shape(function, shape), window, step))

    @staticmethod
    def random_blocks(
        blocks_per_row: int, block_size: int | tuple[int, int], shape: tuple[int, int], seed: int = 0
    ) -> "SparseMask":
        """For each block of queries so many blocks of keys, drawn without repetition.

        Args:
            blocks_per_row: How many; all, if there are fewer.
            block_size: Queries and keys of a block: one number, or two.
            shape: (queries, keys).
            seed: Of the random numbers: the same blocks each time.

        Raises:
            ArgumentError: For a number that is negative or no integer, or a size that is no positive integer.
            ShapeError: If ``shape`` is not two positive integers.
        """
        function = "SparseMask.random_blocks"
        lengths, block = checked_shape(function, shape), checked_size(function, block_size)
        count = checked_count(function, "blocks_per_row", blocks_per_row, 0)
        check_lists(function, -(-lengths[0] // block[0]))
        return SparseMask(random_lists(lengths, block, count, checked_seed(function, seed)))

    @staticmethod
    def bigbird(
        block_size: int | tuple[int, int],
        shape: tuple[int, int],
        *,
        window_blocks: int = 3,
        global_blocks: int = 1,
        random_blocks: int = 3,
        seed: int = 0,
    ) -> "SparseMask":
        """Blocks near the diagonal, global ones, and random ones (BigBird).

        Source: arXiv:2007.14062, internal transformer construction.

        Args:
            block_size: Queries and keys of a block: one number, or two.
            shape: (queries, keys).
            window_blocks: Blocks of keys around its own that a block of queries sees, itself included: an odd number.
            global_blocks: First blocks that see all and are seen by all.
            random_blocks: Further blocks for each block of queries, drawn without repetition.
            seed: Of the random numbers.

        Raises:
            ArgumentError: For a number that is negative or no integer, an even window, or a size that is no positive
                integer.
            ShapeError: If ``shape`` is not two positive integers.
        """
        function = "SparseMask.bigbird"
        lengths, block = checked_shape(function, shape), checked_size(function, block_size)
        given = {"window_blocks": window_blocks, "global_blocks": global_blocks, "random_blocks": random_blocks}
        counts = [checked_count(function, name, count, 0) for name, count in given.items()]
        if counts[0] and counts[0] % 2 == 0:
            raise ArgumentError(f"{function}: window_blocks is an odd number, its own block amid, not {window_blocks}")
        check_lists(function, -(-lengths[0] // block[0]))
        return SparseMask(bigbird_lists(lengths, block, counts, checked_seed(function, seed)))

    # --- what it says

    def predicate(self, function: str, scores: tuple[int, ...]) -> Array:
        """The booleans for scores of this shape (…, heads, queries, keys); they broadcast to it.

        Raises:
            ShapeError: If the mask was made for other lengths, heads or batches.
        """
        self.check_fits(function, scores)
        return self.pattern.predicate()

    def check_fits(self, function: str, scores: tuple[int, ...]) -> None:
        """Raise ShapeError unless the mask is one for scores of this shape."""
        ahead = (1,) * (len(scores) - len(self.shape)) + self.shape[:-2]
        fits = len(self.shape) <= len(scores) and self.shape[-2:] == scores[-2:]
        if not fits or any(mine not in (1, theirs) for mine, theirs in zip(ahead, scores[:-2], strict=True)):
            raise ShapeError(f"{function}: a sparse mask of shape {self.shape} on scores of shape {tuple(scores)}")

    @property
    def num_active(self) -> int:
        """How many pairs there are, heads counted each for itself."""
        return self.pattern.count()

    @property
    def density(self) -> float:
        """The share of pairs that there are."""
        size = int(np.prod(self.shape, dtype=object))
        return self.num_active / size if size else 0.0

    def to_dense(self) -> Values:
        """The booleans of all pairs, as an array of ``shape``.

        Raises:
            LimitError: If there is no memory for them.
        """
        return self.pattern.dense()

    def __and__(self, other: Any) -> "SparseMask":
        """Pairs that both have; of a `coo` mask and another one those of its pairs that the other has."""
        return self._combined(other, "&")

    def __or__(self, other: Any) -> "SparseMask":
        """Pairs that either has."""
        return self._combined(other, "|")

    __rand__, __ror__ = __and__, __or__

    def _combined(self, other: Any, symbol: str) -> "SparseMask":
        if isinstance(other, np.ndarray | Array):
            other = SparseMask.dense(other)
        if not isinstance(other, SparseMask):
            refuse(self, symbol, other, self.hint)
        both = symbol == "&"
        shorter, longer = sorted((self.shape, other.shape), key=len)
        if shorter != longer[len(longer) - len(shorter) :]:
            raise ShapeError(f"SparseMask: of shapes {self.shape} and {other.shape} there is no common one")
        for one, another in ((self.pattern, other.pattern), (other.pattern, self.pattern)):
            if both and isinstance(one, Listed) and one.is_of_pairs and len(another.shape) == 2:
                return SparseMask(_chosen(one, another))
        return SparseMask(Combined(self.pattern, other.pattern, both))

    def __repr__(self) -> str:
        return f"SparseMask(shape={self.shape}, {self.pattern})"

    def __str__(self) -> str:
        *ahead, rows, columns = self.shape
        height, width = (
            own * max(1, -(-length // (own * MOST_SHOWN)))
            for length, own in zip((rows, columns), self.pattern.block, strict=True)
        )
        pictures = [f"{self!r}, density={100 * self.density:.3g}%"]
        for number, states in enumerate(self.pattern.states((height, width))[:4]):
            place = np.unravel_index(number, ahead) if ahead else ()
            pictures += [f"\n{tuple(int(each) for each in place)}" if ahead else "", *drawn(states)]
        return "\n".join(pictures)


def _chosen(pairs: Listed, other: Pattern) -> Listed:
    """Those of some pairs that another pattern has, too."""
    rows, columns = pairs.owners, pairs.members
    if not len(rows):
        return pairs
    (seen,) = evaluate_now([other.visible(Indices(asarray(0), asarray(rows), asarray(columns))).node])
    seen = np.broadcast_to(seen, rows.shape)
    lengths = pairs.shape[-2], pairs.shape[-1]
    return Listed(lengths, (1, 1), rows[seen], columns[seen], f"{pairs.kind} & ({other})")
