"""The softmax family: logsumexp, softmax, log_softmax. All -inf gives zeros, and -inf as the sum."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court, blame_of_any, clear, hidden_by_infinity
from ..engine.errors import ShapeError
from ..engine.ir import Node, Values
from ..engine.types import BOOL
from .arithmetic import Multiply, Negative, Subtract
from .array import Array, ArrayLike
from .function import lifted_float
from .kinds import AlongAxis, Reduction, flag, line_blame, normalize_axes, normalize_axis, reduced_shape
from .reduction import Sum
from .registry import FUNCTIONS, public
from .selection import where
from .shape import BroadcastTo, Reshape
from .shifts import is_largest, is_largest_with, plus, shift_outside, shifted


def _safe_maximum(x: Values, axis: Any, unsafe: Any = np.isneginf) -> Values:
    """The largest, or 0 where subtracting it would make NaN of -inf."""
    largest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return np.where(unsafe(largest), 0.0, largest)


class LogSumExp(Reduction):
    """``log(sum(exp(x)))``, stable; -inf where all is -inf and for nothing at all, inf where any is."""

    wide = True
    kernel_kind: ClassVar[str | None] = "lse"

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * softmax(x)``."""
        if len(self.axes) == 1:
            return (_spread(upstream, self) * Array(Softmax(self.operand, self.axes[0])),)
        total = _spread(Array(self), self)
        finite = where(total == -np.inf, 0.0, total)
        return (_spread(upstream, self) * FUNCTIONS["exp"](Array(self.operand) - finite),)

    def reference(self, x: Values) -> Values:
        """Shifted by the maximum."""
        largest = _safe_maximum(x, self.axes, np.isinf)
        total = np.sum(np.exp(x - largest), axis=self.axes, keepdims=True)
        result = np.log(total) + largest
        return result if self.keepdims else np.asarray(result).reshape(self.shape)

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """NaN, infinity, or a -inf that is not the sum of -inf alone."""
        if np.isfinite(value).all():
            return False
        largest = np.max(operands[0], axis=self.axes, keepdims=self.keepdims, initial=-np.inf)
        return not bool((np.isfinite(value) | (np.isneginf(value) & np.isneginf(largest))).all())


def _spread(array: Array, reduction: Reduction) -> Array:
    kept = reduced_shape(reduction.operand.shape, reduction.axes, True)
    return Array(BroadcastTo(Reshape(array.node, kept), reduction.operand.shape))


def _along_scores(node: "Softmax | LogSoftmax", operands: Sequence[Careful], value: Values) -> Careful:
    """A score of -inf is hidden, and a line blames whom its visible scores do."""
    scores, *others = operands
    hidden = hidden_by_infinity(scores)
    if scores.hidden is not None:  # 0 times infinity, where the 0 is a mask's
        value = node.reference(scores.contribution(), *(each.value for each in others))
    visible = Careful(scores.value, None, clear(scores.blame, hidden))
    lines = Careful(value, None, line_blame(visible, node.axis, value))
    return Careful(value, hidden, clear(blame_of_any([lines, *others], value.shape), hidden))


class Largest(Reduction):
    """The largest of a line, -inf of nothing: what a kernel subtracts before it takes exponentials."""

    kernel_kind: ClassVar[str | None] = "max"

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.max(x, axis=self.axes, keepdims=self.keepdims, initial=-np.inf))


