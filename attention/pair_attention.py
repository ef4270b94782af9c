"""Attention over listed pairs of a query and a key: gathers, and segments of the pairs of one query.

Nothing is as large as the scores of all pairs: each operation is about the listed ones alone, with batch and heads as
the axes behind.
"""

from typing import Any, TypeGuard

from ..ops.array import Array
from ..ops.exponential import exp, log
from ..ops.reduction import sum as sum_of
from ..ops.segment import segment_max, segment_softmax, segment_sum
from ..ops.selection import where
from ..ops.shape import moveaxis
from .inputs import Inputs
from .listed_pattern import Listed

# The share of all pairs up to which pairs are computed one by one. Of more of them, neighbouring queries share so many
# keys that whole tiles take less time: these read a key once for many queries.
_LARGEST_SHARE = 1 / 32


def takes_pairs(pattern: object) -> TypeGuard[Listed]:
    """Whether attention under a pattern is computed pair by pair: a matter of its shape and its count alone."""
    if not isinstance(pattern, Listed) or not pattern.is_of_pairs or len(pattern.shape) > 2:
        return False
    rows, columns = pattern.shape
    return len(pattern.members) <= _LARGEST_SHARE * rows * columns


def attention_of_pairs(
    inputs: Inputs, pattern: Listed, scale: Any, bias: Array | None, wants_lse: bool
) -> tuple[Array, Array | None]:
    """``softmax(query @ keyᵀ * scale + bias) @ value`` over the pairs, and its log-sum-exp where that is wanted.

    Args:
        inputs: (…, heads, length, dim) each.
        pattern: Its pairs.
        scale: Factor of the scores.
        bias: Broadcast to the scores' shape.
        wants_lse: Whether the logarithms of sums are wanted, too.

    Returns:
        (…, heads, L, Ev) and (…, heads, L), in the type that scores are computed in.
    """
    rows, columns = pattern.pairs
    count, shape = pattern.shape[0], inputs.scores_shape
    given = inputs.query, inputs.key, inputs.value
    axes = max(len(shape), *(each.ndim for each in given))
    query, key, value = (_lengths_first(inputs, each, axes) for each in given)
    scores = sum_of(query[rows] * key[columns], axis=-1) * scale
    if bias is not None:
        scores = scores + _of_pairs(inputs, bias, pattern, axes)
    weights = segment_softmax(scores, rows, count)
    out = segment_sum(weights[..., None] * value[columns], rows, count)
    out = moveaxis(_heads_together(inputs, out, 1), 0, -2)
    if not wants_lse:
        return out, None
    largest = segment_max(scores, rows, count)
    shift = where(largest == -float("inf"), 0.0, largest)
    total = segment_sum(exp(scores - shift[rows]), rows, count)
    is_empty = total == 0
    sums = where(is_empty, -float("inf"), log(where(is_empty, 1.0, total)) + shift)
    return out, moveaxis(_heads_together(inputs, sums, 0), 0, -1).reshape(shape[:-1])


def _lengths_first(inputs: Inputs, x: Array, axes: int) -> Array:
    """(…, heads, length, dim) as (length, …, heads, dim), with heads in the groups that share keys."""
    x = x.reshape((1,) * (axes - x.ndim) + x.shape)
    if inputs.groups > 1:
        *ahead, heads, length, width = x.shape
        shared = heads // inputs.groups if x.shape[-3] != inputs.key.shape[-3] else heads
        x = x.reshape((*ahead, shared, heads // shared, length, width))
    return moveaxis(x, -2, 0)


def _heads_together(inputs: Inputs, x: Array, behind: int) -> Array:
    """(length, …, heads) and some axes behind, of what has heads in groups."""
    if inputs.groups == 1:
        return x
    place = x.ndim - behind - 2
    shape = x.shape
    return x.reshape((*shape[:place], shape[place] * shape[place + 1], *shape[place + 2 :]))


def _of_pairs(inputs: Inputs, bias: Array, pattern: Listed, axes: int) -> Array:
    """The elements of a bias at the pairs: (pairs or 1, …, heads)."""
    bias = bias.reshape((1,) * (axes - bias.ndim) + bias.shape)
    (rows, columns), (height, width) = pattern.pairs, bias.shape[-2:]
    if height == 1:
        found = bias[..., 0, :] if width == 1 else bias[..., 0, :][..., columns]
    else:
        found = bias[..., 0][..., rows] if width == 1 else bias[..., rows, columns]
    found = moveaxis(found, -1, 0)
    if inputs.groups > 1:
        *ahead, heads = found.shape
        shared = inputs.key.shape[-3]
        found = found.reshape((*ahead, shared, heads // shared) if heads != 1 else (*ahead, 1, 1))
    return found
