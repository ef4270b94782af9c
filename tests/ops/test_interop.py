"""NumPy's and torch's functions on lazy arrays: what they give, or an error that says that they have no lazy form.

The sweeps call every function with every set of arguments that could mean something to it: an answer must be
the library's own, in value, shape and structure. So no function can be mistaken for another of its name.
"""

import itertools
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import attngraph as ag
from attngraph.ops.registry import FUNCTIONS
from attngraph.ops.torch_protocol import TORCH
from checks import check, check_raises, data

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.9, (2, 3, 4)).astype(np.float32)
Y = RNG.uniform(0.2, 0.9, (2, 3, 4)).astype(np.float32)
SIGNED = RNG.uniform(-3, 3, (3, 4)).astype(np.float32)
WHOLE = RNG.integers(-5, 6, (3, 4))
SMALL = (WHOLE * 20).astype(np.int8)
PLACES = RNG.integers(0, 2, (2, 3, 4))
TRUE = PLACES > 0
for each in (X, Y, SIGNED, WHOLE, SMALL, PLACES, TRUE):
    each.flags.writeable = False  # some functions write into what stands where they have an out=


def lazily(argument: Any) -> Any:
    """Arrays and tensors as lazy arrays; lists part by part."""
    if isinstance(argument, list | tuple):
        return type(argument)(lazily(each) for each in argument)
    return argument if isinstance(argument, str | int | float | None) else ag.asarray(argument)


