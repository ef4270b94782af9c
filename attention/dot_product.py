"""Scaled dot-product attention: ``softmax(q kᵀ / sqrt(d)) v`` (Vaswani 2017, arXiv:1706.03762)."""

from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, DTypeError, LimitError, ShapeError
from ..engine.types import BOOL, broadcast, is_float
from ..ops.array import Array, ArrayLike, lift
from ..ops.creation import arange
from ..ops.registry import public
from ..ops.selection import where
from .block_mask import BlockMask
from .inputs import (
    Inputs,
    causal_offset,
    checked_flag,
    checked_inputs,
    checked_scale,
    log_sums,
    scores_of,
    weighted_values,
)
from .pair_attention import attention_of_pairs, takes_pairs
from .sparse_mask import SparseMask


@public()
def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | BlockMask | SparseMask | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """torch.nn.functional.scaled_dot_product_attention, lazily.

    Args:
        query: (…, heads, L, E).
        key: (…, heads, S, E).
        value: (…, heads, S, Ev).
        attn_mask: Broadcast to (…, heads, L, S). Boolean: True = attend. Float: added to the scores. Or a
            BlockMask or SparseMask.
        dropout_p: Only 0.
        is_causal: Query i sees keys j <= i, counted from the upper left.
        scale: Factor of the scores; 1/sqrt(E) if None.
        enable_gqa: Query head i uses key head i // (query heads / key heads).

    Returns:
        (…, heads, L, Ev), in the query's data type. A row with nothing to attend to gives zeros.

    Raises:
        ShapeError, DTypeError: If the arrays do not go together.
        ArgumentError: For both a mask and ``is_causal``, as torch.
        LimitError: For ``dropout_p`` other than 0, or a sequence over ``config.max_length``.
        NonFiniteError: At evaluation under ``check_finite``, for NaN or infinity where it counts.
    """
    function = "scaled_dot_product_attention"
    if not _is_zero(dropout_p):
        raise LimitError(f"{function}: dropout_p={dropout_p!r} is not supported; only 0 is")
    if checked_flag(function, "is_causal", is_causal) and attn_mask is not None:
        raise ArgumentError(f"{function}: attn_mask and is_causal=True exclude each other")
    mask, bias = attn_mask, None
    if attn_mask is not None and not isinstance(attn_mask, BlockMask | SparseMask):
        node = lift(attn_mask, f"{function}: attn_mask")
        if is_float(node.dtype):
            mask, bias = None, attn_mask
    inputs = checked_inputs(function, query, key, value, enable_gqa)
    checked = checked_scale(function, scale, inputs.query.shape[-1])
    return _attended(inputs, checked, mask, bias, is_causal, wants_lse=False)[0]


def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: ArrayLike | BlockMask | SparseMask | None = None,
    bias: ArrayLike | None = None,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
) -> Any:
    """``softmax(query @ keyᵀ * scale + bias) @ value`` over what the mask lets through.

    Args:
        query: (…, heads, L, E).
        key: (…, heads, S, E).
        value: (…, heads, S, Ev).
        mask: Boolean (True = attend), broadcast to (…, heads, L, S), or a BlockMask or SparseMask.
        bias: Float, added to the scores, broadcast to their shape.
        is_causal: True: query i sees keys j <= i (upper left). ``"lower_right"``: the last query sees
            all keys, as decoding needs.
        scale: Factor of the scores; 1/sqrt(E) if None.
        enable_gqa: Query head i uses key head i // (query heads / key heads).
        return_lse: Return ``(out, lse)``.

    Returns:
        (…, heads, L, Ev) in the query's data type; with ``return_lse`` also the natural logarithm of
        the sum of the exponentials, (…, heads, L), float32 or float64. A row with nothing to attend to
        gives zeros and -inf.

    Raises:
        ShapeError, DTypeError: If the arrays do not go together; for a float ``mask`` (that is a bias).
        ArgumentError: For another ``is_causal``.
        LimitError: If a sequence is longer than ``config.max_length``.
        NonFiniteError: At evaluation under ``check_finite``, for NaN or infinity where it counts.
    """
    inputs = checked_inputs("attention", query, key, value, enable_gqa)
    wants_lse = checked_flag("attention", "return_lse", return_lse)
    checked = checked_scale("attention", scale, inputs.query.shape[-1])
    out, sums = _attended(inputs, checked, mask, bias, is_causal, wants_lse=wants_lse)
    return out if sums is None else (out, sums.astype(inputs.query.dtype))


def _attended(
    inputs: Inputs, scale: Any, mask: Any, bias: Any, is_causal: bool | str, *, wants_lse: bool
) -> tuple[Array, Array | None]:
    """Attention, and the logarithms of its sums where they are wanted."""
    offset = causal_offset(inputs.function, is_causal, *inputs.scores_shape[-2:])
    pattern = mask.pattern if isinstance(mask, SparseMask) else None
    if inputs.visible is None and takes_pairs(pattern):  # pairs are taken whatever lies there
        mask.check_fits(inputs.function, inputs.scores_shape)
        pairs = pattern if offset is None else pattern.below(offset)
        added = None if bias is None else _checked_bias(inputs, bias, inputs.scores_shape)
        out, sums = attention_of_pairs(inputs, pairs, scale, added, wants_lse)
        return out.astype(inputs.dtype), sums
    scores = _causal(masked(inputs, scores_of(inputs, scale), mask, bias), offset)
    return weighted_values(inputs, scores), log_sums(inputs, scores) if wants_lse else None


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and value == 0


def causal(inputs: Inputs, scores: Array, is_causal: bool | str) -> Array:
    """The scores of what ``is_causal`` lets queries see; -inf elsewhere."""
    return _causal(scores, causal_offset(inputs.function, is_causal, *scores.shape[-2:]))


def _causal(scores: Array, offset: int | None) -> Array:
    if offset is None:
        return scores
    rows, columns = scores.shape[-2:]
    visible = arange(rows)[:, None] + offset >= arange(columns)[None, :]
    return where(visible, scores, -float("inf"))


def _checked_bias(inputs: Inputs, bias: Any, scores: tuple[int, ...]) -> Array:
    node = lift(bias, f"{inputs.function}: bias")
    if not is_float(node.dtype):
        hint = "; a boolean is a mask" if node.dtype == BOOL else ""
        raise DTypeError(f"{inputs.function}: bias is a float array, not {node.type}{hint}")
    _check_spreads(inputs.function, "bias", node.shape, scores)
    return Array(node)


def masked(inputs: Inputs, scores: Array, mask: Any, bias: Any) -> Array:
    """The scores with a bias added, and -inf where a mask hides them."""
    function = inputs.function
    if bias is not None:
        scores = scores + _checked_bias(inputs, bias, scores.shape)
    if mask is None:
        return scores
    if isinstance(mask, BlockMask | SparseMask):
        visible = mask.predicate(function, scores.shape)
    else:
        node = lift(mask, f"{function}: mask")
        if node.dtype != BOOL:
            hint = "; a float array that is added to the scores is the bias (bias=)" if is_float(node.dtype) else ""
            raise DTypeError(f"{function}: mask is boolean (True = attend), not {node.type}{hint}")
        _check_spreads(function, "mask", node.shape, scores.shape)
        visible = Array(node)
    return where(visible, scores, -float("inf"))


def _check_spreads(function: str, name: str, shape: tuple[int, ...], scores: tuple[int, ...]) -> None:
    try:
        fits = broadcast(function, shape, scores) == scores
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"{function}: {name} of shape {shape} does not broadcast to the scores' {scores}")
