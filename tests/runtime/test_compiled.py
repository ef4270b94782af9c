"""`compile`: structures, what is traced and what is static, out, aliasing, caches, threads."""

import dataclasses
import functools
import gc
import importlib
import pickle
import threading
import weakref
from array import array as buffer_of
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import attngraph as ag
from attngraph.runtime.compiled import Compiled
from strategies import LAYOUTS, laid_out

RNG = np.random.default_rng(40)
X = RNG.standard_normal((2, 3)).astype("float32")
Y = RNG.standard_normal((2, 3)).astype("float32")
Pair = namedtuple("Pair", ["left", "right"])


def same(got, expected):
    """The same structure, and in it the same arrays."""
    if isinstance(expected, dict | list | tuple):
        assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        for key, value in expected.items():
            same(got[key], value)
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for left, right in zip(got, expected, strict=True):
            same(left, right)
    elif expected is None:
        assert got is None
    else:
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, expected)


# Structures.


@pytest.mark.parametrize(
    ("function", "given", "expected"),
    [
        (lambda x: x, (X,), X),
        (lambda x: (x, x * 2), (X,), (X, X * 2)),
        (lambda x: [x, (x,), {"k": [x]}], (X,), [X, (X,), {"k": [X]}]),
        (lambda x: {"b": x, "a": None}, (X,), {"b": X, "a": None}),
        (lambda x: Pair(x, [x + 1]), (X,), Pair(X, [X + 1])),
        (lambda x: None, (X,), None),
        (lambda x: (None, ()), (X,), (None, ())),
        (lambda pair: pair.left - pair.right, (Pair(X, Y),), X - Y),
        (lambda pair: pair, (Pair(X, (Y, None)),), Pair(X, (Y, None))),
        (lambda d: d["x"][0] + d["y"][1], ({"x": [X], "y": (None, Y)},), X + Y),
        (lambda x, y=None: x if y is None else x + y, (X,), X),
        (lambda x, y: x if y is None else x + y, (X, None), X),
        (lambda x: 3, (X,), np.asarray(3)),
        (lambda x: (1.5, True), (X,), (np.float32(1.5), np.asarray(True))),
        (lambda: ag.arange(3), (), np.arange(3)),
        (lambda x: [[1, 2], [3.0]], (X,), [[np.asarray(1), np.asarray(2)], [np.float32(3)]]),
        (lambda *args, **kwargs: args[1] - kwargs.get("z", args[0]), (X, Y), Y - X),
    ],
)
def test_structures(function, given, expected):
    compiled = ag.compile(function)
    same(compiled(*given), expected)
    same(compiled(*given), expected)
    assert compiled.cache_info() == (1, 1, 1, 256)


def test_keywords():
    compiled = ag.compile(lambda x, *, y, flip=False: y - x if flip else x - y)
    same(compiled(X, y=Y), X - Y)
    same(compiled(y=Y, x=X), X - Y)
    same(compiled(X, y=Y, flip=True), Y - X)
    with pytest.raises(TypeError, match="missing"):
        compiled(X)
    with pytest.raises(TypeError, match="unexpected keyword"):
        compiled(X, y=Y, z=X)
    same(compiled(X, y=Y), X - Y)


def test_containers_of_other_kinds_come_back_as_plain_ones():
    same(ag.compile(lambda d: d)(OrderedDict(b=X, a=Y)), {"b": X, "a": Y})


@pytest.mark.parametrize("depth", [10, 100])
def test_deep_nests(depth):
    nest, expected = X, X
    for _ in range(depth):
        nest, expected = [nest], [expected]
    same(ag.compile(lambda nest: nest)(nest), expected)


def test_nests_without_end():
    endless = [X]
    endless.append(endless)
    for function in (lambda nest: nest, lambda nest: X):
        with pytest.raises(ag.ArgumentError, match="nested too deeply, or hold themselves"):
            ag.compile(function)(endless)
    with pytest.raises(ag.ArgumentError, match="nested too deeply"):
        ag.compile(lambda x: endless)(X)


# What is traced, and what is static.


