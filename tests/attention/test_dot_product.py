"""Dot-product attention against dense NumPy in float64, and against torch where it is installed."""

import copy
import importlib
import inspect
import itertools
import pickle
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

import attngraph as ag
from dense import attention as dense
from dense import causal_mask, tolerance
from strategies import LAYOUTS, broadcastable, laid_out

RNG = np.random.default_rng(20)
START = RNG.bit_generator.state
HALVES = {"float16": np.dtype("float16"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
MAXIMUM = np.finfo("float32").max
MINIMUM = np.finfo("float32").min


@pytest.fixture(autouse=True)
def _the_same_numbers_in_any_order():
    RNG.bit_generator.state = START


def normal(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


def triple(lead=(), rows=5, columns=7, width=4, value_width=3, dtype="float32", groups=1):
    """Query, key and value; ``groups`` query heads for each key head."""
    shared = (*lead[:-1], lead[-1] // groups) if groups > 1 else lead
    return (
        normal(*lead, rows, width, dtype=dtype),
        normal(*shared, columns, width, dtype=dtype),
        normal(*shared, columns, value_width, dtype=dtype),
    )


def check(q, k, v, *, visible=True, dense_scale=None, **options):
    """Output and lse of `ag.attention` against the dense reference."""
    want, want_lse = dense(q, k, v, visible=visible, scale=dense_scale)
    out, lse = ag.compute(*ag.attention(q, k, v, return_lse=True, **options))
    assert (out.shape, out.dtype) == (want.shape, q.dtype)
    assert (lse.shape, lse.dtype) == (want_lse.shape, np.dtype("float64" if q.dtype == np.float64 else "float32"))
    within = tolerance(q, k, v, dense_scale) * (1e-8 if q.dtype == np.float64 else 1)
    np.testing.assert_allclose(out.astype(float), want, rtol=0, atol=within)
    np.testing.assert_allclose(lse.astype(float), want_lse, rtol=1e-6, atol=within)
    np.testing.assert_allclose(ag.attention(q, k, v, **options).compute().astype(float), want, rtol=0, atol=within)
    return out, lse


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)], ids=lambda lead: f"{len(lead) + 2}-d")
@pytest.mark.parametrize(("rows", "columns"), [(5, 7), (1, 1), (1, 6), (6, 1), (0, 4), (4, 0), (0, 0)])
def test_any_rank_and_length(lead, rows, columns):
    q, k, v = triple(lead, rows, columns)
    out, lse = check(q, k, v)
    if not columns:
        assert not out.any()
        assert np.isneginf(lse).all()
    torch_named = ag.scaled_dot_product_attention(q, k, v)
    np.testing.assert_array_equal(torch_named.compute(), out)


@pytest.mark.parametrize("shape", [(0, 2, 5, 4), (2, 1, 5, 0)], ids=["empty batch", "empty width"])
def test_empty_arrays(shape):
    q = k = v = normal(*shape)
    assert ag.attention(q, k, v).compute().shape == shape


def test_no_width_weighs_all_keys_alike():
    q, k, v = triple((2,), width=0)
    out, lse = check(q, k, v, dense_scale=1.0)
    np.testing.assert_allclose(out, np.broadcast_to(v.mean(1, keepdims=True), out.shape), atol=1e-6)
    np.testing.assert_allclose(lse, np.log(7), rtol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 6), (6, 3), (1, 4), (4, 1), (0, 3), (3, 0)])
def test_causal_aligns_upper_left_or_lower_right(rows, columns):
    q, k, v = triple((2, 3), rows, columns)
    upper, _ = check(q, k, v, is_causal=True, visible=causal_mask(rows, columns))
    check(q, k, v, is_causal=np.True_, visible=causal_mask(rows, columns))
    offset = columns - rows
    lower, lse = check(q, k, v, is_causal="lower_right", visible=causal_mask(rows, columns, offset))
    if rows == columns:
        np.testing.assert_array_equal(upper, lower)
    unseen = max(0, rows - columns)
    assert not lower[..., :unseen, :].any()
    assert np.isneginf(lse[..., :unseen]).all()
    named = ag.scaled_dot_product_attention(q, k, v, is_causal=True).compute()
    np.testing.assert_array_equal(named, ag.attention(q, k, v, is_causal=True).compute())


SPREADS = [(), (7,), (1, 1), (5, 1), (5, 7), (3, 1, 7), (2, 1, 5, 7), (2, 3, 5, 7)]


