"""Small reductions: what stays a contraction, what is written out, what leaves the sum."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from planned import check_plan, contracted, operations
from sweeps import B, H, array, attend, inputs, points, scores

import attngraph as ag
from attngraph.engine.scalar import below


def of_points(count, width, measure):
    q, k, v = inputs()
    return points(measure, count, width)(q, k, v)


# Points, coordinates, the measure of their differences, and what is still contracted beside the product's 8.
NESTED = {
    "few of both: written out": (4, 3, lambda d: (d**2).sum((-1, -2)), []),
    "few within a function": (4, 3, lambda d: ag.sqrt((d**2).sum(-1)).sum(-1), []),
    "many points": (40, 3, lambda d: ag.sqrt((d**2).sum(-1)).sum(-1), [40]),
    "many coordinates": (3, 40, lambda d: ag.sqrt((d**2).sum(-1)).sum(-1), [40, 40, 40]),
    "the farthest of few": (5, 3, lambda d: (d**2).sum(-1).max(-1), []),
    "the farthest of more": (15, 3, lambda d: (d**2).sum(-1).max(-1), []),
    "more points": (8, 3, lambda d: (d**2).sum((-1, -2)), [8]),
    "the farthest of wide ones": (4, 40, lambda d: (d**2).sum(-1).max(-1), [40] * 4),
    "a soft minimum": (4, 3, lambda d: -ag.logsumexp(-(d**2).sum(-1), axis=-1), []),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested(name):
    count, width, measure, left = NESTED[name]
    plan = check_plan(of_points(count, width, measure))
    assert contracted(plan) == [8, *left]


def test_many_of_both_are_a_sweep_of_their_own():
    plan = check_plan(of_points(20, 20, lambda d: ag.sqrt((d**2).sum(-1)).sum(-1)), sweeps=2)
    assert sorted(sweep.columns.length for sweep in plan.sweeps) == [20, 41]


def test_factors_leave_the_sum():
    q, k, v = inputs()
    rows, columns = array(q.shape[-2], 1), array(k.shape[-2], 1, seed=4)
    plan = check_plan(attend((q * rows * 0.5) @ (k / (2 + ag.abs(columns))).mT, v))
    (sweep,) = plan.sweeps
    bodies = [each.args[0] for each in _reductions(sweep)]
    assert [[side.op for side in body.args] for body in bodies] == [["load", "load"]]


def _reductions(sweep):
    return [each for each in below(sweep.groups) if each.op == "reduce"]


def test_sums_of_contractions_of_several_widths():
    q, k, v = inputs()
    more = array(B, H, q.shape[-2], 5, seed=5) @ array(B, 1, k.shape[-2], 5, seed=6).mT
    assert contracted(check_plan(attend(scores(q, k) + more, v))) == [5, 8]


def test_a_table_of_vectors_is_written_out():
    q, k, v = inputs()
    table = array(q.shape[-2], k.shape[-2], q.shape[-1])
    plan = check_plan(attend(scores(q, k) + (q[..., :, None, :] * table).sum(-1), v))
    assert contracted(plan) == [8]


@given(
    count=st.integers(1, 6),
    width=st.sampled_from((1, 2, 5, 12)),
    inner=st.sampled_from((lambda d: (d**2).sum(-1), lambda d: ag.abs(d).max(-1), lambda d: ag.tanh(d).sum(-1))),
    outer=st.sampled_from((lambda x: x.sum(-1), lambda x: ag.sqrt(ag.abs(x) + 0.1).sum(-1), lambda x: x.min(-1))),
)
def test_random_measures(count, width, inner, outer):
    plan = check_plan(of_points(count, width, lambda d: outer(inner(d))))
    assert "reduce" in operations(plan)
    assert not plan.not_fused


def test_one_query():
    q, k, v = inputs(rows=1)
    plan = points(lambda d: (d**2).sum((-1, -2)))(q, k, v)
    with ag.config.set(target="reference64"):
        truth = plan.compute()
    np.testing.assert_allclose(plan.compute(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("times", "stored"), [(2, []), (30, ["max"])])
def test_what_would_be_long_is_stored_first(times, stored):
    # The largest of eight long functions: written out, they are more code than compiles in good time.
    q, k, v = inputs()
    differences = q[..., :, None, :] - k[..., None, :, :]
    for _ in range(times):
        differences = ag.sin(differences) + differences * differences
    plan = check_plan(attend(scores(q, k) + differences.max(axis=-1), v))
    assert [node.name for node, _ in plan.not_fused] == stored
