import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import attngraph as ag
from checks import INTEGERS, check_raises
from strategies import LAYOUTS, laid_out

EDGE_INDEX = np.array([[3, 0, 4, 1, 1], [2, 1, 0, 2, 0]])
DUE = [[4, 1, 0, 3, 1], [0, 0, 1, 2, 2]]


def edges_of(csr):
    return [csr.indices.tolist(), csr.dst.compute().tolist()]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_of_every_type_and_layout(dtype, layout):
    csr = ag.CSR.from_edge_index(laid_out(EDGE_INDEX.astype(dtype), layout))
    assert edges_of(csr) == DUE
    assert csr.num_nodes == 5
    again = ag.CSR.from_indptr(laid_out(csr.indptr.astype(dtype), layout), laid_out(csr.indices.astype(dtype), layout))
    assert edges_of(again) == DUE
    assert_array_equal(again.edge_order, np.arange(5))


def test_lists_lazy_arrays_and_tensors():
    for edge_index in (EDGE_INDEX.tolist(), tuple(EDGE_INDEX), ag.asarray(EDGE_INDEX) + 0, memoryview(EDGE_INDEX)):
        assert edges_of(ag.CSR.from_edge_index(edge_index)) == DUE
    torch = pytest.importorskip("torch")
    assert edges_of(ag.CSR.from_edge_index(torch.from_numpy(EDGE_INDEX))) == DUE


@given(seed=st.integers(0, 2**16), edges=st.integers(0, 40), sources=st.integers(1, 9), targets=st.integers(1, 9))
def test_a_matrix_is_the_same_in_any_format(seed, edges, sources, targets):
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, targets, edges), rng.integers(0, sources, edges)
    values = rng.integers(0, 3, edges).astype(float)  # some are zeros that are stored
    matrix = sparse.coo_array((values, (rows, columns)), shape=(targets, sources))
    csr = ag.CSR.from_scipy(matrix)
    same = ag.CSR.from_edge_index(np.stack([columns, rows]), (sources, targets))
    assert edges_of(csr) == edges_of(same)
    assert (csr.num_sources, csr.num_targets) == (sources, targets)
    assert_array_equal(csr.sort(values), same.sort(values))
    x = rng.standard_normal((sources, 2))
    for kind in ("csr", "csc", "bsr", "dok", "lil", "dia"):
        made = matrix.asformat(kind)
        csr = ag.CSR.from_scipy(made)
        weights = csr.sort(made.data if kind in ("csr", "csc") else made.tocoo().data)
        product = ag.segment_sum(weights[:, None] * ag.asarray(x)[csr.src], csr.dst, targets)
        np.testing.assert_allclose(product.compute(), matrix @ x, atol=1e-12)


@pytest.mark.parametrize(
    ("edge_index", "num_nodes", "error", "words"),
    [
        (EDGE_INDEX, 4, ag.IndexOutOfRangeError, r"source 4 of edge 2 is out of range for num_nodes=4"),
        (EDGE_INDEX[::-1], 4, ag.IndexOutOfRangeError, r"target 4 of edge 2 is out of range for num_nodes=4"),
        (EDGE_INDEX, (4, 9), ag.IndexOutOfRangeError, r"source 4 of edge 2 is out of range for num_sources=4"),
        (EDGE_INDEX, (9, 2), ag.IndexOutOfRangeError, r"target 2 of edge 0 is out of range for num_targets=2"),
        (EDGE_INDEX - 1, None, ag.IndexOutOfRangeError, r"source -1 of edge 1 is negative"),
        (EDGE_INDEX - 1, 9, ag.IndexOutOfRangeError, r"negative"),
        ([[0], [2**40]], 5, ag.IndexOutOfRangeError, rf"target {2**40} of edge 0"),
        (np.array([[0], [2**64 - 1]], "uint64"), 5, ag.IndexOutOfRangeError, rf"target {2**64 - 1}"),
        ([[0], [2**40]], None, ag.LimitError, r"number nodes without gaps"),
        ([[0], [2**63 - 1]], None, ag.LimitError, r"number nodes without gaps"),
        (np.array([[0], [2**64 - 1]], "uint64"), None, ag.LimitError, r"number nodes without gaps"),
        (EDGE_INDEX, 2**70, ag.LimitError, r"nodes and 5 edges"),
        (EDGE_INDEX.astype(float), None, ag.DTypeError, r"edge_index holds integers, not float64\[2, 5\]"),
        (EDGE_INDEX > 1, None, ag.DTypeError, r"edge_index holds integers, not bool"),
        (np.zeros((2, 0)), None, ag.DTypeError, r"edge_index holds integers, not float64"),
        (EDGE_INDEX.astype(complex), None, ag.DTypeError, r"complex128 is not supported"),
        ([[0], [2**70]], None, ag.DTypeError, r"edge_index"),
        ([[0], [None]], None, ag.DTypeError, r"edge_index"),
        (None, None, ag.DTypeError, r"edge_index"),
        (EDGE_INDEX.T, None, ag.ShapeError, r"edge_index is \(2, edges\), not int64\[5, 2\]; pass its transpose"),
        (EDGE_INDEX[0], None, ag.ShapeError, r"edge_index is \(2, edges\), not int64\[5\]"),
        (EDGE_INDEX[None], None, ag.ShapeError, r"\(2, edges\)"),
        (np.zeros((3, 4), int), None, ag.ShapeError, r"\(2, edges\), not int64\[3, 4\]"),
        (3, None, ag.ShapeError, r"\(2, edges\)"),
        ([[0, 1], [0]], None, ag.ShapeError, r"ragged"),
        (EDGE_INDEX, -1, ag.ArgumentError, r"num_nodes is a whole number that is not negative, not -1"),
        (EDGE_INDEX, 5.0, ag.ArgumentError, r"num_nodes is an integer, not 5.0"),
        (EDGE_INDEX, True, ag.ArgumentError, r"num_nodes is a whole number"),
        (EDGE_INDEX, (5,), ag.ArgumentError, r"num_nodes is one number, or those of sources and targets"),
        (EDGE_INDEX, (5, -5), ag.ArgumentError, r"num_nodes is a whole number"),
        (EDGE_INDEX, "5", ag.ArgumentError, r"num_nodes is an integer"),
    ],
)
def test_edges_that_are_none(edge_index, num_nodes, error, words):
    check_raises(error, r"CSR\.from_edge_index: (?s:.*)" + words, ag.CSR.from_edge_index, edge_index, num_nodes)


