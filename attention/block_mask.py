"""Masks as predicates of positions, in FlexAttention's form (arXiv:2412.05496)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.block_states import EMPTY, States, block_states
from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.immediate import evaluate_now
from ..engine.tracing import tracing
from ..engine.types import BOOL, broadcast
from ..ops.array import Array, lift
from ..ops.creation import arange, full
from ..ops.registry import public
from ..ops.shape import broadcast_to
from .block_picture import drawn, share_of_empty
from .inputs import check_signature
from .mask_operators import RefusesOperators
from .patterns import states_of

MaskFunction = Callable[[Array, Array, Array, Array], Any]

_ARGUMENTS = "b, h, q_idx, kv_idx"


def index_arrays(batch: int, heads: int, rows: range, columns: range) -> tuple[Array, Array, Array, Array]:
    """The four arguments of a mask or score function: lazy int64 indices that broadcast to scores."""
    return (
        arange(batch).reshape((-1, 1, 1, 1)) if batch else arange(0).reshape((0, 1, 1, 1)),
        arange(heads).reshape((1, heads, 1, 1)),
        arange(rows.start, rows.stop).reshape((1, 1, len(rows), 1)),
        arange(columns.start, columns.stop).reshape((1, 1, 1, len(columns))),
    )


def evaluate_mask(mask_mod: MaskFunction, indices: tuple[Array, Array, Array, Array]) -> Array:
    """The predicate of ``mask_mod`` at the indices, in the shape that they broadcast to.

    Raises:
        DTypeError: If the function returns no boolean.
        ArgumentError: If it takes other arguments (a TypeError too).
        ShapeError: If what it returns has another shape.
        TraceError: If it branches on a value, or indexes a NumPy table with an index.
    """
    check_signature("create_block_mask", "mask_mod", mask_mod, _ARGUMENTS)
    shape = broadcast("mask_mod", *(index.shape for index in indices))
    with tracing(f"the mask function {_name(mask_mod)}", scalars=True):
        visible = mask_mod(*indices)
        if visible is None:
            raise DTypeError(f"create_block_mask: {_name(mask_mod)} returned None, not a boolean array")
        node = lift(visible, f"create_block_mask: what {_name(mask_mod)} returned")
    if node.dtype != BOOL:
        raise DTypeError(f"create_block_mask: {_name(mask_mod)} returned {node.type}, not booleans")
    try:
        fits = broadcast("create_block_mask", node.shape, shape) == shape
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"create_block_mask: {_name(mask_mod)} returned {node.type} for indices of shape {shape}")
    return Array(node)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))


class BlockMask(RefusesOperators):
    """A lazy predicate over positions; no mask array is ever kept.

    Attributes:
        shape: (batch or 1, heads or 1, queries, keys).
        block_size: (rows, columns) of the blocks that `sparsity`, `to_dense` and ``str`` speak of.
        mask_mod: The function.
    """

    hint = "combine functions, and_masks(a.mask_mod, b) or or_masks, and make a block mask of that"
    inverse = "make one of the function that says the opposite"

    def __init__(self, mask_mod: MaskFunction, shape: tuple[int, int, int, int], block_size: tuple[int, int]) -> None:
        self.mask_mod = mask_mod
        self.shape = shape
        self.block_size = block_size

    def predicate(self, function: str, scores: tuple[int, ...]) -> Array:
        """The boolean array for scores of this shape (…, heads, queries, keys).

        Raises:
            ShapeError: If the mask was made for other lengths, heads or batches.
        """
        padded = (1,) * (4 - len(scores)) + scores
        fits = padded[-2:] == self.shape[-2:] and len(scores) <= 4
        fits = fits and all(mine in (1, theirs) for mine, theirs in zip(self.shape, padded, strict=False))
        if not fits:
            raise ShapeError(f"{function}: a block mask of shape {self.shape} on scores of shape {scores}")
        batch, heads, rows, columns = self.shape
        visible = evaluate_mask(self.mask_mod, index_arrays(batch, heads, range(rows), range(columns)))
        visible = broadcast_to(visible, self.shape)
        return visible if len(scores) == 4 else visible.reshape(self.shape[4 - len(scores) :])

    def _states(self) -> States:
        """Whether each block is empty, partial or full: (batch, heads, block rows, block columns)."""
        batch, heads, rows, columns = self.shape
        # A block longer than the axis is cut at its end: NumPy would not count in steps beyond 64 bits.
        block = min(self.block_size[0], max(rows, 1)), min(self.block_size[1], max(columns, 1))
        mask = evaluate_mask(self.mask_mod, index_arrays(batch, heads, range(rows), range(columns)))
        states = block_states(broadcast_to(mask, self.shape).node, block)
        return self._counted(block) if states is None else states

    def _counted(self, block: tuple[int, int]) -> States:
        """The same from every position, a strip of blocks at a time: for what is no arithmetic of positions."""
        batch, heads, rows, columns = self.shape
        height, width = block
        edges = np.arange(0, columns, width)
        visible = []
        for start in range(0, rows, height):  # a strip of blocks at a time: never a whole mask
            strip = range(start, min(start + height, rows))
            mask = evaluate_mask(self.mask_mod, index_arrays(batch, heads, strip, range(columns)))
            (values,) = evaluate_now([broadcast_to(mask, (batch, heads, len(strip), columns)).node])
            visible.append(
                np.add.reduceat(values.sum(axis=2), edges, axis=-1) if columns else np.zeros((batch, heads, 0))
            )
        count = np.stack(visible, axis=2) if visible else np.zeros((batch, heads, 0, len(edges)))
        return states_of(count, self.shape, block)

    def sparsity(self) -> float:
        """Per cent of the blocks in which nothing is visible; 0 for no blocks at all."""
        return share_of_empty(self._states())

    def to_dense(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """1 for every block in which something is visible: int32 (batch, heads, block rows, block columns)."""
        return np.asarray(self._states() != EMPTY, np.int32)

    def __str__(self) -> str:
        states = self._states()
        pictures = [f"{self._title()}, sparsity={share_of_empty(states):.2f}%)"]
        for place in list(np.ndindex(*states.shape[:2]))[:4]:
            pictures.append(f"\n{place}")
            pictures += drawn(states[place])
        return "\n".join(pictures)

    def _title(self) -> str:
        return f"BlockMask(shape={self.shape}, block_size={self.block_size}"

    def __repr__(self) -> str:
        return f"{self._title()}, mask_mod={_name(self.mask_mod)})"


@public()
def create_block_mask(
    mask_mod: MaskFunction,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: str = "cpu",
    BLOCK_SIZE: int | tuple[int, int] = 128,
) -> BlockMask:
    """Torch's create_block_mask: ``mask_mod(b, h, q_idx, kv_idx)`` says True where to attend.

    Args:
        mask_mod: A function of four integer index arrays.
        B: Batch size, or None for all alike.
        H: Heads, or None for all alike.
        Q_LEN: Number of queries.
        KV_LEN: Number of keys.
        device: Only "cpu"; accepted for torch's sake.
        BLOCK_SIZE: Rows and columns of a block, for `BlockMask.sparsity` and its like.

    Raises:
        ArgumentError: For sizes that are no whole numbers, no function, or one of other arguments (that is
            a TypeError too).
        DTypeError, ShapeError, TraceError: As `evaluate_mask`, now.
    """
    if not callable(mask_mod):
        raise ArgumentError(f"create_block_mask: mask_mod is a function, not {mask_mod!r}")
    shape = tuple(_count(name, x, 0) for name, x in (("B", B), ("H", H), ("Q_LEN", Q_LEN), ("KV_LEN", KV_LEN)))
    sizes = BLOCK_SIZE if isinstance(BLOCK_SIZE, tuple | list) else (BLOCK_SIZE, BLOCK_SIZE)
    if len(sizes) != 2:
        raise ArgumentError(f"create_block_mask: BLOCK_SIZE is one size or two, not {BLOCK_SIZE!r}")
    block = tuple(_count("BLOCK_SIZE", size, 1) for size in sizes)
    batch, heads, rows, columns = shape
    evaluate_mask(mask_mod, index_arrays(batch, heads, range(rows), range(columns)))
    return BlockMask(mask_mod, (batch, heads, rows, columns), (block[0], block[1]))


def _count(name: str, value: Any, least: int) -> int:
    if value is None and name in "BH":
        return 1
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < 2**63:
        raise ArgumentError(f"create_block_mask: {name} is a whole number of at least {least}, not {value!r}")
    return int(value)


@public()
def noop_mask(batch: Any, head: Any, token_q: Any, token_kv: Any) -> Array:
    """A mask function that hides nothing."""
    return full((), True)


@public()
def and_masks(*mask_mods: MaskFunction) -> MaskFunction:
    """A mask function that is True where all of these are.

    Raises:
        ArgumentError: If one is no function of four arguments.
    """
    return _combined("and_masks", mask_mods, lambda left, right: left & right, True)


@public()
def or_masks(*mask_mods: MaskFunction) -> MaskFunction:
    """A mask function that is True where any of these is.

    Raises:
        ArgumentError: If one is no function of four arguments.
    """
    return _combined("or_masks", mask_mods, lambda left, right: left | right, False)


def _combined(name: str, mask_mods: Any, combine: Callable[[Any, Any], Any], start: bool) -> MaskFunction:
    for mask_mod in mask_mods:
        if not callable(mask_mod):
            raise ArgumentError(f"{name}: takes mask functions, not {mask_mod!r}")
        check_signature(name, "mask_mod", mask_mod, _ARGUMENTS)

    def combined(batch: Array, head: Array, token_q: Array, token_kv: Array) -> Any:
        result: Any = full((), start)
        for each in mask_mods:
            result = combine(result, each(batch, head, token_q, token_kv))
        return result

    combined.__name__ = f"{name}({', '.join(_name(each) for each in mask_mods)})"
    return combined
