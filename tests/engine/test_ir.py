"""Nodes: interning, walking, rewriting, pickling, and what holds no memory."""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import ir
from attngraph.engine.ir import flatten, rewrite, unflatten, users, walk
from attngraph.engine.leaves import Constant, Data, Placeholder
from attngraph.engine.pipeline import optimize
from attngraph.engine.printing import listing
from attngraph.engine.types import FLOAT32, TensorType
from attngraph.ops.arithmetic import Add, Multiply

LONG = 10_000


def chain(length=LONG):
    x = ag.asarray(np.ones(3, "float32"))
    for number in range(length):
        x = x * 0.5 + number
    return x


def test_equal_nodes_are_one():
    data = np.ones(3)
    assert (ag.asarray(data) + 1).node is (ag.asarray(data) + 1).node
    assert ag.asarray(data).node is not ag.asarray(data.copy()).node


@pytest.mark.parametrize(("left", "right"), [(1, 1.0), (1, True), (0.0, -0.0), (0, False)])
def test_scalars_that_python_calls_equal_stay_apart(left, right):
    one, other = (Constant(value, FLOAT32, True) for value in (left, right))
    assert one is not other
    assert type(one.value) is type(left)


def test_nan_is_interned():
    assert Constant(float("nan"), FLOAT32, True) is Constant(float("nan"), FLOAT32, True)


def test_placeholders_are_distinct():
    kind = TensorType((2,), FLOAT32)
    assert Placeholder.new(kind, "x") is not Placeholder.new(kind, "x")


def test_nodes_are_frozen():
    node = (ag.asarray([1.0]) + 1).node
    with pytest.raises(AttributeError, match="frozen"):
        node.left = node
    assert copy.copy(node) is node
    assert copy.deepcopy(node) is node


def test_interning_under_threads():
    data = np.ones(3, "float32")
    found: list[list[ir.Node]] = []
    barrier = threading.Barrier(8)

    def build():
        barrier.wait()
        x = ag.asarray(data)
        mine = []
        for number in range(300):
            x = x + float(number)
            mine.append(x.node)
        found.append(mine)

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for other in found[1:]:
        assert all(one is two for one, two in zip(found[0], other, strict=True))


def test_temporary_nodes_leave_nothing_behind():
    gc.collect()
    before = len(ir._table)
    x = ag.asarray(np.ones(2, "float32"))
    for number in range(20_000):
        x + float(number)
    gc.collect()
    # Only x itself may be new.
    assert len(ir._table) <= before + 1


def test_a_long_chain_is_freed_without_recursion():
    gc.collect()
    before = len(ir._table)
    x = chain()
    assert len(ir._table) >= before + 2 * LONG
    del x
    gc.collect()
    assert len(ir._table) <= before


def test_a_long_chain_builds_prints_pickles_optimizes_and_evaluates():
    x = chain()
    assert listing([x.node]).count("\n") >= 2 * LONG
    assert len(str(x)) < 10_000
    assert "20001 nodes" in repr(x) or "nodes" in repr(x)
    revived = pickle.loads(pickle.dumps(x))
    expected = np.ones(3, "float32")
    for number in range(LONG):
        expected = (expected * np.float32(0.5) + np.float32(number)).astype("float32")
    np.testing.assert_allclose(revived.compute(), expected, rtol=1e-6)
    np.testing.assert_allclose(x.compute(), expected, rtol=1e-6)
    assert len(walk(optimize([x.node]))) > LONG
    ag.explain(x)


def test_a_wide_shared_graph_is_walked_once_a_node():
    x = ag.asarray(np.ones(2, "float32"))
    for _ in range(200):  # 2**200 paths
        x = x + x
    assert len(walk([x.node])) == 201
    assert np.isposinf(x.compute()).all()


def test_pickling_keeps_identity_within_a_process():
    data = np.arange(3.0)
    x = ag.placeholder((3,), "float64", "x")
    y = (x * 2).node
    revived = pickle.loads(pickle.dumps(y))
    assert revived is y
    other = pickle.loads(pickle.dumps(ag.asarray(data) * 2))
    np.testing.assert_array_equal(other.compute(), data * 2)


def test_flatten_and_unflatten_are_inverse():
    x = ag.placeholder((2, 3))
    roots = [(x + 1).node, ag.concat([x, x], axis=0).node, (x + 1).node]
    assert unflatten(flatten(roots)) == roots


def test_walk_puts_operands_first():
    x = ag.asarray(np.ones(3))
    y = (x + 1) * (x - 1)
    order = walk([y.node])
    assert all(order.index(operand) < order.index(node) for node in order for operand in node.operands)


def test_rewrite_rebuilds_what_is_above():
    x, y = ag.placeholder((2,)), ag.placeholder((2,))
    changes = []
    (after,) = rewrite([(x + 1).node], lambda node: y.node if node is x.node else None, changes)
    assert after is (y + 1).node
    assert changes == [(x.node, y.node)]


def test_rewrite_refuses_another_type():
    x, y = ag.placeholder((2,)), ag.placeholder((3,))
    with pytest.raises(AssertionError, match="became"):
        rewrite([(x + 1).node], lambda node: y.node if node is x.node else None)


def test_users_counts_places_and_roots():
    x = ag.placeholder((2,))
    square = x * x
    counts = users([square.node])
    assert counts[x.node] == 2
    assert counts[square.node] == 1


def test_fields_and_attributes():
    assert Add.fields == ("left", "right")
    assert Data.operand_fields == frozenset()
    node = ag.sum(ag.placeholder((2, 3)), axis=1).node
    assert node.attributes() == {"axes": (1,), "keepdims": False}
    assert Multiply.name == "multiply"


def test_lines_of_merged_nodes_are_kept():
    data = np.ones(3)
    first = ag.asarray(data) + 5
    second = ag.asarray(data) + 5
    assert first.node is second.node
    assert len(first.node.lines) == 2
    assert all(line[0].endswith("test_ir.py") for line in first.node.lines)
