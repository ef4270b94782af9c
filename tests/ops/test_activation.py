import math

import numpy as np
import pytest
from scipy import special as scipy_special

import attngraph as ag
from checks import DTYPES, FLOATS, check, check_raises
from elementwise import Row, check_floats, check_shapes_and_layouts, check_values, dtype_of, each_row, special


def gelu(x):
    return x / 2 * scipy_special.erfc((-x / math.sqrt(2)).astype(np.float64))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softplus(x, beta=1.0):
    return np.logaddexp(beta * x, 0) / beta


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ROWS = [
    Row("sigmoid", lambda x: 1 / (1 + np.exp(-x)), ulps=1, low=-80),
    Row("relu", lambda x: np.maximum(x, 0), lambda a: max(a, 0), lambda a: a, signs=False),
    Row("leaky_relu", lambda x: np.where(x > 0, x, x * 0.01), ulps=1.5),
    Row("elu", elu, ulps=1, signs=False),
    Row("softplus", softplus, ulps=1, low=-80),
    Row("silu", lambda x: x / (1 + np.exp(-x)), ulps=2, low=-80),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each_row(ROWS)
def test_every_value_and_type(row, dtype):
    check_values(row, dtype)


@each_row(ROWS)
def test_every_shape_and_layout(row):
    check_shapes_and_layouts(row)


WITH_OPTIONS = [
    (lambda x: ag.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, x * 0.2)),
    (lambda x: ag.leaky_relu(x, negative_slope=-1), np.abs),
    (lambda x: ag.elu(x, 2.5), lambda x: elu(x, 2.5)),
    (lambda x: ag.elu(x, alpha=0.0), lambda x: np.maximum(x, 0)),
    (lambda x: ag.softplus(x, 2.0), lambda x: softplus(x, 2)),
    (lambda x: ag.softplus(x, beta=0.1), lambda x: softplus(x, 0.1)),
    (lambda x: ag.sigmoid(-x) + ag.sigmoid(x), np.ones_like),
    (lambda x: ag.silu(x) - x * ag.sigmoid(x), np.zeros_like),
]


@pytest.mark.parametrize("number", range(len(WITH_OPTIONS)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_options(dtype, number):
    ours, exact = WITH_OPTIONS[number]
    x = np.random.default_rng(1).uniform(-30, 30, 300).astype(dtype)
    check_floats(ours(ag.asarray(x)), exact(x.astype(np.float64)), dtype, ulps=4)


@pytest.mark.parametrize(("approximate", "exact"), [("none", gelu), ("tanh", gelu_tanh)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_to_rounding_of_its_argument(dtype, approximate, exact):
    x = np.linspace(-9, 9, 2001).astype(dtype_of(dtype))
    lazy = ag.gelu(ag.asarray(x), approximate=approximate)
    wide = x.astype(np.float64)
    # Left of -3 the factor 1 + erf cancels: the error is small beside x, not beside the result.
    epsilon = max(float(np.finfo(np.float32).eps), 2.0**-8 if dtype == "bfloat16" else float(np.finfo(dtype).eps))
    epsilon = 2e-16 if dtype == "float64" else epsilon
    assert lazy.dtype == x.dtype
    np.testing.assert_allclose(lazy.compute().astype(np.float64), exact(wide), rtol=2 * epsilon, atol=9 * epsilon)
    with ag.config.set(target="reference64"):
        np.testing.assert_allclose(lazy.compute(), exact(wide), rtol=1e-15, atol=1e-14)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_far_out(approximate):
    x = np.float32([-1e20, -100, -20, 0, 20, 100, 1e20, np.inf, np.nan])
    check_floats(ag.gelu(ag.asarray(x), approximate), [0, 0, 0, 0, *x[4:]], "float32")
    huge = np.float32([-3e38, 3e38])
    check_floats(ag.gelu(ag.asarray(huge), approximate), [0, huge[1]], "float32")


@pytest.mark.parametrize("name", ["silu", "gelu", "softplus", "sigmoid", "elu"])
def test_no_overflow_and_no_nan_for_finite_numbers(name):
    x = special("float32")
    x = x[np.isfinite(x)]
    assert np.isfinite(getattr(ag, name)(ag.asarray(x)).compute()).all()


def test_relu_keeps_type_and_nan():
    for dtype in DTYPES:
        assert ag.relu(ag.asarray(special(dtype))).dtype == dtype_of(dtype)
    check(ag.relu(ag.asarray(np.float32([np.nan, -np.inf, np.inf]))), np.float32([np.nan, 0, np.inf]))
    check(ag.relu(-3), np.array(0))


def test_a_wrong_option_is_named():
    check_raises(ag.ArgumentError, 'gelu: approximate is "none" or "tanh", not', ag.gelu, [1.0], "exact")
