"""Arithmetic: ``+ - * / // % **`` and their kin.

Integers wrap around as two's complement. ``//`` and ``%`` floor, as Python's; an integer divided by
zero gives 0, and the least integer divided by -1 wraps. Names and meaning: array API standard 2024.12.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import EMPTY, Careful, Court, blame_of_any, clear, none_if_empty
from ..engine.errors import DTypeError
from ..engine.ir import Node, Values
from ..engine.leaves import Constant
from ..engine.types import FLOAT64, as_dtype, is_float, is_integer
from .array import Array, ArrayLike, lift
from .casting import cast, promoted, rounded
from .function import binary, lifted_float, unary
from .kinds import Elementwise, Rearrangement, constant_value
from .registry import FUNCTIONS, public
from .selection import where


def is_constant(node: Node, value: float) -> bool:
    """Whether a node is this number everywhere."""
    return constant_value(node) == value and not isinstance(constant_value(node), bool)


def if_same_shape(result: Node, node: Node) -> Node | None:
    """``result`` in place of ``node``, unless ``node`` broadcasts it to something larger."""
    return result if result.type == node.type else None


def scalar_of(node: Node) -> Node | None:
    """The constant that an operand spreads by broadcasting, where the spreading is needless."""
    if isinstance(node, Rearrangement):
        value = constant_value(node)
        return None if value is None else Constant(value, node.dtype, False)
    return None


def _used_once(node: Node, uses: Mapping[Node, int]) -> bool:
    return uses.get(node, 1) == 1


def row_factors(node: Node, varies: Callable[[Node], bool], uses: Mapping[Node, int]) -> list[tuple[Node, Node, bool]]:
    """How a product or quotient splits into (rest, factor, divides) with a factor that does not vary.

    Only if nobody else needs the product, and the rest alone has its shape.
    """
    if not is_float(node.dtype) or not _used_once(node, uses):
        return []
    splits: list[tuple[Node, Node, bool]] = []
    if isinstance(node, Multiply):
        splits = [(node.left, node.right, False), (node.right, node.left, False)]
    elif isinstance(node, Divide):
        splits = [(node.left, node.right, True)]
    return [
        split for split in splits if split[0].shape == node.shape and not varies(split[1]) and not may_hide(split[1])
    ]


def may_hide(factor: Node) -> bool:
    """Whether a factor may hold a mask's 0: then it stays where it hides what it meets."""
    stack, seen = [factor], {factor}
    while stack:
        node = stack.pop()
        if node.may_hide:
            return True
        below = [each for each in node.operands if each not in seen]
        if node.role in ("pointwise", "rearrangement"):  # sums of hidden values hide nothing
            stack += below
            seen.update(below)
    return False


def _product_and_factor(node: Node, uses: Mapping[Node, int]) -> tuple[Node, Node | None] | None:
    """A matrix product that nobody else needs, and what each of its rows is multiplied by."""
    factor: Node | None = None
    if isinstance(node, Multiply):
        pair = next((pair for pair in (node.operands, node.operands[::-1]) if pair[0].role == "contraction"), None)
        if pair is None or pair[1].shape[-1:] not in ((), (1,)):
            return None
        node, factor = pair
    return (node, factor) if node.role == "contraction" and _used_once(node, uses) else None


class Arithmetic(Elementwise):
    """Two operands of one type to that type."""

    left: Node
    right: Node

    def simplify(self) -> Node | None:
        """A constant is not spread to a shape that the other side brings anyway."""
        for one, other, flipped in ((self.left, self.right, False), (self.right, self.left, True)):
            scalar = scalar_of(one)
            if scalar is not None and other.shape == self.shape:
                return self.with_operands([other, scalar] if flipped else [scalar, other])
        return None


