"""Where results lie along a sweep's axes."""

import pytest

from attngraph.engine.kernel import Elements
from attngraph.engine.passes.places import in_order, placed
from attngraph.engine.scalar import Axis
from attngraph.engine.sweep import Sweep

# A batch, rows, and shapes with the places of batch, rows and the small axis in them.
PLACES = [
    ((2, 3), 40, (2, 3, 40), (0, 1), 2, None),
    ((2, 3), 40, (2, 3, 40, 8), (0, 1), 2, 3),
    ((1, 3), 40, (1, 3, 1, 40, 8), (0, 1), 3, 4),
    ((1, 3, 1), 40, (1, 3, 40, 1, 8), (0, 1, 3), 2, 4),
    ((1, 3), 40, (3, 40, 8), (None, 0), 1, 2),
    ((), 40, (1, 40, 1), (), 1, None),
    ((40,), 40, (40, 40, 40), (0,), 1, 2),
]


@pytest.mark.parametrize(("batch", "rows", "shape", "batch_places", "row_place", "small_place"), PLACES)
def test_axes_of_length_one_are_no_obstacle(batch, rows, shape, batch_places, row_place, small_place):
    sweep = Sweep(tuple(Axis("b", length) for length in batch), Axis("i", rows), Axis("j", 50))
    found = placed(shape, sweep, sweep.rows, Elements(lambda _: True))
    assert found is not None
    axes, small = found
    assert tuple(axis.length for axis in axes) == shape
    assert axes.index(sweep.rows) == row_place
    assert small is (None if small_place is None else axes[small_place])
    for axis, place in zip(sweep.batch, batch_places, strict=True):
        assert axis.length == 1 or axes.index(axis) == place
    assert in_order(axes, sweep.batch)


@pytest.mark.parametrize("shape", [(2, 3, 41), (3, 2, 40), (2, 3, 40, 8, 8), (40,), (1, 1, 1), (2, 3, 8, 40)])
def test_other_shapes_have_no_place(shape):
    sweep = Sweep((Axis("b", 2), Axis("h", 3)), Axis("i", 40), Axis("j", 50))
    assert placed(shape, sweep, sweep.rows, Elements(lambda _: True)) is None
