"""Packing: which operands of columns are steps before the sweep, and which are computed within it."""

import pytest
from planned import check_plan
from sweeps import array, attend, inputs, rotated, scores

import attngraph as ag

# The attention, and the names of what is stored for it before the sweep.
PACKED = {
    "values squared": (lambda q, k, v: attend(scores(q, k), v * v), ["multiply"]),
    "values with weights": (lambda q, k, v: attend(scores(q, k), v * array(v.shape[-1])), ["multiply"]),
    "values gated by position": (lambda q, k, v: attend(scores(q, k), v * array(k.shape[-2], 1)), ["multiply"]),
    "rotary keys": (lambda q, k, v: attend(scores(q, rotated(k)), v), ["concat"]),
    "keys through a function": (lambda q, k, v: attend(scores(q, ag.tanh(k)), v), ["tanh"]),
    "a dear function of a column": (
        lambda q, k, v: attend(scores(q, k) + ag.log(ag.exp(array(k.shape[-2])) + 1), v),
        ["log"],
    ),
}
INLINE = {
    "keys times a number": lambda q, k, v: attend(q @ (k * 0.5).mT, v),
    "values times a number": lambda q, k, v: attend(scores(q, k), v * 0.5),
    "queries times their own": lambda q, k, v: attend(scores(q * array(q.shape[-2], q.shape[-1]), k), v),
    "a cheap function of a column": lambda q, k, v: attend(scores(q, k) + (array(k.shape[-2]) + 1), v),
    "arithmetic of positions": lambda q, k, v: attend(
        scores(q, k) - 0.1 * (ag.arange(q.shape[-2])[:, None] - ag.arange(k.shape[-2])).astype("float32"), v
    ),
    "swapped axes": lambda q, k, v: attend(scores(q, k), ag.flip(v, axis=-1)),
}


def stored(plan):
    """What the steps before the sweep make that the sweep reads, leaves apart."""
    (fused,) = [step for step in plan.steps if hasattr(step, "sweep")]
    return sorted(node.name for node in fused.inputs if node.operands)


@pytest.mark.parametrize("name", PACKED)
def test_packed(name):
    build, wanted = PACKED[name]
    assert stored(check_plan(build(*inputs(rows=50)))) == wanted


@pytest.mark.parametrize("name", INLINE)
def test_inline(name):
    assert stored(check_plan(INLINE[name](*inputs(rows=50)))) == []


def test_few_rows_compute_what_they_read_once():
    q, k, v = inputs(rows=4)
    assert stored(check_plan(attend(scores(q, k), v * v))) == []
