"""What kernels are in doubt about is computed again, block by block: as the interpreter has it, or its error."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.careful import Careful
from attngraph.engine.careful_product import visible_product
from attngraph.engine.careful_sweep import doubted_rows
from attngraph.engine.config import config
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.scalar import Axis
from attngraph.engine.sweep import Sweep

INF = np.inf
HALF = float(np.finfo(np.float32).max) / 2
LEAST = float(np.finfo(np.float32).min)
TARGETS = ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4"]


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def outcome(expression, target):
    """The values under a target, or the error."""
    with ag.config.set(target=target):
        try:
            return expression.compute()
        except ag.AttnGraphError as error:
            return type(error), str(error)


def check(expression, targets=("native",), tolerance=2e-4):
    """Every target gives what the interpreter does, and as a sweep."""
    wanted = outcome(expression, "reference")
    for target in targets:
        found = outcome(expression, target)
        if isinstance(wanted, tuple):
            assert found == wanted
            continue
        assert not isinstance(found, tuple), found
        size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * size / 10)
    return wanted


def natively(expression, check_finite=True):
    """The result through kernels alone."""
    made = Program(optimize([expression.node]))
    assert made.plan.sweeps, made.plan.not_fused
    return made.run({}, config.settings(), check_finite=check_finite)


def hidden(mask, scores):
    return ag.where(mask, scores, -INF)


FORMS = {
    "softmax": lambda s, m, b, q, k, v: ag.softmax(s, -1) @ v,
    "mask": lambda s, m, b, q, k, v: ag.softmax(hidden(m, s), -1) @ v,
    "bias": lambda s, m, b, q, k, v: ag.softmax(s + b, -1) @ v,
    "mask and bias": lambda s, m, b, q, k, v: ag.softmax(hidden(m, s + b), -1) @ v,
    "mask, then bias": lambda s, m, b, q, k, v: ag.softmax(hidden(m, s) + b, -1) @ v,
    "softcap": lambda s, m, b, q, k, v: ag.softmax(hidden(m, ag.tanh(s / 5) * 5), -1) @ v,
    "lse": lambda s, m, b, q, k, v: ag.logsumexp(hidden(m, s), -1),
    "maximum": lambda s, m, b, q, k, v: ag.max(hidden(m, s), -1),
    "squared relu": lambda s, m, b, q, k, v: ag.where(m, ag.relu(s) ** 2, 0) @ v,
    "sigmoid": lambda s, m, b, q, k, v: ag.where(m, ag.sigmoid(s), 0) @ v,
    "difference": lambda s, m, b, q, k, v: ag.softmax(hidden(m, s), -1) @ v - 0.3 * (ag.softmax(s * 2, -1) @ v),
    "distance": lambda s, m, b, q, k, v: ag.softmax(hidden(m, -((q[:, :, None] - k[:, None]) ** 2).sum(-1)), -1) @ v,
}
PLANTS = st.tuples(
    st.sampled_from(["q", "k", "v", "bias"]),
    st.integers(0, 10**6),
    st.sampled_from([np.nan, INF, -INF, HALF, -HALF, 1e19, -1e19, 1e30, LEAST]),
)


@pytest.mark.parametrize("name", FORMS)
@given(
    rows=st.sampled_from([1, 3, 8, 20, 37]),
    columns=st.sampled_from([17, 40, 150]),
    seen=st.sampled_from([0.1, 0.5, 0.95]),
    size=st.sampled_from([1, 1, 1, 1e18, 1e19, 1e38]),
    blank=st.lists(st.tuples(st.sampled_from(["mask", "least", "-inf"]), st.integers(0, 36)), max_size=2),
    plants=st.lists(PLANTS, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    target=st.sampled_from(TARGETS),
)
@settings(max_examples=12, deadline=None)
def test_as_the_interpreter(name, rows, columns, seen, size, blank, plants, seed, target):
    # Of distances beside which every key is nothing all are equal, and which is nearest float64's rounding says.
    assume(name != "distance" or size != 1e18)
    rng = np.random.default_rng(seed)
    arrays = {
        "q": rng.standard_normal((2, rows, 8)),
        "k": rng.standard_normal((2, columns, 8)),
        "v": rng.standard_normal((2, columns, 5)),
        "bias": rng.standard_normal((rows, columns)),
    }
    arrays["q"] *= size
    mask = rng.random((rows, columns)) < seen
    for kind, row in blank:
        if kind == "mask":
            mask[row % rows] = False
        else:
            arrays["bias"][row % rows] = LEAST if kind == "least" else -INF
    for which, place, value in plants:
        array = arrays[which]
        array.flat[place % array.size] = value
    with np.errstate(over="ignore"):
        q, k, v, bias = (ag.asarray(array.astype("float32")) for array in arrays.values())
    check(FORMS[name](q @ k.mT / 8, ag.asarray(mask), bias, q, k, v), [target])


def inputs(rows=70, columns=90, width=8):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, 1, n, width)).astype("float32") for n in (rows, columns, columns)]


def test_other_blocks_keep_the_kernels_bits():
    q, k, v = inputs(rows=200)
    plain = ag.attention(q, k, v).compute()
    bad = q.copy()
    bad[0, 0, 70] = 1e37
    (found,) = natively(ag.attention(bad, k * 100, v))
    (usual,) = natively(ag.attention(q, k * 100, v))
    differing = np.flatnonzero((found.view("int32") != usual.view("int32")).any(-1)[0, 0])
    assert 0 < len(differing) <= 64
    assert 70 in differing
    assert plain.shape == found.shape
    check(ag.attention(bad, k * 100, v))


@pytest.mark.parametrize("rows", [1, 5, 70])
def test_partial_sums_that_overflow_are_seen(rows):
    """-2e38 - 2e38 + 4e38 is 0, and the largest score of its row."""
    q, k, v = inputs(rows=rows)
    q[..., :4] = [-1e19, -1e19, 1e19, 1e19]
    q[..., 4:] = 0
    k[..., :4] = 1e19
    k[..., 3, :4] = [2e19, 2e19, 2e19, 2e19]
    k[..., 4, :4] = [2.5e19, 2.5e19, 2.5e19, 2e19]
    expression = ag.attention(q, k, v, scale=1.0)
    np.testing.assert_allclose(check(expression), natively(expression)[0], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 70])
@pytest.mark.parametrize("bad", [np.nan, INF, -INF])
def test_whatever_is_hidden_may_be_anything(rows, bad):
    q, k, v = inputs(rows=rows)
    k[:, :, -20:] = v[:, :, -20:] = bad
    expression = ag.attention(q, k, v, mask=np.arange(90) < 70)
    usual = ag.attention(q, k[:, :, :70], v[:, :, :70])
    np.testing.assert_allclose(natively(expression)[0], usual.compute(), rtol=1e-5, atol=1e-6)
    assert np.isfinite(check(expression)).all()


@pytest.mark.parametrize("rows", [2, 70])
def test_rows_that_masks_hide_are_not_doubted(rows, monkeypatch):
    asked = []
    monkeypatch.setattr(kernels, "settle", lambda *given: asked.append(given))
    q, k, v = inputs(rows=rows)
    mask = np.ones((rows, 90), bool)
    mask[1] = False
    bias = np.where(mask, 0, -INF).astype("float32")
    for expression in (
        ag.attention(q, k, v, mask=mask, return_lse=True)[0],
        ag.attention(q, k, v, mask=mask, return_lse=True)[1],
        ag.attention(q, k, v, bias=bias),
        ag.attention(q, k, v, mask=ag.arange(rows)[:, None] - 2 >= ag.arange(90)[None, :]),
    ):
        (found,) = natively(expression)
        wanted = outcome(expression, "reference")
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert not asked


@pytest.mark.parametrize("rows", [2, 70])
def test_a_bias_of_the_least_number_is_averaged(rows):
    q, k, v = inputs(rows=rows)
    bias = np.zeros((rows, 90), np.float32)
    bias[1] = LEAST
    (found,) = natively(ag.attention(q, k, v, bias=bias))
    np.testing.assert_allclose(found[0, 0, 1], v[0, 0].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1.0])
def test_what_is_too_large_for_a_number_in_between_is_none_for_the_result(scale):
    q, k, v = inputs()
    values = ag.asarray(np.abs(v) * np.float32(1e38))
    expression = (ag.exp(ag.asarray(q) @ ag.asarray(k).mT) @ values) * np.float32(scale)
    check(expression)


def test_a_nan_that_counts_is_an_error_and_one_that_does_not_is_none():
    q, k, v = inputs()
    q[0, 0, 3] = np.nan
    expression = ag.attention(q, k, v)
    kind, text = check(expression)
    assert kind is ag.NonFiniteError
    assert "query" in text
    assert natively(expression) is None
    shown = ag.where(ag.arange(70)[:, None] != 3, expression, 0)
    assert np.isfinite(check(shown)).all()


@pytest.mark.parametrize("columns", [1000, 4000])
def test_memory_does_not_grow_with_the_columns(columns):
    q, k, v = inputs(rows=600, columns=columns, width=16)
    expression = ag.attention(q * np.float32(1e37), k * np.float32(1e3), v)
    expression.compute()
    tracemalloc.start()
    expression.compute()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_doubted_rows_by_the_places_of_their_tasks():
    batch = Axis("a", 2), Axis("b", 3)
    sweep = Sweep(batch, Axis("i", 20), Axis("j", 40))
    found = doubted_rows(sweep, lambda length: length, 16, np.array([0, 1, 7]))
    assert [place for place, _ in found] == [(0, 0), (1, 0)]
    assert found[0].rows.tolist() == list(range(20))
    assert found[1].rows.tolist() == [16, 17, 18, 19]


NUMBERS = st.sampled_from([0.0, 1.0, -2.0, INF, -INF, np.nan])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_products_of_visible_terms(data):
    rows, depth, columns = (data.draw(st.integers(1, 4)) for _ in range(3))
    sides = []
    for shape in ((rows, depth), (depth, columns)):
        count = shape[0] * shape[1]
        values = np.array(data.draw(st.lists(NUMBERS, min_size=count, max_size=count))).reshape(shape)
        levels = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count))).reshape(shape)
        values = np.where(levels & np.isneginf(values), 0, values)
        sides.append(Careful(values, levels.astype(np.uint8)))
    with np.errstate(invalid="ignore"):
        terms = sides[0].value[:, :, None] * sides[1].value[None]
        seen = (sides[0].hidden == 0)[:, :, None] & (sides[1].hidden == 0)[None]
        wanted = np.where(seen, terms, 0).sum(1)
        np.testing.assert_array_equal(visible_product(*sides), wanted)
