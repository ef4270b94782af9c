"""Common factors: pairs of before and after."""

import pytest

import attngraph as ag
from attngraph.engine.passes.common_factors import common_factors

P, D, E = (ag.placeholder((4, 5), name=name) for name in "pde")
R = ag.placeholder((4, 1), name="r")

PAIRS = {
    "sum": (P * D + P * E, P * (D + E)),
    "difference, other side": (D * P - E * P, P * (D - E)),
    "with a row": (P * D - P * R, P * (D - R)),
    "quotients": (D / R + E / R, (D + E) / R),
    "nested": ((P * D + P * E) + P * P, P * ((D + E) + P)),
}
KEPT = {
    "nothing shared": P * D + E * R,
    "a constant": P * 2.0 + D * 2.0,
    "one sum only": P * D + D,
    "different divisors": D / R + E / P,
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    before, after = PAIRS[name]
    assert common_factors([before.node]) == (after.node,)


@pytest.mark.parametrize("name", KEPT)
def test_kept(name):
    assert common_factors([KEPT[name].node]) == (KEPT[name].node,)


def test_terms_that_others_need_stay_whole():
    left = P * D
    roots = [(left + P * E).node, left.node]
    assert common_factors(roots) == tuple(roots)
