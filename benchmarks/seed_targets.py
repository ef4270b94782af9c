"""The targets that the project's first design set, and how many times over they are met: whole calls, one thread.

Where that design names no size, the row says which one is taken: keys and values of 128, one query for each head.
``python benchmarks/seed_targets.py`` prints the rows.
"""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from graph_cases import FORWARD, SMALL, Case, arrays_of, edges_of, ours
from measure import seconds
from threadpoolctl import threadpool_limits

import attngraph as ag

WIDTH, KEYS = 128, 1_000
# A measurement averages calls that take about so long together.
_SECONDS = 0.02


class Target(NamedTuple):
    """A target, and what is called.

    Attributes:
        name, size: What the design says, and what it leaves open.
        most: Seconds that a call may take.
        factor: How many times over it is to be met.
        make: What gives the function and its arguments.
    """

    name: str
    size: str
    most: float
    factor: float
    make: Callable[[], tuple[Callable[..., Any], list[np.ndarray]]]


def _attention(*batch: int) -> tuple[Callable[..., Any], list[np.ndarray]]:
    """One query on 1,000 keys of its own, for each element of the batch."""
    rng = np.random.default_rng(0)
    lengths = (1, KEYS, KEYS)
    return ag.compile(ag.attention), [rng.standard_normal((*batch, n, WIDTH), dtype="float32") for n in lengths]


def _dot_product() -> tuple[Callable[..., Any], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return ag.compile(lambda a, b: a @ b), [rng.standard_normal(WIDTH, dtype="float32") for _ in range(2)]


def _graph() -> tuple[Callable[..., Any], list[np.ndarray]]:
    case = Case("GAT", FORWARD, *SMALL, "", None)
    return ours(case, ag.CSR.from_edge_index(edges_of(case), case.nodes)), arrays_of(case, 0)


_HEADS = f"8 heads, a query and {KEYS} keys of {WIDTH} each"
TARGETS = (
    Target(f"dot product of {WIDTH}", "two vectors, float32", 10e-6, 5, _dot_product),
    Target("1,000 keys", f"one query, keys and values of {WIDTH}", 500e-6, 10, lambda: _attention(1)),
    Target("8 heads", _HEADS, 2e-3, 10, lambda: _attention(8)),
    Target(
        "batch of 32 over 1,000 keys", f"32 queries, each on its own keys of {WIDTH}", 50e-3, 10, lambda: _attention(32)
    ),
    Target("graph of 1,000 nodes", "16,000 edges, GAT of 64 features, 8 heads of 8, forward", 5e-3, 10, _graph),
    Target("100 operations a second", f"an operation: {_HEADS}", 1e-2, 10, lambda: _attention(8)),
)


def rows(rounds: int) -> list[dict[str, Any]]:
    """Target and measured time of a call in microseconds, and how many times the one is the other."""
    with threadpool_limits(1), ag.config.set(threads=1):
        return [_row(target, rounds) for target in TARGETS]


def _row(target: Target, rounds: int) -> dict[str, Any]:
    function, arrays = target.make()
    for _ in range(3):  # a function that is called again has its way in
        once = seconds(lambda: function(*arrays))
    calls = max(1, min(1000, round(_SECONDS / once)))
    measured = statistics.median(seconds(lambda: function(*arrays), calls=calls) for _ in range(rounds))
    factor = target.most / measured
    return {
        "case": target.name,
        "size": target.size,
        "target_microseconds": target.most * 1e6,
        "microseconds": measured * 1e6,
        "factor": factor,
        "factor_needed": target.factor,
        "meets": factor >= target.factor,
    }


if __name__ == "__main__":
    for row in rows(9):
        print({name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()})