def test_static_arguments_are_told_apart_by_type():
    calls = []

    def function(x, n):
        calls.append(n)
        return x * 2 if n is True else x + n

    compiled = ag.compile(function)
    for _ in range(2):
        same(compiled(X, 1), X + 1)
        same(compiled(X, True), X * 2)
        same(compiled(X, 1.0), X + 1)
        same(compiled(X, np.int64(1)), X + 1)
    assert [type(n) for n in calls] == [int, bool, ag.Array, ag.Array]
    same(ag.compile(lambda x, ns: x * 2 if ns[0] is True else x + ns[0])(X, [True]), X * 2)


@pytest.mark.parametrize(
    "values",
    [("a", "b"), (0, 1), (None, 1), (b"a", "a"), (1j, 2j), (frozenset({1}), frozenset({2})), (np.add, np.subtract)],
    ids=repr,
)
def test_static_arguments_make_traces_of_their_own(values):
    compiled = ag.compile(lambda x, static: x if static == values[0] else x * 2)
    for _ in range(2):
        same(compiled(X, values[0]), X)
        same(compiled(X, values[1]), X * 2)
    assert compiled.cache_info() == (2, 2, 2, 256)


@dataclasses.dataclass(frozen=True)
class Options:
    heads: int
    name: str = "plain"


def test_static_objects_are_hashed():
    compiled = ag.compile(lambda x, options: x * options.heads)
    same(compiled(X, Options(3)), X * 3)
    same(compiled(X, Options(3)), X * 3)
    same(compiled(X, Options(4)), X * 4)
    assert compiled.cache_info()[:2] == (1, 2)


@pytest.mark.parametrize("junk", [{1, 2}, {1: 2}.keys()], ids=repr)
def test_what_is_neither_an_array_nor_hashable(junk):
    def scaled(x, options):
        return x

    compiled = ag.compile(scaled)
    with pytest.raises(ag.ArgumentError) as caught:
        compiled(X, [junk])
    assert f"scaled: an argument is neither an array nor hashable: {junk!r}" in str(caught.value)
    assert caught.value.line[0] == __file__
    same(compiled(X, [0]), X)


def test_what_speaks_the_buffer_protocol_is_an_array():
    compiled = ag.compile(lambda x, y: x * y)
    numbers = buffer_of("f", [1, 2, 3])
    for _ in range(4):  # by whichever way in
        for view in (memoryview(X), memoryview(X.copy()), X):
            same(compiled(view, 2.0), X * 2)
        same(compiled(numbers, 0.5), np.float32([0.5, 1, 1.5]))
        numbers[0] += 1
        same(compiled(numbers, 1.0), np.float32([numbers[0], 2, 3]))
        numbers[0] -= 1
    same(ag.compile(lambda x, word: x * len(word))(X, b"abc"), X * 3)  # bytes are static, as strings


def test_thousands_of_numbers_are_meant_as_an_array():
    def total(rows):
        return sum(sum(row) for row in rows)

    with pytest.raises(ag.ArgumentError, match=r"total: 4225 of Python's numbers in lists.*asarray"):
        ag.compile(total)(np.ones((65, 65)).tolist())
    assert ag.compile(total)(np.ones((3, 3)).tolist()) == 9
    arrays = [np.float32(1)] * 5000  # of arrays there may be more
    assert ag.compile(lambda given: given[0] + given[-1])(arrays) == 2


def test_floats_and_numpy_scalars_are_traced():
    compiled = ag.compile(lambda x, factor: x * factor)
    for factor in (0.5, -0.0, float("inf"), 2.0, 1e-300):
        with np.errstate(all="ignore"):
            same(compiled(X, factor), X * np.float32(factor))
    assert compiled.cache_info().misses == 1
    for kind in ("float32", "float64", "int8", "int64", "bool"):
        for number in (0, 1):
            result = compiled(X, np.dtype(kind).type(number))
            same(result, X * number)
            assert result.dtype == np.float32  # a scalar widens nothing
    assert compiled.cache_info().misses <= 6
    assert np.isnan(compiled(X, float("nan"))).all()


def test_traced_floats_keep_their_digits():
    double = np.ones(2)
    same(ag.compile(lambda x, factor: x * factor)(double, 0.1), double * 0.1)
    same(ag.compile(lambda x, factor: x * factor)(double, np.float64(0.1)), double * 0.1)


