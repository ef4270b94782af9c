"""Layers of graph networks on random graphs: kernels beside the interpreter in float64, values and gradients."""

import graph_layers as layers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import attngraph as ag

HEADS, WIDTH = 2, 3
# Of what a layer takes, by the lengths of its axes: nodes, edges, heads, width.
SHAPES = {
    "gat": ("nhf", "1hf", "1hf"),
    "gatv2": ("nhf", "nhf", "1hf"),
    "dot_product": ("nhf", "nhf", "nhf"),
    "hyperbolic": ("nf", "nf"),
    "total": ("nf",),
    "mean": ("nf",),
    "largest": ("nf",),
    "soft": ("nf", "1"),
    "moments": ("nf",),
    "on edges": ("nhf", "1hf", "1hf", "eh"),
    "hidden": ("nhf", "1hf", "1hf"),
}


def layer_of(name, edges, keep):
    """The layer on these edges; of one, some edges are hidden."""
    if name == "hidden":
        return lambda *given: layers.gat(*edges, *given, on_edges=ag.where(keep[:, None], 0.0, -ag.inf))
    function = layers.gat if name == "on edges" else getattr(layers, name)
    return lambda *given: function(*edges, *given)


def drawn(seed, name, nodes, edges):
    """The edges in their given order, which of them are seen, and the arrays of a layer."""
    rng = np.random.default_rng(seed)
    heard = max(1, nodes - rng.integers(0, 3))  # some nodes hear nothing
    edge_index = np.stack([rng.integers(0, max(nodes, 1), edges), rng.integers(0, heard, edges)])
    lengths = {"n": nodes, "e": edges, "h": HEADS, "f": WIDTH, "1": 1}
    arrays = [rng.standard_normal([lengths[axis] for axis in axes]) for axes in SHAPES[name]]
    if name == "hyperbolic":
        arrays[0] *= 0.2  # inside the ball
    return edge_index, rng.random(edges) < 0.5, arrays


def step_of(layer):
    def step(upstream, *given):
        value, pullback = ag.vjp(layer, *given)
        return (value, *pullback(upstream))

    return step


@given(
    seed=st.integers(0, 2**16),
    name=st.sampled_from(sorted(SHAPES)),
    nodes=st.sampled_from((0, 1, 2, 7, 16, 17, 33)),
    edges=st.sampled_from((0, 1, 3, 16, 31, 90)),
    is_sorted=st.booleans(),
    index=st.sampled_from(("int32", "int64", "uint8")),
    dtype=st.sampled_from(("float32", "float64")),
)
def test_any_graph(seed, name, nodes, edges, is_sorted, index, dtype):
    edges = edges if nodes else 0
    edge_index, keep, arrays = drawn(seed, name, nodes, edges)
    if is_sorted:
        csr = ag.CSR.from_edge_index(edge_index, nodes)
        sides, keep = (csr.src, csr.dst, csr.num_nodes), csr.sort(keep)
    else:
        sides = (*map(ag.asarray, edge_index.astype(index)), nodes)
    layer = layer_of(name, sides, ag.asarray(keep))
    arrays = [array.astype(dtype) for array in arrays]
    upstream = np.random.default_rng(seed + 1).standard_normal(layer(*map(ag.asarray, arrays)).shape).astype(dtype)
    step = step_of(layer)
    with ag.config.set(target="reference64"):
        due = ag.compute(*step(*map(ag.asarray, (upstream, *arrays))))
    found = ag.compile(step)(upstream, *arrays)
    within = 2e-5 if dtype == "float32" else 1e-12
    for number, (ours, exact) in enumerate(zip(found, due, strict=True)):
        assert (ours.shape, ours.dtype) == (exact.shape, np.dtype(dtype))
        assert np.isfinite(exact).all()
        largest = max(1.0, np.abs(exact).max(initial=0))
        assert_allclose(ours, exact, rtol=0, atol=within * largest, err_msg=f"{name}, number {number}")


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_bits_for_any_number_of_threads(name):
    edge_index, keep, arrays = drawn(0, name, 3001, 24_007)
    csr = ag.CSR.from_edge_index(edge_index, 3001)
    layer = layer_of(name, (csr.src, csr.dst, csr.num_nodes), ag.asarray(csr.sort(keep)))
    arrays = [array.astype("float32") for array in arrays]
    upstream = np.ones(layer(*map(ag.asarray, arrays)).shape, "float32")
    step = ag.compile(step_of(layer))
    results = []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            results.append(step(upstream, *arrays))
    for result in results[1:]:
        for ours, first in zip(result, results[0], strict=True):
            assert_array_equal(ours, first)


@pytest.mark.parametrize("name", SHAPES)
def test_nodes_that_hear_nothing_give_zeros(name):
    csr = ag.CSR.from_edge_index([[1, 2, 0], [0, 0, 1]], 4)
    shown = np.array([True, True, False])  # and node 1, if what it hears is hidden
    arrays = drawn(1, name, 4, 3)[2]
    step = ag.compile(step_of(layer_of(name, (csr.src, csr.dst, 4), ag.asarray(csr.sort(shown)))))
    out = layer_of(name, (csr.src, csr.dst, 4), ag.asarray(shown))(*map(ag.asarray, arrays))
    value, *gradients = step(np.ones(out.shape), *arrays)
    assert not value[2:].any()
    assert name != "hidden" or not value[1].any()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert len(gradient) != 4 or not gradient[3].any()  # node 3 sends to none
