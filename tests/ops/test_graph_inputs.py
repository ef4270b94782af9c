import numpy as np
import pytest

import attngraph as ag
from attngraph.ops.graph_inputs import check_pointers, check_room, counted, extremes, integers
from checks import check_raises


def test_integers_are_copied_in_their_own_type():
    given = np.array([[1, 2, 3], [4, 5, 6]], "uint8")[:, ::2]
    found = integers("here", "x", given, "(2, edges)")
    assert found.dtype == np.uint8
    assert not np.shares_memory(found, given)
    assert found.tolist() == given.tolist()
    assert integers("here", "x", [], "(edges,)").dtype == np.int64


def test_axes_are_held_to_what_is_said():
    for axes in ("(edges,)", "(3, edges)", "(2, edges, 2)"):
        check_raises(ag.ShapeError, "here: x is", integers, "here", "x", np.zeros((2, 4), int), axes)


def test_extremes_are_pythons_integers():
    assert extremes(np.array([3, 2**64 - 1], "uint64")) == (3, 2**64 - 1)
    assert extremes(np.zeros(0, int)) == (0, -1)


@pytest.mark.parametrize("number", [0, 5, np.int8(5), np.uint64(2**63)])
def test_numbers_that_count(number):
    assert counted("here", "k", number) == int(number)


def test_pointers_of_empty_rows():
    for pointers, edges in (([0], 0), ([0, 0, 0], 0), ([0, 2, 2], 2)):
        check_pointers("here", np.array(pointers), edges)


def test_room_is_what_memory_limit_says():
    with ag.config.set(memory_limit=2400):
        check_room("here", 50, 50)
        check_raises(
            ag.LimitError, "here: 50 nodes and 51 edges take some 2424 bytes, .* 2400", check_room, "here", 50, 51
        )
    check_room("here", 10**6, 10**6)
    check_raises(ag.LimitError, "half of this machine's memory", check_room, "here", 2**60, 0)
