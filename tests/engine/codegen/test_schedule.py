"""Sizes of tiles follow from a sweep's shape alone."""

import pytest

from attngraph.engine.codegen.schedule import schedule_for
from attngraph.engine.codegen.target import Target, named_target
from attngraph.engine.scalar import Axis
from attngraph.engine.sweep import Sweep


@pytest.mark.parametrize(
    ("rows", "columns", "vectors"),
    [
        (4096, 4096, 4),  # long
        (512, 4096, 1),  # too few blocks for many threads, too few columns for splits
        (64, 65536, 4),  # one whole block, and splits of the columns for every thread
        (40, 65536, 1),  # a third of a block would be computed for nothing
        (64, 4096, 1),
    ],
)
def test_large_blocks_of_rows_where_enough_tasks_are_left(rows, columns, vectors):
    target = named_target("x86-64-v4")
    assert isinstance(target, Target)
    sweep = Sweep((Axis("o1", 8),), Axis("o2", rows), Axis("j1", columns))
    assert schedule_for(target, sweep).vectors == vectors
