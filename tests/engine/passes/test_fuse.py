"""Fusion: every variant is as many sweeps as it should be, and interpreting them gives the reference."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from planned import check_plan, largest_step, plan_of, run
from sweeps import COLUMNS, ROWS, VARIANTS, B, H, array, attend, inputs, scores

import attngraph as ag
from attngraph.engine.passes.fuse import fuse
from attngraph.engine.scalar import below
from strategies import attentions


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    build, sweeps = VARIANTS[name]
    plan = check_plan(build(*inputs()), sweeps=sweeps)
    assert not any({step.rows, step.columns} <= each.axes for step in plan.sweeps for each in _loads_of_outputs(step))


def _loads_of_outputs(sweep):
    return [each for each in below([output.value for output in sweep.outputs]) if each.op == "load"]


@pytest.mark.parametrize("name", [name for name in VARIANTS if "bias" not in name and "mask" not in name])
def test_nothing_is_stored_for_pairs_but_what_the_caller_gave(name):
    build, _ = VARIANTS[name]
    plan, _ = plan_of(build(*inputs(rows=300, columns=310)))
    assert largest_step(plan) < B * H * 300 * 310


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(expression=attentions())
def test_random_attentions(expression):
    plan, roots = plan_of(expression)
    assert plan.sweeps, plan.not_fused
    with ag.config.set(target="reference64"):
        truth = expression.compute()
    scale = max(1.0, float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0)))
    np.testing.assert_allclose(run(plan, roots)[0], truth, rtol=1e-6, atol=1e-6 * scale)


def test_results_of_one_softmax_share_a_sweep():
    q, k, v = inputs()
    plan = check_plan(*ag.attention(q, k, v, is_causal=True, return_lse=True))
    assert len(plan.sweeps[0].accumulators) == 2


def test_results_of_one_score_share_a_sweep():
    q, k, v = inputs()
    s = scores(q, k)
    weights = ag.softmax(s, axis=-1)
    check_plan(weights @ v, (weights * s).sum(-1), s.max(-1), ag.logsumexp(s, axis=-1))
    check_plan(attend(s, v), attend(2 * s, v))
    check_plan(weights @ v, weights @ (v * v), weights @ array(B, H, k.shape[-2], 5))


def test_results_of_scores_that_share_nothing_do_not():
    q, k, v = inputs()
    check_plan(ag.sigmoid(scores(q, k)) @ v, ag.sigmoid(scores(q + 1, k)) @ v, sweeps=2)


def test_two_moments_share_a_sweep():
    q, k, v = inputs()
    weights = ag.softmax(q @ k.mT, axis=-1)
    check_plan(weights @ (v * v) - (weights @ v) ** 2)


def test_what_depends_on_a_sweep_is_another_one():
    q, k, v = inputs(columns=ROWS)
    once = ag.attention(q, k, v)
    check_plan(ag.attention(once, k, v), sweeps=2)


def test_what_no_kernel_computes_is_stored_first():
    q, k, v = inputs()
    order = ag.argsort(array(COLUMNS))
    check_plan(attend(scores(q, k), ag.cumulative_sum(v, axis=-2)))
    check_plan(attend(scores(q, k), ag.take(v, order, axis=-2)))
    plan = check_plan(attend(scores(q, k) + ag.cumulative_sum(array(ROWS, COLUMNS), axis=-1), v))
    assert largest_step(plan) <= B * H * COLUMNS * 8


def test_wide_products_are_left_alone_with_a_reason():
    x, w1, w2 = ag.placeholder((64, 384)), ag.placeholder((384, 512)), ag.placeholder((512, 384))
    plan = fuse([(ag.relu(x @ w1) @ w2).node])
    assert not plan.sweeps
    assert plan.not_fused[0][0].name == "matmul"
    assert "contracted" in plan.not_fused[0][1]
