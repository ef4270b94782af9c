import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine.types import promote
from checks import DTYPES, FLOATS, INTEGERS, check, check_raises, data, evaluations, wide
from elementwise import (
    Row,
    check_floats,
    check_shapes_and_layouts,
    check_values,
    dtype_of,
    each_row,
    each_target,
    under,
)


def power(base: int, exponent: int) -> int:
    if exponent < 0:
        return base ** (exponent % 2) if abs(base) == 1 else 0
    return pow(base, exponent, 2**64)


ROWS = [
    Row("add", np.add, lambda a, b: a + b, np.logical_or, operands=2),
    Row("subtract", np.subtract, lambda a, b: a - b, operands=2),
    Row("multiply", np.multiply, lambda a, b: a * b, np.logical_and, operands=2),
    Row("divide", np.divide, operands=2),
    Row("floor_divide", np.floor_divide, lambda a, b: a // b if b else 0, operands=2, ulps=1, low=0.5),
    Row("remainder", np.remainder, lambda a, b: a % b if b else 0, operands=2, ulps=1, low=0.5),
    Row("pow", np.power, power, operands=2, ulps=1, low=0.1, high=4),
    Row("maximum", np.maximum, max, np.logical_or, operands=2, signs=False),
    Row("minimum", np.minimum, min, np.logical_and, operands=2, signs=False),
    Row("hypot", np.hypot, operands=2, ulps=1),
    Row("copysign", np.copysign, operands=2),
    Row("negative", np.negative, lambda a: -a),
    Row("positive", np.positive, lambda a: a),
    Row("abs", np.abs, abs, lambda a: a),
    Row("sign", np.sign, lambda a: (a > 0) - (a < 0)),
    Row("square", np.square, lambda a: a * a),
    Row("reciprocal", np.reciprocal),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each_row(ROWS)
def test_every_value_and_type(row, dtype):
    check_values(row, dtype)


@each_row(ROWS)
def test_every_shape_and_layout(row):
    check_shapes_and_layouts(row)


@pytest.mark.parametrize(("left", "right"), [pair for pair in itertools.product(DTYPES, DTYPES) if pair[0] != pair[1]])
def test_two_types_are_computed_in_their_common_one(left, right):
    x, y = data((3, 4), left, 1), data((4,), right, 2)
    try:
        due, _ = promote([ag.asarray(x).node.type, ag.asarray(y).node.type])
    except ag.DTypeError:
        return  # uint64 with a signed integer
    for function in (ag.add, ag.multiply, ag.maximum, ag.less):
        mixed, cast = function(x, ag.asarray(y)), function(x.astype(due), y.astype(due))
        assert mixed.dtype == cast.dtype
        np.testing.assert_array_equal(wide(mixed.compute()), wide(cast.compute()))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_divided_by_zero_give_zero_and_the_least_by_minus_one_wraps(dtype):
    limits = np.iinfo(dtype)
    x = np.array([limits.min, 0, 7, limits.max], dtype)
    lazy = ag.asarray(x)
    check(lazy // 0, np.zeros(4, dtype))
    check(lazy % 0, np.zeros(4, dtype))
    check(lazy // ag.asarray(np.zeros(4, dtype)), np.zeros(4, dtype))
    if limits.min < 0:
        check(lazy // -1, np.array([limits.min, 0, -7, -limits.max], dtype))
        check(lazy % -1, np.zeros(4, dtype))
        check(-lazy, np.array([limits.min, 0, -7, -limits.max], dtype))
        check(abs(lazy), np.array([limits.min, 0, 7, limits.max], dtype))


@given(st.data(), st.sampled_from(INTEGERS))
def test_quotient_and_remainder_belong_together(draw, dtype):
    limits = np.iinfo(dtype)
    numbers = st.lists(st.integers(limits.min, limits.max), min_size=1, max_size=4)
    x, y = (np.array(draw.draw(numbers), dtype) for _ in range(2))
    left, right = ag.asarray(x[:, None]), ag.asarray(y[None, :])
    quotient, remainder, back = ag.compute(left // right, left % right, left // right * right + left % right)
    zero = np.broadcast_to(y == 0, quotient.shape)
    np.testing.assert_array_equal(back[~zero], np.broadcast_to(x[:, None], quotient.shape)[~zero])
    assert not quotient[zero].any()
    assert not remainder[zero].any()
    # It floors: the remainder has the divisor's sign, or is 0, and is smaller.
    assert all(
        r == 0 or ((r > 0) == (d > 0) and abs(int(r)) < abs(int(d)))
        for r, d in zip(remainder.T, y, strict=True)
        for r in r
        if d
    )


def test_powers_of_integers_that_no_integer_is():
    base = np.array([-128, -2, -1, 0, 1, 2, 127], np.int8)
    check(ag.asarray(base) ** np.full(7, -1, np.int8), np.array([0, 0, -1, 0, 1, 0, 0], np.int8))
    check(ag.asarray(base) ** np.full(7, -128, np.int8), np.array([0, 0, 1, 0, 1, 0, 0], np.int8))
    check(2 ** ag.asarray(base), np.array([0, 0, 0, 1, 2, 4, 0], np.int8))
    check(ag.asarray(base) ** 0, np.ones(7, np.int8))
    check_raises(ag.DTypeError, r"pow: int8\[7\] to the power -1: cast the base", lambda: ag.asarray(base) ** -1)
    check_raises(ag.DTypeError, "pow: takes integer or float", lambda: ag.asarray([True]) ** ag.asarray([True]))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 0.5, -1.0, -0.5, 1.0, 2.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_powers_written_in_the_program(dtype, exponent):
    x = np.array([-2.5, -1, -0.0, 0.0, 0.3, 1, 7, np.inf, -np.inf, np.nan], dtype)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), exponent)
    check_floats(ag.asarray(x) ** exponent, exact, dtype, ulps=1)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nextafter_steps_in_the_stored_type(dtype):
    kind = dtype_of(dtype)
    x = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1.0, np.inf, np.nan], kind)
    y = np.array([1.0, -1.0, 2.0, 0.0, 0.5, -np.inf, 1.0, 0.0, 1.0], kind)
    for result in evaluations(ag.nextafter(ag.asarray(x), y)).values():
        np.testing.assert_array_equal(result.astype(np.float64), np.nextafter(x, y).astype(np.float64))
    assert ag.nextafter(ag.asarray(x), 2.0).dtype == kind


def test_what_overflows_on_the_way_is_answered_from_float64():
    big = np.float32([3e38, -3e38])
    x, exact = ag.asarray(big), big.astype(np.float64)
    check_floats(x * x / x, exact, "float32")
    check_floats((x + x) - x, exact, "float32")
    check_floats(x * 4 * 0.25, exact, "float32")
    check_floats(ag.square(x) * 0, [0, 0], "float32")
    check_floats(ag.reciprocal(x * 1e30) * 1e38, 1e8 / exact, "float32", ulps=2)
    check_floats(ag.hypot(x, x) / 2, [math.hypot(*big[:1], *big[:1]) / 2] * 2, "float32", ulps=1)
    half = np.float16([60000, -60000])
    check_floats(ag.asarray(half) * 2 - half, half, "float16")
    check_floats(ag.asarray(half) * ag.asarray(half) / half, half, "float16")


@pytest.mark.parametrize("target", ["native", "reference"])
def test_what_overflows_in_the_end_is_infinite(target):
    big = np.float32([3e38, -3e38])
    expected = np.float32([np.inf, np.inf])
    np.testing.assert_array_equal(under(target, lambda: ag.asarray(big) * big), expected)
    np.testing.assert_array_equal(under(target, lambda: ag.hypot(ag.asarray(big), big)), expected)


@each_target
def test_beside_trouble_integers_keep_their_digits(target):
    # NaN anywhere in the graph sends all of it on the careful path, which knows hidden positions.
    number = np.array([2**60 + 1, 2, -(2**62) + 1])
    kept = ag.where(ag.asarray([True, False, True]), ag.asarray(number), 0)
    wrong = ag.asarray(np.float32([np.nan]))
    results = [kept + 1, kept - 1, 1 - kept, kept * 3, kept + kept, (kept + 1) >> 1, (kept + 1) // 0, -(kept + 1)]
    expected = np.where([True, False, True], number, 0)
    with ag.config.set(target=target):
        for lazy in results:
            beside, _ = ag.compute(lazy, wrong * wrong)
            np.testing.assert_array_equal(beside, lazy.compute())
            assert beside.dtype == np.int64
        np.testing.assert_array_equal(ag.compute(kept + 1, wrong * wrong)[0], expected + 1)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_float_functions_of_numpy_on_integers(dtype):
    x = np.array([np.iinfo(dtype).min, 0, 3, 100], dtype)
    check(np.fabs(ag.asarray(x)), np.abs(x.astype(np.float64)), dtype="float32", roundings=1)
    check(np.float_power(ag.asarray(x), 2), np.float_power(x, 2))
    check(np.float_power(2, ag.asarray(x[1:])), np.float_power(2, x[1:]))
    check(ag.asarray(x) / 2, x.astype(np.float64) / 2, dtype="float32", roundings=1)


def test_float_power_is_float64():
    x = np.float32([0.1, 3.0])
    check(np.float_power(ag.asarray(x), x), np.float_power(x, x))


CLIPS = [
    ("float32", -0.5, 0.5, "float32"),
    ("float32", None, 0.5, "float32"),
    ("float32", 0.5, None, "float32"),
    ("float32", None, None, "float32"),
    ("float32", 2.0, -2.0, "float32"),
    ("float32", np.float64(-0.5), np.array(0.5), "float32"),
    ("float16", 0.1, 0.2, "float16"),
    ("int8", -1, 2, "int8"),
    ("int8", -1.5, 2.5, "float32"),
    ("uint8", 1, 2, "uint8"),
    ("bool", 0, 1, "int64"),
]


@pytest.mark.parametrize(("dtype", "low", "high", "due"), CLIPS)
def test_clip(dtype, low, high, due):
    x = np.array([0, 1, 2, 3] if dtype in ("uint8", "bool") else [-3, -1, 0, 3]).astype(dtype)
    exact = x.astype(np.float64)
    for bound, choose in ((low, np.maximum), (high, np.minimum)):
        exact = exact if bound is None else choose(exact, float(bound))
    for lazy in (ag.clip(ag.asarray(x), low, high), ag.asarray(x).clamp(min=low, max=high)):
        if due in FLOATS:
            check_floats(lazy, exact, due)
        else:
            check(lazy, exact.astype(due))


def test_clip_keeps_nan_and_spreads():
    x = np.float32([[np.nan], [1.0]])
    check(ag.clip(ag.asarray(x), 0, 2), x)
    check(ag.clip(ag.asarray(x[1:]), np.float32([0, 1, 2, np.nan]), 5), np.float32([[1, 1, 2, np.nan]]))
    check_raises(ag.DTypeError, "an integer does not fit uint8", ag.clip, ag.asarray(np.uint8([1])), -5, 300)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.0, 2.0, -4.0, 0.1, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("values", [[0.0, -0.0, 1.5, -2.5, 1e-42], [1e-3, 3e38, np.inf, -np.inf, np.nan]])
def test_scalars_that_are_simplified_away_change_nothing(values, value):
    x = np.float32(values)
    forms = [
        lambda a: a + value,
        lambda a: value + a,
        lambda a: a - value,
        lambda a: value - a,
        lambda a: a * value,
        lambda a: value * a,
        lambda a: a / value,
        lambda a: -(a - value),
        lambda a: a + -(a * value),
        lambda a: value / a if value else a,
        lambda a: a**value if value != 0.1 else a,
    ]
    for form in forms:
        with np.errstate(all="ignore"):
            exact = form(x.astype(np.float64)) if math.isfinite(value) else form(x)
        check_floats(form(ag.asarray(x)), exact, "float32", ulps=1.5)


@pytest.mark.parametrize("power", [-1074, -1022, -200, -15, -14, -1, 0, 14, 15, 200, 1023])
def test_division_by_powers_of_two_is_exact(power):
    x = np.array([5e-324, 1e-310, 1e-20, 1.0, 3.0, 1e20, 1e308])
    for divisor in (2.0**power, -(2.0**power)):
        with np.errstate(all="ignore"):
            exact = x / divisor
        check_floats(ag.asarray(x) / divisor, exact, "float64", ulps=0)
        if abs(power) <= 126:  # beyond, the divisor is no float32
            narrow = np.float32([1e-45, 1e-20, 1.0, 3.0, 1e20, 3e38])
            check_floats(ag.asarray(narrow) / divisor, narrow.astype(np.float64) / divisor, "float32")


def test_spread_constants_keep_their_shape():
    x = ag.asarray(np.float32([[1, 2]]))
    for lazy in (
        x + ag.zeros((3, 2)),
        ag.zeros((3, 2)) + x,
        x - ag.zeros((3, 2)),
        x * ag.ones((3, 2)),
        x / ag.ones((3, 1)),
    ):
        check(lazy, np.float32([[1, 2]] * 3))
    check(x ** ag.ones((3, 2)), np.float32([[1, 2]] * 3))
    check(x ** ag.full((3, 1), 2.0), np.float32([[1, 4]] * 3))