class Sum2(Arithmetic):
    """What addition and subtraction share: a hidden -inf stays, whatever is added to it."""

    def factor_out(self, uses: Mapping[Node, int]) -> Node | None:
        """``a*x + a*y`` is ``a*(x + y)``, ``x/a + y/a`` is ``(x + y)/a``, if nobody else needs the terms."""
        left, right = self.left, self.right
        if left is right or not all(_used_once(term, uses) and term.shape == self.shape for term in (left, right)):
            return None
        if isinstance(left, Divide) and isinstance(right, Divide) and left.right is right.right:
            factored: Node = Divide(type(self)(left.left, right.left), left.right)
            return if_same_shape(factored, self)
        products = _product_and_factor(left, uses), _product_and_factor(right, uses)
        if products[0] is not None and products[1] is not None:
            return self._one_product(*products[0], *products[1])
        if not (isinstance(left, Multiply) and isinstance(right, Multiply)):
            return None
        for factor, rest in ((left.left, left.right), (left.right, left.left)):
            if factor in right.operands and not isinstance(factor, Constant):
                other = right.right if right.left is factor else right.left
                return if_same_shape(Multiply(factor, type(self)(rest, other)), self)
        return None

    def _one_product(self, left: Node, left_factor: Node | None, right: Node, right_factor: Node | None) -> Node | None:
        """``(P + c * Q) @ V``, of two products with one right side."""
        (one, values), (other, others) = left.operands, right.operands
        if values is not others or one.type != other.type or one.role == "leaf" or other.role == "leaf":
            return None
        sides = [
            weights if factor is None else Multiply(factor, weights)
            for weights, factor in ((one, left_factor), (other, right_factor))
        ]
        if any(side.type != one.type for side in sides):
            return None
        return if_same_shape(left.with_operands((type(self)(*sides), values)), self)

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden where a side that adds is a hidden -inf, or both sides are hidden zeros."""
        left, right = operands
        if left.hidden is None and right.hidden is None:
            return super().careful(operands, value, court)
        zeros = np.minimum(left.hidden_zeros(), right.hidden_zeros())
        infinities = np.broadcast_to(left.hidden_infinities(), value.shape)
        if not isinstance(self, Subtract):
            infinities = np.maximum(infinities, right.hidden_infinities())
        value = np.where(zeros == EMPTY, value.dtype.type(0), value)
        if value.dtype.kind == "f":
            value = np.where(infinities > 0, -np.inf, value)
        hidden = none_if_empty(np.maximum(zeros, infinities))
        return Careful(value, hidden, clear(blame_of_any(operands, value.shape), hidden))


class Add(Sum2):
    """``x1 + x2``. Booleans: logical or."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, to both."""
        return upstream, upstream

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.add(left, right))

    def simplify(self) -> Node | None:
        """``x + 0`` is x; ``x + (-y)`` is ``x - y``."""
        for one, other in ((self.left, self.right), (self.right, self.left)):
            if is_constant(other, 0) and if_same_shape(one, self):
                return one
        if isinstance(self.right, Negative):
            return Subtract(self.left, self.right.operand)
        return super().simplify()


class Subtract(Sum2):
    """``x1 - x2``. Not for booleans."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, and its negative."""
        return upstream, -upstream

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.subtract(left, right))

    def simplify(self) -> Node | None:
        """``x - 0`` is x; ``x - (-y)`` is ``x + y``."""
        if is_constant(self.right, 0) and if_same_shape(self.left, self):
            return self.left
        if isinstance(self.right, Negative):
            return Add(self.left, self.right.operand)
        return super().simplify()


