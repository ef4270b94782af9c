"""Merging attention over pieces of the keys: the whole's, whatever the pieces; gradients; errors."""

import functools
import itertools

import numpy as np
import pytest
from gradient_checks import check_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from checks import check_raises
from dense import attention as dense_attention
from dense import tolerance

RNG = np.random.default_rng(0)


def states(count, shape=(2, 3, 4), dtype="float32", seed=0, spread=5.0):
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal(shape).astype(dtype), (spread * rng.standard_normal(shape[:-1])).astype(dtype))
        for _ in range(count)
    ]


def reference(*given):
    """In float64; what has no weight is not looked at."""
    sums = np.stack([lse for _, lse in given]).astype(np.float64)
    largest = sums.max(0)
    weights = np.exp(sums - np.where(largest == -np.inf, 0, largest))
    total = weights.sum(0)
    outs = [np.where((lse == -np.inf)[..., None], 0, out).astype(np.float64) for out, lse in given]
    out = sum(w[..., None] * each for w, each in zip(weights, outs, strict=True))
    with np.errstate(divide="ignore"):
        lse = np.log(total) + np.where(largest == -np.inf, 0, largest)
    return out / np.where(total == 0, 1, total)[..., None], lse


def same(found, wanted, within=1e-6):
    for one, other in zip(ag.compute(*found), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=within, atol=within)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_against_float64(count, dtype):
    given = states(count, dtype=dtype)
    found = ag.merge_states(*given)
    assert all(isinstance(each, ag.Array) and each.dtype == dtype for each in found)
    for target in ("native", "reference"):
        with ag.config.set(target=target):
            same(found, reference(*given), within=1e-6 if dtype == "float32" else 1e-14)


def test_half_floats_are_storage():
    (a, b) = states(2)
    halves = [(out.astype("float16"), lse) for out, lse in (a, b)]
    found = ag.merge_states(*halves)
    assert [each.dtype for each in found] == [np.float16, np.float32]
    same(found, reference(*halves), within=1e-3)


@pytest.mark.parametrize("target", ["native", "reference", "reference64"])
def test_a_state_without_weight_adds_nothing(target):
    (out, lse), (other, more) = states(2)
    lse[0, 1] = more[1, 2] = -np.inf
    out[0, 1], other[1, 2] = np.nan, np.inf
    lse[1, 0] = more[1, 0] = -np.inf
    out[1, 0] = other[1, 0] = np.nan
    with ag.config.set(target=target):
        merged, total = ag.compute(*ag.merge_states((out, lse), (other, more)))
        np.testing.assert_array_equal(merged[0, 1], other[0, 1])
        np.testing.assert_array_equal(merged[1, 2], out[1, 2])
        np.testing.assert_array_equal(merged[1, 0], 0)
        assert total[1, 0] == -np.inf
        assert total[0, 1] == pytest.approx(more[0, 1])
        alone = ag.compute(*ag.merge_states((out, lse)))
        np.testing.assert_array_equal(alone[0][1, 0], 0)
        assert np.isfinite(merged).all()


@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.0, 1.0, 30.0, 300.0]), hidden=st.integers(0, 7))
@settings(max_examples=20)
def test_order_and_grouping_do_not_matter(seed, spread, hidden):
    given_states = states(3, (4, 3), "float64", seed, spread)
    for place in range(3):
        if hidden >> place & 1:
            given_states[place][1][seed % 4] = -np.inf
    a, b, c = given_states
    whole = ag.compute(*ag.merge_states(a, b, c))
    # Each merge rounds weights, products and sums: some ten roundings, of sums as long as their largest term.
    for found in (
        ag.merge_states(ag.merge_states(a, b), c),
        ag.merge_states(a, ag.merge_states(b, c)),
        ag.merge_states(c, a, b),
    ):
        for one, other in zip(ag.compute(*found), whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)


def test_gradients():
    (a, x), (b, y), (c, z) = states(3, (3, 2), "float64", spread=1.0)
    for place in (0, 1):
        check_gradients(
            lambda a, x, b, y, c, z, place=place: ag.merge_states((a, x), (b, y), (c, z))[place], a, x, b, y, c, z
        )