class LargestWeight(Reduction):
    """``1 / sum(exp(x - largest))``, the weight of a line's largest in its softmax; 0 of a line of -inf alone."""

    wide = True

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``exp(largest - lse)``, of which a sweep leaves the sum alone."""
        total = LogSumExp(self.operand, self.axes, True).lower(kernel, at)
        kernel.origin.setdefault(total, self)
        largest = Largest(self.operand, self.axes, True).lower(kernel, at)
        return kernel.apply("exp", self.dtype, kernel.subtract(largest, total))

    def reference(self, x: Values) -> Values:
        """Shifted by the maximum."""
        total = np.sum(np.exp(x - _safe_maximum(x, self.axes)), axis=self.axes, keepdims=self.keepdims)
        return np.asarray(1 / np.where(total == 0, np.inf, total))


def _less_total(kernel: Any, node: "Softmax | LogSoftmax", total: Node, at: Sequence[Any]) -> Any:
    scores, found = kernel.element(node.operand, at), kernel.part(total, _line(kernel, node, at))
    if found.op == "load":  # stored, it may be -inf: of a line that is -inf alone, which less 0 has no weights
        empty = kernel.apply("equal", BOOL, found, kernel.constant(-math.inf, found.dtype))
        found = kernel.apply("where", found.dtype, empty, kernel.constant(0.0, found.dtype), found)
    return kernel.subtract(scores, found)


def _line(kernel: Any, node: AlongAxis, at: Sequence[Any]) -> list[Any]:
    return [kernel.constant(0) if n == node.axis else index for n, index in enumerate(at)]


class Softmax(AlongAxis):
    """``exp(x) / sum(exp(x))`` along an axis; zeros where all is -inf."""

    role: ClassVar[str] = "reduction"

    wide = True

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``exp(x - lse(x))``; of one element the two are one, and of a hidden one their difference is NaN.

        After a forward pass, ``exp(x - largest)`` times the weight of that: then weights are those of the forward pass
        to the last bits, which a rounded logarithm of their sum would change, for a whole line alike.
        """
        weight = self._weight(kernel, at)
        if self.shape[self.axis] != 1:
            return weight
        lowest = kernel.constant(-np.inf, self.dtype)
        is_hidden = kernel.apply("equal", BOOL, kernel.element(self.operand, at), lowest)
        return kernel.apply("where", self.dtype, is_hidden, kernel.constant(0.0, self.dtype), weight)

    def _weight(self, kernel: Any, at: Sequence[Any]) -> Any:
        if not kernel.apart:
            total = LogSumExp(self.operand, (self.axis,), True)
            return kernel.apply("exp", self.dtype, _less_total(kernel, self, total, at))
        largest, share = self.components()
        weight = kernel.apply("exp", self.dtype, _less_total(kernel, self, largest, at))
        return kernel.multiply(weight, kernel.part(share, _line(kernel, self, at)))

    def components(self) -> tuple[Node, ...]:
        """The largest and its weight: a backward pass has those of the forward pass."""
        axes = (self.axis,)
        return Largest(self.operand, axes, True), LargestWeight(self.operand, axes, True)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``P (upstream - sum(P * upstream))``."""
        weights = Array(self)
        mean = FUNCTIONS["sum"](weights * upstream, self.axis, keepdims=True)
        return (weights * (upstream - mean),)

    def simplify(self) -> Node | None:
        """What is subtracted from a whole line stands outside of what hides some of it; its largest need not be."""
        outside = shift_outside(self.operand, self.axis)
        if outside is not None:
            return self.with_operands((outside, *self.operands[1:]))
        found = shifted(self.operand, self.axis)
        return None if found is None else self.without_shift(*found)

    def without_shift(self, scores: Node, shift: Node) -> Node | None:
        """The same of scores of which ``shift`` is not subtracted; None if that could be another."""
        return Softmax(scores, self.axis) if is_largest(shift, scores) else None

    def reference(self, x: Values, *beside: Values) -> Values:
        """Shifted by the maximum."""
        weights = np.exp(x - _safe_maximum(x, self.axis))
        total = np.sum(weights, axis=self.axis, keepdims=True)
        return np.asarray(weights / np.where(total == 0, 1.0, total))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A score of -inf is a hidden weight of 0."""
        return _along_scores(self, operands, value)


