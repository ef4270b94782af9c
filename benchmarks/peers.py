"""The libraries that are measured: what each makes of a case, and what it cannot say."""

import functools
import importlib
import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peers_torch
from cases import ADDITIVE, PROGRAMS, Case
from contract import Prepared, Unsupported
from threadpoolctl import threadpool_limits

import attngraph as ag


class Peer(NamedTuple):
    """A library, and how it is made ready for a case with so many threads.

    Attributes:
        name: As tables write it.
        package: What has to be installed, by the name of its distribution.
        prepare: From case and threads to what runs it.
        stores_scores: Whether it holds all scores at once, so that long sequences are beyond it.
    """

    name: str
    package: str
    prepare: Callable[[Case, int], Prepared]
    stores_scores: bool = False

    def version(self) -> str | None:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


def _attngraph(case: Case, threads: int) -> Prepared:
    score_mod, mask_mod = case.functions("attngraph")
    if case.name in ("full", "causal"):
        causal = case.name == "causal"
        run = ag.compile(lambda q, k, v: ag.scaled_dot_product_attention(q, k, v, is_causal=causal))
        return Prepared(run)
    mask = None
    if mask_mod is not None:
        mask = ag.create_block_mask(mask_mod, *case.mask_sizes, case.queries, case.keys)
    return Prepared(ag.compile(lambda q, k, v: ag.flex_attention(q, k, v, score_mod=score_mod, block_mask=mask)))


