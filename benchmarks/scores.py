"""What a score costs: attention with other scores, beside the plain one of the same shape, in turn."""

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from measure import paired

import attngraph as ag
from attngraph.engine import kernels
from attngraph.engine.codegen.target import scalar_target

LENGTH = 4096
SHAPE = (1, 8, LENGTH, 64)


class Score(NamedTuple):
    """An attention ``graph(q, k, v, *more)``, and the shapes of its arguments."""

    name: str
    graph: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def plain(q: Any, k: Any, v: Any) -> Any:
    return ag.softmax(scores(q, k), axis=-1) @ v


def scores(q: Any, k: Any) -> Any:
    return q @ k.mT * q.shape[-1] ** -0.5


def flex(score_mod: Callable[..., Any]) -> Callable[..., Any]:
    return lambda q, k, v, *more: ag.flex_attention(
        q, k, v, score_mod=lambda s, b, h, i, j: score_mod(s, b, h, i, j, *more)
    )


def gated(q: Any, k: Any, v: Any) -> Any:
    s = scores(q, k)
    return (ag.softmax(s, axis=-1) * ag.sigmoid(s)) @ v


def two_moments(q: Any, k: Any, v: Any) -> Any:
    weights = ag.softmax(scores(q, k), axis=-1)
    return weights @ v, weights @ (v * v)


def differential(q1: Any, k1: Any, q2: Any, k2: Any, v: Any) -> Any:
    return (ag.softmax(scores(q1, k1), axis=-1) - 0.5 * ag.softmax(scores(q2, k2), axis=-1)) @ v


def point(q: Any, k: Any, v: Any, x: Any, y: Any) -> Any:
    """Invariant point attention: distances of points, beside the product (Jumper 2021, algorithm 22)."""
    apart = ((x[:, :, :, None] - y[:, :, None]) ** 2).sum((-1, -2))
    return ag.softmax(scores(q, k) - 0.1 * apart, axis=-1) @ v


def poincare(form: str) -> Callable[..., Any]:
    def graph(q: Any, k: Any, v: Any) -> Any:
        ball = ag.manifold.PoincareBall()
        distance = ball.dist(q[..., :, None, :], k[..., None, :, :], form=form)
        return ag.softmax(-distance, axis=-1) @ v

    return graph


def scores_of(length: int) -> tuple[Score, ...]:
    """The scores that are measured, at one length."""
    shape = (1, 8, length, 64)
    qkv = (shape,) * 3
    points = (1, 8, length, 4, 3)
    table = (8, 2 * length)
    return (
        Score("softcap", flex(lambda s, b, h, i, j: 20 * ag.tanh(s / 20)), qkv),
        Score("ALiBi", flex(lambda s, b, h, i, j, slopes: s + slopes[h] * (j - i)), (*qkv, (8,))),
        Score("relative table", flex(lambda s, b, h, i, j, t: s + t[h, i - j + length]), (*qkv, table)),
        Score("gated", gated, qkv),
        Score("dense bias", lambda q, k, v, bias: ag.softmax(scores(q, k) + bias, axis=-1) @ v, (*qkv, (length,) * 2)),
        Score("two moments", two_moments, qkv),
        Score("differential", differential, (shape,) * 5),
        Score("point attention", point, (*qkv, points, points)),
        Score("Poincaré, direct", poincare("direct"), qkv),
        Score("Poincaré, gram", poincare("gram"), qkv),
    )


def arrays_for(score: Score) -> list[np.ndarray]:
    """Inputs, those of a hyperbolic score inside the ball."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype="float32") for shape in score.shapes]
    if score.name.startswith("Poincaré"):
        arrays = [array * np.float32(0.9 / 16) for array in arrays]
    return arrays


def beside_plain(rounds: int, threads: int, length: int = LENGTH) -> list[dict[str, Any]]:
    """Each score's time over the plain one's: 1 would be a score that costs nothing."""
    rows = []
    with ag.config.set(threads=threads):
        for score in scores_of(length):
            arrays = arrays_for(score)
            ours, base = ag.compile(score.graph), ag.compile(plain)
            times = paired(lambda: base(*arrays[:3]), lambda: ours(*arrays), rounds)  # noqa: B023
            rows.append({"score": score.name, "threads": threads, "times_plain": times.ratio})
    return rows


def beside_scalar(rounds: int, length: int = LENGTH // 4) -> list[dict[str, Any]]:
    """How many times as long the same kernel takes when it is generated for one lane: what vectors bring."""
    rows = []
    plain_score = Score("plain", plain, ((1, 8, length, 64),) * 3)
    with ag.config.set(threads=1):
        for score in (plain_score, *scores_of(length)[:3]):
            arrays = arrays_for(score)
            ours, one_lane = ag.compile(score.graph), ag.compile(score.graph)

            def scalar() -> None:
                with mock.patch.object(kernels, "named_target", return_value=scalar_target()):  # no setting
                    one_lane(*arrays)  # noqa: B023

            times = paired(lambda: ours(*arrays), scalar, rounds)  # noqa: B023
            rows.append({"score": score.name, "times_faster_than_one_lane": times.ratio})
    return rows
