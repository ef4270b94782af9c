"""Layers of graph networks beside PyTorch Geometric's in float64, with the same weights: values and gradients."""

import importlib
import warnings

import graph_layers as layers
import numpy as np
import pytest
from numpy.testing import assert_allclose

import attngraph as ag

torch = pytest.importorskip("torch")

NODES, EDGES, INPUT, HEADS, WIDTH, EDGE_WIDTH = 23, 140, 6, 3, 4, 2
BOTH = HEADS * WIDTH
RNG = np.random.default_rng(11)
# The last three nodes send to some and hear nothing; some edges are there twice, some are loops.
EDGE_INDEX = np.stack([RNG.integers(0, NODES, EDGES), RNG.integers(0, NODES - 3, EDGES)])
EDGE_INDEX[:, 100:110] = EDGE_INDEX[:, 90:100]
EDGE_INDEX[0, 3:5] = EDGE_INDEX[1, 3:5]
# Of the largest value: what float32 is held to, and roundings of float64 in another order.
WITHIN = {"float32": 2e-5, "float64": 1e-12}


@pytest.fixture(scope="session")
def pyg():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it is made with, not of what it does
        pytest.importorskip("torch_geometric")
        return importlib.import_module("torch_geometric.nn")


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def called(module, names, edge_index, *tensors):
    """A module with these tensors as its parameters; the first one is its input, ``edge_attr`` goes by its name."""
    given = dict(zip(names, tensors[1:], strict=True))
    more = {"edge_attr": given.pop("edge_attr")} if "edge_attr" in given else {}
    assert set(given) == {name for name, _ in module.named_parameters()}
    return torch.func.functional_call(module.double(), given, (tensors[0], edge_index), more)


def heads_of(x, weight):
    return (x @ weight.mT).reshape((NODES, HEADS, WIDTH))


def gat(edges, x, weight, att_src, att_dst, bias):
    return layers.gat(*edges, heads_of(x, weight), att_src, att_dst).reshape((NODES, BOTH)) + bias


def pyg_gat(pyg, edge_index, *tensors):
    module = pyg.GATConv(INPUT, WIDTH, HEADS, add_self_loops=False)
    return called(module, ("lin.weight", "att_src", "att_dst", "bias"), edge_index, *tensors)


def gat_with_edges(
    edges, x, weight, att_src, att_dst, bias, edge_attr, edge_weight, att_edge, sort=lambda given: given
):
    on_edges = ag.sum((sort(edge_attr) @ edge_weight.mT).reshape((EDGES, HEADS, WIDTH)) * att_edge, axis=-1)
    return layers.gat(*edges, heads_of(x, weight), att_src, att_dst, on_edges).reshape((NODES, BOTH)) + bias


def pyg_gat_with_edges(pyg, edge_index, *tensors):
    module = pyg.GATConv(INPUT, WIDTH, HEADS, add_self_loops=False, edge_dim=EDGE_WIDTH)
    names = ("lin.weight", "att_src", "att_dst", "bias", "edge_attr", "lin_edge.weight", "att_edge")
    return called(module, names, edge_index, *tensors)


def gatv2(edges, x, left, left_bias, right, right_bias, att, bias):
    left, right = (
        heads_of(x, left) + left_bias.reshape((HEADS, -1)),
        heads_of(x, right) + right_bias.reshape((HEADS, -1)),
    )
    return layers.gatv2(*edges, left, right, att).reshape((NODES, BOTH)) + bias


def pyg_gatv2(pyg, edge_index, *tensors):
    module = pyg.GATv2Conv(INPUT, WIDTH, HEADS, add_self_loops=False)
    names = ("lin_l.weight", "lin_l.bias", "lin_r.weight", "lin_r.bias", "att", "bias")
    return called(module, names, edge_index, *tensors)


def transformer(edges, x, key, query, value, skip):
    out = layers.dot_product(*edges, *(heads_of(x, each) for each in (query, key, value)))
    return out.reshape((NODES, BOTH)) + x @ skip.mT


