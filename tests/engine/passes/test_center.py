"""Centering: which sums it rewrites into what, that they stay the same, and how exact gradients of parameters are."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.interpreter import interpret
from attngraph.engine.ir import walk
from attngraph.engine.passes.center import center
from attngraph.engine.passes.simplify import simplify
from attngraph.engine.pipeline import optimize
from attngraph.ops.centering import balanced_by
from attngraph.ops.reduction import Sum

B, H, N, WIDTH = 1, 2, 24, 8
I, J = ag.arange(N)[:, None], ag.arange(N)[None, :]


def arrays(seed=0, shape=(B, H, N, WIDTH)):
    """The gradient that arrives, queries, keys, values, and a parameter for each head."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(each, dtype="float32") for each in (*(shape,) * 4, (shape[1],))]


def scores(q, k):
    return q @ k.mT * q.shape[-1] ** -0.5


def heads(parameter):
    return parameter[:, None, None]


def causal(s):
    i, j = ag.arange(s.shape[-2])[:, None], ag.arange(s.shape[-1])
    return ag.where(i >= j, s, -np.inf)


def distance(s):
    return ag.arange(s.shape[-1]) - ag.arange(s.shape[-2])[:, None]


SCORES = {
    "slopes": lambda s, p: causal(s + heads(p) * distance(s)),
    "slopes times a number": lambda s, p: s - heads(p) * distance(s) * 0.1,
    "slopes of columns": lambda s, p: causal(s + heads(p) * ag.arange(s.shape[-1])),
    "slopes of columns times a number": lambda s, p: s + heads(p) * 0.1 * ag.arange(s.shape[-1]) * 0.5,
    "temperatures": lambda s, p: s * heads(ag.exp(p)),
    "temperatures, masked": lambda s, p: causal(s * heads(ag.exp(p))),
    "temperatures of masked scores": lambda s, p: causal(s) * heads(ag.exp(p)),
    "a divisor": lambda s, p: causal(s / heads(ag.exp(p))),
    "a mask the other way round": lambda s, p: ag.where(distance(s) > 0, -np.inf, s + heads(p) * distance(s)),
    "two masks": lambda s, p: ag.where(distance(s) > -20, causal(s + heads(p) * distance(s)), -np.inf),
    "a mask that hides nothing": lambda s, p: ag.where(distance(s) > 3, s + heads(p), s * 2),
    "a mask of another score": lambda s, p: ag.where(distance(s) > 3, s * heads(p), s),
    "a soft cap": lambda s, p: heads(ag.exp(p)) * ag.tanh(s / heads(ag.exp(p))),
    "one for all heads": lambda s, p: s * p[0],
    "one for each row": lambda s, p: s * ag.cos(ag.arange(s.shape[-2]) * p[0])[:, None],
}


def attends(name):
    return lambda q, k, v, p: ag.softmax(SCORES[name](scores(q, k), p), axis=-1) @ v


def gradients(attend, given, by=slice(None)):
    upstream, *rest = map(ag.asarray, given)
    return [each.node for each in ag.vjp(attend, *rest)[1](upstream)[by]]


def centers(roots):
    """The sums that centering changes."""
    changes = []
    after = center(simplify(roots), changes)
    return after, [old for old, _ in changes]


