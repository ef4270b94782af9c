"""Exponentials, logarithms, powers and roots. Names and meaning: array API standard 2024.12."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..engine.careful import Careful, Court, blame_of_any, clear, hidden_by_infinity
from ..engine.ir import Node, Values
from ..engine.leaves import Constant
from .arithmetic import Add, Arithmetic, Subtract, is_constant
from .array import Array
from .function import binary, unary
from .kinds import FloatFunction, constant_value, reduced_shape
from .reduction import Sum
from .selection import Where, where
from .shifts import axis_of
from .softmax import LogSoftmax, LogSumExp, SinkSoftmax, Softmax


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

    def simplify(self) -> Node | None:
        """``exp(log_softmax(x))`` is softmax; ``exp(x - logaddexp(lse(x), b))`` the one with a sink."""
        if isinstance(self.operand, LogSoftmax):
            return Softmax(self.operand.operand, self.operand.axis)
        if not isinstance(self.operand, Subtract) or not isinstance(self.operand.right, Logaddexp):
            return None
        scores, total = self.operand.operands
        for one, sink in (total.operands, total.operands[::-1]):
            axis = axis_of(one, LogSumExp, scores)
            if axis is not None:
                return _softmax(scores, axis, [sink], self)
        return None

    def divided(self, divisor: Node) -> Node | None:
        """``exp(x) / sum(exp(x))`` is a softmax; with exponentials or numbers beside the sum, one with a sink."""
        terms = _terms(divisor)
        axes = [axis_of(term, Sum, self) for term in terms]
        found = [place for place, axis in enumerate(axes) if axis is not None]
        sinks = [_logarithm(term) for place, term in enumerate(terms) if place not in found]
        if len(found) != 1 or None in sinks:
            return None
        axis = axes[found[0]]
        return _softmax(self.operand, axis, [sink for sink in sinks if sink is not None], self)

    def shown(self, condition: Node, hides_where: bool) -> Node | None:
        """``where(c, exp(x), 0)`` is ``exp(where(c, x, -inf))``."""
        hidden = Constant(-math.inf, self.dtype, False)
        sides = (hidden, self.operand) if hides_where else (self.operand, hidden)
        return Exp(Where(condition, *sides))

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
        """``log(sum(exp(x)))`` is logsumexp; ``log(c + sum(exp(x)))`` its logaddexp with log c; of softmax log_softmax.

        As written they overflow from scores of 89 on.
        """
        plain = _log_of_sum(self.operand)
        if plain is not None:
            return plain
        if type(self.operand) is Softmax:
            return LogSoftmax(self.operand.operand, self.operand.axis)
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


def _terms(node: Node) -> list[Node]:
    """The terms of a sum of two, and of those."""
    if isinstance(node, Add) and all(each.dtype == node.dtype for each in node.operands):
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def _logarithm(node: Node) -> Node | None:
    """The logarithm of an exponential, or of a positive number."""
    if isinstance(node, Exp):
        return node.operand
    value = constant_value(node)
    return Constant(math.log(value), node.dtype, False) if value is not None and value > 0 else None


def _softmax(scores: Node, axis: int | None, sinks: Sequence[Node], like: Node) -> Node | None:
    """The softmax of scores, with these beside them in its sum; None if they do not fit."""
    if axis is None or scores.type != like.type:
        return None
    if not sinks:
        return Softmax(scores, axis)
    sink, *others = sinks
    for each in others:
        sink = Logaddexp(sink, each)
    line = reduced_shape(scores.shape, (axis,), True)
    places = zip(reversed(sink.shape), reversed(line), strict=False)
    fits = len(sink.shape) <= len(line) and all(length in (1, longest) for length, longest in places)
    return SinkSoftmax(scores, axis, sink) if fits and sink.dtype == scores.dtype else None


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
