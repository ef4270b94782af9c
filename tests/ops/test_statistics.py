import numpy as np
import pytest

import attngraph as ag
from checks import DTYPES, FLOATS, check, check_raises, data, shapes_for, wide
from strategies import LAYOUTS, laid_out


def cases(dtype):
    axes = [(shape, axis) for shape in shapes_for(dtype) for axis in (None, *range(-len(shape), len(shape)))]
    return [*axes, ((2, 3, 4), (0, -1))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["mean", "var", "std"])
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:Mean of empty", "ignore:Degrees of freedom")
def test_statistics_equal_numpy(name, dtype):
    for shape, axis in cases(dtype):
        x = data(shape, dtype)
        for keepdims in (False, True)[: 1 + (len(shape) % 3 == 0)]:
            expected = getattr(np, name)(wide(x).astype(float), axis=axis, keepdims=keepdims)
            lazy = getattr(ag, name)(ag.asarray(x), axis=axis, keepdims=keepdims)
            check(lazy, expected, dtype=dtype if dtype in FLOATS else "float32", roundings=6, scale=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    x = laid_out(data((3, 4)), layout)
    check(ag.std(x, 0), x.astype(float).std(0), dtype="float32", roundings=4)


@pytest.mark.parametrize("correction", [0, 1, 0.5, 3, 4, 5, 100])
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero", "ignore:Degrees of freedom")
def test_corrections_equal_numpy(correction):
    x = data((3, 4))
    check(ag.var(x, 1, correction=correction), x.astype(float).var(1, ddof=correction), dtype="float32", roundings=4)
    check(ag.std(x, 1, correction=correction), x.astype(float).std(1, ddof=correction), dtype="float32", roundings=4)
    lazy = np.var(ag.asarray(x), axis=1, ddof=correction)
    check(lazy, x.astype(float).var(1, ddof=correction), dtype="float32", roundings=4)


def test_a_large_mean_does_not_swallow_the_variance():
    x = np.float32(1e6) + np.arange(8, dtype=np.float32)
    check(ag.var(x), np.float64(5.25), dtype="float32", roundings=2)


def test_large_values_overflow_only_on_the_way():
    most = np.float32(np.finfo(np.float32).max / 2)
    check(ag.mean(np.full(9, most)), np.float64(most), dtype="float32", roundings=1)
    check(ag.std(np.float32([most, -most] * 4)), np.float64(most), dtype="float32", roundings=1)
    check(ag.mean(np.full(9, 60000, np.float16)), np.float16(60000))


def test_mean_takes_a_type():
    check(ag.mean(np.int32([1, 2]), dtype="float64"), np.float64(1.5))
    check(ag.mean(np.float16([1, 2]), dtype="float32"), np.float32(1.5))


def test_nan_propagates():
    for name in ("mean", "var", "std"):
        check(getattr(ag, name)(np.float32([[1, np.nan], [1, 1]]), 1), np.float32([np.nan, name == "mean"]))


def test_errors():
    check_raises(ag.ShapeError, "mean: axis 2", ag.mean, data((2, 3)), 2)
    check_raises(ag.ShapeError, "var: axis 2", ag.var, data((2, 3)), 2)
    check_raises(ag.DTypeError, "mean", ag.mean, "text")
    check_raises(ag.ArgumentError, "correction is a number", ag.var, data(2), correction="one")
    check_raises(ag.TraceError, "compute", ag.var, data(2), correction=ag.asarray(1))
