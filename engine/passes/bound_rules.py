"""The rules of interval arithmetic: bounds of a function from those of its arguments, as expressions.

A number lies in a `Pair`; of a condition a `Truth` says whether it holds everywhere and whether nowhere.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..kernel import Elements
from ..scalar import Scalar
from ..types import BOOL, DType, is_float, is_integer


class Pair(NamedTuple):
    """The least and the largest value in a tile."""

    low: Scalar
    high: Scalar


class Truth(NamedTuple):
    """Whether a condition holds everywhere in a tile, and whether nowhere; both are false if that is not known."""

    all: Scalar
    none: Scalar


class Making:
    """Makes conditions and bounds.

    Args:
        elements: What the predicate's scalars were made with.
    """

    def __init__(self, elements: Elements) -> None:
        self.elements = elements
        self.true = elements.constant(True, BOOL)
        self.false = elements.constant(False, BOOL)
        self.apply, self.constant = elements.apply, elements.constant

    def both(self, left: Scalar, right: Scalar) -> Scalar:
        """Whether both hold."""
        for one, other in ((left, right), (right, left)):
            if one.is_constant:
                return other if one.attribute else self.false
        return left if left is right else self.elements.make("logical_and", (left, right), BOOL)

    def either(self, left: Scalar, right: Scalar) -> Scalar:
        """Whether either holds."""
        for one, other in ((left, right), (right, left)):
            if one.is_constant:
                return self.true if one.attribute else other
        return left if left is right else self.elements.make("logical_or", (left, right), BOOL)

    def opposite(self, condition: Scalar) -> Scalar:
        """Whether it does not hold."""
        if condition.is_constant:
            return self.false if condition.attribute else self.true
        return self.elements.make("logical_not", (condition,), BOOL)

    def compared(self, op: str, left: Scalar, right: Scalar) -> Scalar:
        """A comparison."""
        return self.elements.make(op, (left, right), BOOL)

    def least(self, values: Sequence[Scalar]) -> Scalar:
        """The least of several values."""
        return self._extreme("minimum", values)

    def largest(self, values: Sequence[Scalar]) -> Scalar:
        """The largest of several values."""
        return self._extreme("maximum", values)

    def _extreme(self, op: str, values: Sequence[Scalar]) -> Scalar:
        distinct = list(dict.fromkeys(values))
        result = distinct[0]
        for each in distinct[1:]:
            result = self.elements.make(op, (result, each), each.dtype)
        return result

    def over(self, op: str, dtype: DType, ends: Sequence[tuple[Scalar, Scalar]]) -> Pair:
        """The least and the largest of a function at some corners."""
        values = [self.elements.apply(op, dtype, *each) for each in dict.fromkeys(ends)]
        return Pair(self.least(values), self.largest(values))


# --- rules: bounds of a number from those of its arguments


def _add(make: Making, dtype: DType, x: Pair, y: Pair) -> Pair:
    low, high = make.apply("add", dtype, x.low, y.low), make.apply("add", dtype, x.high, y.high)
    return _of_finite(make, dtype, low, high)


def _subtract(make: Making, dtype: DType, x: Pair, y: Pair) -> Pair:
    low, high = make.apply("subtract", dtype, x.low, y.high), make.apply("subtract", dtype, x.high, y.low)
    return _of_finite(make, dtype, low, high)


def _of_finite(make: Making, dtype: DType, low: Scalar, high: Scalar) -> Pair:
    """NaN, of which nothing is known, where a bound is infinite: between them infinities may have met."""
    if not is_float(dtype) or low is high:
        return Pair(low, high)
    spread = make.apply("subtract", dtype, high, low)
    nothing = make.apply("subtract", dtype, spread, spread)
    return Pair(*(make.elements.make("add", (each, nothing), dtype) for each in (low, high)))


def _negative(make: Making, dtype: DType, x: Pair) -> Pair:
    return Pair(make.apply("negative", dtype, x.high), make.apply("negative", dtype, x.low))


def _multiply(make: Making, dtype: DType, x: Pair, y: Pair) -> Pair:
    if y.low is y.high and y.low.is_constant:
        ends = [make.apply("multiply", dtype, each, y.low) for each in x]
        return Pair(*ends) if y.low.attribute >= 0 else Pair(*reversed(ends))
    return make.over("multiply", dtype, [(left, right) for left in x for right in y])


def _divide(make: Making, dtype: DType, x: Pair, y: Pair) -> Pair:
    return make.over("floor_divide", dtype, [(x.low, y.low), (x.high, y.low)])


def _remainder(make: Making, dtype: DType, x: Pair, y: Pair) -> Pair:
    """Of a stretch without a multiple of the divisor inside, from end to end; else anything below the divisor."""
    divisor = y.low
    one, zero = make.constant(1, dtype), make.constant(0, dtype)
    quotients = [make.apply("floor_divide", dtype, each, divisor) for each in x]
    is_one_stretch = make.compared("equal", *quotients)
    ends = [make.apply("remainder", dtype, each, divisor) for each in x]
    if divisor.is_constant:
        least, most = min(0, int(divisor.attribute) + 1), max(0, int(divisor.attribute) - 1)
        widest = Pair(make.constant(least, dtype), make.constant(most, dtype))
    else:
        widest = Pair(
            make.least([zero, make.apply("add", dtype, divisor, one)]),
            make.largest([zero, make.apply("subtract", dtype, divisor, one)]),
        )
    return Pair(*(make.apply("where", dtype, is_one_stretch, *each) for each in zip(ends, widest, strict=True)))


def _abs(make: Making, dtype: DType, x: Pair) -> Pair:
    if dtype.kind == "u":
        return x
    negative = _negative(make, dtype, x)
    zero = make.constant(0, dtype)
    return Pair(make.largest([x.low, negative.low, zero]), make.largest([x.high, negative.high]))


def _minimum(make: Making, dtype: DType, x: Pair, y: Pair) -> Pair:
    return Pair(make.least([x.low, y.low]), make.least([x.high, y.high]))


def _maximum(make: Making, dtype: DType, x: Pair, y: Pair) -> Pair:
    return Pair(make.largest([x.low, y.low]), make.largest([x.high, y.high]))


def _where(make: Making, dtype: DType, condition: Truth, x: Pair, y: Pair) -> Pair:
    def chosen(left: Scalar, right: Scalar, either: Scalar) -> Scalar:
        if left is right:
            return left
        other = either if condition.none.is_constant else make.apply("where", dtype, condition.none, right, either)
        return other if condition.all.is_constant else make.apply("where", dtype, condition.all, left, other)

    return Pair(
        chosen(x.low, y.low, make.least([x.low, y.low])), chosen(x.high, y.high, make.largest([x.high, y.high]))
    )


def _as_type(make: Making, dtype: DType, x: Pair | Truth) -> Pair:
    if isinstance(x, Truth):
        one, zero = make.constant(1, dtype), make.constant(0, dtype)
        return Pair(make.apply("where", dtype, x.all, one, zero), make.apply("where", dtype, x.none, zero, one))
    if x.low.is_constant and x.high.is_constant and is_integer(dtype):
        return Pair(make.constant(x.low.attribute, dtype), make.constant(x.high.attribute, dtype))
    return Pair(*(each if each.dtype == dtype else make.apply("astype", dtype, each) for each in x))


# --- rules: where a condition holds


def _less(make: Making, x: Pair | Truth, y: Pair | Truth) -> Truth:
    if isinstance(x, Truth) and isinstance(y, Truth):
        return _both(make, _opposite(make, x), y)
    assert isinstance(x, Pair)
    assert isinstance(y, Pair)
    return Truth(make.compared("less", x.high, y.low), make.compared("greater_equal", x.low, y.high))


def _less_equal(make: Making, x: Pair | Truth, y: Pair | Truth) -> Truth:
    if isinstance(x, Truth) and isinstance(y, Truth):
        return _either(make, _opposite(make, x), y)
    assert isinstance(x, Pair)
    assert isinstance(y, Pair)
    return Truth(make.compared("less_equal", x.high, y.low), make.compared("greater", x.low, y.high))


def _equal(make: Making, x: Pair | Truth, y: Pair | Truth) -> Truth:
    if isinstance(x, Truth) and isinstance(y, Truth):
        return _opposite(make, _xor(make, x, y))
    assert isinstance(x, Pair)
    assert isinstance(y, Pair)
    apart = make.either(make.compared("less", x.high, y.low), make.compared("less", y.high, x.low))
    same = make.compared("equal", x.low, y.low)
    for side in (x, y):
        if side.low is not side.high:
            same = make.both(same, make.compared("equal", side.low, side.high))
    return Truth(same, apart)


def _xor(make: Making, x: Truth, y: Truth) -> Truth:
    apart = make.either(make.both(x.all, y.none), make.both(x.none, y.all))
    return Truth(apart, make.either(make.both(x.all, y.all), make.both(x.none, y.none)))


def _both(make: Making, x: Truth, y: Truth) -> Truth:
    return Truth(make.both(x.all, y.all), make.either(x.none, y.none))


def _either(make: Making, x: Truth, y: Truth) -> Truth:
    return Truth(make.either(x.all, y.all), make.both(x.none, y.none))


def _opposite(_: Making, x: Truth) -> Truth:
    return Truth(x.none, x.all)


def _choice(make: Making, condition: Truth, x: Truth, y: Truth) -> Truth:
    """``(condition & x) | (~condition & y)``; and where both agree, whatever the condition says."""
    chosen = _either(make, _both(make, condition, x), _both(make, _opposite(make, condition), y))
    return Truth(make.either(chosen.all, make.both(x.all, y.all)), make.either(chosen.none, make.both(x.none, y.none)))


def _is_nonzero(make: Making, x: Pair | Truth) -> Truth:
    if isinstance(x, Truth):
        return x
    zero = make.constant(0, x.low.dtype)
    return _opposite(make, _equal(make, x, Pair(zero, zero)))


PAIRS: dict[str, Callable[..., Pair]] = {
    "add": _add,
    "subtract": _subtract,
    "negative": _negative,
    "positive": lambda make, dtype, x: x,
    "multiply": _multiply,
    "floor_divide": _divide,
    "remainder": _remainder,
    "abs": _abs,
    "minimum": _minimum,
    "maximum": _maximum,
    "where": _where,
    "astype": _as_type,
}
FLOATS = frozenset({"add", "subtract", "negative", "positive", "abs", "minimum", "maximum", "where", "astype"})
WRAPPING = frozenset({"add", "subtract", "negative", "multiply", "floor_divide", "remainder", "abs", "astype"})
TRUTHS: dict[str, Callable[..., Truth]] = {
    "less": _less,
    "less_equal": _less_equal,
    "greater": lambda make, x, y: _less(make, y, x),
    "greater_equal": lambda make, x, y: _less_equal(make, y, x),
    "equal": _equal,
    "not_equal": lambda make, x, y: _opposite(make, _equal(make, x, y)),
    **dict.fromkeys(("logical_and", "bitwise_and", "multiply", "minimum"), _both),
    **dict.fromkeys(("logical_or", "bitwise_or", "add", "maximum"), _either),
    **dict.fromkeys(("logical_xor", "bitwise_xor"), _xor),
    **dict.fromkeys(("logical_not", "bitwise_invert"), _opposite),
    "where": _choice,
    "astype": _is_nonzero,
}
