import array
import copy
import ctypes
import math
import mmap
import pickle
import random
import sys
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.leaves import Constant, Data
from checks import DTYPES, FLOATS, SHAPES, TARGETS, check, check_raises, data, evaluations, wide
from elementwise import dtype_of, special
from strategies import LAYOUTS, laid_out

PAIR = np.float32([[1, 2, 3], [4, 5, 6]])


def same(lazy: ag.Array, expected: np.ndarray) -> None:
    """The values, and an array that is nobody else's: new, writable, rows first."""
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size) == (
        expected.shape,
        expected.dtype.newbyteorder("="),
        expected.ndim,
        expected.size,
    )
    for target, result in evaluations(lazy).items():
        np.testing.assert_array_equal(wide(result), wide(expected), target)
        assert type(result) is np.ndarray
        assert result.flags.writeable
        assert result.flags.c_contiguous
        assert result.flags.owndata
        assert result.dtype.isnative


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_arrays_of_every_type_and_shape(dtype, shape):
    x = data(shape, dtype)
    same(ag.asarray(x), x)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int16", "bool"])
@pytest.mark.parametrize("layout", [*LAYOUTS, "broadcast", "diagonal"])
def test_numpy_arrays_of_every_layout(layout, dtype):
    x = data((3, 4), dtype)
    given = laid_out(x, layout)
    if layout == "broadcast":
        given = np.broadcast_to(x[:1], (5, 4))
    if layout == "diagonal":
        given = np.lib.stride_tricks.as_strided(x, (3,), (x.strides[0] + x.strides[1],))
    lazy = ag.asarray(given)
    same(lazy, np.array(given, order="C"))
    same(lazy + 0, np.array(given, order="C") + np.zeros((), x.dtype) if dtype != "bool" else (lazy + 0).compute())
    assert not np.shares_memory(lazy.compute(), given)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_value_comes_through(dtype):
    x = special(dtype)
    result = ag.asarray(x).compute()
    np.testing.assert_array_equal(result.view(np.uint8), x.view(np.uint8))


def test_binding_neither_copies_nor_reads():
    x = PAIR.copy()
    lazy = ag.asarray(x)
    assert isinstance(lazy.node, Data)
    assert lazy.node.source is x
    assert ag.asarray(lazy).node is lazy.node
    assert ag.asarray(x).node is lazy.node
    assert ag.asarray(x.view()).node is not lazy.node


def test_changes_in_place_are_seen():
    x = np.zeros(3, np.float32)
    lazy = ag.asarray(x)
    total = ag.sum(lazy * 2)
    assert total.compute() == 0
    x[1] = 5
    assert total.compute() == 10
    x += 1
    np.testing.assert_array_equal(lazy.compute(), [1, 6, 1])
    compiled = ag.compile(lambda y: y + lazy)
    assert compiled(np.ones(3, np.float32))[1] == 7
    x[1] = 0
    assert compiled(np.ones(3, np.float32))[1] == 1


def test_a_result_is_a_snapshot():
    x = np.zeros(3, np.float32)
    lazy = ag.asarray(x)
    before = lazy.compute()
    x[:] = 1
    np.testing.assert_array_equal(before, 0)
    one, other = ag.compute(lazy, lazy)
    assert not np.shares_memory(one, other)
    one[:] = 9
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memmaps(tmp_path, mode):
    path = tmp_path / "numbers.bin"
    PAIR.tofile(path)
    x = np.memmap(path, np.float32, mode, shape=(2, 3))
    lazy = ag.asarray(x)
    same(lazy, PAIR)
    same(ag.asarray(x[:, ::2]), PAIR[:, ::2])
    if mode != "r":
        x[0, 0] = 9
        assert lazy.compute()[0, 0] == 9
    with path.open("r+b") as file:
        file.seek(4)
        file.write(np.float32(-1).tobytes())
    assert lazy.compute()[0, 1] == (-1 if mode != "c" else lazy.node.source[0, 1])


