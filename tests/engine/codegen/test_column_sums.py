"""Sweeps with results of columns: what one pass adds up for its rows and for its columns is what the graph says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.config import config
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

TARGETS = ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
HALF = float(np.finfo(np.float32).max) / 2


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


MASKS = {
    "full": lambda i, j: None,
    "causal": lambda i, j: i >= j,
    "window": lambda i, j: abs(i - j) < 9,
    "holes": lambda i, j: (i * 7 + j * 3) % 5 != 0,
    "no row 3": lambda i, j: (i != 3) & (j != 2),
}


def backward(query, key, value, upstream, mask="full", scale=0.3):
    """The gradients of an attention, in the order in which they join one sweep."""
    scores = query @ key.mT * scale
    i, j = ag.arange(scores.shape[-2])[:, None], ag.arange(scores.shape[-1])[None, :]
    visible = MASKS[mask](i, j)
    if visible is not None:
        scores = ag.where(visible, scores, -ag.inf)
    lse = ag.logsumexp(scores, axis=-1, keepdims=True)
    weights = ag.exp(scores - ag.where(lse == -ag.inf, 0.0, lse))
    out = ag.softmax(scores, axis=-1) @ value
    slope = weights * (upstream @ value.mT - ag.sum(upstream * out, axis=-1, keepdims=True))
    if visible is not None:
        slope = ag.where(visible, slope, 0.0)
    return slope @ key * scale, slope.mT @ query * scale, weights.mT @ upstream


def arrays(rows, columns, width, value_width, batch=(2,), seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((rows, width), (columns, width), (columns, value_width), (rows, value_width))
    return [rng.standard_normal((*batch, *shape), dtype="float32") for shape in shapes]


def planned(given, **options):
    found = backward(*map(ag.asarray, given), **options)
    return found, Program(optimize([each.node for each in found]))


def in_one_pass(given, **options):
    """The gradients by kernels, of which one has results of columns."""
    found, made = planned(given, **options)
    assert sum(bool(sweep.totals_of_columns) for sweep in made.plan.sweeps) == 1, made.plan.not_fused
    assert len(made.plan.sweeps) <= 2
    results = made.run({}, config.settings(), check_finite=False)
    assert results is not None
    return found, results


def check(given, tolerance=1e-5, **options):
    found, results = in_one_pass(given, **options)
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*found)
    for result, right in zip(results, wanted, strict=True):
        size = max(1.0, np.abs(right).max(initial=0))
        np.testing.assert_allclose(result, right, rtol=tolerance, atol=tolerance * size)
    return results


@pytest.mark.parametrize("mask", MASKS)
@given(
    rows=st.sampled_from([16, 17, 63, 65, 130]),
    columns=st.sampled_from([16, 17, 31, 64, 129]),
    width=st.sampled_from([2, 15, 16, 17, 33, 64]),
    value_width=st.sampled_from([2, 16, 40]),
    batch=st.sampled_from([(1,), (3,), (2, 2)]),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 1000),
)
@settings(max_examples=8)
def test_one_pass_gives_all_gradients(mask, rows, columns, width, value_width, batch, target, seed):
    with ag.config.set(target=target):
        check(arrays(rows, columns, width, value_width, batch, seed), mask=mask)


def test_long_sweeps_and_any_number_of_threads():
    given = arrays(1100, 1090, 64, 64, (2,))
    with ag.config.set(threads=1):
        one = check(given, mask="causal", tolerance=3e-5)
    for threads in (2, 3):
        with ag.config.set(threads=threads):
            for result, wanted in zip(in_one_pass(given, mask="causal")[1], one, strict=True):
                np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("layout", ["transposed", "strided", "read-only"])
def test_any_layout(layout):
    given = arrays(70, 50, 24, 24)
    if layout == "transposed":
        given = [np.array(each.swapaxes(-1, -2), order="C").swapaxes(-1, -2) for each in given]
    elif layout == "strided":
        given = [np.repeat(each, 2, axis=-1)[..., ::2] for each in given]
    else:
        for each in given:
            each.flags.writeable = False
    check(given, mask="causal")


@pytest.mark.parametrize("mask", ["full", "causal"])
@pytest.mark.parametrize("size", [1e19, HALF])
def test_what_overflows_on_the_way_is_as_the_interpreter_has_it(mask, size):
    given = arrays(40, 50, 16, 16)
    given[0][0, 5] = size  # scores beyond float32
    given[1][0, 4] *= 1e20
    found = backward(*map(ag.asarray, given), mask=mask)
    results = ag.compute(*found)
    with ag.config.set(target="reference"):
        for result, wanted in zip(results, ag.compute(*found), strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_rows_in_doubt_are_computed_with_care():
    given = arrays(40, 50, 16, 16)
    given[3][0, 5] = 1e30
    given[2][0, 4] = 1e20  # their product is beyond float32, and weighed by next to nothing
    given[1][0, 4] = -300 * given[0][0, 5]
    check(given, mask="holes")


def test_hidden_keys_and_values_may_hold_anything():
    given = arrays(40, 50, 16, 16)
    given[1][:, 2] = np.nan
    given[2][:, 2] = np.inf
    dq, dk, dv = check(given, mask="no row 3")
    for hidden in (dk[:, 2], dv[:, 2], dq[:, 3]):
        assert not hidden.any()


def test_results_that_share_no_tile_are_no_one_pass():
    q, k, v, upstream = map(ag.asarray, arrays(40, 50, 16, 16))
    apart = ag.tanh(q @ k.mT).mT @ q, ag.tanh(upstream @ v.mT) @ k
    made = Program(optimize([each.node for each in apart]))
    assert [sweep.totals_of_columns for sweep in made.plan.sweeps] == [[], []]
