"""Training: an attention and its gradients in one step, beside PyTorch's; and what the backward pass of a score costs.

A step gives the output and the gradients by everything that it was made of. Ours is one compiled function; the peer's
is its own forward pass and ``autograd.grad``.
"""

import functools
import importlib
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import square
from measure import PAUSE, paired, seconds, turns
from processes import ProcessError, run_alone
from scores import scores

import attngraph as ag

Rows = list[dict[str, Any]]
Shape = tuple[int, ...]

# Largest difference from the peer's gradients, relative to the largest value, of what counts as right.
TOLERANCE = 1e-3
WINDOW, DOCUMENTS = 256, 12


class Step(NamedTuple):
    """What is trained beside a peer.

    Attributes:
        name: As the table has it.
        peer: What it is measured against.
        shape: Of q, k and v.
        target: How many times as fast it is meant to be.
    """

    name: str
    peer: str
    shape: Shape
    target: float


_SQUARE = ((1, 8, 1024, 64), (1, 8, 4096, 64), (1, 16, 2048, 128))
STEPS = (
    *(Step("full", "SDPA", shape, 1.2 if shape[-1] == 128 else 1.25) for shape in _SQUARE),
    *(Step("causal", "SDPA", shape, 1.5) for shape in _SQUARE),
    Step("causal", "SDPA", (1, 1, 4096, 64), 1.25),
    Step("causal", "SDPA", (1, 3, 4096, 64), 1.25),
    Step("ALiBi, learned slopes, causal", "eager", (1, 8, 2048, 64), 5.0),
    Step("Poincaré", "torch.compile", (1, 8, 2048, 64), 2.5),
    Step("window 256", "SDPA", (1, 8, 4096, 64), 12.0),
    Step("documents", "SDPA", (1, 8, 4096, 64), 6.0),
    Step("softcap, causal", "torch.compile", (1, 8, 4096, 64), 3.3),
)


def beside_torch(rounds: int, threads: int, quick: bool) -> Rows:
    """A row for each step, measured in a process of its own."""
    found: Rows = []
    for step in STEPS[:1] + STEPS[3:4] if quick else STEPS:
        named = {"case": step.name, "shape": str(step.shape), "threads": threads, "peer": step.peer}
        try:
            found.append(
                named | run_alone("training", "of_step", {"step": step, "rounds": rounds, "threads": threads}, threads)
            )
        except ProcessError as error:
            found.append({**named, "note": str(error)})
    return found


def of_step(step: Any, rounds: int, threads: int) -> dict[str, Any]:
    """Ours and the peer's in turn, after their gradients were compared. Runs in a process of its own."""
    step = Step(*step)
    sets = [arrays_of(step, seed) for seed in range(3)]
    with ag.config.set(threads=threads):
        mine, theirs = ours(step), _theirs(step, threads)
        error = _difference(mine(*sets[0]), theirs(*sets[0]))
        if not error <= TOLERANCE:
            return {"note": f"the gradients differ by {error:.1e}", "defect": True}
        times = paired(turns(mine, sets), turns(theirs, sets), rounds, PAUSE, budget=12.0)
    meets = times.ratio >= step.target
    return {
        "milliseconds": times.ours * 1e3,
        "peer_milliseconds": times.other * 1e3,
        "ratio": times.ratio,
        "difference": error,
        "target": step.target,
        "meets": meets,
        **({} if meets else {"note": f"below the target of {step.target:g} on {_threads(threads)}"}),
    }


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def arrays_of(step: Step, seed: int) -> list[np.ndarray]:
    """The upstream, q, k, v, and what else is learned; points of a ball inside it."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(step.shape, dtype="float32") for _ in range(4)]
    if step.name == "Poincaré":
        arrays[1:3] = [array * np.float32(0.9 / 16) for array in arrays[1:3]]
    if step.name.startswith("ALiBi"):
        arrays.append((2.0 ** -np.arange(1, step.shape[1] + 1)).astype("float32"))
    return arrays


def documents(length: int) -> np.ndarray:
    """The document of each position."""
    return np.sort(np.random.default_rng(3).integers(0, DOCUMENTS, length))


def _difference(ours: Any, theirs: Any) -> float:
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(a - b.detach().numpy()).max() / np.abs(b.detach().numpy()).max()) for a, b in pairs)


# --- ours


def stepped(attend: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled step: from the upstream and the arguments to the output and all gradients."""

    def step(upstream: Any, *given: Any) -> Any:
        value, pullback = ag.vjp(attend, *given)
        return (value, *pullback(upstream))

    return ag.compile(step)