LISTS = [
    ([1, 2, 3], "int64"),
    ([1.5, 2], "float32"),
    ([True, False], "bool"),
    ([True, 2], "int64"),
    ([True, 2.5], "float32"),
    ([], "float32"),
    ([[], []], "float32"),
    ((1, (2.0)), "float32"),
    ([[1, 2], (3, 4)], "int64"),
    ([[[1.0]]], "float32"),
    ([2**63], "uint64"),
    ([-(2**63), 2**63 - 1], "int64"),
    ([math.nan, math.inf, -0.0], "float32"),
    ([0.1, 1e300, 16777217], "float32"),
    ([np.float64(0.1), np.float64(2)], "float64"),
    ([np.int8(1), np.int8(2)], "int8"),
    ([np.float32([1, 2]), np.float32([3, 4])], "float32"),
    ([np.float64([1, 2]), [3, 4]], "float64"),
    ([ml_dtypes.bfloat16(1.5)], "bfloat16"),
]


@pytest.mark.parametrize(("given", "dtype"), LISTS, ids=[repr(given)[:40] for given, _ in LISTS])
def test_lists(given, dtype):
    with np.errstate(all="ignore"):
        same(ag.asarray(given), np.array(given).astype(dtype_of(dtype)))
    assert ag.asarray(given, dtype="float64").dtype == np.float64


def test_a_list_is_read_once():
    given = [1.0, 2.0]
    lazy = ag.asarray(given)
    given[0] = 7.0
    np.testing.assert_array_equal(lazy.compute(), [1, 2])


def test_lists_keep_the_digits_of_the_type_asked_for():
    np.testing.assert_array_equal(ag.asarray([0.1, 0.2], dtype="float64").compute(), [0.1, 0.2])
    np.testing.assert_array_equal(ag.asarray([[2.0**40 + 1]], dtype="int64").compute(), [[2**40 + 1]])
    np.testing.assert_array_equal(ag.asarray([2**62 + 1], dtype="int64").compute(), [2**62 + 1])
    np.testing.assert_array_equal(ag.asarray([0.1], dtype="float16").compute(), np.float16([0.1]))
    assert ag.asarray([0.1], dtype="float64", copy=True).compute()[0] == 0.1


def test_lists_of_lazy_arrays_are_stacked():
    x, y = ag.asarray(PAIR[0]), ag.asarray(np.int8([7, 8, 9]))
    check(ag.asarray([x, y]), np.float32([[1, 2, 3], [7, 8, 9]]))
    check(ag.asarray([[x, y], [y, x]])[1, 0], np.float32([7, 8, 9]))
    check(ag.asarray([ag.asarray(2.0), 1]), np.float32([2, 1]))
    check(ag.asarray([x, [1, 2, 3]], dtype="int32"), np.int32([[1, 2, 3], [1, 2, 3]]))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ([[1, 2], [3]], "ShapeError", "ragged"),
        ([1, [2, 3]], "ShapeError", "ragged"),
        ([[1.0], []], "ShapeError", "ragged"),
        (["a", "b"], "DTypeError", "dtype <U1 is not supported"),
        ([1, "b"], "DTypeError", "is not supported"),
        ([None], "DTypeError", "dtype object is not supported"),
        ([1, None], "DTypeError", "dtype object is not supported"),
        ([1j], "DTypeError", "dtype complex128 is not supported"),
        ([object()], "DTypeError", "dtype object is not supported"),
        ([{1: 2}], "DTypeError", "dtype object is not supported"),
        ([2**64], "DTypeError", "dtype object is not supported"),
        ([2**63, -1], "DTypeError", "no integer type holds"),
        ([[2**63], [-1]], "DTypeError", "no integer type holds"),
        ([np.ma.array([1, 2], mask=[0, 1])], "DTypeError", "masked"),
        ([[np.ma.masked]], "DTypeError", "masked"),
        ([np.datetime64("2020")], "DTypeError", "datetime64"),
    ],
    ids=lambda value: repr(value).split(" at 0x")[0][:30],
)
def test_lists_that_are_no_arrays(given, error, words):
    check_raises(getattr(ag, error), f"asarray: .*{words}", ag.asarray, given)
    check_raises(getattr(ag, error), f"add: .*{words}", lambda: ag.asarray(1) + given)