def holds_arrays(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(holds_arrays(each) for each in argument)
    return hasattr(argument, "shape")


def choices(args: tuple[Any, ...]) -> Iterator[list[Any]]:
    """The arguments with some of the arrays made lazy: at least one, each alone, all."""
    places = [place for place, each in enumerate(args) if holds_arrays(each)]
    for size in {1, len(places)} - {0}:
        for chosen in itertools.combinations(places, size):
            yield [lazily(each) if place in chosen else each for place, each in enumerate(args)]


def parts(result: Any) -> list[Any]:
    if isinstance(result, list | tuple):
        return [part for each in result for part in parts(each)]
    return [result]


def difference(expected: Any, got: Any, *, kinds_only: bool) -> str:
    """How two results differ, or nothing."""
    theirs, ours = parts(expected), parts(got)
    if len(theirs) != len(ours) or isinstance(expected, list | tuple) != isinstance(got, list | tuple):
        return f"{len(ours)} results where {len(theirs)} are due"
    for one, other in zip(theirs, ours, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        if one.shape != other.shape:
            return f"shape {other.shape}, not {one.shape}"
        if one.dtype != other.dtype and not kinds_only:
            return f"{other.dtype}, not {one.dtype}"
        tolerance = 1e-3 if kinds_only else 1e-5
        # NumPy makes float16 of int8, which overflows; here it is float32.
        if (
            one.dtype.kind in "biuf"
            and one.dtype != np.float16
            and not np.allclose(one, other, rtol=tolerance, atol=1e-5, equal_nan=True)
        ):
            return "other values"
    return ""


def sweep(functions: dict[str, Any], calls: list[Any], keywords: list[Any], *, kinds_only: bool) -> set[str]:
    """Every function with all arguments; the names of those that gave a lazy answer."""
    lazy: set[str] = set()
    wrong: dict[str, str] = {}
    for (name, function), args, named in itertools.product(functions.items(), calls, keywords):
        if name == "einsum" and not isinstance(args[0], str):
            continue
        try:
            expected = function(*args, **named)
        except Exception:
            continue  # these arguments mean nothing to it
        if expected is NotImplemented:
            continue
        for given in choices(args):
            try:
                got = function(*given, **named)
            except ag.AttnGraphError:
                continue
            except Exception as error:  # an untyped error is as wrong as a wrong value
                wrong.setdefault(name, f"{args} {named}: {type(error).__name__}: {error}")
                continue
            if got is NotImplemented:
                continue
            lazy |= {name} if any(isinstance(part, ag.Array) for part in parts(got)) else set()
            found = difference(expected, got, kinds_only=kinds_only)
            if found:
                wrong.setdefault(name, f"{args} {named}: {found}")
    assert not wrong, "\n".join(f"{name}: {reason}" for name, reason in wrong.items())
    return lazy


# NumPy

NUMPY_CALLS = [
    (X,),
    (X, Y),
    (SIGNED,),
    (WHOLE,),
    (SMALL,),
    (SMALL, SMALL),
    (WHOLE, SIGNED),
    (X, 1),
    (X, -1),
    (X, 0, 1),
    (X, None),
    (2.5, X),
    (X, (0, 1)),
    (X, [1, 2]),
    (X, (2, 12)),
    (X, PLACES),
    (X, PLACES, 1),
    (X, PLACES, None),
    (TRUE, X, Y),
    (X, 0.3, 0.5),
    (X, None, 0.5),
    (X, 3),
    (X, 2, 1),
    (X, [1, 2], 2),
    (X[0, 0], Y[0, 0]),
    (X[0], Y[0].T),
    (X[0], Y[0, 0]),
    (X[0, 0], 2),
    (X[0], X),
    (TRUE,),
    (TRUE, TRUE[::-1]),
    ((X, Y),),
    ((X, Y), 1),
    ((X, Y), None),
    ("bij,bkj->bik", X, Y),
    (X, (2, 0, 1)),
    (X, 1, 2),
    (X[:1],),
    (X[:1], 0),
    (X, 2, (0, 1)),
    (X, "fro", (0, 1)),
    (X, 2, 1),
    (X, 1, 0),
    (X, (1, 2), (0, 1)),
    (np.float32(0.5), X),
    (np.array(0.5), X),
]
NUMPY_KEYWORDS = [
    {},
    {"axis": None},
    {"axis": 1},
    {"axis": 0, "keepdims": True},
    {"ddof": 1},
    {"dtype": np.float64},
    {"decimals": 1},
    {"k": 1},
    {"a_min": 0.4},
    {"min": 0.4, "max": 0.6},
    {"axes": 1},
    {"axes": (2, 0, 1)},
    {"order": "F"},
    {"initial": 2.0},
    {"optimize": True},
    {"kind": "stable"},
    {"ord": 1, "axis": 1},
    {"mode": "wrap"},
    {"include_initial": True, "axis": 0},
]
# Reciprocals of integers are floats here; the rest sorts ties as it likes, or writes.
NUMPY_SKIPPED = {
    "reciprocal",
    "empty_like",
    "argsort",
    "argpartition",
    "partition",
    "put",
    "place",
    "copyto",
    "putmask",
    "save",
}
NUMPY_LAZY = """
abs add all amax amin any arccos arcsin arctan arctan2 arctanh argmax argmin around astype bitwise_and
bitwise_not bitwise_or bitwise_xor broadcast_arrays ceil clip concatenate copy copysign cos cosh cumsum
cumulative_sum divide dot einsum equal exp exp2 expand_dims expm1 fabs fix flip float_power floor floor_divide
full_like greater greater_equal hypot inner invert isfinite isinf isnan left_shift less less_equal linalg.norm
linalg.outer linalg.vecdot log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul
matrix_transpose max maximum mean min minimum mod moveaxis multiply negative nextafter not_equal ones_like outer
permute_dims positive power prod ravel remainder repeat reshape right_shift rint roll round sign signbit sin
sinh sort split sqrt square squeeze stack std subtract sum swapaxes take take_along_axis tan tanh tensordot tile
transpose tril triu true_divide trunc unstack var vecdot where zeros_like add.reduce multiply.reduce
maximum.reduce minimum.reduce logical_and.reduce logical_or.reduce logaddexp.reduce
"""


def numpy_functions() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for prefix, module in (("", np), ("linalg.", np.linalg), ("emath.", np.emath)):
        for name in sorted(set(dir(module)) - NUMPY_SKIPPED):
            function = getattr(module, name)
            if isinstance(function, np.ufunc):
                found[name] = function
                found |= {f"{name}.{each}": getattr(function, each) for each in ("reduce", "accumulate", "outer")}
            elif type(function).__name__ == "_ArrayFunctionDispatcher":
                found[prefix + name] = function
    return found


@pytest.mark.filterwarnings("ignore")  # NumPy's own, about overflow, empty slices and what is deprecated
def test_numpys_functions_give_what_numpy_gives_or_a_typed_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # np.savez and its like write files
    with np.errstate(all="ignore"):
        lazy = sweep(numpy_functions(), NUMPY_CALLS, NUMPY_KEYWORDS, kinds_only=True)
    assert set(NUMPY_LAZY.split()) <= lazy


UFUNCS = sorted(name for name in dir(np) if isinstance(getattr(np, name), np.ufunc))


@pytest.mark.parametrize("name", UFUNCS)
def test_a_ufunc_stays_lazy_or_says_that_it_cannot(name):
    ufunc = getattr(np, name)
    x = ag.asarray(X)
    for given in ((x,) * ufunc.nin, (X,) * (ufunc.nin - 1) + (x,)):
        if ufunc.__name__ in FUNCTIONS:
            try:
                assert isinstance(ufunc(*given), ag.Array)
            except (ag.DTypeError, ag.ShapeError):
                assert name.startswith(("bitwise", "invert", "left", "right", "mat"))  # bits of floats
        else:
            check_raises(ag.TraceError, rf"np\.{ufunc.__name__}: has no lazy form", ufunc, *given)


def test_reductions_of_ufuncs():
    x = ag.asarray(X)
    cases = [
        (np.add, {}),
        (np.add, {"axis": 1}),
        (np.add, {"axis": None}),
        (np.add, {"axis": (0, 2)}),
        (np.add, {"axis": -1, "keepdims": True}),
        (np.add, {"axis": None, "keepdims": True}),
        (np.multiply, {"axis": 2}),
        (np.maximum, {"axis": None}),
        (np.minimum, {}),
        (np.logical_and, {"axis": None}),
        (np.logical_or, {"axis": 1}),
        (np.logaddexp, {"axis": 1}),
    ]
    for ufunc, options in cases:
        expected = ufunc.reduce(X, **options)
        lazy = ufunc.reduce(x, **options)
        assert isinstance(lazy, ag.Array)
        assert lazy.shape == np.shape(expected)
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6)
    np.testing.assert_allclose(np.add.reduce(x, 1).compute(), X.sum(1), rtol=1e-6)
    for given in ({"initial": 1.0}, {"where": TRUE}, {"axis": 0, "initial": 5}):
        check_raises(ag.TraceError, r"np.add.reduce: has no lazy form", np.add.reduce, x, **given)
    for method in ("accumulate", "reduceat", "outer", "at"):
        extra = {"accumulate": (), "reduceat": ([0, 1],), "outer": (X,), "at": (0, 1)}[method]
        check_raises(ag.TraceError, rf"np.add.{method}: has no lazy form", getattr(np.add, method), x, *extra)
    check_raises(ag.TraceError, r"np.subtract.reduce: has no lazy form", np.subtract.reduce, x)


def test_a_dtype_is_computed_in_not_only_cast_to():
    small = np.int8([100, 100, -100])
    lazy = ag.asarray(small)
    check(np.add(lazy, small, dtype=np.int64), np.add(small, small, dtype=np.int64))
    check(np.multiply(lazy, lazy, dtype="int32"), np.multiply(small, small, dtype="int32"))
    check(np.add.reduce(lazy, dtype=np.int8), np.add.reduce(small, dtype=np.int8))
    check(np.multiply.reduce(lazy), np.multiply.reduce(small))
    check(np.exp(ag.asarray(np.float32([1])), dtype=np.float64), np.exp(np.float64([1])))
    check_raises(ag.TraceError, "np.add: has no lazy form", np.add, ag.asarray(X), 1, dtype=np.int32)
    check_raises(ag.TraceError, "np.exp: has no lazy form", np.exp, lazy, dtype=np.int8)
    check_raises(ag.DTypeError, "complex128 is not supported", np.add, lazy, 1, dtype=complex)


def test_results_cannot_be_written_into_arrays():
    x, into = ag.asarray(X), X.copy()
    for call in (
        lambda: np.add(x, 1, out=into),
        lambda: np.add(X, 1, out=x),
        lambda: np.add(X, 1, x),
        lambda: np.sum(x, axis=0, out=into[0]),
        lambda: np.clip(x, 0, 1, out=into),
        lambda: operator.iadd(into, x),
        lambda: operator.imul(into, x),
    ):
        check_raises(ag.ArgumentError, "a lazy result cannot be written into out=", call)
    np.testing.assert_array_equal(into, X)


UNSUPPORTED = [
    lambda x: np.add(x, 1, where=TRUE),
    lambda x: np.add(x, 1, casting="unsafe"),
    lambda x: np.divmod(x, 2),
    np.modf,
    lambda x: np.interp(x, x, x),
    np.linalg.svd,
    lambda x: np.linalg.norm(x, 1),
    lambda x: np.linalg.norm(x, 2, axis=(0, 1)),
    np.where,
    np.unique,
    np.nanmedian,
    lambda x: np.array_equal(x, x),
    lambda x: np.allclose(x, x),
    lambda x: np.save("nowhere", x),
    lambda x: np.concatenate([x, x], axis=0, casting="unsafe"),
    lambda x: np.sort(x, axis=0, order="field"),
    lambda x: np.reshape(x, (-1,), order="F"),
    lambda x: np.ravel(x, order="F"),
    lambda x: np.sum(x, where=TRUE),
    lambda x: np.max(x, initial=3),
    np.emath.sqrt,
    lambda x: np.full_like(x, 1, shape=(2,)),
    lambda x: np.einsum("bij->bi", x, dtype=np.float64),
    lambda x: np.take(x, [0], mode="wrap"),
    np.fft.fft,
    lambda x: np.vander(x[0, 0]),
]


@pytest.mark.parametrize("number", range(len(UNSUPPORTED)))
def test_what_has_no_lazy_form_says_so(number):
    check_raises(
        ag.TraceError, r"has no lazy form in attngraph.*call \.compute\(\)", UNSUPPORTED[number], ag.asarray(X)
    )


def test_a_stranger_of_the_same_name_is_not_taken_for_ours():
    negate = np.frompyfunc(lambda x: -x, 1, 1)
    check_raises(ag.TraceError, "has no lazy form", negate, ag.asarray(X))

    def sqrt(x):
        return x

    dispatched = np._core.overrides.array_function_dispatch(lambda x: (x,))(sqrt)
    check_raises(ag.TraceError, "np.sqrt: has no lazy form", dispatched, ag.asarray(X))


OPERATORS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "eq", "ne"]