@pytest.mark.parametrize("shape", SPREADS, ids=str)
def test_masks_broadcast(shape):
    q, k, v = triple((2, 3))
    mask = RNG.random(shape) < 0.6
    check(q, k, v, mask=mask, visible=mask)
    check(q, k, v, mask=ag.asarray(mask), visible=mask)
    named = ag.scaled_dot_product_attention(q, k, v, attn_mask=mask).compute()
    np.testing.assert_array_equal(named, ag.attention(q, k, v, mask=mask).compute())
    check(q, k, v, mask=mask, is_causal="lower_right", visible=mask & causal_mask(5, 7, 2))


def check_bias(q, k, v, bias, **options):
    """As `check`, the bias given to both."""
    want, want_lse = dense(q, k, v, bias=np.asarray(bias, float))
    out, lse = ag.compute(*ag.attention(q, k, v, bias=bias, return_lse=True, **options))
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=tolerance(q, k, v))
    np.testing.assert_allclose(lse, want_lse, rtol=1e-5, atol=tolerance(q, k, v))
    return out, lse


@pytest.mark.parametrize("shape", SPREADS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_biases_are_added(shape, dtype):
    q, k, v = triple((2, 3))
    bias = np.asarray(3 * RNG.standard_normal(shape)).astype(dtype)
    out, _ = check_bias(q, k, v, bias)
    np.testing.assert_array_equal(ag.scaled_dot_product_attention(q, k, v, attn_mask=bias).compute(), out)


def test_mask_and_bias_together():
    q, k, v = triple((2, 3))
    mask, bias = RNG.random((5, 7)) < 0.6, normal(3, 1, 7)
    want, _ = dense(q, k, v, visible=mask & causal_mask(5, 7), bias=bias.astype(float))
    out = ag.attention(q, k, v, mask=mask, bias=bias, is_causal=True).compute()
    np.testing.assert_allclose(out, want, atol=tolerance(q, k, v))


@pytest.mark.parametrize("how", ["mask", "bias", "block mask", "lazy mask"])
def test_a_row_that_sees_nothing_gives_zeros(how):
    q, k, v = triple((2, 3))
    mask = np.ones((5, 7), bool)
    mask[[1, 4]] = False
    hiding = {
        "mask": {"mask": mask},
        "bias": {"bias": np.where(mask, np.float32(0), -np.float32(np.inf))},
        "block mask": {"mask": ag.create_block_mask(lambda b, h, i, j: (i != 1) & (i != 4), None, None, 5, 7)},
        "lazy mask": {"mask": (ag.arange(5) % 3 != 1)[:, None]},
    }[how]
    for check_finite in (True, False):
        with ag.config.set(check_finite=check_finite):
            out, lse = ag.compute(*ag.attention(q, k, v, return_lse=True, **hiding))
        assert not out[..., [1, 4], :].any()
        assert np.isneginf(lse[..., [1, 4]]).all()
        want, want_lse = dense(q, k, v, visible=mask)
        np.testing.assert_allclose(out, want, atol=tolerance(q, k, v))
        np.testing.assert_allclose(lse, want_lse, rtol=1e-6)


@pytest.mark.parametrize(
    "scale",
    [0.3, 0, -1.5, np.float32(0.3), np.float64(0.3), np.asarray(0.3), ag.asarray(np.float32(0.3)), ag.full((), 3) / 10],
    ids=lambda scale: type(scale).__name__,
)
def test_scale(scale):
    q, k, v = triple((2, 3))
    number = float(scale.compute() if isinstance(scale, ag.Array) else scale)
    out, _ = check(q, k, v, scale=scale, dense_scale=number)
    np.testing.assert_array_equal(ag.scaled_dot_product_attention(q, k, v, scale=scale).compute(), out)


def test_scale_may_be_computed_or_traced():
    q, k, v = triple((2, 3))
    learned = np.asarray(0.4, "float32")
    lazy = ag.attention(q, k, v, scale=ag.exp(ag.asarray(learned)))
    within = tolerance(q, k, v, 2.0)
    np.testing.assert_allclose(lazy.compute(), dense(q, k, v, scale=np.exp(0.4))[0], atol=within)
    learned[...] = 0.1
    np.testing.assert_allclose(lazy.compute(), dense(q, k, v, scale=np.exp(0.1))[0], atol=within)
    compiled = ag.compile(lambda q, k, v, scale: ag.attention(q, k, v, scale=scale))
    for scale in (0.2, 0.7):
        np.testing.assert_allclose(compiled(q, k, v, scale), dense(q, k, v, scale=scale)[0], atol=within)
    assert compiled.cache_info().misses == 1


@pytest.mark.parametrize(("heads", "groups"), [(4, 2), (4, 4), (6, 3), (3, 1)])
@pytest.mark.parametrize("lead", [(), (2,), (2, 1)], ids=lambda lead: f"{len(lead) + 3}-d")
def test_grouped_heads_are_repeated_heads(heads, groups, lead):
    q, k, v = triple((*lead, heads), groups=groups)
    repeated = [np.repeat(x, groups, axis=-3) for x in (k, v)]
    within = tolerance(q, k, v)
    for options in ({}, {"is_causal": "lower_right"}, {"mask": RNG.random((heads, 1, 7)) < 0.7}):
        grouped = ag.compute(*ag.attention(q, k, v, enable_gqa=True, return_lse=True, **options))
        plain = ag.compute(*ag.attention(q, *repeated, return_lse=True, **options))
        for left, right in zip(grouped, plain, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-6, atol=within)
    named = ag.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    np.testing.assert_allclose(named.compute(), dense(q, *repeated)[0], atol=within)


def test_batches_broadcast():
    q, k, v = normal(2, 1, 5, 4), normal(3, 7, 4), normal(4, 1, 1, 7, 3)
    out = ag.attention(q, k, v)
    assert out.shape == (4, 2, 3, 5, 3)
    np.testing.assert_allclose(out.compute(), dense(q, k, v)[0], atol=tolerance(q, k, v))
    q, k, v = normal(2, 4, 5, 4), normal(1, 2, 7, 4), normal(1, 2, 7, 3)
    out = ag.attention(q, k, v, enable_gqa=True).compute()
    np.testing.assert_allclose(out, dense(q, k, v)[0], atol=tolerance(q, k, v))


@pytest.mark.parametrize("name", HALVES)
def test_half_floats_are_storage(name):
    dtype = HALVES[name]
    q, k, v = (x.astype(dtype) for x in triple((2, 3), value_width=4))
    want, want_lse = dense(q, k, v, visible=causal_mask(5, 7))
    out, lse = ag.compute(*ag.attention(q, k, v, is_causal=True, return_lse=True))
    assert (out.dtype, lse.dtype) == (dtype, np.float32)
    # Computed in float32, rounded to the type once: half a unit in the last place.
    half_unit = float(ml_dtypes.finfo(dtype).eps) / 2
    np.testing.assert_allclose(out.astype(float), want, rtol=half_unit * 1.01, atol=tolerance(q, k, v))
    np.testing.assert_allclose(lse, want_lse, rtol=1e-6, atol=tolerance(q, k, v))
    assert ag.scaled_dot_product_attention(q, k, v).dtype == dtype


def test_double_precision_is_kept():
    q, k, v = triple((2, 3), dtype="float64")
    mask = RNG.random((5, 7)) < 0.7
    want, want_lse = dense(q, k, v, visible=mask)
    out, lse = ag.compute(*ag.attention(q, k, v, mask=mask, return_lse=True))
    assert out.dtype == lse.dtype == np.float64
    np.testing.assert_allclose(out, want, rtol=0, atol=1e-14)
    np.testing.assert_allclose(lse, want_lse, rtol=1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_any_memory_layout(layout, dtype):
    plain = triple((2, 3), dtype=dtype)
    laid = [laid_out(x, layout) for x in plain]
    before = [x.copy() for x in laid]
    mask = laid_out(np.asarray(RNG.random((5, 7)) < 0.7), layout)
    lazy = ag.attention(*laid, mask=mask)
    assert lazy.dtype == np.dtype(dtype)
    compiled = ag.compile(lambda q, k, v: ag.attention(q, k, v, mask=mask))(*laid)
    np.testing.assert_array_equal(lazy.compute(), compiled)
    rounding = {"float32": 0.0, "float64": 0.0, "float16": 2.0**-11}[dtype]
    want = dense(*plain, visible=np.asarray(mask))[0]
    np.testing.assert_allclose(compiled.astype(float), want, rtol=rounding * 1.01, atol=tolerance(*plain))
    assert all((left == right).all() for left, right in zip(before, laid, strict=True))


@st.composite
def problems(draw):
    """Arrays in any layout, and options, that go together; what a mask hides may be NaN."""
    heads, groups = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 1, 2]))
    lead = (*draw(st.sampled_from([(), (2,), (2, 1), (0,)])), heads * groups)
    rows, columns, width, value_width = (draw(st.sampled_from([0, 1, 2, 5, 8])) for _ in range(4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    q, k, v = (
        rng.standard_normal(shape).astype("float32")
        for shape in (
            (*lead, rows, width),
            (*lead[:-1], heads, columns, width),
            (*lead[:-1], heads, columns, value_width),
        )
    )
    options = {"enable_gqa": groups > 1, "scale": draw(st.sampled_from([None, 0.5, -2.0])), "return_lse": True}
    options["is_causal"] = draw(st.sampled_from([False, True, "lower_right"]))
    visible = np.ones((rows, columns), bool)
    if options["is_causal"]:
        visible = causal_mask(rows, columns, columns - rows if options["is_causal"] == "lower_right" else 0)
    if draw(st.booleans()):
        options["mask"] = rng.random(draw(broadcastable((*lead, rows, columns)))) < draw(st.sampled_from([0, 0.3, 0.9]))
        visible = visible & options["mask"]
    if draw(st.booleans()):
        shape = draw(broadcastable((*lead, rows, columns)))
        options["bias"] = np.asarray(3 * rng.standard_normal(shape), draw(st.sampled_from(["float32", "float64"])))
    given = [q, k, v]
    if draw(st.booleans()):  # keys that nobody sees, a query that sees nothing
        seen = np.broadcast_to(visible, (*lead, rows, columns)).reshape(*lead[:-1], heads, groups, rows, columns)
        unseen = ~seen.any(axis=(-3, -2))
        given[1] = np.where(unseen[..., None], np.nan, k).astype("float32")
        given[2] = np.where(unseen[..., None], np.inf, v).astype("float32")
        given[0] = np.where(seen.any(-1).reshape(*lead, rows)[..., None], q, -np.inf).astype("float32")
    given = [laid_out(x, draw(st.sampled_from(LAYOUTS))) for x in given]
    return (q, k, v), visible, given, options


@hypothesis.given(problem=problems())
def test_any_problem(problem):
    (q, k, v), visible, given, options = problem
    expected = dense(
        q,
        k,
        v,
        visible=visible,
        bias=np.asarray(options.get("bias", 0.0), float),
        scale=options["scale"] or (None if q.shape[-1] else 1.0),
    )
    within = 2 * tolerance(q, k, v, options["scale"] or (None if q.shape[-1] else 1.0)) + 1e-5
    lazy = ag.compute(*ag.attention(*given, **options))
    names = [name for name in ("mask", "bias") if name in options]
    static = {name: value for name, value in options.items() if name not in names}
    compiled = ag.compile(lambda q, k, v, extra: ag.attention(q, k, v, **static, **extra), check_finite=True)
    for got in (lazy, compiled(*given, {name: options[name] for name in names})):
        for left, right in zip(got, expected, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=within)


# Accuracy.


def plain_float32(q, k, v, visible, scale):
    """The textbook formula in float32, as torch's math path computes it."""
    scores = (q @ np.swapaxes(k, -1, -2)) * np.float32(scale)
    scores = np.where(visible, scores, -np.inf).astype(np.float32)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)) @ v