def test_branching_on_a_traced_float_says_what_to_do():
    def branching(x, p):
        return x if p > 0 else -x  # here

    with pytest.raises(ag.TraceError, match=r"ag\.where") as caught:
        ag.compile(branching)(X, 0.5)
    assert "# here" in Path(__file__).read_text().splitlines()[caught.value.line[1] - 1]


def test_shapes_and_types_make_traces_values_do_not():
    compiled = ag.compile(lambda x: x + x)
    for _ in range(3):
        compiled(RNG.standard_normal((2, 3)))
    assert compiled.cache_info()[:2] == (2, 1)
    for x in (np.ones((3, 2)), np.ones((2, 3), "float32"), np.ones((2, 3), int), np.ones((1, 2, 3)), np.ones(())):
        same(compiled(x), x + x)
    assert compiled.cache_info()[:2] == (2, 6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_make_no_traces(layout):
    compiled = ag.compile(lambda x: x * 2)
    same(compiled(X), X * 2)
    result = compiled(laid_out(X, layout))
    same(result, X * 2)
    assert result.dtype == np.float32
    assert result.dtype.isnative
    assert compiled.cache_info()[:2] == (1, 1)


def test_other_arrays_are_read(tmp_path):
    compiled = ag.compile(lambda x: x * 2)
    mapped = np.memmap(tmp_path / "x", "float32", "w+", shape=(2, 3))
    mapped[...] = X
    result = compiled(mapped)
    same(result, X * 2)

    class Lent:
        def __dlpack__(self, **options):
            return X.__dlpack__(**options)

        def __dlpack_device__(self):
            return X.__dlpack_device__()

    same(compiled(Lent()), X * 2)
    assert compiled.cache_info().misses == 1


def test_torch_tensors_and_types():
    torch = pytest.importorskip("torch")
    compiled = ag.compile(lambda x, dtype: x.to(dtype) * 2)
    tensor = torch.from_numpy(X.T.copy()).T
    same(compiled(tensor, torch.float32), X * 2)
    assert compiled(tensor, torch.float64).dtype == np.float64
    assert compiled(tensor, torch.bfloat16).dtype.name == "bfloat16"
    tensor.requires_grad_()
    with pytest.raises(ag.ArgumentError, match=r"<lambda>: a tensor that requires grad.*\.detach\(\)"):
        compiled(tensor, torch.float32)
    assert compiled(tensor.detach(), torch.float32).dtype == np.float32
    with torch.no_grad():
        assert compiled(tensor, torch.float32).dtype == np.float32
    tensor = tensor.detach()
    assert compiled(torch.ones(2, 3, dtype=torch.bfloat16), torch.float32).dtype == np.float32
    assert not np.shares_memory(ag.compile(lambda x: x)(tensor), tensor.numpy())


def test_out_may_not_overlap_a_captured_tensor():
    torch = pytest.importorskip("torch")
    out = np.zeros((2, 3), "float32")
    captured = torch.from_numpy(out)
    with pytest.raises(ag.ArgumentError, match="overlaps"):
        ag.compile(lambda x: x + ag.asarray(captured))(X, out=out)


def test_out_may_not_overlap_a_tensor():
    torch = pytest.importorskip("torch")
    out = np.zeros((2, 3), "float32")
    with pytest.raises(ag.ArgumentError, match="overlaps"):
        ag.compile(lambda x: x * 2)(torch.from_numpy(out), out=out)


@pytest.mark.parametrize(
    ("junk", "error", "said"),
    [
        (np.array([None]), ag.DTypeError, "doubled: dtype object is not supported"),
        (np.array(["a"]), ag.DTypeError, "doubled: dtype <U1 is not supported"),
        (np.complex64(1), ag.DTypeError, "doubled: dtype complex64 is not supported"),
        (np.ma.array([1.0], mask=[True]), ag.DTypeError, "doubled: a MaskedArray has a meaning of its own"),
        ("text", ag.DTypeError, "cannot make an array of str"),
        ({1.5: None}, ag.DTypeError, "cannot make an array of dict"),
    ],
    ids=repr,
)
def test_arguments_that_are_no_arrays(junk, error, said):
    def doubled(x):
        return x + ag.asarray(x)

    with pytest.raises(error) as caught:
        ag.compile(doubled)(junk)
    assert said in str(caught.value)
    assert caught.value.line[0] == __file__


# out.


def test_out_is_written_and_returned():
    compiled = ag.compile(lambda x: {"twice": x * 2, "more": (x + 1, None, [ag.sum(x)])})
    out = {"more": (np.empty((2, 3), "float32"), None, [np.empty((), "float32")]), "twice": np.empty((2, 3), "float32")}
    arrays = [out["twice"], out["more"][0], out["more"][2][0]]
    assert compiled(X, out=out) is out  # a dict has no order
    np.testing.assert_array_equal(arrays[0], X * 2)
    np.testing.assert_array_equal(arrays[1], X + 1)
    np.testing.assert_allclose(arrays[2], X.sum(), rtol=1e-6)


@pytest.mark.parametrize("layout", ["plain", "fortran", "reversed", "strided", "transposed", "misaligned"])
def test_out_may_have_any_layout(layout):
    out = laid_out(np.zeros((2, 3), "float32"), layout)
    ag.compile(lambda x: x * 2)(X, out=out)
    np.testing.assert_array_equal(out, X * 2)


def windows(count, stride):
    return np.lib.stride_tricks.as_strided(np.zeros(count, "float32"), (2, 3), stride)


def read_only():
    array = np.zeros((2, 3), "float32")
    array.flags.writeable = False
    return array


CAPTURED = np.ones((2, 3), "float32")
BAD_OUT = {
    "shape": (lambda x: np.zeros((3, 2), "float32"), "has float32[3, 2] where the result is float32[2, 3]"),
    "axes": (lambda x: np.zeros(6, "float32"), "has float32[6] where the result is float32[2, 3]"),
    "type": (lambda x: np.zeros((2, 3)), "has float64[2, 3] where the result is float32[2, 3]"),
    "byte order": (lambda x: np.zeros((2, 3), ">f4"), "has >f4[2, 3] where the result is float32[2, 3]"),
    "read-only": (lambda x: read_only(), "is read-only"),
    "broadcast": (lambda x: np.broadcast_to(np.zeros(3, "float32"), (2, 3)), "is read-only"),
    "stride 0": (lambda x: windows(3, (0, 4)), "several of its elements share memory"),
    "input": (lambda x: x, "overlaps the memory of an input"),
    "input backwards": (lambda x: x[::-1, ::-1], "overlaps the memory of an input"),
    "part of the input": (lambda x: x.base[1:7].reshape(2, 3), "overlaps the memory of an input"),
    "captured": (lambda x: CAPTURED, "overlaps the memory of an input"),
    "lazy": (lambda x: ag.zeros((2, 3)), "a NumPy array, not Array"),
    "list": (lambda x: [0.0], "has structure [*] where * is expected"),
    "tuple": (lambda x: (np.zeros((2, 3), "float32"),), "has structure (*,) where * is expected"),
    "masked": (lambda x: np.ma.zeros((2, 3), "float32"), "a NumPy array, not MaskedArray"),
    "text": (lambda x: "out", "a NumPy array, not str"),
    "buffer": (lambda x: bytearray(24), "a NumPy array, not bytearray"),
}


@pytest.mark.parametrize("name", BAD_OUT)
def test_out_must_fit(name):
    make, said = BAD_OUT[name]

    def plus(x):
        return x + CAPTURED

    memory = np.zeros(8, "float32")
    x = memory[:6].reshape(2, 3)
    with pytest.raises(ag.ArgumentError) as caught:
        ag.compile(plus)(x, out=make(x))
    assert f"plus: out: {said}" in str(caught.value)
    assert caught.value.line[0] == __file__
    assert not memory.any()
    assert (CAPTURED == 1).all()


def test_out_may_not_overlap_itself():
    with pytest.raises(ag.ArgumentError, match="share memory"):
        ag.compile(lambda x: x * 2)(X, out=windows(5, (4, 4)))


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (lambda a, b: (a, a), "two of the arrays overlap"),
        (lambda a, b: (a, a[::-1]), "two of the arrays overlap"),
        (lambda a, b: [a, b], "has structure [*, *] where (*, *) is expected"),
        (lambda a, b: (a,), "has structure (*,) where (*, *) is expected"),
        (lambda a, b: (a, None), "out is None where the result is not"),
        (Pair, "has structure Pair(*, *) where (*, *) is expected"),
        (lambda a, b: (a, b.astype(float)), "has float64[2, 3] where the result is float32[2, 3]"),
        (lambda a, b: {"a": a, "b": b}, "where (*, *) is expected"),
        (lambda a, b: a, "has structure * where (*, *) is expected"),
    ],
)
def test_nothing_is_written_unless_all_of_out_fits(out, said):
    a, b = np.zeros((2, 3), "float32"), np.zeros((2, 3), "float32")
    compiled = ag.compile(lambda x: (x * 2, x + 1))
    with pytest.raises(ag.ArgumentError) as caught:
        compiled(X, out=out(a, b))
    assert said in str(caught.value)
    assert not a.any()
    assert not b.any()
    compiled(X, out=(a, b))
    np.testing.assert_array_equal(a, X * 2)


