"""Sums of what a row and a column bring together: gradients of distances in one pass, to the digits of near points."""

import numpy as np
import pytest
from distances import PAIRS, arrays, step
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.config import config
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

HALF = float(np.finfo(np.float32).max) / 2
TARGETS = ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
MASKS = {
    "full": lambda i, j: None,
    "causal": lambda i, j: i >= j,
    "window": lambda i, j: abs(i - j) < 9,
    "holes": lambda i, j: (i * 7 + j * 3) % 5 != 0,
    "no row 3": lambda i, j: (i != 3) & (j != 2),
}


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def in_one_pass(name, given, mask="full"):
    """The step by two kernels, one of which makes all gradients."""
    rows, columns = given[1].shape[-2], given[2].shape[-2]
    visible = MASKS[mask](ag.arange(rows)[:, None], ag.arange(columns))
    found = step(name, visible)(*map(ag.asarray, given))
    made = Program(optimize([each.node for each in found]))
    assert [bool(sweep.totals_of_columns) for sweep in made.plan.sweeps] == [False, True], made.plan.not_fused
    results = made.run({}, config.settings(), check_finite=False)
    assert results is not None
    return found, results


# Twice the error of torch's float32 in the least exact of these gradients, that of additive scores by queries.
TOLERANCE = 2e-5


def check(name, given, mask="full", tolerance=TOLERANCE):
    found, results = in_one_pass(name, given, mask)
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*found)
    for result, right in zip(results, wanted, strict=True):
        np.testing.assert_allclose(result, right, rtol=tolerance, atol=tolerance * np.abs(right).max(initial=1e-3))
    return results


@pytest.mark.parametrize("name", PAIRS)
@given(
    rows=st.sampled_from([16, 17, 63, 65, 130]),
    columns=st.sampled_from([16, 17, 31, 64, 129]),
    width=st.sampled_from([2, 15, 16, 17, 33, 64]),
    value_width=st.sampled_from([2, 16, 40]),
    batch=st.sampled_from([(1,), (3,), (2, 2), (1, 2)]),
    mask=st.sampled_from(sorted(MASKS)),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 1000),
)
@settings(max_examples=8)
def test_one_pass_gives_all_gradients(name, rows, columns, width, value_width, batch, mask, target, seed):
    with ag.config.set(target=target):
        check(name, arrays(name, rows, columns, width, value_width, batch, seed), mask)


@pytest.mark.parametrize("name", ["poincare", "gatv2"])
def test_long_sweeps_and_any_number_of_threads(name):
    given = arrays(name, 1100, 1090, 16)
    with ag.config.set(threads=1):
        one = check(name, given, "causal", tolerance=3e-5)
    for threads in (2, 3):
        with ag.config.set(threads=threads):
            for result, wanted in zip(in_one_pass(name, given, "causal")[1], one, strict=True):
                np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("layout", ["transposed", "strided", "read-only"])
def test_any_layout(layout):
    given = arrays("gatv2", 70, 50, 24)
    if layout == "transposed":
        given[:4] = [np.array(each.swapaxes(-1, -2), order="C").swapaxes(-1, -2) for each in given[:4]]
    elif layout == "strided":
        given = [np.repeat(each, 2, axis=-1)[..., ::2] for each in given]
    else:
        for each in given:
            each.flags.writeable = False
    check("gatv2", given, "causal")


