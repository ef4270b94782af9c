import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, INTEGERS, check, check_raises
from elementwise import Row, check_floats, check_row, check_shapes_and_layouts, check_values, each_row

ROWS = [
    Row("floor", np.floor, lambda a: a),
    Row("ceil", np.ceil, lambda a: a),
    Row("trunc", np.trunc, lambda a: a),
    Row("round", np.rint, lambda a: a),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each_row(ROWS)
def test_every_value_and_type(row, dtype):
    check_values(row, dtype)


@each_row(ROWS)
def test_every_shape_and_layout(row):
    check_shapes_and_layouts(row)


@each_row(ROWS)
def test_ties_and_large_numbers(row):
    halves = np.arange(-5, 5.5, 0.5)
    check_row(row, halves.astype(np.float32))
    check_row(row, np.float32([2**23 + 0.5, 2**23 - 0.5, -(2**23) + 0.5, 2**24 + 1, 0.49999997, -0.49999997, 1e30]))
    check_row(row, np.float64([2**52 + 0.5, 2**52 - 0.5, 0.49999999999999994, -0.49999999999999994]))


@pytest.mark.parametrize("decimals", [1, 2, 3, 7, -1, -2, -3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_decimals(dtype, decimals):
    x = np.random.default_rng(0).uniform(-2000, 2000, 200).astype(dtype)
    for spelled in (ag.round, np.round, lambda a, d: a.round(d), lambda a, d: np.around(a, decimals=d)):
        # A tie in one precision may be none in another: a step of the last decimal place is no error.
        result = spelled(ag.asarray(x), decimals).compute()
        assert result.dtype == x.dtype
        np.testing.assert_array_equal(result, np.round(x, decimals))


@given(st.floats(-1e308, 1e308), st.integers(-308, 308))
def test_any_number_of_decimals_leaves_a_number_near(x, decimals):
    result = float(ag.round(ag.asarray(np.float64([x])), decimals).compute()[0])
    assert np.isfinite(result)
    assert abs(result - x) <= 0.5000001 * 10.0**-decimals + 1e-15 * abs(x)


def test_decimals_of_what_is_large_or_no_number():
    x = np.float64([1e308, -1e308, np.inf, -np.inf, np.nan, 0.0, -0.0])
    check_floats(ag.round(ag.asarray(x), 2), x, "float64", signs=True)
    # Not the neighbour in the array decides: alone, float32 would do the work.
    check_floats(ag.round(ag.asarray(np.float32([3e38, -3e38])), 3), np.float32([3e38, -3e38]), "float32")
    check_floats(ag.round(ag.asarray(np.float16([0.126, 1000, 65504])), 2), [0.13, 1000, 65504], "float16")
    check_floats(ag.round(ag.asarray(x[:2]), -308), [1e308, -1e308], "float64", ulps=1)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_whole_numbers_have_no_decimals(dtype):
    x = np.array([np.iinfo(dtype).min, 0, np.iinfo(dtype).max], dtype)
    check(ag.round(ag.asarray(x), 3), x)
    assert ag.compute(ag.floor(ag.asarray(x))).dtype == dtype
    check_raises(ag.DTypeError, "round: takes float arrays where decimals is -1", ag.round, ag.asarray(x), -1)


@pytest.mark.parametrize("decimals", [400, -309, 1.5, "2", None])
def test_decimals_that_are_none(decimals):
    check_raises(ag.ArgumentError, "round: decimals", ag.round, ag.asarray([1.5]), decimals)


def test_numpys_names():
    x = ag.asarray(np.float32([1.5, -1.5]))
    assert np.rint(x).node is ag.round(x).node
    assert np.fix(x).node is ag.trunc(x).node
    check_raises(ag.DTypeError, "round: takes integer or float", ag.round, ag.asarray([True]))
