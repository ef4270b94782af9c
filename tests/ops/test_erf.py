import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special as scipy_special

import attngraph as ag
from attngraph.ops.erf import erf_values
from checks import DTYPES
from elementwise import Row, check_row, check_shapes_and_layouts, check_values, each_row


def exact(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64)) if x.size else x


ROWS = [Row("erf", exact, ulps=1, low=-4, high=4)]


@pytest.mark.parametrize("dtype", DTYPES)
@each_row(ROWS)
def test_every_value_and_type(row, dtype):
    check_values(row, dtype)


@each_row(ROWS)
def test_every_shape_and_layout(row):
    check_shapes_and_layouts(row)


@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_any_float32(numbers):
    check_row(ROWS[0], np.array(numbers, np.float32))


@given(st.lists(st.floats(-7, 7) | st.floats(), min_size=1, max_size=50))
def test_any_float64_to_the_last_digits(numbers):
    x = np.array(numbers)
    result, expected = erf_values(x), exact(x)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    known = ~np.isnan(expected)
    error = np.abs(result - expected)[known] / np.maximum(np.abs(expected[known]), 5e-324)
    assert (error <= 8e-16).all()
    np.testing.assert_array_equal(np.signbit(result[known]), np.signbit(x[known]))


def test_the_grid_and_halfway_between_its_points():
    # The series starts at multiples of 1/64 and is worst halfway.
    points = np.arange(-7 * 64, 7 * 64 + 1) / 64
    for x in (points, points + 1 / 128, np.nextafter(points + 1 / 128, 9), np.nextafter(points + 1 / 128, -9)):
        np.testing.assert_allclose(erf_values(x), exact(x), rtol=8e-16, atol=0)


@pytest.mark.parametrize("size", [2**14 - 1, 2**14, 2**14 + 1, 3 * 2**14])
def test_large_arrays_go_in_blocks(size):
    x = np.linspace(-5, 5, size).reshape(-1, 1)[::-1]
    np.testing.assert_allclose(ag.erf(ag.asarray(x)).compute(), scipy_special.erf(x), rtol=8e-16)


def test_scipys_function_stays_lazy():
    x = ag.asarray(np.float32([0.5, -2]))
    assert scipy_special.erf(x).node is ag.erf(x).node
    assert scipy_special.expit(x).node is ag.sigmoid(x).node
