"""Gradients of every operator against central differences, and the functions that ask for them."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from tests.gradient_checks import check_gradients, check_second_gradients

RNG = np.random.default_rng(0)
PICKED = np.array([[0, 2, -1], [1, 1, 0]])
IDS = np.array([0, 2, 0, 1])


def within(*shape, low=-1.0, high=1.0):
    return RNG.uniform(low, high, shape)


def positive(*shape):
    return within(*shape, low=0.2, high=0.9)


def large(*shape):
    return within(*shape, low=1.2, high=3.0)


# fmt: off
SMOOTH = [
    "exp", "exp2", "expm1", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "atanh",
    "sigmoid", "erf", "gelu", "silu", "softplus", "square", "negative", "positive", "abs", "log_softmax", "softmax",
    "logsumexp", "l2_normalize", "layer_norm", "rms_norm", "relu", "elu", "leaky_relu", "prod", "max", "min", "mean",
    "var", "std", "sum",
]
# fmt: on
OF_POSITIVE = ["log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal"]
PAIRS = ["add", "subtract", "multiply", "maximum", "minimum", "hypot", "atan2", "logaddexp", "copysign"]


UNARY = {
    **dict.fromkeys(SMOOTH, within(3, 4)),
    **dict.fromkeys(OF_POSITIVE, positive(3, 4)),
    "acosh": large(3, 4),
}


@pytest.mark.parametrize("name", UNARY)
def test_of_one_array(name):
    check_gradients(getattr(ag, name), UNARY[name])


@pytest.mark.parametrize("name", ["exp", "tanh", "softmax", "logsumexp", "sigmoid", "prod", "layer_norm", "gelu"])
def test_second_gradients_of_one_array(name):
    check_second_gradients(getattr(ag, name), UNARY[name])


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_arrays_that_broadcast(name):
    check_gradients(getattr(ag, name), within(3, 1), within(2, 1, 4))


@given(
    name=st.sampled_from(PAIRS),
    shapes=st.sampled_from([((3,), ()), ((), (2, 3)), ((1, 3), (2, 1)), ((2, 0), (1,)), ((2, 1, 3), (4, 1))]),
    seed=st.integers(0, 100),
)
@settings(max_examples=15)
def test_of_two_arrays_of_any_shapes(name, shapes, seed):
    rng = np.random.default_rng(seed)
    check_gradients(getattr(ag, name), *(rng.uniform(0.1, 1, shape) + n for n, shape in enumerate(shapes)))


def zeros_among(*shape):
    array = within(*shape)
    array[0, 1] = array[1, 1] = array[1, 2] = 0
    return array


def gathered(x, *index):
    return x[tuple(map(ag.asarray, index))]


EXPRESSIONS = {
    "quotient": (operator.truediv, within(3, 1), large(2, 1, 4)),
    "remainder": (operator.mod, within(3, 1) * 5, large(2, 1, 4)),
    "power": (operator.pow, positive(3, 1), within(2, 1, 4) * 3),
    "whole powers": (lambda x: x**2 + x**3, within(3, 4)),
    "clip": (lambda x: ag.clip(x, -0.5, 0.5), within(3, 4)),
    "where": (lambda x, y: ag.where(x > y, x * 2, y * y), within(3, 1), within(2, 1, 4)),
    "matmul": (operator.matmul, within(2, 1, 3, 4), within(3, 4, 5)),
    "matmul of vectors": (lambda a, b: (a @ b) + ag.vecdot(a, b), within(3, 4), within(4)),
    "einsum": (lambda a, b: ag.einsum("bij,kj->bik", a, b), within(2, 3, 4), within(5, 4)),
    "tensordot": (lambda a, b: ag.tensordot(a, b, axes=2), within(2, 3, 4), within(3, 4, 5)),
    "shapes": (
        lambda x: ag.flip(x.reshape(4, 3).T, axis=0)[:, None] * ag.broadcast_to(x[:1, ::2], (3, 2, 2)).sum(),
        within(3, 4),
    ),
    "slices": (lambda x: x[1:3, ::-2] * 2 + x[0, 1], within(3, 4)),
    "concat": (lambda x, y: ag.concat([x * 2, y * y, x], axis=1) * ag.stack([x, x])[:1, 0], within(3, 1), within(3, 4)),
    "gather": (lambda x: gathered(x, PICKED) * 2, within(3, 4)),
    "gather by two": (lambda x: gathered(x, PICKED, PICKED[::-1].copy()), within(3, 3)),
    "take": (lambda x: ag.take(x, ag.asarray(IDS), axis=1), within(3, 4)),
    "take along": (lambda x: ag.take_along_axis(x, ag.asarray(PICKED), axis=1), within(2, 4)),
    "segment sum": (lambda x: ag.segment_sum(x, IDS, 4), within(4, 3)),
    "segment max": (lambda x: ag.segment_max(x, IDS, 3), within(4, 3)),
    "segment mean": (lambda x: ag.segment_mean(x, IDS, 4), within(4, 3)),
    "segment softmax": (lambda x: ag.segment_softmax(x, IDS, 4), within(4, 3)),
    "topk": (lambda x: ag.topk(x, 2)[0], within(3, 4)),
    "sort": (lambda x: ag.sort(x, axis=0), within(3, 4)),
    "running sums": (lambda x: ag.cumulative_sum(x, axis=1), within(3, 4)),
    "triangles": (lambda x: ag.tril(x) + ag.roll(x, 1, axis=0) + ag.repeat(x, 2, axis=0)[::2], within(3, 4)),
    "product with zeros": (lambda x: ag.prod(x, axis=1), zeros_among(3, 4)),
    "lse of two axes": (lambda x: ag.logsumexp(x, axis=(0, 2)), within(2, 3, 4)),
    "max of two axes": (lambda x: ag.max(x, axis=(0, 1)), within(2, 3, 4)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_of_expressions(name):
    check_gradients(*EXPRESSIONS[name])


@pytest.mark.parametrize("name", ["quotient", "power", "where", "matmul", "gather", "slices"])
def test_second_gradients_of_expressions(name):
    check_second_gradients(*EXPRESSIONS[name])


def flex(score):
    def attend(q, k, v, *parameters):
        return ag.flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: score(s, h, i, j, *parameters))

    return attend


def qkv(heads=2, groups=1):
    return within(1, heads * groups, 5, 3), within(1, heads, 6, 3), within(1, heads, 6, 2)


def poincare(q, k, c):
    return ag.manifold.PoincareBall(c=c).dist(q[:, None], k[None])


ATTENTIONS = {
    "causal": (lambda q, k, v: ag.attention(q, k, v, is_causal=True), *qkv()),
    "groups": (lambda q, k, v: ag.attention(q, k, v, enable_gqa=True), *qkv(groups=2)),
    "lse": (lambda q, k, v: ag.attention(q, k, v, return_lse=True)[1], *qkv()),
    "bias": (lambda q, k, v, b: ag.attention(q, k, v, bias=b), *qkv(), within(2, 5, 6)),
    "table": (flex(lambda s, h, i, j, t: s + t[h, i - j + 6]), *qkv(), within(2, 12)),
    "slopes and softcap": (
        flex(lambda s, h, i, j, t, c: ag.tanh((s + t[h] * (j - i)) / c) * c),
        *qkv(),
        within(2),
        np.float64(2),
    ),
    "distance": (
        lambda q, k, c: ag.manifold.PoincareBall(c=c).dist(q[:, None], k[None]),
        within(4, 3) * 0.3,
        within(5, 3) * 0.3,
        np.float64(0.7),
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_of_attention(name):
    check_gradients(*ATTENTIONS[name])


@pytest.mark.parametrize("name", ["causal", "distance"])
def test_second_gradients_of_attention(name):
    check_second_gradients(*ATTENTIONS[name])


def test_scalar_functions_have_the_gradient_that_they_are_given():
    def product(s, t):
        return s * s * t

    def slopes(s, t):
        return 2 * s * t, s * s

    check_gradients(ag.scalar_function(product, gradient=slopes), within(3, 4), within(3, 1))
    with pytest.raises(ag.ArgumentError, match="product: has no gradient"):
        ag.grad(lambda x: ag.sum(ag.scalar_function(product)(x, x)))(within(3))


@pytest.mark.parametrize("operation", [ag.max, ag.min])
def test_equals_share_the_gradient(operation):
    x = ag.asarray(np.array([1.0, 3.0, 3.0, 1.0]))
    wanted = [0, 0.5, 0.5, 0] if operation is ag.max else [0.5, 0, 0, 0.5]
    np.testing.assert_array_equal(ag.gradients(operation(x), x).compute(), wanted)


def test_rows_that_see_nothing_have_gradients_of_zero():
    q, k, v = (within(4, 3) for _ in range(3))
    k[2] = v[2] = np.nan
    visible = np.ones((4, 4), bool)
    visible[:, 2] = visible[1] = False

    def attend(q, k, v):
        return ag.softmax(ag.where(ag.asarray(visible), q @ k.mT, -ag.inf), axis=-1) @ v

    _, pullback = ag.vjp(attend, q, k, v)
    for gradient, hidden in zip(ag.compute(*pullback(np.ones((4, 3)))), (1, 2, 2), strict=True):
        assert np.isfinite(gradient).all()
        assert not gradient[hidden].any()


# --- the functions


def cube(x):
    return ag.sum(x * x * x)


def test_grad_takes_numbers_arrays_and_structures():
    assert ag.grad(lambda x: x * x)(3.0).compute() == 6
    both = ag.grad(lambda x, y: ag.sum(x * y), argnums=(0, -1))(np.ones(2), np.full(2, 3.0))
    np.testing.assert_array_equal(ag.compute(*both), [[3, 3], [1, 1]])
    found = ag.grad(lambda p: ag.sum(p["a"] * p["b"][0]))({"a": np.ones(2), "b": [np.full(2, 2.0)]})
    np.testing.assert_array_equal(found["a"].compute(), [2, 2])
    np.testing.assert_array_equal(found["b"][0].compute(), [1, 1])


def test_the_same_array_in_two_arguments_is_two_arguments():
    x = np.array([1.0, 2.0])
    first = ag.grad(lambda a, b: ag.sum(a * a * b))
    np.testing.assert_array_equal(first(x, x).compute(), 2 * x * x)


def test_gradients_of_gradients():
    x = np.array([1.0, 2.0])
    second = ag.grad(lambda x: ag.sum(ag.grad(cube)(x) ** 2))
    np.testing.assert_allclose(second(x).compute(), 2 * 3 * x**2 * 6 * x)
    third = ag.grad(ag.grad(ag.grad(lambda x: x**4)))
    assert third(2.0).compute() == 48


def test_compiled_gradients_are_traced_once():
    step = ag.compile(ag.value_and_grad(cube))
    for scale in (1, 2, 3):
        value, gradient = step(np.array([1.0, scale]))
        assert value == 1 + scale**3
        np.testing.assert_array_equal(gradient, [3, 3 * scale**2])
    assert step.cache_info().misses == 1
    inlined = ag.grad(ag.compile(cube))
    np.testing.assert_array_equal(inlined(np.array([2.0])).compute(), [12])


def test_a_pullback_takes_the_values_structure():
    value, pullback = ag.vjp(lambda x: {"square": x * x, "same": x}, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(value["square"].compute(), [1, 4])
    (found,) = pullback({"square": np.ones(2), "same": np.ones(2)})
    np.testing.assert_array_equal(found.compute(), [3, 5])
    with pytest.raises(ag.ArgumentError, match="structure"):
        pullback([np.ones(2), np.ones(2)])
    with pytest.raises(ag.ShapeError, match=r"float64\[3\]"):
        pullback({"square": np.ones(3), "same": np.ones(2)})


def test_what_is_stopped_gives_zeros_and_a_note():
    x = ag.asarray(np.ones(3))
    gradient = ag.gradients(ag.sum(ag.stop_gradient(x) * 2), x)
    np.testing.assert_array_equal(gradient.compute(), np.zeros(3))
    assert "stop_gradient" in ag.explain(gradient).notes[0]
    half = ag.grad(lambda x: ag.sum(x * ag.stop_gradient(x)))
    np.testing.assert_array_equal(half(np.array([2.0])).compute(), [2])


def test_a_checkpoint_changes_no_gradient_and_keeps_less():
    weight = np.ones((64, 64), "float32") / 64

    def layer(x):
        for _ in range(6):
            x = ag.tanh(x @ weight)
        return x

    def loss(x, layer):
        for _ in range(4):
            x = layer(x)
        return ag.sum(x)

    x = np.linspace(-1, 1, 4096 * 64, dtype="float32").reshape(4096, 64)
    plain, again = (ag.grad(loss)(x, each) for each in (layer, ag.checkpoint(layer)))
    np.testing.assert_allclose(plain.compute(), again.compute(), rtol=1e-4, atol=1e-7)
    with ag.config.set(target="reference"):
        assert ag.explain(again).memory.peak_bytes < 0.5 * ag.explain(plain).memory.peak_bytes


@pytest.mark.parametrize(("group", "share"), [(1, 0.4), (2, 0.7)])
def test_a_checkpoint_keeps_less_of_a_deep_model(group, share):
    weight = np.ones((64, 64), "float32") / 64

    def block(x):
        for _ in range(group):
            head = x[None]
            y = x + ag.attention(head @ weight, head @ weight * 0.5, head)[0] @ weight * 0.1
            x = y + ag.gelu(ag.rms_norm(y) @ weight) @ weight
        return x

    def loss(x, block):
        for _ in range(4 // group):
            x = block(x)
        return ag.sum(x * x)

    x = np.linspace(-1, 1, 512 * 64, dtype="float32").reshape(512, 64)
    plain, again = (ag.explain(ag.grad(loss)(x, each)) for each in (block, ag.checkpoint(block)))
    assert again.memory.peak_bytes < share * plain.memory.peak_bytes


def test_what_is_computed_anew_joins_nothing_that_was_there_before():
    weight = np.ones((64, 64), "float32") / 64
    x = np.linspace(-1, 1, 4096 * 64, dtype="float32").reshape(4096, 64)

    def layer(x):
        return x + ag.tanh(ag.tanh(x @ weight) @ weight)

    def gradient(layer):
        return ag.grad(lambda x: ag.sum(layer(layer(x)) ** 2))(x)

    again = ag.explain(gradient(ag.checkpoint(layer)))
    assert all(kernel.name.count("float32") == 1 for kernel in again.kernels), again
    assert again.memory.peak_bytes <= ag.explain(gradient(layer)).memory.peak_bytes


def test_a_checkpoint_lets_gradients_reach_what_it_captured():
    weight = ag.asarray(np.array([2.0, 3.0]))
    inside = ag.checkpoint(lambda x: x * weight * weight)
    x = ag.asarray(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(ag.gradients(ag.sum(inside(x)), weight).compute(), [4, 6])


def shares(x, shift):
    e = ag.exp(x - shift)
    return e / (ag.exp(-shift) + ag.sum(e, axis=-1, keepdims=True))


def test_what_is_differentiated_by_is_not_taken_apart():
    x, seed = ag.asarray(within(3, 4)), within(3, 4)
    largest = ag.maximum(ag.max(x, axis=-1, keepdims=True), 0)
    e = x - largest
    out = ag.sum(ag.exp(e) / (ag.exp(-largest) + ag.sum(ag.exp(e), axis=-1, keepdims=True)) * seed)
    by_x, by_e, by_largest = ag.compute(*ag.gradients(out, (x, e, largest)))
    written = shares(x, ag.stop_gradient(largest))
    np.testing.assert_allclose(by_x, ag.gradients(ag.sum(written * seed), x).compute(), rtol=1e-9)
    np.testing.assert_allclose(by_e, by_x, rtol=1e-9)
    assert np.abs(by_largest).max() < 1e-12  # through e as well: nothing depends on it


def test_a_checkpoint_begins_at_what_it_is_given():
    x, seed = ag.asarray(within(3, 4)), within(3, 4)
    largest = ag.maximum(ag.max(x, axis=-1, keepdims=True), 0)

    def loss(e, less):
        return ag.sum(ag.exp(e) / (ag.exp(-less) + ag.sum(ag.exp(e), axis=-1, keepdims=True)) * seed)

    plain, again = (ag.gradients(each(x - largest, largest), x).compute() for each in (loss, ag.checkpoint(loss)))
    np.testing.assert_allclose(again, plain, rtol=1e-9)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_numbers_that_are_differentiated_by_are_no_constants(factor):
    x = within(3)
    by_factor = ag.grad(lambda x, times: ag.sum(x * times), argnums=1)(x, factor)
    assert by_factor.compute() == pytest.approx(x.sum(), rel=1e-6)


def test_long_chains_do_not_recurse():
    x = y = ag.asarray(np.ones(2))
    for _ in range(2000):
        y = y * 1.0001
    assert ag.gradients(ag.sum(y), x).compute()[0] == pytest.approx(1.0001**2000)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ag.grad(cube)(np.arange(3)), ag.DTypeError, "int64"),
        (lambda: ag.gradients(ag.sum(ag.asarray(np.ones(2))), ag.asarray(np.arange(2))), ag.DTypeError, "int64"),
        (lambda: ag.grad(lambda x: x * 2)(np.ones(3)), ag.ShapeError, "ag.vjp"),
        (lambda: ag.grad(lambda x: (x, x))(1.0), ag.ArgumentError, "tuple"),
        (lambda: ag.grad(ag.argmax)(np.ones(3)), ag.DTypeError, "result"),
        (lambda: ag.grad(cube, argnums=1)(np.ones(3)), ag.ArgumentError, "argument 1"),
        (lambda: ag.grad(cube, argnums="x"), ag.ArgumentError, "argnums"),
        (lambda: ag.grad(operator.mul, argnums=(0, -2))(1.0, 2.0), ag.ArgumentError, "twice"),
        (lambda: ag.grad(3), ag.ArgumentError, "takes a function"),
        (lambda: ag.vjp(None, 1.0), ag.ArgumentError, "takes a function"),
        (lambda: ag.gradients(ag.asarray(np.ones(3)), ag.asarray(np.ones(3))), ag.ShapeError, "seed"),
        (lambda: ag.gradients(ag.asarray(np.ones(3)), ag.asarray(np.ones(3)), np.ones(2)), ag.ShapeError, "gradient"),
    ],
)
def test_bad_input_gets_an_error_that_says_what(call, error, message):
    with pytest.raises(error, match=message):
        call()


PIECES = {
    "a row": lambda x: x[0],
    "an element": lambda x: x[2, 1],
    "a stretch": lambda x: x[2:5],
    "every other": lambda x: x[1::2],
    "from the end": lambda x: x[5:1:-2],
    "the whole, turned": lambda x: x[::-1],
    "picked": lambda x: x[np.asarray([3, 3, 1])],
    "two of them": lambda x: ag.concat([x[:3], x[5:]]),
}


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("target", ["native", "reference", "reference64"])
def test_nothing_arrives_beside_a_piece(piece, scale, target):
    # An upstream of 1 is the one that may be left out of products, where it is 1 everywhere.
    x = np.arange(1, 33, dtype="float32").reshape(8, 4)
    places = np.zeros((8, 4), "float32")
    indices = piece(ag.asarray(np.arange(32).reshape(8, 4))).compute()
    np.add.at(places.reshape(-1), np.reshape(indices, -1), scale)
    with ag.config.set(target=target):
        squared = ag.grad(lambda x: piece(x**2).sum() * scale)(x)
        beside = ag.compile(lambda x: ag.gradients(piece(x).sum() * scale + (x**2).sum(), [x])[0] * x)(x)
    np.testing.assert_allclose(squared, 2 * x * places)
    np.testing.assert_allclose(beside, (places + 2 * x) * x)