@pytest.mark.parametrize(
    ("indptr", "indices", "error", "words"),
    [
        ([0, 2, 1, 3], [0, 1, 2], ag.ArgumentError, r"indptr never decreases, but row 1 is from 2 to 1"),
        ([1, 2, 3], [0, 1, 0], ag.ArgumentError, r"indptr begins at 0, not at 1"),
        ([-1, 2, 3], [0, 1, 0], ag.ArgumentError, r"indptr begins at 0, not at -1"),
        ([0, 2, 4], [0, 1, 0], ag.ArgumentError, r"indptr ends at 4, and there are 3 indices"),
        ([0, 2, 2], [0, 1, 0], ag.ArgumentError, r"indptr ends at 2, and there are 3 indices"),
        (np.array([0, 2**63 + 1, 3], "uint64"), [0, 1, 0], ag.ArgumentError, r"indptr never decreases"),
        ([0, 2**62, 3], [0, 1, 0], ag.ArgumentError, r"indptr never decreases"),
        (np.array([0, 2, 2**63 + 3], "uint64"), [0, 1, 0], ag.ArgumentError, r"indptr ends at"),
        ([], [], ag.ArgumentError, r"one more entry than there are targets, not none"),
        ([0, 2, 3], [0, 1, 2], ag.IndexOutOfRangeError, r"source 2 of edge 2 is out of range for num_nodes=2"),
        ([0, 2, 3], [0, -1, 1], ag.IndexOutOfRangeError, r"source -1 of edge 1 is negative"),
        ([0, 1], [2**40], ag.IndexOutOfRangeError, rf"source {2**40}"),
        ([0.0, 2, 3], [0, 1, 0], ag.DTypeError, r"indptr holds integers, not float32\[3\]"),
        ([0, 2, 3], [0, 1, 0.5], ag.DTypeError, r"indices holds integers"),
        ([[0, 2, 3]], [0, 1, 0], ag.ShapeError, r"indptr is \(targets \+ 1,\), not int64\[1, 3\]"),
        ([0, 2, 3], [[0, 1, 0]], ag.ShapeError, r"indices is \(edges,\)"),
        (0, [], ag.ShapeError, r"indptr is"),
    ],
)
def test_rows_that_are_none(indptr, indices, error, words):
    check_raises(error, r"CSR\.from_indptr: (?s:.*)" + words, ag.CSR.from_indptr, indptr, indices)


def test_other_sources_than_targets():
    assert ag.CSR.from_indptr([0, 2, 3], [7, 1, 9], num_sources=10).num_sources == 10
    check_raises(ag.IndexOutOfRangeError, "num_sources=9", ag.CSR.from_indptr, [0, 2, 3], [7, 1, 9], 9)
    check_raises(ag.ArgumentError, "num_sources is", ag.CSR.from_indptr, [0, 2, 3], [7, 1, 9], -1)
    check_raises(ag.LimitError, "edges take some", ag.CSR.from_indptr, [0, 2, 3], [7, 1, 9], 2**62)


class Matrix:
    """What claims to be a sparse matrix."""

    def __init__(self, shape, row, col):
        self.shape, self.row, self.col = shape, np.asarray(row), np.asarray(col)

    def tocoo(self):
        return self


