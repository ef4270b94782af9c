"""Gradients of attention in all its variety, as expressions: what several tests cut into parts."""

import numpy as np
from sweeps import VARIANTS, array, attend, scores

import attngraph as ag

ROWS, COLUMNS, B, H = 90, 70, 2, 4


def leaves(heads=H, shared=H, rows=ROWS, columns=COLUMNS, width=8):
    return [
        array(B, n, length, width, seed=n + length)
        for n, length in ((heads, rows), (shared, columns), (shared, columns))
    ]


def window(q, k, v):
    i, j = ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]
    return attend(ag.where((j <= i) & (i - j < 30), scores(q, k), -ag.inf), v)


def documents(q, k, v):
    rng = np.random.default_rng(3)
    mine, theirs = (ag.asarray(np.sort(rng.integers(0, 4, n))) for n in (q.shape[-2], k.shape[-2]))
    return attend(ag.where(mine[:, None] == theirs[None, :], scores(q, k), -ag.inf), v)


def documents_of_batch(q, k, v):
    rng = np.random.default_rng(3)
    mine, theirs = (ag.asarray(np.sort(rng.integers(0, 4, (B, 1, n)))) for n in (q.shape[-2], k.shape[-2]))
    return attend(ag.where(mine[..., :, None] == theirs[..., None, :], scores(q, k), -ag.inf), v)


def alibi(q, k, v, slopes):
    i, j = ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]
    return ag.attention(q, k, v, bias=-slopes[:, None, None] * ag.abs(i - j).astype("float32"))


def relative(q, k, v, table):
    i, j = ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]
    return ag.attention(q, k, v, bias=ag.take(table, i - j + COLUMNS, axis=-1))


def biased(q, k, v, bias):
    return ag.attention(q, k, v, bias=bias)


# For each what makes it, and along how many places its gradients may be cut, batch and heads; 1 for what sums over it.
GRADIENTS = {
    "plain": (ag.attention, leaves, (B, H)),
    "is_causal": (lambda q, k, v: ag.attention(q, k, v, is_causal=True), leaves, (B, H)),
    "window": (window, leaves, (B, H)),
    "documents": (documents, leaves, (B, H)),
    "documents of batch": (documents_of_batch, leaves, (B, H)),
    "differential": (VARIANTS["differential"][0], leaves, (B, H)),
    "poincare": (VARIANTS["poincare"][0], leaves, (B, H)),
    "grouped": (lambda q, k, v: ag.attention(q, k, v, enable_gqa=True), lambda: leaves(shared=2), (B, 2)),
    "one key": (lambda q, k, v: ag.attention(q, k, v, enable_gqa=True), lambda: leaves(shared=1), (B,)),
    "alibi": (alibi, lambda: [*leaves(), array(H)], (B, H)),
    "relative": (relative, lambda: [*leaves(), array(H, ROWS + COLUMNS)], (H,)),
    "bias of heads": (biased, lambda: [*leaves(), array(H, ROWS, COLUMNS)], (H,)),
    "bias of all": (biased, lambda: [*leaves(), array(B, H, ROWS, COLUMNS)], (B, H)),
    "bias of none": (biased, lambda: [*leaves(), array(ROWS, COLUMNS)], None),
}


def gradients(name):
    """A result, and its gradients by all that it is made of."""
    build, make, _ = GRADIENTS[name]
    given = make()
    result, pullback = ag.vjp(build, *given)
    return [result, *pullback(array(*result.shape, seed=11))]
