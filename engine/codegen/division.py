"""Division of integers as Python divides: rounded down; by zero it gives 0, and the smallest by -1 wraps."""

from .conversion import Conversion
from .values import Operand, Value, constant


class Division(Conversion):
    """Quotients and remainders. No operand can trap."""

    def floor_divide(self, left: Operand, right: Operand) -> Value:
        """``left // right`` of integers, rounded down; 0 where ``right`` is 0."""
        left, right = self.pair(left, right)
        return self._divided(left, right)[0]

    def modulo(self, left: Operand, right: Operand) -> Value:
        """``left % right`` of integers, with the sign of ``right``; 0 where ``right`` is 0."""
        left, right = self.pair(left, right)
        return self._divided(left, right)[1]

    def unsigned_divide(self, left: Operand, right: Operand) -> Value:
        """``left // right`` of numbers known not to be negative, ``right`` known not to be 0."""
        left, right = self.pair(left, right)
        known = right.constant
        if known == 1:
            return left
        if known is not None and _is_power(int(known)):
            return self.lshr(left, int(known).bit_length() - 1)
        return self._arithmetic("udiv", left, right)

    def unsigned_modulo(self, left: Operand, right: Operand) -> Value:
        """``left % right`` of numbers known not to be negative, ``right`` known not to be 0."""
        left, right = self.pair(left, right)
        known = right.constant
        if known is not None and _is_power(int(known)):
            return self.and_(left, int(known) - 1)
        return self._arithmetic("urem", left, right)

    def _divided(self, left: Value, right: Value) -> tuple[Value, Value]:
        """Quotient and remainder; what is not read LLVM drops."""
        known = None if right.constant is None else int(right.constant)
        zero = constant(0, left.type)
        if known == 0:
            return zero, zero
        if known is not None and _is_power(known):
            return self.ashr(left, known.bit_length() - 1), self.and_(left, known - 1)
        if known == -1:
            return self.neg(left), zero
        if known is not None:
            quotient = self._arithmetic("sdiv", left, right)
            return self._floored(left, right, quotient)
        # Divide by 1 where the processor would trap, and put right what comes of it.
        is_zero, is_minus_one = self.compare("==", right, 0), self.compare("==", right, -1)
        safe = self.select(self.or_(is_zero, is_minus_one), 1, right)
        quotient = self._truncated(left, safe)
        floored, remainder = self._floored(left, safe, quotient)
        floored = self.select(is_minus_one, self.neg(left), floored)
        return self.select(is_zero, zero, floored), remainder

    def _truncated(self, left: Value, right: Value) -> Value:
        """``left / right`` rounded towards zero."""
        if left.element != "i32" or left.lanes == 1:
            return self._arithmetic("sdiv", left, right)
        # Vectors have no division of integers. In double it is exact: a quotient that is no whole number is
        # at least 1/|right| away from the next, and its error is at most 2**-53 * 2**31 / |right|.
        with self.flags(""):
            quotient = self.div(self.convert(left, "double"), self.convert(right, "double"))
        return self.convert(quotient, "i32")

    def _floored(self, left: Value, right: Value, quotient: Value) -> tuple[Value, Value]:
        """The quotient rounded down and its remainder, from the quotient rounded towards zero."""
        remainder = self.sub(left, self.mul(quotient, right))
        # Wrong by one where a remainder is left whose sign is not the divisor's.
        apart = self.compare("<", self.xor(remainder, right), 0)
        below = self.and_(self.compare("!=", remainder, 0), apart)
        return (
            self.select(below, self.sub(quotient, 1), quotient),
            self.select(below, self.add(remainder, right), remainder),
        )


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
