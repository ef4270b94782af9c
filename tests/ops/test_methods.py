import inspect
import operator
from typing import Any

import numpy as np
import pytest

import attngraph as ag
from attngraph.ops.methods import Methods
from checks import TARGETS, check, check_raises, evaluations

X = np.random.default_rng(0).uniform(0.2, 0.9, (2, 3, 4)).astype(np.float32)
SIGNED = np.random.default_rng(1).uniform(-3, 3, (3, 4)).astype(np.float32)
WHOLE = np.random.default_rng(2).integers(-5, 6, (3, 4))

BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge", "eq", "ne"]
BITS = ["and_", "or_", "xor", "lshift", "rshift"]
FUNCTIONS = {
    "add": ag.add,
    "sub": ag.subtract,
    "mul": ag.multiply,
    "truediv": ag.divide,
    "floordiv": ag.floor_divide,
    "mod": ag.remainder,
    "pow": ag.pow,
    "lt": ag.less,
    "le": ag.less_equal,
    "gt": ag.greater,
    "ge": ag.greater_equal,
    "eq": ag.equal,
    "ne": ag.not_equal,
    "matmul": ag.matmul,
    "and_": ag.bitwise_and,
    "or_": ag.bitwise_or,
    "xor": ag.bitwise_xor,
    "lshift": ag.bitwise_left_shift,
    "rshift": ag.bitwise_right_shift,
}
MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators_are_the_functions(name):
    apply, function = getattr(operator, name), FUNCTIONS[name]
    array = np.abs(WHOLE) + 1 if name in BITS else X[0]
    x = ag.asarray(array)
    others: list[Any] = [ag.asarray(array[:, :1])] if name != "matmul" else []
    others += [array.T if name == "matmul" else array[:1], array.T.tolist() if name == "matmul" else array.tolist()]
    if name != "matmul":
        others += [2, np.int64(2), np.array(2)] + ([] if name in BITS else [2.5, True, np.float64(0.5)])
    for other in others:
        check_same(apply(x, other), function(x, other))
        # From the left Python asks the other side for the mirrored comparison.
        if not isinstance(other, ag.Array) and name not in ("lt", "le", "gt", "ge"):
            check_same(apply(other, x), function(other, x))
        if not isinstance(other, ag.Array) and name in MIRRORED and not isinstance(other, np.generic | np.ndarray):
            check_same(apply(other, x), FUNCTIONS[MIRRORED[name]](x, other))


def check_same(ours: Any, expected: ag.Array) -> None:
    assert isinstance(ours, ag.Array)
    assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(ours.compute(), expected.compute())


@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge"])
@pytest.mark.parametrize("other", [0.5, np.float64(0.5), X[0], X[0].tolist()], ids=lambda each: type(each).__name__)
def test_comparisons_from_the_left(name, other):
    expected = getattr(operator, name)(np.asarray(other, np.float32), X[1])
    check(getattr(operator, name)(other, ag.asarray(X[1])), expected)


@pytest.mark.parametrize(
    ("apply", "function"),
    [
        (operator.neg, ag.negative),
        (operator.pos, ag.positive),
        (abs, ag.abs),
        (operator.invert, ag.bitwise_invert),
    ],
)
def test_unary_operators(apply, function):
    assert apply(ag.asarray(WHOLE)).node is function(ag.asarray(WHOLE)).node


def test_updates_bind_a_new_value():
    x = ag.asarray(X)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"):
        updated = getattr(operator, name)(x, 2)
        assert updated.node is getattr(operator, name[1:])(x, 2).node
    np.testing.assert_array_equal(x.compute(), X)


UNARY = """
exp exp2 expm1 log log2 log1p sqrt rsqrt square abs sign tanh sigmoid sin cos floor ceil trunc relu erf reciprocal
isnan isinf isfinite logical_not
"""


@pytest.mark.parametrize("name", [*UNARY.split(), "round"])
def test_unary_methods_are_the_functions(name):
    assert getattr(ag.asarray(X), name)().node is getattr(ag, name)(ag.asarray(X)).node


