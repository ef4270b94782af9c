"""Membership in lists against Python's own, as the interpreter and as kernels have it."""

import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import attngraph as ag
from attngraph.engine.errors import DTypeError, ShapeError
from attngraph.ops.membership import in_lists


def packed(lists):
    """Lists one behind the other, each in order."""
    starts = np.cumsum([0, *map(len, lists)])
    return starts, np.array([*(each for some in lists for each in sorted(some)), 0]), max(map(len, lists), default=0)


def member(lists, which, value):
    def one(n, x):
        return 0 <= n < len(lists) and x in lists[n]

    return np.vectorize(one, otypes=[bool])(which, value)


@given(
    lists=st.lists(st.sets(st.integers(0, 40), max_size=9), max_size=6),
    which=st.lists(st.integers(-2, 8), min_size=1, max_size=9),
    value=st.lists(st.integers(-2, 42), min_size=1, max_size=9),
)
def test_every_target_looks_it_up(lists, which, value):
    which, value = np.array(which)[:, None], np.array(value)
    found = in_lists(which, value, *packed(lists))
    for target in ("native", "reference", "reference64"):
        with ag.config.set(target=target):
            np.testing.assert_array_equal(found.compute(), member(lists, which, value))


def test_inside_of_a_loop():
    lists = [set(range(n, 90, n + 1)) for n in range(50)]
    which, value = np.arange(50)[:, None], np.arange(90)
    x = np.random.default_rng(0).standard_normal((50, 90)).astype("float32")
    found = ag.where(in_lists(ag.arange(50)[:, None], ag.arange(90)[None], *packed(lists)), x, 0.0).sum(1)
    np.testing.assert_allclose(found.compute(), np.where(member(lists, which, value), x, 0).sum(1), atol=1e-5)


def test_gradients_pass_by():
    x = np.ones((3, 4), "float32")
    visible = in_lists(np.arange(3)[:, None], np.arange(4), *packed([{1}, set(), {0, 3}]))
    gradient = ag.grad(lambda x: ag.where(visible, x * x, 0.0).sum())(x)
    np.testing.assert_array_equal(gradient.compute(), 2.0 * visible.compute())


def test_it_travels():
    visible = in_lists(np.arange(2)[:, None], np.arange(4), *packed([{1}, {0, 3}]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(visible)).compute(), visible.compute())


def test_names_of_axes_stay():
    assert in_lists(np.zeros((2, 1), np.int64), np.zeros(3, np.int64), *packed([{1}])).shape == (2, 3)


@pytest.mark.parametrize("place", range(4))
def test_bad_types(place):
    given = [np.zeros(2, np.int64) for _ in range(4)]
    given[place] = given[place].astype("float32")
    with pytest.raises(DTypeError, match="in_lists: lists are int64 arrays"):
        in_lists(*given, 1)


def test_bad_shapes():
    with pytest.raises(ShapeError, match="one axis"):
        in_lists(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros((2, 1), np.int64), np.zeros(1, np.int64), 1)
    with pytest.raises(ShapeError, match="one axis"):
        in_lists(np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(0, np.int64), 1)
