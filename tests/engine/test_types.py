import itertools
import operator

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine.types import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT64,
    SUPPORTED,
    TensorType,
    as_dtype,
    broadcast,
    carrier,
    category,
    is_float,
    is_integer,
    promote,
)

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
# torch.result_type of arrays of the row's and the column's type, as torch 2.13 gives it.
GRID = """
bool     uint8    int8     int16    int32    int64    float16  bfloat16 float32 float64
uint8    uint8    int16    int16    int32    int64    float16  bfloat16 float32 float64
int8     int16    int8     int16    int32    int64    float16  bfloat16 float32 float64
int16    int16    int16    int16    int32    int64    float16  bfloat16 float32 float64
int32    int32    int32    int32    int32    int64    float16  bfloat16 float32 float64
int64    int64    int64    int64    int64    int64    float16  bfloat16 float32 float64
float16  float16  float16  float16  float16  float16  float16  float32  float32 float64
bfloat16 bfloat16 bfloat16 bfloat16 bfloat16 bfloat16 float32  bfloat16 float32 float64
float32  float32  float32  float32  float32  float32  float32  float32  float32 float64
float64  float64  float64  float64  float64  float64  float64  float64  float64 float64
"""
TORCHS = {
    (left, right): due
    for left, row in zip(NAMES, GRID.strip().splitlines(), strict=True)
    for right, due in zip(NAMES, row.split(), strict=True)
}
# Where torch defines nothing: unsigned integers, as NumPy has them.
UNSIGNED = {
    ("uint16", "uint8"): "uint16",
    ("uint16", "int8"): "int32",
    ("uint16", "int16"): "int32",
    ("uint16", "int64"): "int64",
    ("uint32", "uint16"): "uint32",
    ("uint32", "int32"): "int64",
    ("uint32", "int64"): "int64",
    ("uint64", "uint8"): "uint64",
    ("uint64", "bool"): "uint64",
    ("uint64", "uint64"): "uint64",
    ("uint64", "float16"): "float16",
    ("uint32", "bfloat16"): "bfloat16",
    ("uint64", "float32"): "float32",
}
KINDS = (False, 0, 0.0)  # by category


def kind(name: str, shape: tuple[int, ...] = (2,)) -> TensorType:
    return TensorType(shape, as_dtype(name))


def zeros(name: str, shape: tuple[int, ...] = (2,)) -> np.ndarray:
    return np.zeros(shape, as_dtype(name))


@pytest.mark.parametrize(("left", "right"), [*TORCHS, *UNSIGNED])
def test_arrays_of_two_types(left, right):
    due = as_dtype({**TORCHS, **UNSIGNED}[left, right])
    for shape in ((2,), ()):
        assert promote([kind(left, shape), kind(right, shape)]) == (due, False)
        assert promote([kind(right, shape), kind(left, shape)]) == (due, False)
        assert ag.maximum(ag.asarray(zeros(left, shape)), zeros(right, shape)).dtype == due
    assert np.result_type(ag.asarray(zeros(left)), zeros(right)) == due


def test_the_table_is_torchs():
    torch = pytest.importorskip("torch")

    def tensor(name: str, shape: tuple[int, ...] = (2,)):
        return torch.zeros(shape, dtype=getattr(torch, name))

    def name_of(dtype) -> str:
        return str(dtype).removeprefix("torch.")

    for left, right in TORCHS:
        assert name_of(torch.result_type(tensor(left), tensor(right))) == TORCHS[left, right]
        due, _ = promote([kind(left), kind(right, ())])
        assert due.name == name_of(torch.result_type(tensor(left), tensor(right, ())))
    for name in (*NAMES, "uint16", "uint32", "uint64"):
        for scalar in (*KINDS, np.float64(0)):
            for shape in ((2,), ()):
                lazy = ag.where(True, ag.asarray(zeros(name, shape)), scalar)
                assert lazy.dtype.name == name_of(torch.result_type(tensor(name, shape), scalar)), (name, scalar)


@pytest.mark.parametrize(("left", "right"), [(a, b) for a in NAMES for b in NAMES])
def test_what_has_no_axes_counts_through_its_kind_alone(left, right):
    higher = category(as_dtype(right)) > category(as_dtype(left))
    due = as_dtype(right if higher else left)
    assert promote([kind(left), kind(right, ())]) == (due, False)
    assert promote([kind(right, ()), kind(left)]) == (due, False)
    lazy = ag.maximum(ag.asarray(zeros(left)), ag.asarray(zeros(right, ())))
    assert lazy.dtype == due
    assert lazy.compute().dtype == due


@pytest.mark.parametrize("name", [each.name for each in SUPPORTED])
@pytest.mark.parametrize("scalar", KINDS)
def test_python_scalars_never_widen_within_their_kind(name, scalar):
    dtype = as_dtype(name)
    due = dtype
    if category(as_dtype(type(scalar))) > category(dtype):
        due = FLOAT32 if isinstance(scalar, float) else INT64
    for shape in ((2,), (), (0,)):
        x = ag.asarray(zeros(name, shape))
        for lazy in (ag.maximum(x, scalar), ag.maximum(scalar, x), np.maximum(scalar, x), np.maximum(x, scalar)):
            assert (lazy.dtype, lazy.shape) == (due, shape)
            assert lazy.compute().dtype == due


OPERATORS = [operator.add, operator.mul, operator.truediv, operator.pow, operator.mod, operator.floordiv, operator.sub]
NARROW = ["float16", "bfloat16", "float32"]
SCALARS = [
    2,
    2.0,
    np.float64(2),
    np.float32(2),
    np.float16(2),
    ml_dtypes.bfloat16(2),
    np.int8(2),
    np.uint64(2),
    np.array(2.0),
    np.array(2),
]


