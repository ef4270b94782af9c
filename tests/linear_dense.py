"""Linear attention written once more: all weights at once, in float64 NumPy, independently of the package."""

import numpy as np

from dense import causal_mask


def elu_plus_one(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def log_weights(q, k, projection, scale):
    """Logarithms of ``Σ_f exp(w_f·q) exp(w_f·k - |k|²/2)``, but for a number of each row; sums of any size."""
    q, k = q * np.sqrt(scale), k * np.sqrt(scale)
    exponents = (q @ projection.T)[..., :, None, :] + (k @ projection.T - (k * k).sum(-1, keepdims=True) / 2)[
        ..., None, :, :
    ]
    return np.logaddexp.reduce(exponents, axis=-1)


def linear_attention(q, k, v, *, causal=False, features=None, scale=None):
    """For ``elu(x) + 1``, or the random features ``features``; grouped heads by repeating keys and values."""
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    if q.ndim > 2 and q.shape[-3] > k.shape[-3] > 1:
        k, v = (np.repeat(x, q.shape[-3] // x.shape[-3], axis=-3) for x in (k, v))
    if features is None:
        root = np.sqrt(1.0 if scale is None else scale)
        with np.errstate(divide="ignore"):
            logs = np.log(elu_plus_one(q * root) @ np.swapaxes(elu_plus_one(k * root), -1, -2))
    else:
        width = q.shape[-1]
        logs = log_weights(q, k, features.projection(width), width**-0.5 if scale is None else scale)
    rows, columns = logs.shape[-2:]
    if causal:
        logs = np.where(causal_mask(rows, columns, columns - rows if causal == "lower_right" else 0), logs, -np.inf)
    top = logs.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(logs - np.where(top == -np.inf, 0, top))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v