def test_matrices_that_are_none():
    make = ag.CSR.from_scipy
    assert edges_of(make(Matrix((2, 3), [1, 0], [2, 0]))) == [[0, 2], [0, 1]]
    check_raises(ag.IndexOutOfRangeError, "target 2 .*num_targets=2", make, Matrix((2, 3), [2, 0], [2, 0]))
    check_raises(ag.IndexOutOfRangeError, "source 3 .*num_sources=3", make, Matrix((2, 3), [1, 0], [3, 0]))
    check_raises(ag.IndexOutOfRangeError, "negative", make, Matrix((2, 3), [1, 0], [-1, 0]))
    check_raises(ag.ShapeError, "2 rows and 1 columns", make, Matrix((2, 3), [1, 0], [0]))
    check_raises(ag.DTypeError, "row holds integers", make, Matrix((2, 3), [1.0, 0], [0, 0]))
    check_raises(ag.ArgumentError, r"shape\[1\]", make, Matrix((2, -3), [], []))
    for junk in (np.eye(3), None, "matrix", Matrix((2,), [], []), [[1, 0]]):
        check_raises(ag.ArgumentError, "CSR.from_scipy: takes a sparse matrix", make, junk)


def test_a_lazy_array_cannot_be_sorted_while_a_function_is_traced():
    compiled = ag.compile(lambda edges, x: ag.segment_sum(x, ag.CSR.from_edge_index(edges, 5).dst, 5))
    check_raises(ag.TraceError, "traced", compiled, EDGE_INDEX, np.ones(5))


KINDS = st.sampled_from([*INTEGERS, "float32", "bool", "uint64", "int64"])
WILD = st.sampled_from([0, 1, 2, 3, -1, -2, 5, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, -(2**63), 2**64 - 1])


@st.composite
def wild_arrays(draw, shapes):
    """Arrays of junk: mostly small numbers, sometimes such as overflow."""
    dtype = np.dtype(draw(KINDS))
    numbers = st.integers(0, 4) if draw(st.booleans()) else WILD
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return draw(hnp.arrays(dtype, draw(shapes), elements=numbers.filter(lambda x: limits.min <= x <= limits.max)))
    return draw(hnp.arrays(dtype, draw(shapes)))


@given(
    edge_index=wild_arrays(
        st.one_of(st.tuples(st.just(2), st.integers(0, 8)), hnp.array_shapes(max_dims=3, max_side=3))
    ),
    num_nodes=st.one_of(st.none(), st.integers(-1, 6), st.tuples(st.integers(0, 6), st.integers(0, 6))),
)
def test_whatever_is_given_is_a_graph_or_an_error(edge_index, num_nodes):
    csr = whole_or_error(ag.CSR.from_edge_index, edge_index, num_nodes)
    if csr is None:
        return
    source, target = edge_index[:, csr.edge_order]
    assert_array_equal(source, csr.indices)
    assert_array_equal(target, csr.dst.compute())


@given(
    indptr=wild_arrays(st.tuples(st.integers(0, 5))),
    indices=wild_arrays(st.tuples(st.integers(0, 6))),
    sources=st.one_of(st.none(), st.integers(-1, 6)),
    right=st.booleans(),
)
def test_whatever_rows_are_given(indptr, indices, sources, right):
    if right and indptr.size and indptr.dtype.kind in "iu":  # otherwise hardly any is
        indptr = np.sort(np.clip(indptr, 0, len(indices)))
        indptr[0], indptr[-1] = 0, len(indices)
    csr = whole_or_error(ag.CSR.from_indptr, indptr, indices, sources)
    if csr is not None:
        assert_array_equal(csr.indptr, indptr)
        assert_array_equal(csr.indices, indices)


def whole_or_error(make, *junk):
    """A graph that holds together, or None for a typed error."""
    # What needs gigabytes is no error on a machine that has them; here it is.
    with ag.config.set(memory_limit="64MiB"):
        try:
            csr = make(*junk)
        except ag.AttnGraphError:
            return None
    is_whole(csr)
    return csr


def is_whole(csr):
    """Nothing in it points outside, and what is computed by it is right."""
    assert csr.indptr[0] == 0
    assert csr.indptr[-1] == csr.num_edges == len(csr.indices) == len(csr.edge_order)
    assert (np.diff(csr.indptr) >= 0).all()
    assert ((csr.indices >= 0) & (csr.indices < csr.num_sources)).all()
    assert sorted(csr.edge_order.tolist()) == list(range(csr.num_edges))
    x = np.arange(1.0, csr.num_sources + 1)
    due = np.zeros(csr.num_targets)
    np.add.at(due, np.repeat(np.arange(csr.num_targets), np.diff(csr.indptr)), x[csr.indices])
    if csr.num_sources:
        assert_array_equal(ag.segment_sum(ag.asarray(x)[csr.src], csr.dst, csr.num_targets).compute(), due)
    if csr.num_sources == csr.num_targets:
        for other in (csr.add_self_loops(), csr.remove_self_loops(), csr.k_hop(2), csr.sample(1, 0)):
            assert other.indptr[-1] == other.num_edges
            assert ((other.indices >= 0) & (other.indices < csr.num_nodes)).all()