@pytest.mark.parametrize("name", ["poincare", "squared distance", "l1 distance"])
@pytest.mark.parametrize("rows", [1, 2, 5, 8, 9, 20])
def test_few_rows_and_few_columns(name, rows):
    for shape in ((rows, 40), (40, rows)):
        given = arrays(name, *shape, 16)
        found = step(name)(*map(ag.asarray, given))
        with ag.config.set(target="reference64"):
            wanted = ag.compute(*found)
        for result, right in zip(ag.compute(*found), wanted, strict=True):
            np.testing.assert_allclose(result, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrt", [0, 1])
def test_one_gradient_alone_is_a_sum_of_rows(wrt):
    upstream, *given = map(ag.asarray, arrays("poincare", 70, 90, 24))
    found = ag.gradients(PAIRS["poincare"][0](*given), given[wrt], upstream)
    plan = Program(optimize([found.node])).plan
    assert [sweep.totals_of_columns for sweep in plan.sweeps] == [[]] * len(plan.sweeps)
    assert plan.sweeps[-1].paired
    with ag.config.set(target="reference64"):
        wanted = found.compute()
    np.testing.assert_allclose(found.compute(), wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_what_rows_bring_alone_leaves_the_sum():
    rng = np.random.default_rng(0)
    q, k, v = (ag.asarray(rng.standard_normal((2, 50, 16), dtype="float32")) for _ in range(3))
    found = ag.sum((q @ k.mT)[..., None] * q[:, :, None, :] * v[:, None], axis=-2)
    (sweep,) = Program(optimize([found.node])).plan.sweeps
    assert not sweep.paired
    with ag.config.set(target="reference64"):
        wanted = found.compute()
    np.testing.assert_allclose(found.compute(), wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_no_array_of_pairs_is_made():
    lazy = [ag.placeholder((1, 8, 2048, 64)) for _ in range(4)]
    report = ag.explain(list(step("poincare")(*lazy)))
    assert report.memory.peak_bytes < 4 * 8 * 2048 * 2048 / 3  # a third of the scores


# --- digits


def errors(name, given):
    """The errors of our gradients and of torch's float32, relative to the largest, from the same formula in float64."""
    torch = pytest.importorskip("torch")

    def distance(q, k):
        square = ((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1)
        if name == "squared distance":
            return square
        shrunk = [1 - (each.double() ** 2).sum(-1) for each in (q, k)]
        z = 2 * square * (1 / shrunk[0]).to(q.dtype)[..., :, None] * (1 / shrunk[1]).to(q.dtype)[..., None, :]
        return torch.log1p(z + torch.sqrt(z * (z + 2)))

    def gradients(dtype):
        upstream, *others = (torch.from_numpy(each).to(dtype) for each in given)
        others = [each.requires_grad_() for each in others]
        out = (-distance(*others[:2])).softmax(-1) @ others[2]
        return [each.double().numpy() for each in torch.autograd.grad(out, others, upstream)]

    wanted, theirs = gradients(torch.float64), gradients(torch.float32)
    ours = ag.compile(step(name))(*given)[1:]
    for mine, other, right in zip(ours, theirs, wanted, strict=True):
        size = np.abs(right).max()
        yield np.abs(mine - right).max() / size, np.abs(other - right).max() / size


def spread(kind, rng):
    """Points some of which are near each other, or near the boundary, or anywhere."""
    q, k = (rng.standard_normal((1, 2, 80, 32)) for _ in range(2))
    if kind == "boundary":
        return [(each / np.linalg.norm(each, axis=-1, keepdims=True) * 0.99).astype("float32") for each in (q, k)]
    if kind == "near":
        k = q + 1e-4 * k / np.sqrt(32)
    return [(each * 0.06).astype("float32") for each in (q, k)]


@pytest.mark.parametrize("name", ["poincare", "squared distance"])
@pytest.mark.parametrize(("kind", "most"), [("anywhere", 2), ("near", 2), ("boundary", 3)])
def test_gradients_have_the_digits_of_differences(name, kind, most):
    """Near the boundary what moves a point outwards is a hundred times the rest, and cancels in a softmax.

    So much of its gradient is rounding errors, of which torch's sum of ``P dP`` makes fewer than ours of ``dO O``.
    """
    draws = []
    for seed in range(7):
        rng = np.random.default_rng(seed)
        value, upstream = (rng.standard_normal((1, 2, 80, 32), dtype="float32") for _ in range(2))
        draws.append([mine / (theirs + 1e-7) for mine, theirs in errors(name, [upstream, *spread(kind, rng), value])])
    assert (np.median(draws, axis=0) <= most).all()


@pytest.mark.parametrize("name", ["poincare", "euclidean distance", "l1 distance"])
def test_gradients_are_finite_where_points_coincide(name):
    given = arrays(name, 40, 40, 16)
    given[2][..., :20, :] = given[1][..., :20, :]
    for result in check(name, given):
        assert np.isfinite(result).all()


# --- what is in doubt


@pytest.mark.parametrize("mask", ["full", "causal", "holes"])
@pytest.mark.parametrize("name", ["squared distance", "l1 distance", "weighted distance"])
def test_what_overflows_on_the_way_is_computed_with_care(name, mask):
    given = arrays(name, 140, 150, 16)
    given[0][0, 0, 5] = 1e30
    given[3][0, 0, 4] = 1e20  # their product is beyond float32, and weighed by next to nothing
    given[2][0, 0, 4] = 30
    check(name, given, mask)


@pytest.mark.parametrize("mask", MASKS)
def test_sums_of_columns_that_overflow_on_the_way_are_computed_with_care(mask):
    given = arrays("column bias", 140, 150, 16)
    given[0][0, 0, 5] = 1e30
    given[3][0, 0, 4] = 1e20
    given[4][0, 0, 4] = -300
    check("column bias", given, mask)


@pytest.mark.parametrize("mask", ["full", "causal"])
@pytest.mark.parametrize("name", ["squared distance", "l1 distance", "gatv2"])
def test_what_is_beyond_float32_is_as_the_interpreter_has_it(name, mask):
    given = arrays(name, 40, 50, 16)
    given[1][0, 0, 5] = HALF
    given[2][0, 0, 4] *= 1e20
    visible = MASKS[mask](ag.arange(40)[:, None], ag.arange(50))
    found = step(name, visible)(*map(ag.asarray, given))
    results = ag.compute(*found)
    with ag.config.set(target="reference"):
        for result, wanted in zip(results, ag.compute(*found), strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["squared distance", "gatv2", "column bias"])
def test_hidden_keys_and_values_may_hold_anything(name):
    given = arrays(name, 40, 50, 16)
    given[2][..., 2, :] = np.nan
    given[3][..., 2, :] = np.inf
    _, dq, dk, dv, *_ = check(name, given, "no row 3")
    for hidden in (dk[..., 2, :], dv[..., 2, :], dq[..., 3, :]):
        assert not hidden.any()


def test_careful_rows_are_taken_some_at_a_time(monkeypatch):
    given = arrays("squared distance", 140, 150, 16)
    found, wanted = in_one_pass("squared distance", given, "causal")
    made = Program(optimize([each.node for each in found]))
    monkeypatch.setattr(kernels.Magnitudes, "may_overflow", lambda *_: True)
    for result, right in zip(made.run({}, config.settings(), check_finite=False), wanted, strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())
