"""Beside other libraries: each case through attngraph's kernels and through one peer's, in turn, in one process."""

from typing import Any

import numpy as np
from cases import FLEX, Case, check_rows, flops, square, truth
from contract import Prepared, Unsupported
from measure import PAUSE, paired, turns
from peers import BY_NAME, OURS, PEERS, Peer
from processes import ProcessError, run_alone

Rows = list[dict[str, Any]]

SHAPES = ((1, 8, 1024, 64), (1, 8, 4096, 64), (1, 16, 2048, 128))
CASES = (
    *(square(name, shape) for shape in SHAPES for name in ("full", "causal")),
    Case("full", 1, 8, 1, 16384, 64),
)
FLEX_CASES = tuple(square(name, (1, 8, 4096, 64)) for name in FLEX)
# How many times as fast as compiled FlexAttention each program is meant to be on two threads.
FLEX_TARGETS = {"window 256": 2.0, "documents": 2.0, "ALiBi, causal": 1.85, "softcap, causal": 2.0}
# Largest difference, relative to the largest value, of an answer that counts as right.
TOLERANCE = 1e-4
_SETS = 3
# What another shape lets expect to take longer is not run.
_LONGEST_CALL = 4.0


class WrongAnswer(Exception):  # noqa: N818, for it says what it is
    """A result that differs from float64: what is wrong is not timed."""


def rows(cases: tuple[Case, ...], rounds: int, threads: int, limits: dict[str, float], budget: float) -> Rows:
    """A row for each case and peer; a peer that is missing, or fails, has a row that says so."""
    found = []
    for peer in PEERS:
        arguments = {
            "cases": cases,
            "name": peer.name,
            "rounds": rounds,
            "threads": threads,
            "limits": limits,
            "budget": budget,
        }
        try:
            found += run_alone("beside", "of_peer", arguments, threads)
        except ProcessError as error:
            found += [{**_named(case, threads), "peer": peer.name, "note": str(error)} for case in cases]
    return found


def held_to_target(row: dict[str, Any]) -> dict[str, Any]:
    """The row, with a note if it is beside FlexAttention on two threads and below the target."""
    target = FLEX_TARGETS.get(row["case"])
    if target is None or row["peer"] != "FlexAttention" or row["threads"] != 2 or "ratio" not in row:
        return row
    meets = row["ratio"] >= target
    return {**row, "target": target, "meets": meets, **({} if meets else {"note": f"below the target of {target:g}"})}


def _named(case: Case, threads: int) -> dict[str, Any]:
    return {"case": case.name, "shape": case.shape, "threads": threads}


def of_peer(cases: Any, name: str, rounds: int, threads: int, limits: dict[str, float], budget: float) -> Rows:
    """The rows of one peer. It runs in a process of its own."""
    found, pace = [], 0.0
    for case in (Case(*each) for each in cases):
        if pace * case.scores_bytes * case.width > _LONGEST_CALL:
            times: dict[str, Any] = {"note": f"not run: about {pace * case.scores_bytes * case.width:.0f} s a call"}
        else:
            times = _ours_and(BY_NAME[name], case, rounds, threads, budget)
        if "milliseconds" in times:
            times |= reached(case, times["milliseconds"] / 1e3, limits)
            if case.queries > 1:
                pace = times["peer_milliseconds"] / 1e3 / case.scores_bytes / case.width
        found.append({**_named(case, threads), "peer": name, **times})
    return found


def _ours_and(peer: Peer, case: Case, rounds: int, threads: int, budget: float) -> dict[str, Any]:
    try:
        ours = OURS.prepare(case, threads)
        right_answer(case, ours)
    except Exception as error:
        return {"note": f"attngraph: {said(error)}", "defect": True}
    if peer.version() is None:
        return {"note": f"{peer.package} is not installed"}
    try:
        return _times(case, ours, peer.prepare(case, threads), rounds, budget)
    except Exception as error:  # whatever a library does, the table goes on
        return {"note": said(error)}


def said(error: Exception) -> str:
    """An error in a line; of what is only not possible or wrong, the reason alone."""
    words = (str(error).strip().splitlines() or [""])[0][:150]
    return words if isinstance(error, Unsupported | WrongAnswer) else f"{type(error).__name__}: {words}"


def _times(case: Case, ours: Prepared, theirs: Prepared, rounds: int, budget: float) -> dict[str, Any]:
    error = right_answer(case, theirs)
    sets = [case.arrays(seed) for seed in range(_SETS)]
    times = paired(
        turns(ours.run, [ours.load(*arrays) for arrays in sets]),
        turns(theirs.run, [theirs.load(*arrays) for arrays in sets]),
        rounds,
        PAUSE,
        calls=1 if case.queries > 1 else 10,
        budget=budget,
    )
    return {
        "milliseconds": times.ours * 1e3,
        "peer_milliseconds": times.other * 1e3,
        "ratio": times.ratio,
        "ratio_low": times.low,
        "ratio_high": times.high,
        "rounds": times.rounds,
        "peer_error": error,
    }


def reached(case: Case, seconds: float, limits: dict[str, float]) -> dict[str, float]:
    """What of the machine's limits a time is: multiply-adds of visible positions alone, and least bytes."""
    return {
        "of_peak": flops(case) / seconds / limits["flops"],
        "of_bandwidth": case.array_bytes / seconds / limits["bytes"],
    }


def right_answer(case: Case, prepared: Prepared) -> float:
    """The largest difference from float64, relative to the largest value.

    Raises:
        WrongAnswer: If it is too large.
    """
    arrays = case.arrays(seed=100)
    result = prepared.unload(prepared.run(*prepared.load(*arrays)))
    exact = truth(case, *arrays)
    if result.shape != arrays[0].shape:
        raise WrongAnswer(f"not timed: gives the shape {result.shape}")
    error = float(np.abs(result[:, :, check_rows(case)] - exact).max() / np.abs(exact).max())
    if not error <= TOLERANCE or not np.isfinite(result).all():
        raise WrongAnswer(f"not timed: wrong by {error:.1e}")
    return error
