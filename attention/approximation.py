"""How far an approximation is from exact attention."""

from typing import Any, NamedTuple

import numpy as np

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.types import FLOAT64, broadcast, is_float
from ..ops.array import Array, ArrayLike, lift
from ..ops.creation import arange
from ..ops.kinds import whole
from ..ops.registry import public
from .dot_product import attention
from .inputs import Inputs, causal_offset, checked_inputs, checked_scale

_FUNCTION = "attention_error"
_ROWS = 256
# Scores of exact attention that are held at once.
_SCORES = 1 << 22

Values = np.ndarray[Any, Any]


class ErrorReport(NamedTuple):
    """How far an approximation is from exact attention, over the rows that were compared.

    Attributes:
        relative: The Frobenius norm of the difference over that of exact attention.
        largest: The largest difference of an element.
        per_head: ``relative`` of each batch and head alone, (…, heads).
        rows: How many rows of each head were compared.
    """

    relative: float
    largest: float
    per_head: Values
    rows: int


@public()
def attention_error(
    approximate: ArrayLike,
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    is_causal: bool | str = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    rows: int | None = _ROWS,
) -> ErrorReport:
    """Compare an approximation of softmax attention with `attention` in float64, now.

    Args:
        approximate: (…, heads, L, Ev): what is to be judged, as `linear_attention` with random features.
        query: (…, heads, L, E).
        key: (…, heads, S, E).
        value: (…, heads, S, Ev).
        is_causal: As for `attention`.
        scale: Factor of the scores; 1/sqrt(E) if None.
        enable_gqa: Query head i uses key head i // (query heads / key heads).
        rows: How many queries are compared, evenly spread from the first to the last; None: all. Exact attention of
            ``rows`` queries is computed in pieces: it takes time for rows × S positions, but no memory for them.

    Raises:
        ShapeError, DTypeError: If the arrays do not go together, or the approximation is not of the result's shape.
        ArgumentError: For fewer rows than one.
        NonFiniteError: For NaN or infinity where it counts, unless ``config.check_finite`` is False.
    """
    inputs = checked_inputs(_FUNCTION, query, key, value, enable_gqa)
    node = lift(approximate, f"{_FUNCTION}: approximate")
    batch = broadcast(_FUNCTION, inputs.scores_shape[:-2], inputs.grouped_batch(inputs.value))
    wanted = (*batch, inputs.query.shape[-2], inputs.value.shape[-1])
    if not is_float(node.dtype):
        raise DTypeError(f"{_FUNCTION}: approximate is a float array, not {node.type}")
    if node.shape != wanted:
        raise ShapeError(f"{_FUNCTION}: approximate {node.type} has not the shape of attention's result, {wanted}")
    chosen = _spread(inputs.query.shape[-2], rows)
    exact = _exact(inputs, chosen, is_causal, scale, enable_gqa).reshape((*batch, len(chosen), wanted[-1]))
    found = Array(node).astype(FLOAT64).compute()[..., chosen, :]
    return _report(found - exact, exact, len(chosen))


def _spread(length: int, rows: Any) -> Values:
    count = length if rows is None else whole(_FUNCTION, "rows", rows)
    if count < 1 and rows is not None:
        raise ArgumentError(f"{_FUNCTION}: rows is one or more, or None for all, not {rows!r}")
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(np.int64))


def _exact(inputs: Inputs, chosen: Values, is_causal: bool | str, scale: Any, enable_gqa: bool) -> Values:
    """Attention of some rows in float64, a few at a time."""
    query, key, value = (Array(lift(each.astype(FLOAT64).compute())) for each in inputs[:3])
    *batch, queries, keys = inputs.scores_shape
    at_once = max(1, _SCORES // max(1, int(np.prod(batch, dtype=np.int64)) * keys))
    offset = causal_offset(_FUNCTION, is_causal, queries, keys)
    checked_scale(_FUNCTION, scale, query.shape[-1])
    pieces = [np.zeros((*query.shape[:-2], 0, value.shape[-1]))]
    for start in range(0, len(chosen), at_once):
        places = chosen[start : start + at_once]
        visible = None
        if offset is not None:
            visible = Array(lift(places[:, None] + offset)) >= arange(keys)[None, :]
        rows = query[..., places, :]
        found = attention(rows, key, value, mask=visible, scale=scale, enable_gqa=enable_gqa)
        pieces.append(found.compute())
    return np.concatenate(pieces[1:] or pieces, axis=-2)


def _report(difference: Values, exact: Values, rows: int) -> ErrorReport:
    return ErrorReport(
        float(_relative(difference, exact, None)),
        float(np.abs(difference).max(initial=0)),
        np.asarray(_relative(difference, exact, (-2, -1))),
        rows,
    )


def _relative(difference: Values, exact: Values, axes: tuple[int, ...] | None) -> Any:
    """Norm over norm; of nothing where nothing is due, 0."""
    off, due = (np.sqrt((each**2).sum(axis=axes)) for each in (difference, exact))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(off == 0, 0.0, off / due)
