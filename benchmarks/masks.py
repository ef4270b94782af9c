"""Masks: what the hidden part saves, and what the mask itself costs.

With nothing lost, time is that of the dense attention times the share of tiles that hold something visible.
"""

from collections.abc import Callable
from typing import Any

from beside import right_answer, said
from cases import MASKS, Case, flops, square, visible_tiles
from contract import Prepared
from measure import PAUSE, paired, turns
from peak import share_of_peak
from peers import OURS

SHAPE = (1, 8, 4096, 64)
# Times the dense time's share of tiles of 64 × 64, and milliseconds beyond.
LIMIT, BEYOND = 1.15, 0.5
# What the window reaches of the peak at least, at one thread and at more.
WINDOW, WINDOW_OF_PEAK = "window 256", {1: 0.8, 2: 0.75}


def rows(names: list[str], shape: list[int], rounds: int, threads: int) -> list[dict[str, Any]]:
    """A row for each mask, beside the dense attention in turn. Runs in a process of its own."""
    dense_case = square("full", tuple(shape))
    dense = OURS.prepare(dense_case, threads)
    right_answer(dense_case, dense)
    return [_row(square(name, tuple(shape)), dense, rounds, threads) for name in names]


def _row(case: Case, dense: Prepared, rounds: int, threads: int) -> dict[str, Any]:
    row = {"mask": case.name, "shape": case.shape, "threads": threads}
    try:
        masked = OURS.prepare(case, threads)
        right_answer(case, masked)
    except Exception as error:
        return {**row, "note": said(error), "defect": True}
    sets = [case.arrays(seed) for seed in range(3)]
    calls: list[Callable[[], object]] = [turns(each.run, sets) for each in (masked, dense)]
    times = paired(calls[0], calls[1], rounds, PAUSE)
    tiles = visible_tiles(case)
    at_most = times.other * tiles * LIMIT + BEYOND / 1e3
    of_peak = share_of_peak(calls[0], flops(case), rounds).of_peak
    target = WINDOW_OF_PEAK.get(threads) if case.name == WINDOW else None
    return {
        **row,
        "milliseconds": times.ours * 1e3,
        "visible_tiles": tiles,
        "of_dense": 1 / times.ratio,
        "of_dense_and_tiles": 1 / times.ratio / tiles if tiles else None,
        "limit_milliseconds": at_most * 1e3,
        "of_peak": of_peak,
        "rounds": times.rounds,
        "target_of_peak": target,
        "meets": times.ours <= at_most and of_peak >= (target or 0),
    }


def every_mask(rounds: int, threads: int, quick: bool) -> dict[str, Any]:
    """The arguments of `rows`."""
    names = MASKS[:4] if quick else MASKS
    return {"names": names, "shape": SHAPE, "rounds": rounds, "threads": threads}
