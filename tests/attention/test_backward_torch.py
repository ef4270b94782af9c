"""Gradients beside torch's autograd: in float64, and those of ties, orders and norms. Skipped without torch."""

import numpy as np
import pytest

import attngraph as ag

torch = pytest.importorskip("torch")

HEADS, LENGTH, WIDTH = 4, 23, 8
# Two orders of summation, of some hundreds of terms.
WITHIN = 1e-11


def scores(q, k):
    return q @ k.mT * WIDTH**-0.5


def places(library):
    return library.arange(LENGTH)[:, None], library.arange(LENGTH)[None, :]


def causal(library, s):
    i, j = places(library)
    return library.where(i >= j, s, -float("inf"))


def sdpa(**options):
    modules = {ag: ag, torch: torch.nn.functional}
    return lambda library, *given: modules[library].scaled_dot_product_attention(*given[:3], *given[3:], **options)


def slopes(library, q, k, v, slope):
    i, j = places(library)
    return causal(library, scores(q, k) + slope[:, None, None] * (j - i)).softmax(-1) @ v


def table(library, q, k, v, learned):
    i, j = places(library)
    return (scores(q, k) + learned[:, i - j + LENGTH]).softmax(-1) @ v


def sinks(library, q, k, v, logit):
    s = causal(library, scores(q, k))
    total = library.logaddexp(s.logsumexp(-1)[..., None], logit[:, None, None])
    return library.exp(s - total) @ v


def poincare(library, q, k, v):
    q, k = q * 0.2, k * 0.2
    if library is ag:
        distance = ag.manifold.PoincareBall().dist(q[..., :, None, :], k[..., None, :, :])
    else:
        apart = ((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1)
        distance = torch.acosh(1 + 2 * apart / ((1 - (q * q).sum(-1)[..., None]) * (1 - (k * k).sum(-1)[..., None, :])))
    return (-distance).softmax(-1) @ v


QKV = ((2, HEADS, LENGTH, WIDTH),) * 3
EXPRESSIONS = {
    "plain": (sdpa(), QKV),
    "causal": (sdpa(is_causal=True), QKV),
    "float bias": (sdpa(), (*QKV, (HEADS, LENGTH, LENGTH))),
    "groups": (sdpa(enable_gqa=True), (QKV[0], (2, 2, LENGTH, WIDTH), (2, 2, LENGTH, WIDTH))),
    "softcap": (lambda library, q, k, v: (2 * library.tanh(scores(q, k) / 2)).softmax(-1) @ v, QKV),
    "learned slopes": (slopes, (*QKV, (HEADS,))),
    "relative table": (table, (*QKV, (HEADS, 2 * LENGTH))),
    "sinks": (sinks, (*QKV, (HEADS,))),
    "poincare": (poincare, QKV),
    "gated": (lambda library, q, k, v: (scores(q, k).softmax(-1) * scores(q, k).sigmoid()) @ v, QKV),
    "largest": (lambda library, q, k, v: scores(q, k).amax(-1)[..., None] * v, QKV),
}


def check(formula, arrays, within=WITHIN):
    """The same value and gradients as torch has, in float64."""
    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
    out = formula(torch, *tensors)
    upstream = np.random.default_rng(1).standard_normal(tuple(out.shape))
    wanted = [out.detach(), *torch.autograd.grad(out, tensors, torch.from_numpy(upstream))]
    with ag.config.set(target="reference64"):
        value, pullback = ag.vjp(lambda *given: formula(ag, *given), *arrays)
        found = ag.compute(value, *pullback(upstream))
    for result, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(result, right.numpy(), rtol=0, atol=within * max(1.0, float(right.abs().max())))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_in_float64(name):
    formula, shapes = EXPRESSIONS[name]
    rng = np.random.default_rng(0)
    check(formula, [rng.standard_normal(shape) for shape in shapes])


TIES = np.array([[1.0, 3.0, 3.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0, 2.0], [5.0, 1.0, 4.0, 0.0, 5.0]])
# The same text serves both; where one says axis, the other says dim.
FUNCTIONS = {
    "amax": lambda library, x: x.amax(-1),
    "amin of all": lambda library, x: x.amin((0, 1)),
    "maximum": lambda library, x: library.maximum(x, x[:1]),
    "clamp": lambda library, x: x.clamp(1.5, 4.5),
    "abs at 0": lambda library, x: abs(x - 2),
    "relu at 0": lambda library, x: (x - 2).relu(),
    "prod with zeros": lambda library, x: (x - 1).prod(-1),
    "std of equals": lambda library, x: x.std(-1, correction=0),
    "cumulative": lambda library, x: x.cumsum(1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_ties_and_kinks(name):
    check(FUNCTIONS[name], [TIES])


@pytest.mark.parametrize("largest", [True, False])
def test_orders(largest):
    x = np.random.default_rng(0).permutation(24).reshape(4, 6) * 0.5
    check(lambda library, x: library.topk(x, 3, 1, largest=largest)[0], [x])
    words = {ag: {"axis": 1}, torch: {"dim": 1}}

    def in_order(library, x):
        found = library.sort(x, descending=largest, **words[library])
        return found if library is ag else found.values

    check(in_order, [x])


def test_norms():
    rng = np.random.default_rng(0)
    functional = torch.nn.functional
    x, weight, bias = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(5)

    def layer(library, x, w, b):
        return ag.layer_norm(x, w, b) if library is ag else functional.layer_norm(x, (5,), w, b)

    def root_mean_square(library, x, w):
        return ag.rms_norm(x, w, eps=1e-6) if library is ag else functional.rms_norm(x, (5,), w, eps=1e-6)

    def unit(library, x):
        return ag.l2_normalize(x) if library is ag else functional.normalize(x, dim=-1)

    check(layer, [x, weight, bias])
    check(root_mean_square, [x, weight])
    check(unit, [x])
