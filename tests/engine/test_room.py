"""Memory of one large result: it begins with a line, holds zeros, and is nobody else's."""

import copy
import pickle

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.room import is_alone, zeros


@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (2, 400, 700)])
def test_zeros_are_writable_and_alone(shape):
    array = zeros(shape)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert not array.any()
    array[...] = 1.0
    assert is_alone(array)


def test_a_large_one_begins_with_a_line():
    assert zeros((1 << 10, 1 << 9)).ctypes.data % 64 == 0


def test_a_view_is_not_alone():
    array = zeros((1 << 10, 1 << 9))
    for view in (array[1:], array[None], array.T, array.reshape(-1)):
        assert not is_alone(view)
    assert is_alone(np.ones(3))
    assert not is_alone(np.ones(3)[1:])


def test_copies_are_plain_arrays():
    array = zeros((1 << 10, 1 << 9))
    array[3] = 2.0
    for other in (copy.deepcopy(array), pickle.loads(pickle.dumps(array)), array.copy()):
        np.testing.assert_array_equal(other, array)
        assert not np.shares_memory(other, array)


def test_the_gradient_of_a_bias_is_an_array_of_its_own():
    rng = np.random.default_rng(0)
    q, k, v, bias = (rng.standard_normal(shape, dtype="float32") for shape in [(520, 8)] * 3 + [(520, 520)])

    def loss(bias, scale):
        return ag.sum(ag.softmax(ag.asarray(q) @ ag.asarray(k).mT + bias, axis=-1) @ ag.asarray(v)) * scale

    step = ag.compile(ag.grad(loss))
    one, other = step(bias, 1.0), step(bias, 2.0)
    assert is_alone(one)
    assert not np.shares_memory(one, other)
    np.testing.assert_allclose(other, 2 * one, rtol=1e-5, atol=1e-7)
    one += 1.0
