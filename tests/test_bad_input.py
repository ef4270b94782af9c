"""Bad input: a typed error that names the operation, both sides and the user's line; never a crash."""

import inspect
import itertools
import operator
import pickle
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.errors import SignatureError

RNG = np.random.default_rng(50)
Q, K, V = (RNG.standard_normal((1, 2, 5, 4)).astype("float32") for _ in range(3))
X = np.arange(6, dtype="float32").reshape(2, 3)
TABLE = RNG.standard_normal(16).astype("float32")


def spoilt(array, value=np.nan):
    array = array.copy()
    array[0, 1, 2, 3] = value
    return array


def resized():
    array = np.ones((2, 3), "float32")
    lazy = ag.asarray(array) * 2
    array.resize((4, 3), refcheck=False)
    return lazy


def changed_in_place(attribute, value):
    array = np.ones((2, 3), "float32")
    lazy = ag.asarray(array) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        setattr(array, attribute, value)
    return lazy


def read_only(array):
    array.flags.writeable = False
    return array


def with_limit(length):
    with ag.config.set(max_length=length):
        return ag.attention(Q, K, V)


def heads(count):
    return np.ones((1, count, 5, 4), "float32")


BOTH = ("query float32[1, 2, 5, 4]", "key ")
OUT = ("double: out: ",)


def double(x):
    return x * 2


def branching(x):
    return x if ag.sum(x) > 0 else -x  # the branch


def numbers(x):
    return x[0][0]


def nothing(x):
    return None


def cubed(s):
    return s * s * s


def divmod_of(s, t):
    return s // t, s % t


def needs_gradient():
    torch = pytest.importorskip("torch")
    return ag.asarray(torch.ones(3, requires_grad=True))


