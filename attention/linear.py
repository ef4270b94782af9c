"""Linear attention: ``φ(q) (Σ φ(k)ᵀ v) / φ(q) (Σ φ(k))``, in time linear in the length.

Katharopoulos et al. 2020, "Transformers are RNNs", arXiv:2006.16236; with random features, which approximate softmax
attention, Choromanski et al. 2020, arXiv:2009.14794.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..engine.errors import ArgumentError, ShapeError
from ..engine.types import broadcast
from ..ops.arithmetic import maximum, reciprocal
from ..ops.array import Array, ArrayLike
from ..ops.creation import ones, zeros
from ..ops.exponential import sqrt
from ..ops.joining import concat
from ..ops.kinds import whole
from ..ops.registry import public
from ..ops.selection import where
from .feature_maps import FeatureMap, feature_map_of
from .inputs import Inputs, causal_offset, checked_flag, checked_inputs, checked_scale
from .linear_state import LinearAttentionState, State, Sums, causal, checked_state, given_away, grown, read, shifted

_FUNCTION = "linear_attention"
# Positions that meet in pairs: about as many as there are features, so that both halves of the work are alike.
_CHUNK = 128
# A sequence of so many positions is taken in about so many stretches.
_LONG, _STRETCHES = 8192, 8
# Weights whose sum is below 2**-100 may have lost terms to float32's range, and are summed again in float64.
_FAINT, _FAINTEST = 2.0**28, 2.0**-990


class _Problem(NamedTuple):
    """Features, values, and what is known of how they go together."""

    query: Array
    key: Array
    value: Array
    state: State | None
    shift: Array | None
    chunk: int


@public()
def linear_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    feature_map: Any = "elu+1",
    is_causal: bool | str = False,
    scale: Any = None,
    enable_gqa: bool = False,
    *,
    state: LinearAttentionState | None = None,
    return_state: bool = False,
    chunk_size: int | None = None,
) -> Any:
    """``φ(q) · Σ φ(k)ᵀ v``, divided by ``φ(q) · Σ φ(k)``: linear in the length, in time and in memory.

    Args:
        query: (…, heads, L, E).
        key: (…, heads, S, E).
        value: (…, heads, S, Ev).
        feature_map: φ. ``"elu+1"``; ``ag.random_features(count)``, with which the result approximates softmax
            attention; or a function of an array (…, length, E) that returns features (…, length, F). Where those can
            be negative, so can the normaliser.
        is_causal: True: query i sees keys j <= i (upper left). ``"lower_right"``: the last query sees all keys. Either
            way it sees all that the state holds.
        scale: What ``q·k`` is multiplied by: half of it, its root, goes to each side before the map. None: 1/sqrt(E)
            for random features, 1 for others.
        enable_gqa: Query head i uses key head i // (query heads / key heads).
        state: What came before, from an earlier call with the same map and scale.
        return_state: Return ``(out, state)``, the state with all keys and values in it.
        chunk_size: Positions that meet in pairs where ``is_causal``; 128 if None. It changes roundings alone.

    Returns:
        (…, heads, L, Ev) in the query's data type, lazily; with ``return_state`` also a `LinearAttentionState`, in
        float32 or float64. A row whose weights add up to 0, as with nothing to attend to, gives zeros.

        Weights by ``"elu+1"`` and random features are positive. Where they add up to less than float32 holds in all its
        digits, they are computed again in float64; what is below 1e-298 of the largest there counts as nothing.

    Example:
        A sequence in pieces, as it comes: a state of a fixed size takes the place of all earlier keys and values.

        >>> import attngraph as ag, numpy as np
        >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 100, 16)).astype("float32")
        >>> step = ag.compile(lambda q, k, v, state: ag.linear_attention(
        ...     q, k, v, is_causal=True, state=state, return_state=True))
        >>> state, pieces = None, []
        >>> for start in range(0, 100, 30):
        ...     piece = slice(start, start + 30)
        ...     out, state = step(q[:, piece], k[:, piece], v[:, piece], state)
        ...     pieces.append(out)
        >>> whole = ag.linear_attention(q, k, v, is_causal=True).compute()
        >>> np.allclose(np.concatenate(pieces, axis=1), whole, atol=1e-5)
        True
        >>> state.memory.shape, state.normalizer.shape
        ((2, 16, 16), (2, 16))

    Raises:
        ShapeError, DTypeError: If the arrays, features or the state do not go together.
        ArgumentError: For another ``feature_map`` or ``is_causal``, a negative ``scale``, a ``chunk_size`` below 1, or
            a state of another kind of map.
        LimitError: If a sequence is longer than ``config.max_length``.
        NonFiniteError: At evaluation under ``check_finite``, for NaN or infinity where it counts.
    """
    features = feature_map_of(feature_map)
    inputs = checked_inputs(_FUNCTION, query, key, value, enable_gqa)
    wants_state = checked_flag(_FUNCTION, "return_state", return_state)
    length, width = inputs.query.shape[-2:]
    offset = causal_offset(_FUNCTION, is_causal, length, inputs.key.shape[-2])
    chunk = _chunk_size(chunk_size)
    root = _root(features.default_scale(width) if scale is None else checked_scale(_FUNCTION, scale, width))
    parts: list[Array] = []
    before: Any = state
    for stretch in _stretches(inputs, features, offset, chunk):
        problem = _problem(stretch, features, root, before, chunk)
        sums, after = _sums(problem, offset)
        parts.append(_normalized(sums, features.is_positive))
        before = after
    out = concat(parts, axis=-2) if len(parts) > 1 else parts[0]
    out = out.reshape((*_ungrouped(inputs, out.shape[:-2]), *out.shape[-2:])).astype(inputs.dtype)
    return (out, _given_away(inputs, problem, after)) if wants_state else out


def _stretches(inputs: Inputs, features: FeatureMap, offset: int | None, chunk: int) -> list[Inputs]:
    """A long sequence as several, each of which begins with the state that the one before leaves.

    So what is kept on the way is that of one stretch, in memory that the next one takes over, and features need only be
    held relative to the largest up to their own stretch. How many there are says nothing of the length: graphs of all
    long sequences have one form.
    """
    length = inputs.query.shape[-2]
    if offset is None or length != inputs.key.shape[-2] or length < _LONG or not features.is_of_rows:
        return [inputs]
    size = -(-length // (_STRETCHES * chunk)) * chunk
    pieces = [slice(start, start + size) for start in range(0, length, size)]
    of_each = [[each[..., piece, :] for each in inputs[:3]] for piece in pieces]
    seen = [inputs.visible if inputs.visible is None else inputs.visible[..., piece] for piece in pieces]
    return [
        inputs._replace(query=query, key=key, value=value, visible=visible)
        for (query, key, value), visible in zip(of_each, seen, strict=True)
    ]


def _chunk_size(given: Any) -> int:
    if given is None:
        return _CHUNK
    size = whole(_FUNCTION, "chunk_size", given)
    if size < 1:
        raise ArgumentError(f"{_FUNCTION}: chunk_size is one or more, not {given!r}")
    return size


def _problem(inputs: Inputs, features: FeatureMap, root: Any, state: Any, chunk: int) -> _Problem:
    query, key = features.query(inputs.query, root), features.key(inputs.key, root)
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"{_FUNCTION}: the feature map made {query.shape[-1]} features of queries, {key.shape[-1]} of keys"
        )
    query, key, value = _grouped(inputs, query, *_seen(inputs, key, features.is_exponential))
    before = state
    if state is not None and not isinstance(state, State):
        before = checked_state(inputs, state, key.shape[-1], features.is_exponential)
    if before is None and not key.shape[-2]:
        shift = zeros((*key.shape[:-2], 1, key.shape[-1]), dtype=key.dtype) if features.is_exponential else None
        return _Problem(query, key, value, None, shift, chunk)
    query, key, before, shift = shifted(query, key, before, features.is_exponential)
    return _Problem(query, key, value, before, shift, chunk)


def _seen(inputs: Inputs, key: Array, is_exponential: bool) -> tuple[Array, Array]:
    """Features of keys and values that add nothing where no page holds them."""
    if inputs.visible is None:
        return key, inputs.value
    visible = inputs.visible.mT
    if visible.shape[-3] > 1:  # one for each query head
        visible = visible[..., :: inputs.groups, :, :]
    # Of logarithms not -inf: where a sequence is empty they are taken from each other.
    return where(visible, key, -1e30 if is_exponential else 0), where(visible, inputs.value, 0)


def _root(scale: Any) -> Any:
    """What each side is multiplied by, so that their product has all of the scale."""
    if not isinstance(scale, int | float | np.number):
        return sqrt(scale)
    if not scale >= 0:
        raise ArgumentError(f"{_FUNCTION}: scale is not negative, for each side has its root: {scale!r}")
    return math.sqrt(scale)


def _grouped(inputs: Inputs, query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
    """Heads that share keys on an axis of their own."""
    if inputs.groups == 1:
        return query, key, value
    *batch, _, length, features = query.shape
    query = query.reshape((*batch, key.shape[-3], inputs.groups, length, features))
    return query, key[..., :, None, :, :], value[..., :, None, :, :]


def _ungrouped(inputs: Inputs, batch: tuple[int, ...]) -> tuple[int, ...]:
    return batch if inputs.groups == 1 else (*batch[:-2], batch[-2] * batch[-1])


def _sums(problem: _Problem, offset: int | None) -> tuple[Sums, State | None]:
    """For all queries, and the state after all keys; None if nothing ever came."""
    query, key, value = problem.query, problem.key, problem.value
    queries, keys = query.shape[-2], key.shape[-2]
    if offset is None or not queries or not keys:
        after = grown(problem.state, key, value, problem.shift) if keys else problem.state
        return _read(problem, after, query), after
    # Queries ahead of all keys see the state alone, those behind them everything; keys ahead belong to the state.
    early, begun = max(-offset, 0), max(offset, 0)
    paired = min(queries, keys)
    before = problem.state
    if begun:
        before = grown(before, key[..., :begun, :], value[..., :begun, :], problem.shift)
    own = slice(begun, begun + paired)
    found, after = causal(
        before,
        query[..., early : early + paired, :],
        key[..., own, :],
        value[..., own, :],
        problem.chunk,
        problem.shift,
    )
    later = slice(begun + paired, keys)
    if begun + paired < keys:
        after = grown(after, key[..., later, :], value[..., later, :], problem.shift)
    parts = [_read(problem, problem.state, query[..., :early, :])] if early else []
    parts.append(found)
    if early + paired < queries:
        parts.append(_read(problem, after, query[..., early + paired :, :]))
    return Sums(*(concat(each, axis=-2) if len(parts) > 1 else each[0] for each in zip(*parts, strict=True))), after


def _read(problem: _Problem, state: State | None, query: Array) -> Sums:
    """What queries find in a state; without one, values of 0 and weights of 1, for nothing over something."""
    if state is not None:
        return read(state, query)
    batch = broadcast(_FUNCTION, query.shape[:-2], problem.key.shape[:-2])
    weights = ones((*batch, query.shape[-2], 1), dtype=query.dtype)
    batch = broadcast(_FUNCTION, batch, problem.value.shape[:-2])
    return Sums(zeros((*batch, query.shape[-2], problem.value.shape[-1]), dtype=query.dtype), weights)


def _given_away(inputs: Inputs, problem: _Problem, after: State | None) -> LinearAttentionState:
    if after is not None:
        return given_away(inputs, after)
    *batch, _, features = problem.key.shape
    value = broadcast(_FUNCTION, problem.key.shape[:-2], problem.value.shape[:-2])
    nothing = zeros((*batch, 1, features), dtype=problem.key.dtype)
    memory = zeros((*value, features, problem.value.shape[-1]), dtype=problem.key.dtype)
    return given_away(inputs, State(memory, nothing, problem.shift))


def _normalized(sums: Sums, is_positive: bool) -> Array:
    """Values by weights; zeros where weights add up to nothing.

    Sums of positive weights are 0 where a type cannot hold them. Their reciprocal is then infinite, and what is not
    finite is computed again in float64, by whatever runs the graph; what not even that holds is 0.
    """
    if is_positive:
        return sums.values * (reciprocal(maximum(sums.weights, _FAINTEST)) * _FAINT) * (1 / _FAINT)
    nothing = sums.weights == 0
    return where(nothing, 0.0, sums.values / where(nothing, 1.0, sums.weights))