def test_nothing_is_written_on_any_other_error():
    out = np.zeros((1, 1, 2, 3), "float32")
    q = np.full((1, 1, 2, 3), np.nan, "float32")
    with pytest.raises(ag.NonFiniteError):
        ag.compile(ag.attention, check_finite=True)(q, q, q, out=out)
    with pytest.raises(ag.IndexOutOfRangeError):
        ag.compile(lambda x, i: x[i])(X, np.array([0, 5]), out=np.zeros((2, 3), "float32"))
    assert not out.any()


def test_results_of_none_take_no_out():
    out = np.empty((2, 3), "float32")
    same(ag.compile(lambda x: (None, x))(X, out=(None, out)), (None, X))
    with pytest.raises(ag.ArgumentError, match="out is None where the result is not"):
        ag.compile(lambda x: (None, x))(X, out=(out, None))
    assert ag.compile(lambda x: None)(X, out=None) is None


def test_out_beside_inputs_of_the_same_memory():
    memory = np.zeros(12, "float32")
    memory[::2] = 1
    ag.compile(lambda x: x * 2)(memory[::2], out=memory[1::2])
    np.testing.assert_array_equal(memory, [1, 2] * 6)


def test_out_under_reference64_keeps_its_type():
    out = np.empty((2, 3), "float32")
    compiled = ag.compile(lambda x: x * 2)
    with ag.config.set(target="reference64"):
        assert compiled(X).dtype == np.float64
        compiled(X, out=out)
    np.testing.assert_array_equal(out, X * 2)