SCALARS = [
    (True, "bool"),
    (3, "int64"),
    (-(2**63), "int64"),
    (2**63, "uint64"),
    (2.5, "float32"),
    (math.nan, "float32"),
    (-0.0, "float32"),
    (np.bool_(True), "bool"),
    (np.int8(-3), "int8"),
    (np.uint64(2**64 - 1), "uint64"),
    (np.float16(0.1), "float16"),
    (np.float32(0.1), "float32"),
    (np.float64(0.1), "float64"),
    (ml_dtypes.bfloat16(0.1), "bfloat16"),
    (np.longlong(5), "int64"),
    (np.array(0.1), "float64"),
    (np.array(7, np.int8), "int8"),
]


@pytest.mark.parametrize(("given", "dtype"), SCALARS, ids=repr)
def test_scalars(given, dtype):
    lazy = ag.asarray(given)
    assert (lazy.shape, lazy.dtype) == ((), dtype_of(dtype))
    for target, result in evaluations(lazy).items():
        due = np.float64 if target == "reference64" and dtype in FLOATS else dtype_of(dtype)
        np.testing.assert_array_equal(wide(result), wide(np.asarray(given).astype(due)))
        assert np.signbit(wide(result)) == np.signbit(float(given))
        assert result.shape == ()


def test_scalars_of_different_types_are_different_nodes():
    nodes = {ag.asarray(each).node for each in (1, 1.0, True, 0.0, -0.0, np.float64(1), np.int8(1), np.bool_(True))}
    assert len(nodes) == 7  # numpy's bool is Python's
    assert ag.asarray(math.nan).node is ag.asarray(math.nan).node


def test_scalars_that_do_not_fit_the_type_asked_for():
    for given in (300, [300], np.int64(300), [1, [300]][1], [[1], [300]]):
        check_raises(ag.DTypeError, "asarray: 300 does not fit int8", ag.asarray, given, "int8")
    for given in (-1, [-1]):
        check_raises(ag.DTypeError, "asarray: -1 does not fit uint64", ag.asarray, given, dtype="uint64")
    check_raises(ag.DTypeError, "asarray: the integer .* does not fit 64 bits", ag.asarray, 2**64)
    check_raises(ag.DTypeError, "asarray: the integer .* does not fit 64 bits", ag.asarray, -(2**63) - 1)
    check(ag.asarray(300, "uint16"), np.uint16(300))
    check(ag.asarray([True, False], "int8"), np.int8([1, 0]))
    # An array's own integers wrap, as NumPy's astype has it.
    check(ag.asarray(np.array([300]), "int8"), np.int8([44]))


class Shared(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int),)


def buffers() -> dict[str, tuple[Any, np.ndarray]]:
    numbers = array.array("d", [1, 2, 3])
    anonymous = mmap.mmap(-1, 4)
    anonymous[:] = b"\1\2\3\4"
    return {
        "bytes": (b"\1\2\xff", np.uint8([1, 2, 255])),
        "bytearray": (bytearray(b"\1\2"), np.uint8([1, 2])),
        "array.array": (numbers, np.float64([1, 2, 3])),
        "memoryview": (memoryview(numbers)[::-1], np.float64([3, 2, 1])),
        "memoryview of rows": (memoryview(PAIR), PAIR),
        "memoryview cast": (memoryview(b"\1\0\2\0").cast("h"), np.int16([1, 2])),
        "ctypes": ((ctypes.c_float * 3 * 2)(*[(ctypes.c_float * 3)(*row) for row in PAIR]), PAIR),
        "mmap": (anonymous, np.uint8([1, 2, 3, 4])),
    }


@pytest.mark.parametrize("name", buffers())
def test_buffers(name):
    given, expected = buffers()[name]
    same(ag.asarray(given), expected)


