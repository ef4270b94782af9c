"""Linear attention: against all weights at once in float64, whatever the lengths, heads, map and alignment."""

import numpy as np
import pytest
from gradient_checks import check_along, check_gradients, check_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_dense import linear_attention as dense

import attngraph as ag
from attngraph.attention import linear
from attngraph.engine import program
from checks import check_raises

ALIGNMENTS = [False, True, "lower_right"]
# Positive weights and their sums lose few roundings; those of exponents, of 10 or so, are ten times as large.
TOLERANCE = {None: 2e-6, 24: 2e-5}


def arrays(rows, columns, width=8, value_width=8, heads=(2, 2), batch=(2,), seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    shapes = (heads[0], rows, width), (heads[1], columns, width), (heads[1], columns, value_width)
    return [rng.standard_normal((*batch, *shape)).astype(dtype) for shape in shapes]


def map_of(count):
    return "elu+1" if count is None else ag.random_features(count, seed=3)


def check(given_arrays, count=None, causal=False, chunk=None, scale=None):
    grouped = given_arrays[0].shape[-3] != given_arrays[1].shape[-3]
    found = ag.linear_attention(
        *given_arrays, map_of(count), causal, scale, enable_gqa=grouped, chunk_size=chunk
    ).compute()
    wanted = dense(*given_arrays, causal=causal, features=None if count is None else map_of(count), scale=scale)
    assert (found.shape, found.dtype) == (wanted.shape, given_arrays[0].dtype)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[count] * np.abs(given_arrays[2]).max(initial=0))
    return found