PAIRS = {
    "add": ag.add,
    "sub": ag.subtract,
    "mul": ag.multiply,
    "div": ag.divide,
    "pow": ag.pow,
    "maximum": ag.maximum,
    "minimum": ag.minimum,
    "remainder": ag.remainder,
    "floor_divide": ag.floor_divide,
    "eq": ag.equal,
    "ne": ag.not_equal,
    "lt": ag.less,
    "le": ag.less_equal,
    "gt": ag.greater,
    "ge": ag.greater_equal,
    "logical_and": ag.logical_and,
    "logical_or": ag.logical_or,
    "logical_xor": ag.logical_xor,
    "clamp_min": ag.maximum,
    "clamp_max": ag.minimum,
}


@pytest.mark.parametrize("name", PAIRS)
def test_binary_methods_are_the_functions(name):
    x = ag.asarray(X)
    for other in (X[:1], 0.5, ag.asarray(X[0])):
        assert getattr(x, name)(other).node is PAIRS[name](x, other).node


ALONG = ["sum", "prod", "max", "min", "mean", "var", "std", "argmax", "argmin"]
# Under torch's keyword these are something else.
APART = {"max", "min", "var", "std"}


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_reductions_under_numpys_and_torchs_keywords(name, axis):
    x = ag.asarray(X)
    expected = getattr(X.astype(np.float64), name)(axis)
    kept = getattr(X.astype(np.float64), name)(axis, keepdims=True)
    under = [{"axis": axis}] if name in APART else [{"axis": axis}, {"dim": axis}]
    for lazy in (getattr(x, name)(axis), *(getattr(x, name)(**words) for words in under)):
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6)
        assert lazy.shape == expected.shape
    under = [{"keepdims": True}, {"axis": axis, "keepdims": True}]
    for words in under if name in APART else [*under, {"dim": axis, "keepdim": True}]:
        lazy = getattr(x, name)(**words) if len(words) > 1 else getattr(x, name)(axis, **words)
        np.testing.assert_allclose(lazy.compute(), kept, rtol=1e-6)
        assert lazy.shape == kept.shape


TORCHS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    **{
        key: [((), {"dim": 1}), ((), {"dim": -1, "keepdim": True}), ((0, True), {}), ((), {})] for key in ("max", "min")
    },
    **{
        key: [
            *[((), {"dim": dim}) for dim in (0, -1, (0, 2), None, ())],
            ((1,), {"keepdim": True}),
            ((1, False), {}),
            ((1, True, True), {}),
            ((), {"dim": 1, "correction": 0}),
            ((), {"dim": 1, "unbiased": False}),
            ((), {"unbiased": False}),
        ]
        for key in ("var", "std")
    },
    **dict.fromkeys(
        ("sum", "mean", "amax", "amin"),
        [((), {"dim": dim}) for dim in (0, (0, 1), [2, 0], (), None)] + [((1, True), {}), ((1,), {"keepdim": True})],
    ),
    **{key: [((), {"dim": 1, "keepdim": True}), ((-1, True), {}), ((), {"dim": None})] for key in ("argmax", "argmin")},
    **{key: [((), {"dim": 1}), ((1, True), {})] for key in ("any", "all", "prod", "logsumexp")},
    **{key: [((), {"dim": 1}), ((-1,), {})] for key in ("softmax", "log_softmax", "cumsum")},
    "sort": [((), {}), ((0,), {}), ((), {"dim": 1, "descending": True})],
    "argsort": [((), {}), ((), {"dim": 1, "descending": True})],
    "topk": [((2,), {}), ((2,), {"dim": 1, "largest": False}), ((2, 0), {})],
    "transpose": [((1, 2), {}), ((0, -1), {}), ((), {"dim0": 0, "dim1": 1})],
    "swapaxes": [((0, 2), {})],
    "swapdims": [((0, 2), {})],
    "permute": [((1, 2, 0), {}), ((), {"dims": (1, 2, 0)})],
    "movedim": [((0, 2), {})],
    "chunk": [((2,), {}), ((3, 2), {}), ((3,), {"dim": -1})],
    "split": [((1,), {}), ((3,), {"dim": 2}), (([1, 3], -1), {})],
    "unbind": [((), {}), ((2,), {}), ((), {"dim": 1})],
    "narrow": [((1, 1, 2), {}), ((2, -3, 2), {})],
    "expand": [((5, 2, 3, 4), {}), ((2, -1, 4), {}), (((1, 2, 3, 4),), {})],
    "flatten": [((), {}), ((1,), {}), ((0, 1), {}), ((), {"start_dim": -2}), ((), {"end_dim": 0})],
    "unflatten": [((2, (2, 2)), {}), ((-1, (2, -1)), {}), ((), {"dim": 1, "sizes": (3, 1)})],
    "repeat": [((2, 1, 3), {}), (((2, 2, 1, 1),), {})],
    "repeat_interleave": [((2,), {}), ((2,), {"dim": 1}), ((2, 0), {})],
    "tril": [((), {}), ((), {"diagonal": 1}), ((-1,), {})],
    "triu": [((), {}), ((), {"diagonal": 1}), ((-1,), {})],
    "roll": [((1,), {}), ((1, 2), {}), ((), {"shifts": (1, -1), "dims": (0, 1)})],
    "flip": [((0,), {}), ((0, 1), {}), ((), {"dims": (1, 2)})],
    "squeeze": [((), {}), ((), {"dim": 1}), ((), {"dim": (0, 2)})],
    "norm": [((), {}), ((), {"dim": 1}), ((1,), {"dim": -1, "keepdim": True}), ((float("inf"), 1), {}), ((3, 1), {})],
}


