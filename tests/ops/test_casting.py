import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, INTEGERS, check, check_raises, evaluations, wide
from elementwise import check_floats, dtype_of, each_target, special, wrap
from strategies import LAYOUTS, laid_out


def saturated(value: float, target: str) -> int:
    limits = np.iinfo(target)
    if math.isnan(value):
        return 0
    if math.isinf(value):
        return limits.max if value > 0 else limits.min
    return min(max(int(value), limits.min), limits.max)


def converted(x: np.ndarray, target: str) -> np.ndarray:
    """What a cast is defined to give, by Python's numbers; floats in float64."""
    source = x.dtype.name
    if target == "bool":
        return wide(x) != 0
    if target in FLOATS:
        return x.astype(np.float64)
    if source in FLOATS:
        return np.array([saturated(float(each), target) for each in x.ravel()], target).reshape(x.shape)
    return wrap([int(each) for each in x.ravel()], np.dtype(target), x.shape)


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("source", DTYPES)
def test_every_pair_of_types(source, target):
    x = special(source)
    lazy = ag.asarray(x).astype(target)
    expected = converted(x, target)
    if target not in FLOATS:
        check(lazy, expected)
        return
    for name, result in evaluations(lazy).items():
        due = np.dtype(np.float64) if name == "reference64" else dtype_of(target)
        with np.errstate(all="ignore"):
            rounded = x.astype(due)  # NumPy rounds once, 64-bit integers too
        np.testing.assert_array_equal(wide(result), wide(rounded), name)
        assert result.dtype == due


@given(st.lists(st.floats(), min_size=1, max_size=9), st.sampled_from(INTEGERS))
def test_floats_become_the_nearest_integer_that_fits(numbers, target):
    x = np.array(numbers)
    check(ag.asarray(x).astype(target), converted(x, target))


@pytest.mark.parametrize("target", INTEGERS)
def test_the_edges_of_every_integer_type(target):
    limits = np.iinfo(target)
    edges = [float(limits.min), float(limits.max), float(limits.max) + 1, float(limits.min) - 1, 0.999, -0.999]
    x = np.array([value for edge in edges for value in (edge, np.nextafter(edge, 1e30), np.nextafter(edge, -1e30))])
    check(ag.asarray(x).astype(target), converted(x, target))


