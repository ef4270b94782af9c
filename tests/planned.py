"""Plans without native code: sweeps run in the kernel language's interpreter."""

import math

import numpy as np

import attngraph as ag
from attngraph.engine.check import check_sweep
from attngraph.engine.codegen.interpreter import interpret_sweep
from attngraph.engine.interpreter import interpret
from attngraph.engine.passes.fuse import Plan, fuse
from attngraph.engine.passes.fused import Fused
from attngraph.engine.pipeline import optimize
from attngraph.engine.scalar import below


def plan_of(*expressions):
    """The plan of some results, and its roots."""
    roots = optimize([each.node for each in expressions])
    return fuse(roots), roots


def run(plan: Plan, roots):
    """The roots' values in float64, every sweep through the kernel language's interpreter."""
    values = {}
    for step in plan.steps:
        if isinstance(step, Fused):
            check_sweep(step.sweep)
            arrays = {node: values[node] for node in step.inputs}
            values.update(zip(step.nodes, interpret_sweep(step.sweep, arrays), strict=True))
        else:
            bound = {operand: values[operand] for operand in step.operands if operand in values}
            values[step] = interpret([step], bound, all64=True)[0]
    return [values[root] for root in roots]


def check_plan(*expressions, sweeps=1, tolerance=1e-9):
    """Interpreting the plan gives what interpreting the graph gives; the plan."""
    plan, roots = plan_of(*expressions)
    assert len(plan.sweeps) == sweeps, plan.not_fused
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*expressions) if len(expressions) > 1 else [ag.compute(*expressions)]
    for found, truth in zip(run(plan, roots), wanted, strict=True):
        scale = max(1.0, float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0)))
        np.testing.assert_allclose(found, truth, rtol=tolerance, atol=tolerance * scale)
    return plan


def contracted(plan: Plan) -> list[int]:
    """The lengths of what the only sweep's tiles contract, shortest first."""
    (sweep,) = plan.sweeps
    tiles = [*sweep.groups, *(each.weight for each in sweep.accumulators)]
    return sorted(each.attribute[1].length for each in below(tiles) if each.op == "reduce")


def operations(plan: Plan) -> set[str]:
    """The functions in the only sweep's tiles."""
    (sweep,) = plan.sweeps
    return {each.op for each in below([*sweep.groups, *(each.weight for each in sweep.accumulators)])}


def largest_step(plan: Plan) -> int:
    """Elements of the largest array that a step outside the sweeps makes."""
    return max((math.prod(step.shape) for step in plan.steps if not isinstance(step, Fused)), default=0)
