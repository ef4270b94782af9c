"""Simplification: pairs of before and after."""

import math

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.passes.simplify import simplify
from attngraph.engine.printing import listing

X, Y = ag.placeholder((3, 4), name="x"), ag.placeholder((3, 4), name="y")
V = ag.placeholder((4, 2), name="v")
N = ag.placeholder((3, 4), "int64", name="n")
B = ag.placeholder((3, 4), "bool", name="b")
R = ag.placeholder((3, 1), name="r")
E = ag.exp(X)


def row_sum(x):
    return ag.sum(x, axis=1, keepdims=True)


def row_max(x):
    return ag.max(x, axis=1, keepdims=True)


def with_sink(x, sink):
    return ag.exp(x - ag.logaddexp(ag.logsumexp(x, axis=1, keepdims=True), sink))


def shifted_with_sink(x, sink):
    largest = ag.maximum(row_max(x), sink)
    e = ag.exp(x - largest)
    return e / (ag.exp(sink - largest) + row_sum(e))


HIDDEN = ag.where(B, X, -ag.inf)

PAIRS = {
    # Weights that are divided by their sum, however they are written.
    "exponentials over their sum": (E / row_sum(E), ag.softmax(X)),
    "times one over their sum": (E * (1 / row_sum(E)), ag.softmax(X)),
    "their sum in another shape": (E / ag.sum(E, axis=1)[:, None], ag.softmax(X)),
    "along the other axis": (E / ag.sum(E, axis=0, keepdims=True), ag.softmax(X, axis=0)),
    "less their largest": (ag.exp(X - row_max(X)) / row_sum(ag.exp(X - row_max(X))), ag.softmax(X)),
    "less anything of rows": (ag.exp(X - R) / row_sum(ag.exp(X - R)), ag.softmax(X - R)),
    "a factor over their sum": (E * Y / row_sum(E), ag.softmax(X) * Y),
    "divided behind the product": (E @ V / row_sum(E), ag.softmax(X) @ V),
    "hidden": (ag.where(B, E, 0) / row_sum(ag.where(B, E, 0)), ag.softmax(HIDDEN)),
    "hidden the other way": (ag.where(B, 0, E), ag.exp(ag.where(B, -ag.inf, X))),
    "hidden, less the largest of all": (
        (lambda e: e / row_sum(e))(ag.where(B, ag.exp(X - row_max(X)), 0)),
        ag.softmax(HIDDEN),
    ),
    "one beside the sum": (E / (1 + row_sum(E)), with_sink(X, 0.0)),
    "a number beside the sum": (E / (row_sum(E) + math.e), with_sink(X, 1.0)),
    "an exponential beside the sum": (E / (row_sum(E) + ag.exp(R)), with_sink(X, R)),
    "less the largest, with one beside": (shifted_with_sink(X, 0.0), with_sink(X, 0.0)),
    "less the largest, with a sink": (shifted_with_sink(X, R), with_sink(X, R)),
    "the logarithm of one beside": (ag.exp(X - ag.log(1 + row_sum(E))), with_sink(X, 0.0)),
    "exponentials of log_softmax": (ag.exp(ag.log_softmax(X)), ag.softmax(X)),
    "logarithms of softmax": (ag.log(ag.softmax(X)), ag.log_softmax(X)),
    "multiply a negative": (-X * 3, X * -3),
    "add zero": (X + 0, X),
    "zero added to": (0 + X, X),
    "add a negative": (X + -Y, X - Y),
    "subtract zero": (X - 0, X),
    "subtract a negative": (X - -Y, X + Y),
    "multiply by one": (1 * X, X),
    "multiply by minus one": (X * -1, -X),
    "divide by one": (X / 1, X),
    "divide by a power of two": (X / 8, X * 0.125),
    "two negatives": (-ag.negative(X), X),
    "negated difference": (-(X - Y), Y - X),
    "plus": (+X, X),
    "first power": (X**1, X),
    "square": (X**2, X * X),
    "square function": (ag.square(X), X * X),
    "reciprocal": (ag.reciprocal(X), 1.0 / X),
    "maximum of one": (ag.maximum(X, X), X),
    "cast to the same": (X.astype("float32"), X),
    "widened twice": (X.astype("float16").astype("float32").astype("float64"), X.astype("float16").astype("float64")),
    "not not": (~~B, B),
    "turned comparison": (~(N < 3), N >= 3),
    "inverted integers twice": (~~N, N),
    # An index in the condition may be an error: it stays.
    "equal branches": (ag.where(B, X, X), ag.where(B, X, X)),
    "known condition": (ag.where(True, X, Y), X),
    "reshape twice": (X.reshape(12).reshape(2, 6), X.reshape(2, 6)),
    "reshape to the same": (X.reshape(3, 4), X),
    "transpose twice": (X.T.T, X),
    "transposes compose": (ag.placeholder((2, 3, 4), name="z").T.T, None),
    "broadcast to the same": (ag.broadcast_to(X, (3, 4)), X),
    "flip twice": (ag.flip(ag.flip(X, axis=0), axis=0), X),
    "concat of one": (ag.concat([X]), X),
    "all of it": (X[:, :], X),
    "spread constant": (X + ag.zeros((3, 4)), X),
    "spread factor": (X * ag.full((3, 4), 2.0), X * 2.0),
    "log of a sum of exponentials": (ag.log(ag.sum(ag.exp(X), axis=1)), ag.logsumexp(X, axis=1)),
    "softmax plus one": (ag.log(1 + ag.sum(ag.exp(X), axis=1)), ag.logaddexp(ag.logsumexp(X, axis=1), 0.0)),
    "log1p of them": (ag.log1p(ag.sum(ag.exp(X), axis=1)), ag.logaddexp(ag.logsumexp(X, axis=1), 0.0)),
    "sum of sums": (X.sum(0, keepdims=True).sum(1, keepdims=True), X.sum((0, 1), keepdims=True)),
    "rounded integers": (ag.floor(N), N),
    "product without its spread batch": (
        ag.broadcast_to(ag.placeholder((4, 3), name="m"), (5, 4, 3)) @ ag.placeholder((5, 3, 2), name="w"),
        None,
    ),
}

