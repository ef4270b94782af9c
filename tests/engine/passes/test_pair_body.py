"""What rows and columns bring together, taken apart."""

import pytest
from distances import PAIRS, arrays, step
from planned import check_plan

import attngraph as ag
from attngraph.engine.ir import UnfusableError
from attngraph.engine.kernel import Elements
from attngraph.engine.passes.fuse import fuse
from attngraph.engine.passes.fused import Fused
from attngraph.engine.passes.pair_body import brought_along_small, is_paired, pair_parts
from attngraph.engine.pipeline import optimize
from attngraph.engine.sweep import Sweep
from attngraph.engine.types import FLOAT32


@pytest.fixture
def space():
    """A sweep without anything in it, what makes its scalars, and elements of q, k, the scores and a vector."""
    elements = Elements(lambda _: True)
    rows, columns, small = (elements.new_axis(name, length) for name, length in (("i", 30), ("j", 40), ("d", 8)))
    at = {axis: elements.index(axis) for axis in (rows, columns, small)}
    nodes = {"q": (30, 8), "k": (40, 8), "t": (30, 40), "a": (8,)}
    indices = {"q": (rows, small), "k": (columns, small), "t": (rows, columns), "a": (small,)}
    leaves = {
        name: elements.element(ag.placeholder(shape, name=name).node, [at[axis] for axis in indices[name]])
        for name, shape in nodes.items()
    }
    return Sweep((), rows, columns), elements, small, leaves


def test_a_body_is_made_of_what_rows_bring_and_what_columns_bring(space):
    sweep, elements, small, leaves = space
    scaled = elements.multiply(leaves["k"], leaves["a"])
    difference = elements.subtract(leaves["q"], scaled)
    body = elements.apply("tanh", FLOAT32, difference)
    parts = pair_parts(body, sweep, small)
    assert parts.rows == (leaves["q"],)
    assert parts.columns == (scaled,)
    assert parts.steps == (difference, body)
    assert is_paired(body, sweep)
    assert not is_paired(scaled, sweep)


def test_a_weight_is_no_part_of_a_body(space):
    sweep, elements, small, leaves = space
    body = elements.add(elements.subtract(leaves["q"], leaves["k"]), leaves["t"])
    with pytest.raises(UnfusableError, match="inside what a pair"):
        pair_parts(body, sweep, small)


def test_what_rows_bring_leaves_a_sum_over_columns_and_stays_in_one_over_rows(space):
    sweep, elements, _, leaves = space
    body = elements.subtract(leaves["q"], leaves["k"])
    factors = dict.fromkeys((body, leaves["q"], leaves["k"], leaves["a"], leaves["t"]), 1)
    stay, leave = brought_along_small(factors, sweep, sweep.columns)
    assert stay.keys() == {body, leaves["k"]}
    assert leave.keys() == {leaves["q"], leaves["a"]}
    stay, leave = brought_along_small(factors, sweep, sweep.rows)
    assert stay.keys() == {body, leaves["q"]}
    assert leave.keys() == {leaves["k"], leaves["a"]}


def test_without_a_body_what_all_columns_have_stays(space):
    sweep, _, _, leaves = space
    stay, leave = brought_along_small({leaves["k"]: 1, leaves["a"]: 1}, sweep, sweep.columns)
    assert stay.keys() == {leaves["k"], leaves["a"]}
    assert not leave


BODIES = {
    "poincare": {"subtract"},
    "squared distance": {"subtract"},
    "l1 distance": {"sign", "subtract"},
    "gatv2": {"where", "greater", "add", "multiply"},
    "additive": {"tanh", "add", "multiply", "subtract"},
}


@pytest.mark.parametrize("name", BODIES)
def test_the_bodies_of_gradients_hold_no_weights(name):
    found = step(name)(*map(ag.asarray, arrays(name, 40, 50, 8)))
    _, backward = fuse(optimize([each.node for each in found])).sweeps
    found = {op.op for each in backward.paired for op in pair_parts(each.column, backward, each.small).steps}
    assert found == BODIES[name]
    weights = {each.weight for each in backward.paired}
    assert len(weights) == 1


@pytest.mark.parametrize("name", PAIRS)
def test_all_gradients_in_one_sweep_are_what_the_graph_says(name):
    check_plan(*step(name)(*map(ag.asarray, arrays(name, 40, 50, 8))), sweeps=2)


@pytest.mark.parametrize("name", PAIRS)
def test_axes_of_length_one_and_none_are_all_the_same(name):
    for batch in ((), (1, 1), (2, 1, 3)):
        plan = check_plan(*step(name)(*map(ag.asarray, arrays(name, 40, 41, 8, batch=batch))), sweeps=2)
        stored = [made for made in plan.steps if not isinstance(made, Fused)]
        assert not any(made.shape[-2:] == (40, 41) for made in stored)
