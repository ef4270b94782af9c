"""Decoding: one query on long caches that heads share, caches in pages, and the keys of the largest scores alone.

Each row is a case through attngraph's kernels and another way, in turn, in one process; each peer has a process of its
own. What a decode reads from memory is its keys and values, once: that over the time is held against the machine's
streaming read.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from contract import Prepared
from measure import PAUSE, paired, turns
from processes import ProcessError, run_alone

import attngraph as ag

Rows = list[dict[str, Any]]
Arrays = tuple[np.ndarray, ...]

HEADS, KEY_HEADS, WIDTH, PAGE = 32, 8, 128, 16
LENGTHS = (4096, 32768)
TOP, TOP_SHAPE, TOP_KEYS = 64, (1, 8, 128, 64), 16384
TOLERANCE = 1e-4
# How many times as fast as each peer, by threads; the least share of the streaming read, and the most that pages cost.
TARGETS = {("torch SDPA", 1): 5.0, ("FlexAttention", 2): 2.5, ("onnxruntime", 2): 2.5, ("torch.topk", 1): 4.0}
TARGETS[("torch.topk", 2)] = 4.0
LEAST_BANDWIDTH, MOST_OF_PAGES = 0.6, 1.25


class Case(NamedTuple):
    """A cache.

    Attributes:
        batch: How many sequences, of one query each.
        keys: Positions of each at most.
        ragged: Whether sequences are of different lengths.
    """

    batch: int
    keys: int
    ragged: bool = False

    @property
    def name(self) -> str:
        lengths = f"up to {self.keys}" if self.ragged else f"{self.keys}"
        return f"{self.batch} × 1 query, {HEADS} heads on {KEY_HEADS}, {lengths} keys"

    def arrays(self, seed: int) -> Arrays:
        rng = np.random.default_rng(seed)
        shapes = ((self.batch, HEADS, 1, WIDTH), *((self.batch, KEY_HEADS, self.keys, WIDTH),) * 2)
        return tuple(rng.standard_normal(shape, dtype="float32") for shape in shapes)

    def lengths(self) -> np.ndarray:
        if not self.ragged:
            return np.full(self.batch, self.keys)
        return np.linspace(self.keys // 8, self.keys, self.batch).astype(np.int64)

    def bytes(self) -> int:
        return int(2 * 4 * self.lengths().sum() * KEY_HEADS * WIDTH)


PAGED = (Case(1, 4096), Case(1, 32768), Case(16, 4096, ragged=True))


def _attend(q: Any, k: Any, v: Any) -> Any:
    return ag.attention(q, k, v, enable_gqa=True)


def _torch(threads: int) -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return torch


def _on_tensors(torch: Any, run: Callable[..., Any]) -> Prepared:
    return Prepared(run, lambda *a: tuple(map(torch.from_numpy, a)), lambda result: np.asarray(result.numpy()))


def _sdpa(threads: int, case: Case) -> Prepared:
    torch = _torch(threads)
    attend = torch.nn.functional.scaled_dot_product_attention
    return _on_tensors(torch, lambda q, k, v: attend(q, k, v, enable_gqa=True))


def _flex(threads: int, case: Case) -> Prepared:
    torch = _torch(threads)
    attend = torch.compile(importlib.import_module("torch.nn.attention.flex_attention").flex_attention)
    return _on_tensors(torch, lambda q, k, v: attend(q, k, v, enable_gqa=True))


def _onnxruntime(threads: int, case: Case) -> Prepared:
    """Its operator Attention, whose heads may share keys."""
    onnxruntime, onnx = importlib.import_module("onnxruntime"), importlib.import_module("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, [None] * 4) for name in ("q", "k", "v", "out")]
    node = helper.make_node("Attention", ["q", "k", "v"], ["out"])
    graph = helper.make_graph([node], "attention", values[:3], values[3:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Prepared(
        lambda feeds: session.run(None, feeds),
        lambda *arrays: (dict(zip("qkv", arrays, strict=True)),),
        lambda result: np.asarray(result[0]),
    )


PEERS: dict[str, Callable[[int, Case], Prepared]] = {
    "torch SDPA": _sdpa,
    "FlexAttention": _flex,
    "onnxruntime": _onnxruntime,
}


def rows(rounds: int, threads: int, limits: dict[str, float], quick: bool) -> Rows:
    """All rows: beside each peer, pages beside arrays, and the largest scores."""
    arguments = {"rounds": rounds, "threads": threads, "limits": limits, "quick": quick}
    found: Rows = []
    for function, names in (("of_peer", tuple(PEERS)), ("of_pages", ("contiguous",)), ("of_largest", ("torch.topk",))):
        for name in names:
            try:
                found += run_alone("decoding", function, {**arguments, "name": name}, threads)
            except ProcessError as error:
                found.append({"case": function, "threads": threads, "peer": name, "note": str(error)})
    return found


def _beside(ours: Prepared, theirs: Prepared, sets: Sequence[Arrays], rounds: int, exact: np.ndarray) -> dict[str, Any]:
    """Both ways' times, once both are right on the first set."""
    loaded = [[each.load(*arrays) for arrays in sets] for each in (ours, theirs)]
    for name, each, given in zip(("attngraph", "the other"), (ours, theirs), loaded, strict=True):
        error = np.abs(each.unload(each.run(*given[0])) - exact).max() / np.abs(exact).max()
        if not error <= TOLERANCE:
            return {"note": f"not timed: {name} is wrong by {error:.1e}", "defect": name == "attngraph"}
    times = paired(turns(ours.run, loaded[0]), turns(theirs.run, loaded[1]), rounds, PAUSE)
    return {"milliseconds": times.ours * 1e3, "peer_milliseconds": times.other * 1e3, "ratio": times.ratio}


