"""Free lengths: what pins them and what does not."""

import math

import pytest

from attngraph.engine.lengths import LEAST, Length, Lengths, PinnedError, estimate, is_free, longest, pin


@pytest.fixture
def pinned():
    return set()


@pytest.fixture
def rows(pinned):
    return Length(100, 0, pinned)


@pytest.fixture
def columns(pinned):
    return Length(200, 1, pinned)


def test_what_holds_for_every_length_pins_none(pinned, rows, columns):
    assert rows == rows
    assert rows != columns
    assert (1, rows) != (1, columns)
    assert (rows, columns) == (rows, columns)
    assert rows in (columns, rows)
    assert rows != 1
    assert rows > 1
    assert rows >= LEAST
    assert not rows < LEAST
    assert not rows <= 3
    assert bool(rows)
    assert {rows: 1}[rows] == 1
    assert estimate(rows) * 2 == 200
    assert type(estimate(rows)) is int
    assert longest(rows) >= 127
    assert not pinned


@pytest.mark.parametrize(
    "look",
    [
        lambda n: n + 1,
        lambda n: 1 - n,
        lambda n: 2 * n,
        lambda n: n // 3,
        lambda n: 1 / n,
        lambda n: n % 7,
        lambda n: -n,
        lambda n: n**-0.5,
        math.sqrt,
        lambda n: math.prod([n, 2]),
        lambda n: sum([n, 2]),
        int,
        float,
        lambda n: n > 64,
        lambda n: n <= 100,
        lambda n: n == 100,
        lambda n: n != 64,
        lambda n: divmod(n, 5),
        lambda n: n & 1,
        lambda n: n << 1,
        round,
        lambda n: pin(((1, n), 2)),
    ],
)
def test_a_look_pins(look, pinned, rows):
    look(rows)
    assert pinned == {0}


def test_results_of_arithmetic_are_ordinary(rows, columns, pinned):
    assert type(rows + columns) is int
    assert pinned == {0, 1}


def test_the_larger_of_two_pins_both(rows, columns, pinned):
    assert max(rows, columns) == 200
    assert pinned == {0, 1}


def test_lengths_of_a_call(rows, columns, pinned):
    here = Lengths((7, 9), (100, 200), pinned)
    assert here.of((1, rows, (columns,))) == (1, 7, (9,))
    assert here.fit
    rows.pin()
    assert not here.fit
    with pytest.raises(PinnedError):
        here.check()
    assert Lengths((100, 9), (100, 200), pinned).fit


def test_free_ones_are_found(rows):
    assert is_free((1, (2, rows)))
    assert not is_free((1, (2, 100)))
