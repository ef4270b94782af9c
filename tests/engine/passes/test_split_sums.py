import numpy as np

import attngraph as ag
from attngraph.engine.interpreter import interpret
from attngraph.engine.ir import walk
from attngraph.engine.passes.split_sums import split_sums


def scores():
    rng = np.random.default_rng(0)
    q, k = (ag.asarray(rng.standard_normal((2, 3, 5, 4))) for _ in range(2))
    return ag.tanh(q @ k.mT)


def split(expression):
    (after,) = split_sums([expression.node])
    return after


def test_a_sum_of_pairs_is_taken_over_rows_first():
    before = ag.sum(scores() * 2, axis=(0, 2, 3), keepdims=True)
    after = split(before)
    sums = [node for node in walk([after]) if node.name == "sum"]
    assert [node.shape for node in sums] == [(2, 3, 5), (3,)]
    np.testing.assert_allclose(interpret([after], {})[0], before.compute())


def test_sums_of_what_is_stored_and_over_one_axis_stay():
    stored = ag.sum(ag.asarray(np.ones((3, 4, 5))) * 2, axis=(1, 2))
    assert split(stored) is stored.node
    alone = ag.sum(scores(), axis=-1)
    assert split(alone) is alone.node


def vectors():
    """Sums of a row's and a column's vectors, through a function."""
    rng = np.random.default_rng(0)
    q, k = (ag.asarray(rng.standard_normal((2, length, 4))) for length in (5, 6))
    return ag.tanh(q[:, :, None] + k[:, None])


def test_a_sum_of_vectors_of_pairs_is_taken_over_rows_first():
    before = ag.sum(vectors(), axis=(0, 1, 2))
    after = split(before)
    sums = [node for node in walk([after]) if node.name == "sum"]
    assert [node.shape for node in sums] == [(2, 6, 4), (4,)]
    np.testing.assert_allclose(interpret([after], {})[0], before.compute())


def test_sums_of_vectors_over_rows_or_over_elements_stay():
    for axis in (1, (1, 3), 3):
        alone = ag.sum(vectors(), axis=axis)
        assert split(alone) is alone.node


def test_a_sum_over_the_batch_comes_after_that_over_rows():
    for x, axis in ((vectors(), (0, 1)), (scores(), (0, 2))):
        outer = split(ag.sum(x, axis=axis))
        (inner,) = outer.operands
        assert (outer.name, outer.axes, inner.name, inner.axes) == ("sum", (0,), "sum", axis[1:])
