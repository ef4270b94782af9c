"""Sums and selections freed from the factors that all of their terms have.

The gradient of a function of two branches, ``where(c, T * a, 0) + s * where(c, 0, T * a)``, is
``T * a * where(c, 1, s)``: what is common comes before it, and what is left selects once. So bodies of pairs are cheap
and hold no weights, and accumulators share what their weights are made of.
"""

from ..kernel import Elements
from ..scalar import Scalar, below
from ..sweep import Sweep
from ..types import is_float
from .pair_body import is_paired

_PRODUCTS = frozenset({"multiply", "divide", "negative"})
_SUMS = frozenset({"add", "subtract", "where"})
# Factors and how often each multiplies (divides, if below 0); None of 0, which has any.
Factors = dict[Scalar, int] | None


def separated(elements: Elements, body: Scalar, sweep: Sweep, *, tiles: bool = False) -> Scalar:
    """A product of the same value, in which its sums are products of their common factors and what is left.

    Args:
        elements: Makes the scalars.
        body: The product.
        sweep: Whose rows and columns it varies over.
        tiles: Whether sums without a small axis are to be freed, too.
    """
    found: dict[Scalar, Scalar] = {}
    stack = [body]
    while stack:
        each = stack.pop()
        if each.op in _PRODUCTS:
            stack += each.args
        elif is_paired(each, sweep) or (tiles and sweep.pair <= each.axes):
            found[each] = _freed(elements, each, sweep)
    changed = {each: freed for each, freed in found.items() if freed is not each}
    return elements.substitute([body], changed)[0] if changed else body


def _freed(elements: Elements, scalar: Scalar, sweep: Sweep) -> Scalar:
    """The product of a sum's common factors and what is left."""
    if scalar.op not in _SUMS or not is_float(scalar.dtype):
        return scalar
    merged = _merged(elements, scalar)
    factors = _Factors(elements, sweep, merged)
    common = factors.of[merged]
    if not common or set(common) == {merged}:
        return scalar
    result = _merged(elements, factors.without(merged, common))
    for factor, times in sorted(common.items(), key=lambda item: item[0].number):
        for _ in range(abs(times)):
            result = elements.apply("multiply" if times > 0 else "divide", scalar.dtype, result, factor)
    return result


class _Factors:
    """The factors of an expression and all its parts."""

    def __init__(self, elements: Elements, sweep: Sweep, root: Scalar) -> None:
        self.elements, self.sweep = elements, sweep
        self.of: dict[Scalar, Factors] = {}
        for scalar in below([root]):
            self.of[scalar] = self._own(scalar) if is_float(scalar.dtype) else {scalar: 1}

    def _own(self, scalar: Scalar) -> Factors:
        if scalar.is_constant:
            return None if scalar.attribute == 0 else {}
        if scalar.op in ("multiply", "divide"):
            left, right = (self.of[each] for each in scalar.args)
            if left is None or right is None:
                return None if left is None else {scalar: 1}
            return _joined(left, right, 1 if scalar.op == "multiply" else -1)
        if scalar.op == "negative":
            return self.of[scalar.args[0]]
        if scalar.op in _SUMS and self.sweep.pair <= scalar.axes:
            sides = [self.of[each] for each in scalar.args[-2:]]
            if scalar.op == "where" and None in sides:
                return self._guarded(scalar, sides) or {scalar: 1}
            return _common(*sides) or {scalar: 1}
        return {scalar: 1}

    def _guarded(self, where: Scalar, sides: list[Factors]) -> Factors:
        """Of what is selected beside 0, factors that the condition does not stand guard over.

        A condition on a body may keep it from dividing by 0: it says nothing of weights.
        """
        shown = _common(*sides)
        if shown is None or not is_paired(where.args[0], self.sweep):
            return {}
        return {factor: times for factor, times in shown.items() if times > 0 and not is_paired(factor, self.sweep)}

    def without(self, scalar: Scalar, factors: dict[Scalar, int]) -> Scalar:
        """What is left of an expression that has these factors."""
        elements, own = self.elements, self.of[scalar]
        if not factors or own is None:
            return scalar
        if factors == {scalar: 1}:
            return elements.constant(1.0, scalar.dtype)
        if scalar.op == "negative":
            inner = self.without(scalar.args[0], factors)
            if inner.is_constant:
                return elements.constant(-inner.attribute, scalar.dtype)
            return elements.apply("negative", scalar.dtype, inner)
        if scalar.op in ("multiply", "divide"):
            sign = 1 if scalar.op == "multiply" else -1
            taken = _common(factors, self.of[scalar.args[0]]) or {}
            others = _joined({}, _joined(factors, taken, -1), sign)
            sides = self.without(scalar.args[0], taken), self.without(scalar.args[1], others)
            if scalar.op == "divide" and sides[1].is_constant and sides[1].attribute == 1:
                return sides[0]
            return elements.apply(scalar.op, scalar.dtype, *sides)
        terms = [self.without(each, factors) for each in scalar.args[-2:]]
        return elements.apply(scalar.op, scalar.dtype, *scalar.args[:-2], *terms)


def _joined(left: dict[Scalar, int], right: dict[Scalar, int], sign: int) -> dict[Scalar, int]:
    """The factors of a product, or of a quotient."""
    found = dict(left)
    for factor, times in right.items():
        found[factor] = found.get(factor, 0) + sign * times
    return {factor: times for factor, times in found.items() if times}


def _common(left: Factors, right: Factors) -> Factors:
    """Factors that both have."""
    if left is None or right is None:
        return right if left is None else left
    found: dict[Scalar, int] = {}
    for factor, times in left.items():
        other = right.get(factor, 0)
        if times * other > 0:
            found[factor] = min(times, other, key=abs)
    return found


def _merged(elements: Elements, root: Scalar) -> Scalar:
    """Two selections by one condition as one."""
    memo: dict[Scalar, Scalar] = {}
    for scalar in below([root]):
        args = tuple([memo[each] for each in scalar.args])
        same = scalar if args == scalar.args else elements.rebuild(scalar, args)
        memo[scalar] = _selected_once(elements, same) or same
    return memo[root]


def _selected_once(elements: Elements, scalar: Scalar) -> Scalar | None:
    """``k * where(c, a, 0)`` is ``where(c, k * a, 0)``, ``where(c, a, 0) + where(c, 0, b)`` is ``where(c, a, b)``."""
    if scalar.op not in ("add", "multiply") or not is_float(scalar.dtype):
        return None
    left, right = scalar.args if scalar.args[0].op == "where" else scalar.args[::-1]
    if left.op != "where" or not any(map(_is_zero, left.args[1:])):
        return None
    condition, one, other = left.args
    if scalar.op == "multiply":
        if not right.is_constant:
            return None
        sides = [each if _is_zero(each) else elements.multiply(each, right) for each in (one, other)]
        return elements.apply("where", scalar.dtype, condition, *sides)
    if right.op != "where" or right.args[0] is not condition:
        return None
    pairs = ((one, right.args[1]), (other, right.args[2]))
    if not all(any(map(_is_zero, pair)) for pair in pairs):
        return None
    sides = [pair[1] if _is_zero(pair[0]) else pair[0] for pair in pairs]
    return elements.apply("where", scalar.dtype, condition, *sides)


def _is_zero(scalar: Scalar) -> bool:
    return scalar.is_constant and bool(scalar.attribute == 0)