@pytest.mark.parametrize("name", [*OPERATORS, "matmul", "and_", "or_", "xor", "lshift", "rshift"])
def test_operators_with_arrays_on_either_side(name):
    apply = getattr(operator, name)
    left, right = (X[0], Y[0].T) if name == "matmul" else (np.abs(WHOLE), np.abs(WHOLE[::-1]) + 1)
    if name in OPERATORS:
        left, right = X, Y
    expected = apply(left, right)
    for lazy in (
        apply(ag.asarray(left), right),
        apply(left, ag.asarray(right)),
        apply(ag.asarray(left), right.tolist()) if name != "matmul" else apply(left, ag.asarray(right)),
        apply(left.tolist(), ag.asarray(right)),
    ):
        assert isinstance(lazy, ag.Array)
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-5)


def test_dask_xarray_and_zarr_arrays_on_either_side(tmp_path):
    da, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    stored = zarr.create_array(tmp_path / "x", shape=X.shape, dtype="float32")
    stored[...] = X
    for other in (da.from_array(X), stored):
        check(ag.asarray(Y) + other, X + Y)
        check(ag.where(ag.asarray(TRUE), other, 0), np.where(TRUE, X, 0))


# torch

TORCH_KEYWORDS = [
    {},
    {"dim": 1},
    {"dim": -1, "keepdim": True},
    {"alpha": 2},
    {"rounding_mode": "trunc"},
    {"rounding_mode": "floor"},
    {"unbiased": False},
    {"correction": 0},
    {"descending": True},
    {"largest": False},
    {"decimals": 1},
    {"diagonal": 1},
    {"min": 0.4},
    {"max": 0.6},
    {"beta": 2.0},
    {"approximate": "tanh"},
    {"threshold": 0.1},
]
TORCH_LAZY = """
abs absolute acos acosh add adjoint all amax amin any arctan2 argmax argmin argsort asin asinh atan atan2 atanh
bitwise_and bitwise_not bitwise_or bitwise_xor bmm cat ceil clamp clip concat copysign cos cosh cumsum div
einsum elu eq erf exp exp2 expm1 flip float_power floor floor_divide full_like gather ge gelu greater gt hypot
index_select isfinite isinf isnan layer_norm le leaky_relu less log log10 log1p log2 log_softmax logaddexp
logical_and logical_not logical_or logical_xor logsumexp lt matmul max maximum mean min minimum mm moveaxis mul
ne neg nextafter normalize ones_like permute positive pow prod reciprocal relu remainder reshape rms_norm round
rsqrt rsub scaled_dot_product_attention sigmoid sign signbit silu sin sinh softmax softplus sort split sqrt
square squeeze stack std sub sum swapaxes t tan tanh tile topk transpose tril triu true_divide trunc unsqueeze
var where zeros_like chunk flatten linalg_norm linalg_vector_norm movedim norm roll unbind
repeat_interleave Tensor.where Tensor.gather Tensor.pow Tensor.__getitem__ Tensor.__rsub__
"""


