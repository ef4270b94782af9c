import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, TARGETS, check, check_raises, data, shapes_for, wide
from strategies import LAYOUTS, laid_out, shapes

FAMILY = ("softmax", "log_softmax", "logsumexp")


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_family_equals_scipys(name, dtype):
    special = pytest.importorskip("scipy.special")
    due = dtype if dtype in FLOATS else "float32"
    for shape in shapes_for(dtype):
        x = data(shape, dtype)
        if not x.size:
            continue  # SciPy refuses
        for axis in range(-len(shape), len(shape)):
            expected = getattr(special, name)(wide(x).astype(float), axis=axis)
            check(getattr(ag, name)(ag.asarray(x), axis), expected, dtype=due, roundings=4, scale=1)
        if name == "logsumexp":
            for axis, keepdims in ((None, False), (None, True), (tuple(range(len(shape))), True)):
                total = special.logsumexp(wide(x).astype(float).ravel())
                expected = np.reshape(total, [1] * (len(shape) if keepdims else 0))
                check(ag.logsumexp(x, axis, keepdims=keepdims), expected, dtype=due, roundings=4, scale=1)


@given(shape=shapes(least=1, lengths=(1, 2, 5)), layout=st.sampled_from(LAYOUTS), shift=st.sampled_from((0, 80, -3e4)))
def test_rows_sum_to_one_wherever_they_lie(shape, layout, shift):
    x = laid_out(data(shape) + np.float32(shift), layout)
    for axis in range(len(shape)):
        weights = ag.softmax(x, axis)
        check(weights.sum(axis), np.ones(shape[:axis] + shape[axis + 1 :]), dtype="float32", roundings=8)
        check(ag.exp(ag.log_softmax(x, axis)) - weights, np.zeros(shape), dtype="float32", roundings=4, scale=1)
        total = ag.logsumexp(x, axis, keepdims=True) + ag.log_softmax(x, axis)
        check(total, wide(x), dtype="float32", roundings=8, scale=abs(shift) + 4)


@pytest.mark.parametrize("largest", [1e4, 1e38, np.finfo(np.float32).max])
def test_huge_values_do_not_overflow(largest):
    x = np.float32([[largest, largest, -largest], [0, -largest, -largest]])
    check(ag.softmax(x), np.float32([[0.5, 0.5, 0], [1, 0, 0]]))
    check(ag.logsumexp(x, 1), np.float32([np.float32(largest) + (np.log(2) if largest < 1e5 else 0), 0]))
    check(ag.log_softmax(x)[1, :1], np.float32([0]))


def test_scores_that_overflow_on_the_way_are_float64s():
    q = np.full((2, 4), np.finfo(np.float32).max / 2, np.float32)
    k = np.concatenate([q, q[:, :] * np.float32(0.5)])
    check(ag.softmax(ag.asarray(q) @ k.T), np.float32([[0.5, 0.5, 0, 0]] * 2))


INF = np.inf
EMPTY_ROWS = np.float32([[-INF, -INF, -INF], [-INF, 1, -INF], [0, 0, -INF]])


