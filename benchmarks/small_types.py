"""Narrow types: bfloat16 beside torch's, and decoding from keys and values of 8 and 4 bits beside our own float32.

``python benchmarks/small_types.py`` prints the rows for one thread.
"""

from typing import Any

import ml_dtypes
import numpy as np
from measure import PAUSE, paired, turns

import attngraph as ag

SQUARE = (1, 8, 4096, 64)
HEADS, SHARED, WIDTH = 32, 8, 128
LENGTHS = (4096, 32768)
# What must hold: times as fast as torch's bfloat16, and as our own float32.
BFLOAT16_TARGET, INT8_TARGET = 2.0, 2.5
# An answer in bfloat16 counts as right within so many times the error of torch's.
_TIMES_TORCH = 2.0
# Of kernels beside what their numbers stand for, relative to the largest result.
_TOLERANCE = 2e-5
_SETS = 3

# The kinds of numbers: type, elements that share a scale (None for a row), and whether there is no zero point.
KINDS: dict[str, tuple[str, int | None, bool]] = {
    "int8": ("int8", None, True),
    "int8 with zero points": ("int8", None, False),
    "int4 in groups of 32": ("int4", 32, True),
}

Rows = list[dict[str, Any]]


def exact(q: Any, k: Any, v: Any) -> Any:
    """Attention in float64, a head at a time."""
    found = np.empty((*q.shape[:-1], v.shape[-1]))
    group = q.shape[1] // k.shape[1]
    for head in range(q.shape[1]):
        one, keys, values = (
            np.asarray(each, np.float64) for each in (q[0, head], k[0, head // group], v[0, head // group])
        )
        scores = one @ keys.T * q.shape[-1] ** -0.5
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        found[0, head] = weights / weights.sum(-1, keepdims=True) @ values
    return found


def bfloat16_beside_torch(rounds: int, threads: int, shape: tuple[int, ...] = SQUARE) -> dict[str, Any]:
    """Forward attention of bfloat16: torch's time over ours, and both errors against float64."""
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    sets = [[rng.standard_normal(shape, dtype="float32") for _ in range(3)] for _ in range(_SETS)]
    ours = [tuple(each.astype(ml_dtypes.bfloat16) for each in arrays) for arrays in sets]
    theirs = [tuple(torch.from_numpy(each).bfloat16() for each in arrays) for arrays in sets]
    attend = ag.compile(ag.scaled_dot_product_attention)
    peer = torch.nn.functional.scaled_dot_product_attention
    with torch.no_grad():
        truth = exact(*(each[:, :1] for each in ours[0]))
        error = float(np.abs(attend(*ours[0])[:, :1].astype(np.float64) - truth).max())
        peer_error = float(np.abs(peer(*theirs[0])[:, :1].double().numpy() - truth).max())
        times = paired(turns(attend, ours), turns(peer, theirs), rounds, PAUSE)
    return {
        "case": f"bfloat16 forward {shape}, beside torch",
        "threads": threads,
        "milliseconds": times.ours * 1e3,
        "other_milliseconds": times.other * 1e3,
        "ratio": times.ratio,
        "target": BFLOAT16_TARGET,
        "error": error,
        "other_error": peer_error,
        "meets": times.ratio >= BFLOAT16_TARGET and error <= _TIMES_TORCH * peer_error,
        "defect": error > _TIMES_TORCH * peer_error,
    }


def decoding_beside_float32(rounds: int, threads: int, length: int, kind: str) -> dict[str, Any]:
    """One query of 32 heads over 8 of keys and values: our float32 over our narrow numbers."""
    dtype, group_size, symmetric = KINDS[kind]
    rng = np.random.default_rng(0)
    wide, narrow = [], []
    for _ in range(_SETS):
        q = rng.standard_normal((1, HEADS, 1, WIDTH), dtype="float32")
        k, v = (rng.standard_normal((1, SHARED, length, WIDTH), dtype="float32") for _ in range(2))
        stored = [ag.quantize(each, dtype, group_size=group_size, symmetric=symmetric).compute() for each in (k, v)]
        wide.append((q, k, v))
        narrow.append((q, *(part for each in stored for part in each[:3])))

    @ag.compile
    def ours(q: Any, *parts: Any) -> Any:
        keys, values = (ag.dequantize(*each, dtype=dtype) for each in (parts[:3], parts[3:]))
        return ag.attention(q, keys, values, enable_gqa=True)

    @ag.compile
    def other(q: Any, k: Any, v: Any) -> Any:
        return ag.attention(q, k, v, enable_gqa=True)

    q, *parts = narrow[0]
    truth = exact(q, *(ag.dequantize(*each, dtype=dtype).compute() for each in (parts[:3], parts[3:])))
    error = float(np.abs(ours(*narrow[0]) - truth).max() / np.abs(truth).max())
    times = paired(turns(ours, narrow), turns(other, wide), rounds, PAUSE)
    target = INT8_TARGET if kind == "int8" else None
    return {
        "case": f"decode {HEADS} on {SHARED} heads, {length} keys, {kind}, beside float32",
        "threads": threads,
        "milliseconds": times.ours * 1e3,
        "other_milliseconds": times.other * 1e3,
        "ratio": times.ratio,
        "target": target,
        "error": error,
        "meets": times.ratio >= (target or 0) and error <= _TOLERANCE,
        "defect": error > _TOLERANCE,
    }


def rows(rounds: int, threads: int, quick: bool) -> Rows:
    """All rows for one number of threads, which is set."""
    found = [bfloat16_beside_torch(3 if quick else rounds, threads, (1, 8, 1024, 64) if quick else SQUARE)]
    for length in LENGTHS[:1] if quick else LENGTHS:
        found += [decoding_beside_float32(rounds, threads, length, kind) for kind in KINDS]
    return found


if __name__ == "__main__":
    with ag.config.set(threads=1):
        for row in rows(7, 1, quick=False):
            print(row)