@pytest.mark.parametrize("name", TORCHS)
def test_torchs_words_mean_what_torch_means(name):
    torch = pytest.importorskip("torch")
    for array in (X, np.stack([np.round(SIGNED)] * 2)):
        for args, words in TORCHS[name]:
            try:
                expected = getattr(torch.tensor(array), name)(*args, **words)
            except RuntimeError:
                continue  # this array has not such lengths
            parts = expected if isinstance(expected, tuple) else (expected,)
            if name in ("argmax", "argmin", "argsort", "sort", "max", "min", "topk") and array is not X:
                parts = [part for part in parts if part.dtype != torch.int64]  # which of equals, torch does not say
            ours = getattr(ag.asarray(array), name)(*args, **words)
            assert isinstance(ours, tuple) == isinstance(expected, tuple)
            if hasattr(expected, "values") and isinstance(expected, tuple):
                assert ours.values is ours[0]
                assert ours.indices is ours[1]
            for mine, theirs in zip(ours if isinstance(ours, tuple) else (ours,), parts, strict=False):
                assert mine.shape == theirs.shape
                assert str(mine.dtype) == str(theirs.dtype).removeprefix("torch.")
                np.testing.assert_allclose(mine.compute(), theirs.numpy(), rtol=2e-6, atol=1e-6)


def test_of_equals_the_first_is_found():
    x = ag.asarray(np.float32([[1, 3, 3], [2, 0, 0]]))
    np.testing.assert_array_equal(x.max(dim=1).indices.compute(), [1, 0])
    np.testing.assert_array_equal(x.min(dim=-1, keepdim=True).indices.compute(), [[0], [1]])
    for lazy in (x.max(), x.max(1), x.max(axis=1), x.amax(dim=1)):
        assert isinstance(lazy, ag.Array)
    check_raises(ag.ArgumentError, r"max: dim is one axis, not \(0, 1\); amax takes several", lambda: x.max(dim=(0, 1)))


def test_unsigned_sums_are_signed_under_torchs_words():
    x = ag.asarray(np.uint8([[200, 100]]))
    for name in ("sum", "prod", "cumsum"):
        assert getattr(x, name)(dim=1).dtype == np.int64
        assert getattr(x, name)(axis=1).dtype == np.uint64


def test_numpys_words_mean_what_numpy_means():
    x = ag.asarray(X)
    for lazy, expected in (
        (x.repeat(2, axis=1), X.repeat(2, axis=1)),
        (x.repeat(repeats=[1, 0, 2], axis=1), X.repeat([1, 0, 2], axis=1)),
        (x.sort(axis=1), np.sort(X, 1)),
        (x.argsort(axis=1), X.argsort(1)),
        (x.take([1, 0], axis=2), X.take([1, 0], axis=2)),
        (x.take([13, 2]), X.take([13, 2])),
        (x.flatten("C"), X.flatten("C")),
        (x[0].transpose((0, 1)), X[0]),
        (x[0].transpose(1, 0), X[0].T),
        (x[0].transpose(0, 1), X[0].T),  # torch's: NumPy's would do nothing
    ):
        np.testing.assert_array_equal(lazy.compute(), expected)
    check_raises(ag.ArgumentError, "repeat: .* with axis= it is NumPy's", x.repeat, 2)


