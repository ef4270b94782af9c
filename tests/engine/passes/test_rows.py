"""Which axis is that of the rows, and sweeps of a single one."""

import numpy as np
import pytest
from planned import check_plan, plan_of
from sweeps import VARIANTS, array, attend, inputs

import attngraph as ag
from attngraph.engine.ir import Node


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_one_row(name):
    build, sweeps = VARIANTS[name]
    check_plan(build(*inputs(rows=1)), sweeps=sweeps)


def test_a_vector_of_weights_is_one_row():
    k, v = array(40, 8), array(40, 6, seed=2)
    for expression in (
        attend(k @ array(8), v),
        attend(array(8) @ k.mT, v),
        ag.logsumexp(array(3, 40, 8) @ array(8), -1),
    ):
        (sweep,) = check_plan(expression).sweeps
        assert sweep.rows.length == 1
        assert sweep.pair == {sweep.columns}


def test_heads_that_share_keys_are_rows():
    q, k = array(1, 6, 1, 8), array(1, 2, 40, 8)
    (sweep,) = check_plan(ag.attention(q, k, k, enable_gqa=True)).sweeps
    assert (sweep.rows.length, [axis.length for axis in sweep.batch]) == (3, [1, 2])


@pytest.mark.parametrize("bias", [(1, 40), (40,), (3, 1, 40)])
def test_a_table_does_not_make_heads_rows(bias):
    q, k, v = inputs(rows=1, columns=40)
    out, lse = ag.attention(q, k, v, bias=array(*bias), return_lse=True)
    for sweep in (*check_plan(out, lse).sweeps, *check_plan(lse).sweeps):
        assert sweep.rows.length == 1


def test_reductions_within_what_accumulators_sum_are_stored():
    q, k, v = inputs(rows=1, columns=40)
    plan = check_plan(attend(q @ ag.rms_norm(k).mT, ag.layer_norm(v)))
    assert [step.name for step in plan.steps if isinstance(step, Node) and step.role == "reduction"] == ["sum", "sum"]


def test_products_alone_are_no_sweeps():
    plan, _ = plan_of(array(40, 50) @ np.ones(50, "float32"))
    assert not plan.sweeps