class Multiply(Arithmetic):
    """``x1 * x2``. Booleans: logical and."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * x2``, ``upstream * x1``."""
        return upstream * Array(self.right), upstream * Array(self.left)

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.multiply(left, right))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A hidden zero stays hidden, whatever it meets, and a hidden -inf that is scaled upwards."""
        left, right = operands
        if left.hidden is None and right.hidden is None:
            return super().careful(operands, value, court)
        zeros = np.maximum(left.hidden_zeros(), right.hidden_zeros())
        infinities = np.maximum(left.hidden_infinities(), right.hidden_infinities()) * np.isneginf(value)
        value = np.where(zeros == EMPTY, value.dtype.type(0), value)
        hidden = none_if_empty(np.maximum(zeros, infinities))
        return Careful(value, hidden, clear(blame_of_any(operands, value.shape), hidden))

    def simplify(self) -> Node | None:
        """``x * 1`` is x, ``x * -1`` is ``-x``, ``-x * 2`` is ``x * -2``; ``x * (1 / y)`` is what x knows."""
        for one, other in ((self.left, self.right), (self.right, self.left)):
            if isinstance(other, Divide) and is_constant(other.left, 1):
                quotient = one.divided(other.right)
                if quotient is not None and if_same_shape(quotient, self):
                    return quotient
            if is_constant(other, 1) and if_same_shape(one, self):
                return one
            if is_constant(other, -1) and self.dtype.kind != "u" and if_same_shape(one, self):
                return Negative(one)
            if isinstance(one, Negative) and isinstance(other, Constant) and is_float(self.dtype):
                return Multiply(one.operand, Constant(-float(other.value), other.dtype, other.type.weak))
        return super().simplify()

    def divided(self, divisor: Node) -> Node | None:
        """``(x * y) / z`` is ``(x / z) * y``, if x knows what that is."""
        for one, other in ((self.left, self.right), (self.right, self.left)):
            quotient = one.divided(divisor)
            if quotient is not None and quotient.shape == self.shape:
                return Multiply(quotient, other)
        return None


class Divide(Arithmetic):
    """``x1 / x2``, true division; integers and booleans give float32."""

    takes = (2,)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / x2``, ``-upstream * (x1 / x2) / x2``."""
        share = upstream / Array(self.right)
        return share, -(share * Array(self))

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.divide(left, right))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A hidden numerator stays hidden: a row with nothing to attend to gives 0, not 0/0."""
        numerator = operands[0]
        if numerator.hidden is None:
            return Careful(value, None, blame_of_any(operands, value.shape))
        zeros = np.broadcast_to(numerator.hidden_zeros(), value.shape)
        value = np.where(zeros == EMPTY, 0.0, value)
        hidden = none_if_empty(np.maximum(zeros, numerator.hidden_infinities() * np.isneginf(value)))
        return Careful(value, hidden, clear(blame_of_any(operands, value.shape), hidden))

    def simplify(self) -> Node | None:
        """``x / 1`` is x; dividing by a power of two is multiplying by its reciprocal, exactly; others know better."""
        if is_constant(self.right, 1) and if_same_shape(self.left, self):
            return self.left
        divisor = self.right
        quotient = self.left.divided(divisor)
        if quotient is not None and if_same_shape(quotient, self):
            return quotient
        if isinstance(divisor, Constant) and _has_exact_reciprocal(float(divisor.value)):
            return Multiply(self.left, Constant(1.0 / float(divisor.value), divisor.dtype, divisor.type.weak))
        return super().simplify()


def _has_exact_reciprocal(value: float) -> bool:
    mantissa, exponent = math.frexp(value)
    return mantissa in (0.5, -0.5) and -14 <= exponent <= 14


class FloorDivide(Arithmetic):
    """``x1 // x2``, rounded to minus infinity. Integers: ``x // 0`` is 0 and the least // -1 wraps."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """Nothing: it is constant between steps."""
        return None, None

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's, with the two exceptions of integers written out."""
        if left.dtype.kind == "f":
            return np.asarray(np.floor_divide(left, right))
        safe, wraps = _safe_divisor(left, right)
        quotient = np.floor_divide(left, safe)
        return np.where(right == 0, left.dtype.type(0), np.where(wraps, left, quotient))


class Remainder(Arithmetic):
    """``x1 % x2``, with the sign of x2. Integers: ``x % 0`` is 0."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream``, ``-upstream * floor(x1 / x2)``."""
        return upstream, -(upstream * FUNCTIONS["floor"](Array(self.left) / Array(self.right)))

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's, with division by zero written out."""
        if left.dtype.kind == "f":
            return np.asarray(np.remainder(left, right))
        safe, wraps = _safe_divisor(left, right)
        return np.where((right == 0) | wraps, left.dtype.type(0), np.remainder(left, safe))


