"""How far from float64: every score through attngraph's kernels and through torch's float32, on the same arrays."""

from typing import Any

import numpy as np
import scores

import attngraph as ag

LENGTH = 1024
# A form of the distance that torch's users write; the exact one needs an array of S × S × D there.
_BALL = 1.0


def _scores(q: Any, k: Any) -> Any:
    return q @ k.mT * q.shape[-1] ** -0.5


def _positions(s: Any) -> Any:
    import torch

    return torch.arange(s.shape[-2])[:, None], torch.arange(s.shape[-1])[None, :]


def _with_table(q: Any, k: Any, v: Any, table: Any) -> Any:
    s = _scores(q, k)
    i, j = _positions(s)
    return (s + table[:, i - j + s.shape[-1]]).softmax(-1) @ v


def _with_slopes(q: Any, k: Any, v: Any, slopes: Any) -> Any:
    s = _scores(q, k)
    i, j = _positions(s)
    return (s + slopes[:, None, None] * (j - i)).softmax(-1) @ v


def _gated(q: Any, k: Any, v: Any) -> Any:
    s = _scores(q, k)
    return (s.softmax(-1) * s.sigmoid()) @ v


def _two_moments(q: Any, k: Any, v: Any) -> Any:
    weights = _scores(q, k).softmax(-1)
    return weights @ v, weights @ (v * v)


def _differential(q1: Any, k1: Any, q2: Any, k2: Any, v: Any) -> Any:
    return (_scores(q1, k1).softmax(-1) - 0.5 * _scores(q2, k2).softmax(-1)) @ v


def _point(q: Any, k: Any, v: Any, x: Any, y: Any) -> Any:
    apart = ((x[:, :, :, None] - y[:, :, None]) ** 2).sum((-1, -2))
    return (_scores(q, k) - 0.1 * apart).softmax(-1) @ v


def poincare_gram(q: Any, k: Any, v: Any) -> Any:
    """Through |x|² + |y|² - 2 x·y, as torch.compile fuses best."""
    xx, yy = (q * q).sum(-1, keepdim=True), (k * k).sum(-1, keepdim=True).mT
    apart = (xx + yy - 2 * (q @ k.mT)).clamp(min=0)
    z = 2 * apart / ((_BALL - xx) * (_BALL - yy))
    return (-(z + (z * (z + 2)).sqrt()).log1p()).softmax(-1) @ v


# The scores of `scores.py` as a user of torch writes them.
TORCH = {
    "plain": lambda q, k, v: _scores(q, k).softmax(-1) @ v,
    "softcap": lambda q, k, v: (20 * (_scores(q, k) / 20).tanh()).softmax(-1) @ v,
    "ALiBi": _with_slopes,
    "relative table": _with_table,
    "gated": _gated,
    "dense bias": lambda q, k, v, bias: (_scores(q, k) + bias).softmax(-1) @ v,
    "two moments": _two_moments,
    "differential": _differential,
    "point attention": _point,
    "Poincaré, direct": poincare_gram,
    "Poincaré, gram": poincare_gram,
}


def beside_torch(length: int = LENGTH) -> list[dict[str, Any]]:
    """Largest errors against float64, relative to the largest value, of attngraph and of torch."""
    plain = scores.Score("plain", scores.plain, ((1, 8, length, 64),) * 3)
    rows = []
    for score in (plain, *scores.scores_of(length)):
        arrays = scores.arrays_for(score)
        with ag.config.set(target="reference64"):
            truth = ag.compile(score.graph)(*(array.astype("float64") for array in arrays))
        ours = ag.compile(score.graph)(*arrays)
        row = {"score": score.name, "error": _error(ours, truth), "torch's_error": _error(_torch(score, arrays), truth)}
        rows.append(row)
    return rows


def _torch(score: scores.Score, arrays: list[np.ndarray]) -> Any:
    import torch

    results = TORCH[score.name](*map(torch.from_numpy, arrays))
    return tuple(each.numpy() for each in results) if isinstance(results, tuple) else results.numpy()


def _error(results: Any, truths: Any) -> float:
    pairs = zip(results, truths, strict=True) if isinstance(truths, tuple) else [(results, truths)]
    return max(float(np.abs(result - truth).max() / np.abs(truth).max()) for result, truth in pairs)