@pytest.mark.parametrize(
    "scalar", SCALARS, ids=lambda scalar: f"{type(scalar).__name__}-{getattr(scalar, 'dtype', '')}"
)
@pytest.mark.parametrize("name", NARROW)
def test_numpy_scalars_and_0d_arrays_never_widen_a_float(name, scalar):
    # Also from the left, where NumPy calls __array_ufunc__.
    x = ag.asarray(np.array([1.0, 4.0]).astype(as_dtype(name)))
    for apply in OPERATORS:
        for lazy in (apply(x, scalar), apply(scalar, x)):
            assert isinstance(lazy, ag.Array)
            assert lazy.dtype == as_dtype(name), apply
            assert lazy.compute().dtype == as_dtype(name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_slope_times_a_distance_stays_float32(dtype):
    # A table's element is a float64 scalar, or a lazy gather; the distance is int64.
    slopes = np.array([0.5, 0.25], dtype)
    q, kv = ag.arange(3)[:, None], ag.arange(3)[None, :]
    distance = np.arange(3)[None, :] - np.arange(3)[:, None]
    scalar = slopes[1] * (kv - q)
    assert scalar.dtype == np.float32
    np.testing.assert_array_equal(scalar.compute(), 0.25 * distance)
    scores = ag.asarray(np.ones((3, 3), np.float32))
    assert (scores + slopes[1] * (kv - q)).dtype == np.float32
    assert (scores + (kv - q) * slopes[1]).dtype == np.float32
    gathered = ag.asarray(slopes)[ag.asarray(1)]
    assert gathered.shape == ()
    assert (scores * gathered).dtype == np.float32  # no axes: it does not widen
    assert (gathered * (kv - q)).dtype == dtype  # an integer with a float gives the float's type


def test_scalars_keep_their_digits_until_they_meet_an_array():
    third = ag.asarray(1.0) / 3
    assert third.dtype == np.float32
    np.testing.assert_array_equal((ag.asarray(np.float64([3.0])) * third).compute(), [1.0])
    assert (ag.asarray(np.float64([1.0])) + 0.1).compute()[0] == 1.1
    assert (ag.asarray(np.float64([1.0])) + np.float64(0.1)).compute()[0] == 1.1
    assert ((ag.asarray(0.1) + 0.2) * ag.asarray(np.float64([1.0]))).compute()[0] == 0.1 + 0.2


@given(st.lists(st.sampled_from([name for name in NAMES if name != "bfloat16"]), min_size=3, max_size=5))
def test_the_order_of_several_arrays_does_not_matter(names):
    kinds = [kind(name) for name in names]
    results = {promote(list(order))[0] for order in itertools.islice(itertools.permutations(kinds), 24)}
    assert len(results) == 1
    assert ag.concat([ag.asarray(zeros(name)) for name in names]).dtype in results


@pytest.mark.parametrize("signed", ["int8", "int16", "int32", "int64"])
def test_no_integer_holds_a_uint64_and_a_signed_one(signed):
    for pair in ((kind("uint64"), kind(signed)), (kind(signed), kind("uint64"))):
        with pytest.raises(ag.DTypeError, match="no integer type holds both"):
            promote(pair)
    assert promote([kind("uint64"), kind(signed, ())]) == (np.uint64, False)
    assert promote([kind(signed), kind("uint64", ())]) == (np.dtype(signed), False)


def test_names_of_types():
    assert [as_dtype(each) for each in (bool, int, float)] == [BOOL, INT64, FLOAT32]
    assert as_dtype("bfloat16") == as_dtype(ml_dtypes.bfloat16) == BFLOAT16
    assert as_dtype(np.dtype(">f4")) == FLOAT32
    for each in SUPPORTED:
        assert as_dtype(each) is as_dtype(each.name)
        assert (is_float(each), is_integer(each)) == (category(each) == 2, category(each) == 1)
    for wrong in ("complex64", object, "S3", "nonsense", 3.5, np.dtype([("a", int)]), "M8[s]", np.longdouble):
        with pytest.raises(ag.DTypeError, match=r"no data type|is not supported"):
            as_dtype(wrong)


def test_types_of_torch():
    torch = pytest.importorskip("torch")
    for each in SUPPORTED:
        assert as_dtype(getattr(torch, each.name)) == each
    for wrong in (torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(ag.DTypeError, match=r"not supported|no data type"):
            as_dtype(wrong)


def test_what_a_type_says():
    some = TensorType((2, 3), BFLOAT16)
    assert (some.ndim, some.size, some.nbytes, str(some)) == (2, 6, 12, "bfloat16[2, 3]")
    assert (TensorType((), FLOAT64).size, TensorType((0, 5), FLOAT64).nbytes) == (1, 0)


@pytest.mark.parametrize(
    ("given_", "all64", "due"),
    [
        (TensorType((), FLOAT16), False, FLOAT32),
        (TensorType((), BFLOAT16), False, FLOAT32),
        (TensorType((), FLOAT32), False, FLOAT32),
        (TensorType((), FLOAT32, True), False, FLOAT64),
        (TensorType((), FLOAT64), False, FLOAT64),
        (TensorType((), FLOAT16), True, FLOAT64),
        (TensorType((), INT64), True, INT64),
        (TensorType((), BOOL), True, BOOL),
    ],
)
def test_carriers(given_, all64, due):
    assert carrier(given_, all64=all64) == due


@given(st.lists(st.lists(st.sampled_from((0, 1, 2, 3)), max_size=4).map(tuple), min_size=1, max_size=3))
def test_shapes_broadcast_as_numpys(shapes):
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ag.ShapeError, match=r"some: shapes .* do not broadcast: \d against \d"):
            broadcast("some", *shapes)
        return
    assert broadcast("some", *shapes) == expected
    assert np.float16 == FLOAT16
