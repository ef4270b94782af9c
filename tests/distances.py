"""Attentions whose scores pair a row and a column element by element, and all that they learn: for several tests."""

import numpy as np

import attngraph as ag


def apart(q, k):
    return q[..., :, None, :] - k[..., None, :, :]


def together(q, k):
    return q[..., :, None, :] + k[..., None, :, :]


def attend(s, v, visible=None):
    return ag.softmax(s if visible is None else ag.where(visible, s, -ag.inf), axis=-1) @ v


def poincare(q, k, v, visible=None):
    distance = ag.manifold.PoincareBall().dist(q[..., :, None, :], k[..., None, :, :])
    return attend(-distance, v, visible)


def squared(q, k, v, visible=None):
    return attend(-ag.sum(apart(q, k) ** 2, axis=-1), v, visible)


def euclidean(q, k, v, visible=None):
    return attend(-ag.manifold.Euclidean().dist(q[..., :, None, :], k[..., None, :, :]), v, visible)


def l1(q, k, v, visible=None):
    return attend(-ag.sum(abs(apart(q, k)), axis=-1), v, visible)


def largest(q, k, v, visible=None):
    return attend(ag.sum(ag.maximum(q[..., :, None, :], k[..., None, :, :]), axis=-1), v, visible)


def weighted(q, k, v, weights, visible=None):
    return attend(-ag.sum(weights * apart(q, k) ** 2, axis=-1), v, visible)


def gatv2(q, k, v, weights, visible=None):
    return attend(ag.sum(weights * ag.leaky_relu(together(q, k), 0.2), axis=-1), v, visible)


def additive(q, k, v, weights, visible=None):
    return attend(ag.sum(weights * ag.tanh(together(q, k)), axis=-1), v, visible)


def product_and_distance(q, k, v, visible=None):
    return attend(q @ k.mT - ag.sum(apart(q, k) ** 2, axis=-1), v, visible)


def two_distances(q, k, v, visible=None):
    between = apart(q, k)
    distance = ag.sqrt(ag.sum(between**2, axis=-1) + 1) + ag.sum(abs(between), axis=-1)
    return attend(-distance, v, visible)


def column_bias(q, k, v, bias, visible=None):
    return attend(q @ k.mT + bias[..., None, :], v, visible)


# Attention, and whether it learns nothing more, weights of elements, or a bias of columns.
PAIRS = {
    "poincare": (poincare, None),
    "squared distance": (squared, None),
    "euclidean distance": (euclidean, None),
    "l1 distance": (l1, None),
    "maximum": (largest, None),
    "weighted distance": (weighted, "element"),
    "gatv2": (gatv2, "element"),
    "additive": (additive, "element"),
    "product and distance": (product_and_distance, None),
    "two distances": (two_distances, None),
    "column bias": (column_bias, "column"),
}


def arrays(name, rows, columns, width, value_width=None, batch=(1, 2), seed=0):
    """The upstream, q, k, v and what else is learned: points well inside the ball."""
    rng = np.random.default_rng(seed)
    value_width = value_width or width
    shapes = ((rows, value_width), (rows, width), (columns, width), (columns, value_width))
    found = [rng.standard_normal((*batch, *shape), dtype="float32") for shape in shapes]
    for points in found[1:3]:
        points *= np.float32((0.4 if name == "poincare" else 0.7) / np.sqrt(width))
    more = {"element": (width,), "column": (*batch, columns)}.get(PAIRS[name][1])
    return found if more is None else [*found, rng.standard_normal(more, dtype="float32")]


def step(name, visible=None):
    """From the upstream and the arguments to the output and all gradients."""

    def both(upstream, *given):
        out, pullback = ag.vjp(lambda *lazy: PAIRS[name][0](*lazy, visible=visible), *given)
        return (out, *pullback(upstream))

    return both