def torch_functions(torch: Any) -> dict[str, Callable[..., Any]]:
    """Every function that can be overridden and that we answer to."""
    ours = {*FUNCTIONS, *TORCH}
    found: dict[str, Callable[..., Any]] = {}
    for module, functions in torch.overrides.get_overridable_functions().items():
        prefix = "Tensor." if module is torch.Tensor else ""
        for function in functions:
            name = function.__name__
            plain = name.strip("_")
            in_place = name.startswith("__i") or (name.endswith("_") and not name.startswith("__"))
            if {plain, plain[1:]} & ours and not in_place:
                found[prefix + name] = function
    return found


def torch_calls(torch: Any) -> list[tuple[Any, ...]]:
    x, y, signed, whole, places, true = map(torch.tensor, (X, Y, SIGNED, WHOLE, PLACES, TRUE))
    return [
        (x,),
        (x, y),
        (signed,),
        (whole,),
        (whole, whole.flip(0)),
        (x, 1),
        (x, -1),
        (x, 0, 1),
        (x, 1, True),
        (x, False),
        (2.5, x),
        (x, (0, 1)),
        (x, (2, 12)),
        (x, 1, places),
        (x, 0, places[:1, :2, :3]),
        (x, 1, places[:, :, :1]),
        (true, x, y),
        (x, true, y),
        (x, true, 0.5),
        (x, x, y),
        (x, 3),
        (x, 2, 1),
        (x, [1, 2], 1),
        (x[0], y[0].T.contiguous()),
        (x[0], y[0, 0]),
        (x[0, 0], y[0, 0]),
        (x, y.transpose(1, 2).contiguous()),
        (true,),
        ([x, y],),
        ([x, y], 1),
        ("bij,bkj->bik", x, y),
        (x, (4,)),
        (x, (4,), y[0, 0]),
        (x, (4,), y[0, 0], x[1, 1]),
        (x, (2, 0, 1)),
        (x, places[0, 0]),
        (x, 1, places[0, 0]),
        (x[:1], 0),
        (x, torch.float64),
    ]


