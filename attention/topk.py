"""Attention to the keys of the largest scores alone: an exact top-k for each query (Gupta 2021, arXiv:2106.06899)."""

from typing import Any

from ..engine.errors import ArgumentError
from ..engine.passes.fused import FEWEST_COLUMNS
from ..ops.array import Array, ArrayLike
from ..ops.creation import arange
from ..ops.indexing import take_along_axis
from ..ops.kinds import whole
from ..ops.registry import public
from ..ops.selection import where
from ..ops.shape import broadcast_to
from ..ops.softmax import softmax
from ..ops.sorting import topk as largest
from .block_mask import BlockMask
from .dot_product import causal, masked
from .inputs import Inputs, checked_inputs, checked_scale, scores_of, shown

_FUNCTION = "topk_attention"


@public()
def topk_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    topk: int,
    scale: float | None = None,
    *,
    mask: ArrayLike | BlockMask | None = None,
    bias: ArrayLike | None = None,
    is_causal: bool | str = False,
    enable_gqa: bool = False,
) -> Array:
    """Each query's softmax over the ``topk`` keys of its largest scores; all other keys weigh nothing.

    The selection is exact: of equal scores, that of the lower key is the larger. Gradients flow through what is
    selected, and none through the choice. No array of all scores is stored, and none of selected keys or values.

    Args:
        query: (…, heads, L, E).
        key: (…, heads, S, E).
        value: (…, heads, S, Ev).
        topk: How many keys at most, from 1 on. More than there are mean all of them: that is `attention`.
        scale: Factor of the scores; 1/sqrt(E) if None.
        mask: As for `attention`: what is hidden is never selected as long as enough else is there, and weighs nothing.
        bias: As for `attention`.
        is_causal: As for `attention`.
        enable_gqa: Query head i uses key head i // (query heads / key heads).

    Returns:
        (…, heads, L, Ev), in the query's data type. A row with nothing to attend to gives zeros.

    Raises:
        ShapeError, DTypeError: If the arrays do not go together.
        ArgumentError: If ``topk`` is no integer, or below 1.
        LimitError: If a sequence is longer than ``config.max_length``.
        NonFiniteError: At evaluation under ``check_finite``, for NaN or infinity where it counts.
    """
    count = whole(_FUNCTION, "topk", topk)
    if isinstance(topk, bool) or count < 1:
        raise ArgumentError(f"{_FUNCTION}: topk is a number of keys from 1 on, not {topk!r}")
    inputs = checked_inputs(_FUNCTION, query, key, value, enable_gqa)
    scores = scores_of(inputs, checked_scale(_FUNCTION, scale, inputs.query.shape[-1]))
    scores = shown(inputs, causal(inputs, masked(inputs, scores, mask, bias), is_causal))
    # A longer list than asked for, the rest of it hidden: no kernel goes over fewer columns.
    _, places = largest(scores, min(max(count, FEWEST_COLUMNS), scores.shape[-1]))
    selected = take_along_axis(scores, places)
    if count < selected.shape[-1]:
        selected = where(arange(selected.shape[-1]) < count, selected, -float("inf"))
    weights = softmax(selected, -1)
    return _weighted(inputs, weights, places)


def _weighted(inputs: Inputs, weights: Array, places: Array) -> Array:
    """The selected values, weighted: ``sum over r of weights[…, i, r] * value[…, places[…, i, r], :]``."""
    *_, length, width = inputs.value.shape
    heads: Any = inputs.value
    if inputs.groups > 1:  # a group of heads shares its values
        batch = inputs.value.shape[:-2]
        heads = broadcast_to(inputs.value[..., :, None, :, :], (*batch, inputs.groups, length, width))
        heads = heads.reshape((*inputs.grouped_batch(inputs.value), length, width))
    missing = len(places.shape) - len(heads.shape)
    heads = heads[(None,) * missing + (...,)][..., None, :, :]
    chosen = take_along_axis(heads, places[..., None], axis=-2)
    return (weights[..., None, :] @ chosen)[..., 0, :].astype(inputs.dtype)
