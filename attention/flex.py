"""Attention with a score function of the user's: PyTorch FlexAttention's interface (arXiv:2412.05496)."""

from collections.abc import Callable
from typing import Any

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.lazily import Lazily
from ..engine.tracing import tracing
from ..engine.types import broadcast, is_float
from ..ops import torch_vectors as torch_vectors  # what indexing makes while a function of scalars is traced
from ..ops.array import Array, ArrayLike, lift
from ..ops.registry import public
from ..ops.selection import where
from ..ops.shape import broadcast_to
from .block_mask import BlockMask, index_arrays
from .inputs import check_signature, checked_flag, checked_inputs, checked_scale, log_sums, scores_of, weighted_values
from .sparse_mask import SparseMask

_logging: Any = Lazily("logging")

ScoreFunction = Callable[[Array, Array, Array, Array, Array], Any]


@public()
def flex_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    score_mod: ScoreFunction | None = None,
    block_mask: BlockMask | SparseMask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: dict[str, Any] | None = None,
) -> Any:
    """``softmax(score_mod(query @ keyᵀ * scale, b, h, q_idx, kv_idx)) @ value`` over the block mask.

    Args:
        query: (B, heads, L, E).
        key: (B, heads, S, E).
        value: (B, heads, S, Ev).
        score_mod: From scores (B, heads, L, S) and int64 indices that broadcast to them, new scores.
        block_mask: What to attend to, from `create_block_mask`, or a SparseMask.
        scale: Factor of the scores; 1/sqrt(E) if None.
        enable_gqa: Query head i uses key head i // (query heads / key heads).
        return_lse: Return ``(out, lse)``.
        kernel_options: Accepted for torch's sake, and ignored.

    Returns:
        (B, heads, L, Ev) in the query's data type; with ``return_lse`` also (B, heads, L), the natural
        logarithm of the sum of the exponentials.

    Raises:
        ShapeError: If arrays, mask or what ``score_mod`` returns do not go together.
        DTypeError: If they are not floats, or scores are not.
        TraceError: If ``score_mod`` branches on a value, or indexes a NumPy table with an index.
        ArgumentError: If ``score_mod`` is no function, or one of other arguments (that is a TypeError
            too), or ``block_mask`` no BlockMask or SparseMask.
    """
    function = "flex_attention"
    if kernel_options is not None and not isinstance(kernel_options, dict):
        raise ArgumentError(f"{function}: kernel_options is a dict or None, not {kernel_options!r}")
    if kernel_options:
        _logging.getLogger(__name__).debug("flex_attention: kernel_options %s are ignored", kernel_options)
    if score_mod is not None and not callable(score_mod):
        raise ArgumentError(f"{function}: score_mod is a function, not {score_mod!r}")
    if block_mask is not None and not isinstance(block_mask, BlockMask | SparseMask):
        raise ArgumentError(f"{function}: block_mask comes from ag.create_block_mask, not {_kind(block_mask)}")
    wants_lse = checked_flag(function, "return_lse", return_lse)
    inputs = checked_inputs(function, query, key, value, enable_gqa)
    if len(inputs.scores_shape) != 4 or inputs.query.ndim != 4:
        raise ShapeError(f"{function}: arrays are (B, heads, length, dim): query has shape {inputs.query.shape}")
    scores = scores_of(inputs, checked_scale(function, scale, inputs.query.shape[-1]))
    if score_mod is not None:
        scores = _modified(scores, score_mod)
    if block_mask is not None:
        scores = where(block_mask.predicate(function, scores.shape), scores, -float("inf"))
    out = weighted_values(inputs, scores)
    return (out, log_sums(inputs, scores)) if wants_lse else out


def _kind(value: Any) -> str:
    """What it is, with its module: torch has a BlockMask too."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _modified(scores: Array, score_mod: ScoreFunction) -> Array:
    check_signature("flex_attention", "score_mod", score_mod, "score, b, h, q_idx, kv_idx")
    name = getattr(score_mod, "__name__", str(score_mod))
    batch, heads, rows, columns = scores.shape
    # A float64 table does not make the attention float64, nor does a half one make it less.
    with tracing(f"the score function {name}", scalars=True, floats=scores.dtype):
        changed = score_mod(scores, *index_arrays(batch, heads, range(rows), range(columns)))
        if changed is None:
            raise DTypeError(f"flex_attention: {name} returned None, not scores")
        node = lift(changed, f"flex_attention: what {name} returned")
    if not is_float(node.dtype):
        raise DTypeError(f"flex_attention: {name} returned {node.type}, not float scores")
    try:
        fits = broadcast("flex_attention", node.shape, scores.shape) == scores.shape
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"flex_attention: {name} returned {node.type} for scores of shape {scores.shape}")
    return broadcast_to(Array(node), scores.shape).astype(scores.dtype)
