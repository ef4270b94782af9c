import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, check, check_raises, data, evaluations, shapes_for, wide
from strategies import LAYOUTS, laid_out, shapes

SUMS = ("sum", "prod")
EXTREMA = ("max", "min")
PLACES = ("argmax", "argmin")


def accumulated(dtype: str) -> str:
    """What sums and products of a type are: 64 bits, but for floats."""
    return dtype if dtype in FLOATS else "uint64" if dtype.startswith("u") else "int64"


def reduced(name: str, x: np.ndarray, dtype: str, **options: object) -> np.ndarray:
    """NumPy's, in float64."""
    if name in SUMS and dtype not in FLOATS:
        return getattr(np, name)(x, dtype=accumulated(dtype), **options)
    return getattr(np, name)(wide(x), **options)


@pytest.mark.parametrize("name", [*SUMS, *EXTREMA, "all", "any"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_equal_numpy(name, dtype):
    for shape in shapes_for(dtype):
        x = data(shape, dtype)
        for axis in (None, (), *range(-len(shape), len(shape)), *((0, -1), (-2, 0))[: max(len(shape) - 1, 0)]):
            used = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
            if name in EXTREMA and any(shape[each] == 0 for each in used):
                check_raises(ag.ShapeError, f"no {name} of nothing", getattr(ag, name), x, axis)
                continue
            due = "bool" if name in ("all", "any") else accumulated(dtype) if name in SUMS else dtype
            for keepdims in (False, True)[: 1 + (len(shape) % 3 == 0)]:
                lazy = getattr(ag, name)(ag.asarray(x), axis=axis, keepdims=keepdims)
                check(lazy, reduced(name, x, dtype, axis=axis, keepdims=keepdims), dtype=due, roundings=0.01)


@given(st.data())
def test_every_layout_and_any_axes(draw):
    shape = draw.draw(shapes(least=1, lengths=(1, 2, 3)))
    axes = tuple(draw.draw(st.lists(st.integers(0, len(shape) - 1), unique=True)))
    x = laid_out(data(shape), draw.draw(st.sampled_from(LAYOUTS)))
    name = draw.draw(st.sampled_from([*SUMS, *EXTREMA]))
    check(getattr(ag, name)(x, axes), getattr(np, name)(x.astype(float), axis=axes), dtype="float32")


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_places_equal_numpy(name, dtype):
    for shape in shapes_for(dtype):
        x = data(shape, dtype)
        for axis in (None, *range(-len(shape), len(shape))):
            if (x.size if axis is None else shape[axis]) == 0:
                check_raises(ag.ShapeError, "no place in nothing", getattr(ag, name), x, axis)
                continue
            for keepdims in (False, True):
                lazy = getattr(ag, name)(x, axis, keepdims=keepdims)
                check(lazy, getattr(np, name)(wide(x), axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("values", [[1, 3, 3, 1], [np.nan, 5, np.nan], [5, np.nan, -np.inf], [np.inf] * 2, [0.0, -0.0]])
def test_the_first_of_equals_is_the_place_and_nan_beats_all(name, values):
    x = np.float32(values)
    check(getattr(ag, name)(x), getattr(np, name)(x))


SPECIAL = np.float32([[1, np.nan, 2], [np.inf, 1, -np.inf], [-np.inf, -np.inf, -np.inf], [-0.0, -0.0, -0.0]])


@pytest.mark.parametrize("name", [*SUMS, *EXTREMA, "all", "any"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_and_infinities_are_ieees(name):
    for axis in (0, 1, None):
        check(getattr(ag, name)(SPECIAL, axis), getattr(np, name)(SPECIAL, axis=axis))


def test_sums_of_floats_are_rounded_once():
    x = np.full(2**20, 0.1, np.float32)
    assert ag.sum(x).compute() == np.float32(x.astype(float).sum())
    x[:3] = 2**25, 1, -(2**25)
    assert ag.sum(x[:3]).compute() == 1
    assert ag.prod(np.float32([1e30, 1e30, 1e-30, 1e-30])).compute() == np.float32(
        np.prod(np.float32([1e30, 1e30, 1e-30, 1e-30]).astype(float))
    )


def test_half_floats_sum_beyond_their_range_on_the_way():
    x = np.float16([60000, 60000, -60000])
    check(ag.sum(x), np.float16(60000))
    check(ag.sum(x[:2]) / 4, np.float64(30000), dtype="float16")


@pytest.mark.parametrize(
    ("dtype", "total"), [("int8", -100 * 3), ("uint8", 255 * 3), ("bool", 3), ("int32", -3 * 2**31)]
)
def test_small_integers_do_not_wrap(dtype, total):
    x = np.full(3, total // 3).astype(dtype)
    assert ag.sum(x).compute() == total
    assert np.sum(ag.asarray(x)).compute() == total


def test_sum_takes_a_type():
    x = np.float32([1.5, 2.5])
    check(ag.sum(x, dtype="float64"), np.float64(4))
    check(ag.sum(x, dtype="int64"), np.int64(3))
    check(ag.prod(np.int8([100, 2]), dtype="float32"), np.float32(200))
    check(ag.sum(np.int8([100, 100]), dtype=np.int8), np.int8(-56))


def test_methods_and_numpys_functions_are_the_same():
    x = data((3, 4))
    lazy = ag.asarray(x)
    for name in (*SUMS, *EXTREMA, "all", "any", *PLACES):
        expected = getattr(np, name)(x, axis=1)
        for each in (getattr(lazy, name)(1), getattr(lazy, name)(axis=1), getattr(np, name)(lazy, axis=1)):
            np.testing.assert_allclose(each.compute(), expected, rtol=1e-6)
    check(np.add.reduce(lazy), x.astype(float).sum(0), dtype="float32")
    check(lazy.sum(dim=-1, keepdim=True), x.astype(float).sum(1, keepdims=True), dtype="float32")


def test_what_overflows_on_the_way_is_float64s():
    most = np.float32(np.finfo(np.float32).max / 2)
    x = np.float32([most, most, most, -most, -most])
    assert ag.sum(x).compute() == most
    assert (ag.sum(x[:3]) / 3).compute() == most
    for target, result in evaluations(ag.sum(x[:3])).items():
        assert result == (float(most) * 3 if target == "reference64" else np.inf)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.ShapeError, "sum: axis 2 of an array with 2 axes", lambda x: ag.sum(x, 2)),
        (ag.ShapeError, "name an axis twice", lambda x: ag.sum(x, (0, -2))),
        (ag.ShapeError, "axis is an integer", lambda x: ag.max(x, 0.5)),
        (ag.ShapeError, "axis is an integer", lambda x: ag.max(x, "a")),
        (ag.ShapeError, "axis is an integer", lambda x: ag.argmax(x, (0, 1))),
        (ag.ShapeError, "axis 0 of an array with 0 axes", lambda x: ag.min(1.0, 0)),
        (ag.DTypeError, "not supported", lambda x: ag.sum(x, dtype="complex64")),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call, ag.asarray(data((2, 3))))
