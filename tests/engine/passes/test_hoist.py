"""Hoisting: pairs of before and after, and what must not move."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.passes.hoist import hoist_row_factors

P = ag.placeholder((2, 6, 7), name="p")
V = ag.placeholder((2, 7, 3), name="v")
R = ag.placeholder((2, 6, 1), name="r")
C = ag.placeholder((2, 1, 3), name="c")
W = ag.placeholder((2, 7, 30), name="w")
S = ag.placeholder((), name="s")

PAIRS = {
    "divided weights": ((P / R) @ V, (P @ V) / R),
    "scaled weights": ((P * R) @ V, (P @ V) * R),
    "factor on the left": ((R * P) @ V, (P @ V) * R),
    "a scalar": ((P * S) @ V, (P @ V) * S),
    "two factors": (((P * R) / S) @ V, ((P @ V) * R) / S),
    "columns of the right side": (ag.placeholder((2, 1, 7), name="o") @ (W * ag.broadcast_to(S, ())), None),
    "sum": (ag.sum(P * R, axis=2), ag.sum(P, axis=2) * R.reshape(2, 6)),
    "sum with axes kept": (ag.sum(P / R, axis=2, keepdims=True), ag.sum(P, axis=2, keepdims=True) / R),
    "sum of everything": (ag.sum(P * S), ag.sum(P) * S),
}
KEPT = {
    "a larger product": (P * R) @ W,
    "a factor that varies": (P * ag.placeholder((2, 1, 7), name="k")) @ V,
    "a factor that brings the shape": (ag.placeholder((2, 6, 1), name="a") * ag.placeholder((2, 1, 7), name="b")) @ V,
    "integers": ag.sum(ag.placeholder((4, 5), "int8", name="n") * ag.placeholder((4, 1), "int8", name="m"), axis=1),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    before, after = PAIRS[name]
    (found,) = hoist_row_factors([before.node])
    if after is None:
        assert found is not before.node
        assert found.name == "multiply"
    else:
        assert found is after.node


@pytest.mark.parametrize("name", KEPT)
def test_kept(name):
    assert hoist_row_factors([KEPT[name].node]) == (KEPT[name].node,)


def test_products_that_others_need_stay_whole():
    weights = P / R
    roots = [(weights @ V).node, weights.node]
    assert hoist_row_factors(roots) == tuple(roots)


def test_rows_with_nothing_to_attend_to_stay_zero():
    """Written out, ``exp(S - max) / sum @ V`` divides 0 by 0 there; hoisted or not, the answer is 0."""
    scores = np.random.default_rng(0).standard_normal((4, 5)).astype("float32")
    mask = np.ones((4, 5), bool)
    mask[2] = False
    masked = ag.where(mask, ag.asarray(scores), -ag.inf)
    weights = ag.exp(masked - ag.max(masked, axis=1, keepdims=True))
    values = np.ones((5, 2), "float32")
    out = (weights / ag.sum(weights, axis=1, keepdims=True)) @ values
    for target in ("native", "reference", "reference64"):
        with ag.config.set(target=target):
            np.testing.assert_allclose(out.compute(), [[1, 1], [1, 1], [0, 0], [1, 1]], rtol=1e-6)
