import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.interpreter import interpret
from attngraph.engine.passes.exchange import exchange


def arrays():
    rng = np.random.default_rng(0)
    return [ag.asarray(rng.standard_normal((2, length, 4))) for length in (5, 6, 6, 5)]


def weights(q, k):
    return ag.softmax(q @ k.mT, axis=-1)


SUMS = {
    "plain": lambda p, v, up, out: ag.sum(p * (up @ v.mT), axis=-1, keepdims=True),
    "times a number": lambda p, v, up, out: ag.sum(3.0 * ((up @ v.mT) * p), axis=-1),
    "of two": lambda p, v, up, out: ag.sum(p * ((up @ v.mT) - (out @ v.mT)), axis=-1),
}


@pytest.mark.parametrize("name", SUMS)
def test_row_sums_come_from_the_product_that_is_there(name):
    q, k, v, upstream = arrays()
    p = weights(q, k)
    out = p @ v
    total = SUMS[name](p, v, upstream, out)
    (after, _) = exchange([total.node, out.node])
    assert after is not total.node
    assert after.operands[0].shape[-1:] != (6,)
    np.testing.assert_allclose(interpret([after], {})[0], total.compute(), rtol=1e-12)


def test_of_gated_weights_too():
    q, k, v, upstream = arrays()
    p, gate = weights(q, k), ag.sigmoid(q @ k.mT)
    out = (p * gate) @ v
    total = ag.sum(p * (gate * (upstream @ v.mT)), axis=-1)
    (after, _) = exchange([total.node, out.node])
    assert after is not total.node
    np.testing.assert_allclose(interpret([after], {})[0], total.compute(), rtol=1e-12)


def test_without_the_product_nothing_changes():
    q, k, v, upstream = arrays()
    total = ag.sum(weights(q, k) * (upstream @ v.mT), axis=-1)
    assert exchange([total.node]) == (total.node,)
    other = ag.sum(weights(k, q) * (v @ upstream.mT), axis=-1)
    assert exchange([other.node, (weights(q, k) @ v).node])[0] is other.node


def test_sums_of_sums_are_not_searched_for_ever():
    p, x = ag.placeholder((8, 8)), ag.placeholder((8, 8))
    for _ in range(30):
        x = x * x + ag.tanh(x) * x
    total = ag.sum(p * x, axis=-1)
    assert exchange([total.node, (p @ p).node])[0] is total.node
