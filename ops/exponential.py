"""Exponentials, logarithms, powers and roots. Names and meaning: array API standard 2024.12."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..engine.careful import Careful, Court, blame_of_any, clear, hidden_by_infinity
from ..engine.ir import Node, Values
from ..engine.leaves import Constant
from .arithmetic import Add, Arithmetic, is_constant
from .array import Array
from .function import binary, unary
from .kinds import FloatFunction
from .reduction import Sum
from .selection import where
from .softmax import LogSumExp


class FloatUnary(FloatFunction):
    """A function of one float."""

    operand: Node


class Exp(FloatUnary):
    """``e ** x``. A score of -inf is a weight of nothing: its position counts as hidden."""

    may_hide: ClassVar[bool] = True

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * exp(x)``."""
        return (upstream * Array(self),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.exp(x))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden where the exponent is -inf."""
        hidden = hidden_by_infinity(operands[0])
        return Careful(value, hidden, clear(blame_of_any(operands, value.shape), hidden))


class Exp2(FloatUnary):
    """``2 ** x``; -inf hides as in `Exp`."""

    may_hide: ClassVar[bool] = True

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * 2 ** x * log(2)``."""
        return (upstream * (Array(self) * math.log(2)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.exp2(x))

    careful = Exp.careful


class Expm1(FloatUnary):
    """``exp(x) - 1``, exact near 0."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * exp(x)``."""
        return (upstream * (Array(self) + 1),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.expm1(x))


class Log(FloatUnary):
    """The natural logarithm; -inf at 0, NaN below."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / x``."""
        return (upstream / Array(self.operand),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.log(x))

    def simplify(self) -> Node | None:
        """``log(sum(exp(x)))`` is logsumexp; ``log(c + sum(exp(x)))`` its logaddexp with log c.

        As written they overflow from scores of 89 on.
        """
        plain = _log_of_sum(self.operand)
        if plain is not None:
            return plain
        if isinstance(self.operand, Add):
            for one, other in (
                (self.operand.left, self.operand.right),
                (self.operand.right, self.operand.left),
            ):
                inner = _log_of_sum(one)
                if inner is not None and isinstance(other, Constant) and float(other.value) > 0:
                    sink = Constant(float(np.log(float(other.value))), other.dtype, other.type.weak)
                    return Logaddexp(inner, sink)
        return None


class Log1p(FloatUnary):
    """``log(1 + x)``, exact near 0."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / (1 + x)``."""
        return (upstream / (Array(self.operand) + 1),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.log1p(x))

    def simplify(self) -> Node | None:
        """``log1p(sum(exp(x)))`` is ``logaddexp(logsumexp(x), 0)``."""
        inner = _log_of_sum(self.operand)
        return None if inner is None else Logaddexp(inner, Constant(0.0, self.dtype, False))


def _log_of_sum(node: Node) -> Node | None:
    """The logarithm of a sum of exponentials, without leaving the exponents."""
    if isinstance(node, Sum) and isinstance(node.operand, Exp):
        return LogSumExp(node.operand.operand, node.axes, node.keepdims)
    return None


class Log2(FloatUnary):
    """The logarithm to base 2."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / (x log(2))``."""
        return (upstream / (Array(self.operand) * math.log(2)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.log2(x))


class Log10(FloatUnary):
    """The logarithm to base 10."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / (x log(10))``."""
        return (upstream / (Array(self.operand) * math.log(10)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.log10(x))


class Sqrt(FloatUnary):
    """The square root; NaN below 0."""

    wide = False

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / (2 sqrt(x))``."""
        return (upstream * 0.5 / Array(self),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.sqrt(x))


class Rsqrt(FloatUnary):
    """``1 / sqrt(x)``; inf at 0, NaN below; torch's name."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``-upstream / (2 x sqrt(x))``."""
        root = Array(self)
        return (upstream * (root * root * root * -0.5),)

    def reference(self, x: Values) -> Values:
        """In the carrier's precision."""
        return np.asarray(1 / np.sqrt(x))


class Logaddexp(Arithmetic):
    """``log(exp(x1) + exp(x2))`` without overflow; -inf adds nothing."""

    takes = (2,)
    wide = True

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream times each one's share of the sum; nothing where that is nothing."""
        total = Array(self)
        finite = where(total == -np.inf, 0.0, total)
        return tuple(upstream * exp(Array(each) - finite) for each in self.operands)

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.logaddexp(left, right))

    def simplify(self) -> Node | None:
        """Adding nothing changes nothing."""
        if is_constant(self.right, -np.inf) and self.left.type == self.type:
            return self.left
        return super().simplify()


exp, exp2, expm1 = unary(Exp), unary(Exp2), unary(Expm1)
log, log1p, log2, log10 = unary(Log), unary(Log1p), unary(Log2), unary(Log10)
sqrt, rsqrt = unary(Sqrt), unary(Rsqrt)
logaddexp = binary(Logaddexp)
