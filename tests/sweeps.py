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


def below_diagonal(q, k):
    i, j = positions(q, k)
    return i >= j


def points(measure, count=4, width=3):
    """A score of ``count`` points beside the product: ``measure`` of all their differences (Jumper 2021)."""

    def build(q, k, v):
        x = array(B, H, q.shape[-2], count, width, seed=7)
        y = array(B, H, k.shape[-2], count, width, seed=8)
        return attend(scores(q, k) - 0.1 * measure(x[:, :, :, None] - y[:, :, None]), v)

    return build


def rotated(x):
    """Rotary positions (Su 2021), by halves."""
    half = x.shape[-1] // 2
    angles = ag.arange(x.shape[-2])[:, None] * array(half, seed=9)
    cos, sin = ag.cos(angles), ag.sin(angles)
    first, second = x[..., :half], x[..., half:]
    return ag.concat([first * cos - second * sin, first * sin + second * cos], axis=-1)


def halves(q, k):
    """Scores of either half of the coordinates."""
    half = q.shape[-1] // 2
    return scores(q[..., :half], k[..., :half]), scores(q[..., half:], k[..., half:])


def sink(q, k, v):
    s = scores(q, k)
    return ag.exp(s - ag.logaddexp(ag.logsumexp(s, axis=-1, keepdims=True), array(H, 1, 1))) @ v


def manual_sink(q, k, v):
    s, logit = scores(q, k), array(H, 1, 1)
    largest = ag.maximum(s.max(-1, keepdims=True), logit)
    e = ag.exp(s - largest)
    return e @ v / (e.sum(-1, keepdims=True) + ag.exp(logit - largest))


def two_values(q, k, v):
    first, second = (ag.softmax(s, axis=-1) for s in halves(q, k))
    return first @ v - 0.5 * (second @ array(*v.shape, seed=3))


def moments(q, k, v):
    weights = ag.softmax(scores(q, k), axis=-1)
    return weights @ (v * v) - (weights @ v) ** 2


def expected(value):
    """The mean of a function of scores under their own softmax."""
    return lambda q, k, v: (ag.softmax(scores(q, k), axis=-1) * value(scores(q, k))).sum(-1)


def renormalized(weights):
    """Weights that are divided by their sum."""

    def build(q, k, v):
        w = weights(q, k)
        return w @ v / w.sum(-1, keepdims=True)

    return build


def groups(q, k, v):
    return ag.attention(q, k[:, :1], v[:, :1], enable_gqa=True)


def grouped_by_shape(q, k, v):
    found = attend(scores(q[:, None], k[:, :1, None]), v[:, :1, None])
    return found.reshape(*q.shape[:-1], v.shape[-1])


def vectors_by_distance(q, k, v):
    i, j = positions(q, k)
    table = array(q.shape[-2] + k.shape[-2], q.shape[-1])
    return attend(scores(q, k) + (q[..., :, None, :] * table[i - j + k.shape[-2]]).sum(-1), v)


