"""Fusion: every variant is as many sweeps as it should be, and interpreting them gives the reference."""

import numpy as np
import pytest
from sweeps import VARIANTS, inputs

import attngraph as ag
from attngraph.engine.codegen.interpreter import interpret_sweep
from attngraph.engine.interpreter import interpret
from attngraph.engine.passes.fuse import Fused, fuse
from attngraph.engine.pipeline import optimize


def run(plan, roots):
    """The roots' values, every sweep through the kernel language's interpreter."""
    values = {}
    for step in plan.steps:
        if isinstance(step, Fused):
            arrays = {node: values[node] for node in step.inputs}
            values.update(zip(step.nodes, interpret_sweep(step.sweep, arrays), strict=True))
        else:
            bound = {operand: values[operand] for operand in step.operands if operand in values}
            values[step] = interpret([step], bound, all64=True)[0]
    return [values[root] for root in roots]


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    build, sweeps = VARIANTS[name]
    expression = build(*inputs())
    roots = optimize([expression.node])
    plan = fuse(roots)
    assert len(plan.sweeps) == sweeps, plan.not_fused
    with ag.config.set(target="reference64"):
        truth = expression.compute()
    np.testing.assert_allclose(run(plan, roots)[0], truth, rtol=1e-9, atol=1e-9)


def test_results_of_one_softmax_share_a_sweep():
    q, k, v = inputs()
    out, lse = ag.attention(q, k, v, is_causal=True, return_lse=True)
    roots = optimize([out.node, lse.node])
    plan = fuse(roots)
    assert len(plan.sweeps) == 1
    assert len(plan.sweeps[0].accumulators) == 2
    with ag.config.set(target="reference64"):
        truth = ag.compute(out, lse)
    for found, wanted in zip(run(plan, roots), truth, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_two_moments_share_a_sweep():
    q, k, v = inputs()
    weights = ag.softmax(q @ k.mT, axis=-1)
    roots = optimize([(weights @ (v * v) - (weights @ v) ** 2).node])
    assert len(fuse(roots).sweeps) == 1


def test_what_depends_on_a_sweep_is_another_one():
    q, k, v = inputs(columns=37)
    once = ag.attention(q, k, v)
    roots = optimize([ag.attention(once, k, v).node])
    plan = fuse(roots)
    assert len(plan.sweeps) == 2
    with ag.config.set(target="reference64"):
        truth = ag.attention(once, k, v).compute()
    np.testing.assert_allclose(run(plan, roots)[0], truth, rtol=1e-9, atol=1e-9)


def test_wide_products_are_left_alone_with_a_reason():
    x, w1, w2 = ag.placeholder((64, 384)), ag.placeholder((384, 512)), ag.placeholder((512, 384))
    plan = fuse([(ag.relu(x @ w1) @ w2).node])
    assert not plan.sweeps
    assert plan.not_fused[0][0].name == "matmul"
    assert "contracted" in plan.not_fused[0][1]
