"""Beside other libraries: the same attention through attngraph's kernels and theirs, in turn."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import PAUSE, paired

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.roofline import roofline

Shape = tuple[int, int, int, int]
SHAPES: tuple[Shape, ...] = ((1, 8, 1024, 64), (1, 8, 4096, 64), (1, 16, 2048, 128))
ONNX_SHAPES = SHAPES[1:]


def _arrays(shape: Shape) -> list[np.ndarray]:
    return [np.random.default_rng(n).standard_normal(shape, dtype="float32") for n in range(3)]


def _row(peer: str, shape: Shape, causal: bool, threads: int, theirs: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """A row of the table: attngraph beside ``theirs``, which runs the peer on the same arrays."""
    arrays = _arrays(shape)
    compiled = ag.compile(lambda q, k, v: ag.scaled_dot_product_attention(q, k, v, is_causal=causal))
    with ag.config.set(threads=threads):
        times = paired(lambda: compiled(*arrays), theirs, rounds, pause=PAUSE)
        peak = roofline(config.settings()).flops
    batch, heads, length, width = shape
    work = 4 * batch * heads * length * length * width * (0.5 if causal else 1)
    return {
        "shape": shape,
        "threads": threads,
        "mask": "causal" if causal else "full",
        f"speed_against_{peer}": times.ratio,
        "Gflop/s": work / times.ours / 1e9,
        "of_peak": work / times.ours / peak,
    }


def against_torch(rounds: int, threads: int) -> list[dict[str, Any]]:
    """Ratios of time, torch's scaled_dot_product_attention over ours."""
    import torch

    torch.set_num_threads(threads)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    rows = []
    for shape in SHAPES:
        tensors = [torch.from_numpy(array) for array in _arrays(shape)]
        for causal in (False, True):
            theirs = functools.partial(sdpa, *tensors, is_causal=causal)
            rows.append(_row("torch", shape, causal, threads, theirs, rounds))
    return rows


def against_onnxruntime(rounds: int, threads: int) -> list[dict[str, Any]]:
    """Ratios of time, onnxruntime's MultiHeadAttention over ours; its arrays lie as it wants them."""
    rows = []
    for shape in ONNX_SHAPES:
        batch, heads, length, width = shape
        flat = [array.swapaxes(1, 2).reshape(batch, length, heads * width) for array in _arrays(shape)]
        feeds = dict(zip("qkv", map(np.ascontiguousarray, flat), strict=True))
        theirs = functools.partial(_onnx_session(shape, threads).run, None, feeds)
        rows.append(_row("onnxruntime", shape, False, threads, theirs, rounds))
    return rows


def _onnx_session(shape: Shape, threads: int) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper

    batch, heads, length, width = shape

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, length, heads * width])

    attention = helper.make_node("MultiHeadAttention", list("qkv"), ["out"], domain="com.microsoft", num_heads=heads)
    graph = helper.make_graph([attention], "attention", [value(name) for name in "qkv"], [value("out")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
