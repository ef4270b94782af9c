"""Sparse patterns beside the dense attention of the same shape: what leaving out pairs saves, forward and backward."""

from collections.abc import Callable
from typing import Any

import numpy as np
from beside import said
from measure import PAUSE, Paired, paired, turns

import attngraph as ag

SHAPE = (1, 8, 8192, 64)
# Of the dense attention's time, forward: blocks of 64 at a density of a tenth.
BLOCKS, TARGET = "blocks of 64, 10%", 6.0
# Seconds for one comparison, and rows that are held against float64.
_BUDGET, _CHECKED_ROWS = 12.0, 24
_TOLERANCE = 2e-5

Step = Callable[..., Any]


def patterns(length: int, quick: bool = False) -> dict[str, ag.SparseMask]:
    """The patterns by name."""
    shape = (length, length)
    random = np.random.default_rng(5)
    count, blocks = length * length // 100, -(-length // 64)
    made = ag.SparseMask
    tenth = random.random((blocks, blocks)) < 0.1
    found = {
        BLOCKS: made.blocks(np.argwhere(tenth), 64, shape),
        "blocks of 16, 10%": made.random_blocks(max(1, length // 160), 16, shape),
        "blocks of 100, 10%": made.random_blocks(max(1, length // 1000), 100, shape),
        "blocks of 128, 10%": made.random_blocks(max(1, length // 1280), 128, shape),
        "bigbird, blocks of 64": made.bigbird(64, shape),
        "window 256": made.windowed(256, 0, shape),
        "window 256, 16 tokens": made.windowed(256, 16, shape),
        "strides of 128, window 64": made.strided(128, 64, shape),
        "dilated 64 by 4": made.dilated(64, 4, shape),
        "pairs, 1%": made.coo(random.integers(0, length, count), random.integers(0, length, count), shape),
    }
    return dict(list(found.items())[:2]) if quick else found


def rows(shape: list[int], rounds: int, threads: int, quick: bool) -> list[dict[str, Any]]:
    """A row for each pattern and direction. Runs in a process of its own."""
    batch = _Batch(tuple(shape))
    found = []
    with ag.config.set(threads=threads):
        for name, mask in patterns(shape[-2], quick).items():
            row = {"pattern": name, "shape": tuple(shape), "threads": threads, "density": mask.density}
            try:
                batch.check(mask)
                found += [row | each for each in _measured(batch, name, mask, rounds)]
            except Exception as error:
                found.append({**row, "note": said(error), "defect": True})
    return found


def _measured(batch: "_Batch", name: str, mask: ag.SparseMask, rounds: int) -> list[dict[str, Any]]:
    found = []
    for direction in ("forward", "forward and backward"):
        times = batch.compared(mask, direction, rounds)
        target = TARGET if (name, direction) == (BLOCKS, "forward") else None
        found.append(
            {
                "direction": direction,
                "milliseconds": times.ours * 1e3,
                "dense_milliseconds": times.other * 1e3,
                "ratio": times.ratio,
                "low": times.low,
                "high": times.high,
                "rounds": times.rounds,
                "target": target,
                **({} if target is None else {"meets": times.ratio >= target}),
            }
        )
    return found


class _Batch:
    """Arrays of one shape, and the dense attention of them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        random = np.random.default_rng(3)
        self.sets = [tuple(random.standard_normal(shape, np.float32) for _ in range(4)) for _ in range(2)]
        self.dense = {name: _step(None, name) for name in ("forward", "forward and backward")}

    def compared(self, mask: ag.SparseMask, direction: str, rounds: int) -> Paired:
        """The masked attention's time beside that of the dense one."""
        masked = _step(mask, direction)
        calls = [turns(each, self.sets) for each in (masked, self.dense[direction])]
        return paired(calls[0], calls[1], rounds, PAUSE, budget=_BUDGET)

    def check(self, mask: ag.SparseMask) -> None:
        """Hold some rows against float64."""
        q, k, v, _ = self.sets[0]
        out = _step(mask, "forward")(*self.sets[0])
        chosen = np.random.default_rng(1).integers(0, q.shape[-2], _CHECKED_ROWS)
        visible = _rows_of(mask, chosen)
        scores = q[0, :, chosen].swapaxes(0, 1).astype(np.float64) @ k[0].astype(np.float64).swapaxes(-1, -2)
        scores = np.where(visible, scores / np.sqrt(q.shape[-1]), -np.inf)
        weights = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e300))
        weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
        expected = weights @ v[0].astype(np.float64)
        error = np.abs(out[0][:, chosen] - expected).max() / max(np.abs(expected).max(), 1e-30)
        if not error < _TOLERANCE:
            raise AssertionError(f"relative error {error:.2g}")


def _rows_of(mask: ag.SparseMask, chosen: np.ndarray) -> np.ndarray:
    return mask.to_dense()[chosen]


def _step(mask: ag.SparseMask | None, direction: str) -> Step:
    def attend(q: Any, k: Any, v: Any) -> Any:
        return ag.attention(q, k, v, mask=mask)

    if direction == "forward":
        return ag.compile(lambda q, k, v, _: attend(q, k, v))
    return ag.compile(lambda q, k, v, upstream: ag.vjp(attend, q, k, v)[1](upstream))


def every_pattern(rounds: int, threads: int, quick: bool) -> dict[str, Any]:
    """The arguments of `rows`."""
    shape = (1, 2, 1024, 64) if quick else SHAPE
    return {"shape": shape, "rounds": rounds, "threads": threads, "quick": quick}