def pyg_transformer(pyg, edge_index, *tensors):
    module = pyg.TransformerConv(INPUT, WIDTH, HEADS, bias=False)
    names = ("lin_key.weight", "lin_query.weight", "lin_value.weight", "lin_skip.weight")
    return called(module, names, edge_index, *tensors)


def sage(aggregate):
    def layer(edges, x, weight, bias, root):
        return aggregate(*edges, x) @ weight.mT + bias + x @ root.mT

    return layer


def pyg_sage(name):
    def layer(pyg, edge_index, *tensors):
        module = pyg.SAGEConv(INPUT, WIDTH, aggr=name)
        return called(module, ("lin_l.weight", "lin_l.bias", "lin_r.weight"), edge_index, *tensors)

    return layer


def pyg_soft(pyg, edge_index, x, temperature):
    module = pyg.aggr.SoftmaxAggregation(t=1.0, learn=True)
    given = (x[edge_index[0]], edge_index[1], None, NODES)
    return torch.func.functional_call(module.double(), {"t": temperature}, given)


def pyg_moments(pyg, edge_index, x):
    given = (x[edge_index[0]], edge_index[1], None, NODES)
    return torch.cat([pyg.aggr.MeanAggregation()(*given), pyg.aggr.VarAggregation()(*given)], -1)


def pyg_hyperbolic(pyg, edge_index, x, v):
    source, target = edge_index
    apart = ((x[target] - x[source]) ** 2).sum(-1)
    room = 1 - (x * x).sum(-1)
    distance = torch.acosh(1 + 2 * apart / (room[target] * room[source]))
    softmax = importlib.import_module("torch_geometric.utils").softmax
    alpha = softmax(-distance, target, num_nodes=NODES)
    return pyg.aggr.SumAggregation()(alpha[:, None] * v[source], target, None, NODES)


def plainly(layer):
    return lambda edges, *arrays: layer(*edges, *arrays)


X, ATT, BIAS = numbers(NODES, INPUT), numbers(1, HEADS, WIDTH), numbers(BOTH)
WEIGHT, OTHER, THIRD = numbers(BOTH, INPUT), numbers(BOTH, INPUT) * 0.5, numbers(BOTH, INPUT)[::-1].copy()
GAT = (X, WEIGHT, ATT, ATT[:, ::-1].copy(), BIAS)
SAGE = (X, numbers(WIDTH, INPUT), numbers(WIDTH), numbers(WIDTH, INPUT) * 0.5)
# Ours, theirs, and the arrays; gradients are taken by all of them.
CASES = {
    "GAT": (gat, pyg_gat, GAT),
    "GATv2": (gatv2, pyg_gatv2, (X, WEIGHT, BIAS, OTHER, BIAS[::-1].copy(), ATT, BIAS)),
    "transformer": (transformer, pyg_transformer, (X, OTHER, THIRD, WEIGHT, OTHER[::-1].copy())),
    "SAGE, mean": (sage(layers.mean), pyg_sage("mean"), SAGE),
    "SAGE, largest": (sage(layers.largest), pyg_sage("max"), SAGE),
    "SAGE, sum": (sage(layers.total), pyg_sage("sum"), SAGE),
    "softmax of features": (plainly(layers.soft), pyg_soft, (X, np.array([0.7]))),
    "moments": (plainly(layers.moments), pyg_moments, (X,)),
}


def results(compute, arrays, upstream):
    """The value and the gradient by each array, in one compiled function."""

    def step(upstream, *given):
        value, pullback = ag.vjp(compute, *given)
        return (value, *pullback(upstream))

    return ag.compile(step)(upstream, *arrays)


def wanted(layer, pyg, edge_index, arrays, upstream):
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    out = layer(pyg, torch.from_numpy(edge_index), *tensors)
    return [each.detach().numpy() for each in (out, *torch.autograd.grad(out, tensors, torch.from_numpy(upstream)))]


