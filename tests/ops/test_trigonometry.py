import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES
from elementwise import Row, check_floats, check_row, check_shapes_and_layouts, check_values, each_row

ROWS = [
    Row("sin", np.sin, ulps=1),
    Row("cos", np.cos, ulps=1),
    Row("tan", np.tan, ulps=1),
    Row("asin", np.arcsin, ulps=1, low=-1, high=1),
    Row("acos", np.arccos, ulps=1, low=-1, high=1),
    Row("atan", np.arctan, ulps=1),
    Row("sinh", np.sinh, ulps=1),
    Row("cosh", np.cosh, ulps=1),
    Row("tanh", np.tanh, ulps=1),
    Row("asinh", np.arcsinh, ulps=1),
    Row("acosh", np.arccosh, ulps=1, low=1),
    Row("atanh", np.arctanh, ulps=1, low=-0.99, high=0.99),
    Row("atan2", np.arctan2, ulps=1, operands=2),
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
    # Large angles too: float32.max radians is a number like any other.
    numbers = draw.draw(st.lists(st.floats(width=32), min_size=1, max_size=8))
    check_row(row, np.array(numbers, np.float32))


@each_row(ROWS[:3])
def test_near_multiples_of_a_quarter_turn(row):
    turns = (np.arange(-20, 21) * (np.pi / 4)).astype(np.float32)
    check_row(row, turns)
    check_row(row, np.float32([1e5, 1e10, 1e20, 3e38]))


@each_row(ROWS[3:12])
def test_near_the_ends_of_the_domain(row):
    steps = np.float32([1e-7, 1e-4, 1e-2])
    check_row(row, np.concatenate([1 - steps, steps - 1, 1 + steps, steps, -steps]))


@pytest.mark.parametrize("name", ["sin", "tanh", "atan", "asinh", "expm1", "erf", "log1p"])
def test_odd_functions_keep_the_sign_of_zero(name):
    check_floats(getattr(ag, name)(ag.asarray(np.float32([0.0, -0.0]))), [0.0, -0.0], "float32", signs=True)


@pytest.mark.parametrize("alias", ["arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "arctan2"])
def test_numpys_names(alias):
    x = ag.asarray(np.float32([0.5]))
    ufunc = getattr(np, alias)
    lazy = ufunc(x, x) if ufunc.nin == 2 else ufunc(x)
    assert lazy.node is getattr(ag, f"a{alias[3:]}")(*([x] * ufunc.nin)).node
