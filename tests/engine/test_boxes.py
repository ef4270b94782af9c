"""Boxes of arrays: where they lie, and in each other."""

import numpy as np

from attngraph.engine.boxes import holds, inside, shape_of, starts_of, union, whole_box

BOX, OTHER = (slice(2, 5), slice(0, 1)), (slice(3, 4), slice(0, 2))


def test_shapes_and_starts():
    assert whole_box((3, 2)) == (slice(0, 3), slice(0, 2))
    assert shape_of(BOX) == (3, 1)
    assert starts_of(BOX) == (2, 0)


def test_a_box_of_a_piece_is_the_box_of_the_whole():
    whole = np.arange(20).reshape(10, 2)
    piece = whole[1:7]
    np.testing.assert_array_equal(piece[inside(BOX, (1, 0))], whole[BOX])


def test_unions_hold_both():
    both = union(BOX, OTHER)
    assert both == (slice(2, 5), slice(0, 2))
    assert holds(both, BOX)
    assert holds(both, OTHER)
    assert not holds(BOX, OTHER)