# What is called, the error, and what its message must say.
CASES = {
    # Shapes and types that do not go together.
    "widths": (lambda: ag.attention(Q, K[..., :3], V), ag.ShapeError, (*BOTH, "4 against 3")),
    "lengths": (lambda: ag.attention(Q, K, V[:, :, :4]), ag.ShapeError, (*BOTH, "5 against 4")),
    "batches": (
        lambda: ag.attention(np.ones((3, 2, 5, 4), "float32"), np.ones((2, 2, 5, 4), "float32"), V),
        ag.ShapeError,
        ("query float32[3, 2, 5, 4]", "key float32[2, 2, 5, 4]", "3 against 2"),
    ),
    "types": (lambda: ag.attention(Q, K.astype(float), V), ag.DTypeError, (*BOTH, "float64", "astype")),
    "integers": (lambda: ag.attention(Q.astype(int), K, V), ag.DTypeError, ("query", "int64[1, 2, 5, 4]")),
    "one axis": (lambda: ag.attention(Q[0, 0, 0], K, V), ag.ShapeError, ("(…, heads, length, dim)", "float32[4]")),
    "mask shape": (
        lambda: ag.attention(Q, K, V, mask=np.ones((4, 5), bool)),
        ag.ShapeError,
        ("mask of shape (4, 5)", "(1, 2, 5, 5)"),
    ),
    "bias shape": (
        lambda: ag.attention(Q, K, V, bias=np.ones((5, 4), "float32")),
        ag.ShapeError,
        ("bias of shape (5, 4)", "(1, 2, 5, 5)"),
    ),
    "a float mask": (
        lambda: ag.attention(Q, K, V, mask=np.zeros((5, 5), "float32")),
        ag.DTypeError,
        ("mask is boolean", "float32[5, 5]", "bias="),
    ),
    "a boolean bias": (
        lambda: ag.attention(Q, K, V, bias=np.ones((5, 5), bool)),
        ag.DTypeError,
        ("bias is a float array", "bool[5, 5]", "a boolean is a mask"),
    ),
    "a block mask of other lengths": (
        lambda: ag.attention(Q, K, V, mask=ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, 6, 5)),
        ag.ShapeError,
        ("block mask of shape (1, 1, 6, 5)", "(1, 2, 5, 5)"),
    ),
    "matmul": (lambda: ag.asarray(X) @ X, ag.ShapeError, ("matmul", "float32[2, 3] and float32[2, 3]", "3 against 2")),
    "add": (lambda: ag.asarray(X) + np.ones(4), ag.ShapeError, ("add", "(2, 3) and (4,)", "3 against 4")),
    "reshape": (lambda: ag.reshape(X, (4, 2)), ag.ShapeError, ("reshape", "float32[2, 3]", "(4, 2)")),
    "concat": (lambda: ag.concat([X, X.T]), ag.ShapeError, ("concat", "(2, 3)", "(3, 2)")),
    "axis": (lambda: ag.sum(X, 2), ag.ShapeError, ("sum", "axis 2", "2 axes")),
    "unsigned and signed": (
        lambda: ag.add(np.ones(2, "uint64"), np.ones(2, "int64")),
        ag.DTypeError,
        ("add", "uint64 and int64", "astype"),
    ),
    # Heads.
    "heads for none": (lambda: ag.attention(Q[:, :0], K, V, enable_gqa=False), ag.ShapeError, ("0 query heads and 2",)),
    "groups of nothing": (
        lambda: ag.attention(Q, K[:, :0], V[:, :0], enable_gqa=True),
        ag.ShapeError,
        ("0 key heads",),
    ),
    "heads that do not divide": (
        lambda: ag.attention(heads(3), heads(2), heads(2), enable_gqa=True),
        ag.ShapeError,
        ("3 query heads", "2 key heads", "query float32[1, 3, 5, 4]"),
    ),
    "heads without groups": (
        lambda: ag.attention(heads(4), heads(2), heads(2)),
        ag.ShapeError,
        ("4 query heads and 2 key heads", "enable_gqa=True"),
    ),
    # Values that are not finite.
    "NaN in the query": (
        lambda: ag.attention(spoilt(Q), K, V).compute(),
        ag.NonFiniteError,
        ("attention: query float32[1, 2, 5, 4]", "nan at [0, 1, 2, 3]"),
    ),
    "NaN in the key": (
        lambda: ag.scaled_dot_product_attention(Q, spoilt(K), V).compute(),
        ag.NonFiniteError,
        ("scaled_dot_product_attention: key float32[1, 2, 5, 4]", "nan at [0, 1, 2, 3]"),
    ),
    "infinity in the value": (
        lambda: ag.flex_attention(Q, K, spoilt(V, -np.inf)).compute(),
        ag.NonFiniteError,
        ("flex_attention: value float32[1, 2, 5, 4]", "-inf at [0, 1, 2, 3]"),
    ),
    # What is no array.
    "objects": (lambda: ag.attention(np.array([[None]]), K, V), ag.DTypeError, ("attention: query", "object")),
    "ragged lists": (lambda: ag.attention([[1.0, 2.0], [3.0]], K, V), ag.ShapeError, ("attention: query", "ragged")),
    "None": (lambda: ag.attention(Q, None, V), ag.DTypeError, ("attention: key", "None")),
    "text": (lambda: ag.softmax("scores"), ag.DTypeError, ("softmax", "str")),
    "complex": (lambda: ag.exp(np.ones(2, complex)), ag.DTypeError, ("exp", "complex128", "float32")),
    "masked": (lambda: ag.exp(np.ma.array([1.0], mask=[True])), ag.DTypeError, ("exp", "MaskedArray", "filled")),
    # Score functions.
    "a score function that branches": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: score if i >= j else -score),
        ag.TraceError,
        ("bool", "bool[1, 1, 5, 5]", "while the score function <lambda> is traced", "ag.where"),
    ),
    "a score function that compares twice": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: ag.where(0 <= i - j <= 3, score, 0.0)),
        ag.TraceError,
        ("bool", "ag.where"),
    ),
    "a NumPy table with a lazy index": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: score + TABLE[i - j + 5]),
        ag.TraceError,
        ("__array__", "the score function <lambda>", "wrap the table in ag.asarray"),
    ),
    "a list with a lazy index": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: score * [1.0, 2.0][h]),
        ag.TraceError,
        ("__index__", "int64[1, 2, 1, 1]"),
    ),
    "scores of another shape": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: score[..., :3]),
        ag.ShapeError,
        ("flex_attention: <lambda> returned float32[1, 2, 5, 3]", "(1, 2, 5, 5)"),
    ),
    "scores of more axes": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: score[None]),
        ag.ShapeError,
        ("flex_attention: <lambda> returned float32[1, 1, 2, 5, 5]", "(1, 2, 5, 5)"),
    ),
    "no scores": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: None),
        ag.DTypeError,
        ("flex_attention: <lambda> returned None",),
    ),
    "integer scores": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: i - j),
        ag.DTypeError,
        ("flex_attention: <lambda> returned int64[1, 1, 5, 5]", "float scores"),
    ),
    "boolean scores": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: i >= j),
        ag.DTypeError,
        ("flex_attention: <lambda> returned bool[1, 1, 5, 5]", "float scores"),
    ),
    "a score function of other arguments": (
        lambda: ag.flex_attention(Q, K, V, lambda score: score),
        SignatureError,
        ("flex_attention: score_mod is called as score_mod(score, b, h, q_idx, kv_idx)", "<lambda>(score)"),
    ),
    "a branch in a compiled function": (
        lambda: ag.compile(branching)(X),
        ag.TraceError,
        ("bool: a lazy bool[] has no value while the function branching is traced", "ag.where"),
    ),
    "text for scores": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: "score"),
        ag.DTypeError,
        ("flex_attention: what <lambda> returned", "str"),
    ),
    "an index out of range": (
        lambda: ag.flex_attention(Q, K, V, lambda score, b, h, i, j: score + ag.asarray(TABLE)[i - j + 12]).compute(),
        ag.IndexOutOfRangeError,
        ("getitem: index 16", "axis 0 of float32[16]", "length 16"),
    ),
    # What was called is named, not a step inside it.
    "take": (lambda: ag.take(X, ag.asarray([7]), axis=0).compute(), ag.IndexOutOfRangeError, ("take: index 7",)),
    "take now": (lambda: ag.take(X, 7, axis=0), ag.IndexOutOfRangeError, ("take: index 7",)),
    "a weight of another width": (lambda: ag.layer_norm(X, np.ones(4)), ag.ShapeError, ("layer_norm: multiply: ",)),
    "transpose": (lambda: ag.asarray(X).transpose(1, 2), ag.ShapeError, ("transpose: ", "axis 2 of")),
    "cumsum": (lambda: ag.asarray(X).cumsum(2), ag.ShapeError, ("cumsum: ", "axis 2 of")),
    "a type of no name": (lambda: ag.zeros(3, dtype="float99"), ag.DTypeError, ("zeros: ", "float99")),
    "a segment below 0": (
        lambda: ag.segment_sum(X, np.array([0, -1]), 3).compute(),
        ag.IndexOutOfRangeError,
        ("segment_sum: segment id -1 is out of range for 3 segments",),
    ),
    "text alone": (lambda: ag.exp("text"), ag.DTypeError, ("exp: cannot make an array of str\n",)),
    "a gradient that would be lost": (
        needs_gradient,
        ag.ArgumentError,
        ("asarray: a tensor that requires grad", ".detach()"),
    ),
    "thousands of numbers": (
        lambda: ag.compile(numbers)(np.ones((80, 80)).tolist()),
        ag.ArgumentError,
        ("numbers: 6400 of Python's numbers", "asarray"),
    ),
    "a picture of another kind": (
        lambda: ag.asarray(X).visualize().save("picture.png"),
        ag.ArgumentError,
        ("visualize: ", "'picture.png'", ".svg"),
    ),
    "no memory": (
        lambda: ag.zeros((10**6,) * 3).compute(),
        ag.LimitError,
        ("broadcast_to: there is no memory for 4000000000000000000 bytes",),
    ),
    # Arrays that change after they are bound.
    "resized": (lambda: resized().compute(), ag.ShapeError, ("float32[2, 3] when", "float32[4, 3] now")),
    "another shape": (
        lambda: changed_in_place("shape", (3, 2)).compute(),
        ag.ShapeError,
        ("float32[2, 3] when", "float32[3, 2] now"),
    ),
    "another type": (
        lambda: changed_in_place("dtype", np.dtype("int32")).compute(),
        ag.ShapeError,
        ("float32[2, 3] when", "int32[2, 3] now"),
    ),
    # out.
    "out overlaps": (lambda: ag.compile(double)(X, out=X), ag.ArgumentError, (*OUT, "overlaps", "input")),
    "out is read-only": (
        lambda: ag.compile(double)(X, out=read_only(np.empty((2, 3), "float32"))),
        ag.ArgumentError,
        (*OUT, "read-only"),
    ),
    "out of another shape": (
        lambda: ag.compile(double)(X, out=np.empty((3, 2), "float32")),
        ag.ArgumentError,
        (*OUT, "float32[3, 2]", "float32[2, 3]"),
    ),
    "out of another type": (
        lambda: ag.compile(double)(X, out=np.empty((2, 3))),
        ag.ArgumentError,
        (*OUT, "float64[2, 3]", "float32[2, 3]"),
    ),
    "out of another structure": (
        lambda: ag.compile(double)(X, out=[np.empty((2, 3), "float32")]),
        ag.ArgumentError,
        ("double: out", "[*]", "*"),
    ),
    # Gradients.
    "a gradient by integers": (
        lambda: ag.grad(double)(np.arange(3)),
        ag.DTypeError,
        ("grad: argument 0 of double", "int64[3]", "only floats"),
    ),
    "integers among parameters": (
        lambda: ag.vjp(numbers, {"weights": X, "steps": np.arange(3)}),
        ag.DTypeError,
        ("vjp: argument 0 of numbers", "int64[3]", "only floats"),
    ),
    "a gradient of integers": (
        lambda: ag.gradients(ag.sum(ag.arange(3)), ag.asarray(X)),
        ag.DTypeError,
        ("gradients: the output", "int64[]", "only floats"),
    ),
    "a gradient of an array": (lambda: ag.grad(double)(X), ag.ShapeError, ("double returns float32[2, 3]", "ag.vjp")),
    "a gradient of nothing": (lambda: ag.grad(nothing)(X), ag.ArgumentError, ("nothing returns NoneType", "ag.vjp")),
    "no argument": (lambda: ag.grad(double, argnums=1)(X), ag.ArgumentError, ("grad: argument 1 of double", "given 1")),
    "a seed of another shape": (
        lambda: ag.gradients(ag.asarray(X) * 2, ag.asarray(X), X[0]),
        ag.ShapeError,
        ("gradients: ", "float32[3]", "float32[2, 3]"),
    ),
    "no seed": (lambda: ag.gradients(ag.asarray(X) * 2, X), ag.ShapeError, ("gradients: ", "float32[2, 3]", "seed=")),
    "a pullback of another structure": (
        lambda: ag.vjp(double, X)[1]([X]),
        ag.ArgumentError,
        ("the pullback of double", "[*]", "where *"),
    ),
    "a pullback of another shape": (
        lambda: ag.vjp(double, X)[1](X[0]),
        ag.ShapeError,
        ("vjp: ", "float32[3]", "float32[2, 3]"),
    ),
    "a pullback of nothing": (lambda: ag.vjp(double, X)[1](None), ag.DTypeError, ("vjp: ", "None")),
    "a function without a gradient": (
        lambda: ag.grad(ag.scalar_function(cubed, gradient=None))(1.5),
        ag.ArgumentError,
        ("cubed: has no gradient", "gradient="),
    ),
    "a gradient of other arguments": (
        lambda: ag.grad(ag.scalar_function(cubed, gradient=divmod_of))(1.5),
        ag.ArgumentError,
        ("cubed takes 1 arguments", "its gradient 2"),
    ),
    "a branch": (lambda: ag.grad(branching)(X), ag.TraceError, ("bool", "bool[]", "ag.where")),
    # Limits, and data that is missing.
    "too long": (lambda: with_limit(4), ag.LimitError, ("a sequence of 5", "config.max_length=4", *BOTH)),
    "dropout": (
        lambda: ag.scaled_dot_product_attention(Q, K, V, dropout_p=0.1),
        ag.LimitError,
        ("scaled_dot_product_attention", "dropout_p=0.1", "only 0"),
    ),
    "a placeholder": (
        lambda: ag.compute(ag.placeholder((2, 3), name="tokens") + 1),
        ag.ArgumentError,
        ("'tokens'", "float32[2, 3]", "no data", "ag.compile"),
    ),
    "a lazy value as a number": (lambda: float(ag.sum(X)), ag.TraceError, ("float", "float32[]", ".compute()")),
    "a lazy array written to": (
        lambda: ag.asarray(X).__setitem__(0, 1.0),
        ag.TraceError,
        ("setitem", "float32[2, 3]", "ag.where"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_error_is_typed_and_says_where(name):
    call, error, parts = CASES[name]
    with pytest.raises(error) as caught:
        call()
    said = str(caught.value)
    for part in parts:
        assert part in said
    file, number = caught.value.line
    assert file == __file__
    assert said.endswith(f"\n  at {__file__}:{number}")
    assert number == _written(call)
    revived = pickle.loads(pickle.dumps(caught.value))
    assert (type(revived), str(revived), revived.line) == (error, said, caught.value.line)


def _written(call):
    """The line that an error must name: in the function that the case calls, or in the case itself."""
    lines = Path(__file__).read_text().splitlines()
    first = call.__code__.co_firstlineno
    text = lines[first - 1]
    for function, marked in (
        ("resized()", resized),
        ("changed_in_place(", changed_in_place),
        ("with_limit(", with_limit),
        ("(branching)", branching),
        ("needs_gradient()", needs_gradient),
    ):
        if function in text:
            source, start = inspect.getsourcelines(marked)
            return start + next(
                place
                for place, line in enumerate(source)
                if "ag.asarray" in line or "attention(" in line or "# the branch" in line
            )
    return first


@pytest.mark.parametrize("target", ["native", "reference", "reference64"])
def test_errors_are_the_same_under_every_target(target):
    with ag.config.set(target=target):
        for name in ("NaN in the key", "an index out of range", "resized", "a placeholder", "out overlaps"):
            call, error, parts = CASES[name]
            with pytest.raises(error) as caught:
                call()
            assert all(part in str(caught.value) for part in parts)


def test_the_users_own_errors_pass():
    def score_mod(score, b, h, q_idx, kv_idx):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ag.flex_attention(Q, K, V, score_mod)
    with pytest.raises(ZeroDivisionError):
        ag.create_block_mask(lambda b, h, i, j: i // (0 / 0), None, None, 4, 4)
    np.testing.assert_array_equal(np.asarray(ag.asarray(X)), X)  # nothing is being traced any more


def test_a_wrong_call_is_pythons_own_error():
    for call in (
        lambda: ag.attention(Q, K),
        lambda: ag.attention(Q, K, V, causal=True),
        lambda: ag.softmax(X, dim=0),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert not isinstance(caught.value, ag.AttnGraphError)


# Hostile numbers, indices and masks, through compiled kernels: the interpreter's answer, or its error.

LEAST, LARGEST = float(np.finfo("float32").min), float(np.finfo("float32").max)
LENGTH = 40
WIDE = [np.random.default_rng(51).standard_normal((1, 2, LENGTH, 4)).astype("float32") for _ in range(3)]
ZEROS, ONES = ag.asarray(np.zeros(LENGTH, "int64")), ag.asarray(np.ones(LENGTH, "int64"))
INT_MIN = ag.asarray(np.full(LENGTH, -(2**63)))
SHORT = ag.asarray(np.arange(LENGTH - 3, dtype="float32"))
VERDICTS = ag.asarray(np.zeros(LENGTH - 3, bool))
ROW_TERM = np.zeros(LENGTH, "float32")
ROW_TERM[:3] = np.inf, -np.inf, np.nan
ROWS = ag.asarray(ROW_TERM)


def masked(score, visible):
    return ag.where(visible, score, -ag.inf)


# Score functions: of what there is an answer.
HOSTILE = {
    "division by a lazy zero": lambda s, b, h, i, j: s + (i - j) // ZEROS[j] + (i - j) % ZEROS[i],
    "division of floats by zero": lambda s, b, h, i, j: masked(s / (i - j), i != j),
    "the least integer by -1": lambda s, b, h, i, j: s + (INT_MIN[i] // -ONES[j] == INT_MIN[j]) * (i - j) * 0.1,
    "the least integer modulo -1": lambda s, b, h, i, j: s + INT_MIN[i] % -ONES[j],
    "shifts beyond the width": lambda s, b, h, i, j: s + ((i << (j + 60)) & 1) + (INT_MIN[i] >> (j + 60)),
    "integers that wrap": lambda s, b, h, i, j: s + ((i + 2**62) * 4 == 4 * i) * 0.5,
    "a table too short where hidden": lambda s, b, h, i, j: masked(s + SHORT[j] * 0.1, j < LENGTH - 3),
    "far too short where hidden": lambda s, b, h, i, j: masked(s + SHORT[j * 2**40], j == 0),
    "a row of no scores": lambda s, b, h, i, j: s + ag.log(i * 1.0),
    "rows that are not finite": lambda s, b, h, i, j: s + ROWS[i],
    "minus infinity everywhere": lambda s, b, h, i, j: s - ag.inf,
    "infinity everywhere": lambda s, b, h, i, j: s + ag.inf,
    "NaN everywhere": lambda s, b, h, i, j: s + ag.nan,
    "the least float as a bias": lambda s, b, h, i, j: ag.where(i >= j, s, LEAST),
    "the least float for whole rows": lambda s, b, h, i, j: ag.where(i > 5, s, LEAST),
    "overflow on the way": lambda s, b, h, i, j: ag.log(ag.exp(s * 20)),
    "overflow that is hidden": lambda s, b, h, i, j: masked(ag.where(i >= j, s, ag.exp(s * 1e6)), i >= j),
    "infinity as an integer": lambda s, b, h, i, j: s + (s / 0.0).astype("int8") * 0.01,
}
# As those, but with an error.
OUTSIDE = {
    "a table too short": lambda s, b, h, i, j: s + SHORT[j],
    "too short at one row": lambda s, b, h, i, j: masked(s + SHORT[i - 2], j < 3),
    "too short in a mask": lambda s, b, h, i, j: masked(s, SHORT[j] > 3),
    "in a mask of nothing": lambda s, b, h, i, j: masked(s, VERDICTS[j]),
    "in a mask of nothing, everywhere": lambda s, b, h, i, j: masked(s, VERDICTS[ag.asarray(-LENGTH)]),
    "of which nothing is left": lambda s, b, h, i, j: masked(s, j >= (SHORT[j - i].astype("int64") * 0)),
    "the least integer as an index": lambda s, b, h, i, j: s + SHORT[INT_MIN[i]],
}
COMPILED_TARGETS = ("native", "x86-64-v2", "x86-64-v3")


def hostile_outcome(call, target):
    with ag.config.set(target=target, check_finite=False):
        try:
            return call()
        except ag.AttnGraphError as error:
            return type(error)


def check_hostile(monkeypatch, given, score_mod):
    """Lazily and compiled, for every target, what the interpreter has."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)

    def attend(q, k, v):
        return ag.flex_attention(q, k, v, score_mod, return_lse=True)

    wanted = hostile_outcome(lambda: ag.compute(*attend(*given)), "reference")
    for target in COMPILED_TARGETS:
        for call in (lambda: ag.compute(*attend(*given)), lambda: ag.compile(attend)(*given)):
            found = hostile_outcome(call, target)
            if isinstance(wanted, type) or isinstance(found, type):
                assert found is wanted
                continue
            for mine, theirs in zip(found, wanted, strict=True):
                size = np.abs(theirs[np.isfinite(theirs)]).max(initial=1e-3)
                np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=float(size) * 2e-5)
    return wanted


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_scores_give_the_interpreters_answer(name, monkeypatch):
    assert not isinstance(check_hostile(monkeypatch, WIDE, HOSTILE[name]), type)


@pytest.mark.parametrize("name", OUTSIDE)
def test_indices_outside_are_errors_in_kernels_too(name, monkeypatch):
    assert check_hostile(monkeypatch, WIDE, OUTSIDE[name]) is ag.IndexOutOfRangeError


@pytest.mark.parametrize("place", [0, 1, 2, None])
@pytest.mark.parametrize("name", ["plain", "the least float as a bias", "a table too short where hidden"])
def test_the_largest_inputs(name, place, monkeypatch):
    given = [np.array(each) for each in WIDE]
    for each in given if place is None else [given[place]]:
        each[:, :, ::3] = LARGEST / 2
    out, _ = check_hostile(monkeypatch, given, HOSTILE.get(name))
    assert np.isfinite(out).all()


def test_a_bias_of_the_least_float_is_a_number(monkeypatch):
    score_mod = HOSTILE["the least float for whole rows"]
    out, _ = check_hostile(monkeypatch, WIDE, score_mod)
    wanted = np.broadcast_to(WIDE[2].mean(axis=2, keepdims=True), (1, 2, 6, 4))
    np.testing.assert_allclose(out[:, :, :6], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("check_finite", [False, True])
def test_hidden_positions_hold_anything(check_finite, monkeypatch):
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    spoiled = [np.array(each) for each in WIDE]
    for each, junk in zip(spoiled[1:], (np.nan, np.inf), strict=True):
        each[:, :, -5:] = junk
    mask = ag.create_block_mask(lambda b, h, i, j: j < LENGTH - 5, None, None, LENGTH, LENGTH)
    wanted = ag.attention(WIDE[0], *(each[:, :, :-5] for each in WIDE[1:])).compute()
    for target in ("reference", *COMPILED_TARGETS):
        with ag.config.set(target=target, check_finite=check_finite):
            np.testing.assert_allclose(ag.flex_attention(*spoiled, None, mask).compute(), wanted, rtol=0, atol=1e-5)


def failing(b, h, q_idx, kv_idx):
    raise RuntimeError("mine")


@pytest.mark.parametrize(
    ("mask_mod", "error"),
    [
        (failing, RuntimeError),
        (lambda b, h, i, j: (i - j) * 0.5, ag.DTypeError),
        (lambda b, h, i, j: i - j, ag.DTypeError),
        (lambda b, h, i, j: None, ag.DTypeError),
        (lambda b, h, i, j: i >= j if i >= 0 else j >= i, ag.TraceError),
        (lambda b, h, i, j: ag.ones((3, 1)) > 0, ag.ShapeError),
        (lambda b, h: True, SignatureError),
    ],
)
def test_predicates_that_are_none(mask_mod, error, monkeypatch):
    monkeypatch.setattr(program, "LEAST_WORK", 0)

    def attend(q, k, v):
        return ag.flex_attention(
            q, k, v, None, ag.create_block_mask(mask_mod, None, None, LENGTH, LENGTH), return_lse=True
        )

    for call in (lambda: ag.compute(*attend(*WIDE)), lambda: ag.compile(attend)(*WIDE)):
        with pytest.raises(error):
            call()
    # The next call is none the worse for it.
    assert np.isfinite(ag.compile(ag.flex_attention)(*WIDE)).all()


@pytest.mark.parametrize("lengths", [(LENGTH + 1, LENGTH), (LENGTH, LENGTH - 1), (1, LENGTH), (LENGTH, 1)])
def test_masks_for_other_lengths(lengths):
    mask = ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, *lengths)
    for attend in (ag.flex_attention, ag.compile(ag.flex_attention)):
        with pytest.raises(ag.ShapeError, match="block mask of shape"):
            ag.compute(attend(*WIDE, None, mask))


# Junk for every argument of every public function.


class Thing:
    """An object of no kind."""


JUNK = {
    "None": None,
    "text": "abc",
    "empty text": "",
    "bytes": b"abc",
    "dict": {"a": 1},
    "empty dict": {},
    "set": {1},
    "frozenset": frozenset([1]),
    "function": lambda *given: None,
    "builtin": len,
    "ellipsis": ...,
    "slice": slice(None),
    "list": [3, -1],
    "empty list": [],
    "empty tuple": (),
    "pair": (0, 0),
    "ragged": [[1, 2], [3]],
    "list of None": [None],
    "list of lazy and None": [ag.ones(2), None],
    "object": Thing(),
    "class": Thing,
    "array class": ag.Array,
    "complex": 1j,
    "below zero": -1,
    "zero": 0,
    "seven": 7,
    "too large": 2**70,
    "far too large": -(10**400),
    "true": True,
    "float": 1.5,
    "huge": 1e300,
    "nan": float("nan"),
    "infinity": float("inf"),
    "NumPy type": np.float32,
    "type name": "int8",
    "objects": np.array([None]),
    "words": np.array(["a"]),
    "empty array": np.zeros((0, 3)),
    "complex array": np.array(1j),
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "records": np.zeros(2, [("a", "f4")]),
    "masked": np.ma.array([1.0], mask=[True]),
    "array": np.zeros((2, 3), "float32"),
    "booleans": np.ones(3, bool),
    "scalar": np.int8(3),
    "range": range(3),
    "iterator": iter([1]),
    "buffer": bytearray(b"1234"),
    "lazy": ag.ones((2, 3)),
    "lazy scalar": ag.full((), 1.0),
    "placeholder": ag.placeholder((2, 3)),
    "module": ag,
    "error": ValueError("x"),
    "block mask": ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, 3, 3),
}
# Where Python's or NumPy's own errors still escape: to be emptied.
KNOWN: dict[str, str] = {}


def mark_known(request, name):
    reasons = [reason for reason, names in KNOWN.items() if name in names.split()]
    if reasons:
        request.applymarker(pytest.mark.xfail(reason="; ".join(reasons), strict=False))


POOL = (
    X,
    Q,
    (2, 3),
    "ij->ji",
    "ij,jk->ik",
    lambda b, h, q_idx, kv_idx: q_idx >= kv_idx,
    3,
    1,
    np.array([0, 1]),
    [X, X],
    X > 0,
    (0, 1),
    np.array([[0], [1]]),
    X[0],
    X.astype("int32"),
)
SEGMENTS = (X, np.array([0, 1]), 2)
CALLS = {
    "attention": [(Q, K, V)],
    "attention_error": [(Q, Q, K, V)],
    "linear_attention": [(Q, K, V)],
    "merge_states": [((Q, Q[..., 0]), (Q, Q[..., 0]))],
    "pad": [(X, 1)],
    "isdtype": [(np.float32, "real floating")],
    "flex_attention": [(Q, K, V)],
    "scaled_dot_product_attention": [(Q, K, V)],
    "create_block_mask": [(lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, 1, 1, 3, 3)],
    "noop_mask": [(0, 0, 0, 0)],
    "astype": [(X, "float64")],
    "topk": [(X, 2)],
    "topk_attention": [(Q, K, V, 2)],
    "pages": [(np.ones((3, 2, 4, 5), "float32"), np.array([[0, 2], [1, -1]]), np.array([7, 3]))],
    "quantize": [(X,), (X, "int8")],
    "dequantize": [(np.ones((2, 4), "int8"), np.ones((2, 1), "float32"))],
    "pack_int4": [(np.ones((2, 4), "int8"),)],
    "unpack_int4": [(np.ones((2, 4), "uint8"),)],
    "store": [(ag.full((3, 4), 1.5), np.empty((3, 4), "float32"))],
    "batch": [(ag.square, X, "out.zarr")],
    "moveaxis": [(X, 0, 1)],
    "vjp": [(ag.square, X)],
    "gradients": [(ag.full((), 1.5), ag.full((), 2.5)), (ag.asarray(X) * 2, ag.asarray(X), X)],
    **{name: [SEGMENTS] for name in ("segment_sum", "segment_max", "segment_mean", "segment_softmax")},
}
FUNCTIONS = [name for name in ag.__all__ if callable(getattr(ag, name)) and not isinstance(getattr(ag, name), type)]


def good_calls(name):
    """Arguments that the function takes: the first found of each number up to three."""
    if name in CALLS:
        return CALLS[name]
    found = []
    for count in range(4):
        for given in itertools.product(POOL, repeat=count):
            try:
                getattr(ag, name)(*given)
            except Exception:
                continue
            found.append(given)
            break
        if len(found) == 2:
            break
    return found


def parameters(name):
    return list(inspect.signature(getattr(ag, name)).parameters.values())


def bad_calls(name):
    """Every argument of the good calls replaced by junk, and every option given junk."""
    for given in good_calls(name):
        for place in range(len(given)):
            for word, junk in JUNK.items():
                yield word, junk, (*given[:place], junk, *given[place + 1 :]), {}
        for parameter in parameters(name)[len(given) :]:
            for word, junk in JUNK.items():
                if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                    yield word, junk, (*given, junk), {}
                elif parameter.kind != parameter.VAR_KEYWORD:
                    yield word, junk, given, {parameter.name: junk}


def use(result):
    for part in result if isinstance(result, list | tuple) else [result]:
        if isinstance(part, ag.Array) and part.size < 10_000:
            part.compute()
        elif not isinstance(part, ag.Array):
            str(part)


def escape(call, junk):
    """What escapes of a call that is not an error of ours at this file's line, or a bad call's TypeError."""
    start = time.perf_counter()
    try:
        use(call())
    except ag.AttnGraphError as error:
        if error.line is None or error.line[0] != __file__:
            return f"line {error.line}"
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        if type(error) is not TypeError or (frames and not callable(junk)):
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the call"
            return f"{type(error).__name__} at {where}: {error}"
    return "slow" if time.perf_counter() - start > 5 else None


def report(escaped):
    found = [f"{name}: {text}" for name, text in escaped if text]
    assert not found, f"{len(found)}:\n" + "\n".join(found[:40])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_junk_arguments(name, request, tmp_path, monkeypatch):
    mark_known(request, name)
    monkeypatch.chdir(tmp_path)  # a path may be junk, too
    assert good_calls(name)
    function = getattr(ag, name)
    report(
        (f"{word} {list(kwargs)}", escape(lambda args=args, kwargs=kwargs: function(*args, **kwargs), junk))
        for word, junk, args, kwargs in bad_calls(name)
    )


OPERATORS = "add and_ eq floordiv ge getitem gt le lshift lt matmul mod mul ne or_ pow rshift sub truediv xor contains"


@pytest.mark.parametrize("name", OPERATORS.split())
@pytest.mark.parametrize("lazy", [ag.asarray(X), ag.arange(3), ag.full((), 1.5)], ids=["matrix", "integers", "scalar"])
def test_junk_operands(lazy, name, request):
    if not lazy.shape:
        mark_known(request, f"+{name}")
    function = getattr(operator, name)
    report((word, escape(lambda junk=junk: function(lazy, junk), junk)) for word, junk in JUNK.items())
    if name not in ("getitem", "contains"):  # those are the other's own
        ours = {word: junk for word, junk in JUNK.items() if not isinstance(junk, str | bytes | bytearray)}
        report((word, escape(lambda junk=junk: function(junk, lazy), junk)) for word, junk in ours.items())


METHODS = [name for name in dir(ag.Array) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_junk_methods(name, request):
    mark_known(request, f"Array.{name}")
    lazy = ag.asarray(X)
    if callable(getattr(lazy, name)):
        report((word, escape(lambda junk=junk: getattr(lazy, name)(junk), junk)) for word, junk in JUNK.items())


@pytest.mark.parametrize("name", ["threads", "cache_dir", "memory_limit", "target", "check_finite", "max_length"])
def test_junk_settings(name, request):
    mark_known(request, f"config.{name}")

    def change(junk):
        with ag.config.set(**{name: junk}):
            return getattr(ag.config, name)

    before = repr(ag.config)
    report((word, escape(lambda junk=junk: change(junk), junk)) for word, junk in JUNK.items())
    assert repr(ag.config) == before


def test_a_list_that_holds_itself():
    endless = [1.0]
    endless.append(endless)
    with pytest.raises(ag.AttnGraphError):
        ag.asarray(endless)
