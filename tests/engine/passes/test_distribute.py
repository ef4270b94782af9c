"""Products over sums of shares as sums of products, and back where no gradient needs them."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.passes.common_factors import common_factors
from attngraph.engine.passes.distribute import distribute

X, Y = ag.placeholder((2, 3, 4), name="x"), ag.placeholder((2, 3, 4), name="y")
V, C = ag.placeholder((4, 5), name="v"), ag.placeholder((2, 1, 1), name="c")
P, Q = ag.softmax(X), ag.softmax(Y)

PAIRS = {
    "a difference": ((P - Q) @ V, P @ V - Q @ V),
    "a multiple": ((P - 0.4 * Q) @ V, P @ V - 0.4 * (Q @ V)),
    "a learned multiple": ((C * P + Q) @ V, C * (P @ V) + Q @ V),
}


@pytest.mark.parametrize("name", PAIRS)
def test_shares_are_multiplied_each_for_itself(name):
    together, apart = PAIRS[name]
    assert distribute([together.node]) == (apart.node,)


@pytest.mark.parametrize("name", PAIRS)
def test_what_nobody_else_needs_is_one_product_again(name):
    together, apart = PAIRS[name]
    assert common_factors([apart.node]) == (together.node,)
    assert common_factors([apart.node, (Q @ V).node])[0] is apart.node


@pytest.mark.parametrize("kept", [(X + Y) @ V, (P - Y) @ V, (P - ag.softmax(Y, axis=1)) @ V])
def test_other_sums_are_left_alone(kept):
    assert distribute([kept.node]) == (kept.node,)


def test_products_of_arrays_that_are_there_stay_apart():
    kept = X @ V + Y @ V
    assert common_factors([kept.node]) == (kept.node,)


def test_the_result_is_the_same():
    rng = np.random.default_rng(0)
    x, y, v = (ag.asarray(rng.standard_normal(shape)) for shape in ((3, 4), (3, 4), (4, 5)))
    before = (ag.softmax(x) - 0.4 * ag.softmax(y)) @ v
    (after,) = distribute([before.node])
    np.testing.assert_allclose(before.compute(), ag.Array(after).compute(), rtol=1e-12)
