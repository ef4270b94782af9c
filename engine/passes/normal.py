"""Normal forms of scalars: what the rules of sweeps look for, however it was written."""

from typing import Any

import numpy as np

from ..kernel import Elements
from ..scalar import Scalar, below
from ..types import is_float

# Functions of numbers that are folded where a condition makes a number of a variable.
_FOLDED: dict[str, Any] = {
    "abs": np.abs,
    "add": np.add,
    "divide": np.divide,
    "exp": np.exp,
    "log1p": np.log1p,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "negative": np.negative,
    "sqrt": np.sqrt,
    "square": np.square,
    "subtract": np.subtract,
    "tanh": np.tanh,
}


def normalized(elements: Elements, roots: list[Scalar]) -> list[Scalar]:
    """The expressions with rules applied from the leaves up.

    * within ``where(c, a, b)`` c is known: ``where(c, a, f(where(c, x, y)))`` is ``where(c, a, f(y))``;
    * ``where(x == 0, 0, f(x))`` is ``f(x)`` if ``f(0)`` is 0 anyway;
    * ``log(exp(x))`` is x.
    """
    everything = below(roots)
    if not any(each.op in _RULES for each in everything):
        return roots
    memo: dict[Scalar, Scalar] = {}
    for scalar in everything:
        args = tuple([memo[each] for each in scalar.args])
        same = scalar if args == scalar.args else elements.rebuild(scalar, args)
        rule = _RULES.get(same.op)
        if rule is not None:
            same = rule(elements, same)
        elements.descends(same, scalar)
        memo[scalar] = same
    return [memo[root] for root in roots]


def _log(elements: Elements, scalar: Scalar) -> Scalar:
    (inner,) = scalar.args
    return inner.args[0] if inner.op == "exp" else scalar


def _where(elements: Elements, scalar: Scalar) -> Scalar:
    condition, left, right = scalar.args
    sides = [_assuming(elements, side, condition, place) for place, side in ((1, left), (2, right))]
    result = scalar if sides == [left, right] else elements.apply("where", scalar.dtype, condition, *sides)
    if result.op != "where" or condition.op != "equal" or not is_float(scalar.dtype):
        return result
    for variable, number in (condition.args, condition.args[::-1]):
        if number.is_constant and not variable.is_constant and is_float(number.dtype):
            there = [_at(elements, side, variable, number) for side in sides]
            if there[0] is not None and there[0] == there[1]:
                return sides[1]
    return result


def _assuming(elements: Elements, scalar: Scalar, condition: Scalar, place: int) -> Scalar:
    """The expression where a condition is known: of what depends on it, one side."""
    found = {each: each.args[place] for each in below([scalar]) if each.op == "where" and each.args[0] is condition}
    return elements.substitute([scalar], found)[0] if found else scalar


def _at(elements: Elements, scalar: Scalar, variable: Scalar, number: Scalar) -> float | None:
    """The value where a variable is this number; None if that is no number, or depends on others."""
    values: dict[Scalar, Any] = {variable: np.float64(number.attribute)}
    with np.errstate(all="ignore"):
        for each in below([scalar]):
            if each.is_constant:
                values[each] = np.float64(each.attribute)
            elif each not in values and each.op in _FOLDED and all(arg in values for arg in each.args):
                values[each] = _FOLDED[each.op](*(values[arg] for arg in each.args))
    found = values.get(scalar)
    return None if found is None or np.isnan(found) else float(found)


_RULES: dict[str, Any] = {"log": _log, "where": _where}