def torch_float32(q, k, v, visible, scale):
    torch = pytest.importorskip("torch")
    named = torch.nn.functional.scaled_dot_product_attention
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    mask = torch.from_numpy(np.broadcast_to(visible, (q.shape[-2], k.shape[-2])).copy())
    return named(*tensors, attn_mask=mask, scale=scale).numpy()


ACCURACY = {
    "usual": (64, 64, 32, 1.0, 32**-0.5),
    "long": (16, 1500, 16, 1.0, 0.25),
    "wide": (32, 40, 128, 1.0, 128**-0.5),
    "narrow": (50, 50, 1, 1.0, 1.0),
    "peaked": (64, 64, 32, 4.0, 32**-0.5),
    "flat": (64, 64, 32, 1e-3, 32**-0.5),
    "unscaled": (48, 48, 64, 1.0, 1.0),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("peer", [plain_float32, torch_float32])
@pytest.mark.parametrize("case", ACCURACY)
def test_error_is_at_most_twice_that_of_float32(case, peer, causal):
    rows, columns, width, spread, scale = ACCURACY[case]
    visible = causal_mask(rows, columns) if causal else np.ones((rows, columns), bool)
    ours, theirs = 0.0, 0.0
    for _ in range(5):  # the largest of few errors is a matter of luck: add some up
        q, k, v = (x * np.float32(spread) for x in triple((2,), rows, columns, width, 24))
        want, _ = dense(q, k, v, visible=visible, scale=scale)
        theirs += np.abs(peer(q, k, v, visible, scale) - want).max()
        ours += np.abs(ag.attention(q, k, v, is_causal=causal, scale=scale).compute() - want).max()
    assert ours <= 2 * theirs


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.2}, {"enable_gqa": True}], ids=str)
@pytest.mark.parametrize("mask", [None, "boolean", "float", "hides rows"])
def test_agrees_with_torch(options, mask):
    torch = pytest.importorskip("torch")
    if mask is not None and "is_causal" in options:
        pytest.skip("exclude each other")
    q, k, v = triple((2, 4), groups=2 if "enable_gqa" in options else 1)
    attn_mask = {
        None: None,
        "boolean": RNG.random((5, 7)) < 0.7,
        "float": normal(4, 5, 7),
        "hides rows": RNG.random((5, 1)) < 0.5,
    }[mask]
    tensors = [None if x is None else torch.from_numpy(x) for x in (q, k, v, attn_mask)]
    want = torch.nn.functional.scaled_dot_product_attention(*tensors, **options).numpy()
    within = 2 * tolerance(q, k, v)
    np.testing.assert_allclose(
        ag.scaled_dot_product_attention(q, k, v, attn_mask, **options).compute(), want, atol=within
    )
    # Torch's own tensors, and torch's own function on a lazy array.
    np.testing.assert_allclose(ag.scaled_dot_product_attention(*tensors, **options).compute(), want, atol=within)
    lazy = torch.nn.functional.scaled_dot_product_attention(ag.asarray(q), *tensors[1:], **options)
    np.testing.assert_allclose(lazy.compute(), want, atol=within)


