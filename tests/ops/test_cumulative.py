import numpy as np
import pytest

import attngraph as ag
from checks import DTYPES, FLOATS, check, check_raises, data, shapes_for, wide
from strategies import LAYOUTS, laid_out


@pytest.mark.parametrize("dtype", DTYPES)
def test_running_sums_equal_numpy(dtype):
    due = dtype if dtype in FLOATS else "uint64" if dtype.startswith("u") else "int64"
    for shape in shapes_for(dtype)[1:]:
        x = data(shape, dtype)
        held = wide(x) if dtype in FLOATS else x.astype(due)
        for axis in range(-len(shape), len(shape)):
            expected = np.cumsum(held, axis=axis)
            check(ag.cumulative_sum(x, axis), expected, dtype=due, roundings=0.01)
            start = np.zeros_like(np.take(held, [], axis=axis), shape=[*shape[:axis], 1, *shape[axis:][1:]])
            lazy = ag.cumulative_sum(ag.asarray(x), axis=axis, include_initial=True)
            check(lazy, np.concatenate([start, expected], axis=axis), dtype=due, roundings=0.01)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    x = laid_out(data((3, 4)), layout)
    check(ag.cumulative_sum(x, 0), np.cumsum(x.astype(float), 0), dtype="float32")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_many_sums_side_by_side(layout, dtype, axis):
    """They take a step together, in the same order."""
    x = laid_out(data((24, 25, 26), dtype), layout)
    check(ag.cumulative_sum(x, axis), np.cumsum(wide(x), axis), dtype=dtype, roundings=0.01)
    check(ag.cumulative_sum(x[:, :0], 1), np.zeros((24, 0, 26)), dtype=dtype)


def test_the_axis_may_be_left_out_for_one_axis():
    check(ag.cumulative_sum([1, 2, 3]), [1, 3, 6])
    check(np.cumsum(ag.asarray([[1, 2], [3, 4]])), [1, 3, 6, 10])
    check(ag.cumulative_sum(np.zeros(0), include_initial=True), np.zeros(1))


def test_it_takes_a_type():
    check(ag.cumulative_sum(np.int8([100, 100])), np.int64([100, 200]))
    check(ag.cumulative_sum(np.int8([100, 100]), dtype="int8"), np.int8([100, -56]))
    check(ag.cumulative_sum(np.int8([1, 2]), dtype="float32", include_initial=True), np.float32([0, 1, 3]))


def test_sums_are_rounded_once_each():
    x = np.float32([2**25, 1, -(2**25)])
    check(ag.cumulative_sum(x), np.cumsum(x.astype(float)), dtype="float32")


def test_nan_and_infinity_stay_from_their_place_on():
    check(ag.cumulative_sum(np.float32([1, np.inf, 1, -np.inf, 1])), np.float32([1, np.inf, np.inf, np.nan, np.nan]))


def test_what_a_mask_hides_adds_nothing():
    x = np.float32([1, np.nan, 2, np.inf])
    seen = np.array([True, False, True, False])
    check(ag.cumulative_sum(ag.where(seen, 1.0, 0) * x), np.float32([1, 1, 3, 3]))
    check(ag.cumulative_sum(ag.asarray(np.float32(seen)) * x), np.float32([1, np.nan, np.nan, np.nan]))


def test_errors():
    x = data((2, 3))
    check_raises(ag.ShapeError, "say along which", ag.cumulative_sum, x)
    check_raises(ag.ShapeError, "say along which", ag.cumulative_sum, 1.0)
    check_raises(ag.ShapeError, "axis 2", ag.cumulative_sum, x, 2)
    check_raises(ag.ShapeError, "axis is an integer", ag.cumulative_sum, x, (0, 1))
