"""Constant folding: what the program's scalars alone decide."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.leaves import Constant
from attngraph.engine.passes.fold_constants import fold_constants


def folded(array):
    return fold_constants([array.node])[0]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (lambda: ag.exp(ag.asarray(2.0)), float(np.exp(2.0))),
        (lambda: ag.asarray(3) * 4 + 1, 13),
        (lambda: ag.asarray(7) // 0, 0),
        (lambda: ag.asarray(True) & False, False),
        (lambda: ag.sqrt(ag.full((), 2, dtype="float32")), float(np.float32(np.sqrt(2.0)))),
        (lambda: ag.where(ag.asarray(True), 1.5, 2.5), 1.5),
    ],
)
def test_scalars_fold(expression, value):
    node = folded(expression())
    assert isinstance(node, Constant)
    assert node.value == value
    assert type(node.value) is type(value)


def test_folding_reaches_into_larger_expressions():
    x = ag.placeholder((3,))
    node = folded(x * ag.exp(ag.asarray(0.0)))
    assert isinstance(node.right, Constant)
    assert node.right.value == 1.0


def test_data_is_never_folded():
    data = np.ones(())
    node = (ag.asarray(data) + 1).node
    assert folded(ag.asarray(data) + 1) is node
    frozen = ag.constant(np.ones(2)) + 1
    assert folded(frozen) is frozen.node