@pytest.mark.parametrize("name", SCORES)
def test_gradients_of_parameters_are_centered_and_stay_what_they_are(name):
    before = gradients(attends(name), arrays())
    after, changed = centers(before)
    assert changed
    assert all(isinstance(each, Sum) for each in changed)
    for old, new in zip(interpret(before, {}, all64=True), interpret(after, {}, all64=True), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_what_is_centered_is_not_again(name):
    after, _ = centers(gradients(attends(name), arrays()))
    assert center(after) == after
    once = optimize(gradients(attends(name), arrays()))
    assert center(once) == tuple(once)


def test_the_mean_by_the_weights_is_subtracted():
    g, x = ag.placeholder((3, 5, 7)), ag.placeholder((5, 7))
    p = ag.softmax(ag.placeholder((3, 5, 7)))
    d = p * (g - ag.sum(p * g, axis=-1, keepdims=True))
    due = ag.sum(d * (x - ag.sum(p * x, axis=-1, keepdims=True)), axis=(1, 2))
    assert center([ag.sum(d * x, axis=(1, 2)).node]) == (due.node,)
    assert balanced_by(d.node) is p.node


def test_other_sums_stay():
    g, x, row = ag.placeholder((3, 5, 7)), ag.placeholder((3, 5, 7)), ag.placeholder((5, 1))
    p = ag.softmax(ag.placeholder((3, 5, 7)))
    d = p * (g - ag.sum(p * g, axis=-1, keepdims=True))
    other = ag.softmax(ag.placeholder((3, 5, 7)))
    product = ag.placeholder((3, 5, 4)) @ ag.placeholder((3, 4, 7))
    for each in (
        ag.sum(d * x, axis=(0, 1)),  # along other axes: what varies along lines stays
        ag.sum(d * row, axis=(1, 2)),  # nothing varies along a line
        ag.sum(p * (g - ag.sum(other * g, axis=-1, keepdims=True)) * x, axis=(1, 2)),
        ag.sum(p * (g - ag.sum(p * g, axis=-2, keepdims=True)) * x, axis=(1, 2)),
        ag.sum(p * (g - ag.sum(p * x, axis=-1, keepdims=True)) * x, axis=(1, 2)),
        ag.sum(d * product, axis=(1, 2)),  # which would be made where P is, for nothing but this
        ag.sum(d + x, axis=(1, 2)),
    ):
        assert center([each.node]) == (each.node,)


def test_products_of_products_are_not_searched_for_ever():
    x = ag.placeholder((8, 8))
    for _ in range(2000):
        x = x * x
    total = ag.sum(x)
    assert center([total.node]) == (total.node,)


def test_forward_passes_and_gradients_without_parameters_stay():
    def plain(q, k, v):
        return ag.softmax(causal(scores(q, k)), axis=-1) @ v

    def tables(q, k, v, table):
        return ag.softmax(scores(q, k) + table[:, I - J + N], axis=-1) @ v

    *given, parameter = arrays()
    table = np.ones((H, 2 * N), "float32")
    assert not centers(gradients(plain, given))[1]
    assert not centers(gradients(tables, [*given, table]))[1]
    forward = attends("slopes")(*map(ag.asarray, [*given[1:], parameter])).node
    assert not centers([forward])[1]


def test_weights_with_a_sink_do_not_add_up_to_one():
    def attend(q, k, v, p):
        s = scores(q, k) * heads(p)
        return ag.exp(s - ag.logaddexp(ag.logsumexp(s, axis=-1, keepdims=True), np.float32(0))) @ v

    assert not centers(gradients(attend, arrays()))[1]


def test_second_derivatives_stay_what_they_are():
    def first(p, q, k, v, upstream):
        return ag.grad(lambda p: ag.sum(attends("slopes")(q, k, v, p) * upstream))(p)

    upstream, q, k, v, p = map(ag.asarray, arrays())
    second = [ag.grad(lambda p: ag.sum(first(p, q, k, v, upstream) ** 2))(p).node]
    old, new = (interpret(each, {}, all64=True)[0] for each in (second, optimize(second)))
    np.testing.assert_allclose(new, old, rtol=1e-10)


# --- kernels


@pytest.fixture
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


@pytest.mark.parametrize("name", [name for name in SCORES if name != "one for each row"])
def test_one_more_sum_forwards_and_one_pass_backwards(name, small_kernels):
    given = [ag.placeholder(each.shape) for each in arrays()]
    report = ag.explain(list(ag.vjp(attends(name), *given[1:])[1](given[0])))
    assert len(report.kernels) == 2
    assert not [each for each in report.kept if each.node.shape[-2:] == (N, N)]


HIDDEN = 5


def padded(s):
    """The last keys are hidden, and all of them from the first query."""
    return (ag.arange(s.shape[-1]) < s.shape[-1] - HIDDEN) & (ag.arange(s.shape[-2]) > 0)[:, None]


PADDED = {
    "slopes": lambda s, p: ag.where(padded(s), s + heads(p) * distance(s), -np.inf),
    "temperatures": lambda s, p: ag.where(padded(s), s * heads(ag.exp(p)), -np.inf),
    "temperatures of masked scores": lambda s, p: ag.where(padded(s), s, -np.inf) * heads(ag.exp(p)),
    "a bias of -inf": lambda s, p: s * heads(ag.exp(p)) + ag.where(padded(s), 0.0, -np.inf),
    "an infinite feature": lambda s, p: ag.where(
        padded(s), s + heads(p) * ag.where(padded(s), 1.0 * J, np.inf), -np.inf
    ),
}


@pytest.mark.parametrize("what", [0.0, 1e30, np.inf, np.nan])
@pytest.mark.parametrize("name", PADDED)
def test_hidden_keys_count_nowhere(name, what, small_kernels):
    def step(upstream, *given):
        return ag.vjp(lambda q, k, v, p: ag.softmax(PADDED[name](scores(q, k), p), axis=-1) @ v, *given)[1](upstream)

    if name == "a bias of -inf" and not np.isfinite(what):
        pytest.skip("a bias hides no NaN")
    given = arrays()
    due = [interpret([each.node], {}, all64=True)[0] for each in step(*map(ag.asarray, given))]
    given[2][:, :, N - HIDDEN :] = what
    found = ag.compile(step)(*given)
    for number in (0, 2, 3):
        np.testing.assert_allclose(found[number], due[number], rtol=2e-4, atol=2e-5)


def test_gradients_of_parameters_are_as_exact_as_torchs():
    torch = pytest.importorskip("torch")

    def theirs(name, given, dtype):
        upstream, *rest = (torch.from_numpy(each).to(dtype) for each in given)
        rest = [each.requires_grad_() for each in rest]
        q, k, v, p = rest
        s, places = scores(q, k), torch.arange(k.shape[-2])
        apart = places - places[:, None]
        s = s + heads(p) * apart * 0.1 if name == "slopes" else s * heads(torch.exp(p))
        s = torch.where(apart <= 0, s, -np.inf) if name == "slopes" else s
        return torch.autograd.grad(s.softmax(-1) @ v, rest, upstream)[3].double().numpy()

    def ours(name, given):
        def attend(q, k, v, p):
            s = scores(q, k)
            s = causal(s + heads(p) * distance(s) * 0.1) if name == "slopes" else s * heads(ag.exp(p))
            return ag.softmax(s, axis=-1) @ v

        return ag.compile(lambda upstream, *rest: ag.vjp(attend, *rest)[1](upstream)[3])(*given)

    for name in ("slopes", "temperatures"):
        ratios = []
        for seed in range(9):
            given = arrays(seed, (1, 4, 256, 32))
            due = theirs(name, given, torch.float64)
            errors = [np.abs(each - due).max() for each in (ours(name, given), theirs(name, given, torch.float32))]
            ratios.append(errors[0] / max(errors[1], 1e-7 * np.abs(due).max()))
        assert np.median(ratios) <= 2, (name, ratios)


def test_an_error_of_a_row_does_not_reach_slopes(small_kernels):
    """Places lie far from 0, and all on one side: what is multiplied by that is 0."""
    upstream, q, k, v, p = arrays(3, (1, 2, 128, 16))

    def step(upstream, q, k, v, p):
        far = ag.arange(128) + 1000.0
        return ag.vjp(lambda p: ag.softmax(scores(q, k) + heads(p) * 1e-3 * far, axis=-1) @ v, p)[1](upstream)

    (due,) = interpret([each.node for each in step(*map(ag.asarray, (upstream, q, k, v, p)))], {}, all64=True)
    (found,) = ag.compile(step)(upstream, q, k, v, p)
    assert np.abs(found - due).max() < 2e-6 * np.abs(due).max()


def test_what_is_not_hidden_is_the_mean_of_all(small_kernels):
    roots = gradients(attends("a mask that hides nothing"), arrays(), slice(3, 4))
    after, changed = centers(roots)
    assert len(changed) == 1
    assert [each for each in walk(after) if isinstance(each, Sum) and each.axes == (3,)]