def _numpy(case: Case, threads: int) -> Prepared:
    """The formula in float32 with care for memory; mask and bias are made ahead."""
    mask, bias = dense_mask(case), dense_bias(case)
    scale = np.float32(case.width**-0.5)
    is_softcap = case.name == "softcap, causal"
    threadpool_limits(threads)

    def run(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        scores = q @ k.swapaxes(-1, -2)
        scores *= scale
        if is_softcap:
            scores /= np.float32(20)
            np.tanh(scores, out=scores)
            scores *= np.float32(20)
        if bias is not None:
            scores += bias
        if mask is not None:
            np.copyto(scores, np.float32(-np.inf), where=~mask)
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        return scores @ v

    return Prepared(run)


def dense_mask(case: Case) -> np.ndarray | None:
    """The whole mask, for libraries that take no other."""
    _, mask_mod = case.functions("numpy")
    if mask_mod is None:
        return None
    indices = np.ix_(*(np.arange(n) for n in (1, 1, case.queries, case.keys)))
    if PROGRAMS[case.name].batch or PROGRAMS[case.name].head:
        raise Unsupported("not written: a mask that differs among heads")
    return np.asarray(mask_mod(*indices))


def dense_bias(case: Case) -> np.ndarray | None:
    """What an additive program adds, for every position; None for no program."""
    score_mod, _ = case.functions("numpy")
    if score_mod is None or case.name == "softcap, causal":
        return None
    if case.name not in ADDITIVE:
        raise Unsupported("its score is no sum with a bias")
    indices = np.ix_(*(np.arange(n) for n in (1, case.heads, case.queries, case.keys)))
    return np.asarray(score_mod(np.zeros((), "float32"), *indices), np.float32)


def added(case: Case) -> np.ndarray | None:
    """Mask and bias as one float array, or None; -inf hides."""
    if case.name == "softcap, causal":
        raise Unsupported("its scores cannot be changed")
    mask, bias = dense_mask(case), dense_bias(case)
    if mask is None:
        return bias
    return np.where(mask, np.float32(0) if bias is None else bias, np.float32(-np.inf))


def _onnxruntime(case: Case, threads: int) -> Prepared:
    """MultiHeadAttention; its arrays lie as it wants them: (batch, length, heads * width)."""
    bias = None if case.name in ("full", "causal") else added(case)
    if case.queries != case.keys:
        raise Unsupported("not written: fewer queries than keys")
    session = _session(case, threads, bias is not None)

    def load(*arrays: np.ndarray) -> tuple[Any, ...]:
        flat = [np.ascontiguousarray(a.swapaxes(1, 2)).reshape(case.batch, a.shape[2], -1) for a in arrays]
        return ({**dict(zip("qkv", flat, strict=True)), **({} if bias is None else {"bias": bias})},)

    def unload(result: Any) -> np.ndarray:
        heads = result[0].reshape(case.batch, case.queries, case.heads, case.width)
        return np.asarray(heads.swapaxes(1, 2))

    return Prepared(lambda feeds: session.run(None, feeds), load, unload)


def _session(case: Case, threads: int, biased: bool) -> Any:
    onnxruntime, onnx = importlib.import_module("onnxruntime"), importlib.import_module("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, kind, [case.batch, None, case.heads * case.width])

    inputs = [value(name) for name in "qkv"]
    if biased:
        inputs.append(helper.make_tensor_value_info("bias", kind, [None] * 4))
    node = helper.make_node(
        "MultiHeadAttention",
        ["q", "k", "v", *(["", "", "bias"] if biased else [])],
        ["out"],
        domain="com.microsoft",
        num_heads=case.heads,
        unidirectional=int(case.name == "causal"),
    )
    graph = helper.make_graph([node], "attention", inputs, [value("out")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _jax(case: Case, threads: int) -> Prepared:
    """The formula under jit; the mask is a predicate in it."""
    jax = _jax_with(threads)
    jnp = jax.numpy
    score_mod, mask_mod = case.functions("jax")

    @jax.jit
    def run(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.swapaxes(-1, -2) * case.width**-0.5
        batch, heads, rows, columns = scores.shape
        indices = jnp.ix_(*(jnp.arange(n) for n in (batch, heads, rows, columns)))
        if score_mod is not None:
            scores = score_mod(scores, *indices)
        if mask_mod is not None:
            scores = jnp.where(mask_mod(*indices), scores, -jnp.inf)
        return jax.nn.softmax(scores, axis=-1) @ v

    return Prepared(
        lambda *arrays: run(*arrays).block_until_ready(), lambda *a: tuple(map(jax.device_put, a)), np.asarray
    )


@functools.cache
def _jax_with(threads: int) -> Any:
    """JAX has as many threads as the process has processors when it starts: they are lent to it, then given back."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(processors)[:threads]))
    jax = importlib.import_module("jax")
    jax.numpy.zeros(1).block_until_ready()
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), processors)
    return jax


def _keops(case: Case, threads: int) -> Prepared:
    """Lazy tensors of pykeops, which has no booleans: a step function makes the causal mask."""
    if case.name not in ("full", "causal"):
        raise Unsupported("not written: it has no booleans")
    keops = importlib.import_module("pykeops.numpy")
    rows, columns = (np.arange(n, dtype="float32") for n in (case.queries, case.keys))
    heads = (case.batch, case.heads)

    def run(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        x, y, values = q[..., :, None, :], k[..., None, :, :], v[..., None, :, :]
        scores = (keops.LazyTensor(x) | keops.LazyTensor(y)) * (case.width**-0.5)
        if case.name == "causal":
            places = [np.broadcast_to(n, (*heads, len(n))).copy() for n in (rows, columns)]
            i, j = keops.LazyTensor(places[0][..., :, None, None]), keops.LazyTensor(places[1][..., None, :, None])
            scores = scores + ((i - j).step() - 1) * 1e9
        return np.asarray(scores.sumsoftmaxweight(keops.LazyTensor(values), axis=len(heads) + 1))

    return Prepared(run)


OURS = Peer("attngraph", "attngraph", _attngraph)
PEERS = (
    Peer("torch SDPA", "torch", functools.partial(peers_torch.sdpa, added=added)),
    Peer("FlexAttention", "torch", peers_torch.flex),
    Peer("torch.compile", "torch", peers_torch.compiled, stores_scores=True),
    Peer("onnxruntime", "onnxruntime", _onnxruntime),
    Peer("JAX", "jax", _jax, stores_scores=True),
    Peer("KeOps", "pykeops", _keops),
    Peer("NumPy", "numpy", _numpy, stores_scores=True),
)
BY_NAME = {peer.name: peer for peer in (OURS, *PEERS)}