def test_gradients_of_what_is_hidden_are_zero():
    (a, x), (b, y) = states(2, (3, 2), "float64")
    x[0] = y[0] = x[1] = -np.inf
    a[:2] = np.nan
    merged, total = ag.merge_states(*(lazy := [(ag.asarray(a), ag.asarray(x)), (ag.asarray(b), ag.asarray(y))]))
    wrt = list(itertools.chain(*lazy))
    found = ag.compute(*ag.gradients(ag.sum(merged) + ag.sum(ag.where(total == -ag.inf, 0, total)), wrt))
    assert all(np.isfinite(each).all() for each in found)
    for each in found:
        np.testing.assert_array_equal(each[0], 0)
    np.testing.assert_array_equal(found[2][1], 1)


@pytest.mark.parametrize("cuts", [(0, 40), (0, 1, 40), (0, 13, 14, 40), (0, 10, 20, 30, 40)])
def test_pieces_of_attention_make_the_whole(cuts):
    q, k, v = (RNG.standard_normal((2, 3, n, 8)).astype("float32") for n in (17, 40, 40))
    mask = RNG.random((17, 40)) < 0.5
    mask[3] = False
    mask[4, :20] = False
    pieces = [
        ag.attention(q, k[:, :, a:b], v[:, :, a:b], mask=mask[:, a:b], return_lse=True)
        for a, b in itertools.pairwise(cuts)
    ]
    wanted = dense_attention(q, k, v, visible=mask)
    whole = ag.attention(q, k, v, mask=mask, return_lse=True)
    for found in (whole, ag.merge_states(*pieces), functools.reduce(ag.merge_states, pieces)):
        same(found, wanted, within=tolerance(q, k, v))
    assert (ag.merge_states(*pieces)[1].compute()[:, :, 3] == -np.inf).all()


def test_pieces_of_flex_attention():
    q, k, v = (RNG.standard_normal((1, 2, 24, 8)).astype("float32") for _ in range(3))

    def part(start, stop):
        def score(s, b, h, i, j):
            return s - 0.1 * ag.abs(i - j - start)

        mask = ag.create_block_mask(lambda b, h, i, j: i >= j + start, None, None, 24, stop - start)
        return ag.flex_attention(q, k[:, :, start:stop], v[:, :, start:stop], score, mask, return_lse=True)

    distance = np.abs(np.arange(24)[:, None] - np.arange(24))
    causal = np.tril(np.ones((24, 24), bool))
    wanted = dense_attention(q, k, v, visible=causal, bias=-0.1 * distance)
    same(part(0, 24), wanted, within=tolerance(q, k, v))
    same(ag.merge_states(part(0, 9), part(9, 24)), wanted, within=tolerance(q, k, v))


def test_it_is_one_loop_inside_a_compiled_function():
    given = states(2, (8, 512, 64))
    fn = ag.compile(lambda a, x, b, y: ag.merge_states((a, x), (b, y)))
    found = fn(*itertools.chain(*given))
    for one, other in zip(found, reference(*given), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert ag.explain(fn).kernels
    assert not ag.explain(fn).not_fused


def test_errors():
    (out, lse), other = states(2)
    check_raises(ag.ArgumentError, "merge_states: takes at least one state", ag.merge_states)
    check_raises(ag.ArgumentError, "state 1 is a pair .* not ndarray", ag.merge_states, other, out)
    check_raises(ag.ArgumentError, "state 0 is a pair .* not 3 of them", ag.merge_states, (out, lse, lse))
    check_raises(ag.ShapeError, r"out 0 float32\[2, 3, 4\] and lse 0 float32\[2, 3, 4\]", ag.merge_states, (out, out))
    check_raises(
        ag.ShapeError,
        r"out 0 float32\[2, 3, 4\] and out 1 float32\[3, 4\]",
        ag.merge_states,
        (out, lse),
        (out[0], lse[0]),
    )
    check_raises(ag.DTypeError, "out 0 is a float array, not int64", ag.merge_states, (out.astype("int64"), lse))
    check_raises(ag.DTypeError, "lse 0 is a float array, not bool", ag.merge_states, (out, lse > 0))
    check_raises(ag.DTypeError, "cannot make an array of None", ag.merge_states, (out, None))
