import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from attngraph.ops.graph_order import Edges, sorted_by_target, stable_order


@given(
    seed=st.integers(0, 2**16),
    count=st.integers(0, 300),
    most=st.sampled_from((1, 2, 100, 65_535, 65_536, 65_537, 2**20, 2**31 - 1, 2**33)),
    dtype=st.sampled_from((np.int32, np.int64)),
)
def test_the_order_is_that_of_a_stable_sort(seed, count, most, dtype):
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, min(most, np.iinfo(dtype).max), 20).astype(dtype)  # so that some are equal
    keys = rng.choice(pool, count)
    order = stable_order(keys, most)
    assert_array_equal(np.arange(count) if order is None else order, np.argsort(keys, kind="stable"))
    assert stable_order(np.sort(keys), most) is None


def test_edges_of_one_target_stay_in_their_order():
    sources, targets = np.array([5, 1, 4, 1, 0]), np.array([2, 0, 2, 2, 0])
    edges = sorted_by_target(sources, targets, 6, 4)
    assert edges.indptr.tolist() == [0, 2, 2, 5, 5]
    assert edges.indices.tolist() == [1, 0, 5, 4, 1]
    assert edges.order.tolist() == [1, 4, 0, 2, 3]
    assert edges.rows().tolist() == [0, 0, 2, 2, 2]
    kept = edges.chosen(np.array([False, True, True, False, True]))
    assert kept.indptr.tolist() == [0, 1, 1, 3, 3]
    assert (kept.indices.tolist(), kept.order.tolist(), kept.given) == ([0, 5, 1], [4, 0, 3], 5)


@pytest.mark.parametrize(("sources", "dtype"), [(2**31 - 1, np.int32), (2**31, np.int64), (2**40, np.int64)])
def test_the_type_holds_all_that_is_counted(sources, dtype):
    edges = Edges(np.array([0, 1]), np.array([sources - 1]), None, 1, sources).compact()
    assert edges.indices.dtype == edges.indptr.dtype == edges.rows().dtype == edges.places().dtype == dtype
    assert edges.indices.tolist() == [sources - 1]
