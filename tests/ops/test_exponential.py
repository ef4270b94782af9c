import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES
from elementwise import (
    Row,
    check_floats,
    check_row,
    check_shapes_and_layouts,
    check_values,
    each_row,
    each_target,
    special,
    under,
)


def rsqrt(x):
    return 1 / np.sqrt(x)


ROWS = [
    Row("exp", np.exp, ulps=1, low=-80, high=80),
    Row("exp2", np.exp2, ulps=1, low=-100, high=100),
    Row("expm1", np.expm1, ulps=1, low=-5, high=5),
    Row("log", np.log, ulps=1, low=0),
    Row("log1p", np.log1p, ulps=1, low=-0.9),
    Row("log2", np.log2, ulps=1, low=0),
    Row("log10", np.log10, ulps=1, low=0),
    Row("sqrt", np.sqrt, low=0),
    Row("rsqrt", rsqrt, ulps=1.5, low=0.01),
    Row("logaddexp", np.logaddexp, ulps=1, low=0, high=80, operands=2, ulps64=32),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each_row(ROWS)
def test_every_value_and_type(row, dtype):
    check_values(row, dtype)


@each_row(ROWS)
def test_every_shape_and_layout(row):
    check_shapes_and_layouts(row)


@each_row([row for row in ROWS if row.operands == 1])
@given(st.data())
def test_any_float32(row, draw):
    numbers = draw.draw(st.lists(st.floats(width=32), min_size=1, max_size=8))
    check_row(row, np.array(numbers, np.float32))


@each_row([row for row in ROWS if row.operands == 1])
def test_near_one_and_zero(row):
    # Where expm1, log1p and log lose everything if they are put together from others.
    steps = np.float32([-1e-3, -1e-6, -1e-12, -1e-30, -1e-45, 1e-45, 1e-30, 1e-12, 1e-6, 1e-3])
    check_row(row, steps)
    check_row(row, 1 + steps)
    check_row(row, np.float64([-1e-3, -1e-12, -1e-300, 1e-300, 1e-12, 1e-3]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_logaddexp_with_nothing(dtype):
    x = special(dtype)
    with np.errstate(all="ignore"):
        check_floats(ag.logaddexp(ag.asarray(x), -ag.inf), x, dtype)
        check_floats(ag.logaddexp(-ag.inf, ag.asarray(x)), x, dtype)
    check_floats(
        ag.logaddexp(ag.asarray(x[:1]), np.full((2, 1), -np.inf).astype(x.dtype)), np.broadcast_to(x[:1], (2, 1)), dtype
    )


OVERFLOWS = [
    (lambda e, x: e(x) / e(x - 1), [100.0, 500.0], [math.e, math.e]),
    (lambda e, x: e(x) * e(-x), [100.0, -100.0], [1.0, 1.0]),
    (lambda e, x: e(x) - e(x), [100.0, 300.0], [0.0, 0.0]),
    (lambda e, x: 1 / (1 + e(x)), [100.0, -100.0], [math.exp(-100), 1.0]),
    (lambda e, x: e(x) / (1 + e(x)), [100.0, 700.0], [1.0, 1.0]),
    (lambda e, x: ag.log(e(x)), [100.0, 700.0], [100.0, 700.0]),
    (lambda e, x: ag.sqrt(e(x)), [100.0, 120.0], [math.exp(50), math.exp(60)]),
    (lambda e, x: ag.minimum(e(x), 1.0), [100.0, 700.0], [1.0, 1.0]),
    (lambda e, x: ag.log(1 + e(x)), [100.0, 700.0], [100.0, 700.0]),
    (lambda e, x: ag.log1p(e(x)), [100.0, 700.0], [100.0, 700.0]),
]


@pytest.mark.parametrize("number", range(len(OVERFLOWS)))
def test_what_overflows_in_float32_is_answered_from_float64(number):
    form, x, exact = OVERFLOWS[number]
    check_floats(form(ag.exp, ag.asarray(np.float32(x))), exact, "float32", ulps=1)


@each_target
def test_overflow_is_no_infinity(target):
    x = np.float32([100.0, 1000.0])
    np.testing.assert_array_equal(under(target, lambda: ag.isinf(ag.exp(ag.asarray(x)))), [False, True])
    np.testing.assert_array_equal(under(target, lambda: ag.exp(ag.asarray(x)) > 1e40), [True, True])


SCORES = np.float32([[1.0, 2.0, -3.0], [-1000.0, -1000.0, -1001.0], [1000.0, 999.0, 1001.0], [-np.inf, 0.0, -np.inf]])


@pytest.mark.parametrize("sink", [0.0, 1.0, 0.25, -0.5])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logarithms_of_sums_of_exponentials_are_taken_in_one(sink, keepdims):
    # As written they overflow from 89 on, and underflow below -104.
    def form(x):
        total = ag.sum(ag.exp(ag.asarray(x)), axis=-1, keepdims=keepdims)
        return ag.log(sink + total) if sink else ag.log(total)

    scores = SCORES.astype(np.longdouble)
    with np.errstate(invalid="ignore"):
        exact = np.log(sink + np.exp(scores).sum(axis=-1, keepdims=keepdims)).astype(np.float64)
    check_floats(form(SCORES[:1]), exact[:1], "float32", ulps=1)
    check_floats(form(SCORES[3:]), exact[3:], "float32", ulps=1)
    if sink < 0:
        return  # no logarithm of a sink: it is computed as written
    with ag.config.set(target="native"):
        np.testing.assert_allclose(form(SCORES).compute(), exact, rtol=1e-6)


def test_log1p_of_a_sum_of_exponentials():
    exact = np.log1p(np.exp(SCORES.astype(np.longdouble)).sum(axis=-1)).astype(np.float64)
    with ag.config.set(target="native"):
        result = ag.log1p(ag.sum(ag.exp(ag.asarray(SCORES)), axis=-1)).compute()
    np.testing.assert_allclose(result, exact, rtol=1e-6)


@each_target
def test_the_logarithm_of_an_empty_sum(target):
    nothing = np.zeros((2, 0), np.float32)
    result = under(target, lambda: ag.log(ag.sum(ag.exp(ag.asarray(nothing)), axis=1)))
    np.testing.assert_array_equal(result, [-np.inf, -np.inf])


@each_target
def test_a_score_of_minus_infinity_weighs_nothing(target):
    # By the contract's one exception to IEEE: hidden positions add nothing to a sum, whatever stands there.
    scores = np.float32([[0.0, -np.inf], [-np.inf, -np.inf]])
    values = np.float32([2.0, np.nan])
    result = under(target, lambda: ag.sum(ag.exp(ag.asarray(scores)) * ag.asarray(values), axis=1))
    np.testing.assert_array_equal(result, [2.0, 0.0])