class SinkSoftmax(Softmax):
    """``exp(x) / (exp(sink) + sum(exp(x)))`` along an axis, where the sink is 1 long; zeros where all is -inf.

    A sink takes a share of the weights that goes nowhere: a logit for each head (Xiao 2023, arXiv:2309.17453), or 0,
    the softmax plus one.
    """

    sink: Node

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``exp(x - logaddexp(lse(x), sink))``."""
        return Softmax.lower(self, kernel, at)

    def _weight(self, kernel: Any, at: Sequence[Any]) -> Any:
        return kernel.apply("exp", self.dtype, _less_total(kernel, self, self.components()[0], at))

    def components(self) -> tuple[Node, ...]:
        """The logarithm of the sum, and that of the scores alone."""
        scores = LogSumExp(self.operand, (self.axis,), True)
        return FUNCTIONS["logaddexp"](Array(scores), Array(self.sink)).node, scores

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``P (upstream - m)`` with ``m = sum(P * upstream)``, and ``-m * share`` to the sink, for its own share."""
        weights, sink = Array(self), Array(self.sink)
        mean = FUNCTIONS["sum"](weights * upstream, self.axis, keepdims=True)
        total = Array(self.components()[0])
        share = FUNCTIONS["exp"](sink - where(total == -np.inf, 0.0, total))
        return weights * (upstream - mean), -(mean * share)

    def reference(self, x: Values, *beside: Values) -> Values:
        """Shifted by the largest of all."""
        largest = np.maximum(_safe_maximum(x, self.axis), beside[0])
        weights = np.exp(x - largest)
        total = np.sum(weights, axis=self.axis, keepdims=True) + np.exp(beside[0] - largest)
        return np.asarray(weights / np.where(total == 0, 1.0, total))

    def without_shift(self, scores: Node, shift: Node) -> Node | None:
        """``e / (exp(-m) + sum(e))`` with ``e = exp(x - m)`` is that of x, and of 0."""
        sink = plus(self.sink, shift)
        if sink is None or not (is_largest(shift, scores) or is_largest_with(shift, sink)):
            return None
        return SinkSoftmax(scores, self.axis, sink)


def vanishes(node: Node, axes: Sequence[int]) -> bool:
    """Whether the sum along these axes is 0: of ``P * (g - sum(P * g))`` it is, where P is a softmax along them.

    So nothing arrives at what is subtracted from whole lines of scores, such as their maximum.
    """
    while isinstance(node, Negative):
        node = node.operand
    if not isinstance(node, Multiply):
        return False
    weights, rest = node.operands
    if type(weights) is not Softmax or weights.axis not in axes or not isinstance(rest, Subtract):
        return False
    mean = rest.right
    return (
        isinstance(mean, Sum)
        and mean.axes == (weights.axis,)
        and isinstance(mean.operand, Multiply)
        and mean.operand.operands == (weights, rest.left)
    )


@public()
def logsumexp(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
    """``log(sum(exp(x)))`` along ``axis`` (one, several, None for all), natural, without overflow.

    -inf where everything is -inf, and of nothing.
    """
    node = lifted_float(x, "logsumexp")
    return Array(
        LogSumExp(node, normalize_axes("logsumexp", axis, len(node.shape)), flag("logsumexp", "keepdims", keepdims))
    )


def _softmax_axis(name: str, node: Node, axis: Any) -> int:
    if not node.shape:
        raise ShapeError(f"{name}: a 0-d array has no axis")
    return normalize_axis(name, axis, len(node.shape))


@public()
def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))`` along ``axis``. A line of -inf alone gives zeros, never NaN.

    Raises:
        ShapeError: If there is no such axis.
    """
    node = lifted_float(x, "softmax")
    return Array(Softmax(node, _softmax_axis("softmax", node, axis)))


@public()
def log_softmax(x: ArrayLike, axis: int = -1) -> Array:
    """``x - logsumexp(x)`` along ``axis``, the logarithm of `softmax`.

    A line of -inf alone gives -inf (`softmax` gives it zeros), never NaN.

    Raises:
        ShapeError: If there is no such axis.
    """
    node = lifted_float(x, "log_softmax")
    return Array(LogSoftmax(node, _softmax_axis("log_softmax", node, axis)))


class LogSoftmax(AlongAxis):
    """``x - logsumexp(x)`` along an axis; -inf where all is -inf."""

    role: ClassVar[str] = "reduction"

    wide = True

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``x - lse(x)``."""
        (total,) = self.components()
        return _less_total(kernel, self, total, at)

    def components(self) -> tuple[Node, ...]:
        """The logarithm of the sum."""
        return (LogSumExp(self.operand, (self.axis,), True),)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream - softmax(x) * sum(upstream)``."""
        weights = Array(Softmax(self.operand, self.axis))
        return (upstream - weights * FUNCTIONS["sum"](upstream, self.axis, keepdims=True),)

    def reference(self, x: Values) -> Values:
        """Shifted by the maximum."""
        shifted = x - _safe_maximum(x, self.axis)
        total = np.sum(np.exp(shifted), axis=self.axis, keepdims=True)
        return np.asarray(shifted - np.log(np.where(total == 0, 1.0, total)))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A hidden score stays hidden."""
        return _along_scores(self, operands, value)
