"""The variants that are measured: each as an attngraph expression, and by hand in NumPy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from measure import paired

import attngraph as ag

SHAPE = (1, 8, 512, 64)

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class Variant(NamedTuple):
    """A way to attend: ``graph`` on lazy arrays, ``numpy`` on arrays of any float type."""

    name: str
    graph: Callable[..., Any]
    numpy: Callable[..., np.ndarray]


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def scaled(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    return q @ k.swapaxes(-1, -2) * q.dtype.type(q.shape[-1] ** -0.5)


def causal(scores: np.ndarray) -> np.ndarray:
    return np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, scores.dtype.type(-np.inf))


def distances(length: int, dtype: Any) -> np.ndarray:
    positions = np.arange(length, dtype=dtype)
    return positions[None, :] - positions[:, None]


def halves(x: Any) -> tuple[Any, Any]:
    width = x.shape[-1] // 2
    return x[..., :width], x[..., width:]


def differential(q: Any, k: Any, v: Any, lib: Any, transposed: Callable[[Any], Any]) -> Any:
    """Two softmaxes of half the width, one taken from the other (Ye 2024, arXiv:2410.05258)."""
    (q1, q2), (k1, k2) = halves(q), halves(k)
    scale = q1.shape[-1] ** -0.5
    return lib(q1 @ transposed(k1) * scale) @ v - 0.5 * (lib(q2 @ transposed(k2) * scale) @ v)


def in_ball(x: Any, lib: Any) -> Any:
    """Points of the unit ball with radii below 0.9."""
    return x * (0.9 / lib.sqrt(1 + (x * x).sum(-1)))[..., None]


def poincare_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = in_ball(q, np)[..., :, None, :], in_ball(k, np)[..., None, :, :]
    gap = ((x - y) ** 2).sum(-1)
    z = 2 * gap / ((1 - (x * x).sum(-1)) * (1 - (y * y).sum(-1)))
    return softmax(-np.log1p(z + np.sqrt(z * (z + 2)))) @ v


def poincare_graph(q: Any, k: Any, v: Any) -> Any:
    ball = ag.manifold.PoincareBall()
    distance = ball.dist(in_ball(q, ag)[..., :, None, :], in_ball(k, ag)[..., None, :, :])
    return ag.softmax(-distance, axis=-1) @ v


def alibi(score: Any, b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
    return score + ag.exp2(-(h + 1)) * (kv_idx - q_idx)


def alibi_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    slopes = (2.0 ** -np.arange(1, q.shape[1] + 1)).astype(q.dtype)[:, None, None]
    return softmax(scaled(q, k) + slopes * distances(q.shape[-2], q.dtype)) @ v


VARIANTS = (
    Variant("plain", ag.scaled_dot_product_attention, lambda q, k, v: softmax(scaled(q, k)) @ v),
    Variant(
        "causal",
        lambda q, k, v: ag.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: softmax(causal(scaled(q, k))) @ v,
    ),
    Variant("ALiBi", lambda q, k, v: ag.flex_attention(q, k, v, score_mod=alibi), alibi_numpy),
    Variant(
        "softcap",
        lambda q, k, v: ag.flex_attention(q, k, v, score_mod=lambda s, *_: 20 * ag.tanh(s / 20)),
        lambda q, k, v: softmax(20 * np.tanh(scaled(q, k) / 20)) @ v,
    ),
    Variant(
        "softmax plus one",
        lambda q, k, v: _plus_one(q @ k.mT * q.shape[-1] ** -0.5) @ v,
        lambda q, k, v: _plus_one_numpy(scaled(q, k)) @ v,
    ),
    Variant(
        "differential",
        lambda q, k, v: differential(q, k, v, lambda s: ag.softmax(s, axis=-1), lambda x: x.mT),
        lambda q, k, v: differential(q, k, v, softmax, lambda x: x.swapaxes(-1, -2)),
    ),
    Variant("Poincaré distance", poincare_graph, poincare_numpy),
)


def _plus_one(scores: Any) -> Any:
    return ag.exp(scores - ag.log(1 + ag.sum(ag.exp(scores), axis=-1, keepdims=True)))


def _plus_one_numpy(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores)
    return weights / (1 + weights.sum(axis=-1, keepdims=True))


def all_rows(rounds: int) -> list[dict[str, Any]]:
    """A row for each variant: errors of both ways, and their ratio of times."""
    return [_row(variant, rounds) for variant in VARIANTS]


def _row(variant: Variant, rounds: int) -> dict[str, Any]:
    arrays = [np.random.default_rng(seed).standard_normal(SHAPE).astype("float32") for seed in range(3)]
    truth = variant.numpy(*(array.astype("float64") for array in arrays))
    compiled = ag.compile(variant.graph)
    times = paired(lambda: compiled(*arrays), lambda: variant.numpy(*arrays), rounds)
    return {
        "expression": variant.name,
        "error": _error(compiled(*arrays), truth),
        "NumPy_error": _error(variant.numpy(*arrays), truth),
        "milliseconds": times.ours * 1e3,
        "speed_against_NumPy": times.ratio,
    }


def _error(result: np.ndarray, truth: np.ndarray) -> float:
    """Largest difference from float64, relative to the largest value."""
    return float(np.abs(result - truth).max() / np.abs(truth).max())
