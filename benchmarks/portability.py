"""Each instruction set of x86-64: attention beside the most multiply-adds that its vectors can do here, in turn."""

from typing import Any

import numpy as np
from peak import share_of_peak

import attngraph as ag
from attngraph.engine.codegen.target import NAMES, Target, named_target

SHAPES = ((1, 8, 1024, 64), (1, 8, 4096, 64), (1, 8, 1024, 128))


def rows(rounds: int, threads: int) -> list[dict[str, Any]]:
    """A row for each instruction set that this machine has and each shape, full and causal."""
    found = []
    for name in NAMES:
        if name == "native":
            continue
        try:
            target = named_target(name)
        except ag.CompileError:
            continue
        with ag.config.set(target=name, threads=threads):
            found += [_row(target, shape, causal, rounds) for shape in SHAPES for causal in (False, True)]
    return found


def _row(target: Target, shape: tuple[int, ...], causal: bool, rounds: int) -> dict[str, Any]:
    arrays = [np.random.default_rng(n).standard_normal(shape, dtype="float32") for n in range(3)]
    compiled = ag.compile(lambda q, k, v: ag.scaled_dot_product_attention(q, k, v, is_causal=causal))
    batch, heads, length, width = shape
    work = 4 * batch * heads * length * length * width * (0.5 if causal else 1)
    share = share_of_peak(lambda: compiled(*arrays), work, rounds)
    return {
        "target": target.name,
        "shape": shape,
        "threads": ag.config.threads,
        "mask": "causal" if causal else "full",
        "Gflop/s": share.flops / 1e9,
        "peak_Gflop/s": share.peak_flops / 1e9,
        "of_peak": share.of_peak,
    }
