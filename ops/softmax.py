"""The softmax family: logsumexp, softmax, log_softmax. All -inf gives zeros, and -inf as the sum."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court, blame_of_any, clear, hidden_by_infinity
from ..engine.errors import ShapeError
from ..engine.ir import Node, Values
from ..engine.types import BOOL, TensorType
from .array import Array, ArrayLike
from .function import lifted_float
from .kinds import AlongAxis, Reduction, flag, line_blame, line_maximum, normalize_axes, normalize_axis, reduced_shape
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


class Shift(Reduction):
    """What is subtracted from a line's exponents before their exponentials are summed: its largest, 0 of -inf alone.

    Any number will do with which none overflows: a kernel that has the exponentials themselves takes 0.
    """

    kernel_kind: ClassVar[str | None] = "shift"

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """A reduction, and 0 for -inf."""
        return _finite(kernel, self.inline(kernel, at))

    def inline(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The same where it is subtracted again: a line without exponentials has none, whatever it is shifted by."""
        found = super().lower(kernel, at)
        kernel.origin.setdefault(found, self)
        return found

    def reference(self, x: Values) -> Values:
        """The largest, if that is a number."""
        return np.asarray(_safe_maximum(x, self.axes))


class Share(Node):
    """``1 / sum(exp(x - shift))`` along an axis: what exponentials are multiplied by; 0 of a line of -inf alone."""

    role: ClassVar[str] = "reduction"
    wide = True

    operand: Node
    shift: Node
    axis: int

    def infer(self) -> TensorType:
        """The shift's: one for each line."""
        return self.shift.type

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``exp(shift - lse)``, of which a sweep leaves the sum alone."""
        shift = kernel.element(self.shift, at)
        if shift.op != "load" and isinstance(self.shift, Shift):
            shift = self.shift.inline(kernel, at)
        return kernel.apply("exp", self.dtype, kernel.subtract(shift, _total(kernel, self, at)))

    def reference(self, x: Values, shift: Values) -> Values:
        """As it is written."""
        total = np.sum(np.exp(x - shift), axis=self.axis, keepdims=True)
        return np.asarray(1 / np.where(total == 0, np.inf, total))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """To blame for what its line is."""
        return Careful(value, None, line_maximum(operands[0], self.axis))


def _total(kernel: Any, share: "Share", at: Sequence[Any]) -> Any:
    """The logarithm of the sum of exponentials, as a part of that node: which is stored, where it has to be."""
    total = LogSumExp(share.operand, (share.axis,), True).lower(kernel, at)
    kernel.origin.setdefault(total, share)
    return total


def _finite(kernel: Any, found: Any) -> Any:
    """What is subtracted from a line's scores: 0 of one that is -inf alone, which has no weights so."""
    empty = kernel.apply("equal", BOOL, found, kernel.constant(-math.inf, found.dtype))
    return kernel.apply("where", found.dtype, empty, kernel.constant(0.0, found.dtype), found)


def _less_total(kernel: Any, node: "Softmax | LogSoftmax", total: Node, at: Sequence[Any]) -> Any:
    found = kernel.part(total, _line(kernel, node, at))
    found = _finite(kernel, found) if found.op == "load" else found
    return kernel.subtract(kernel.element(node.operand, at), found)


def _line(kernel: Any, node: AlongAxis, at: Sequence[Any]) -> list[Any]:
    return [kernel.constant(0) if n == node.axis else index for n, index in enumerate(at)]


class Softmax(AlongAxis):
    """``exp(x) / sum(exp(x))`` along an axis; zeros where all is -inf."""

    role: ClassVar[str] = "reduction"

    wide = True

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``exp(x - lse(x))``; of one element the two are one, and of a hidden one their difference is NaN.

        After a forward pass, ``exp(x - shift) * share``: then weights are those of the forward pass to the last bits,
        which a rounded logarithm of their sum would change, for a whole line alike.
        """
        weight = self._weight(kernel, at)
        if self.shape[self.axis] != 1:
            return weight
        lowest = kernel.constant(-np.inf, self.dtype)
        is_hidden = kernel.apply("equal", BOOL, kernel.element(self.operand, at), lowest)
        return kernel.apply("where", self.dtype, is_hidden, kernel.constant(0.0, self.dtype), weight)

    def _weight(self, kernel: Any, at: Sequence[Any]) -> Any:
        line = _line(kernel, self, at)
        shift, share = self.components()
        scores = kernel.element(self.operand, at)
        if not kernel.is_part(share):
            total = _total(kernel, Share(self.operand, shift, self.axis), line)
            return kernel.apply("exp", self.dtype, kernel.subtract(scores, total))
        weight = kernel.apply("exp", self.dtype, kernel.subtract(scores, kernel.part(shift, line)))
        return kernel.multiply(weight, kernel.part(share, line))

    def components(self) -> tuple[Node, ...]:
        """A line's shift and share: a backward pass has those of the forward pass."""
        shift = Shift(self.operand, (self.axis,), True)
        return shift, Share(self.operand, shift, self.axis)

    def adds_up_to_one(self) -> int | None:
        """Along its axis; a line of -inf alone has no weights, and adds up to 0."""
        return self.axis

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

    def adds_up_to_one(self) -> int | None:
        """Not without its sink's share."""
        return None

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
