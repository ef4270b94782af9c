import numpy as np
import pytest

import attngraph as ag
from checks import DTYPES, FLOATS, check, check_raises, evaluations, wide
from elementwise import SHAPES, check_floats, dtype_of, each_target, special, under
from strategies import LAYOUTS, laid_out


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_and_special_value(dtype):
    x = special(dtype)
    condition = np.arange(x.size) % 3 == 0
    lazy = ag.where(ag.asarray(condition), ag.asarray(x), ag.asarray(x[::-1]))
    expected = np.where(condition, x, x[::-1])
    for target, result in evaluations(lazy).items():
        assert result.dtype == (np.float64 if target == "reference64" and dtype in FLOATS else dtype_of(dtype))
        np.testing.assert_array_equal(wide(result), wide(expected))
        if dtype in FLOATS:
            np.testing.assert_array_equal(np.signbit(wide(result)), np.signbit(wide(expected)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_type_is_a_condition(dtype):
    x = special(dtype)
    check(ag.where(ag.asarray(x), 1, 2), np.where(wide(x) != 0, 1, 2))


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_three_shapes_are_spread_together(left, right):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(left).astype(np.float32), rng.standard_normal(right).astype(np.float32)
    for condition in (rng.integers(0, 2, left) > 0, rng.integers(0, 2, right) > 0, True, False, np.bool_(True)):
        check(ag.where(condition, ag.asarray(x), y), np.where(condition, x, y))
        check(ag.where(condition, 1.5, ag.asarray(y)), np.where(condition, np.float32(1.5), y))
    tall = np.array([[[True]], [[False]]])
    check(ag.where(tall, x, ag.asarray(y)), np.where(tall, x, y))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    lazy = [ag.asarray(laid_out(side, layout)) for side in (x % 3 == 0, x, x.astype(np.int16))]
    check(ag.where(*lazy), np.where(x % 3 == 0, x, x))


TYPES = [
    ("float32", "int64", "float32"),
    ("float16", "float32", "float32"),
    ("float16", "bfloat16", "float32"),
    ("int8", "uint8", "int16"),
    ("bool", "int8", "int8"),
    ("bool", "float16", "float16"),
]


@pytest.mark.parametrize(("left", "right", "due"), TYPES)
def test_branches_are_promoted(left, right, due):
    x, y = np.ones(2).astype(dtype_of(left)), np.zeros(2).astype(dtype_of(right))
    for one, other, expected in ((x, y, [1, 0]), (y, x, [0, 1])):
        lazy = ag.where(np.array([True, False]), ag.asarray(one), other)
        (check_floats(lazy, expected, due) if due in FLOATS else check(lazy, np.array(expected, due)))


def test_scalars_take_the_other_branchs_type():
    condition = np.array([True, False])
    half = ag.asarray(np.float16([1, 2]))
    assert ag.where(condition, half, -ag.inf).dtype == np.float16
    assert ag.where(condition, half, np.float64(3)).dtype == np.float16
    assert ag.where(condition, ag.asarray(np.int8([1, 2])), 3).dtype == np.int8
    assert ag.where(condition, ag.asarray(np.int8([1, 2])), 3.5).dtype == np.float32
    assert ag.where(condition, 1, 2.5).dtype == np.float32
    assert ag.where(condition, 1, 2).dtype == np.int64
    check(ag.where(condition, True, False), condition)
    check(ag.where(True, 1, 2) + half, np.float16([2, 3]))
    check_raises(ag.DTypeError, "where: an integer does not fit int8", ag.where, condition, np.int8([1, 2]), 300)


@each_target
def test_the_branch_not_taken_may_hold_anything(target):
    x = np.float32([4.0, 0.0, -1.0])

    def safe():
        lazy = ag.asarray(x)
        return ag.where(lazy > 0, 1 / lazy + ag.log(lazy) + ag.sqrt(lazy), 0.5)

    np.testing.assert_allclose(under(target, safe), [0.25 + np.log(4) + 2, 0.5, 0.5], rtol=1e-6)


@each_target
def test_what_a_mask_hides_adds_nothing(target):
    visible = np.array([True, False, True])
    x = np.float32([1, np.nan, 2])
    y = np.float32([3, np.inf, 4])

    def masked(value):
        return ag.where(ag.asarray(visible), ag.asarray(x), value)

    assert under(target, lambda: ag.sum(masked(0) * y)) == 11
    assert under(target, lambda: masked(0) @ ag.asarray(y)) == 11
    assert under(target, lambda: ag.sum(ag.exp(masked(-ag.inf)) * y)) == pytest.approx(np.e * 3 + np.e**2 * 4)
    assert under(target, lambda: ag.max(masked(-ag.inf))) == 2
    np.testing.assert_array_equal(under(target, lambda: masked(0)), [1, 0, 2])
    np.testing.assert_array_equal(under(target, lambda: masked(-ag.inf)), [1, -np.inf, 2])
    # Nobody masked here: NaN goes through as IEEE says.
    assert np.isnan(under(target, lambda: ag.sum(ag.asarray(x) * 0)))
    assert np.isnan(under(target, lambda: ag.sum(ag.where(ag.asarray(visible), 1.0, ag.asarray(x)))))
    assert np.isnan(under(target, lambda: ag.sum(masked(1e-30) * ag.asarray(y) + ag.asarray(x))))


@each_target
def test_integers_hidden_by_zero_stay_integers_beside_trouble(target):
    number = np.array([2**62 + 1, 5, -7])
    visible = np.array([True, False, True])
    wrong = ag.asarray(np.float32([np.nan])) * 2

    def masked():
        return ag.where(ag.asarray(visible), ag.asarray(number), 0)

    forms = [masked(), masked() + 1, ag.sum(masked()), ag.abs(masked()) // 3, masked() % 5, masked() | 1, masked() << 1]
    with ag.config.set(target=target):
        for lazy in forms:
            np.testing.assert_array_equal(ag.compute(lazy, wrong)[0], lazy.compute())


def test_choices_known_now_are_made_now():
    x = ag.asarray(np.float32([1, 2]))
    condition = ag.asarray(np.array([True, False]))
    check(ag.where(condition, x, x), np.float32([1, 2]))
    check(ag.where(True, x, 7.0), np.float32([1, 2]))
    check(ag.where(0, x, 7.0), np.float32([7, 7]))
    # The branch that is dropped still gives its shape and type.
    check(ag.where(True, x, np.zeros((2, 1))), np.array([[1.0, 2.0]] * 2))
    check(ag.where(False, np.zeros((3, 2)), x), np.array([[1.0, 2.0]] * 3))
    check(ag.where(ag.asarray(np.zeros((3, 1), bool)), x, x), np.float32([[1, 2]] * 3))


def test_where_inside_where():
    i, j = np.arange(4)[:, None], np.arange(4)[None, :]
    lazy_i, lazy_j = ag.arange(4)[:, None], ag.arange(4)[None, :]
    window = ag.where(lazy_i >= lazy_j, ag.where(lazy_i - lazy_j < 2, 1.0, -ag.inf), -ag.inf)
    check(window, np.where((i >= j) & (i - j < 2), 1.0, -np.inf).astype(np.float32))


def test_shapes_that_do_not_go_together_are_named():
    check_raises(ag.ShapeError, r"where: shapes .*\(2,\).* and .*\(3,\)", ag.where, [True, False], [1.0, 2.0, 3.0], 0)
    check_raises(ag.DTypeError, "where: no integer type holds", ag.where, True, np.uint64([1]), np.int8([1]))
    with pytest.raises(TypeError):
        ag.where(ag.asarray([True]))
