"""Layers of graph neural networks, written in gathers and segment operations, as a user writes them.

``source`` and ``target`` are those of the edges, ``nodes`` is how many there are: a `CSR`'s, or plain unsorted arrays.
Tests hold them against PyTorch Geometric's; benchmarks measure them.
"""

from typing import Any

import attngraph as ag


def gat(source: Any, target: Any, nodes: int, h: Any, to_source: Any, to_target: Any, on_edges: Any = None) -> Any:
    """Graph attention of transformed features (nodes, heads, width): Veličković et al., arXiv:1710.10903."""
    score = ag.sum(h * to_source, axis=-1)[source] + ag.sum(h * to_target, axis=-1)[target]
    if on_edges is not None:
        score = score + on_edges
    alpha = ag.segment_softmax(ag.leaky_relu(score, 0.2), target, nodes)
    return ag.segment_sum(alpha[..., None] * h[source], target, nodes)


def gatv2(source: Any, target: Any, nodes: int, left: Any, right: Any, weight: Any) -> Any:
    """Its nonlinearity inside the score: Brody et al., arXiv:2105.14491."""
    score = ag.sum(ag.leaky_relu(left[source] + right[target], 0.2) * weight, axis=-1)
    alpha = ag.segment_softmax(score, target, nodes)
    return ag.segment_sum(alpha[..., None] * left[source], target, nodes)


def dot_product(source: Any, target: Any, nodes: int, q: Any, k: Any, v: Any) -> Any:
    """Scores of products, as in a transformer: Shi et al., arXiv:2009.03509."""
    score = ag.sum(q[target] * k[source], axis=-1) * q.shape[-1] ** -0.5
    alpha = ag.segment_softmax(score, target, nodes)
    return ag.segment_sum(alpha[..., None] * v[source], target, nodes)


def hyperbolic(source: Any, target: Any, nodes: int, x: Any, v: Any) -> Any:
    """Points of a ball attend to near ones; x (nodes, width), v (nodes, features)."""
    distance = ag.manifold.PoincareBall().dist(x[target], x[source])
    alpha = ag.segment_softmax(-distance, target, nodes)
    return ag.segment_sum(alpha[..., None] * v[source], target, nodes)


def total(source: Any, target: Any, nodes: int, x: Any) -> Any:
    return ag.segment_sum(x[source], target, nodes)


def mean(source: Any, target: Any, nodes: int, x: Any) -> Any:
    """Hamilton et al., arXiv:1706.02216."""
    return ag.segment_mean(x[source], target, nodes)


def largest(source: Any, target: Any, nodes: int, x: Any) -> Any:
    """The largest; 0 where there is none, as PyTorch Geometric has it."""
    most = ag.segment_max(x[source], target, nodes)
    return ag.where(most == -ag.inf, 0.0, most)


def soft(source: Any, target: Any, nodes: int, x: Any, temperature: Any) -> Any:
    """Each feature weighted by its own softmax: Li et al., arXiv:2006.07739."""
    messages = x[source]
    alpha = ag.segment_softmax(messages * temperature, target, nodes)
    return ag.segment_sum(alpha * messages, target, nodes)


def moments(source: Any, target: Any, nodes: int, x: Any) -> Any:
    """Mean and variance: Corso et al., arXiv:2004.05718."""
    messages = x[source]
    center = ag.segment_mean(messages, target, nodes)
    return ag.concat([center, ag.segment_mean((messages - center[target]) ** 2, target, nodes)], axis=-1)