# Lazy arguments.


def test_lazy_arguments_inline():
    compiled = ag.compile(lambda x, y, n, flag: {"sum": x + y * n if flag else None, "other": (x, 1.0)})
    lazy = compiled(ag.asarray(X) * 2, Y, 3, True)
    assert isinstance(lazy["sum"], ag.Array)
    np.testing.assert_array_equal(lazy["sum"].compute(), X * 2 + Y * 3)
    assert [isinstance(each, ag.Array) for each in lazy["other"]] == [True, True]
    assert compiled.cache_info().size == 0
    assert compiled(ag.asarray(X), Y, 3, False)["sum"] is None


def test_compiled_functions_call_compiled_functions():
    inner = ag.compile(lambda x: ag.softmax(x) * 2)
    outer = ag.compile(lambda x: inner(x + 1) - 1)
    same(outer(X), inner(X + 1) - 1)
    assert outer.cache_info().misses == 1
    np.testing.assert_array_equal(ag.compute(inner(ag.asarray(X)))[0], inner(X)[0])


def test_out_is_no_place_for_a_lazy_result():
    with pytest.raises(ag.ArgumentError, match="out= with lazy arguments"):
        ag.compile(lambda x: x * 2)(ag.asarray(X), out=np.empty((2, 3), "float32"))


# Memory.


def test_results_are_nobody_elses():
    captured = np.ones((2, 3), "float32")
    x = X.copy()
    compiled = ag.compile(
        lambda x: (x, x, x.T, x[:1], ag.asarray(captured), captured, x * 1, ag.broadcast_to(x, (2, 2, 3)))
    )
    first = compiled(x)
    second = compiled(x)
    arrays = [x, captured, *first, *second]
    for number, array in enumerate(arrays[2:], 2):
        assert type(array) is np.ndarray
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert not any(np.shares_memory(array, other) for other in arrays[:number])
    for array in first + second:
        array[...] = 7
    same(x, X)
    assert (captured == 1).all()
    same(compiled(x)[0], X)