def test_a_line_of_minus_infinity_alone():
    ln2 = np.log(2)
    check(ag.softmax(EMPTY_ROWS), np.float32([[0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]))
    check(ag.log_softmax(EMPTY_ROWS), np.float32([[-INF] * 3, [-INF, 0, -INF], [-ln2, -ln2, -INF]]))
    check(ag.logsumexp(EMPTY_ROWS, 1), np.float32([-INF, 1, ln2]))
    check(ag.logsumexp(EMPTY_ROWS[:1]), np.float32(-INF))
    check(ag.softmax(EMPTY_ROWS, 0).sum(0), np.float32([1, 1, 0]))
    masked = ag.where(ag.zeros((2, 3), dtype=bool), data((2, 3)), -ag.inf)
    check(ag.softmax(masked), np.zeros((2, 3), np.float32))
    check(ag.softmax(masked) @ np.full((3, 2), np.nan, np.float32), np.zeros((2, 2), np.float32))


def test_an_empty_line():
    check(ag.softmax(np.zeros((2, 0))), np.zeros((2, 0)))
    check(ag.softmax(np.zeros((0, 2))), np.zeros((0, 2)))
    check(ag.log_softmax(np.zeros((2, 0))), np.zeros((2, 0)))
    check(ag.logsumexp(np.zeros((2, 0)), 1), np.full(2, -INF))
    check(ag.logsumexp(np.zeros((2, 0)), 0), np.zeros(0))


def test_infinity_and_nan():
    check(
        ag.logsumexp(np.float32([[INF, 1], [INF, -INF], [INF, INF], [np.nan, 1]]), 1), np.float32([INF] * 3 + [np.nan])
    )
    check(ag.softmax(np.float32([[np.nan, 1], [0, 0]])), np.float32([[np.nan, np.nan], [0.5, 0.5]]))
    assert np.isnan(ag.softmax(np.float32([INF, 1])).compute()[0])


def test_a_bias_of_finfo_min_is_a_number():
    least = np.finfo(np.float32).min
    check(ag.softmax(ag.asarray(data((2, 4))) + least), np.full((2, 4), 0.25, np.float32))
    check(ag.softmax(ag.where(ag.zeros(4, dtype=bool), data((2, 4)), least)), np.full((2, 4), 0.25, np.float32))
    nan_values = np.full((4, 2), np.nan, np.float32)
    assert np.isnan((ag.softmax(ag.where(ag.arange(4) > 0, data((2, 4)), least)) @ nan_values).compute()).all()


def test_written_by_hand_it_is_the_same():
    scores = ag.where(ag.tril(ag.ones((5, 5), dtype=bool)), data((5, 5)), -ag.inf)
    weights = ag.exp(scores - ag.max(scores, -1, keepdims=True))
    weights = weights / ag.sum(weights, -1, keepdims=True)
    check(weights - ag.softmax(scores), np.zeros((5, 5)), dtype="float32", roundings=4, scale=1)
    total = ag.log(ag.sum(ag.exp(scores), -1))
    check(total - ag.logsumexp(scores, -1), np.zeros(5), dtype="float32", roundings=4, scale=4)


@pytest.mark.parametrize("target", TARGETS)
def test_the_logarithm_of_a_sum_that_overflows(target):
    x = np.float32([[500, 499], [-500, -499]])
    with ag.config.set(target=target):
        result = ag.log(ag.sum(ag.exp(ag.asarray(x)), -1)).compute()
    np.testing.assert_allclose(result, np.logaddexp(x[:, 0].astype(float), x[:, 1]), rtol=1e-6)


def test_against_torch():
    torch = pytest.importorskip("torch")
    for x in (data((3, 4, 5)), EMPTY_ROWS[1:], data((3, 4), "bfloat16").astype(np.float32)):
        for axis in (0, -1):
            given = torch.from_numpy(x)
            for name in ("softmax", "log_softmax", "logsumexp"):
                ours, theirs = getattr(ag, name)(given, axis), getattr(torch, name)(given.double(), axis).numpy()
                # A line of -inf alone is NaN there.
                theirs = np.nan_to_num(theirs, nan=-INF if name == "log_softmax" else 0, neginf=-INF)
                check(ours, theirs, dtype="float32", roundings=4, scale=1)


def test_errors():
    x = data((2, 3))
    for name in ("softmax", "log_softmax"):
        check_raises(ag.ShapeError, f"{name}: axis 2", getattr(ag, name), x, 2)
        check_raises(ag.ShapeError, "0-d array has no axis", getattr(ag, name), 1.0)
        check_raises(ag.ShapeError, "axis is an integer", getattr(ag, name), x, None)
        check_raises(ag.ShapeError, "axis is an integer", getattr(ag, name), x, (0, 1))
    check_raises(ag.ShapeError, "logsumexp: axis -3", ag.logsumexp, x, -3)
    check_raises(ag.DTypeError, "softmax", ag.softmax, "text")
