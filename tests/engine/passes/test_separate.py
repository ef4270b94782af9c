"""Sums freed from common factors."""

import numpy as np
import pytest
from planned import check_plan

import attngraph as ag
from attngraph.engine.kernel import Elements
from attngraph.engine.passes.separate import separated
from attngraph.engine.scalar import below, show
from attngraph.engine.sweep import Sweep
from attngraph.engine.types import BOOL, FLOAT32


class Space:
    """A sweep without anything in it, and scalars of it."""

    def __init__(self):
        self.make = make = Elements(lambda _: True)
        rows, columns, small = (make.new_axis(name, length) for name, length in (("i", 30), ("j", 40), ("d", 8)))
        self.sweep = Sweep((), rows, columns)
        self.q, self.k = self.load("q", rows, small), self.load("k", columns, small)
        self.t, self.u = self.load("t", rows, columns), self.load("u", rows, columns)
        self.difference = make.subtract(self.q, self.k)
        self.zero = make.constant(0.0, FLOAT32)
        self.positive = make.apply("greater", BOOL, self.difference, self.zero)

    def load(self, name, *axes):
        node = ag.placeholder(tuple(axis.length for axis in axes), name=name).node
        return self.make.element(node, [self.make.index(axis) for axis in axes])

    def where(self, left, right, condition=None):
        return self.make.apply("where", FLOAT32, self.positive if condition is None else condition, left, right)

    def number(self, value):
        return self.make.constant(value, FLOAT32)

    def separated(self, body, **options):
        return separated(self.make, body, self.sweep, **options)


@pytest.fixture
def space():
    return Space()


def test_two_branches_become_one_selection_of_numbers(space):
    make = space.make
    both = make.add(
        space.where(space.t, space.zero), make.multiply(space.where(space.zero, space.t), space.number(0.2))
    )
    assert space.separated(both) is make.multiply(space.where(space.number(1.0), space.number(0.2)), space.t)


def test_a_weight_comes_before_what_is_selected(space):
    wanted = space.make.multiply(space.where(space.number(1.0), space.zero), space.t)
    assert space.separated(space.where(space.t, space.zero)) is wanted


def test_what_a_condition_stands_guard_over_stays_behind_it(space):
    make = space.make
    inverse = make.apply("divide", FLOAT32, space.t, space.difference)
    found = space.separated(space.where(inverse, space.zero))
    (where,) = [each for each in below([found]) if each.op == "where"]
    assert where.args[1].op == "divide", show(found)


def test_a_mask_of_positions_keeps_what_it_hides(space):
    make = space.make
    visible = make.apply("less", BOOL, *(make.index(axis) for axis in (space.sweep.rows, space.sweep.columns)))
    hidden = space.where(make.multiply(space.t, space.difference), space.zero, visible)
    assert space.separated(hidden) is hidden


def test_a_difference_is_not_taken_apart(space):
    body = space.make.multiply(space.t, space.difference)
    assert space.separated(body) is body


def test_weights_are_freed_where_asked_for(space):
    make = space.make
    body = make.multiply(make.add(make.multiply(space.t, space.u), space.t), space.difference)
    assert space.separated(body) is body
    freed = space.separated(body, tiles=True)
    assert freed is make.multiply(make.multiply(make.add(space.u, space.number(1.0)), space.t), space.difference)


def test_of_a_quotient_the_same_is_left(space):
    make = space.make
    first = make.apply("divide", FLOAT32, space.t, space.u)
    second = make.apply("divide", FLOAT32, make.multiply(space.t, space.load("w", *space.t.axes)), space.u)
    freed = space.separated(make.add(first, second), tiles=True)
    assert [each.op for each in below([freed])].count("divide") == 1


def test_a_sum_freed_from_factors_is_what_it_was():
    rng = np.random.default_rng(0)
    q, k, t = (ag.asarray(rng.standard_normal(shape, dtype="float32")) for shape in ((40, 8), (50, 8), (40, 50)))
    apart = q[:, None] - k[None]
    weight = ag.tanh(q @ k.mT) * t
    leaky = ag.where(apart > 0, weight[..., None], 0) + 0.1 * ag.where(apart > 0, 0, weight[..., None])
    plan = check_plan(ag.sum(leaky, axis=1))
    ((accumulator,),) = [sweep.accumulators for sweep in plan.sweeps]
    assert accumulator.column.op == "where"
