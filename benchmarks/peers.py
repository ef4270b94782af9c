"""Beside PyTorch: the same attention through attngraph's kernels and torch's own, in turn."""

from typing import Any

import numpy as np
from measure import paired

import attngraph as ag

SHAPES = ((1, 8, 1024, 64), (1, 8, 4096, 64), (1, 16, 2048, 128))


def against_torch(rounds: int, threads: int) -> list[dict[str, Any]]:
    """Ratios of time, torch's over ours, for plain and causal attention."""
    import torch

    torch.set_num_threads(threads)
    rows = []
    for shape in SHAPES:
        for causal in (False, True):
            arrays = [np.random.default_rng(n).standard_normal(shape, dtype="float32") for n in range(3)]
            tensors = [torch.from_numpy(array) for array in arrays]
            with ag.config.set(threads=threads):
                rows.append(_row(shape, causal, threads, arrays, tensors, rounds))
    return rows


def _row(shape: Any, causal: bool, threads: int, arrays: Any, tensors: Any, rounds: int) -> dict[str, Any]:
    from torch.nn.functional import scaled_dot_product_attention as theirs

    compiled = ag.compile(lambda q, k, v: ag.scaled_dot_product_attention(q, k, v, is_causal=causal))
    times = paired(lambda: compiled(*arrays), lambda: theirs(*tensors, is_causal=causal), rounds)
    batch, heads, length, width = shape
    work = 4 * batch * heads * length * length * width * (0.5 if causal else 1)
    return {
        "shape": shape,
        "causal": causal,
        "threads": threads,
        "speed_against_torch": times.ratio,
        "gigaflops": work / times.ours / 1e9,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table."""
    lines = [
        "| (batch, heads, length, width) | threads | full | causal |",
        "| --- | --- | --- | --- |",
    ]
    for full, causal in zip(rows[::2], rows[1::2], strict=True):
        cells = [f"{row['speed_against_torch']:.2f} × ({row['gigaflops']:.0f} Gflop/s)" for row in (full, causal)]
        lines.append(f"| {full['shape']} | {full['threads']} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)
