"""Small problems: what a whole call of a compiled function takes beside NumPy, on one thread.

Most of such a call is what stands around the kernel, in both. ``python benchmarks/calls.py`` prints the rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from measure import paired
from threadpoolctl import threadpool_limits

import attngraph as ag

# Calls in a row that one measurement averages, and how many rounds of measurements there are for each round asked.
_CALLS, _ROUNDS = 200, 5


class Call(NamedTuple):
    """A function in both ways, and its inputs."""

    name: str
    graph: Callable[..., Any]
    numpy: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def attend(q: Any, k: Any, v: Any) -> Any:
    return ag.softmax(q @ k.mT / 8, axis=-1) @ v


def attend_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """As one writes it with care for time: in place where that helps."""
    scores = q @ k.swapaxes(-1, -2)
    scores /= 8
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores @ v


CALLS = (
    Call("1 query x 1000 keys x 64", attend, attend_numpy, ((1, 64), (1000, 64), (1000, 64))),
    Call("8 heads x 1 query x 1000 keys x 64", attend, attend_numpy, ((8, 1, 64), (8, 1000, 64), (8, 1000, 64))),
    Call("(a * b).sum() of 128", lambda a, b: (a * b).sum(), lambda a, b: (a * b).sum(), ((128,), (128,))),
    Call("a @ b of 128", lambda a, b: a @ b, lambda a, b: a @ b, ((128,), (128,))),
)


def against_numpy(rounds: int) -> list[dict[str, Any]]:
    """Microseconds of a call in both ways, and how many times faster than NumPy ours is."""
    rows = []
    rng = np.random.default_rng(0)
    with threadpool_limits(1), ag.config.set(threads=1):
        for call in CALLS:
            arrays = [rng.standard_normal(shape, dtype="float32") for shape in call.shapes]
            rows.append(_row(call, ag.compile(call.graph), arrays, rounds))
    return rows


def _row(call: Call, compiled: Callable[..., Any], arrays: list[np.ndarray], rounds: int) -> dict[str, Any]:
    for _ in range(3):  # a function that is called again has its way in
        compiled(*arrays)
    times = paired(lambda: compiled(*arrays), lambda: call.numpy(*arrays), _ROUNDS * rounds, calls=_CALLS)
    return {
        "call": call.name,
        "microseconds": times.ours * 1e6,
        "numpy_microseconds": times.other * 1e6,
        "speed_against_numpy": times.ratio,
    }


if __name__ == "__main__":
    for row in against_numpy(9):
        print({name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()})
