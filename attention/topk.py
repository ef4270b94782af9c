"""Attention to the keys of the largest scores alone: an exact top-k for each query (Gupta 2021, arXiv:2106.06899)."""

from typing import Any

from ..engine.errors import ArgumentError
from ..engine.lengths import FEWEST_COLUMNS
from ..ops.array import Array, ArrayLike
from ..ops.creation import arange, zeros
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
_INFINITY = float("inf")


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
    factor = checked_scale(_FUNCTION, scale, inputs.query.shape[-1])

    def hidden(scores: Array) -> Array:
        return shown(inputs, causal(inputs, masked(inputs, scores, mask, bias), is_causal))

    scores = scores_of(inputs, factor)
    modified = hidden(scores)
    # A longer list than asked for, the rest of it hidden: no kernel goes over fewer columns.
    _, places = largest(modified, min(max(count, FEWEST_COLUMNS), scores.shape[-1]))
    # Scores of what is selected are computed again, so that gradients are of these alone.
    selected = (inputs.query[..., None, :] @ _chosen(inputs, inputs.key, places).mT)[..., 0, :] * factor
    if modified.node is not scores.node:
        added = take_along_axis(hidden(zeros(scores.shape, dtype=scores.dtype)), places)
        selected = where(added != -_INFINITY, selected + added, -_INFINITY)
    if count < selected.shape[-1]:
        selected = where(arange(selected.shape[-1]) < count, selected, -_INFINITY)
    weights = softmax(selected, -1)
    return (weights[..., None, :] @ _chosen(inputs, inputs.value, places))[..., 0, :].astype(inputs.dtype)


def _chosen(inputs: Inputs, array: Array, places: Array) -> Array:
    """Keys or values at the places of each row: ``array[…, places[…, i, r], :]``."""
    *batch, length, width = array.shape
    heads: Any = array
    if inputs.groups > 1:  # a group of heads shares them
        heads = broadcast_to(array[..., :, None, :, :], (*batch, inputs.groups, length, width))
        heads = heads.reshape((*inputs.grouped_batch(array), length, width))
    missing = len(places.shape) - len(heads.shape)
    heads = heads[(None,) * missing + (...,)][..., None, :, :]
    return take_along_axis(heads, places[..., None], axis=-2)
