import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import attngraph as ag
from attngraph.ops import graph_neighbours
from checks import check_raises

GRAPHS = st.tuples(st.integers(0, 2**16), st.integers(1, 12), st.integers(0, 30))


def made(drawn):
    """A graph, and its edges as pairs."""
    seed, nodes, edges = drawn
    edge_index = np.random.default_rng(seed).integers(0, nodes, (2, edges))
    return ag.CSR.from_edge_index(edge_index, nodes), edge_index


def pairs(csr):
    return list(zip(csr.indices.tolist(), csr.dst.compute().tolist(), strict=True))


@given(GRAPHS)
def test_loops_are_added_behind_all_others(drawn):
    csr, edge_index = made(drawn)
    looped = csr.add_self_loops()
    loops = np.stack([np.arange(csr.num_nodes)] * 2)
    due = np.concatenate([edge_index, loops], axis=1)
    assert_array_equal(due[:, looped.edge_order], np.transpose(pairs(looped)))
    again = ag.CSR.from_edge_index(due, csr.num_nodes)
    assert_array_equal(looped.indices, again.indices)
    assert_array_equal(looped.edge_order, again.edge_order)


@given(GRAPHS)
def test_loops_are_removed(drawn):
    csr, edge_index = made(drawn)
    without = csr.remove_self_loops()
    assert pairs(without) == [(source, target) for source, target in pairs(csr) if source != target]
    assert_array_equal(edge_index[0][without.edge_order], without.indices)
    assert len(pairs(without.add_self_loops())) == without.num_edges + csr.num_nodes


@given(GRAPHS, st.integers(0, 5))
def test_walks(drawn, steps):
    csr, _ = made(drawn)
    adjacent = np.zeros((csr.num_nodes, csr.num_nodes), bool)
    for source, target in pairs(csr):
        adjacent[target, source] = True
    walks, due = np.eye(csr.num_nodes, dtype=bool), np.zeros_like(adjacent)
    for _ in range(steps):
        walks = walks @ adjacent
        due |= walks
    np.fill_diagonal(due, adjacent.diagonal() & (steps > 0))
    reach = csr.k_hop(steps)
    assert pairs(reach) == [(source, target) for target, source in np.argwhere(due)]
    assert_array_equal(reach.edge_order, np.arange(reach.num_edges))


def test_walks_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    csr = ag.CSR.from_edge_index(rng.integers(0, 300, (2, 900)), 300)
    whole = csr.k_hop(3)
    for most, targets in ((1, 7), (50, 300), (4000, 128)):
        monkeypatch.setattr(graph_neighbours, "_MOST_PAIRS", most)
        monkeypatch.setattr(graph_neighbours, "_TARGETS", targets)
        assert_array_equal(csr.k_hop(3).indices, whole.indices)
        assert_array_equal(csr.k_hop(3).indptr, whole.indptr)


def test_walks_beyond_the_memory_are_an_error():
    rng = np.random.default_rng(0)
    csr = ag.CSR.from_edge_index(rng.integers(0, 300, (2, 3000)), 300)
    with ag.config.set(memory_limit="1MiB"):
        check_raises(ag.LimitError, "CSR.k_hop: 300 nodes and .*memory_limit", csr.k_hop, 3)
        assert csr.k_hop(1).num_edges < 3000


@given(GRAPHS, st.integers(0, 6), st.integers(0, 99))
def test_samples(drawn, count, seed):
    csr, edge_index = made(drawn)
    sample = csr.sample(count, seed=seed)
    degrees = np.diff(csr.indptr)
    assert_array_equal(np.diff(sample.indptr), np.minimum(degrees, count))
    assert len(set(sample.edge_order.tolist())) == sample.num_edges  # without replacement
    assert_array_equal(edge_index[:, sample.edge_order], np.array(pairs(sample), int).reshape(-1, 2).T)
    # In the order that they had.
    place = {edge: number for number, edge in enumerate(csr.edge_order.tolist())}
    chosen = [place[edge] for edge in sample.edge_order.tolist()]
    assert chosen == sorted(chosen)
    assert_array_equal(csr.sample(count, seed).edge_order, sample.edge_order)


def test_every_edge_is_as_likely():
    csr = ag.CSR.from_edge_index([[0, 1, 2, 3, 4, 0, 1], [0, 0, 0, 0, 0, 1, 1]], 5)
    times = np.zeros(7)
    for seed in range(2000):
        times[csr.sample(2, seed).edge_order] += 1
    assert_array_equal(times[5:], 2000)
    # 800 expected of a binomial whose deviation is 22.
    assert np.abs(times[:5] - 800).max() < 5 * 22
    assert any((csr.sample(2, 0).edge_order != csr.sample(2, seed).edge_order).any() for seed in range(1, 9))


@pytest.mark.parametrize("junk", [-1, 1.5, True, None, "2", np.float32(1), -(2**70)], ids=repr)
def test_counts_that_are_none(junk):
    csr = ag.CSR.from_edge_index([[0, 1], [1, 0]])
    check_raises(ag.ArgumentError, r"CSR\.k_hop: k is", csr.k_hop, junk)
    check_raises(ag.ArgumentError, r"CSR\.sample: count is", csr.sample, junk, 0)
    check_raises(ag.ArgumentError, r"CSR\.sample: seed is", csr.sample, 1, junk)


def test_huge_counts():
    csr = ag.CSR.from_edge_index([[0, 1, 0], [1, 0, 1]])
    assert pairs(csr.sample(2**70, seed=2**70)) == pairs(csr)
    assert pairs(csr.k_hop(2**70)) == [(1, 0), (0, 1)]
    check_raises(ag.TraceError, "__index__", csr.k_hop, ag.asarray(1) + 1)
