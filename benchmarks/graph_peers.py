"""PyTorch Geometric's layers, compiled or not, and torch's product with a sparse matrix."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from graph_cases import LAYERS, STEP, Case

import attngraph as ag


def theirs(
    case: Case, edges: np.ndarray, weights: Sequence[np.ndarray], threads: int, double: bool = False
) -> Callable[..., Any]:
    """The peer's, of the upstream, if it is a step, and the features; weights are its own."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    if case.peer == "torch.sparse":
        return _sparse_product(torch, case, edges, double)
    layer, parameters = _module(torch, case, weights)
    if double:
        layer = layer.double()
    if case.peer == "torch.compile" and not double:
        layer = torch.compile(layer)
    if case.peer == "PyG, sorted":
        edges = edges[:, np.argsort(edges[1], kind="stable")]
    index = torch.from_numpy(np.ascontiguousarray(edges))

    def forward(x: Any) -> Any:
        with torch.no_grad():
            return layer(x, index)

    def step(upstream: Any, x: Any) -> Any:
        x = x.detach().requires_grad_()
        out = layer(x, index)
        return (out.detach(), *torch.autograd.grad(out, [x, *parameters], upstream))

    return step if case.direction == STEP else forward


def _module(torch: Any, case: Case, weights: Sequence[np.ndarray]) -> tuple[Any, list[Any]]:
    """The peer's layer with these weights, and its parameters in their order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it is made with
        nn = importlib.import_module("torch_geometric.nn")
    described = LAYERS[case.layer]
    assert described.theirs is not None
    layer = described.theirs(nn)
    state = {name: torch.from_numpy(each.copy()) for name, each in zip(described.names, weights, strict=True)}
    layer.load_state_dict(state)
    named = dict(layer.named_parameters())
    return layer, [named[name] for name in described.names]


def _sparse_product(torch: Any, case: Case, edges: np.ndarray, double: bool) -> Callable[..., Any]:
    """A product with the matrix of edges, in compressed rows."""
    csr = ag.CSR.from_edge_index(edges, case.nodes)
    degrees = np.diff(csr.indptr)
    each = 1 / np.maximum(degrees, 1) if case.layer == "mean" else np.ones(case.nodes)
    values = torch.from_numpy(np.repeat(each, degrees).astype("float64" if double else "float32"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is in beta
        sides = (torch.from_numpy(array.astype(np.int64)) for array in (csr.indptr, csr.indices))
        matrix = torch.sparse_csr_tensor(*sides, values, (case.nodes, case.nodes))
    return lambda x: matrix @ x
