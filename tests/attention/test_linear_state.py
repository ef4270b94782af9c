"""States of linear attention: a sequence in pieces gives what the whole gives; what is no state is refused."""

import doctest
import itertools

import numpy as np
import pytest
from gradient_checks import check_along
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_dense import linear_attention as dense

import attngraph as ag
from attngraph.attention import linear
from checks import check_raises

MAPS = {"elu+1": "elu+1", "random": ag.random_features(16, seed=2), "function": lambda x: x * x}


def arrays(length, width=8, value_width=5, heads=(4, 2), seed=0):
    rng = np.random.default_rng(seed)
    shapes = (heads[0], length, width), (heads[1], length, width), (heads[1], length, value_width)
    return [rng.standard_normal((2, *shape)).astype("float32") for shape in shapes]


def computed(result):
    """The arrays of a result and its state."""
    return ag.compile(lambda: result)()


def in_pieces(feature_map, q, k, v, cuts, causal=True, **options):
    state, found = None, []
    for start, stop in itertools.pairwise(cuts):
        piece = (each[..., start:stop, :] for each in (q, k, v))
        out, state = computed(
            ag.linear_attention(*piece, feature_map, causal, enable_gqa=True, state=state, return_state=True, **options)
        )
        found.append(out)
    return np.concatenate(found, axis=-2), state


@pytest.mark.parametrize("name", MAPS)
@given(
    cuts=st.lists(st.integers(0, 90), max_size=5).map(lambda cuts: [0, *sorted(cuts), 90]),
    chunk=st.sampled_from([1, 7, 16, None]),
    heads=st.sampled_from([(4, 2), (2, 2), (3, 1)]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=8)
def test_pieces_give_what_the_whole_gives(name, cuts, chunk, heads, seed):
    q, k, v = arrays(90, heads=heads, seed=seed)
    found, last = in_pieces(MAPS[name], q, k, v, cuts, chunk_size=chunk)
    whole, state = computed(
        ag.linear_attention(q, k, v, MAPS[name], True, enable_gqa=True, return_state=True, chunk_size=chunk)
    )
    np.testing.assert_allclose(found, whole, rtol=0, atol=2e-5)
    for one, other in zip(last, state, strict=True):
        if other is None:
            assert one is None
        else:
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("name", ["elu+1", "random"])
@pytest.mark.parametrize("size", [0.1, 1.0, 6.0])
def test_a_state_is_rescaled_to_the_largest_features(name, size):
    """Later keys are far smaller or larger than those that the state has been made of."""
    q, k, v = arrays(60, heads=(2, 2))
    k *= np.linspace(size, 1 / size, 60, dtype="float32")[:, None]
    found, _ = in_pieces(MAPS[name], q, k, v, [0, 20, 21, 60])
    features = MAPS[name] if name == "random" else None
    np.testing.assert_allclose(found, dense(q, k, v, causal=True, features=features), rtol=0, atol=2e-5)


def test_a_token_at_a_time():
    q, k, v = arrays(20)
    features = MAPS["random"]
    step = ag.compile(
        lambda q, k, v, state: ag.linear_attention(q, k, v, features, enable_gqa=True, state=state, return_state=True)
    )
    state, found = None, []
    for place in range(20):
        out, state = step(*(each[..., place : place + 1, :] for each in (q, k, v)), state)
        assert isinstance(state, ag.LinearAttentionState)
        found.append(out)
    wanted = dense(q, k, v, causal=True, features=features)
    np.testing.assert_allclose(np.concatenate(found, axis=-2), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_what_the_state_holds_is_seen_by_all(name):
    q, k, v = arrays(30)
    options = {"feature_map": MAPS[name], "enable_gqa": True}
    _, state = ag.linear_attention(q[..., :0, :], k[..., :12, :], v[..., :12, :], return_state=True, **options)
    rest = k[..., 12:, :], v[..., 12:, :]
    for causal in (False, "lower_right"):
        whole = ag.linear_attention(q, k, v, is_causal=causal, **options)
        found = ag.linear_attention(q, *rest, is_causal=causal, state=state, **options)
        rows = slice(None) if causal is False else slice(12, None)  # what stands before all keys sees the state alone
        one, other = ag.compute(found[..., rows, :], whole[..., rows, :])
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
    nothing, same = ag.linear_attention(
        q, k[..., :0, :], v[..., :0, :], state=state, return_state=True, is_causal=True, **options
    )
    alone = ag.linear_attention(q, k[..., :12, :], v[..., :12, :], **options)
    one, other, memory, before = ag.compute(nothing, alone, same.memory, state.memory)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    np.testing.assert_allclose(memory, before, rtol=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_a_state_of_nothing(name):
    q, k, v = arrays(6)
    empty = k[..., :0, :], v[..., :0, :]
    out, state = computed(ag.linear_attention(q, *empty, MAPS[name], True, enable_gqa=True, return_state=True))
    assert not out.any()
    assert not state.memory.any()
    assert state.memory.shape == (2, 2, 16 if name == "random" else 8, 5)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_through_a_state(name):
    def pieces(q, k, v):
        first, state = ag.linear_attention(
            q[:, :3], k[:, :3], v[:, :3], MAPS[name], True, return_state=True, chunk_size=2
        )
        return first, ag.linear_attention(q[:, 3:], k[:, 3:], v[:, 3:], MAPS[name], True, state=state, chunk_size=2)

    rng = np.random.default_rng(0)
    check_along(pieces, *(rng.standard_normal((1, 7, 3)) for _ in range(3)))


def test_the_example_of_the_documentation():
    found = doctest.DocTestFinder().find(linear.linear_attention, "linear_attention", globs={})
    results = doctest.DocTestRunner().run(found[0])
    assert results.attempted >= 6
    assert not results.failed


def test_errors():
    q, k, v = arrays(6, heads=(2, 2))
    plain, random = ("elu+1", 8), (MAPS["random"], 16)
    shapes = {count: ((2, 2, count, 5), (2, 2, count)) for count in (8, 16)}

    def state(count, **changed):
        memory, normalizer = (np.ones(shape, "float32") for shape in shapes[count])
        return ag.LinearAttentionState(memory, normalizer)._replace(**changed)

    def refused(error, words, which, given_state):
        check_raises(error, words, ag.linear_attention, q, k, v, which[0], state=given_state)

    refused(ag.ArgumentError, "state is .memory, normalizer, shift.*not ndarray", plain, np.ones(3))
    refused(ag.ArgumentError, "state is .memory, normalizer, shift", plain, (1.0,))
    refused(ag.ArgumentError, "one of random features", plain, state(8, shift=np.ones(shapes[8][1], "float32")))
    refused(ag.ArgumentError, "one of other features than random ones", random, state(16))
    refused(ag.ShapeError, r"memory float32\[2, 2, 16, 5\].*\(2, 2, 8, 5\)", plain, state(16))
    refused(ag.ShapeError, r"normalizer float32\[2, 8\]", plain, state(8, normalizer=np.ones((2, 8), "float32")))
    refused(ag.ShapeError, "shift", random, state(16, shift=np.ones((2, 2, 3), "float32")))
    refused(ag.DTypeError, "memory is a float array", plain, state(8, memory=np.ones(shapes[8][0], int)))
    refused(ag.DTypeError, "normalizer", plain, state(8, normalizer=None))
