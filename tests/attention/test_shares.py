"""Weights that are divided by their sum, as users write them out: as few sweeps as softmax takes, and as exact."""

import numpy as np
import pytest
from training_step import LENGTH, arrays, step

import attngraph as ag
from attngraph.engine import program


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


SINK = np.float32([[[0.5]], [[2.0]]])


def scores(q, k):
    return q @ k.mT / 4


def shares(hide=lambda s: s, beside=None, less=None, after=False):
    """Weights divided by their sum, as it is written out: what else is in the sum, and what scores are made less by."""

    def attend(q, k, v):
        s = hide(scores(q, k))
        shift = 0.0 if less is None else less(s)
        e = ag.exp(s - shift)
        total = ag.sum(e, axis=-1, keepdims=True)
        if beside is not None:
            total = total + ag.exp(beside - shift)
        return e @ v / total if after else e / total @ v

    return attend


def hidden(s):
    return ag.where(ag.arange(LENGTH)[:, None] >= ag.arange(LENGTH), s, -ag.inf)


def largest(s):
    return ag.max(s, axis=-1, keepdims=True)


def masked_weights(q, k, v):
    s = scores(q, k)
    e = ag.where(ag.arange(LENGTH)[:, None] >= ag.arange(LENGTH), ag.exp(s - largest(s)), 0)
    return e / ag.sum(e, axis=-1, keepdims=True) @ v


WRITTEN = {
    "softmax plus one": shares(hidden, 0.0, lambda s: ag.maximum(largest(s), 0)),
    "softmax plus one, less nothing": shares(beside=0.0),
    "softmax plus one by its logarithm": lambda q, k, v: (
        ag.exp(scores(q, k) - ag.log(1 + ag.sum(ag.exp(scores(q, k)), axis=-1, keepdims=True))) @ v
    ),
    "sink": shares(hidden, ag.asarray(SINK), lambda s: ag.maximum(largest(s), SINK)),
    "sink behind the product": shares(hidden, ag.asarray(SINK), lambda s: ag.maximum(largest(s), SINK), after=True),
    "sink by its logarithm": lambda q, k, v: (
        (lambda s: ag.exp(s - ag.logaddexp(ag.logsumexp(s, axis=-1, keepdims=True), SINK)))(scores(q, k)) @ v
    ),
    "written softmax": shares(),
    "written softmax, causal": shares(hidden, less=largest),
    "written softmax, nothing through the largest": shares(less=lambda s: ag.stop_gradient(largest(s))),
    "written softmax, less a mean": shares(less=lambda s: ag.mean(s, axis=-1, keepdims=True)),
    "written softmax behind the product": shares(less=largest, after=True),
    "masked weights over their sum": masked_weights,
    "log_softmax": lambda q, k, v: ag.exp(ag.log_softmax(scores(q, k))) @ v,
}


def sweeps_of(lazy):
    """How many sweeps there are, and how many of them with results of columns."""
    sweeps = [kernel.ir for kernel in ag.explain(list(lazy)).kernels if "sweep" in kernel.ir]
    return [len(sweeps), sum("sum over rows" in each for each in sweeps)]


def check(lazy):
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    for found, right in zip(ag.compute(*lazy), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=2e-5 * np.abs(right).max())


@pytest.mark.parametrize("name", WRITTEN)
def test_a_step_is_one_sweep_forward_and_one_backward(name):
    lazy = step(WRITTEN[name])(*map(ag.asarray, arrays()))
    assert sweeps_of(lazy) == [2, 1]
    check(lazy)


def test_a_sink_learns_in_the_same_pass():
    def attend(q, k, v, sink):
        return shares(hidden, sink, lambda s: ag.maximum(largest(s), sink))(q, k, v)

    *given, upstream = arrays()
    given.append(SINK)
    out, pullback = ag.vjp(attend, *given)
    lazy = (out, *pullback(upstream))
    assert len(ag.explain(list(lazy)).kernels) == 2 + sum(
        "sweep" not in each.ir for each in ag.explain(list(lazy)).kernels
    )
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    for found, right in zip(ag.compute(*lazy), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=2e-5 * np.abs(right).max())


@pytest.mark.parametrize("learned", [False, True])
def test_a_difference_of_softmaxes_is_two_attentions(learned):
    def attend(q, k, v, times):
        first, second = (ag.softmax(hidden(q[..., part] @ k[..., part].mT / 3)) for part in (slice(8), slice(8, 16)))
        return (first - (times if learned else 0.4) * second) @ v

    *given, upstream = arrays()
    given.append(np.float32([[[0.4]], [[0.7]]]))
    out, pullback = ag.vjp(attend, *given)
    lazy = (out, *pullback(upstream)[: 4 if learned else 3])
    assert sweeps_of(lazy) == [4, 2]
    check(lazy)


@pytest.mark.parametrize("name", ["softmax", "plus one", "sink"])
@pytest.mark.parametrize("kind", ["hidden", "minus infinity"])
def test_rows_without_anything_to_attend_to_have_no_gradient(name, kind):
    visible = np.ones((LENGTH, LENGTH), bool)
    visible[3] = visible[100:120] = visible[:, 7] = False
    bias = np.where(visible, 0, -np.inf).astype("float32")

    def hide(s):
        return ag.where(ag.asarray(visible), s, -ag.inf) if kind == "hidden" else s + ag.asarray(bias)

    attends = {
        "softmax": lambda q, k, v: ag.softmax(hide(scores(q, k))) @ v,
        "plus one": shares(hide, 0.0, lambda s: ag.maximum(largest(s), 0)),
        "sink": shares(hide, ag.asarray(SINK)),
    }
    *given, upstream = arrays()
    out, *gradients = ag.compile(step(attends[name]))(*given, upstream)
    assert all(np.isfinite(each).all() for each in (out, *gradients))
    for each in (out, gradients[0]):
        assert not each[:, :, 3].any()
        assert not each[:, :, 100:120].any()
    assert not any(each[:, :, 7].any() for each in gradients[1:])


def test_shares_of_large_scores_are_as_exact_as_softmax():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 2, LENGTH, 16)) * size for size in (18, 18, 1))
    q, k = np.round(q), np.round(k)
    given = [each.astype("float32") for each in (q, k, v)]
    errors = []
    for attend in (lambda q, k, v: ag.softmax(scores(q, k)) @ v, shares(beside=900.0), shares(beside=0.0)):
        with ag.config.set(target="reference64"):
            right = attend(*map(ag.asarray, given)).compute()
        errors.append(np.abs(ag.compile(attend)(*given) - right).max())
    assert max(errors) <= 2 * errors[0] + 1e-6