def _exact(q: np.ndarray, k: np.ndarray, v: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    out = np.zeros(q.shape)
    group = q.shape[1] // k.shape[1]
    for place, length in enumerate(lengths):
        keys, values = (x[place, :, :length].astype("float64").repeat(group, 0) for x in (k, v))
        scores = q[place].astype("float64") @ keys.swapaxes(-1, -2) * q.shape[-1] ** -0.5
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[place] = weights / weights.sum(-1, keepdims=True) @ values
    return out


def _sets(case: Case) -> list[Arrays]:
    """Together larger than any cache."""
    return [case.arrays(seed) for seed in range(4 if case.bytes() < 1 << 26 else 2)]


def of_peer(name: str, rounds: int, threads: int, limits: dict[str, float], quick: bool) -> Rows:
    """A decode beside one library's. It runs in a process of its own."""
    found = []
    for case in (Case(1, length) for length in (LENGTHS[:1] if quick else LENGTHS)):
        row: dict[str, Any] = {"case": case.name, "threads": threads, "peer": name}
        sets = _sets(case)
        with ag.config.set(threads=threads):
            row |= _beside(
                Prepared(ag.compile(_attend)),
                PEERS[name](threads, case),
                sets,
                rounds,
                _exact(*sets[0], case.lengths()),
            )
        row |= {"target": TARGETS[name, threads]} if (name, threads) in TARGETS else {}
        found.append(_with_bandwidth(row, case, limits))
    return found


def _with_bandwidth(row: dict[str, Any], case: Case, limits: dict[str, float]) -> dict[str, Any]:
    if "milliseconds" not in row:
        return row
    share = case.bytes() / (row["milliseconds"] / 1e3) / limits["bytes"]
    missed = [f"below the target of {row['target']:g}"] if row["ratio"] < row.get("target", 0) else []
    if row["threads"] > 1 and share < LEAST_BANDWIDTH:
        missed.append(f"below {LEAST_BANDWIDTH:.0%} of the streaming read")
    return {**row, "of_bandwidth": share, **({"note": "; ".join(missed)} if missed else {})}


def in_pages(array: np.ndarray, table: np.ndarray, page: int = PAGE) -> np.ndarray:
    """(batch, heads, length, dim) as a pool, (pages, page, heads, dim), that a table of all its pages leads through."""
    batch, heads, length, width = array.shape
    pool = np.empty((table.size, page, heads, width), np.float32)
    pool[table] = array.reshape(batch, heads, length // page, page, width).transpose(0, 2, 3, 1, 4)
    return pool


def of_pages(name: str, rounds: int, threads: int, limits: dict[str, float], quick: bool) -> Rows:
    """The same cache in pages beside one in arrays: the time in pages over that. It runs in a process of its own."""
    found = []
    for case in PAGED[:1] if quick else PAGED:
        lengths = case.lengths()
        pages = np.random.default_rng(0).permutation(case.batch * case.keys // PAGE).reshape(case.batch, -1)
        sets = _sets(case)
        pooled = {id(q): (in_pages(k, pages), in_pages(v, pages)) for q, k, v in sets}

        def paged(q: Any, k: Any, v: Any, table: Any = pages, counts: Any = lengths) -> Any:
            return ag.attention(q, ag.pages(k, table, counts), ag.pages(v, table, counts), enable_gqa=True)

        def contiguous(q: Any, k: Any, v: Any, counts: Any = lengths) -> Any:
            if not case.ragged:
                return _attend(q, k, v)
            visible = ag.arange(k.shape[-2]) < ag.asarray(counts)[:, None, None, None]
            return ag.attention(q, k, v, mask=visible, enable_gqa=True)

        with ag.config.set(threads=threads):
            both = _beside(
                Prepared(ag.compile(paged), lambda q, k, v: (q, *pooled[id(q)])),
                Prepared(ag.compile(contiguous)),
                sets,
                rounds,
                _exact(*sets[0], lengths),
            )
        row: dict[str, Any] = {"case": f"{case.name}, pages of {PAGE}", "threads": threads, "peer": name, **both}
        if "ratio" in row:
            row |= {"ratio": 1 / row["ratio"], "target": MOST_OF_PAGES}
            row |= {"note": f"more than {MOST_OF_PAGES:g}"} if row["ratio"] > MOST_OF_PAGES else {}
        found.append(row)
    return found


def of_largest(name: str, rounds: int, threads: int, limits: dict[str, float], quick: bool) -> Rows:
    """`topk_attention` beside torch.topk and a gather. It runs in a process of its own."""
    torch = _torch(threads)
    rng = np.random.default_rng(0)
    shapes = (TOP_SHAPE, *((*TOP_SHAPE[:2], TOP_KEYS, TOP_SHAPE[-1]),) * 2)
    sets = [tuple(rng.standard_normal(shape, dtype="float32") for shape in shapes) for _ in range(2)]

    def theirs(q: Any, k: Any, v: Any) -> Any:
        values, places = torch.topk(q @ k.mT * q.shape[-1] ** -0.5, TOP)
        chosen = torch.take_along_dim(v[:, :, None], places[..., None], -2)
        return (torch.softmax(values, -1)[..., None, :] @ chosen)[..., 0, :]

    exact = theirs(*(torch.from_numpy(each.astype("float64")) for each in sets[0])).numpy()
    with ag.config.set(threads=threads):
        ours = Prepared(ag.compile(lambda q, k, v: ag.topk_attention(q, k, v, TOP)))
        row = _beside(ours, _on_tensors(torch, theirs), sets, rounds, exact)
    if "ratio" in row and row["ratio"] < TARGETS[name, threads]:
        row["note"] = f"below the target of {TARGETS[name, threads]:g}"
    case = f"top {TOP} of {TOP_KEYS} keys, {TOP_SHAPE}"
    return [{"case": case, "threads": threads, "peer": name, **row, "target": TARGETS[name, threads]}]