@pytest.mark.filterwarnings("ignore")  # torch's own; test_a_tensor_indexed_by_a_lazy_array says which
def test_torchs_functions_give_what_torch_gives_or_a_typed_error():
    torch = pytest.importorskip("torch")
    functions = torch_functions(torch)
    plain = {name: function for name, function in functions.items() if not name.startswith("Tensor.")}
    methods = {name: _first_a_tensor(torch, each) for name, each in functions.items() if name.startswith("Tensor.")}
    lazy = sweep(plain, torch_calls(torch), TORCH_KEYWORDS, kinds_only=False)
    lazy |= sweep(methods, torch_calls(torch), [{}], kinds_only=False)
    assert set(TORCH_LAZY.split()) <= lazy


def _first_a_tensor(torch: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """A method can only be called on a tensor."""

    def call(self: Any, *args: Any) -> Any:
        if not isinstance(self, torch.Tensor):
            raise ag.TraceError("no tensor")
        return method(self, *args)

    return call


@pytest.mark.parametrize("name", [*OPERATORS, "matmul", "and_", "or_", "xor", "lshift", "rshift"])
def test_torchs_operators_with_tensors_on_either_side(name):
    torch = pytest.importorskip("torch")
    apply = getattr(operator, name)
    pairs = [(X[0], Y[0].T.copy())] if name == "matmul" else [(np.abs(WHOLE), np.abs(WHOLE[::-1]) + 1)]
    pairs += [(X, Y), (X, np.abs(WHOLE[:1]))] if name in OPERATORS else []
    for left, right in pairs:
        one, other = torch.tensor(left), torch.tensor(right)
        expected = apply(one, other).numpy()
        for lazy in (apply(ag.asarray(left), other), apply(one, ag.asarray(right))):
            assert isinstance(lazy, ag.Array)
            assert lazy.dtype == expected.dtype
            np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_a_tensor_indexed_by_a_lazy_array():
    # torch takes a short lazy array for a tuple at first, and warns; then it asks us.
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X)
    for key in (
        (np.array([1, 0, 1]),),
        (np.array([[1], [0]]), np.array([[0, 2]])),
        (slice(None), np.array([2, 0])),
        (np.array(1),),
        (0, np.array(2)),
        (..., np.array([3, 0])),
        (None, np.arange(2)),
        (np.array([-1, 0]), slice(None), np.array([1, 2])),
        (np.zeros(40, np.int64),),
    ):
        lazy = tensor[tuple(ag.asarray(each) if isinstance(each, np.ndarray) else each for each in key)]
        assert isinstance(lazy, ag.Array)
        check(lazy, X[key])
    check(tensor[ag.asarray(np.array([1, 0]))], X[[1, 0]])
    tensor[1] = 0
    check(tensor[ag.asarray(np.array([1]))], np.zeros((1, 3, 4), np.float32))
    check_raises(ag.IndexOutOfRangeError, "index 7 is out of range", tensor[ag.asarray(np.array([7]))].compute)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_a_function_written_for_torch_traces():
    torch = pytest.importorskip("torch")
    slopes = torch.tensor([0.5, 0.25, 0.125])
    limit = torch.tensor(30.0, dtype=torch.float64)

    def score_mod(score, b, h, q_idx, kv_idx):
        bent = limit * torch.tanh(score / limit)
        return torch.where(q_idx >= kv_idx, bent + slopes[h] * (kv_idx - q_idx), -torch.inf)

    x = data((3, 5, 5))
    h, q, kv = np.ogrid[:3, :5, :5]
    lazy = score_mod(*map(ag.asarray, (x, 0, h.ravel()[:, None, None], q, kv)))
    expected = score_mod(torch.tensor(x), 0, torch.tensor(h), torch.tensor(q), torch.tensor(kv))
    assert lazy.dtype == np.float32
    np.testing.assert_allclose(lazy.compute(), expected.numpy(), rtol=1e-6)


