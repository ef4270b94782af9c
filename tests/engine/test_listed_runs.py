"""Runs of columns against an array of all pairs: a run is what its rows see, and nothing else is seen."""

import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from attngraph.engine.kernel import Elements
from attngraph.engine.leaves import Placeholder
from attngraph.engine.listed_runs import runs_of
from attngraph.engine.passes.listed import listed_by
from attngraph.engine.scalar import Axis
from attngraph.engine.summaries import evaluate
from attngraph.engine.sweep import Sweep
from attngraph.engine.types import BOOL, INT64, TensorType


def made(lists, numbers, of_rows, block_rows):
    """``begins`` and ``runs`` for numbers of lists and of values, of rows and columns or the other way round."""
    elements = Elements(lambda _: True)
    first, second = (Axis(name, values.shape[-1]) for name, values in zip("rc", numbers, strict=True))
    rows, columns = (first, second) if of_rows else (second, first)
    heads = numbers[0].shape[0]
    batch = Axis("h", heads)
    sweep = Sweep((batch,), rows, columns)
    tables = [Placeholder.new(TensorType(values.shape, INT64)) for values in numbers]
    arrays = dict(zip(tables, numbers, strict=True))
    at = elements.index(batch)
    sides = [
        elements.element(node, [at, elements.index(axis)]) for node, axis in zip(tables, (first, second), strict=True)
    ]
    starts, indices = (Placeholder.new(TensorType((9,), INT64)) for _ in range(2))
    condition = elements.make("listed", (elements.constant(True, BOOL), *sides), BOOL, (starts, indices))
    listed = listed_by(sweep, elements, condition)
    assert listed is not None
    packed = np.cumsum([0, *map(len, lists)]), np.array([*(x for some in lists for x in sorted(some)), 0])

    def values(scalar, places):
        return evaluate([scalar], arrays, places)[0]

    return listed, runs_of(listed, sweep, *packed, block_rows, int, values)


@given(
    lists=st.lists(st.sets(st.integers(0, 12), max_size=9), max_size=6),
    heads=st.integers(1, 3),
    data=st.data(),
    of_rows=st.booleans(),
    block_rows=st.sampled_from([1, 4, 8, 16, 32, 64]),
)
def test_runs_are_what_rows_see(lists, heads, data, of_rows, block_rows):
    def numbers(length, least, most):
        some = st.lists(st.integers(least, most), min_size=length, max_size=length)
        # Numbers that stay the same for a while, as of blocks, and ones that do not.
        repeated = some.map(lambda each: np.repeat(each, 5)[:length])
        return np.array([data.draw(st.one_of(some, repeated)) for _ in range(heads)], np.int64)

    length, width = data.draw(st.integers(2, 70)), data.draw(st.integers(2, 40))
    which, value = numbers(length, -1, 7), numbers(width, -1, 14)
    _, (begins, runs) = made(lists, (which, value), of_rows, block_rows)
    seen = np.array(
        [[[0 <= n < len(lists) and x in lists[n] for x in value[h]] for n in which[h]] for h in range(heads)], bool
    ).reshape(heads, length, width)
    seen = seen if of_rows else seen.swapaxes(1, 2)
    rows, columns = seen.shape[1:]
    found = np.zeros_like(seen)
    begins = np.broadcast_to(begins, (heads, *begins.shape[-1:]))
    for head, block in np.ndindex(heads, begins.shape[1] - 1):
        previous = -1
        for first, stop, bits in runs[begins[head, block] : begins[head, block + 1]]:
            assert 0 <= first < stop <= columns
            assert first >= previous, "runs are in order, and none overlaps another"
            previous = stop
            for row in range(min(block_rows, rows - block * block_rows)):
                found[head, block * block_rows + row, first:stop] = bits >> row & 1
            if seen[head, block * block_rows : (block + 1) * block_rows, first:stop].all():
                assert bits == (-1 if block_rows == 64 else (1 << block_rows) - 1), "what all rows see is full"
    np.testing.assert_array_equal(found, seen)


def test_neighbours_are_one_run():
    numbers = np.zeros((1, 32), np.int64), np.arange(40)[None] // 10
    _, (begins, runs) = made([{0, 1, 3}], numbers, True, 16)
    assert begins.tolist() == [0, 2, 4]
    assert runs[:4].tolist() == [[0, 20, 65535], [30, 40, 65535]] * 2


def test_long_sequences_have_no_table_of_blocks():
    """All is in proportion to rows, columns and entries: a table of 2 ** 28 blocks would be seen."""
    positions = np.arange(2**18)[None] // 16
    lists = [set() for _ in range(2**14)]
    for place in range(0, 2**14, 7):
        lists[place] = {place, 2**14 - 1 - place}
    tracemalloc.start()
    try:
        _, (begins, runs) = made(lists, (positions, positions), True, 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**26
    assert begins[-1] == len(runs) - 1 == sum(map(len, lists))


@pytest.mark.parametrize("sides", [("r", "r"), ("rc", "c"), ("", "c")])
def test_what_is_of_both_is_no_list(sides):
    elements = Elements(lambda _: True)
    axes = {"r": Axis("r", 20), "c": Axis("c", 20)}
    sweep = Sweep((), axes["r"], axes["c"])
    numbers = []
    for side in sides:
        number = elements.constant(0)
        for name in side:
            number = elements.add(elements.index(axes[name]), number)
        numbers.append(number)
    nodes = tuple(Placeholder.new(TensorType((9,), INT64)) for _ in range(2))
    condition = elements.make("listed", (elements.constant(True, BOOL), *numbers), BOOL, nodes)
    assert listed_by(sweep, elements, condition) is None
