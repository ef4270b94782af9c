"""Attention to the keys of the largest scores: exact, ties to the lower key, whatever is hidden; gradients; errors."""

import numpy as np
import pytest
from gradient_checks import check_gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels, program
from checks import check_raises

TARGETS = ("x86-64-v2", "x86-64-v3", "native")
TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def worth_a_kernel(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def inputs(heads=2, groups=1, rows=5, keys=40, width=8, seed=0, whole=False):
    """Small whole numbers have exact scores, many of them equal."""
    rng = np.random.default_rng(seed)
    shapes = ((2, heads * groups, rows, width), (2, heads, keys, width), (2, heads, keys, 6))
    if whole:
        return tuple(rng.integers(-2, 3, shape).astype("float32") for shape in shapes)
    return tuple(rng.standard_normal(shape, dtype="float32") for shape in shapes)


def exact(q, k, v, topk, mask=True, bias=0.0):
    """In float64, by a stable sort."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (each.astype(np.float64) for each in (q, k.repeat(group, 1), v.repeat(group, 1)))
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + bias, -np.inf)
    places = np.argsort(-scores, axis=-1, kind="stable")[..., :topk]
    chosen = np.take_along_axis(scores, places, -1)
    largest = chosen.max(-1, keepdims=True)
    weights = np.exp(chosen - np.where(np.isneginf(largest), 0, largest))
    total = weights.sum(-1, keepdims=True)
    values = np.take_along_axis(v[:, :, None], places[..., None], -2)
    return np.einsum("bhir,bhird->bhid", weights / np.where(total == 0, 1, total), values)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


LENGTHS = st.one_of(st.integers(1, 300), st.sampled_from((1, 8, 9, 16, 17, 127, 128, 129)))


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    rows=LENGTHS,
    keys=LENGTHS,
    topk=st.one_of(st.integers(1, 100), st.sampled_from((1, 16, 17))),
    groups=st.sampled_from((1, 1, 3)),
    masked=st.sampled_from((None, "causal", "window", "random")),
    whole=st.booleans(),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 99),
)
def test_against_float64(rows, keys, topk, groups, masked, whole, target, seed):
    q, k, v = inputs(1, groups, rows, keys, seed=seed, whole=whole)
    i, j = np.arange(rows)[:, None], np.arange(keys)
    visible = {
        None: np.True_,
        "causal": i >= j,
        "window": abs(i - j) < 3,
        "random": np.random.default_rng(seed).random((rows, keys)) < 0.3,
    }[masked]
    options = {} if masked is None else {"mask": visible}
    if masked == "causal":
        options = {"is_causal": True}
    with ag.config.set(target=target):
        found = ag.topk_attention(q, k, v, topk, enable_gqa=groups > 1, **options).compute()
    close(found, exact(q, k, v, topk, visible))


def test_scores_are_not_stored():
    q, k, v = (ag.placeholder(shape) for shape in ((1, 4, 256, 32), (1, 4, 8192, 32), (1, 4, 8192, 32)))
    report = ag.explain(ag.topk_attention(q, k, v, 32, is_causal=True))
    assert [kernel.name for kernel in report.kernels] and not report.not_fused
    assert report.memory.peak_bytes < 4 * 256 * 8192


@pytest.mark.parametrize("rows", [3, 70])
def test_more_keys_than_there_are_mean_all_of_them(rows):
    q, k, v = inputs(rows=rows)
    with ag.config.set(target="reference64"):
        wanted = ag.attention(q, k, v).compute()
    for topk in (40, 41, 10**9):
        close(ag.topk_attention(q, k, v, topk).compute(), wanted)


@pytest.mark.parametrize("rows", [3, 70])
def test_equal_scores_go_to_the_lower_key(rows):
    q, k, v = inputs(rows=rows)
    k[:] = k[:, :, :1]  # every key is the same
    close(ag.topk_attention(q, k, v, 4).compute(), np.broadcast_to(v[:, :, :4].mean(2, keepdims=True), (2, 2, rows, 6)))


@pytest.mark.parametrize("rows", [3, 70])
def test_what_is_hidden_may_hold_anything(rows):
    q, k, v = inputs(rows=rows, keys=300, whole=True)
    visible = np.random.default_rng(0).random(300) < 0.1
    wanted = exact(q, k, v, 50, visible)
    k[:, :, ~visible] = v[:, :, ~visible] = np.nan
    for target in ("native", "reference"):
        with ag.config.set(target=target):
            close(ag.topk_attention(q, k, v, 50, mask=visible).compute(), wanted)


@pytest.mark.parametrize("rows", [3, 70])
def test_rows_with_nothing_give_zeros(rows):
    q, k, v = inputs(rows=rows)
    assert not ag.topk_attention(q, k, v, 4, mask=np.zeros(40, bool)).compute().any()


def test_bias_and_scale():
    q, k, v = inputs(rows=20)
    bias = np.random.default_rng(3).standard_normal((20, 40)).astype("float32")
    found = ag.topk_attention(q * np.float32(8**-0.5), k, v, 5, 1.0, bias=bias).compute()
    close(found, exact(q, k, v, 5, bias=bias.astype(np.float64)))


def test_infinite_and_overflowing_scores():
    q, k, v = inputs(rows=20, keys=100)
    huge = np.float32(6e37)
    close(ag.topk_attention(q * huge, k, v, 3).compute(), exact(q * huge, k, v, 3))
    k[0, 0, 7, 0] = np.nan
    with pytest.raises(ag.NonFiniteError, match="key"):
        ag.topk_attention(q, k, v, 3).compute()


def test_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(kernels, "LEAST_SHARED", 0)
    for rows in (1, 100):
        expression = ag.topk_attention(*inputs(rows=rows, keys=700), 20)
        results = set()
        for threads in (1, 2, 5):
            with ag.config.set(threads=threads):
                results.add(expression.compute().tobytes())
        assert len(results) == 1


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"enable_gqa": True}])
def test_gradients_flow_through_what_is_selected(options):
    arrays = inputs(groups=2 if "enable_gqa" in options else 1, rows=6, keys=9)
    check_gradients(lambda q, k, v: ag.topk_attention(q, k, v, 4, **options), *arrays)


@pytest.mark.parametrize("topk", [0, -1, 2.0, 1.5, True, None, "3", np.array([1, 2])])
def test_counts_that_are_none(topk):
    check_raises(ag.ArgumentError, "topk_attention: topk is", ag.topk_attention, *inputs(), topk)


def test_arrays_that_do_not_go_together():
    q, k, v = inputs()
    check_raises(ag.ShapeError, "topk_attention", ag.topk_attention, q, k[..., :4], v, 3)
    check_raises(ag.DTypeError, "topk_attention", ag.topk_attention, q, k.astype("int32"), v, 3)
    check_raises(ag.DTypeError, "bias", ag.topk_attention, q, k, v, 3, mask=np.zeros((5, 40), "float32"))
