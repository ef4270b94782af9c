"""NaN and infinity are found wherever they are, in any layout."""

import numpy as np
import pytest

from attngraph.engine.finite import is_finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_of_many_is_found(value, place, dtype):
    array = np.zeros((3, 40_000), dtype)
    assert is_finite(array)
    array.flat[place] = value
    assert not is_finite(array)
    assert not is_finite(array.T)
    assert not is_finite(np.broadcast_to(array, (2, 3, 40_000)))


def test_views_are_looked_at_alone():
    array = np.full((4, 100_000), np.nan, "float32")
    array[1:3, ::2] = 0
    view = array[1:3, ::2]
    view.flags.writeable = False
    assert is_finite(view)
    assert not is_finite(array[1:3])


def test_nothing_numbers_and_integers():
    assert is_finite(np.zeros((0, 3), "float32"))
    assert is_finite(np.asarray(1.0))
    assert not is_finite(np.asarray(np.nan))
    assert is_finite(np.ones(3, "int64"))


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (2, 3, 100_000, 2), (0, 4)])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_is_finite_finds_any_element(shape, wrong):
    array = np.zeros(shape, np.float32)
    assert is_finite(array)
    if array.size:
        array[(-1,) * array.ndim] = wrong
        assert not is_finite(array)


def test_integers_are_finite():
    assert is_finite(np.arange(3))
