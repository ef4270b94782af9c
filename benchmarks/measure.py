"""Paired measurement: two ways in one process, in turn, compared by the median of their ratios."""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

# A library's threads may spin for some milliseconds after its call, on the processors of the next one.
PAUSE = 0.02
# Where a budget of seconds cuts rounds short, so many are kept; fewer have no median worth the name.
LEAST_ROUNDS = 3
# Where one call takes so many seconds, one round has to do.
_VERY_LONG = 6.0


class Paired(NamedTuple):
    """Median seconds of both ways, and the median of ``other / ours``: above 1, ours is faster.

    Attributes:
        low, high: Quartiles of the ratios: half of the rounds lie between.
        rounds: How many pairs there were.
    """

    ours: float
    other: float
    ratio: float
    low: float
    high: float
    rounds: int


def seconds(run: Callable[[], object], pause: float = 0.0, calls: int = 1) -> float:
    """Seconds of a call, after a pause; of many calls in a row, what one takes."""
    if pause:
        time.sleep(pause)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def paired(
    ours: Callable[[], object],
    other: Callable[[], object],
    rounds: int,
    pause: float = 0.0,
    calls: int = 1,
    budget: float = math.inf,
) -> Paired:
    """Run both in turn, ``rounds`` times after one warm-up: machines drift, ratios of neighbours do not.

    Args:
        ours, other: What is compared.
        rounds: How many pairs.
        pause: Seconds of rest before each: threads of the other side have gone to sleep then.
        calls: Calls in a row that one measurement averages, for what takes microseconds.
        budget: After so many seconds, rounds beyond the least end.
    """
    start = time.perf_counter()
    warm = max(seconds(ours), seconds(other))
    least = 1 if warm > _VERY_LONG else min(rounds, LEAST_ROUNDS)
    pairs: list[tuple[float, float]] = []
    while len(pairs) < rounds and (len(pairs) < least or time.perf_counter() - start < budget):
        pairs.append((seconds(ours, pause, calls), seconds(other, pause, calls)))
    ratios = [theirs / mine for mine, theirs in pairs]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Paired(
        statistics.median(mine for mine, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(ratios),
        low,
        high,
        len(pairs),
    )


def turns(run: Callable[..., object], inputs: Iterable[tuple[object, ...]]) -> Callable[[], object]:
    """A call without arguments that takes other inputs each time: no answer can be kept from the last one."""
    sets = list(inputs)
    place = -1

    def call() -> object:
        nonlocal place
        place = (place + 1) % len(sets)
        return run(*sets[place])

    return call