def ours(step: Step) -> Callable[..., Any]:
    length = step.shape[2]
    place = ag.asarray(documents(length))

    def same(b: Any, h: Any, i: Any, j: Any) -> Any:
        return place[i] == place[j]

    def program(score_mod: Any, mask_mod: Any) -> Callable[..., Any]:
        mask = ag.create_block_mask(mask_mod, None, None, length, length)
        return functools.partial(ag.flex_attention, score_mod=score_mod, block_mask=mask)

    def named() -> Callable[..., Any]:
        return program(*square(step.name, step.shape).functions("attngraph"))

    attends = {
        "full": lambda: ag.scaled_dot_product_attention,
        "causal": lambda: functools.partial(ag.scaled_dot_product_attention, is_causal=True),
        "ALiBi, learned slopes, causal": lambda: _attends_causally(length, _slopes),
        "Poincaré": lambda: _poincare,
        "window 256": named,
        "documents": lambda: program(None, same),
        "softcap, causal": named,
    }
    return stepped(attends[step.name]())


# --- PyTorch's


def _theirs(step: Step, threads: int) -> Callable[..., Any]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    attend = _formula(torch, step)

    def run(*arrays: np.ndarray) -> Any:
        upstream, *given = map(torch.from_numpy, arrays)
        given = [each.requires_grad_() for each in given]
        out = attend(*given)
        return (out, *torch.autograd.grad(out, given, upstream))

    return run


def _formula(torch: Any, step: Step) -> Callable[..., Any]:
    length, scale = step.shape[2], step.shape[3] ** -0.5
    sdpa = torch.nn.functional.scaled_dot_product_attention
    i, j = torch.arange(length)[:, None], torch.arange(length)
    if step.name in ("full", "causal"):
        return functools.partial(sdpa, is_causal=step.name == "causal")
    if step.name in ("window 256", "documents"):
        place = torch.from_numpy(documents(length))
        mask = (i >= j) & (i - j < WINDOW) if step.name == "window 256" else place[:, None] == place
        return functools.partial(sdpa, attn_mask=mask)

    def alibi(q: Any, k: Any, v: Any, slopes: Any) -> Any:
        bias = slopes[:, None, None] * (j - i) + torch.where(i >= j, 0.0, -float("inf"))
        return (q @ k.mT * scale + bias).softmax(-1) @ v

    def softcap(q: Any, k: Any, v: Any) -> Any:
        scores = 20 * torch.tanh(q @ k.mT * (scale / 20))
        return torch.where(i >= j, scores, -float("inf")).softmax(-1) @ v

    def gram(q: Any, k: Any, v: Any) -> Any:
        qq, kk = (q * q).sum(-1, keepdim=True), (k * k).sum(-1)[..., None, :]
        apart = (qq + kk - 2 * (q @ k.mT)).clamp_min(0)
        return (-torch.acosh(1 + 2 * apart / ((1 - qq) * (1 - kk)))).softmax(-1) @ v

    if step.name == "Poincaré":
        return torch.compile(gram)  # type: ignore[no-any-return]
    return alibi if step.name.startswith("ALiBi") else torch.compile(softcap)


# --- the backward pass of scores, over that of the plain one


class Learned(NamedTuple):
    """A score's attention ``attend(q, k, v, *more)``, what else it learns, and the limit of its backward's time.

    Attributes:
        base: The plain attention with the same mask.
    """

    name: str
    attend: Callable[..., Any]
    base: Callable[..., Any]
    target: float
    more: tuple[np.ndarray, ...] = ()


