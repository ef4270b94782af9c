"""Paired measurement: two ways in one process, in turn, compared by the median of their ratios."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

# A library's threads may spin for some milliseconds after its call, on the processors of the next one.
PAUSE = 0.02


class Paired(NamedTuple):
    """Median seconds of both ways, and the median of ``other / ours``: above 1, ours is faster."""

    ours: float
    other: float
    ratio: float


def seconds(run: Callable[[], object], pause: float = 0.0, calls: int = 1) -> float:
    """Seconds of a call, after a pause; of many calls in a row, what one takes."""
    if pause:
        time.sleep(pause)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def paired(
    ours: Callable[[], object], other: Callable[[], object], rounds: int, pause: float = 0.0, calls: int = 1
) -> Paired:
    """Run both in turn, ``rounds`` times after one warm-up: machines drift, ratios of neighbours do not.

    Args:
        ours, other: What is compared.
        rounds: How many pairs.
        pause: Seconds of rest before each: threads of the other side have gone to sleep then.
        calls: Calls in a row that one measurement averages, for what takes microseconds.
    """
    ours(), other()
    pairs = [(seconds(ours, pause, calls), seconds(other, pause, calls)) for _ in range(rounds)]
    return Paired(
        statistics.median(mine for mine, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(theirs / mine for mine, theirs in pairs),
    )
