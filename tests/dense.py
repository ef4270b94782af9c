"""Attention written once more, in float64 NumPy and independently of the package."""

import numpy as np


def causal_mask(rows: int, columns: int, offset: int = 0) -> np.ndarray:
    """True where query i may see key j <= i + offset."""
    return np.arange(rows)[:, None] + offset >= np.arange(columns)[None, :]


def attention(q, k, v, *, visible=True, bias=0.0, scale=None, change=None) -> tuple[np.ndarray, np.ndarray]:
    """Output and logarithm of the sum of exponentials; grouped heads by repeating keys and values.

    ``change`` makes scores of scores, before masking.
    """
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    if q.ndim > 2 and k.ndim > 2 and q.shape[-3] > k.shape[-3] > 1:
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], axis=-3) for x in (k, v))
    scores = np.einsum("...id,...jd->...ij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    scores = scores if change is None else change(scores)
    scores = np.where(visible, scores, -np.inf)
    top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    top[np.isneginf(top)] = 0
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (np.log(total) + top)[..., 0]
    return np.einsum("...ij,...jd->...id", weights / np.where(total == 0, 1, total), v), lse


def tolerance(q, k, v, scale=None) -> float:
    """What float32 may lose, twice over: in a score, d products and sums of them; e^δ - 1 ~ δ in a weight."""
    largest = [float(np.max(np.abs(np.asarray(x, np.float64)), initial=1.0)) for x in (q, k, v)]
    factor = q.shape[-1] ** -0.5 if scale is None else abs(scale)
    score = (q.shape[-1] + 2) * q.shape[-1] * factor * largest[0] * largest[1]
    return 2 * float(np.finfo(np.float32).eps) * (score + k.shape[-2] + 8) * largest[2]
