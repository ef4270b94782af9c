import numpy as np
import pytest

from attngraph.engine.streamed import is_finite


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
