import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, INTEGERS, check, check_raises
from elementwise import Row, check_row, check_shapes_and_layouts, check_values, dtype_of, each_row, each_target, special

COMPARISONS = [
    Row("equal", np.equal, lambda a, b: a == b, np.equal, operands=2),
    Row("not_equal", np.not_equal, lambda a, b: a != b, np.not_equal, operands=2),
    Row("less", np.less, lambda a, b: a < b, np.less, operands=2),
    Row("less_equal", np.less_equal, lambda a, b: a <= b, np.less_equal, operands=2),
    Row("greater", np.greater, lambda a, b: a > b, np.greater, operands=2),
    Row("greater_equal", np.greater_equal, lambda a, b: a >= b, np.greater_equal, operands=2),
]
LOGIC = [
    Row("logical_and", np.logical_and, lambda a, b: bool(a and b), np.logical_and, operands=2),
    Row("logical_or", np.logical_or, lambda a, b: bool(a or b), np.logical_or, operands=2),
    Row("logical_xor", np.logical_xor, lambda a, b: bool(a) != bool(b), np.logical_xor, operands=2),
    Row("logical_not", np.logical_not, lambda a: not a, np.logical_not),
    Row("isnan", np.isnan, lambda a: False, np.zeros_like),
    Row("isinf", np.isinf, lambda a: False, np.zeros_like),
    Row("isfinite", np.isfinite, lambda a: True, np.ones_like),
    Row("signbit", np.signbit, lambda a: a < 0, np.zeros_like),
]
BITS = [
    Row("bitwise_and", None, lambda a, b: a & b, np.logical_and, operands=2),
    Row("bitwise_or", None, lambda a, b: a | b, np.logical_or, operands=2),
    Row("bitwise_xor", None, lambda a, b: a ^ b, np.logical_xor, operands=2),
    Row("bitwise_invert", None, lambda a: ~a, np.logical_not),
]


@pytest.mark.parametrize("dtype", DTYPES)
@each_row(COMPARISONS + LOGIC + BITS)
def test_every_value_and_type(row, dtype):
    check_values(row, dtype)


@each_row(COMPARISONS + LOGIC + BITS)
def test_every_shape_and_layout(row):
    check_shapes_and_layouts(row)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts_beyond_the_width_move_every_bit_out(dtype):
    x, bits = special(dtype), np.iinfo(dtype).bits

    def left(value: int, count: int) -> int:
        return value << count if 0 <= count < bits else 0

    def right(value: int, count: int) -> int:
        return value >> count if 0 <= count < bits else -(value < 0)

    shifts = [Row("bitwise_left_shift", None, left, operands=2), Row("bitwise_right_shift", None, right, operands=2)]
    for row in shifts:
        check_row(row, x[:, None], x[None, :])
        counts = np.array([0, 1, bits - 1, bits, bits + 1], dtype)
        check_row(row, x[:, None], counts[None, :])
    if bits == 64:
        check(ag.asarray(x) << 64, np.zeros_like(x))
    for given_, name in ((ag.asarray(special("bool")), "bool"), (ag.asarray(special("float32")), "float32")):
        check_raises(ag.DTypeError, f"takes integer arrays, not {name}", lambda lazy=given_: lazy << lazy)


@each_row(COMPARISONS)
@given(st.data(), st.sampled_from(["float16", "bfloat16", "float32", "float64"]))
def test_a_number_of_the_program_is_compared_as_its_neighbour_stores_it(row, draw, dtype):
    # 0.1 is no float16, float32 or bfloat16; yet an array of 0.1 equals it, as in NumPy and torch.
    number = draw.draw(st.floats(-100, 100))
    x = np.array([number, 0.1, 0.0]).astype(dtype_of(dtype))
    stored = float(np.array(number).astype(dtype_of(dtype)))
    expected = getattr(np, row.name)(x.astype(np.float64), stored)
    check(getattr(ag, row.name)(ag.asarray(x), number), expected)
    check(getattr(ag, row.name)(ag.asarray(x), np.float64(number)), expected)
    flipped = getattr(np, row.name)(stored, x.astype(np.float64))
    check(getattr(ag, row.name)(number, ag.asarray(x)), flipped)


@each_target
def test_trouble_elsewhere_changes_no_comparison(target):
    x = ag.asarray(np.float32([0.1, 0.7, 1.0]))
    wrong = ag.asarray(np.float32([np.nan])) * 2
    with ag.config.set(target=target):
        for lazy in (x == 0.1, x <= 0.7, x < 0.7, x == ag.asarray(np.array(0.7, np.float32)), x > np.float64(0.1)):
            np.testing.assert_array_equal(ag.compute(lazy, wrong)[0], lazy.compute())
        np.testing.assert_array_equal((x == 0.1).compute(), [True, False, False])


def test_integers_that_do_not_fit_compare_by_value():
    for dtype, number in itertools.product(["int8", "uint8", "int16", "uint16", "int32", "uint32"], [300, -300, 2**40]):
        x = special(dtype)
        exact = [int(value) for value in x]
        check(ag.asarray(x) < number, np.array([value < number for value in exact]))
        check(ag.asarray(x) == number, np.array([value == number for value in exact]))
        check(number >= ag.asarray(x), np.array([value <= number for value in exact]))
    check(ag.asarray(np.uint64([0, 2**64 - 1])) == 2**64 - 1, np.array([False, True]))
    check_raises(ag.DTypeError, "less: an integer does not fit", lambda: ag.asarray(np.uint64([1])) < -1)
    check_raises(ag.DTypeError, "less: an integer does not fit", lambda: ag.asarray(np.int64([1])) < 2**63)
    check_raises(
        ag.DTypeError, "equal: no integer type holds", lambda: ag.asarray(np.int64([1])) == ag.asarray(np.uint64([1]))
    )


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "int64", "uint64", "bool"])
def test_turned_comparisons_and_double_negation_keep_nan(dtype):
    x = special(dtype)
    wide = x.astype(np.float64) if dtype == "bfloat16" else x
    left, right = ag.asarray(x[:, None]), ag.asarray(x[None, :])
    for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
        expected = getattr(np, name)(wide[:, None], wide[None, :])
        lazy = getattr(ag, name)(left, right)
        check(ag.logical_not(lazy), ~expected)
        check(~lazy, ~expected)
        check(~~lazy, expected)
        check(ag.logical_not(ag.logical_not(lazy)), expected)
        check(lazy ^ True, ~expected)


def test_numbers_count_as_true_where_they_are_not_zero():
    x = np.float32([0.0, -0.0, 1e-45, np.nan, np.inf, -2])
    check(ag.logical_and(ag.asarray(x), True), x != 0)
    check(ag.logical_or(ag.asarray(x), 0), x != 0)
    check(ag.logical_not(ag.asarray(x)), x == 0)
    check(ag.logical_xor(ag.asarray(x), np.arange(6)), np.logical_xor(x, np.arange(6)))
    check_raises(ag.DTypeError, "bitwise_and: takes boolean or integer", lambda: ag.asarray(x) & ag.asarray(x))


def test_numpys_and_torchs_names():
    x = ag.asarray(np.int8([1, 2]))
    assert np.invert(x).node is np.bitwise_not(x).node is (~x).node is ag.bitwise_invert(x).node
    assert np.left_shift(x, 1).node is ag.bitwise_left_shift(x, 1).node
    assert np.right_shift(x, 1).node is ag.bitwise_right_shift(x, 1).node
    assert x.ge(1).node is (x >= 1).node
    assert x.ne(1).node is (x != 1).node