def documents(q, k, v):
    i, j = positions(q, k)
    return attend(ag.where(i // 8 == j // 8, scores(q, k), -ag.inf), v)


def bucketed(q, k, v):
    i, j = positions(q, k)
    return attend(scores(q, k) + array(H, 8)[:, ag.minimum(ag.abs(i - j) // 4, 7)], v)


def poincare_with(form="direct", times=1.0, curvature=1.0, hidden=False):
    def build(q, k, v):
        ball = ag.manifold.PoincareBall(curvature)
        small_q, small_k = (x * 0.2 for x in (q, k))
        distance = ball.dist(small_q[..., :, None, :], small_k[..., None, :, :], form=form)
        return attend(causal(-distance * times, q, k) if hidden else -distance * times, v)

    return build


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
    # Sums of several contractions, small reductions within each other, pairs of anything.
    "points": (points(lambda d: (d**2).sum((-1, -2))), 1),
    "points, roots": (points(lambda d: ag.sqrt((d**2).sum(-1)).sum(-1)), 1),
    "points, weighted roots": (points(lambda d: (array(4) * ag.sqrt((d**2).sum(-1))).sum(-1)), 1),
    "points, farthest": (points(lambda d: (d**2).sum(-1).max(-1)), 1),
    "points, nearest": (points(lambda d: (d**2).sum(-1).min(-1)), 1),
    "many points": (points(lambda d: ag.sqrt((d**2).sum(-1)).sum(-1), 30), 1),
    "few wide points": (points(lambda d: ag.sqrt((d**2).sum(-1)).sum(-1), 3, 30), 1),
    "gatv2": (
        lambda q, k, v: attend((array(WIDTH) * ag.leaky_relu(q[..., :, None, :] + k[..., None, :, :])).sum(-1), v),
        1,
    ),
    "vectors by distance": (vectors_by_distance, 1),
    "product manifold": (
        lambda q, k, v: attend(
            -ag.manifold.Product((ag.manifold.Euclidean(), 4), (ag.manifold.PoincareBall(), 4)).dist(
                q[..., :, None, :] * 0.2, k[..., None, :, :] * 0.2
            ),
            v,
        ),
        1,
    ),
    # Scores whose weights need no exponential, and others of their family.
    "poincare gram": (poincare_with("gram"), 1),
    "poincare causal": (poincare_with(hidden=True), 1),
    "poincare, sharper": (poincare_with(times=3.5), 1),
    "poincare, curved": (poincare_with(curvature=0.5), 1),
    "inverse distance": (renormalized(lambda q, k: 1 / (1 + (differences(q, k) ** 2).sum(-1))), 1),
    "student": (lambda q, k, v: attend(-ag.log1p((differences(q, k) ** 2).sum(-1)), v), 1),
    # What columns and rows bring is more than a load.
    "rotary": (lambda q, k, v: attend(scores(rotated(q), rotated(k)), v), 1),
    "cosine": (lambda q, k, v: attend(10 * ag.l2_normalize(q) @ ag.l2_normalize(k).mT, v), 1),
    "normalised": (lambda q, k, v: attend(scores(ag.rms_norm(q), ag.layer_norm(k)), ag.layer_norm(v)), 1),
    "scaled by row and column": (
        lambda q, k, v: attend((q * array(q.shape[-2], 1)) @ (k * array(k.shape[-2], 1, seed=4)).mT, v),
        1,
    ),
    "weighted values": (lambda q, k, v: attend(scores(q, k), v * array(v.shape[-1])), 1),
    "gated values": (lambda q, k, v: attend(scores(q, k), v * array(k.shape[-2], 1)), 1),
    "moments": (moments, 1),
    # Weights of scores and row reductions.
    "sink": (sink, 1),
    "manual sink": (manual_sink, 1),
    "two values": (two_values, 1),
    "learned differential": (
        lambda q, k, v: (
            (lambda one, two: ag.softmax(one, axis=-1) - array(H, 1, 1) * ag.softmax(two, axis=-1))(*halves(q, k)) @ v
        ),
        1,
    ),
    "row norm": (
        lambda q, k, v: (scores(q, k) / ag.sqrt((scores(q, k) ** 2).sum(-1, keepdims=True))) @ v,
        1,
    ),
    "groups": (groups, 1),
    "groups by shape": (grouped_by_shape, 1),
    "narrow values": (lambda q, k, v: attend(scores(q, k), v[..., :5]), 1),
    # Row reductions alone.
    "lse": (lambda q, k, v: ag.logsumexp(scores(q, k), axis=-1), 1),
    "largest": (lambda q, k, v: scores(q, k).max(-1), 1),
    "least": (lambda q, k, v: scores(q, k).min(-1), 1),
    "mean": (lambda q, k, v: scores(q, k).mean(-1), 1),
    "expected score": (expected(lambda s: s), 1),
    "expected distance": (
        lambda q, k, v: (lambda d: (ag.softmax(-d, axis=-1) * ag.sqrt(d)).sum(-1))((differences(q, k) ** 2).sum(-1)),
        1,
    ),
    "entropy": (expected(lambda s: -ag.log_softmax(s, axis=-1)), 1),
    "entropy as written": (expected(lambda s: -ag.log(ag.softmax(s, axis=-1))), 1),
    # Tables, and conditions in any form.
    "bucketed table": (bucketed, 1),
    "bias of batch": (lambda q, k, v: attend(scores(q, k) + array(B, 1, q.shape[-2], k.shape[-2]), v), 1),
    "learned temperature": (lambda q, k, v: attend(scores(q, k) * ag.exp(array(H, 1, 1)), v), 1),
    "hidden above": (lambda q, k, v: attend(ag.where(~below_diagonal(q, k), -ag.inf, scores(q, k)), v), 1),
    "added mask": (lambda q, k, v: attend(scores(q, k) + ag.where(below_diagonal(q, k), 0.0, -ag.inf), v), 1),
    "lower triangle": (
        lambda q, k, v: attend(ag.where(ag.tril(ag.ones((q.shape[-2], k.shape[-2]))) > 0, scores(q, k), -ag.inf), v),
        1,
    ),
    "causal sigmoid": (lambda q, k, v: ag.where(below_diagonal(q, k), ag.sigmoid(scores(q, k)), 0.0) @ v, 1),
    "causal, renormalised": (
        renormalized(lambda q, k: ag.where(below_diagonal(q, k), ag.exp(scores(q, k)), 0.0)),
        1,
    ),
    "documents": (documents, 1),
}
