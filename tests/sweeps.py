"""Expressions that one sweep must serve, each with how many sweeps it takes: used by several tests."""

import numpy as np

import attngraph as ag

B, H, ROWS, COLUMNS, WIDTH = 2, 3, 37, 41, 8


def inputs(seed=0, rows=ROWS, columns=COLUMNS, width=WIDTH, value_width=None):
    rng = np.random.default_rng(seed)
    shapes = ((B, H, rows, width), (B, H, columns, width), (B, H, columns, value_width or width))
    return [ag.asarray(rng.standard_normal(shape).astype("float32")) for shape in shapes]


def array(*shape, seed=1):
    return ag.asarray(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def scores(q, k):
    return q @ k.mT * q.shape[-1] ** -0.5


def positions(q, k):
    return ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]


def attend(s, v):
    return ag.softmax(s, axis=-1) @ v


def causal(s, q, k):
    i, j = positions(q, k)
    return ag.where(i >= j, s, -ag.inf)


def differences(q, k):
    return q[..., :, None, :] - k[..., None, :, :]


def manual(q, k, v):
    s = scores(q, k)
    e = ag.exp(s - s.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)) @ v


def differential(q, k, v):
    half = q.shape[-1] // 2
    first, second = (ag.softmax(scores(q[..., part], k[..., part]), -1) for part in (slice(half), slice(half, None)))
    return (first - 0.4 * second) @ v


def latent(q, k, v):
    extra_q, extra_k = array(B, H, q.shape[-2], 4, seed=5), array(B, 1, k.shape[-2], 4, seed=6)
    return attend((q @ k.mT + extra_q @ extra_k.mT) * 0.3, v)


def relative(q, k, v):
    n = k.shape[-2]
    table = array(H, q.shape[-2] + n)
    return ag.flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s + table[h, i - j + n])


def alibi(q, k, v):
    slopes = array(H)
    return ag.flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s + slopes[h] * (j - i))


def poincare(q, k, v):
    ball = ag.manifold.PoincareBall()
    small_q, small_k = (x * 0.2 for x in (q, k))
    return attend(-ball.dist(small_q[..., :, None, :], small_k[..., None, :, :]), v)


VARIANTS = {
    "plain": (lambda q, k, v: attend(scores(q, k), v), 1),
    "attention": (ag.attention, 1),
    "causal": (lambda q, k, v: attend(causal(scores(q, k), q, k), v), 1),
    "is_causal": (lambda q, k, v: ag.attention(q, k, v, is_causal=True), 1),
    "lower right": (lambda q, k, v: ag.attention(q, k, v, is_causal="lower_right"), 1),
    "softcap": (lambda q, k, v: attend(5 * ag.tanh(scores(q, k) / 5), v), 1),
    "alibi": (alibi, 1),
    "relative table": (relative, 1),
    "bias (S, S)": (lambda q, k, v: attend(scores(q, k) + array(q.shape[-2], k.shape[-2]), v), 1),
    "bias (H, S, S)": (lambda q, k, v: attend(scores(q, k) + array(H, q.shape[-2], k.shape[-2]), v), 1),
    "bias of columns": (lambda q, k, v: attend(scores(q, k) + array(B, 1, 1, k.shape[-2]), v), 1),
    "bias of rows": (lambda q, k, v: attend(scores(q, k) * array(H, q.shape[-2], 1), v), 1),
    "manual softmax": (manual, 1),
    "softmax plus one": (
        lambda q, k, v: ag.exp(scores(q, k) - ag.log(1 + ag.exp(scores(q, k)).sum(-1, keepdims=True))) @ v,
        1,
    ),
    "sigmoid": (lambda q, k, v: ag.sigmoid(scores(q, k)) @ v, 1),
    "gated": (lambda q, k, v: (ag.softmax(scores(q, k), -1) * ag.sigmoid(scores(q, k))) @ v, 1),
    "differential": (differential, 1),
    "latent": (latent, 1),
    "squared distance": (lambda q, k, v: attend(-(differences(q, k) ** 2).sum(-1), v), 1),
    "l1 distance": (lambda q, k, v: attend(-ag.abs(differences(q, k)).sum(-1), v), 1),
    "additive": (
        lambda q, k, v: attend((array(WIDTH) * ag.tanh(q[..., :, None, :] + k[..., None, :, :])).sum(-1), v),
        1,
    ),
    "poincare": (poincare, 1),
    "boolean mask": (lambda q, k, v: ag.attention(q, k, v, mask=array(1, H, q.shape[-2], k.shape[-2]) > 0.3), 1),
}
