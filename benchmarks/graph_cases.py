"""Layers of graph networks that are measured: what each is in attngraph and in PyTorch Geometric, and its arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import of_tests

import attngraph as ag

layers = of_tests("graph_layers")

Arrays = list[np.ndarray]

INPUT, HEADS, WIDTH = 64, 8, 8
LARGE, SMALL = (100_000, 1_600_000), (1_000, 16_000)
FORWARD, STEP = "forward", "forward + backward"


class Case(NamedTuple):
    """What is measured beside a peer.

    Attributes:
        layer: One of `LAYERS`.
        direction: `FORWARD` or `STEP`, which gives the output and the gradients by features and weights.
        nodes, edges: The size of the graph, whose edges are random.
        peer: ``PyG``, ``PyG, sorted``, ``torch.compile`` (of PyG's layer) or ``torch.sparse``.
        target: How many times as fast ours is meant to be, or None.
    """

    layer: str
    direction: str
    nodes: int
    edges: int
    peer: str
    target: float | None


class Layer(NamedTuple):
    """A layer in attngraph, and in PyTorch Geometric.

    Attributes:
        ours: From the graph and the arrays to the output.
        shapes: Of the weights.
        theirs: From the module of layers to a layer; None where torch's sparse product is meant.
        names: Its parameters, in the order of the weights.
    """

    ours: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = ()
    theirs: Callable[[Any], Any] | None = None
    names: tuple[str, ...] = ()


def _heads(csr: ag.CSR, x: Any, weight: Any, bias: Any = None) -> Any:
    h = x @ weight.mT
    return (h if bias is None else h + bias).reshape((csr.num_nodes, HEADS, WIDTH))


def _gat(csr: ag.CSR, x: Any, weight: Any, to_source: Any, to_target: Any, bias: Any) -> Any:
    out = layers.gat(csr.src, csr.dst, csr.num_nodes, _heads(csr, x, weight), to_source, to_target)
    return out.reshape((csr.num_nodes, HEADS * WIDTH)) + bias


def _gatv2(csr: ag.CSR, x: Any, left: Any, left_bias: Any, right: Any, right_bias: Any, weight: Any, bias: Any) -> Any:
    sides = _heads(csr, x, left, left_bias), _heads(csr, x, right, right_bias)
    out = layers.gatv2(csr.src, csr.dst, csr.num_nodes, *sides, weight)
    return out.reshape((csr.num_nodes, HEADS * WIDTH)) + bias


_LINEAR, _SCORE, _BIAS = (HEADS * WIDTH, INPUT), (1, HEADS, WIDTH), (HEADS * WIDTH,)
LAYERS = {
    "GAT": Layer(
        _gat,
        (_LINEAR, _SCORE, _SCORE, _BIAS),
        lambda nn: nn.GATConv(INPUT, WIDTH, HEADS, add_self_loops=False),
        ("lin.weight", "att_src", "att_dst", "bias"),
    ),
    "GATv2": Layer(
        _gatv2,
        (_LINEAR, _BIAS, _LINEAR, _BIAS, _SCORE, _BIAS),
        lambda nn: nn.GATv2Conv(INPUT, WIDTH, HEADS, add_self_loops=False),
        ("lin_l.weight", "lin_l.bias", "lin_r.weight", "lin_r.bias", "att", "bias"),
    ),
    "mean": Layer(lambda csr, x: layers.mean(csr.src, csr.dst, csr.num_nodes, x)),
    "sum": Layer(lambda csr, x: layers.total(csr.src, csr.dst, csr.num_nodes, x)),
}


def edges_of(case: Case) -> np.ndarray:
    return np.random.default_rng(5).integers(0, case.nodes, (2, case.edges))


def arrays_of(case: Case, seed: int) -> Arrays:
    """Features and weights; a step's first array is the upstream. Weights are so small that no softmax is one-hot."""
    rng = np.random.default_rng(seed)
    upstream = [rng.standard_normal((case.nodes, HEADS * WIDTH), dtype="float32")] if case.direction == STEP else []
    x = rng.standard_normal((case.nodes, INPUT), dtype="float32")
    weights = [rng.standard_normal(shape, dtype="float32") * np.float32(0.2) for shape in LAYERS[case.layer].shapes]
    return [*upstream, x, *weights]


def ours(case: Case, csr: ag.CSR) -> Callable[..., Any]:
    """The compiled layer, or step."""
    layer = LAYERS[case.layer].ours

    def step(upstream: Any, *given: Any) -> Any:
        value, pullback = ag.vjp(lambda *each: layer(csr, *each), *given)
        return (value, *pullback(upstream))

    return ag.compile(step if case.direction == STEP else lambda *given: layer(csr, *given))