def test_captured_arrays_are_read_at_every_call():
    weights, lazy = np.ones(3, "float32"), ag.asarray(Y) * 2
    compiled = ag.compile(lambda x: x * weights + lazy)
    same(compiled(X), X + Y * 2)
    weights[:] = 3
    same(compiled(X), X * 3 + Y * 2)
    assert compiled.cache_info().misses == 1


def test_inputs_are_left_alone():
    x = X.copy()
    x.flags.writeable = False
    same(ag.compile(lambda x: (x, x + 1))(x), (X, X + 1))
    assert not x.flags.writeable
    np.testing.assert_array_equal(x, X)


def test_a_captured_array_that_is_resized():
    captured = np.ones((2, 3), "float32")

    def function(x):
        return x + captured  # bound here

    compiled = ag.compile(function)
    compiled(X)
    captured.resize((1, 3), refcheck=False)
    with pytest.raises(
        ag.ShapeError, match=r"was float32\[2, 3\] when it was bound and is float32\[1, 3\] now"
    ) as caught:
        compiled(X)
    assert "# bound here" in Path(__file__).read_text().splitlines()[caught.value.line[1] - 1]
    captured.resize((2, 3), refcheck=False)
    captured[...] = 2
    same(compiled(X), X + 2)


def test_traces_keep_no_arguments_alive():
    x = X.copy()
    reference = weakref.ref(x)
    compiled = ag.compile(lambda x: x * 2)
    compiled(x)
    del x
    gc.collect()
    assert reference() is None
    assert compiled.cache_info().size == 1


# Traces.


def test_the_function_runs_once_for_each_trace():
    calls = []

    def function(x):
        calls.append(x.shape)
        return x * 2

    compiled = ag.compile(function)
    for length in (2, 3, 2, 3, 4):
        compiled(np.ones(length))
    assert calls == [(2,), (3,), (4,)]


def test_a_thousand_lengths():
    compiled = ag.compile(lambda q: ag.attention(q, q, q, is_causal=True))
    for length in range(1000):
        assert compiled.trace(np.ones((length, 1), "float32")).results[0].shape == (length, 1)
    assert compiled.cache_info() == (0, 1000, 256, 256)
    same(compiled(np.ones((7, 1), "float32")), np.ones((7, 1), "float32"))


def test_the_least_recently_used_trace_goes_first():
    compiled = ag.compile(lambda x: x + 1)
    for length in range(256):
        compiled.trace(np.zeros(length))
    compiled.trace(np.zeros(0))
    compiled.trace(np.zeros(256))  # pushes out length 1, not 0
    before = compiled.cache_info().misses
    compiled.trace(np.zeros(0))
    assert compiled.cache_info().misses == before
    compiled.trace(np.zeros(1))
    assert compiled.cache_info().misses == before + 1


def test_settings_have_traces_of_their_own():
    compiled = ag.compile(lambda q: ag.attention(q, q, q))
    q = RNG.standard_normal((5, 4)).astype("float32")
    native = compiled(q)
    with ag.config.set(target="reference64"):
        assert compiled(q).dtype == np.float64
    with ag.config.set(max_length=4), pytest.raises(ag.LimitError, match="max_length=4"):
        compiled(q)
    with ag.config.set(max_length=5):
        same(compiled(q), native)
    with ag.config.set(threads=1):
        same(compiled(q), native)
    same(compiled(q), native)
    assert compiled.cache_info()[:2] == (2, 3)


def test_settings_of_a_thread_are_its_own():
    compiled = ag.compile(lambda x: x * 2)
    results = {}

    def run(target):
        with ag.config.set(target=target):
            barrier.wait()
            results[target] = compiled(X).dtype
            barrier.wait()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=run, args=(target,)) for target in ("reference", "reference64")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"reference": np.dtype("float32"), "reference64": np.dtype("float64")}


@pytest.mark.parametrize("kinds", [1, 12])
def test_threads_share_a_compiled_function(kinds):
    bias = RNG.standard_normal(4).astype("float32")
    compiled = ag.compile(lambda q, factor: ag.attention(q, q, q + bias, is_causal=True) * factor)
    inputs = [RNG.standard_normal((2, 3 + kind, 4)).astype("float32") for kind in range(kinds)]
    expected = [ag.attention(q, q, q + bias, is_causal=True).compute() for q in inputs]

    def call(number):
        q = inputs[number % kinds]
        out = np.empty_like(q)
        if number % 2:
            compiled(q, float(number), out=out)
            return out
        return compiled(q, float(number))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(120)))
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result, expected[number % kinds] * np.float32(number))
    assert compiled.cache_info().size == kinds