def test_changes_of_a_buffer_are_seen():
    numbers = array.array("i", [1, 2])
    lazy = ag.asarray(numbers)
    numbers[0] = 9
    np.testing.assert_array_equal(lazy.compute(), [9, 2])


class Speaks:
    """What offers an array through one protocol alone."""

    def __init__(self, x: np.ndarray, protocol: str) -> None:
        self.x, self.protocol = x, protocol

    def __getattr__(self, name: str) -> Any:
        if name == self.protocol or (self.protocol == "__dlpack__" and name == "__dlpack_device__"):
            return getattr(self.x, name)
        raise AttributeError(name)


class SpeaksDLPack:
    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.x.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.x.__dlpack_device__()


class SpeaksArray:
    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.x if dtype is None else self.x.astype(dtype)


@pytest.mark.parametrize("kind", [SpeaksDLPack, SpeaksArray, lambda x: Speaks(x, "__array_interface__")])
def test_protocols(kind):
    x = np.asfortranarray(PAIR)[:, ::-1]
    lazy = ag.asarray(kind(x))
    same(lazy, np.array(x, order="C"))
    x[0, 0] = 99
    assert lazy.compute()[0, 0] == 99
    check(ag.asarray(PAIR) + kind(x), PAIR + x)


class Subclass(np.ndarray):
    pass


class Ruins:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise ValueError("no numbers today")


