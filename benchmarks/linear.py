"""Causal linear attention beside our exact causal attention, in turn: time, error, and memory as the length grows.

A call that comes after seconds of other work has its memory to get anew, for the system has taken back what was free;
one that follows its like has not. Both are measured: the target is for the first.
"""

import statistics
from typing import Any

import numpy as np
from growth import reset_peak, status
from measure import PAUSE, seconds
from processes import ProcessError, run_alone

import attngraph as ag

Rows = list[dict[str, Any]]

LENGTH, HEADS, WIDTH = 16384, 8, 64
TARGET = 8.0
# Features by name: None is elu(x) + 1, a number that of random ones.
MAPS: dict[str, int | None] = {"elu+1": None, "64 random": 64, "128 random": 128}
# Calls of ours that follow the one after exact attention.
_FOLLOWING = 4


def rows(rounds: int, threads: int, quick: bool) -> Rows:
    """A row for each map and direction, in a process of its own."""
    found: Rows = []
    length = LENGTH // 4 if quick else LENGTH
    for name in MAPS:
        for backward in (False, True):
            row = {"map": name, "backward": backward, "length": length, "threads": threads}
            arguments = {"name": name, "backward": backward, "length": length, "rounds": rounds}
            try:
                found.append(row | run_alone("linear", "of_map", arguments, threads))
            except ProcessError as error:
                found.append({**row, "note": str(error), "defect": True})
    return found


def of_map(name: str, backward: bool, length: int, rounds: int) -> dict[str, Any]:
    """Ours in turn with exact attention. Runs in a process of its own."""
    ours, exact = _step(name, backward), _step("exact", backward)
    arrays = [_arrays(length, seed) for seed in range(2)]
    for step in (ours, exact):
        step(*arrays[0])
    after, following, others = [], [], []
    for place in range(min(rounds, 5)):
        given = arrays[place % 2]
        others.append(seconds(lambda given=given: exact(*given), PAUSE))  # type: ignore[misc]
        after.append(seconds(lambda given=given: ours(*given)))  # type: ignore[misc]
        following.append(seconds(lambda given=given: ours(*given), calls=_FOLLOWING))  # type: ignore[misc]
    ratios = [other / mine for other, mine in zip(others, after, strict=True)]
    warm = [other / mine for other, mine in zip(others, following, strict=True)]
    row = {
        "milliseconds": statistics.median(after) * 1e3,
        "following_milliseconds": statistics.median(following) * 1e3,
        "exact_milliseconds": statistics.median(others) * 1e3,
        "ratio": statistics.median(ratios),
        "following_ratio": statistics.median(warm),
        "mebibytes": [_mebibytes(name, backward, each) for each in (length // 2, length)],
    }
    if backward:
        return row
    report = ag.attention_error(ours(*arrays[0])[0], *arrays[0][:3], is_causal=True)
    meets = row["ratio"] >= TARGET
    note = {} if meets else {"note": f"below the target of {TARGET:g}"}
    return {**row, "relative_error": report.relative, "target": TARGET, "meets": meets, **note}


def _step(name: str, backward: bool) -> Any:
    """The output; with ``backward`` the gradients by query, key and value, too."""

    def attend(q: Any, k: Any, v: Any) -> Any:
        if name == "exact":
            return ag.attention(q, k, v, is_causal=True)
        count = MAPS[name]
        return ag.linear_attention(q, k, v, "elu+1" if count is None else ag.random_features(count), is_causal=True)

    def step(q: Any, k: Any, v: Any, upstream: Any) -> Any:
        if not backward:
            return (attend(q, k, v),)
        out, pullback = ag.vjp(attend, q, k, v)
        return out, *pullback(upstream)

    return ag.compile(step)


def _arrays(length: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, HEADS, length, WIDTH), dtype="float32") for _ in range(4)]


def _mebibytes(name: str, backward: bool, length: int) -> float:
    """What a call grows the process by, beyond inputs and results."""
    step, arrays = _step(name, backward), _arrays(length, 0)
    step(*_arrays(1024, 0))
    before = reset_peak()
    results = step(*arrays)
    return max(status("VmHWM") - before - sum(each.nbytes for each in results), 0) / 2**20
