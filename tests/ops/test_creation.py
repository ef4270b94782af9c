import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, SHAPES, check, check_raises, data


@given(start=st.integers(-9, 9), stop=st.integers(-9, 9), step=st.integers(-4, 4).filter(bool))
def test_ranges_of_integers_equal_numpy(start, stop, step):
    check(ag.arange(start, stop, step), np.arange(start, stop, step))
    check(ag.arange(start), np.arange(start))
    check(ag.arange(start, stop, dtype="int8"), np.arange(start, stop, dtype="int8"))
    check(ag.arange(start, stop, step, dtype="float64"), np.arange(start, stop, step, dtype=float))


@pytest.mark.parametrize("bounds", [(0.5, 4), (0, 1, 0.1), (1, 0, -0.25), (3.0,), (0, -1, 0.5), (2, 2.0), (0, 10, 0.1)])
def test_ranges_of_floats_are_computed_in_float64(bounds):
    expected = np.arange(*bounds)
    check(ag.arange(*bounds), expected, dtype="float32")
    check(ag.arange(*bounds, dtype="float64"), expected, roundings=1, scale=1)


def test_bounds_may_be_any_integers():
    check(ag.arange(np.int8(3)), np.arange(3))
    check(ag.arange(np.array(3), np.uint64(5)), np.arange(3, 5))
    check(ag.arange(2**62, 2**62 + 3), np.arange(2**62, 2**62 + 3))
    check(ag.arange(-(2**63), -(2**63) + 2), np.arange(-(2**63), -(2**63) + 2))
    assert ag.arange(10**15).shape == (10**15,)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_constants_equal_numpy(shape, dtype):
    due = ag.asarray(0).astype(dtype).dtype
    check(ag.zeros(shape, dtype=dtype), np.zeros(shape, due))
    check(ag.ones(shape, dtype=dtype), np.ones(shape, due))
    check(ag.full(shape, 1, dtype=dtype), np.ones(shape, due))
    x = data(shape, dtype)
    check(ag.zeros_like(x), np.zeros(shape, due))
    check(ag.ones_like(ag.asarray(x)), np.ones(shape, due))
    check(ag.full_like(x, 1), np.ones(shape, due))
    check(ag.full_like(x, 2, dtype="float64"), np.full(shape, 2.0))
    check(np.ones_like(ag.asarray(x)), np.ones(shape, due))


def test_float32_is_the_default():
    assert ag.zeros(2).dtype == ag.ones(()).dtype == ag.full(3, 0.5).dtype == ag.arange(0.5).dtype == np.float32
    assert ag.full(3, 1).dtype == ag.arange(3).dtype == np.int64
    assert ag.full(3, True).dtype == np.bool_
    assert ag.full(3, np.float64(1)).dtype == np.float64


def test_a_value_may_be_lazy_and_special():
    check(ag.full((2,), ag.asarray(np.float32(3)) * 2), np.full(2, 6, np.float32))
    check(ag.full((2,), -ag.inf), np.full(2, -np.inf, np.float32))
    check(ag.full((2,), ag.nan, dtype="float16"), np.full(2, np.nan, np.float16))
    check(ag.full((2,), 2**63, dtype="uint64"), np.full(2, 2**63, np.uint64))
    check(ag.full((2,), -1.5, dtype="int8"), np.full(2, -1, np.int8))
    assert ag.newaxis is None
    assert (ag.pi, ag.inf) == (np.pi, np.inf)


def test_nothing_is_stored():
    huge = ag.ones((10**6, 10**6, 100)) * ag.arange(100)
    assert huge.shape == (10**6, 10**6, 100)
    assert ag.zeros((10**9, 10**9)).size == 10**18


def test_every_placeholder_is_distinct():
    first, second = ag.placeholder((2,), name="x"), ag.placeholder((2,), name="x")
    assert first.node is not second.node
    assert (first.shape, first.dtype) == ((2,), np.float32)
    assert ag.placeholder((), "bfloat16").dtype.name == "bfloat16"
    assert (first - first).node is (first - first).node
    with pytest.raises(ag.ArgumentError, match=r"placeholder 'x' of type float32\[2\] has no data"):
        (first + 1).compute()


@pytest.mark.parametrize("target", FLOATS)
def test_types_are_named_in_many_ways(target):
    dtype = ag.zeros(1, dtype=target).dtype
    assert ag.zeros(1, dtype=dtype).dtype == dtype
    assert ag.zeros(1, dtype=dtype.type).dtype == dtype


def test_types_of_torch():
    torch = pytest.importorskip("torch")
    assert ag.zeros(1, dtype=torch.bfloat16).dtype.name == "bfloat16"
    assert ag.ones(torch.zeros(2, 3).shape).shape == (2, 3)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.ArgumentError, "steps of 0", lambda: ag.arange(0, 5, 0)),
        (ag.ArgumentError, "bounds are finite", lambda: ag.arange(0, ag.inf)),
        (ag.ArgumentError, "bounds are finite", lambda: ag.arange(ag.nan)),
        (ag.ArgumentError, "bounds are numbers, not 'a'", lambda: ag.arange("a")),
        (ag.ArgumentError, "bounds are numbers now", lambda: ag.arange(ag.asarray(3))),
        (ag.ArgumentError, "does not fit 64-bit", lambda: ag.arange(2**63, 2**63 + 2)),
        (ag.ArgumentError, "does not fit 64-bit", lambda: ag.arange(-(2**70), 0)),
        (ag.ArgumentError, "does not fit 64-bit", lambda: ag.arange(0, 1e300, 1e-300)),
        (ag.ShapeError, "negative length", lambda: ag.zeros(-1)),
        (ag.ShapeError, "negative length", lambda: ag.ones((2, -1))),
        (ag.ShapeError, "made of integers, not 2.0", lambda: ag.zeros(2.0)),
        (ag.ShapeError, "made of integers", lambda: ag.zeros("ab")),
        (ag.ShapeError, "made of integers", lambda: ag.zeros((2, None))),
        (ag.ShapeError, "the value is a scalar", lambda: ag.full(2, [1, 2])),
        (ag.DTypeError, "300 does not fit int8", lambda: ag.full(2, 300, dtype="int8")),
        (ag.DTypeError, "-1 does not fit uint8", lambda: ag.full_like(np.zeros(2, np.uint8), -1)),
        (ag.DTypeError, "not supported", lambda: ag.zeros(2, dtype="complex128")),
        (ag.DTypeError, "not supported", lambda: ag.zeros(2, dtype=object)),
        (ag.DTypeError, "is no data type", lambda: ag.zeros(2, dtype="float33")),
        (ag.DTypeError, "name is a string", lambda: ag.placeholder((2,), name=3)),
        (ag.ShapeError, "negative length", lambda: ag.placeholder((-2,))),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call)