@pytest.mark.parametrize(
    "given",
    [
        None,
        "text",
        "",
        1j,
        object(),
        {1, 2},
        {"a": 1},
        range(3),
        (each for each in [1]),
        len,
        Fraction(1, 2),
        random,
        ag,
        Ruins(),
        SpeaksArray(np.array([None])),
        SpeaksArray(np.array("text")),
        array.array("w" if sys.version_info >= (3, 13) else "u", "ab"),
        Shared(3),
        np.array([1 + 2j]),
        np.array([None, 1]),
        np.array(["a"]),
        np.array([b"a"]),
        np.zeros(2, [("a", int), ("b", float)]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "m8[s]"),
        np.zeros(2, np.longdouble),
        np.zeros(2, "V4"),
        np.zeros(2, ml_dtypes.int4),
        np.zeros(2, ml_dtypes.float8_e4m3fn),
        np.complex64(1),
        np.longdouble(1),
        np.datetime64("2020"),
        np.str_("a"),
        np.void(b"abc"),
        np.ma.array([1, 2], mask=[0, 1]),
        np.ma.array([1, 2]),
        np.ma.masked,
        np.rec.array([(1, 2)]),
        PAIR.view(Subclass),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_what_is_no_array_is_a_typed_error(given):
    check_raises(ag.DTypeError, "asarray: ", ag.asarray, given)
    check_raises(ag.DTypeError, "asarray: ", ag.asarray, given, copy=True)
    check_raises(ag.DTypeError, "constant: ", ag.constant, given)
    check_raises(ag.DTypeError, "multiply: ", lambda: ag.asarray(PAIR) * given)


def test_matrices_are_refused():
    with pytest.warns(PendingDeprecationWarning):
        given = np.matrix([[1, 2]])
    check_raises(ag.DTypeError, "asarray: a matrix has a meaning of its own", ag.asarray, given)
    check_raises(ag.DTypeError, "multiply: a matrix has a meaning of its own", lambda: given * ag.asarray(PAIR))


def test_copy_takes_a_snapshot():
    x = np.zeros(2, np.float32)
    seen, taken = ag.asarray(x), ag.asarray(x, copy=True)
    later = ag.asarray(seen + 1, copy=True)
    x[:] = 5
    np.testing.assert_array_equal(seen.compute(), 5)
    np.testing.assert_array_equal(taken.compute(), 0)
    np.testing.assert_array_equal(later.compute(), 1)
    assert ag.asarray(x, copy=False).node is seen.node
    swapped = laid_out(np.arange(4, dtype=np.float32), "byte-swapped")
    same(ag.asarray(swapped, copy=True), np.arange(4, dtype=np.float32))


@pytest.mark.parametrize("given", [1, 1.5, True, np.float64(2), [1.5], [1, 2], PAIR, np.float16([1])], ids=repr)
@pytest.mark.parametrize("dtype", [None, "float64", "int32"])
@pytest.mark.parametrize("target", TARGETS)
def test_copy_changes_no_type(target, dtype, given):
    with ag.config.set(target=target):
        plain = ag.asarray(given, dtype)
        for copied in (ag.asarray(given, dtype, copy=True), ag.asarray(plain, copy=True)):
            assert (copied.dtype, copied.shape) == (plain.dtype, plain.shape)
            np.testing.assert_array_equal(copied.compute(), plain.compute())


def test_a_dtype_casts():
    check(ag.asarray(PAIR, dtype="int8"), PAIR.astype(np.int8))
    check(ag.asarray(PAIR, "float16"), PAIR.astype(np.float16))
    check(ag.asarray(2, float), np.float32(2))
    check(ag.asarray(ag.asarray(PAIR), dtype=bool), np.ones((2, 3), bool))
    check_raises(ag.DTypeError, "is not supported", ag.asarray, PAIR, dtype="complex64")
    check_raises(ag.DTypeError, "is no data type", ag.asarray, PAIR, dtype="nonsense")


def test_an_array_resized_after_it_was_bound():
    x = np.zeros(4, np.float32)
    lazy = ag.asarray(x) + 1
    x.resize(6, refcheck=False)
    check_raises(ag.ShapeError, r"float32\[4\] when it was bound and is float32\[6\] now", lazy.compute)
    compiled = ag.compile(lambda y: y + lazy)
    check_raises(ag.ShapeError, "when it was bound", compiled, np.ones(4, np.float32))
    x.resize(4, refcheck=False)
    np.testing.assert_array_equal(lazy.compute(), 1)


def test_constants_are_made_read_only():
    x = PAIR.copy()
    lazy = ag.constant(x)
    same(lazy, PAIR)
    with pytest.raises(ValueError, match="read-only"):
        x[0, 0] = 1
    assert lazy.node is not ag.asarray(x).node
    assert lazy.node is ag.constant(x).node
    assert "constant data" in str(lazy)
    y = np.zeros(2)
    ag.constant(ag.asarray(y))
    assert not y.flags.writeable
    check(ag.constant([1, 2]), np.array([1, 2]))
    assert isinstance(ag.constant(2.5).node, Constant)
    check(ag.constant(bytearray(b"\1")), np.uint8([1]))
    sums = ag.asarray(PAIR) + 1
    assert ag.constant(sums).node is sums.node


REFUSED = {
    "bool": bool,
    "float": float,
    "int": int,
    "complex": complex,
    "__index__": lambda x: [1, 2][x],
    "__index__ ": range,
    "in": lambda x: 1 in x,
    "bool ": lambda x: x and 1,
    "bool  ": lambda x: 1 if x > 0 else 2,
    "bool   ": lambda x: not x,
    "bool    ": lambda x: 0 < x < 2,
    "bool     ": lambda x: max(x, x),
    "float ": math.sqrt,
    "item": lambda x: x.item(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_lazy_value_is_no_number(name):
    for lazy in (ag.asarray(1), ag.asarray(np.float32([1]))):
        if name == "bool     " and lazy.ndim == 0:
            continue
        check_raises(
            ag.TraceError,
            rf"^{name.strip()}: a lazy \w+\[[1]?\] has no value yet; call \.compute\(\) for one",
            REFUSED[name],
            lazy,
        )


def test_a_lazy_value_cannot_be_written():
    lazy = ag.asarray(PAIR)

    def write():
        lazy[0] = 1

    check_raises(ag.TraceError, r"setitem: a lazy float32\[2, 3\] cannot be written to; use ag.where", write)
    before = lazy
    lazy += 1
    assert lazy is not before
    np.testing.assert_array_equal(before.compute(), PAIR)


def test_length_and_iteration():
    lazy = ag.asarray(PAIR)
    assert len(lazy) == 2
    first, second = lazy
    check(first + second, PAIR[0] + PAIR[1])
    assert list(ag.asarray(np.zeros((0, 3)))) == []
    check_raises(ag.ShapeError, "len: a 0-d array has no length", len, ag.asarray(1))
    check_raises(ag.ShapeError, "len: a 0-d array has no length", list, ag.asarray(1))


def test_equality_is_elementwise_and_hashing_by_identity():
    lazy = ag.asarray(PAIR)
    check(lazy == PAIR, np.ones((2, 3), bool))
    check(lazy != PAIR, np.zeros((2, 3), bool))
    assert {lazy: 1}[lazy] == 1
    assert len({lazy, ag.asarray(PAIR)}) == 2


def test_what_an_array_says_of_itself():
    lazy = ag.asarray(PAIR)
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size, lazy.nbytes, lazy.device) == (
        (2, 3),
        np.float32,
        2,
        6,
        24,
        "cpu",
    )
    assert lazy.__array_namespace__() is ag
    assert repr(lazy) == "<attngraph.Array float32[2, 3]: data, 1 node>"
    assert repr(lazy + 1) == "<attngraph.Array float32[2, 3]: add, 3 nodes>"
    assert str(ag.exp(lazy) * 2).splitlines()[-1] == "return %2"
    assert "%1 = exp(%0)" in str(ag.exp(lazy) * 2)
    assert lazy._repr_inline_(80) == "attngraph.Array<data>"
    assert lazy._repr_inline_(5) == "attng"
    html = (lazy < 1)._repr_html_()
    assert "<td>(2, 3)</td>" in html
    assert "<td>bool</td>" in html
    named = ag.placeholder((2,), name="<b>bold</b>")._repr_html_()
    assert "<b>bold" not in named
    assert "&lt;b&gt;bold" in named


def test_a_large_graph_prints_its_end():
    lazy = ag.asarray(PAIR)
    for _ in range(3000):
        lazy = ag.sin(lazy)
    assert len(str(lazy).splitlines()) < 50
    assert "3001 nodes" in repr(lazy)
    assert len(lazy._repr_html_()) < 10_000


def test_numpys_conversion():
    lazy = ag.asarray(PAIR) + 1
    for result in (np.asarray(lazy), np.array(lazy), np.array(lazy, copy=True), lazy.__array__()):
        np.testing.assert_array_equal(result, PAIR + 1)
        assert result.dtype == np.float32
        assert result.flags.writeable
    assert np.asarray(lazy, dtype=np.float64).dtype == np.float64
    assert np.asarray(lazy, dtype="complex64").dtype == np.complex64
    check_raises(ag.ArgumentError, "copy=False is impossible", np.array, lazy, copy=False)
    into = np.zeros((2, 3))
    into[...] = lazy
    np.testing.assert_array_equal(into, PAIR + 1)


def test_numpys_conversion_in_a_trace():
    table = np.arange(5.0)
    for inside in (np.asarray, lambda x: table[x], lambda x: np.array([x, x]), lambda x: x.__array__()):
        check_raises(
            ag.TraceError,
            r"__array__: .*while the function \S+ is traced; wrap the table in ag.asarray",
            ag.compile(inside),
            np.arange(3),
        )
    wrapped = ag.compile(lambda x: ag.asarray(table)[x])
    np.testing.assert_array_equal(wrapped(np.arange(3)), [0, 1, 2])


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bfloat16"])
def test_dlpack(dtype):
    x = data((2, 3), dtype)
    lazy = ag.asarray(x)
    assert lazy.__dlpack_device__() == (1, 0)
    result = np.from_dlpack(lazy)
    np.testing.assert_array_equal(result, x)
    assert not np.shares_memory(result, x)


def pickled(lazy: ag.Array) -> ag.Array:
    return pickle.loads(pickle.dumps(lazy))


@pytest.mark.parametrize("dtype", DTYPES)
def test_pickling_keeps_values_and_types(dtype):
    x = data((2, 3), dtype)
    lazy = ag.where(ag.asarray(x) == ag.asarray(x), ag.asarray(x), ag.asarray(x[:1])).T
    same(pickled(lazy), np.array(x.T, order="C"))


def test_pickling_shares_and_goes_deep():
    x = ag.asarray(np.float64([0.5]))
    deep = x
    for _ in range(1500):
        deep = ag.sin(deep) + x
    again = pickled(deep)
    np.testing.assert_array_equal(again.compute(), deep.compute())
    assert repr(again) == repr(deep)


def test_pickling_scalars_constants_and_placeholders():
    for given in (1, 1.0, True, -0.0, math.nan, math.inf, np.float64(0.1), np.int8(1)):
        assert pickled(ag.asarray(given)).node is ag.asarray(given).node
    hole = ag.placeholder((2,), name="hole")
    assert pickled(hole + 1).node is (hole + 1).node
    frozen = pickled(ag.constant(PAIR.copy()))
    assert frozen.node.frozen
    same(frozen, PAIR)
    assert isinstance(pickle.loads(pickle.dumps(ag.asarray(PAIR).node)), Data)


def test_copying():
    lazy = ag.asarray(PAIR) + 1
    assert copy.copy(lazy).node is lazy.node
    np.testing.assert_array_equal(copy.deepcopy(lazy).compute(), PAIR + 1)
    assert copy.deepcopy(lazy.node) is lazy.node


def test_errors_name_the_users_line():
    with pytest.raises(ag.DTypeError, match=r"test_array\.py:\d+") as caught:
        ag.asarray(object())
    assert caught.value.line[0] == __file__


# Other libraries' arrays


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    for dtype in ("float32", "int16", "bool", "float16", "uint64"):
        x = data((5, 4), dtype)
        stored = zarr.create_array(tmp_path / dtype, shape=x.shape, chunks=(2, 3), dtype=dtype)
        stored[...] = x
        lazy = ag.asarray(stored)
        same(lazy, x)
        assert lazy.node.source is stored
        stored[0, 0] = 1
        assert lazy.compute()[0, 0] == 1
    stored.resize((6, 4))
    check_raises(ag.ShapeError, r"uint64\[5, 4\] when it was bound and is uint64\[6, 4\] now", lazy.compute)
    group = zarr.create_group(tmp_path / "group")
    check_raises(ag.DTypeError, "asarray: cannot make an array of zarr", ag.asarray, group)
    wrong = zarr.create_array(tmp_path / "complex", shape=(2,), dtype="complex64")
    check_raises(ag.DTypeError, "asarray: dtype complex64 is not supported", ag.asarray, wrong)


def test_dask():
    da = pytest.importorskip("dask.array")
    dask = pytest.importorskip("dask")
    x = data((5, 4), "float32")
    chunked = da.from_array(x, chunks=(2, 3))
    lazy = ag.asarray(chunked)
    same(lazy, x)
    assert lazy.node.source is chunked
    check(ag.sum(lazy * 2, axis=0), (x.astype(np.float64) * 2).sum(0), dtype="float32", roundings=1)
    unknown = chunked[chunked[:, 0] > 0]
    check_raises(ag.DTypeError, "asarray: a dask.array.* whose shape is not known", ag.asarray, unknown)
    check_raises(ag.DTypeError, "asarray: ", ag.asarray, dask.delayed(x))
    check_raises(ag.DTypeError, "asarray: dtype complex64 is not supported", ag.asarray, chunked * 1j)


def test_xarray():
    xr = pytest.importorskip("xarray")
    x = data((2, 3), "float32")
    labelled = xr.DataArray(x.copy(), dims=("a", "b"), coords={"a": [10, 20]})
    lazy = ag.asarray(labelled)
    same(lazy, x)
    labelled[0, 0] = 7
    assert lazy.compute()[0, 0] == 7
    same(ag.asarray(labelled.variable), lazy.compute())
    inner = ag.asarray(x) + 1
    assert ag.asarray(xr.DataArray(inner, dims=("a", "b"))).node is inner.node
    check_raises(ag.DTypeError, "asarray: ", ag.asarray, xr.Dataset({"a": labelled}))
    check_raises(ag.DTypeError, "is not supported", ag.asarray, xr.DataArray(["a", "b"]))
    # With an operator the labelled array takes the lead and keeps its labels.
    for result in (labelled + ag.asarray(x), ag.asarray(x) + labelled):
        assert isinstance(result, xr.DataArray)
        assert result.dims == ("a", "b")
        np.testing.assert_array_equal(np.asarray(result), np.asarray(labelled) + x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_tensors(dtype):
    torch = pytest.importorskip("torch")
    x = data((3, 4), dtype)
    tensor = torch.asarray(wide(x)).to(getattr(torch, dtype))
    for view in (tensor, tensor.T, tensor[:, ::2], tensor[0], tensor[0, 0], tensor[:0], tensor.expand(2, 3, 4)):
        lazy = ag.asarray(view)
        assert (lazy.shape, lazy.dtype) == (tuple(view.shape), dtype_of(dtype))
        result = lazy.compute()
        np.testing.assert_array_equal(wide(result), view.to(torch.float64).numpy() if dtype in FLOATS else view.numpy())
        assert result.dtype == dtype_of(dtype)
    lazy = ag.asarray(tensor)
    tensor[0, 0] = 1
    assert wide(lazy.compute())[0, 0] == 1
    if dtype not in ("uint16", "uint32", "uint64"):  # which torch itself cannot pickle
        same(pickled(lazy), lazy.compute())


def test_what_torch_tensors_may_be():
    torch = pytest.importorskip("torch")
    x = torch.ones(3, requires_grad=True)
    check(ag.asarray(x.detach()) * 2, np.float32([2, 2, 2]))
    for needs in (x, x * 2, torch.nn.Parameter(torch.ones(2))):  # its gradient would be lost in silence
        check_raises(
            ag.ArgumentError, r"add: a tensor that requires grad: .*\.detach\(\)", lambda y=needs: ag.add(y, 1)
        )
        with torch.no_grad():
            check(ag.asarray(needs), needs.detach().numpy())
    check(ag.asarray(torch.tensor(2.5)), np.float32(2.5))
    complicated = torch.ones(2, dtype=torch.complex64)
    check(ag.asarray((complicated * 1j).conj().imag), np.float32([-1, -1]))  # a view with its sign to be turned
    check_raises(ag.DTypeError, "add: dtype complex64 is not supported", lambda: ag.asarray(1) + complicated)
    check_raises(ag.DTypeError, "tensor on meta cannot be read", ag.asarray, torch.ones(2, device="meta"))
    check_raises(ag.DTypeError, "tensor of layout torch.sparse_coo", ag.asarray, torch.ones(2).to_sparse())
    check_raises(ag.DTypeError, "float8_e4m3fn", ag.asarray, torch.ones(2).to(torch.float8_e4m3fn))
    check(
        ag.asarray([torch.tensor(1.5, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)]),
        np.array([1.5, 0.1]),
    )
    check_raises(ag.DTypeError, "asarray: cannot make an array of the list", ag.asarray, [x, x])
    resized = torch.ones(4)
    lazy = ag.asarray(resized)
    resized.resize_(2)
    check_raises(ag.ShapeError, r"float32\[4\] when it was bound and is float32\[2\] now", lazy.compute)


def test_torch_takes_a_lazy_array():
    torch = pytest.importorskip("torch")
    tensor = torch.from_dlpack(ag.asarray(PAIR) + 1)
    np.testing.assert_array_equal(tensor.numpy(), PAIR + 1)
    tensor[0, 0] = 0  # its own memory
    assert PAIR[0, 0] == 1
