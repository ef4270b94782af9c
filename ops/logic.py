"""Comparisons, logic and bits. Names and meaning: array API standard 2024.12."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..engine.ir import Node, Values
from ..engine.types import BOOL, DType
from .arithmetic import Arithmetic, Unary
from .array import Array, ArrayLike, lift
from .casting import cast
from .function import binary, unary
from .kinds import Comparison, Elementwise
from .registry import public


class Compare(Comparison):
    """Two sides of one type. Python integers that do not fit the type compare by value."""

    left: Node
    right: Node


class Equal(Compare):
    """``x1 == x2``."""

    is_exact: ClassVar[bool] = True

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.equal(left, right))


class NotEqual(Compare):
    """``x1 != x2``."""

    is_exact: ClassVar[bool] = True

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.not_equal(left, right))


class Less(Compare):
    """``x1 < x2``."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.less(left, right))


class LessEqual(Compare):
    """``x1 <= x2``."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.less_equal(left, right))


class Greater(Compare):
    """``x1 > x2``."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.greater(left, right))


class GreaterEqual(Compare):
    """``x1 >= x2``."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.greater_equal(left, right))


class Predicate(Elementwise):
    """A question about every element."""

    operand: Node

    def result_dtype(self, dtype: DType) -> DType:
        """Boolean."""
        return BOOL


class Isnan(Predicate):
    """Whether x is NaN; never for integers."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.isnan(x))


class Isinf(Predicate):
    """Whether x is an infinity; never for integers."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.isinf(x))


class Isfinite(Predicate):
    """Whether x is neither NaN nor an infinity."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.isfinite(x))


class Signbit(Predicate):
    """Whether the sign is negative, that of -0.0 too."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.signbit(x)) if x.dtype.kind == "f" else x < 0


class Logic(Arithmetic):
    """Two booleans to one."""

    takes = (0,)


class LogicalAnd(Logic):
    """Both. Numbers count as true where they are not zero."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.logical_and(left, right))


class LogicalOr(Logic):
    """Either. Numbers count as true where they are not zero."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.logical_or(left, right))


class LogicalXor(Logic):
    """One of them, not both. Numbers count as true where they are not zero."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.logical_xor(left, right))


class LogicalNot(Unary):
    """Not. Numbers count as true where they are not zero."""

    takes = (0,)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.logical_not(x))

    def simplify(self) -> Node | None:
        """Not not x is x; a comparison of integers turns around."""
        inner = self.operand
        if isinstance(inner, LogicalNot):
            return inner.operand
        # Not for floats: NaN is neither less nor greater or equal.
        if isinstance(inner, Compare) and inner.left.dtype.kind in "iub" and type(inner) in _OPPOSITE:
            return _OPPOSITE[type(inner)](inner.left, inner.right)
        return None


_OPPOSITE: dict[type[Compare], type[Compare]] = {
    Less: GreaterEqual,
    GreaterEqual: Less,
    Greater: LessEqual,
    LessEqual: Greater,
    Equal: NotEqual,
    NotEqual: Equal,
}


class Bits(Arithmetic):
    """Two integers, or two booleans, bit by bit."""

    takes = (0, 1)


class BitwiseAnd(Bits):
    """``x1 & x2``."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.bitwise_and(left, right))


class BitwiseOr(Bits):
    """``x1 | x2``."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.bitwise_or(left, right))


class BitwiseXor(Bits):
    """``x1 ^ x2``."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.bitwise_xor(left, right))


class BitwiseInvert(Unary):
    """``~x``: every bit turned; not, for booleans."""

    takes = (0, 1)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.invert(x))

    def simplify(self) -> Node | None:
        """Booleans: as `LogicalNot`. Twice is nothing."""
        if isinstance(self.operand, BitwiseInvert):
            return self.operand.operand
        return LogicalNot(self.operand) if self.dtype == BOOL else None


class Shift(Arithmetic):
    """Bits moved by x2 places; a count outside [0, width) moves all of them out."""

    takes = (1,)

    def in_range(self, count: Values) -> Values:
        """Where the processor's shift is defined."""
        bits = self.dtype.itemsize * 8
        return np.asarray((count >= 0) & (count < bits))


class BitwiseLeftShift(Shift):
    """``x1 << x2``; 0 once all bits are out."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's where it is defined."""
        inside = self.in_range(right)
        shifted: Values = np.left_shift(left, np.where(inside, right, 0).astype(right.dtype))
        return np.where(inside, shifted, left.dtype.type(0))


class BitwiseRightShift(Shift):
    """``x1 >> x2``, keeping the sign; 0 or -1 once all bits are out."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's where it is defined."""
        inside = self.in_range(right)
        shifted = np.right_shift(left, np.where(inside, right, 0).astype(right.dtype))
        return np.where(inside, shifted, np.where(left < 0, -1, 0).astype(left.dtype))


equal, not_equal = binary(Equal, "eq"), binary(NotEqual, "ne")
less, less_equal = binary(Less, "lt"), binary(LessEqual, "le")
greater, greater_equal = binary(Greater, "gt"), binary(GreaterEqual, "ge")
isnan, isinf, isfinite, signbit = unary(Isnan), unary(Isinf), unary(Isfinite), unary(Signbit)
bitwise_and, bitwise_or, bitwise_xor = binary(BitwiseAnd), binary(BitwiseOr), binary(BitwiseXor)
bitwise_invert = unary(BitwiseInvert, "bitwise_not", "invert")
bitwise_left_shift = binary(BitwiseLeftShift, "left_shift")
bitwise_right_shift = binary(BitwiseRightShift, "right_shift")


def _truths(operation: str, given: Sequence[ArrayLike]) -> list[Node]:
    return [cast(lift(each, operation), BOOL) for each in given]


@public()
def logical_and(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """Both; numbers count as true where they are not zero."""
    return Array(LogicalAnd(*_truths("logical_and", (x1, x2))))


@public()
def logical_or(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """Either; numbers count as true where they are not zero."""
    return Array(LogicalOr(*_truths("logical_or", (x1, x2))))


@public()
def logical_xor(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """One of them, not both; numbers count as true where they are not zero."""
    return Array(LogicalXor(*_truths("logical_xor", (x1, x2))))


@public()
def logical_not(x: ArrayLike, /) -> Array:
    """Not; numbers count as true where they are not zero."""
    return Array(LogicalNot(*_truths("logical_not", (x,))))
