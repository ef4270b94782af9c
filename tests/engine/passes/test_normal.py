"""Normal forms of scalars: pairs of before and after, and what must not change."""

import math

import pytest

from attngraph.engine.kernel import Elements
from attngraph.engine.passes.normal import normalized
from attngraph.engine.scalar import Axis, show
from attngraph.engine.types import BOOL, FLOAT32


class Made:
    """Scalars of one variable x."""

    def __init__(self):
        self.elements = Elements(lambda node: True)
        index = self.elements.index(Axis("i", 9))
        self.x = self.elements.apply("astype", FLOAT32, index)
        self.positive = self.apply("abs", self.x)

    def apply(self, op, *args):
        return self.elements.apply(op, FLOAT32, *map(self.lifted, args))

    def condition(self, op, *args):
        return self.elements.apply(op, BOOL, *map(self.lifted, args))

    def lifted(self, value):
        return self.elements.constant(value, FLOAT32) if isinstance(value, float) else value


def safe_root(made):
    x = made.positive
    zero = made.condition("equal", x, 0.0)
    return made.apply("where", zero, x, made.apply("sqrt", made.apply("where", zero, 1.0, x)))


def known_condition(made):
    c = made.condition("less", made.x, 3.0)
    inner = made.apply("where", c, 2.0, made.apply("tanh", made.x))
    return made.apply("where", c, made.apply("exp", inner), made.apply("multiply", inner, 4.0))


PAIRS = {
    "a root that is safe": (safe_root, "sqrt(abs(astype(i)))"),
    "a condition within itself": (
        known_condition,
        "where(less(astype(i), 3.0), exp(2.0), multiply(tanh(astype(i)), 4.0))",
    ),
    "a logarithm of an exponential": (lambda m: m.apply("log", m.apply("exp", m.x)), "astype(i)"),
    "a value that is there anyway": (
        lambda m: m.apply("where", m.condition("equal", m.x, 0.0), 1.0, m.apply("exp", m.x)),
        "exp(astype(i))",
    ),
}
KEPT = {
    "another value": lambda m: m.apply("where", m.condition("equal", m.x, 0.0), 2.0, m.apply("exp", m.x)),
    "a division by 0": lambda m: m.apply(
        "where", m.condition("equal", m.x, 0.0), 1.0, m.apply("divide", m.apply("tanh", m.x), m.x)
    ),
    "a comparison that is no equality": lambda m: m.apply(
        "where", m.condition("less", m.x, 0.0), 0.0, m.apply("sqrt", m.x)
    ),
    "a hidden value": lambda m: m.apply("where", m.condition("equal", m.x, 0.0), -math.inf, m.x),
    "an exponential of a logarithm": lambda m: m.apply("exp", m.apply("log", m.x)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    build, wanted = PAIRS[name]
    made = Made()
    (found,) = normalized(made.elements, [build(made)])
    assert show(found) == wanted


@pytest.mark.parametrize("name", KEPT)
def test_kept(name):
    made = Made()
    before = KEPT[name](made)
    assert normalized(made.elements, [before]) == [before]
