import pytest
from cut import cut_whatever_the_work
from sweeps import attend, inputs, scores

import attngraph as ag
from attngraph.engine.passes.watches import shows_what_is_not_finite
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program


def shown(monkeypatch, build):
    """Which of the arrays that a sweep reads need not be looked at."""
    cut_whatever_the_work(monkeypatch)
    q, k, v = inputs(rows=5, columns=640)
    program = Program(optimize([build(q, k, v).node]))
    (kernel,) = program.kernels.values()
    sources = {id(each.node.source): name for each, name in ((q, "q"), (k, "k"), (v, "v"))}
    return {sources[id(node.source)] for node in kernel.fused.inputs if shows_what_is_not_finite(kernel.sweep, node)}


@pytest.mark.parametrize(
    ("build", "wanted"),
    [
        (ag.attention, "qkv"),
        (lambda q, k, v: ag.attention(q, k, v, is_causal=True), "qkv"),
        (lambda q, k, v: ag.sigmoid(scores(q, k)) @ v, "qkv"),
        (lambda q, k, v: attend(ag.tanh(q @ k.mT), v), "qkv"),
        (lambda q, k, v: attend(-((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1), v), "qkv"),
        (lambda q, k, v: attend(ag.tanh(q[..., :, None, :] - k[..., None, :, :]).sum(-1), v), "v"),
        (lambda q, k, v: ag.attention(q, k, ag.tanh(v)), "qk"),
    ],
)
def test_what_contractions_and_sums_show_need_not_be_looked_at(monkeypatch, build, wanted):
    found = shown(monkeypatch, build)
    assert found <= set(wanted)
    if wanted == "qkv":
        assert found == set("qkv")


def test_an_infinity_that_a_score_adds_is_looked_at(monkeypatch):
    assert "k" not in shown(
        monkeypatch, lambda q, k, v: attend(scores(q, k) + ag.minimum(k[..., 0], 1)[..., None, :], v)
    )