def backward_over_plain(rounds: int, threads: int, length: int = 2048) -> Rows:
    """The backward pass (a step less its forward pass) of each score, as a multiple of the plain one's."""
    rng = np.random.default_rng(0)
    upstream, *qkv = (rng.standard_normal((1, 8, length, 64), dtype="float32") for _ in range(4))
    rows = []
    with ag.config.set(threads=threads):
        for score in _scores(length):
            small = np.float32(0.9 / 16 if score.name == "Poincaré" else 1)  # inside the ball
            given = [qkv[0] * small, qkv[1] * small, qkv[2]]
            plain, other = (
                _backward(score.base, upstream, given),
                _backward(score.attend, upstream, [*given, *score.more]),
            )
            times = statistics.median(other() / plain() for _ in range(rounds))
            row = {"score": score.name, "threads": threads, "times_plain": times}
            rows.append({**row, "target": score.target, "meets": times <= score.target})
    return rows


def _backward(attend: Callable[..., Any], upstream: np.ndarray, given: list[np.ndarray]) -> Callable[[], float]:
    step, forward = stepped(attend), ag.compile(attend)
    step(upstream, *given)
    forward(*given)
    return lambda: seconds(lambda: step(upstream, *given)) - seconds(lambda: forward(*given))


def _attends_causally(length: int, score: Any = None) -> Callable[..., Any]:
    mask = ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, length, length)

    def attend(q: Any, k: Any, v: Any, *more: Any) -> Any:
        bound = None if score is None else lambda s, b, h, i, j: score(s, b, h, i, j, *more)
        return ag.flex_attention(q, k, v, score_mod=bound, block_mask=mask)

    return attend


def _slopes(s: Any, b: Any, h: Any, i: Any, j: Any, slopes: Any) -> Any:
    return s + slopes[h] * (j - i)


def _poincare(q: Any, k: Any, v: Any) -> Any:
    distance = ag.manifold.PoincareBall().dist(q[..., :, None, :], k[..., None, :, :])
    return ag.softmax(-distance, axis=-1) @ v


def _scores(length: int) -> tuple[Learned, ...]:
    rng = np.random.default_rng(1)
    slopes = (2.0 ** -np.arange(1, 9)).astype("float32")
    table = rng.standard_normal((8, 2 * length), dtype="float32")
    bias = rng.standard_normal((8, length, length), dtype="float32")
    visible = ag.arange(length)[:, None] >= ag.arange(length)
    plain = _attends_causally(length)

    def weights(q: Any, k: Any) -> Any:
        return ag.softmax(ag.where(visible, scores(q, k), -ag.inf), axis=-1)

    def plus_one(q: Any, k: Any, v: Any) -> Any:
        s = ag.where(visible, scores(q, k), -ag.inf)
        largest = ag.maximum(ag.max(s, axis=-1, keepdims=True), 0)
        e = ag.exp(s - largest)
        return e / (ag.exp(-largest) + ag.sum(e, axis=-1, keepdims=True)) @ v

    def differential(q: Any, k: Any, v: Any) -> Any:
        first, second = slice(0, 32), slice(32, 64)
        return (weights(q[..., first], k[..., first]) - 0.5 * weights(q[..., second], k[..., second])) @ v

    def causal(name: str, target: float, score: Any, *more: np.ndarray) -> Learned:
        return Learned(name, _attends_causally(length, score), plain, target, more)

    return (
        causal("ALiBi", 1.12, _slopes, slopes),
        causal("softcap", 1.12, lambda s, b, h, i, j: 20 * ag.tanh(s / 20)),
        causal("relative table", 1.12, lambda s, b, h, i, j, t: s + t[h, i - j + length], table),
        Learned("softmax plus one", plus_one, plain, 1.12),
        Learned("sigmoid", lambda q, k, v: ag.where(visible, ag.sigmoid(scores(q, k)), 0) @ v, plain, 1.12),
        Learned("gated", lambda q, k, v: (weights(q, k) * ag.sigmoid(scores(q, k))) @ v, plain, 1.12),
        causal("dense bias", 1.25, lambda s, b, h, i, j, t: s + t[h, i, j], bias),
        Learned("Poincaré", _poincare, ag.scaled_dot_product_attention, 1.6),
        Learned("differential", differential, plain, 2.0),
    )
