import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import attngraph as ag
from checks import check_raises

RNG = np.random.default_rng(4)
EDGE_INDEX = RNG.integers(0, 7, (2, 20))
CSR = ag.CSR.from_edge_index(EDGE_INDEX, 9)
SORTED = ag.CSR.from_indptr(CSR.indptr, CSR.indices)
GRAPHS = {
    "shuffled": CSR,
    "sorted": SORTED,
    "sampled": CSR.sample(2, seed=1),
    "without loops": CSR.remove_self_loops(),
    "with loops": CSR.sample(1, seed=2).add_self_loops(),
    "nothing left": CSR.sample(0, seed=0),
}


def given_edges(name):
    return 29 if name == "with loops" else 20


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool"])
def test_there_and_back(name, dtype):
    csr, given = GRAPHS[name], given_edges(name)
    for tail in ((), (3,), (2, 2)):
        values = (RNG.standard_normal((given, *tail)) * 3).astype(dtype)
        due = values[csr.edge_order]
        there = np.zeros_like(values)
        there[csr.edge_order] = due
        for result, expected in ((csr.sort(values), due), (csr.unsort(due), there)):
            assert isinstance(result, np.ndarray)
            assert result.dtype == dtype
            assert_array_equal(result, expected)
            assert not np.shares_memory(result, values)
        for result, expected in ((csr.sort(ag.asarray(values)), due), (csr.unsort(ag.asarray(due)), there)):
            assert isinstance(result, ag.Array)
            assert (result.dtype, result.shape) == (np.dtype(dtype), expected.shape)
            assert_array_equal(result.compute(), expected)


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_pass(name):
    csr, given = GRAPHS[name], given_edges(name)
    values, seed = RNG.standard_normal((given, 2)), RNG.standard_normal((csr.num_edges, 2))
    x, y = ag.asarray(values), ag.asarray(seed)
    (by_given,) = ag.gradients(ag.sum(csr.sort(x) * y), [x])
    assert_array_equal(by_given.compute(), csr.unsort(seed))
    (by_edge,) = ag.gradients(ag.sum(csr.unsort(y) * x), [y])
    assert_array_equal(by_edge.compute(), csr.sort(values))


def test_lists_and_tensors_become_lazy():
    values = list(range(20))
    assert_array_equal(CSR.sort(values).compute(), CSR.edge_order)
    torch = pytest.importorskip("torch")
    assert_array_equal(CSR.sort(torch.arange(20.0)).compute(), CSR.edge_order)


@given(seed=st.integers(0, 2**16), edges=st.integers(0, 40), nodes=st.integers(1, 9))
def test_any_graph(seed, edges, nodes):
    rng = np.random.default_rng(seed)
    edge_index, attributes = rng.integers(0, nodes, (2, edges)), rng.standard_normal(edges)
    csr = ag.CSR.from_edge_index(edge_index, nodes).sample(int(rng.integers(0, 5)), seed)
    triples = set(zip(*edge_index.tolist(), attributes.tolist(), strict=True))
    assert (
        set(zip(csr.indices.tolist(), csr.dst.compute().tolist(), csr.sort(attributes).tolist(), strict=True))
        <= triples
    )
    assert_array_equal(csr.sort(csr.unsort(csr.sort(attributes))), csr.sort(attributes))


def test_attributes_of_another_number():
    for values in (np.zeros(19), np.zeros((21, 2)), np.zeros(()), np.zeros((0, 20))):
        for each in (values, ag.asarray(values)):
            check_raises(ag.ShapeError, r"CSR\.sort: .*edge in the given order, of which there are 20", CSR.sort, each)
            check_raises(ag.ShapeError, r"CSR\.unsort: .*for each edge, of which there are 20", CSR.unsort, each)
    check_raises(ag.ShapeError, "of which there are 20", CSR.sample(1, 0).sort, np.zeros(7))
    check_raises(ag.DTypeError, "CSR.sort", CSR.sort, None)
    check_raises(ag.DTypeError, "CSR.sort", CSR.sort, np.array(["a"] * 20))
