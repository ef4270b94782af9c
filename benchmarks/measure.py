"""Paired measurement: two ways in one process, in turn, compared by the median of their ratios."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Paired(NamedTuple):
    """Median seconds of both ways, and the median of ``other / ours``: above 1, ours is faster."""

    ours: float
    other: float
    ratio: float


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def paired(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> Paired:
    """Run both in turn, ``rounds`` times after one warm-up: machines drift, ratios of neighbours do not."""
    ours(), other()
    pairs = [(seconds(ours), seconds(other)) for _ in range(rounds)]
    return Paired(
        statistics.median(mine for mine, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(theirs / mine for mine, theirs in pairs),
    )