def test_the_signature_is_torchs():
    names = ["query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"]
    parameters = inspect.signature(ag.scaled_dot_product_attention).parameters
    assert list(parameters) == names
    assert [parameters[name].default for name in names[3:]] == [None, 0.0, False, None, False]


# What overflows on the way.


def test_a_bias_of_the_least_number_is_a_number():
    q, k, v = triple((2, 3))
    out, _ = check_bias(q, k, v, np.full((5, 7), MINIMUM, "float32"))
    np.testing.assert_allclose(out, np.broadcast_to(v.mean(-2, keepdims=True), out.shape), atol=1e-6)
    some = np.where(RNG.random((5, 7)) < 0.5, MINIMUM, 0).astype("float32")
    some[0] = MINIMUM
    check_bias(q, k, v, some)


def test_a_bias_of_the_least_number_below_scores_that_overflow_it():
    q, k, v = np.full((1, 2), -1e18, "float32"), np.full((3, 2), 1e18, "float32"), normal(3, 2)
    bias = np.full((1, 3), MINIMUM, "float32")
    with np.errstate(over="ignore"):
        assert np.isneginf(bias + np.float32(q[0] @ k[0])).all()
    out = ag.attention(q, k, v, bias=bias).compute()
    np.testing.assert_allclose(out, v.mean(0, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("size", [2.0**50, 2.0**80, float(MAXIMUM / 2), float(MAXIMUM)], ids="{:.0e}".format)
def test_huge_inputs_give_the_float64_answer(size):
    q, k = (np.float32(size) * RNG.choice([-1, 1, 0.5], (2, 6, 4)).astype("float32") for _ in range(2))
    v = normal(2, 6, 3)
    want, _ = dense(q, k, v)
    for function in (ag.attention, ag.compile(ag.attention), ag.compile(ag.attention, check_finite=True)):
        out = function(q, k, v)
        out = out.compute() if isinstance(out, ag.Array) else out
        np.testing.assert_allclose(out, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [MAXIMUM, MAXIMUM / 2, -MAXIMUM / 2])
def test_huge_values_are_averaged(value):
    q, k, _ = triple((2, 3))
    v = np.full((2, 3, 7, 3), value, "float32")
    np.testing.assert_allclose(ag.attention(q, k, v).compute(), v[..., :5, :], rtol=1e-6)


# What a mask hides, and what it does not.


def flexible(q, k, v, mask=None):
    """The same through flex_attention, the mask as a mask function."""
    if mask is None:
        return ag.flex_attention(q, k, v)
    table = ag.asarray(np.broadcast_to(mask, (q.shape[-2], k.shape[-2])).copy())
    block = ag.create_block_mask(lambda b, h, i, j: table[i, j], None, None, *table.shape)
    return ag.flex_attention(q, k, v, block_mask=block)


ROADS = {
    "attention": lambda q, k, v, mask=None: ag.attention(q, k, v, mask=mask),
    "scaled_dot_product_attention": lambda q, k, v, mask=None: ag.scaled_dot_product_attention(q, k, v, mask),
    "flex_attention": flexible,
}
BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("names", ["key", "value", "key value", "query key value"])
def test_what_is_hidden_may_hold_anything(road, bad, names):
    q, k, v = triple((2, 3))
    mask = np.ones((5, 7), bool)
    mask[:, [2, 6]] = False  # nobody sees these keys,
    mask[3] = False  # and this query sees nothing
    want, _ = dense(q, k, v, visible=mask)
    if "query" in names:
        q[..., 3, :] = bad
    if "key" in names:
        k[..., [2, 6], :] = bad
    if "value" in names:
        v[..., [2, 6], :] = bad
    within = tolerance(*triple((2, 3)))
    np.testing.assert_allclose(ROADS[road](q, k, v, mask).compute(), want, atol=within)
    for check_finite in (False, True):
        compiled = ag.compile(lambda q, k, v: ROADS[road](q, k, v, mask), check_finite=check_finite)
        np.testing.assert_allclose(compiled(q, k, v), want, atol=within)


@pytest.mark.parametrize("argument", ["key", "value"])
def test_the_tail_of_a_cache_may_be_uninitialised(argument):
    q, k, v = triple((2, 3), rows=4, columns=6)
    spoilt = {"key": k.copy(), "value": v.copy()}
    spoilt[argument][..., 4:, :] = np.nan
    want = dense(q, k, v, visible=causal_mask(4, 6))[0]
    out = ag.attention(q, spoilt["key"], spoilt["value"], is_causal=True).compute()
    np.testing.assert_allclose(out, want, atol=tolerance(q, k, v))
    block = ag.create_block_mask(lambda b, h, i, j: j <= i, None, None, 4, 6)
    out = ag.attention(q, spoilt["key"], spoilt["value"], mask=block).compute()
    np.testing.assert_allclose(out, want, atol=tolerance(q, k, v))


def test_hidden_for_some_queries_counts_for_the_others():
    q, k, v = triple((1, 1), rows=3, columns=3)
    v[0, 0, 2] = np.nan
    with pytest.raises(ag.NonFiniteError, match="value"):
        ag.attention(q, k, v, is_causal=True).compute()
    with ag.config.set(check_finite=False):
        out = ag.attention(q, k, v, is_causal=True).compute()
    assert np.isfinite(out[0, 0, :2]).all()
    assert np.isnan(out[0, 0, 2]).all()


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("argument", ["query", "key", "value"])
@pytest.mark.parametrize("bad", BAD)
def test_what_counts_must_be_finite(road, argument, bad):
    given = dict(zip(["query", "key", "value"], triple((2, 3)), strict=True))
    given["query"][..., :2, 1] = 1, -1  # an infinite key makes scores of either sign
    given[argument][1, 2, 4, 1] = bad
    written = ROADS[road].__code__.co_firstlineno
    with pytest.raises(ag.NonFiniteError) as caught:
        ROADS[road](*given.values()).compute()
    said = str(caught.value)
    for part in (f"{road}: {argument} float32[2, 3, ", f"holds {bad} at [1, 2, 4, 1]", "check_finite=False"):
        assert part in said
    assert caught.value.line[0] == __file__
    assert road in Path(__file__).read_text().splitlines()[caught.value.line[1] - 1]
    assert written <= caught.value.line[1] < written + 8


@pytest.mark.parametrize("argument", ["query", "key"])
@pytest.mark.parametrize("columns", [1, 3])
def test_a_score_of_minus_infinity_out_of_an_infinite_input_is_no_mask(argument, columns):
    given = {"query": np.ones((1, 1), "float32"), "key": np.ones((columns, 1), "float32")}
    given[argument][0] = -np.inf
    with pytest.raises(ag.NonFiniteError, match=argument):
        ag.attention(*given.values(), normal(columns, 2)).compute()


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("argument", [0, 1, 2])
def test_every_float_type_is_checked(dtype, argument):
    given = [x.astype(HALVES.get(dtype, dtype)) for x in triple((2, 3))]
    given[argument][0, 0, 0, 0] = np.nan
    with pytest.raises(ag.NonFiniteError, match=["query", "key", "value"][argument] + " " + dtype):
        ag.attention(*given).compute()


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_when_inputs_are_checked(argument):
    given = list(triple((2, 3)))
    given[argument][0, 0, 0, 0] = np.nan
    compiled = ag.compile(ag.attention)
    assert np.isnan(compiled(*given)).any()
    assert np.isfinite(compiled(*given)[1]).all()
    with pytest.raises(ag.NonFiniteError):
        ag.compile(ag.attention, check_finite=True)(*given)
    following = ag.compile(ag.attention, check_finite=None)
    assert np.isnan(following(*given)).any()
    lazy = ag.attention(*given)
    with ag.config.set(check_finite=True), pytest.raises(ag.NonFiniteError):
        following(*given)
    with ag.config.set(check_finite=False):
        assert np.isnan(lazy.compute()).any()
    with pytest.raises(ag.NonFiniteError):
        ag.compute(lazy + 1, lazy)


def test_a_mask_may_depend_on_what_it_hides():
    q, k, v = triple((2, 3))
    spoilt = [x.copy() for x in (k, v)]
    for x in spoilt:
        x[:, :, 3] = np.nan
    mask = ag.all(ag.isfinite(ag.asarray(spoilt[0])), -1)[..., None, :]
    out = ag.attention(q, *spoilt, mask=mask).compute()
    np.testing.assert_allclose(out, dense(q, k, v, visible=np.arange(7) != 3)[0], atol=tolerance(q, k, v))


def test_zeros_of_a_row_that_sees_nothing_count_in_the_next_layer():
    q, k, v = triple((2, 3), 5, 5, value_width=4)
    mask = np.tri(5, k=-1, dtype=bool)
    first, lse = ag.attention(q, k, v, mask=mask, return_lse=True)
    second = ag.attention(first, first + k, first)
    want, _ = dense(q, k, v, visible=mask)
    expected, _ = dense(want, want + k, want)
    for out in (second.compute(), ag.compute(second, lse)[0]):  # -inf in lse takes the careful path
        np.testing.assert_allclose(out, expected, atol=2 * tolerance(q, k, v))


def test_a_nan_in_a_bias_is_the_users_own():
    q, k, v = triple((1, 1), 3, 3)
    bias = np.zeros((3, 3), "float32")
    bias[1, 1] = np.nan
    out = ag.attention(q, k, v, bias=bias).compute()
    assert np.isnan(out[0, 0, 1]).all()
    assert np.isfinite(out[0, 0, [0, 2]]).all()


# Names.


def test_the_module_is_a_function():
    q, k, v = triple((2, 3))
    assert inspect.ismodule(ag.attention)
    assert callable(ag.attention)
    np.testing.assert_array_equal(ag.attention(q, k, v).compute(), ag.scaled_dot_product_attention(q, k, v).compute())
    assert importlib.import_module("attngraph.attention") is ag.attention
    assert pickle.loads(pickle.dumps(ag.attention)) is ag.attention
    assert copy.deepcopy(ag.attention) is ag.attention
    assert "mask" in ag.attention.__call__.__doc__
    options = ["mask", "bias", "is_causal", "scale", "enable_gqa", "return_lse"]
    assert list(inspect.signature(ag.attention).parameters) == ["query", "key", "value", *options]


def test_options_are_named():
    q, k, v = triple((2, 3))
    with pytest.raises(TypeError, match="positional"):
        ag.attention(q, k, v, np.ones((5, 7), bool))


@pytest.mark.parametrize(
    "name", ["BlockMask", "and_masks", "create_block_mask", "flex_attention", "noop_mask", "or_masks"]
)
def test_names_are_importable(name):
    module = importlib.import_module("attngraph.attention")
    assert getattr(module, name) is getattr(ag, name)
    assert name in module.__all__
    assert name in ag.__all__


def test_every_road_gives_the_same_bits():
    q, k, v = triple((2, 3))
    mask = RNG.random((5, 7)) < 0.7
    results = [road(q, k, v, mask).compute() for road in ROADS.values()]
    for left, right in itertools.pairwise(results):
        np.testing.assert_array_equal(left, right)
