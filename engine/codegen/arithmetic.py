"""Arithmetic, comparisons and choices, of scalars and vectors alike."""

from .builder import Builder
from .values import Operand, Value, bits_of, constant, mangled, with_element, wrapped

_RELATIONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_ROUNDINGS = {"floor", "ceil", "trunc", "roundeven"}


class Arithmetic(Builder):
    """What computes a value from values, lane by lane.

    One operand may be a Python number: it takes the type of the other. A comparison with NaN is
    false, but for ``!=``.
    """

    # --- sums and products -----------------------------------------------------------------------------

    def add(self, left: Operand, right: Operand) -> Value:
        """``left + right``; integers wrap around."""
        left, right = self.pair(left, right)
        if left.is_float:
            return self._arithmetic("fadd", left, right)
        if left.constant is not None and right.constant is not None:
            return self._folded(left.constant + right.constant, left)
        if left.constant == 0 or right.constant == 0:
            return right if left.constant == 0 else left
        return self._arithmetic("add", left, right)

    def sub(self, left: Operand, right: Operand) -> Value:
        """``left - right``; integers wrap around."""
        left, right = self.pair(left, right)
        if left.is_float:
            return self._arithmetic("fsub", left, right)
        if left.constant is not None and right.constant is not None:
            return self._folded(left.constant - right.constant, left)
        return left if right.constant == 0 else self._arithmetic("sub", left, right)

    def mul(self, left: Operand, right: Operand) -> Value:
        """``left * right``; integers wrap around."""
        left, right = self.pair(left, right)
        if left.constant == 1 or right.constant == 1:
            return right if left.constant == 1 else left
        if left.is_float:
            return self._arithmetic("fmul", left, right)
        if left.constant is not None and right.constant is not None:
            return self._folded(left.constant * right.constant, left)
        if left.constant == 0 or right.constant == 0:
            return constant(0, left.type)
        return self._arithmetic("mul", left, right)

    def div(self, left: Operand, right: Operand) -> Value:
        """``left / right`` of floats."""
        left, right = self.pair(left, right)
        return left if right.constant == 1 else self._arithmetic("fdiv", left, right)

    def neg(self, value: Value) -> Value:
        """``-value``; of a float, its sign flipped, whatever it is."""
        return self.emit(value.type, f"fneg {value}", "fneg") if value.is_float else self.sub(0, value)

    def fma(self, left: Operand, right: Operand, addend: Operand) -> Value:
        """``left * right + addend``, rounded once where the processor can; elsewhere LLVM would call a library."""
        left, right = self.pair(left, right)
        left, addend = self.pair(left, addend)
        if self.target.has_fma:
            return self.intrinsic(f"llvm.fma.{mangled(left.type)}", left.type, [left, right, addend], self._flags)
        return self.add(self.mul(left, right), addend)

    def fnma(self, left: Operand, right: Operand, addend: Operand) -> Value:
        """``addend - left * right``, rounded once where the processor can."""
        left, right = self.pair(left, right)
        if self.target.has_fma:
            return self.fma(self.neg(left), right, addend)
        return self.sub(addend, self.mul(left, right))

    def sqrt(self, value: Value) -> Value:
        """The square root, correctly rounded."""
        return self.intrinsic(f"llvm.sqrt.{mangled(value.type)}", value.type, [value])

    def round(self, value: Value, direction: str = "roundeven") -> Value:
        """A whole number beside the value: ``floor``, ``ceil``, ``trunc`` or ``roundeven``."""
        if direction not in _ROUNDINGS:
            raise TypeError(f"no rounding {direction!r}")
        return self.intrinsic(f"llvm.{direction}.{mangled(value.type)}", value.type, [value])

    def abs(self, value: Value) -> Value:
        """The absolute value; the smallest integer stays itself."""
        if value.is_float:
            return self.intrinsic(f"llvm.fabs.{mangled(value.type)}", value.type, [value])
        return self.select(self.compare("<", value, 0), self.neg(value), value)

    def copysign(self, magnitude: Value, sign: Value) -> Value:
        """The magnitude of the one with the sign of the other."""
        return self.intrinsic(f"llvm.copysign.{mangled(sign.type)}", sign.type, list(self.pair(magnitude, sign)))

    # --- bits ------------------------------------------------------------------------------------------

    def and_(self, left: Operand, right: Operand) -> Value:
        """Bitwise and; of masks, the logical one."""
        return self._bitwise("and", left, right, neutral=-1, zero=0)

    def or_(self, left: Operand, right: Operand) -> Value:
        """Bitwise or; of masks, the logical one."""
        return self._bitwise("or", left, right, neutral=0, zero=-1)

    def xor(self, left: Operand, right: Operand) -> Value:
        """Bitwise exclusive or."""
        left, right = self.pair(left, right)
        return left if right.constant == 0 else self._arithmetic("xor", left, right)

    def not_(self, value: Value) -> Value:
        """All bits flipped; of a mask, its negation."""
        return self.xor(value, 1 if value.element == "i1" else -1)

    def shl(self, value: Value, count: Operand) -> Value:
        """Shifted to the left; the count is less than the width."""
        return self._shift("shl", value, count)

    def ashr(self, value: Value, count: Operand) -> Value:
        """Shifted to the right, the sign filling up."""
        return self._shift("ashr", value, count)

    def lshr(self, value: Value, count: Operand) -> Value:
        """Shifted to the right, zeros filling up."""
        return self._shift("lshr", value, count)

    def shifted_left(self, value: Value, count: Operand) -> Value:
        """Shifted to the left; 0 where the count is negative, or no less than the width."""
        value, count = self.pair(value, count)
        width = bits_of(value.element)
        inside = self.compare("<", count, width, unsigned=True)
        return self.select(inside, self.shl(value, self.select(inside, count, 0)), 0)

    def shifted_right(self, value: Value, count: Operand) -> Value:
        """Shifted to the right; by a negative count, or one no less than the width, only the sign is left."""
        value, count = self.pair(value, count)
        most = bits_of(value.element) - 1
        return self.ashr(value, self.select(self.compare("<", count, most, unsigned=True), count, most))

    # --- comparisons and choices -----------------------------------------------------------------------

    def compare(self, relation: str, left: Operand, right: Operand, *, unsigned: bool = False) -> Value:
        """``left relation right`` as a mask: ``< <= > >= == !=``."""
        left, right = self.pair(left, right)
        word = _RELATIONS[relation]
        if left.is_float:
            predicate = f"fcmp {'u' if word == 'ne' else 'o'}{word}"
        else:
            predicate = f"icmp {'' if word in ('eq', 'ne') else 'u' if unsigned else 's'}{word}"
        return self.emit(with_element(left.type, "i1"), f"{predicate} {left}, {right.text}", "compare")

    def is_above(self, value: Value, bound: Value) -> Value:
        """Where the value is larger, or either is NaN."""
        return self.emit(with_element(value.type, "i1"), f"fcmp ugt {value}, {bound.text}", "above")

    def is_nan(self, value: Value) -> Value:
        """Where the value is NaN."""
        return self.emit(with_element(value.type, "i1"), f"fcmp uno {value}, {value.text}", "nan")

    def is_zero_or_nan(self, value: Value) -> Value:
        """Where the value is 0, of either sign, or NaN."""
        zero = constant(0.0, value.type)
        return self.emit(with_element(value.type, "i1"), f"fcmp ueq {value}, {zero.text}", "nothing")

    def select(self, condition: Value, then: Operand, otherwise: Operand) -> Value:
        """``then`` where the condition holds; one condition serves all lanes if it is a scalar."""
        then, otherwise = self.pair(then, otherwise)
        if condition.constant is not None:
            return then if condition.constant else otherwise
        return then if then == otherwise else self.emit(then.type, f"select {condition}, {then}, {otherwise}", "select")

    def max(self, left: Operand, right: Operand) -> Value:
        """The larger (integers are signed); ``right`` where either is NaN, as the instruction of x86 does."""
        left, right = self.pair(left, right)
        return self.select(self.compare(">", left, right), left, right)

    def min(self, left: Operand, right: Operand) -> Value:
        """The smaller (integers are signed); ``right`` where either is NaN, as the instruction of x86 does."""
        left, right = self.pair(left, right)
        return self.select(self.compare("<", left, right), left, right)

    def max_nan(self, left: Operand, right: Operand) -> Value:
        """The larger, or NaN where either is."""
        left, right = self.pair(left, right)
        return self.select(self.is_nan(left), left, self.max(left, right))

    def min_nan(self, left: Operand, right: Operand) -> Value:
        """The smaller, or NaN where either is."""
        left, right = self.pair(left, right)
        return self.select(self.is_nan(left), left, self.min(left, right))

    # --- inside ----------------------------------------------------------------------------------------

    def _folded(self, number: int | float, like: Value) -> Value:
        return constant(wrapped(int(number), bits_of(like.element)), like.type)

    def _bitwise(self, operation: str, left: Operand, right: Operand, *, neutral: int, zero: int) -> Value:
        left, right = self.pair(left, right)
        if left.constant is not None:
            left, right = right, left
        known = right.constant
        if known is not None and right.element == "i1":
            known = -int(known)
        if known == neutral:
            return left
        return right if known == zero else self._arithmetic(operation, left, right)

    def _shift(self, operation: str, value: Value, count: Operand) -> Value:
        value, count = self.pair(value, count)
        if count.constant == 0:
            return value
        if operation == "shl" and value.constant is not None and count.constant is not None:
            return self._folded(int(value.constant) << int(count.constant), value)
        return self._arithmetic(operation, value, count)
