"""Where axes are cut: ranges that are all of them, together."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph.engine.part_cuts import even_ranges, ranges_by, ranges_of_axes


def is_all_of(ranges, length):
    ends = [0, *itertools.chain.from_iterable(ranges), length]
    return all(left == right for left, right in zip(ends[::2], ends[1::2], strict=True))


@given(length=st.integers(0, 300), count=st.integers(1, 40), unit=st.sampled_from([1, 7, 64]))
def test_even_ranges(length, count, unit):
    found = even_ranges(length, count, unit)
    assert is_all_of(found, length)
    assert len(found) <= count
    assert all(first < stop and first % unit == 0 for first, stop in found)
    sizes = [stop - first for first, stop in found[:-1]]
    assert max(sizes, default=0) - min(sizes, default=0) <= unit


@given(length=st.integers(0, 300), size=st.integers(1, 40))
def test_ranges_of_a_size(length, size):
    found = ranges_by(length, size)
    assert is_all_of(found, length)
    assert all(stop - first == size for first, stop in found[:-1])


@pytest.mark.parametrize(
    ("lengths", "count", "may", "cuts", "more"),
    [
        ((2, 8), 4, None, (2, 2), 1),
        ((2, 8), 4, (False, True), (1, 4), 1),
        ((2, 8), 40, None, (2, 8), 3),
        ((3,), 1, None, (1,), 1),
        ((8,), 5, None, (4,), 1),
        ((100,), 64, None, (50,), 1),
        ((0, 3), 2, None, (0, 2), 1),
        ((), 5, None, (), 5),
    ],
)
def test_the_first_axes_are_cut_first(lengths, count, may, cuts, more):
    found, left = ranges_of_axes(lengths, count, may)
    assert tuple(map(len, found)) == cuts
    assert left == more
    assert all(is_all_of(ranges, length) for ranges, length in zip(found, lengths, strict=True))