@pytest.mark.parametrize("shape", [(), (0,), (1, 3), (2, 0, 3)])
@pytest.mark.parametrize("target", ["int8", "float16", "bool"])
def test_every_shape(shape, target):
    x = np.full(shape, 2.75, np.float32)
    lazy = ag.asarray(x).astype(target)
    (check_floats(lazy, x, target) if target in FLOATS else check(lazy, x.astype(target)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    x = np.arange(-6, 6, dtype=np.float32).reshape(3, 4) * 50.5
    check(ag.asarray(laid_out(x, layout)).astype("int8"), converted(x, "int8"))
    check(ag.asarray(laid_out(x.astype(np.int16), layout)).astype("uint8"), x.astype(np.int16).astype(np.uint8))


@pytest.mark.parametrize("target", ["native", "reference"])
def test_an_explicit_cast_rounds_at_once(target):
    x = np.float32([0.1, 1 + 2**-12, 70000.0])
    with ag.config.set(target=target), np.errstate(all="ignore"):
        through = ag.asarray(x).astype("float16").astype("float32").compute()
        np.testing.assert_array_equal(through, x.astype(np.float16).astype(np.float32))
        bits = ag.asarray(np.float64([0.1, 1e300])).astype("float32").astype("float64").compute()
        np.testing.assert_array_equal(bits, np.float64([0.1, 1e300]).astype(np.float32).astype(np.float64))
        scalar = (ag.asarray(0.1) + 0).astype("float16").astype("float32")
        assert scalar.compute() == np.float16(0.1)
        # Beside trouble, where all floats are float64, too.
        beside, _ = ag.compute(ag.asarray(x).astype("float16") * 1.0, ag.asarray(np.float32([np.nan])) * 2)
        np.testing.assert_array_equal(beside, x.astype(np.float16))


@pytest.mark.parametrize("target", ["native", "reference"])
def test_a_scalar_argument_keeps_its_digits_until_it_is_cast(target):
    with ag.config.set(target=target):
        assert ag.compile(lambda s: s.astype("float64"))(0.1) == 0.1
        assert ag.compile(lambda s: s.astype("float32").astype("float64"))(0.1) == np.float32(0.1)
        assert ag.compile(lambda s, x: x * s)(0.1, np.array([1.0])) == 0.1


def test_scalars_are_rounded_where_a_type_is_asked_for():
    check(ag.asarray(0.1).astype("float32").astype("float64"), np.float64(np.float32(0.1)))
    check(ag.asarray(0.1, "float32").astype("float64"), np.float64(np.float32(0.1)))
    check(ag.asarray(0.1).astype("float64"), np.float64(0.1))
    check(ag.asarray(0.1, "float64"), np.float64(0.1))
    check_floats(ag.asarray(1e10).astype("float16") * 1e-10, np.inf, "float16")
    check(ag.asarray(300).astype("int8"), np.int8(44))
    check(ag.asarray(-1).astype("uint64"), np.uint64(2**64 - 1))
    check(ag.asarray(1e30).astype("int64"), np.int64(2**63 - 1))
    check(ag.asarray(math.nan).astype("int32"), np.int32(0))
    check(ag.asarray(math.nan).astype("bool"), np.bool_(True))
    check(ag.asarray(2.0).astype("int8").astype("bool"), np.bool_(True))


@each_target
def test_integers_beyond_two_to_the_24th_become_the_nearest_float32(target):
    x = np.array([2**24 + 1, 2**53 + 1, -(2**62) - 1, 2**63 - 1])
    with ag.config.set(target=target):
        result = (ag.asarray(x) * 1.0).compute()
    due = np.float64 if target == "reference64" else np.float32
    np.testing.assert_array_equal(result, x.astype(due))


def test_casts_that_change_nothing_are_no_nodes():
    x = ag.asarray(np.float32([1, 2]))
    assert x.astype("float32").node is x.node
    assert x.astype(np.float32).node is x.node
    assert x.astype(float).node is x.node  # Python's float is the default float
    assert x.astype("float64").astype("float64").node is x.astype("float64").node
    assert x.astype(x.dtype.newbyteorder(">")).node is x.node


TYPES = [
    (bool, "bool"),
    (int, "int64"),
    (float, "float32"),
    ("float64", "float64"),
    (np.float16, "float16"),
    ("bfloat16", "bfloat16"),
    (np.dtype("<u2"), "uint16"),
    (np.dtype(">i4"), "int32"),
    (np.longlong, "int64"),
    (np.intp, "int64"),
]


@pytest.mark.parametrize(("given_", "name"), TYPES)
def test_names_of_types(given_, name):
    assert ag.astype(ag.asarray([1]), given_).dtype == dtype_of(name)


@pytest.mark.parametrize(
    "wrong",
    ["complex64", np.complex128, object, str, "U3", "datetime64[s]", np.longdouble, "int4", "nonsense", 3.5, [1]],
)
def test_types_that_are_not_supported(wrong):
    check_raises(ag.DTypeError, "is not supported; supported are bool|is no data type", ag.asarray([1]).astype, wrong)


def test_scalars_that_do_not_fit_an_integer_type():
    small = ag.asarray(np.uint8([1]))
    for form in (lambda: small + 300, lambda: small * -1, lambda: 256 - small, lambda: small + np.int64(300)):
        check_raises(ag.DTypeError, "an integer does not fit uint8", form)
    check(small + 255, np.uint8([0]))
    check_raises(ag.DTypeError, "int64 and uint64", lambda: ag.asarray(np.int64([1])) + ag.asarray(np.uint64([1])))
    check_raises(ag.DTypeError, "does not fit 64 bits", lambda: small + 2**64)
