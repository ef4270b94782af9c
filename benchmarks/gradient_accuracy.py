"""How far gradients are from float64: every score through attngraph's kernels and through torch's autograd in float32.

Each formula is written once, in words that both libraries share; truth is torch's autograd in float64.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import attngraph as ag

SHAPE = (1, 4, 512, 64)
LIMIT = 2.0
DRAWS = 5
# What torch's error counts as at least.
_ROUNDING = float(np.finfo(np.float32).eps)


class Expression(NamedTuple):
    """An attention ``formula(library, q, k, v, *more)``, the shapes of more, and what q and k are scaled by."""

    name: str
    formula: Callable[..., Any]
    more: tuple[tuple[int, ...], ...] = ()
    scale: float = 1.0


def _scores(q: Any, k: Any) -> Any:
    return q @ k.mT * q.shape[-1] ** -0.5


def _places(library: ModuleType, s: Any) -> Any:
    return library.arange(s.shape[-2])[:, None], library.arange(s.shape[-1])[None, :]


def _causal(library: Any, s: Any) -> Any:
    i, j = _places(library, s)
    return library.where(i >= j, s, -float("inf"))


def _grouped(library: Any, q: Any, k: Any, v: Any) -> Any:
    batch, heads, length, width = q.shape
    q = q.reshape(batch, 1, heads, length, width)
    return (_scores(q, k[:, :1, None]).softmax(-1) @ v[:, :1, None]).reshape(batch, heads, length, width)


def _slopes(library: Any, q: Any, k: Any, v: Any, slopes: Any) -> Any:
    i, j = _places(library, _scores(q, k))
    return _causal(library, _scores(q, k) + slopes[:, None, None] * (j - i) * 0.1).softmax(-1) @ v


def _table(library: Any, q: Any, k: Any, v: Any, table: Any) -> Any:
    i, j = _places(library, _scores(q, k))
    return (_scores(q, k) + table[:, i - j + k.shape[-2]]).softmax(-1) @ v


def _sink(library: Any, q: Any, k: Any, v: Any, sink: Any) -> Any:
    s = _causal(library, _scores(q, k))
    return library.exp(s - library.logaddexp(s.logsumexp(-1)[..., None], sink[:, None, None])) @ v


def _differential(library: Any, q: Any, k: Any, v: Any) -> Any:
    first, second = (_scores(q[..., part], k[..., part]).softmax(-1) for part in (slice(32), slice(32, None)))
    return (first - 0.5 * second) @ v


def _moments(library: Any, q: Any, k: Any, v: Any) -> Any:
    weights = _scores(q, k).softmax(-1)
    return weights @ (v * v) - (weights @ v) ** 2


def _differences(q: Any, k: Any) -> Any:
    return q[..., :, None, :] - k[..., None, :, :]


def _poincare(library: Any, q: Any, k: Any, v: Any) -> Any:
    if library is ag:
        distance = ag.manifold.PoincareBall().dist(q[..., :, None, :], k[..., None, :, :])
    else:
        factors = (1 - (q * q).sum(-1))[..., None] * (1 - (k * k).sum(-1))[..., None, :]
        z = 2 * (_differences(q, k) ** 2).sum(-1) / factors
        distance = library.log1p(z + library.sqrt(z * (z + 2)))
    return (-distance).softmax(-1) @ v


def _gram(library: Any, q: Any, k: Any, v: Any) -> Any:
    if library is ag:
        distance = ag.manifold.PoincareBall().dist(q[..., :, None, :], k[..., None, :, :], form="gram")
    else:
        qq, kk = (q * q).sum(-1)[..., None], (k * k).sum(-1)[..., None, :]
        z = 2 * (qq + kk - 2 * (q @ k.mT)).clamp(min=0) / ((1 - qq) * (1 - kk))
        distance = library.log1p(z + library.sqrt(z * (z + 2)))
    return (-distance).softmax(-1) @ v


def _squared(library: Any, q: Any, k: Any, v: Any) -> Any:
    return (-(_differences(q, k) ** 2).sum(-1)).softmax(-1) @ v


def _l1(library: Any, q: Any, k: Any, v: Any) -> Any:
    return (-library.abs(_differences(q, k)).sum(-1)).softmax(-1) @ v


def _additive(library: Any, q: Any, k: Any, v: Any) -> Any:
    return library.tanh(q[..., :, None, :] + k[..., None, :, :]).sum(-1).softmax(-1) @ v


def _soft(change: Callable[..., Any]) -> Callable[..., Any]:
    return lambda library, q, k, v, *more: change(library, _scores(q, k), *more).softmax(-1) @ v


_HEADS, _LENGTH = SHAPE[1:3]
EXPRESSIONS = (
    Expression("plain", _soft(lambda library, s: s)),
    Expression("plain, scores of ±100", _soft(lambda library, s: s), (), 5.0),
    Expression("causal", _soft(_causal)),
    Expression("causal, scores of ±100", _soft(_causal), (), 5.0),
    Expression("groups", _grouped),
    Expression("softcap", _soft(lambda library, s: 5 * library.tanh(s / 5)), (), 2.0),
    Expression("ALiBi, learned slopes", _slopes, ((_HEADS,),)),
    Expression("relative table", _table, ((_HEADS, 2 * _LENGTH),)),
    Expression("dense bias", _soft(lambda library, s, bias: s + bias), ((_HEADS, _LENGTH, _LENGTH),)),
    Expression("temperatures", _soft(lambda library, s, t: s * library.exp(t)[:, None, None]), ((_HEADS,),)),
    Expression("sink", _sink, ((_HEADS,),)),
    Expression("sigmoid", lambda library, q, k, v: _scores(q, k).sigmoid() @ v),
    Expression("relu²", lambda library, q, k, v: _scores(q, k).relu() ** 2 @ v),
    Expression("gated", lambda library, q, k, v: (_scores(q, k).softmax(-1) * _scores(q, k).sigmoid()) @ v),
    Expression("differential", _differential),
    Expression("moments", _moments),
    Expression("squared distance", _squared, (), 0.3),
    Expression("L1 distance", _l1, (), 0.3),
    Expression("additive", _additive),
    Expression("Poincaré, direct", _poincare, (), 0.05),
    Expression("Poincaré, gram", _gram, (), 0.05),
    Expression("logsumexp", lambda library, q, k, v: _scores(q, k).logsumexp(-1)[..., None] * v),
    Expression("largest", lambda library, q, k, v: _scores(q, k).amax(-1)[..., None] * v),
)


def beside_torch(shape: tuple[int, ...] = SHAPE, names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """For each expression the gradient whose error, relative to its largest value, is the largest beside torch's.

    Ratios are medians over several draws: of a gradient of four numbers in which much cancels, a single draw is luck.
    """
    import torch

    return [_row(torch, each, shape) for each in EXPRESSIONS if not names or each.name in names]


def _row(torch: Any, each: Expression, shape: tuple[int, ...]) -> dict[str, Any]:
    draws = [_errors_of_draw(torch, each, shape, seed) for seed in range(DRAWS)]
    ratios = [
        float(np.median([mine / max(other, _ROUNDING) for mine, other in pairs])) for pairs in zip(*draws, strict=True)
    ]
    worst = ratios.index(max(ratios))
    ours, theirs = np.median([draw[worst] for draw in draws], axis=0)
    return {
        "score": each.name,
        "gradient": ("q", "k", "v", "parameter")[worst],
        "error": float(ours),
        "torch's_error": float(theirs),
        "ratio": ratios[worst],
        "meets": ratios[worst] <= LIMIT,
    }


def _errors_of_draw(torch: Any, each: Expression, shape: tuple[int, ...], seed: int) -> list[tuple[float, float]]:
    """For each gradient our error and torch's."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(size, dtype="float32") for size in (shape,) * 4 + each.more]
    arrays[1:3] = [array * np.float32(each.scale) for array in arrays[1:3]]
    truth = _theirs(torch, each, [array.astype("float64") for array in arrays])
    found = (_errors(arrays_found, truth) for arrays_found in (_ours(each, arrays), _theirs(torch, each, arrays)))
    return list(zip(*found, strict=True))


def _ours(each: Expression, arrays: list[np.ndarray]) -> list[np.ndarray]:
    def step(upstream: Any, *given: Any) -> Any:
        return ag.vjp(lambda *given: each.formula(ag, *given), *given)[1](upstream)

    return list(ag.compile(step)(*arrays))


def _theirs(torch: Any, each: Expression, arrays: list[np.ndarray]) -> list[np.ndarray]:
    upstream, *given = map(torch.from_numpy, arrays)
    given = [tensor.requires_grad_() for tensor in given]
    found = torch.autograd.grad(each.formula(torch, *given), given, upstream)
    return [tensor.numpy() for tensor in found]


def _errors(found: list[np.ndarray], truth: list[np.ndarray]) -> list[float]:
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, truth, strict=True)]
