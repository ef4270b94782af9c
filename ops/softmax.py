"""The softmax family: logsumexp, softmax, log_softmax. All -inf gives zeros, and -inf as the sum."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court, clear, hidden_by_infinity
from ..engine.errors import ShapeError
from ..engine.ir import Node, Values
from ..engine.types import BOOL
from .array import Array, ArrayLike
from .function import lifted_float
from .kinds import AlongAxis, Reduction, flag, line_blame, normalize_axes, normalize_axis, reduced_shape
from .registry import FUNCTIONS, public
from .selection import where
from .shape import BroadcastTo, Reshape


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


def _along_scores(node: "Softmax | LogSoftmax", scores: Careful, value: Values) -> Careful:
    """A score of -inf is hidden, and a line blames whom its visible scores do."""
    hidden = hidden_by_infinity(scores)
    if scores.hidden is not None:  # 0 times infinity, where the 0 is a mask's
        value = node.reference(scores.contribution())
    visible = Careful(scores.value, None, clear(scores.blame, hidden))
    return Careful(value, hidden, clear(line_blame(visible, node.axis, value), hidden))


def _less_total(kernel: Any, node: "Softmax | LogSoftmax", total: Node, at: Sequence[Any]) -> Any:
    there = [kernel.constant(0) if n == node.axis else index for n, index in enumerate(at)]
    return kernel.subtract(kernel.element(node.operand, at), kernel.part(total, there))


class Softmax(AlongAxis):
    """``exp(x) / sum(exp(x))`` along an axis; zeros where all is -inf."""

    role: ClassVar[str] = "reduction"

    wide = True

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``exp(x - lse(x))``; of one element the two are one, and of a hidden one their difference is NaN."""
        (total,) = self.components()
        weight = kernel.apply("exp", self.dtype, _less_total(kernel, self, total, at))
        if self.shape[self.axis] != 1:
            return weight
        lowest = kernel.constant(-np.inf, self.dtype)
        is_hidden = kernel.apply("equal", BOOL, kernel.element(self.operand, at), lowest)
        return kernel.apply("where", self.dtype, is_hidden, kernel.constant(0.0, self.dtype), weight)

    def components(self) -> tuple[Node, ...]:
        """The logarithm of the sum: a backward pass has that of the forward pass."""
        return (LogSumExp(self.operand, (self.axis,), True),)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``P (upstream - sum(P * upstream))``."""
        weights = Array(self)
        mean = FUNCTIONS["sum"](weights * upstream, self.axis, keepdims=True)
        return (weights * (upstream - mean),)

    def reference(self, x: Values) -> Values:
        """Shifted by the maximum."""
        weights = np.exp(x - _safe_maximum(x, self.axis))
        total = np.sum(weights, axis=self.axis, keepdims=True)
        return np.asarray(weights / np.where(total == 0, 1.0, total))

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A score of -inf is a hidden weight of 0."""
        return _along_scores(self, operands[0], value)


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
        return _along_scores(self, operands[0], value)