@given(
    rows=st.sampled_from([0, 1, 2, 7, 16, 17, 31, 64, 130]),
    columns=st.sampled_from([0, 1, 3, 7, 16, 17, 33, 64, 129]),
    width=st.sampled_from([1, 5, 16]),
    value_width=st.sampled_from([1, 7, 16]),
    heads=st.sampled_from([(2, 2), (6, 2), (1, 1), (3, 1)]),
    batch=st.sampled_from([(), (1,), (2, 3), (0,)]),
    causal=st.sampled_from(ALIGNMENTS),
    chunk=st.sampled_from([1, 5, 16, 17, 64, None]),
    count=st.sampled_from([None, 24]),
    scale=st.sampled_from([None, 0.3, 0.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25)
def test_against_all_weights(rows, columns, width, value_width, heads, batch, causal, chunk, count, scale, seed):
    check(arrays(rows, columns, width, value_width, heads, batch, seed), count, causal, chunk, scale)


@pytest.mark.parametrize("causal", ALIGNMENTS)
@pytest.mark.parametrize("count", [None, 24])
@pytest.mark.parametrize("target", ["native", "x86-64-v2", "x86-64-v3", "reference", "reference64"])
def test_kernels(causal, count, target, monkeypatch):
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    given_arrays = arrays(150, 150, 16, 24, (4, 2))
    with ag.config.set(target=target):
        found = ag.linear_attention(*given_arrays, map_of(count), causal, enable_gqa=True, chunk_size=64).compute()
    wanted = dense(*given_arrays, causal=causal, features=None if count is None else map_of(count))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[count] * np.abs(given_arrays[2]).max())


@pytest.mark.parametrize("count", [None, 24])
@pytest.mark.parametrize("length", [100, 101, 128, 333])
@pytest.mark.parametrize("causal", [True, "lower_right"])
def test_a_long_sequence_is_taken_in_stretches(count, length, causal, monkeypatch):
    monkeypatch.setattr(linear, "_LONG", 100)
    given_arrays = arrays(length, length, heads=(4, 2))
    check(given_arrays, count, causal, chunk=5)
    q, k, v = given_arrays
    options = {"feature_map": map_of(count), "is_causal": causal, "enable_gqa": True, "return_state": True}
    out, state = ag.linear_attention(q, k, v, **options)
    monkeypatch.setattr(linear, "_LONG", 10**6)
    whole, last = ag.linear_attention(q, k, v, **options)
    for one, other in zip(ag.compute(out, *state[:2]), ag.compute(whole, *last[:2]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    if count is not None:
        np.testing.assert_array_equal(*ag.compute(state.shift, last.shift))


def test_a_function_of_places_sees_them_all(monkeypatch):
    q, k, v = arrays(120, 120)
    found = []
    for length in (100, 1000):
        monkeypatch.setattr(linear, "_LONG", length)
        turned = lambda x: ag.exp(ag.cos(ag.arange(x.shape[-2])[:, None] * 0.1) * x)  # noqa: E731
        found.append(ag.linear_attention(q, k, v, turned, True, chunk_size=8).compute())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_types(dtype):
    given_arrays = arrays(40, 40, dtype=dtype)
    for count in (None, 24):
        found = ag.linear_attention(*given_arrays, map_of(count), True, chunk_size=16).compute()
        wanted = dense(*given_arrays, causal=True, features=None if count is None else map_of(count))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 if dtype == "float64" else 4e-3)


def test_batches_are_broadcast():
    q, k, v = arrays(20, 20, heads=(3, 3))
    for one, other, third in ((q[:1], k, v), (q, k[:1], v), (q, k, v[:1]), (q[:1], k[:, :1], v), (q, k[0], v[0])):
        found = ag.linear_attention(one, other, third, is_causal=True, chunk_size=8).compute()
        spread = (np.broadcast_to(each, (2, 3, 20, 8)) for each in (one, other, third))
        np.testing.assert_allclose(found, dense(*spread, causal=True), rtol=0, atol=1e-5)


def test_a_map_may_be_any_function_of_arrays():
    q, k, v = arrays(50, 50)
    squares = ag.linear_attention(q, k, v, lambda x: ag.concat([x * x, ag.abs(x)], axis=-1), True, chunk_size=16)
    features = [np.concatenate([x * x, np.abs(x)], -1).astype(np.float64) for x in (q, k)]
    weights = np.where(np.tri(50, dtype=bool), features[0] @ np.swapaxes(features[1], -1, -2), 0)
    wanted = weights @ v / weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(squares.compute(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("target", ["native", "reference", "reference64"])
def test_weights_that_add_up_to_nothing_give_zeros(causal, target):
    q, k, v = arrays(30, 30)
    q[0, 1, 3], k[1, 0] = -1.0, -1.0  # none of its features is above 0, nor is one of any key
    with ag.config.set(target=target):
        found = ag.linear_attention(q, k, v, ag.relu, causal, chunk_size=8).compute()
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0, 1, 3], 0)
    np.testing.assert_array_equal(found[1, 0], 0)


@pytest.mark.parametrize("count", [None, 24])
def test_nothing_to_attend_to_gives_zeros(count):
    q, k, v = arrays(9, 4)
    early = ag.linear_attention(q, k, v, map_of(count), "lower_right").compute()
    np.testing.assert_array_equal(early[..., :5, :], 0)
    assert (early[..., 5:, :] != 0).any()
    for causal in ALIGNMENTS:
        found = ag.linear_attention(q, k[..., :0, :], v[..., :0, :], map_of(count), causal).compute()
        np.testing.assert_array_equal(found, np.zeros((2, 2, 9, 8)))


@pytest.mark.parametrize("compiled", [False, True])
def test_weights_that_float32_does_not_hold_are_summed_in_float64(compiled):
    """Early keys are large, so their features are e^-200 of those of later ones."""
    features = ag.random_features(16, seed=1)
    q, k, v = arrays(60, 60)
    k *= np.linspace(10, 0.1, 60, dtype="float32")[:, None]
    attend = lambda *given: ag.linear_attention(*given, features, True, chunk_size=16)  # noqa: E731
    found = ag.compile(attend)(q, k, v) if compiled else attend(q, k, v).compute()
    np.testing.assert_allclose(found, dense(q, k, v, causal=True, features=features), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e18, 1e37])
def test_large_numbers_stay_finite(size):
    q, k, v = arrays(40, 40)
    found = ag.linear_attention(q * np.float32(size), k * np.float32(size), v, is_causal=True, chunk_size=16).compute()
    with np.errstate(over="ignore"):
        wanted = dense(q.astype(float) * size, k.astype(float) * size, v, causal=True)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("causal", ALIGNMENTS)
@pytest.mark.parametrize("count", [None, 5])
def test_gradients(causal, count):
    q, k, v = arrays(7, 6, 3, 2, (2, 1), ())
    check_along(
        lambda *given: ag.linear_attention(*given, map_of(count), causal, enable_gqa=True, chunk_size=4), q, k, v
    )


def test_gradients_through_stretches(monkeypatch):
    monkeypatch.setattr(linear, "_LONG", 10)
    for count in (None, 5):
        check_along(
            lambda *given, count=count: ag.linear_attention(*given, map_of(count), True, chunk_size=1),
            *arrays(11, 11, 3, 2, (1, 1), ()),
        )


def test_gradients_of_every_element():
    check_gradients(
        lambda *given: ag.linear_attention(*given, map_of(5), True, chunk_size=2), *arrays(5, 5, 2, 2, (1, 1), ())
    )
    check_gradients(lambda *given: ag.linear_attention(*given, is_causal=True, chunk_size=2), *arrays(5, 5, 2, 2))


@pytest.mark.parametrize("count", [None, 24])
def test_gradients_in_kernels(count, monkeypatch):
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    check_kernels(
        lambda *given: ag.linear_attention(*given, map_of(count), True, chunk_size=32), *arrays(70, 70, 16, 16)
    )


def test_the_scale_may_be_learned():
    q, k, v = arrays(6, 6, 3, 2, (1, 1), ())
    for count in (None, 5):
        check_along(
            lambda q, k, v, scale, count=count: ag.linear_attention(q, k, v, map_of(count), True, scale), q, k, v, 0.7
        )


@pytest.mark.parametrize("count", [None, 32])
def test_threads_change_no_bit(count):
    given_arrays = arrays(600, 600, 32, 32)

    def step(q, k, v):
        out, pullback = ag.vjp(lambda *each: ag.linear_attention(*each, map_of(count), True), q, k, v)
        return out, *pullback(out)

    compiled, results = ag.compile(step), []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            results.append(compiled(*given_arrays))
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_no_array_of_all_scores():
    """The memory that is planned grows as the length does."""
    peaks = []
    for length in (8192, 16384, 32768):
        q, k, v = (ag.placeholder((1, 1, length, 16)) for _ in range(3))
        peaks.append(ag.explain(ag.linear_attention(q, k, v, is_causal=True)).memory.peak_bytes)
    assert peaks[2] - peaks[1] == pytest.approx(2 * (peaks[1] - peaks[0]), rel=0.05)
    assert peaks[2] < 32768 * 16 * 4 * 30


def test_what_is_not_finite_is_found():
    q, k, v = arrays(20, 20)
    v[1, 0, 7, 2] = np.nan
    for count in (None, 8):
        lazy = ag.linear_attention(q, k, v, map_of(count), True)
        with pytest.raises(ag.NonFiniteError, match="value"):
            lazy.compute()


def test_errors():
    q, k, v = arrays(6, 6)
    attend = ag.linear_attention
    for wrong in ("elu", 3, None, ag.Array):
        check_raises(ag.ArgumentError, r'feature_map is "elu\+1", ag.random_features', attend, q, k, v, wrong)
    check_raises(ag.ShapeError, "features are along the last axis", attend, q, k, v, lambda x: x[..., :3, :])
    check_raises(ag.ShapeError, "features are along the last axis", attend, q, k, v, lambda x: x[0])
    check_raises(ag.DTypeError, "returned bool", attend, q, k, v, lambda x: x > 0)
    check_raises(ag.DTypeError, "returned None", attend, q, k, v, lambda x: None)
    widths = iter((2, 3))
    check_raises(ag.ShapeError, "2 features of queries, 3 of keys", attend, q, k, v, lambda x: x[..., : next(widths)])
    check_raises(ag.ArgumentError, 'is_causal is True, False or "lower_right"', attend, q, k, v, is_causal="upper")
    check_raises(ag.ArgumentError, "scale is not negative", attend, q, k, v, scale=-1.0)
    check_raises(ag.ArgumentError, "scale is not negative", attend, q, k, v, scale=float("nan"))
    check_raises(ag.ArgumentError, "scale is a number", attend, q, k, v, scale=np.ones(2))
    check_raises(ag.ArgumentError, "chunk_size is one or more", attend, q, k, v, chunk_size=0)
    check_raises(ag.ArgumentError, "chunk_size is an integer", attend, q, k, v, chunk_size=2.5)
    check_raises(ag.ArgumentError, "return_state is True or False", attend, q, k, v, return_state=1)
    check_raises(ag.ShapeError, "differ in width", attend, q, k[..., :3], v)
    check_raises(ag.ShapeError, "differ in length", attend, q, k, v[..., :3, :])
    check_raises(ag.DTypeError, "float array", attend, q.astype(int), k, v)
