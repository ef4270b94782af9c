"""How far sweeps reach: which reductions may be sweeps, and what stays outside of them."""

import pytest
from sweeps import array, attend, inputs, scores

import attngraph as ag
from attngraph.engine.ir import UnfusableError, walk
from attngraph.engine.passes.reach import Reach
from attngraph.engine.pipeline import optimize


def reached(expression, needed=()):
    """The result's node, and the names of what would be computed inside of its sweep."""
    (root,) = optimize([expression.node])
    inside = Reach(walk([root]), set(needed)).inlined(root)
    return root, sorted(node.name for node in inside)


def test_an_attention_reaches_to_its_first_product():
    q, k, v = inputs()
    _, names = reached(attend(scores(q * 2, k), v))
    assert names.count("matmul") == 2
    assert "softmax" in names


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: (x * 2).mean(-1),
        lambda x: ag.softmax(x * 2, -1) @ array(8, 8),
        lambda x: ((x - x.mean(-1, keepdims=True)) ** 2).sum(-1),
    ],
)
def test_reductions_of_what_is_there_are_no_sweeps(expression):
    with pytest.raises(UnfusableError, match="nothing in it is contracted"):
        reached(expression(inputs()[0]))


def test_wide_products_are_steps_of_their_own():
    x, w = array(40, 400), array(400, 60)
    with pytest.raises(UnfusableError, match="nothing in it is contracted"):
        reached(ag.softmax(x @ w, -1) @ array(60, 8))


def test_pairs_without_a_product():
    q, k, v = inputs()
    _, names = reached(attend(-((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1), v))
    assert names.count("sum") == 1
    _, names = reached(attend(-((q[..., :1, None, :] - k[..., None, :, :]) ** 2).sum(-1), v))  # one query
    assert names.count("sum") == 1


def test_a_product_that_is_made_anyway_is_read():
    x, w = array(40, 16), array(16, 16)
    hidden = x + x @ w
    mean = hidden.mean(-1, keepdims=True)
    order = walk(optimize([(hidden - mean).node, mean.node]))
    product = next(node for node in order if node.name == "add" and node.shape == (40, 16))
    total = next(node for node in order if node.name == "sum")
    assert len(Reach(order, set()).inlined(total)) > 1
    with pytest.raises(UnfusableError, match="nothing in it is contracted"):
        Reach(order, {product}).inlined(total)


def test_row_maxima_that_are_needed_may_still_join():
    q, k, v = inputs()
    s = scores(q, k)
    largest = s.max(-1, keepdims=True)
    (root,) = optimize([(ag.exp(s - largest) @ v).node])
    order = walk([root])
    maximum = next(node for node in order if node.name == "max")
    assert maximum in Reach(order, {maximum}).inlined(root)


def test_a_kernel_has_an_end():
    q, k, v = inputs()
    s = scores(q, k)
    for _ in range(150):
        s = ag.sin(s) * 2.5
    with pytest.raises(UnfusableError, match="more than 200 operations"):
        reached(attend(s, v))