KEPT = {
    "another sum": E / row_sum(ag.exp(Y)),
    "a sum of all": E / ag.sum(E),
    "numbers that may not be positive beside the sum": E / (row_sum(E) + R),
    "sums of rows beside a sink of pairs": E / (row_sum(E) + ag.exp(Y)),
    "less what may be -inf": ag.softmax(X - R),
    "zero times may be NaN": X * 0,
    "a constant that spreads": R + ag.zeros((3, 4)),
    "not less, for floats with NaN": ag.logical_not(X < Y),
    "narrowed and widened": X.astype("float16").astype("float32"),
    "division by three": X / 3,
    "integer cast": X.astype("int32").astype("float32"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    before, after = PAIRS[name]
    (found,) = simplify([before.node])
    assert found.type[:2] == before.node.type[:2]
    if after is None:
        assert listing([found]).count("\n") < listing([before.node]).count("\n")
    else:
        (wanted,) = simplify([after.node])
        assert listing([found]) == listing([wanted])
        assert found is wanted


@pytest.mark.parametrize("name", KEPT)
def test_kept(name):
    assert simplify([KEPT[name].node]) == (KEPT[name].node,)


def test_numbers_do_not_change_where_a_rule_is_exact():
    x = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    for before, after in ((ag.asarray(x) / 8, x / np.float32(8)), (ag.asarray(x) ** 2, x * x)):
        np.testing.assert_array_equal(before.compute(), after)


def test_log_of_sums_of_large_exponentials_does_not_overflow():
    x = np.full((2, 3), 500.0, "float32")
    expected = 500 + np.log(3)
    np.testing.assert_allclose(ag.log(ag.sum(ag.exp(ag.asarray(x)), axis=1)).compute(), expected, rtol=1e-6)
    np.testing.assert_allclose(ag.log(1 + ag.sum(ag.exp(ag.asarray(x)), axis=1)).compute(), expected, rtol=1e-6)
