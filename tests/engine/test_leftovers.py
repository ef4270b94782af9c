"""Memory that values of a run leave to later ones: only what nobody holds is given out again."""

import weakref

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.leftovers import LARGE, Leftovers, empty, kept

COUNT = LARGE // 4


def fresh(count=COUNT, dtype="float32"):
    return [np.ones(count, dtype)]


def test_memory_that_nobody_holds_is_given_out_once_in_another_shape():
    left = Leftovers()
    left.leave(fresh())
    assert left.take((COUNT,), np.dtype("float64")) is None
    assert left.take((COUNT + 1,), np.dtype("float32")) is None
    taken = left.take((2, COUNT // 2), np.dtype("float32"))
    assert taken.shape == (2, COUNT // 2)
    assert taken.base is None
    assert (taken == 1).all()
    assert left.take((COUNT,), np.dtype("float32")) is None


def test_a_view_gives_the_memory_of_what_it_is_a_view_of():
    left = Leftovers()
    left.leave([fresh()[0].reshape(2, -1)[:1]])
    assert left.take((COUNT,), np.dtype("float32")) is not None


def strangers():
    own = np.ones(COUNT, "float32")
    frozen = fresh()[0]
    frozen.flags.writeable = False
    return {
        "held": (own, own),
        "read-only": (frozen, None),
        "weakly held": (own, weakref.ref(own)),
        "of a buffer": (np.frombuffer(bytearray(4 * COUNT), "float32"), None),
        "small": (np.ones(COUNT - 1, "float32"), None),
    }


@pytest.mark.parametrize("kind", ["held", "read-only", "weakly held", "of a buffer", "small"])
def test_what_is_not_alone_or_not_its_own_is_not_kept(kind):
    array, holder = strangers()[kind]
    size, left = array.size, Leftovers()
    held = [array]
    del array
    left.leave(held)
    assert left.take((size,), np.dtype("float32")) is None
    del holder


def test_an_array_with_a_view_elsewhere_is_not_kept():
    array = np.ones(COUNT, "float32")
    part, left = array[3:5], Leftovers()
    held = [array]
    del array
    left.leave(held)
    assert left.take((COUNT,), np.dtype("float32")) is None
    assert (part == 1).all()


def test_no_more_is_kept_than_so_much():
    left = Leftovers()
    for _ in range(40):
        left.leave(fresh(2 * COUNT))
    taken = []
    while (array := left.take((2 * COUNT,), np.dtype("float32"))) is not None:
        taken.append(array)
    assert len(taken) == 32


def test_outside_of_a_run_memory_is_new():
    with kept() as left:
        left.leave(fresh())
        assert (empty((COUNT,), "float32") == 1).all()
    assert empty((COUNT,), "float32").shape == (COUNT,)


def graph(x, w):
    found = []
    for _ in range(6):
        x = ag.exp(x @ w - ag.max(x)) @ w
        found.append(x)
    return found


@pytest.mark.parametrize("memory_limit", [None, 1 << 30])
def test_results_are_those_of_memory_of_their_own(memory_limit):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((8192, 48), "float32"), rng.standard_normal((48, 48), "float32") / 8
    given = x.copy(), w.copy()
    with ag.config.set(memory_limit=memory_limit):
        results = ag.compute(*graph(ag.asarray(x), ag.asarray(w)))
        again = ag.compile(lambda x, w: tuple(graph(x, w)))(x, w)
    with ag.config.set(target="reference64"):
        expected = ag.compute(*graph(ag.asarray(x), ag.asarray(w)))
    assert (x == given[0]).all()
    assert (w == given[1]).all()
    for result, other, exact in zip(results, again, expected, strict=True):
        np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(result, other)
    for number, result in enumerate(results):
        assert not any(np.shares_memory(result, other) for other in results[:number])
