"""What linear attention keeps of keys and values: sums that grow by adding, read by any query; causal by chunks of them.

``Σ φ(k)ᵀ v`` and ``Σ φ(k)`` (Katharopoulos et al. 2020, arXiv:2006.16236, section 3.3). Features that are exponentials
are kept relative to the largest of their own among the keys, as a streamed softmax does: no sum of them overflows, and
none of positive ones is 0.
"""

from typing import Any, NamedTuple

from ..ops.arithmetic import maximum
from ..ops.array import Array
from ..ops.creation import arange, ones, zeros
from ..ops.cumulative import cumulative_sum
from ..ops.exponential import exp
from ..ops.gradients import stop_gradient
from ..ops.joining import concat
from ..ops.reduction import max, sum
from ..ops.selection import where


class LinearAttentionState(NamedTuple):
    """What the keys and values seen so far leave for later queries: of a fixed size, whatever their number.

    Attributes:
        memory: ``Σ φ(k)ᵀ v``, (…, key heads, features, value width).
        normalizer: ``Σ φ(k)``, (…, key heads, features).
        shift: For features that are exponentials, the logarithm of what each is divided by, (…, key heads, features);
            None for others.
    """

    memory: Any
    normalizer: Any
    shift: Any = None


class Sums(NamedTuple):
    """For each query the weighted sum of values, (…, length, width), and of weights, (…, length, 1)."""

    values: Array
    weights: Array


class State(NamedTuple):
    """A state while it is computed with: ``normalizer`` and ``shift`` are (…, 1, features)."""

    memory: Array
    normalizer: Array
    shift: Array | None


def shifted(
    query: Array, key: Array, state: State | None, is_exponential: bool
) -> tuple[Array, Array, State | None, Array | None]:
    """Features of queries and keys, and the state that they go with, from logarithms if ``is_exponential``.

    Each feature of keys is divided by its largest, and that of queries multiplied; then each query's by its largest.
    What is divided by cancels against the normaliser, so nothing is differentiated by it.
    """
    if not is_exponential:
        return query, key, state, None
    shift = None if state is None else state.shift
    if key.shape[-2]:
        largest = stop_gradient(max(key, axis=-2, keepdims=True))
        shift = largest if shift is None else maximum(largest, shift)
    assert shift is not None, "no keys, and no state"
    if state is not None and state.shift is not None:
        fade = exp(state.shift - shift)
        state = State(state.memory * fade.mT, state.normalizer * fade, shift)
    query = query + shift
    return exp(query - stop_gradient(max(query, axis=-1, keepdims=True))), exp(key - shift), state, shift


def grown(state: State | None, key: Array, value: Array, shift: Array | None) -> State:
    """The state with these keys and values in it."""
    new = State(key.mT @ value, _total(key), shift)
    if state is None:
        return new
    return State(state.memory + new.memory, state.normalizer + new.normalizer, shift)


def read(state: State, query: Array) -> Sums:
    """What queries find that see everything in a state."""
    return Sums(query @ state.memory, query @ state.normalizer.mT)


def causal(
    state: State | None, query: Array, key: Array, value: Array, chunk: int, shift: Array | None
) -> tuple[Sums, State]:
    """What queries find in a state, and in keys up to their own place, of as many; and the state after all of them.

    Within a chunk positions meet in pairs; what came before it is read from the sums of all earlier chunks.
    """
    length = key.shape[-2]
    size = min(chunk, length)
    q, k, v = (_chunks(each, size) for each in (query, key, value))
    places = arange(size)
    weights = where(places[:, None] >= places[None, :], q @ k.mT, 0.0)
    found = Sums(weights @ v, sum(weights, axis=-1, keepdims=True))
    own = State(k.mT @ v, _total(k), shift)
    before = State(*(_before(None if state is None else state[place], own[place]) for place in (0, 1)), shift)
    if state is not None or length > size:
        earlier = read(before, q)
        found = Sums(found.values + earlier.values, found.weights + earlier.weights)
    last = State(*(before[place][..., -1, :, :] + own[place][..., -1, :, :] for place in (0, 1)), shift)
    return Sums(*(_unchunked(each, length) for each in found)), last


def _before(first: Array | None, chunks: Array) -> Array:
    """For each chunk the sum of all earlier ones, the state's among them: along the third axis from the end."""
    shape = chunks.shape
    start = zeros((*shape[:-3], 1, *shape[-2:]), dtype=chunks.dtype)
    if first is not None:
        start = start + first[..., None, :, :]
    return cumulative_sum(concat([start, chunks[..., :-1, :, :]], axis=-3), axis=-3)


def _total(key: Array) -> Array:
    """The sum over keys, as a product: it takes a memory-bound pass less than a sum along that axis."""
    return ones((1, key.shape[-2]), dtype=key.dtype) @ key


def _chunks(array: Array, size: int) -> Array:
    """(…, length, width) as (…, chunks, size, width), filled up with zeros: features of nothing."""
    *batch, length, width = array.shape
    count = -(-length // size)
    if count * size > length:
        array = concat([array, zeros((*batch, count * size - length, width), dtype=array.dtype)], axis=-2)
    return array.reshape((*batch, count, size, width))


def _unchunked(array: Array, length: int) -> Array:
    *batch, count, size, width = array.shape
    return array.reshape((*batch, count * size, width))[..., :length, :]