# Errors.


def test_an_error_while_tracing_leaves_the_function_usable():
    def function(x, n):
        if n == 0:
            raise KeyError("the user's own")
        return x @ x if n == 1 else x * n

    compiled = ag.compile(function)
    for _ in range(2):
        with pytest.raises(KeyError, match="the user's own"):
            compiled(X, 0)
        with pytest.raises(ag.ShapeError, match=r"matmul: float32\[2, 3\] and float32\[2, 3\]"):
            compiled(X, 1)
        same(compiled(X, 2), X * 2)
    assert compiled.cache_info().size == 1
    assert float(ag.asarray(1.5).compute()) == 1.5  # nothing is being traced any more
    np.testing.assert_array_equal(np.asarray(ag.asarray(X)), X)


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (
            lambda x: x if x.sum() > 0 else -x,
            ag.TraceError,
            "bool: a lazy bool[] has no value while the function <lambda> is traced",
        ),
        (
            lambda x: x * float(ag.max(x)),
            ag.TraceError,
            "float: a lazy float32[] has no value while the function <lambda> is traced",
        ),
        (np.asarray, ag.TraceError, "while the function asarray is traced"),
        (lambda x: Y[ag.arange(2)], ag.TraceError, "wrap the table in ag.asarray"),
        (lambda x: [10, 20][x[0, 0].astype(int)], ag.TraceError, "__index__"),
        (np.linalg.inv, ag.TraceError, "np.inv: has no lazy form"),
        (lambda x: x.__setitem__(0, 1), ag.TraceError, "setitem: a lazy float32[2, 3] cannot be written to"),
        (lambda x: x[x > 0], ag.DTypeError, "depends on the lazy mask"),
        (lambda x: x + np.ones(4), ag.ShapeError, "add: shapes (2, 3) and (4,) do not broadcast"),
        (lambda x: "text", ag.DTypeError, "<lambda>: result: cannot make an array of str"),
        (lambda x: {"a": object()}, ag.DTypeError, "<lambda>: result: cannot make an array of object"),
        (lambda x: (x, {1, 2}), ag.DTypeError, "<lambda>: result: cannot make an array of set"),
        (lambda x: np.array([None]), ag.DTypeError, "<lambda>: result: dtype object is not supported"),
    ],
)
def test_what_cannot_be_traced(function, error, said):
    with pytest.raises(error) as caught:
        ag.compile(function)(X)
    assert said in str(caught.value)
    assert caught.value.line[0] == __file__


def test_a_placeholder_of_somewhere_else_has_no_data():
    stranger = ag.placeholder((2, 3), name="stranger")
    with pytest.raises(ag.ArgumentError, match=r"placeholder 'stranger' of type float32\[2, 3\] has no data"):
        ag.compile(lambda x: x + stranger)(X)


def test_check_finite():
    bad = np.full((1, 1, 2, 3), np.nan, "float32")
    good = np.ones((1, 1, 2, 3), "float32")
    assert np.isnan(ag.compile(ag.attention)(bad, good, good)).all()
    checked = ag.compile(ag.attention, check_finite=True)
    for _ in range(2):
        with pytest.raises(
            ag.NonFiniteError, match=r"attention: query float32\[1, 1, 2, 3\] holds nan at \[0, 0, 0, 0\]"
        ):
            checked(bad, good, good)
        same(checked(good, good, good), good)
    with ag.config.set(check_finite=False), pytest.raises(ag.NonFiniteError):
        checked(bad, good, good)
    np.testing.assert_array_equal(ag.compile(lambda x: x / 0.0)(np.zeros(2)), [np.nan] * 2)


@pytest.mark.parametrize("junk", [1, "yes", np.ones(2), ag.full((), True)], ids=str)
def test_check_finite_is_a_switch(junk):
    with pytest.raises(ag.ArgumentError, match="compile: check_finite is True, False or None"):
        ag.compile(ag.attention, check_finite=junk)