def test_torchs_named_results():
    torch = pytest.importorskip("torch")
    x, tensor = ag.asarray(X), torch.tensor(X)
    for call in (
        lambda a: torch.max(a, 1),
        lambda a: torch.min(a, dim=-1, keepdim=True),
        lambda a: torch.sort(a, dim=0),
        lambda a: torch.sort(a, descending=True),
        lambda a: torch.topk(a, 2),
        lambda a: torch.topk(a, 2, 1, False),
    ):
        ours, theirs = call(x), call(tensor)
        np.testing.assert_array_equal(ours.values.compute(), theirs.values.numpy())
        np.testing.assert_array_equal(ours.indices.compute(), theirs.indices.numpy())
        values, indices = ours
        assert (values.node, indices.node) == (ours.values.node, ours.indices.node)


def test_torch_writes_nothing_into_lazy_arrays_or_from_them():
    torch = pytest.importorskip("torch")
    x, tensor = ag.asarray(X), torch.tensor(X)
    for call in (
        lambda: torch.add(x, 1, out=tensor),
        lambda: torch.sum(x, 1, out=tensor[0]),
        lambda: torch.nn.functional.relu(x, inplace=True),
        lambda: torch.nn.functional.elu(x, inplace=True),
    ):
        check_raises(ag.ArgumentError, "torch.*: a lazy result cannot be written into out= or in place", call)
    for call in (
        lambda: tensor.add_(x),
        lambda: tensor.copy_(x),
        lambda: torch.equal(x, tensor),
        lambda: torch.allclose(x, tensor),
        lambda: torch.nn.functional.linear(x, tensor[0]),
        lambda: torch.nn.functional.normalize(x, p=1.0),
        lambda: torch.linalg.svd(x),
        lambda: torch.nn.functional.softmax(x),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_raises(ag.TraceError, r"torch\.\S+: has no lazy form|torch\.normalize with p=1.0: has no", call)
    into = tensor
    into += x  # what cannot be done in place, Python does with a new value
    assert isinstance(into, ag.Array)
    np.testing.assert_array_equal(tensor.numpy(), X)


def test_bfloat16_tensors_with_lazy_arrays():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X, dtype=torch.bfloat16)
    lazy = tensor * ag.asarray(Y)
    assert lazy.dtype == np.float32
    np.testing.assert_array_equal(lazy.compute(), (tensor.float() * torch.tensor(Y)).numpy())
    assert (ag.asarray(tensor) * 2.5).dtype.name == "bfloat16"
    assert (tensor * ag.asarray(2.0)).dtype.name == "bfloat16"
    assert ag.asarray(X).to(torch.bfloat16).dtype.name == "bfloat16"