def compare(found, due, dtype):
    for number, (ours, theirs) in enumerate(zip(found, due, strict=True)):
        assert (ours.shape, ours.dtype) == (theirs.shape, np.dtype(dtype))
        assert_allclose(ours, theirs, rtol=0, atol=WITHIN[dtype] * np.abs(theirs).max(), err_msg=f"number {number}")


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("name", CASES)
def test_layers_of_pytorch_geometric(pyg, name, dtype):
    layer, theirs, arrays = CASES[name]
    upstream = numbers(NODES, {"moments": 2 * INPUT, "softmax of features": INPUT}.get(name, BOTH))
    upstream = upstream[:, :WIDTH].copy() if name.startswith("SAGE") else upstream
    due = wanted(theirs, pyg, EDGE_INDEX, arrays, upstream)
    csr = ag.CSR.from_edge_index(EDGE_INDEX, NODES)
    given = [array.astype(dtype) for array in arrays]
    # Sorted rows, and the edges just as they are given.
    for edges in ((csr.src, csr.dst, NODES), (*map(ag.asarray, EDGE_INDEX), NODES)):
        found = results(lambda *each: layer(edges, *each), given, upstream.astype(dtype))  # noqa: B023
        compare(found, due, dtype)


@pytest.mark.parametrize("dtype", WITHIN)
def test_attributes_of_edges(pyg, dtype):
    more = (numbers(EDGES, EDGE_WIDTH), numbers(BOTH, EDGE_WIDTH), ATT * 0.5)
    upstream = numbers(NODES, BOTH)
    due = wanted(pyg_gat_with_edges, pyg, EDGE_INDEX, (*GAT, *more), upstream)
    csr = ag.CSR.from_edge_index(EDGE_INDEX, NODES)
    given = [array.astype(dtype) for array in (*GAT, *more)]
    for edges, sort in (((csr.src, csr.dst, NODES), csr.sort), ((*EDGE_INDEX, NODES), lambda given: given)):
        found = results(lambda *each: gat_with_edges(edges, *each, sort=sort), given, upstream.astype(dtype))  # noqa: B023
        compare(found, due, dtype)


@pytest.mark.parametrize("dtype", WITHIN)
def test_points_of_a_ball(pyg, dtype):
    points = numbers(NODES, INPUT) * 0.2
    apart = EDGE_INDEX[:, EDGE_INDEX[0] != EDGE_INDEX[1]]  # torch's acosh has no gradient at 1
    upstream = numbers(NODES, WIDTH)
    due = wanted(pyg_hyperbolic, pyg, apart, (points, numbers(NODES, WIDTH)), upstream)
    csr = ag.CSR.from_edge_index(EDGE_INDEX, NODES).remove_self_loops()
    given = [array.astype(dtype) for array in (points, numbers(NODES, WIDTH))]
    for edges in ((csr.src, csr.dst, NODES), (*apart, NODES)):
        found = results(lambda *each: layers.hyperbolic(*edges, *each), given, upstream.astype(dtype))  # noqa: B023
        compare(found, due, dtype)


def test_loops_as_the_layer_adds_them(pyg):
    upstream = numbers(NODES, BOTH)

    def theirs(pyg, edge_index, *tensors):
        return called(
            pyg.GATConv(INPUT, WIDTH, HEADS), ("lin.weight", "att_src", "att_dst", "bias"), edge_index, *tensors
        )

    due = wanted(theirs, pyg, EDGE_INDEX, GAT, upstream)
    csr = ag.CSR.from_edge_index(EDGE_INDEX, NODES).remove_self_loops().add_self_loops()
    compare(results(lambda *each: gat((csr.src, csr.dst, NODES), *each), GAT, upstream), due, "float64")


def test_a_bipartite_graph(pyg):
    sources, targets = 31, 9
    edge_index = np.stack([RNG.integers(0, sources, 60), RNG.integers(0, targets, 60)])
    csr = ag.CSR.from_edge_index(edge_index, (sources, targets))
    x = numbers(sources, INPUT)
    due = pyg.SimpleConv("mean")(
        tuple(map(torch.from_numpy, (x, numbers(targets, INPUT)))), torch.from_numpy(edge_index)
    )
    found = layers.mean(csr.src, csr.dst, csr.num_targets, ag.asarray(x)).compute()
    compare([found], [due.numpy()], "float64")
