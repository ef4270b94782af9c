"""The order of edges by segments."""

import gc

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import segment_order
from attngraph.engine.config import config
from attngraph.engine.segment_order import order_of


def found(ids, count, wraps=False):
    return order_of(ids, count, wraps, config.cache_dir)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
@pytest.mark.parametrize("edges", [0, 1, 2, 500])
def test_edges_of_a_segment_stay_in_order(count, edges):
    ids = np.random.default_rng(edges).integers(0, count, edges)
    for given in (ids, np.sort(ids)):
        order = found(given, count)
        np.testing.assert_array_equal(np.diff(order.starts), np.bincount(given, minlength=count))
        places = np.arange(edges) if order.order is None else order.order
        np.testing.assert_array_equal(places, np.argsort(given, kind="stable"))
        assert (order.order is None) == bool((np.diff(given) >= 0).all())
        assert order.longest == np.bincount(given, minlength=count).max()


def test_tasks_hold_all_rows_and_about_as_many_edges():
    ids = np.repeat(np.arange(3000), np.random.default_rng(0).integers(0, 30, 3000))
    order = found(ids, 3000)
    assert order.bounds[0] == 0
    assert order.bounds[-1] == 3000
    work = np.diff(order.starts[order.bounds])
    assert len(work) > 5
    assert work.max() < 2 * segment_order._TASK_EDGES


@pytest.mark.parametrize(("ids", "wraps"), [([0, 3], True), ([0, -4], True), ([0, -1], False), ([0, 3], False)])
def test_ids_out_of_range_have_no_order(ids, wraps):
    assert found(np.array(ids), 3, wraps) is None


def test_negative_ids_wrap_where_they_may():
    order = found(np.array([-1, 0, -3, 2]), 3, wraps=True)
    np.testing.assert_array_equal(order.order, [1, 2, 0, 3])
    np.testing.assert_array_equal(order.starts, [0, 2, 2, 4])


def test_constants_are_ordered_once():
    ids = np.array([1, 0, 1])
    constant = ag.constant(ids).node.reference()
    before = len(segment_order._known)
    assert found(constant, 2) is found(constant, 2)
    assert found(ids.copy(), 2) is not found(ids.copy(), 2)
    assert len(segment_order._known) == before + 1
    del constant
    gc.collect()