def _safe_divisor(left: Values, right: Values) -> tuple[Values, Values]:
    """A divisor that cannot trap, and where the quotient would wrap."""
    wraps = np.zeros((), np.bool_)
    if left.dtype.kind == "i":
        wraps = (left == np.iinfo(left.dtype).min) & (right == -1)
    return np.where((right == 0) | wraps, right.dtype.type(1), right), wraps


class Pow(Arithmetic):
    """``x1 ** x2``. Integers wrap; a negative power of an integer is 0, but for bases 1 and -1."""

    takes = (1, 2)
    wide = True

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * x2 * x1 ** (x2 - 1)``, ``upstream * x1 ** x2 * log(x1)``; 0 where x2 is 0, and where x1 is."""
        base, exponent = Array(self.left), Array(self.right)
        # What is not taken must be a number all the same: it is multiplied by 0 where the rule is differentiated again.
        power = where(exponent == 0, 1.0, exponent) - 1
        logarithm = FUNCTIONS["log"](where(base == 0, 1.0, base))
        return upstream * (exponent * base**power), upstream * (Array(self) * logarithm)

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's; negative powers of integers by hand, for NumPy refuses them."""
        if left.dtype.kind == "f":
            return np.asarray(np.power(left, right))
        positive = np.power(left, np.maximum(right, 0))
        sign = np.where(right % 2 == 0, 1, left)
        negative = np.where(np.abs(left) == 1, sign, 0)
        return np.where(right < 0, negative, positive).astype(left.dtype)

    def simplify(self) -> Node | None:
        """Small whole powers are products."""
        if is_constant(self.right, 1) and if_same_shape(self.left, self):
            return self.left
        if is_constant(self.right, 2) and if_same_shape(self.left, self):
            return Multiply(self.left, self.left)
        return None


class Unary(Elementwise):
    """One operand to its own type."""

    operand: Node


class Negative(Unary):
    """``-x``. Not for booleans."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The negative."""
        return (-upstream,)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.negative(x))

    def simplify(self) -> Node | None:
        """``-(-x)`` is x; ``-(x - y)`` is ``y - x``."""
        if isinstance(self.operand, Negative):
            return self.operand.operand
        if isinstance(self.operand, Subtract):
            return Subtract(self.operand.right, self.operand.left)
        return None


class Positive(Unary):
    """``+x``: x. Not for booleans."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream."""
        return (upstream,)

    def reference(self, x: Values) -> Values:
        """The operand."""
        return x

    def simplify(self) -> Node | None:
        """It is x."""
        return self.operand


class Abs(Unary):
    """``|x|``; the least integer wraps to itself."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * sign(x)``: 0 at 0."""
        return (upstream * FUNCTIONS["sign"](Array(self.operand)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.abs(x))


class Sign(Unary):
    """-1, 0 or 1; NaN stays NaN. Not for booleans."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """Nothing: it is constant between steps."""
        return (None,)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.sign(x))


class Square(Unary):
    """``x * x``."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * 2 x``."""
        return (upstream * (Array(self.operand) * 2),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.square(x))

    def simplify(self) -> Node | None:
        """A product."""
        return Multiply(self.operand, self.operand)


class Reciprocal(Unary):
    """``1 / x``; integers as float32."""

    takes = (2,)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``-upstream / x²``."""
        return (-(upstream * (Array(self) * Array(self))),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.reciprocal(x))

    def simplify(self) -> Node | None:
        """A quotient."""
        return Divide(Constant(1.0, self.dtype, self.type.weak), self.operand)


class Maximum(Arithmetic):
    """The larger of two; NaN if either is."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, to the one that is taken; half to each of equals."""
        left, right = Array(self.left), Array(self.right)
        share = where(left > right, 1.0, where(left == right, 0.5, 0.0))
        return upstream * share, upstream * (1 - share)

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.maximum(left, right))

    def simplify(self) -> Node | None:
        """``max(x, x)`` is x."""
        return self.left if self.left is self.right else super().simplify()


