"""Summaries of tables: the least and the largest value of every stretch, the last of which may be ragged."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.immediate import evaluate_now
from attngraph.engine.ir import UnfusableError
from attngraph.engine.kernel import Elements
from attngraph.engine.leaves import Placeholder, never_changes
from attngraph.engine.passes.predicate import Summary
from attngraph.engine.scalar import Axis
from attngraph.engine.summaries import evaluate, summarize
from attngraph.engine.types import TensorType

LENGTH = 37


def lowered(array, *axes):
    """An array as an expression of axes, and the arrays that it loads."""
    elements = Elements(lambda node: node.role == "leaf" and node.name == "data")
    scalar = elements.element(array.node, [elements.index(axis) for axis in axes])
    loads, stack = set(), [scalar]
    while stack:
        each = stack.pop()
        stack += each.args
        loads |= {each.attribute} if each.op == "load" else set()
    nodes = list(loads)
    return scalar, dict(zip(nodes, evaluate_now(nodes), strict=True))


def summary_of(array, batch, axis):
    scalar, arrays = lowered(array, *batch, axis)
    low, high = (Placeholder.new(TensorType((0,) * (len(batch) + 1), scalar.dtype)) for _ in range(2))
    return Summary(scalar, axis, batch, low, high), arrays


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "uint64", "bool", "float32", "float16"])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, LENGTH])
def test_stretches_of_two_sizes(dtype, length):
    values = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 99, length).astype(dtype)
    table = ag.asarray(np.concatenate([values, np.zeros(3, dtype)]))  # longer than what is summarized
    summary, arrays = summary_of(table[:length] if length else ag.asarray(values), (), Axis("j", length))
    least, largest = summarize(summary, arrays, [4, 16], int)
    parts = [values[start : start + size] for size in (4, 16) for start in range(0, length, size)]
    np.testing.assert_array_equal(least, np.array([part.min() for part in parts], dtype))
    np.testing.assert_array_equal(largest, np.array([part.max() for part in parts], dtype))


def test_offsets_and_batch_axes():
    table = np.random.default_rng(0).integers(-9, 9, (3, LENGTH + 1))
    heads, axis = Axis("h", 3), Axis("j", LENGTH)
    summary, arrays = summary_of(ag.asarray(table)[:, 1:] - ag.asarray(table)[:, :-1], (heads,), axis)
    least, largest = summarize(summary, arrays, [8], int)
    steps = np.diff(table)
    for stretch in range(-(-LENGTH // 8)):
        part = steps[:, 8 * stretch : 8 * stretch + 8]
        np.testing.assert_array_equal(least[:, stretch], part.min(1))
        np.testing.assert_array_equal(largest[:, stretch], part.max(1))


def test_a_value_that_is_the_same_in_a_batch_is_spread():
    summary, arrays = summary_of(ag.broadcast_to(ag.asarray(np.arange(9)), (2, 9)), (Axis("b", 2),), Axis("j", 9))
    assert summarize(summary, arrays, [4], int)[0].tolist() == [[0, 4, 8]] * 2


def test_nan_hides_what_lies_beside_it():
    values = np.array([1, np.nan, 2, 3], "float32")
    summary, arrays = summary_of(ag.asarray(values), (), Axis("j", 4))
    for each in summarize(summary, arrays, [2], int):
        assert np.isnan(each).tolist() == [True, False]


STRANGE = np.array([np.nan, np.inf, -np.inf, 3.9, -3.9, 1e30], "float32")
EXPRESSIONS = {
    "floats as integers": lambda x, n: x.astype("int64"),
    "floats as bytes": lambda x, n: x.astype("uint8"),
    "by 0": lambda x, n: n // 0 + n % 0,
    "rounding down": lambda x, n: n // -3 * 10 + n % -3,
    "bytes wrap": lambda x, n: n.astype("int8") * 100,
    "a choice": lambda x, n: ag.where(x > 0, n, -n),
    "floats are rounded once": lambda x, n: ag.log1p(ag.exp(n * 0.1)) * 3,
    "bits": lambda x, n: (n << 70) + (n >> 70) + (n << 2) + (n >> 1),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_what_the_reference_says(name):
    array = EXPRESSIONS[name](ag.asarray(STRANGE), ag.asarray(np.array([-7, -1, 0, 1, 5, 100])))
    axis = Axis("j", 6)
    scalar, arrays = lowered(array, axis)
    (found,) = evaluate([scalar], arrays, {axis: np.arange(6)})
    with ag.config.set(target="reference"):
        np.testing.assert_array_equal(np.broadcast_to(found, 6), array.compute())


def test_what_numpy_does_not_have():
    axis = Axis("j", 6)
    scalar, arrays = lowered(ag.erf(ag.asarray(STRANGE)), axis)
    with pytest.raises(UnfusableError, match="erf"):
        evaluate([scalar], arrays, {axis: np.arange(6)})


def test_only_what_is_promised_never_changes():
    promised, owner = np.arange(5), np.arange(5)
    array = ag.constant(promised).node.reference()
    assert array is promised
    assert never_changes(promised)
    owner.flags.writeable = False
    assert not never_changes(ag.asarray(owner).node.reference())
    assert not never_changes(promised.copy())
    promised.flags.writeable = True
    assert not never_changes(promised)
