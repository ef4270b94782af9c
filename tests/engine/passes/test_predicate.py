"""Bounds over a tile: whatever lies in it lies between them, and what is not known is said not to be."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.kernel import Elements
from attngraph.engine.passes.predicate import Bounds, Corners, guard_of, is_small
from attngraph.engine.scalar import Axis
from attngraph.engine.summaries import evaluate
from attngraph.engine.types import BOOL

ROWS, COLUMNS = 40, 50
TILE = ((8, 15), (20, 35))  # first and last row, first and last column


def bounds_of(function, *, reads=True):
    """A number or condition of row and column as a scalar, and what is known of it in the tile."""
    array = function(ag.arange(ROWS)[:, None], ag.arange(COLUMNS)[None, :])
    elements = Elements(lambda node: node.role == "leaf" and node.name == "data")
    rows, columns = Axis("i", ROWS), Axis("j", COLUMNS)
    scalar = elements.element(array.node, [elements.index(rows), elements.index(columns)])
    corners = Corners.of(rows, columns)
    bounds = Bounds(elements, corners, rows, columns, (), reads=reads)
    found = bounds.truth(scalar) if scalar.dtype == BOOL else bounds.interval(scalar)
    if found is None:
        return bounds, None
    places = dict(zip((*corners[:2], *corners[3:5]), map(np.asarray, (*TILE[0], *TILE[1])), strict=True))
    assert not bounds.summaries
    return bounds, tuple(each.item() for each in evaluate(found, {}, places))


def values_of(function):
    """The same function at every position of the tile."""
    rows, columns = (np.arange(first, last + 1) for first, last in TILE)
    whole = function(ag.arange(ROWS)[:, None], ag.arange(COLUMNS)[None, :])
    with ag.config.set(target="reference64"):
        return np.broadcast_to(whole.compute(), (ROWS, COLUMNS))[np.ix_(rows, columns)]


EXACT = {
    "a row": lambda i, j: i + 0 * j,
    "a difference": lambda i, j: i - j,
    "a negative": lambda i, j: -(i - j),
    "a magnitude": lambda i, j: abs(i - j),
    "a magnitude around 0": lambda i, j: abs(i + 15 - j),
    "a negative multiple": lambda i, j: -3 * i,
    "a product": lambda i, j: (i - 10) * (j - 30),
    "a quotient": lambda i, j: (i - j) // 7,
    "a remainder within one stretch": lambda i, j: i % 8,
    "a remainder of all": lambda i, j: j % 5,
    "the smaller": lambda i, j: ag.minimum(i + 15, j),
    "the larger": lambda i, j: ag.maximum(i + 15, j),
    "a choice that is known": lambda i, j: ag.where(i < j, i, -j),
    "a condition as a number": lambda i, j: (i < j).astype("int64"),
    "a small word": lambda i, j: (i - j).astype("int32"),
    "a byte that fits": lambda i, j: (i - j).astype("int8"),
}


@pytest.mark.parametrize("name", EXACT)
def test_bounds_that_are_reached(name):
    _, found = bounds_of(EXACT[name])
    values = values_of(EXACT[name])
    assert found == (values.min(), values.max())


LOOSE = {
    "a square": lambda i, j: (i + 15 - j) * (i + 15 - j),
    "what cancels": lambda i, j: (i + j) - j,
    "a choice that is not known": lambda i, j: ag.where(i + 15 < j, i, 2 * j),
    "a remainder over a multiple": lambda i, j: (i - j) % 7,
}


@pytest.mark.parametrize("name", LOOSE)
def test_bounds_that_hold(name):
    _, found = bounds_of(LOOSE[name])
    values = values_of(LOOSE[name])
    assert found[0] <= values.min()
    assert found[1] >= values.max()


UNKNOWN = {
    "it wraps": lambda i, j: (i - j) * 2**60,
    "it wraps as a word": lambda i, j: (i - j).astype("int32") * 2**30,
    "below 0 without a sign": lambda i, j: i.astype("uint8") - j.astype("uint8"),
    "a negative as a byte without a sign": lambda i, j: (i - j).astype("uint8"),
    "a byte that does not fit": lambda i, j: (i * j).astype("int8"),
    "divided by a column": lambda i, j: i // (j + 1),
    "divided by 0": lambda i, j: (i - j) // 0,
    "divided by a negative": lambda i, j: (i - j) // -2,
    "bits": lambda i, j: i ^ j,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_numbers_of_which_nothing_is_known(name):
    assert bounds_of(UNKNOWN[name])[1] is None


# Everywhere, nowhere; neither where that depends on the position, or is not known.
CONDITIONS = {
    "everywhere": (lambda i, j: i < j, (True, False)),
    "nowhere": (lambda i, j: i > j, (False, True)),
    "somewhere": (lambda i, j: i < j - 10, (False, False)),
    "not": (lambda i, j: ~(i < j), (False, True)),
    "and with what is open": (lambda i, j: (i > j) & (j % 2 == 0), (False, True)),
    "or with what is open": (lambda i, j: (i < j) | (j % 2 == 0), (True, False)),
    "exclusive or with what is open": (lambda i, j: (i < j) ^ (j % 2 == 0), (False, False)),
    "exclusive or": (lambda i, j: (i < j) ^ (i > j), (True, False)),
    "equal conditions": (lambda i, j: (i < j) == (i > j), (False, True)),
    "less": (lambda i, j: (i > j) < (i < j), (True, False)),
    "less than what is open": (lambda i, j: (i < j) < (j % 2 == 0), (False, True)),
    "less or equal to what is open": (lambda i, j: (i > j) <= (j % 2 == 0), (True, False)),
    "a choice by what is open": (lambda i, j: ag.where(j % 2 == 0, i < j, i != j), (True, False)),
    "a choice that is open": (lambda i, j: ag.where(i < j, j % 2 == 0, i < j), (False, False)),
    "what is unknown": (lambda i, j: (i ^ j) > 100, (False, False)),
    "what is unknown, and nowhere": (lambda i, j: ((i ^ j) > 100) & (i > j), (False, True)),
    "never equal": (lambda i, j: i == j, (False, True)),
    "a number that is not 0": (lambda i, j: (i - j).astype("bool"), (True, False)),
    "floats": (lambda i, j: i * 1 - 0.5 < j, (True, False)),
    "infinities that meet": (lambda i, j: (i + ag.inf) - (j + ag.inf) <= ag.inf, (False, False)),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_where_conditions_hold(name):
    function, (everywhere, nowhere) = CONDITIONS[name]
    values = values_of(function)
    assert not everywhere or values.all()
    assert not nowhere or not values.any()
    assert bounds_of(function)[1] == (everywhere, nowhere)


def test_tables_are_guarded_only_where_arithmetic_might_wrap():
    table = ag.constant(np.arange(COLUMNS))

    def guarded(function):
        elements = Elements(lambda node: node.role == "leaf" and node.name == "data")
        rows, columns = Axis("i", ROWS), Axis("j", COLUMNS)
        array = function(ag.arange(ROWS)[:, None], table[ag.arange(COLUMNS)[None, :]])
        scalar = elements.element(array.node, [elements.index(rows), elements.index(columns)])
        bounds = Bounds(elements, Corners.of(rows, columns), rows, columns, (), reads=True)
        bounds.truth(scalar)
        return len(bounds.guarded)

    assert guarded(lambda i, x: i >= x) == 0
    assert guarded(lambda i, x: ag.minimum(i, x) > 3) == 0
    assert guarded(lambda i, x: i + x > 3) == 1
    assert guarded(lambda i, x: abs(x - i) > 3) == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64"])
def test_guards(dtype):
    most = guard_of(np.dtype(dtype))
    assert is_small(np.array([0, most], dtype))
    assert is_small(np.array([], dtype))
    assert not is_small(np.array([0, most + 1], dtype))
    assert np.dtype(dtype).kind == "u" or not is_small(np.array([np.iinfo(dtype).min], dtype))