class Minimum(Arithmetic):
    """The smaller of two; NaN if either is."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, to the one that is taken; half to each of equals."""
        left, right = Array(self.left), Array(self.right)
        share = where(left < right, 1.0, where(left == right, 0.5, 0.0))
        return upstream * share, upstream * (1 - share)

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.minimum(left, right))

    def simplify(self) -> Node | None:
        """``min(x, x)`` is x."""
        return self.left if self.left is self.right else super().simplify()


class FloatPair(Arithmetic):
    """A function of two floats, computed in float64 and rounded once."""

    takes: ClassVar[tuple[int, ...]] = (2,)
    wide = True


class Hypot(FloatPair):
    """``sqrt(x1² + x2²)`` without overflow on the way."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * x1 / h``, ``upstream * x2 / h``; 0 where both are 0."""
        length = Array(self)
        share = upstream / where(length == 0, 1.0, length)
        return share * Array(self.left), share * Array(self.right)

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.hypot(left, right))


class Copysign(FloatPair):
    """The magnitude of x1 with the sign of x2."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream where x1 keeps its sign, its negative where that turns; nothing by x2."""
        one = FUNCTIONS["copysign"](1.0, Array(self.right))
        return upstream * (FUNCTIONS["sign"](Array(self.left)) * one), None

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.copysign(left, right))


class Nextafter(FloatPair):
    """The float next to x1 towards x2, in the operands' own type."""

    wide = False
    rounds: ClassVar[bool] = True

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream: it is x1, but for a rounding; nothing by x2."""
        return upstream, None

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's, in the stored type: neighbours differ between types."""
        return np.asarray(np.nextafter(left.astype(self.dtype), right.astype(self.dtype)))


add, subtract = binary(Add), binary(Subtract, "sub")
multiply = binary(Multiply, "mul")
divide = binary(Divide, "div", "true_divide")
floor_divide, remainder = binary(FloorDivide), binary(Remainder, "mod")
negative, positive = unary(Negative, "neg"), unary(Positive)
abs = unary(Abs, "absolute")
sign, square, reciprocal = unary(Sign), unary(Square), unary(Reciprocal)
maximum, minimum = binary(Maximum), binary(Minimum)
hypot, copysign, nextafter = binary(Hypot), binary(Copysign), binary(Nextafter)


@public()
def fabs(x: ArrayLike, /) -> Array:
    """``|x|`` as a float, as NumPy has it; integers as float32."""
    return Array(Abs(lifted_float(x, "fabs")))


@public()
def float_power(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """``x1 ** x2`` in float64, as NumPy and torch have it."""
    return Array(Pow(*(cast(lift(each, "float_power"), FLOAT64) for each in (x1, x2))))


@public("power")
def pow(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """``x1 ** x2``; see `Pow`.

    Raises:
        DTypeError: For an integer to a negative whole number written in the program: the answer
            would be 0 almost everywhere, and that is never what is meant.
    """
    base, exponent = promoted("pow", lift(x1, "pow"), lift(x2, "pow"))
    if is_integer(base.dtype) and isinstance(exponent, Constant) and int(exponent.value) < 0:
        raise DTypeError(f"pow: {base.type} to the power {exponent.value}: cast the base to a float first")
    return Array(Pow(base, exponent))


@public("clamp")
def clip(x: ArrayLike, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Array:
    """``x`` within ``[min, max]``; a bound of None is none. Where min > max, max wins.

    Bounds never widen the type of ``x`` beyond what promotion says; NaN stays NaN.
    """
    result = Array(lift(x, "clip"))
    if min is not None:
        result = maximum(result, min)
    return result if max is None else minimum(result, max)


@public()
def astype(x: ArrayLike, dtype: Any, /, *, copy: bool = True) -> Array:
    """``x`` in another data type; floats become integers by truncation, saturating, NaN as 0.

    Raises:
        DTypeError: If ``dtype`` is not supported.
    """
    return Array(rounded(cast(lift(x, "astype"), as_dtype(dtype))))