@pytest.mark.parametrize("junk", [3, "softmax", X, [len], {}], ids=str)
def test_only_functions_compile(junk):
    with pytest.raises(ag.ArgumentError, match="compile: takes a function"):
        ag.compile(junk)


# Decorators, methods, pickles.


@ag.compile
def scaled(x, factor=2.0):
    """X, scaled."""
    return x * factor


@ag.compile(check_finite=True)
def attended(q):
    return ag.attention(q, q, q)


class Layer:
    def __init__(self, weights):
        self.weights = weights

    @ag.compile
    def __call__(self, x):
        return x * self.weights

    @ag.compile(check_finite=True)
    def attend(self, q, *, causal=False):
        return ag.attention(q, q, q * self.weights, is_causal=causal)

    @staticmethod
    @ag.compile
    def static(x):
        return x + 1

    @classmethod
    @ag.compile
    def of_class(cls, x):
        return x + len(cls.__name__)


def test_decorators_keep_names():
    assert isinstance(scaled, Compiled)
    assert (scaled.__name__, scaled.__doc__, scaled.__module__) == ("scaled", "X, scaled.", __name__)
    same(scaled(X), X * 2)
    same(scaled(X, factor=3.0), X * 3)
    assert repr(scaled) == "<attngraph.Compiled scaled: 2 traces>"
    with pytest.raises(ag.NonFiniteError):
        attended(np.full((2, 3), np.nan))


def test_methods():
    one, other = Layer(np.full(3, 2.0, "float32")), Layer(np.full(3, 5.0, "float32"))
    same(one(X), X * 2)
    same(other(X), X * 5)
    one.weights[:] = 3  # in place
    same(one(X), X * 3)
    same(Layer.__call__(other, X), X * 5)
    same(one.static(X), X + 1)
    same(Layer.of_class(X), X + 5)
    same(one.attend(X, causal=True)[:1], X[:1] * 3)
    with pytest.raises(ag.NonFiniteError, match="query"):
        one.attend(X * np.float32(np.nan))


def test_pickles():
    revived = pickle.loads(pickle.dumps(ag.compile(ag.softmax, check_finite=True)))
    same(revived(X), ag.softmax(X).compute())
    assert revived.check_finite is True
    assert revived.cache_info().misses == 1
    same(pickle.loads(pickle.dumps(ag.compile(ag.attention)))(X, X, X), ag.attention(X, X, X).compute())
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(ag.compile(lambda x: x))


def test_anything_callable():
    same(ag.compile(functools.partial(ag.multiply, 2.0))(X), X * 2)
    same(ag.compile(ag.compile(lambda x: x + 1))(X), X + 1)
    same(ag.compile(np.add)(X, Y), X + Y)
    same(ag.compile(Layer(2.0).static)(X), X + 1)


def test_the_latest_trace_is_kept_for_explain():
    compiled = ag.compile(lambda x: x * 2)
    assert compiled.last_trace() is None
    compiled(X)
    trace = compiled.trace(X)
    assert compiled.last_trace() is trace
    assert [node.shape for node in trace.results] == [(2, 3)]
    assert "compiled function <lambda>" in str(ag.explain(compiled))


def test_arrays_alone_find_the_trace_that_any_call_finds(monkeypatch):
    traced = []

    def double(x, y=None):
        traced.append(x.shape)
        return x * 2

    compiled = ag.compile(double)
    x = np.arange(6.0)
    for _ in range(3):
        same(compiled(x), x * 2)
        same(compiled(x=x), x * 2)
        same(compiled(x, None), x * 2)
    assert len(traced) == 3
    assert compiled.cache_info()[:2] == (6, 3)
    same(compiled(x.astype(">f8")), x * 2)
    same(compiled(x.astype("float32")), (x * 2).astype("float32"))
    with ag.config.set(target="reference"):
        same(compiled(x), x * 2)
    assert len(traced) == 5
    module = importlib.import_module("attngraph.runtime.compiled")
    monkeypatch.setattr(module, "_MOST_TRACES", 2)
    for length in range(1, 5):
        same(compiled(np.ones(length)), np.full(length, 2.0))
    assert compiled.cache_info().size == 2
    assert len(compiled._plain) <= 2
    same(compiled(x), x * 2)
    assert len(traced) == 10
