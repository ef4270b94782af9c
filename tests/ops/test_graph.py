import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import attngraph as ag
from attngraph.engine.leaves import never_changes
from attngraph.ops import graph
from checks import check_raises

# Node 4 hears nothing, node 5 is alone; an edge is there twice, one is a loop.
EDGE_INDEX = np.array([[3, 0, 4, 1, 1, 2, 1, 0], [2, 1, 0, 2, 0, 2, 2, 3]])
CSR = ag.CSR.from_edge_index(EDGE_INDEX, num_nodes=6)


def edges_of(csr):
    """Pairs of a source and a target, row after row."""
    return list(zip(csr.indices.tolist(), csr.dst.compute().tolist(), strict=True))


def same(csr, other):
    for name in ("indptr", "indices", "edge_order"):
        assert_array_equal(getattr(csr, name), getattr(other, name))
    assert (csr.num_sources, csr.num_targets) == (other.num_sources, other.num_targets)


def test_what_it_holds():
    assert (CSR.num_nodes, CSR.num_sources, CSR.num_targets, CSR.num_edges) == (6, 6, 6, 8)
    assert CSR.indptr.tolist() == [0, 2, 3, 7, 8, 8, 8]
    assert edges_of(CSR) == [(4, 0), (1, 0), (0, 1), (3, 2), (1, 2), (2, 2), (1, 2), (0, 3)]
    assert CSR.edge_order.tolist() == [2, 4, 1, 0, 3, 5, 6, 7]
    assert_array_equal(EDGE_INDEX[0][CSR.edge_order], CSR.indices)
    assert_array_equal(EDGE_INDEX[1][CSR.edge_order], CSR.dst.compute())
    assert_array_equal(CSR.src.compute(), CSR.indices)
    assert repr(CSR) == "CSR(num_nodes=6, num_edges=8)"


def test_the_index_arrays_are_the_same_every_time_and_never_change():
    assert CSR.src is CSR.src
    assert CSR.dst.node.source is CSR.dst.node.source
    assert CSR.src.node.source is CSR.indices
    for array in (CSR.indptr, CSR.indices, CSR.edge_order, CSR.dst.node.source):
        assert array.dtype == np.int32
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 100
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
    ag.compute(CSR.src, CSR.dst)
    assert never_changes(CSR.src.node.source)
    assert never_changes(CSR.dst.node.source)


def test_it_keeps_nothing_of_what_it_was_made_of():
    edge_index = EDGE_INDEX.astype(np.int32)  # the type that it holds
    csr = ag.CSR.from_edge_index(edge_index, 6)
    edge_index[:] = 2**30
    same(csr, CSR)
    indptr, indices = CSR.indptr.copy(), CSR.indices.copy()
    csr = ag.CSR.from_indptr(indptr, indices)
    indptr[:], indices[:] = -1, 2**30
    assert edges_of(csr) == edges_of(CSR)


def test_an_empty_graph():
    for csr in (ag.CSR.from_edge_index([[], []]), ag.CSR.from_indptr([0], [])):
        assert (csr.num_nodes, csr.num_edges, edges_of(csr)) == (0, 0, [])
        assert csr.add_self_loops().num_edges == csr.k_hop(3).num_edges == csr.sample(2, 0).num_edges == 0
        assert ag.segment_sum(np.zeros((0, 2))[csr.indices], csr.dst, 0).compute().shape == (0, 2)
    lonely = ag.CSR.from_edge_index(np.zeros((2, 0), int), 3)
    assert (lonely.num_nodes, lonely.indptr.tolist()) == (3, [0, 0, 0, 0])
    assert edges_of(lonely.add_self_loops()) == [(0, 0), (1, 1), (2, 2)]
    assert_array_equal(ag.segment_sum(np.ones((3, 2))[lonely.indices], lonely.dst, 3).compute(), np.zeros((3, 2)))


def test_other_nodes_than_the_targets():
    csr = ag.CSR.from_edge_index([[4, 0, 4], [1, 0, 0]], num_nodes=(5, 2))
    assert repr(csr) == "CSR(num_sources=5, num_targets=2, num_edges=3)"
    assert edges_of(csr) == [(0, 0), (4, 0), (4, 1)]
    assert repr(csr.sample(1, seed=3)) == "CSR(num_sources=5, num_targets=2, num_edges=2)"
    for name in ("num_nodes", "add_self_loops", "remove_self_loops", "k_hop"):
        words = rf"CSR\.{name}: .*from 5 sources to 2 targets"
        check_raises(ag.ShapeError, words, lambda: getattr(csr, name)(*((1,) if name == "k_hop" else ())))  # noqa: B023


@pytest.mark.parametrize("csr", [CSR, CSR.sample(1, 0), ag.CSR.from_indptr([0, 1, 1], [3], 4)], ids=repr)
def test_it_pickles(csr):
    for other in (pickle.loads(pickle.dumps(csr)), copy.deepcopy(csr)):
        same(other, csr)
        assert not other.indices.flags.writeable
        attributes = np.arange(float(csr.unsort(csr.indices).shape[0]))
        assert_array_equal(other.sort(attributes), csr.sort(attributes))


def test_a_damaged_pickle_is_an_error():
    function, (indptr, indices, order, given, sources) = CSR.__reduce__()
    check_raises(ag.IndexOutOfRangeError, "out of range", function, indptr, indices + 6, order, given, sources)
    check_raises(ag.ArgumentError, "ends at", function, indptr, indices[1:], order, given, sources)


def test_it_is_made_by_its_makers_alone():
    check_raises(ag.ArgumentError, "CSR.from_edge_index", ag.CSR, EDGE_INDEX)


def test_it_is_static_in_compiled_functions():
    @ag.compile
    def total(x, csr):
        return ag.segment_sum(x[csr.src], csr.dst, csr.num_nodes)

    x = np.random.default_rng(0).standard_normal((6, 3))
    for csr in (CSR, CSR.add_self_loops(), CSR):
        due = np.zeros((6, 3))
        np.add.at(due, csr.dst.compute(), x[csr.indices])
        np.testing.assert_allclose(total(x, csr), due, rtol=1e-12)
    assert total.cache_info().misses == 2


def test_the_example_runs():
    example = graph.__doc__.split("\n\n", 2)[2]
    lines = [line.removeprefix("    ") for line in example.splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 20
    names = {"__name__": "example"}
    exec(compile("\n".join(lines), "the docstring of ops/graph.py", "exec"), names)
    assert names["out"].shape == (50, 4, 8)
