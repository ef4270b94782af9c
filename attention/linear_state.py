"""What linear attention keeps of keys and values: sums that grow by adding, and that any query reads.

``Σ φ(k)ᵀ v`` and ``Σ φ(k)`` (Katharopoulos et al. 2020, arXiv:2006.16236, section 3.3). Features that are exponentials
are kept relative to the largest of their own among the keys, as a streamed softmax does: no sum of them overflows, and
none of positive ones is 0.
"""

from typing import Any, NamedTuple

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.types import broadcast, is_float
from ..ops.arithmetic import maximum
from ..ops.array import Array, lift
from ..ops.creation import arange, ones, zeros
from ..ops.cumulative import cumulative_sum
from ..ops.exponential import exp
from ..ops.gradients import stop_gradient
from ..ops.identities import Stored
from ..ops.joining import concat
from ..ops.reduction import max, sum
from ..ops.selection import where
from .inputs import Inputs


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
        return stored(query), stored(key), state, None
    shift = None if state is None else state.shift
    if key.shape[-2]:
        largest = stop_gradient(max(key, axis=-2, keepdims=True))
        shift = largest if shift is None else maximum(largest, shift)
    assert shift is not None, "no keys, and no state"
    if state is not None and state.shift is not None:
        fade = exp(state.shift - shift)
        state = State(state.memory * fade.mT, state.normalizer * fade, shift)
    query = query + shift
    query = exp(query - stop_gradient(max(query, axis=-1, keepdims=True)))
    return stored(query), stored(exp(key - shift)), state, shift


def stored(array: Array) -> Array:
    """What pairs of positions, sums of chunks and gradients read alike is made once."""
    return Array(Stored(array.node))


def checked_state(inputs: Inputs, given: Any, features: int, is_exponential: bool) -> State:
    """A state of the user's, checked, as it is computed with.

    Raises:
        ArgumentError: If it is none, or one of another kind of feature map.
        ShapeError, DTypeError: If its arrays do not go with the keys and values.
    """
    function = inputs.function
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise ArgumentError(
            f"{function}: state is (memory, normalizer, shift), as return_state=True gives it, not "
            f"{type(given).__name__}"
        )
    state = LinearAttentionState(*given)
    if (state.shift is not None) != is_exponential:
        kind = "other features than random ones" if state.shift is None else "random features"
        raise ArgumentError(f"{function}: the state is one of {kind}, which the feature map does not make")
    memory_shape, shape = _shapes(inputs, features)
    memory = _checked(inputs, "memory", state.memory, memory_shape)
    normalizer = _checked(inputs, "normalizer", state.normalizer, shape)[..., None, :]
    shift = None if state.shift is None else stop_gradient(_checked(inputs, "shift", state.shift, shape)[..., None, :])
    if inputs.groups == 1:
        return State(memory, normalizer, shift)
    # Of each key head, for all queries that share it.
    shift = None if shift is None else shift[..., None, :, :]
    return State(memory[..., None, :, :], normalizer[..., None, :, :], shift)


def _checked(inputs: Inputs, name: str, given: Any, shape: tuple[int, ...]) -> Array:
    node = lift(given, f"{inputs.function}: the state's {name}")
    if not is_float(node.dtype):
        raise DTypeError(f"{inputs.function}: the state's {name} is a float array, not {node.type}")
    if node.shape != shape:
        sides = f"key {inputs.key.node.type} and value {inputs.value.node.type} in {shape[-1]} features"
        if name == "memory":
            sides = f"key {inputs.key.node.type} in {shape[-2]} features, value {inputs.value.node.type}"
        raise ShapeError(f"{inputs.function}: the state's {name} {node.type} has not the shape {shape}: {sides}")
    return Array(node).astype(inputs.key.dtype)


def _shapes(inputs: Inputs, features: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a state's memory, and of its other arrays: there is one for each key head."""
    batch = broadcast(inputs.function, inputs.key.shape[:-2], inputs.value.shape[:-2])
    return (*batch, features, inputs.value.shape[-1]), (*inputs.key.shape[:-2], features)


def given_away(inputs: Inputs, state: State) -> LinearAttentionState:
    """A state as the user gets it."""
    memory_shape, shape = _shapes(inputs, state.memory.shape[-2])
    normalizer, shift = (None if each is None else each.reshape(shape) for each in state[1:])
    return LinearAttentionState(state.memory.reshape(memory_shape), normalizer, shift)


def grown(state: State | None, key: Array, value: Array, shift: Array | None) -> State:
    """The state with these keys and values in it."""
    new = _state_of(key, value, shift)
    if state is None:
        return new
    return State(state.memory + new.memory, state.normalizer + new.normalizer, shift)


def read(state: State, query: Array) -> Sums:
    """What queries find that see everything in a state."""
    return Sums(stored(query @ state.memory), stored(query @ state.normalizer.mT))


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
    found = Sums(stored(weights @ v), stored(sum(weights, axis=-1, keepdims=True)))
    own = _state_of(k, v, shift)
    first = (None, None) if state is None else (state.memory, state.normalizer)
    before = State(_before(first[0], own.memory), _before(first[1], own.normalizer), shift)
    found = Sums(*(_unchunked(each, length) for each in found))
    if state is not None or length > size:
        earlier = Sums(*(_unchunked(each, length) for each in read(before, q)))
        found = Sums(found.values + earlier.values, found.weights + earlier.weights)
    memory = before.memory[..., -1, :, :] + own.memory[..., -1, :, :]
    return found, State(memory, before.normalizer[..., -1, :, :] + own.normalizer[..., -1, :, :], shift)


def _before(first: Array | None, chunks: Array) -> Array:
    """For each chunk the sum of all earlier ones, the state's among them: along the third axis from the end."""
    shape = chunks.shape
    start = zeros((*shape[:-3], 1, *shape[-2:]), dtype=chunks.dtype)
    if first is not None:
        start = start + first[..., None, :, :]
    return cumulative_sum(concat([start, chunks[..., :-1, :, :]], axis=-3), axis=-3)


def _state_of(key: Array, value: Array, shift: Array | None) -> State:
    """Of these keys alone. Their sum is a product: that reads what it sums as it lies."""
    total = ones((1, key.shape[-2]), dtype=key.dtype) @ key
    return State(stored(key.mT @ value), stored(total), shift)


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
