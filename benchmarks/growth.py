"""How much a process grows beyond inputs and output while a long attention runs, its mask's making included.

Each in a process of its own. Linux only. What compiling takes is not counted: attngraph runs once at a short length
before, other libraries, which compile for a length, once at the same.
"""

import ctypes
import functools
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scores
import training
from beside import said
from cases import MASKS, Case, square
from peers import BY_NAME, OURS, PEERS
from processes import ProcessError, run_alone

import attngraph as ag

LENGTH, SHORT = 16384, 2048
SHAPE = (1, 8, LENGTH, 64)
SCORES = ("plain", "causal", "ALiBi", "gated", "differential", "Poincaré, direct")
BESIDE = ("full", "causal", "documents")
MASK_LIMIT = 32.0
STEP_SHAPE, STEP_LIMIT = (1, 8, 8192, 64), 128.0
# What stores all scores is measured where they take no more than this.
_MOST_SCORES = 2**31


def of_scores(length: int = LENGTH) -> list[dict[str, Any]]:
    """A row for each score of `scores.py`."""
    rows = []
    for name in SCORES:
        row = {"score": name, "length": length}
        rows.append(row | _alone("of_score", {"name": name, "length": length}))
    return rows


def of_steps(quick: bool) -> list[dict[str, Any]]:
    """A row for a forward and backward pass, full and causal: growth beyond inputs, output and gradients."""
    rows = []
    for name in ("causal",) if quick else ("full", "causal"):
        row = {"case": name, "shape": STEP_SHAPE} | _alone("of_step", {"name": name, "shape": STEP_SHAPE})
        rows.append({**row, "meets": row["mebibytes"] <= STEP_LIMIT} if "mebibytes" in row else {**row, "defect": True})
    return rows


def of_masks(quick: bool) -> list[dict[str, Any]]:
    """A row for each mask, with whether it keeps to the limit."""
    rows = []
    for name in MASKS[:2] if quick else MASKS:
        row = {"mask": name, "shape": square(name, SHAPE).shape}
        row |= _alone("of_case", {"name": OURS.name, "case": square(name, SHAPE)})
        rows.append({**row, "meets": row["mebibytes"] <= MASK_LIMIT} if "mebibytes" in row else {**row, "defect": True})
    return rows


def of_peers(quick: bool) -> list[dict[str, Any]]:
    """A row for each library and case; where storing all scores is too much, at a quarter of the length."""
    rows = []
    for name in BESIDE[1:2] if quick else BESIDE:
        for peer in (OURS, *PEERS):
            case = square(name, SHAPE if not quick else (1, 8, LENGTH // 4, 64))
            if peer.stores_scores and case.scores_bytes > _MOST_SCORES:
                case = square(name, (1, 8, LENGTH // 4, 64))
            row = {"case": name, "library": peer.name, "shape": case.shape}
            rows.append(row | _alone("of_case", {"name": peer.name, "case": case}))
    return rows


def _alone(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(run_alone("growth", function, arguments, ag.config.threads))
    except ProcessError as error:
        return {"note": str(error)}


def of_score(name: str, length: int) -> dict[str, Any]:
    """A score of `scores.py`, once at a short length, so that code is compiled and loaded; then the long one."""

    def score_of(length: int) -> scores.Score:
        qkv = ((1, 8, length, 64),) * 3
        causal = functools.partial(ag.attention, is_causal=True)
        ours = (scores.Score("plain", scores.plain, qkv), scores.Score("causal", causal, qkv))
        return next(score for score in (*ours, *scores.scores_of(length)) if score.name == name)

    compiled = ag.compile(score_of(length).graph)
    compiled(*scores.arrays_for(score_of(1024)))
    arrays = scores.arrays_for(score_of(length))
    before = reset_peak()
    output = compiled(*arrays)
    return {"mebibytes": (status("VmHWM") - before - output.nbytes) / 2**20}


def of_step(name: str, shape: list[int]) -> dict[str, Any]:
    """A forward and backward pass, once at a short length, so that code is compiled and loaded; then the long one."""
    short, long = (training.Step(name, "", (*shape[:2], length, shape[3]), 0.0) for length in (SHORT, shape[2]))
    step = training.ours(long)  # these two make no mask of a length
    step(*training.arrays_of(short, 0))
    arrays = training.arrays_of(long, 0)
    before = reset_peak()
    results = step(*arrays)
    grown = status("VmHWM") - before - sum(each.nbytes for each in results)
    return {"mebibytes": max(grown, 0) / 2**20}


def of_case(name: str, case: list[Any]) -> dict[str, Any]:
    """A case through a library: the larger growth, of making the mask, and of a call with the mask kept."""
    peer, this = BY_NAME[name], Case(*case)
    if peer.version() is None:
        return {"note": f"{peer.package} is not installed"}
    try:
        return _of_case(name, this)
    except Exception as error:  # whatever a library does, the table goes on
        return {"note": said(error)}


def _of_case(name: str, case: Case) -> dict[str, Any]:
    prepare = functools.partial(BY_NAME[name].prepare, threads=ag.config.threads)
    short = case._replace(queries=SHORT, keys=SHORT)
    prepared = prepare(short)  # loads what making a mask and running it take
    prepared.run(*prepared.load(*short.arrays(0)))
    del prepared
    before = reset_peak()
    prepared = prepare(case)
    made = status("VmHWM") - before
    kept = reset_peak() - before
    arrays = case.arrays(0)
    loaded = prepared.load(*arrays)
    if name != OURS.name:
        prepared.run(*loaded)
    before = reset_peak()
    result = prepared.run(*loaded)
    called = status("VmHWM") - before - arrays[0].nbytes
    del result
    return {"mebibytes": max(made, kept + called, 0) / 2**20, "making_the_mask_mebibytes": made / 2**20}


def reset_peak() -> int:
    """Make the peak the present, with what is free given back to the system; returns it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) * 1024


def watched(run: Callable[[], object], field: str) -> int:
    """What a field of the process's status, ``RssAnon`` say, grows by at the most while something runs, in bytes."""
    before, peak, done = status(field), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], status(field) - before)
            time.sleep(0.001)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        run()
    finally:
        done.set()
        watching.join()
    return peak[0]