def test_reductions_over_several_axes_and_their_options():
    x = ag.asarray(X)
    np.testing.assert_allclose(x.sum((0, 2)).compute(), X.sum((0, 2)), rtol=1e-6)
    np.testing.assert_allclose(x.mean(dim=(-1, -2)).compute(), X.mean((-1, -2)), rtol=1e-6)
    np.testing.assert_allclose(x.var(-1, correction=1).compute(), X.var(-1, ddof=1), rtol=1e-5)
    assert x.sum(dtype="float64").dtype == np.float64
    np.testing.assert_array_equal((x > 0.5).any(1).compute(), (X > 0.5).any(1))
    np.testing.assert_array_equal((x > 0.5).all().compute(), (X > 0.5).all())
    np.testing.assert_array_equal(x.amax(1).compute(), X.max(1))
    np.testing.assert_array_equal(x.amin(dim=1, keepdim=True).compute(), X.min(1, keepdims=True))
    np.testing.assert_allclose(x.cumsum(1).compute(), X.cumsum(1), rtol=1e-6)
    np.testing.assert_allclose(x.logsumexp(-1).compute(), np.log(np.exp(X).sum(-1)), rtol=1e-6)
    for lazy in (x.softmax(), x.softmax(-1), x.softmax(dim=2)):
        assert lazy.node is ag.softmax(x, -1).node
    assert x.log_softmax(0).node is ag.log_softmax(x, 0).node
    check_raises(ag.ShapeError, "sum: axis 3 of an array with 3 axes", x.sum, 3)


MOVES = [
    (lambda x: x.T, lambda x: x.T),
    (lambda x: x.mT, lambda x: x.swapaxes(-1, -2)),
    (lambda x: x.reshape(4, 6), lambda x: x.reshape(4, 6)),
    (lambda x: x.reshape((4, -1)), lambda x: x.reshape(4, 6)),
    (lambda x: x.reshape([24]), lambda x: x.reshape(24)),
    (lambda x: x.reshape(-1), lambda x: x.reshape(-1)),
    (lambda x: x.view(6, 4), lambda x: x.reshape(6, 4)),
    (lambda x: x.transpose(), lambda x: x.T),
    (lambda x: x.transpose(2, 0, 1), lambda x: x.transpose(2, 0, 1)),
    (lambda x: x.transpose((2, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    (lambda x: x.permute(1, 2, 0), lambda x: x.transpose(1, 2, 0)),
    (lambda x: x.permute((1, 2, 0)), lambda x: x.transpose(1, 2, 0)),
    (lambda x: x.flatten(), lambda x: x.ravel()),
    (lambda x: x.ravel(), lambda x: x.ravel()),
    (lambda x: x[:, None].squeeze(), lambda x: x),
    (lambda x: x[:, None].squeeze(1), lambda x: x),
    (lambda x: x.unsqueeze(-1), lambda x: x[..., None]),
    (lambda x: x.unsqueeze(0), lambda x: x[None]),
    (lambda x: x.clip(0.3, 0.5), lambda x: x.clip(0.3, 0.5)),
    (lambda x: x.clip(min=0.3), lambda x: np.maximum(x, np.float32(0.3))),
    (lambda x: x.clamp(max=0.5), lambda x: np.minimum(x, np.float32(0.5))),
    (lambda x: x.round(1), lambda x: x.round(1)),
    (lambda x: x.round(decimals=2), lambda x: x.round(2)),
    (lambda x: x[1], lambda x: x[1]),
    (lambda x: x[..., ::-1, [0, 2]], lambda x: x[..., ::-1, [0, 2]]),
    (lambda x: x.copy(), lambda x: x),
    (lambda x: x.clone().contiguous().detach(), lambda x: x),
]


@pytest.mark.parametrize("number", range(len(MOVES)))
def test_what_numpys_and_torchs_arrays_do(number):
    ours, theirs = MOVES[number]
    expected = theirs(X)
    lazy = ours(ag.asarray(X))
    assert lazy.shape == expected.shape
    for target, result in evaluations(lazy).items():
        np.testing.assert_allclose(result, expected, rtol=1e-6 if target == "reference64" else 0)


TYPES = {"long": "int64", "int": "int32", "float": "float32", "double": "float64", "half": "float16", "bool": "bool"}


@pytest.mark.parametrize("name", TYPES)
def test_casting_methods(name):
    check(getattr(ag.asarray(WHOLE), name)(), WHOLE.astype(TYPES[name]))
    assert ag.asarray(WHOLE).astype(TYPES[name]).node is getattr(ag.asarray(WHOLE), name)().node


def test_to_another_type_but_to_no_other_device():
    x = ag.asarray(X)
    assert x.to("float16").dtype == np.float16
    assert x.to(np.int8).dtype == np.int8
    assert x.to(np.dtype("int8")).dtype == np.int8
    assert x.to(dtype="float64").dtype == np.float64
    assert x.to(float).node is x.node
    assert x.to(ag.asarray(WHOLE)).dtype == np.int64
    assert x.to(WHOLE).dtype == np.int64
    assert x.to("cpu").node is x.to(device="cpu").node is x.to().node is x.node
    assert x.to("cpu", "float16").dtype == np.float16
    assert x.to("cpu", "float16", True, copy=True).dtype == np.float16
    assert x.to(device="cpu", dtype="float16").dtype == np.float16
    for wrong in ("cuda", "cuda:0", "meta", "nonsense"):
        check_raises(ag.DTypeError, "is no data type", x.to, wrong)
        check_raises(ag.DTypeError, "is no data type", lambda given=wrong: x.to(device=given))


def test_to_torchs_types_and_devices():
    torch = pytest.importorskip("torch")
    x = ag.asarray(X)
    assert x.to(torch.float16).dtype == np.float16
    assert x.to(torch.bfloat16).dtype.name == "bfloat16"
    assert x.to(torch.device("cpu")).node is x.node
    assert x.to(torch.device("cpu"), torch.int32).dtype == np.int32
    assert x.to(torch.zeros(1, dtype=torch.int8)).dtype == np.int8
    assert x.astype(torch.float64).dtype == np.float64
    check_raises(ag.DTypeError, "is no data type", x.to, torch.device("cuda"))
    check_raises(ag.DTypeError, "is not supported|is no data type", x.to, torch.complex64)


@pytest.mark.parametrize(
    ("left", "right"),
    [((4,), (4,)), ((3, 4), (4,)), ((3, 4), (4, 2)), ((2, 3, 4), (4, 2)), ((2, 3, 4), (5, 4, 2)), ((3, 4), (2, 4, 5))],
)
def test_dot_is_numpys_matmul_is_matmul(left, right):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(np.float32) for shape in (left, right))
    for lazy in (ag.asarray(x).dot(y), np.dot(ag.asarray(x), y), np.dot(x, ag.asarray(y))):
        np.testing.assert_allclose(lazy.compute(), np.dot(x, y), rtol=1e-5, atol=1e-5)
    if len(right) <= 2:
        np.testing.assert_allclose(ag.asarray(x).matmul(y).compute(), x @ y, rtol=1e-5, atol=1e-5)


def test_dot_with_scalars_is_a_product():
    check(ag.asarray(X).dot(2), X * 2)
    check(np.dot(3, ag.asarray(X)), X * 3)


@pytest.mark.parametrize("name", ["item", "tolist", "numpy"])
def test_a_number_is_not_at_hand(name):
    check_raises(
        ag.TraceError, rf"{name}: a lazy float32\[\] has no value yet; call .compute\(\)", getattr(ag.sum(X), name)
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_long_chain_of_methods(target):
    with ag.config.set(target=target):
        lazy = ag.asarray(SIGNED).abs().clamp(0.5, 2).log().sub(1).mul(-1).exp().sum(-1, keepdims=True).reshape(-1)
        expected = np.exp(-(np.log(np.abs(SIGNED.astype(np.float64)).clip(0.5, 2)) - 1)).sum(-1)
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6)


def test_every_method_says_what_it_does():
    for name, method in inspect.getmembers(Methods, inspect.isfunction):
        if not name.startswith("__") or name in ("__add__", "__rsub__", "__lt__"):
            assert method.__doc__, name


def test_operands_that_are_no_arrays():
    x = ag.asarray(X)
    for other in (None, "text", object(), {1: 2}, 1j):
        for apply in (operator.add, operator.mul, operator.eq, operator.lt, operator.matmul):
            check_raises(ag.DTypeError, "cannot make an array of", apply, x, other)
            check_raises(ag.DTypeError, "cannot make an array of", apply, other, x)
    check_raises(
        ag.ShapeError, r"add: shapes \(2, 3, 4\) and \(5,\) do not broadcast: 4 against 5", lambda: x + [1] * 5
    )
    check_raises(ag.ShapeError, "do not broadcast", lambda: np.ones(5) + x)
