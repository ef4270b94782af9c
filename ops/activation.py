"""Activation functions: PyTorch's names and definitions, as compositions."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..engine.errors import ArgumentError
from ..engine.ir import Values
from ..engine.leaves import Constant
from .arithmetic import Maximum, minimum
from .array import Array, ArrayLike, lift
from .casting import cast
from .erf import erf
from .exponential import FloatUnary, expm1, logaddexp
from .function import lifted_float, unary
from .kinds import number
from .registry import public
from .selection import where
from .trigonometry import tanh


class Sigmoid(FloatUnary):
    """``1 / (1 + exp(-x))``."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * y (1 - y)``."""
        return (upstream * (Array(self) * (1 - Array(self))),)

    def reference(self, x: Values) -> Values:
        """Through the exponential of what is not positive: no overflow on either side."""
        small = np.exp(-np.abs(x))
        return np.where(x >= 0, 1.0, small) / (1.0 + small)


sigmoid = unary(Sigmoid, "expit")


class Relu(Maximum):
    """The larger of x and 0; by x at 0 its gradient is 0, as torch has it, where a maximum's is half."""

    name: ClassVar[str] = "maximum"

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream where x is positive."""
        return upstream * where(Array(self.left) > 0, 1.0, 0.0), None


@public()
def relu(x: ArrayLike, /) -> Array:
    """``max(x, 0)``; NaN stays NaN."""
    node = lift(x, "relu")
    return Array(Relu(node, cast(Constant(0, node.dtype, True), node.dtype, node.type.weak)))


@public()
def leaky_relu(x: ArrayLike, /, negative_slope: float = 0.01) -> Array:
    """X where it is positive, else ``negative_slope * x``."""
    array = Array(lifted_float(x, "leaky_relu"))
    return where(array > 0, array, array * negative_slope)


@public()
def elu(x: ArrayLike, /, alpha: float = 1.0) -> Array:
    """X where it is positive, else ``alpha * (exp(x) - 1)`` (Clevert 2015)."""
    array = Array(lifted_float(x, "elu"))
    # The bound keeps the branch that is not taken from overflowing.
    return where(array > 0, array, expm1(minimum(array, 0)) * alpha)


@public()
def gelu(x: ArrayLike, /, approximate: str = "none") -> Array:
    """``x * P(X <= x)`` for a standard normal X (Hendrycks 2016).

    Args:
        x: Any shape.
        approximate: ``"none"`` for the error function, ``"tanh"`` for the paper's approximation.

    Raises:
        ArgumentError: For another ``approximate``.
    """
    array = Array(lifted_float(x, "gelu"))
    if str(approximate) not in ("none", "tanh"):
        raise ArgumentError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')
    if str(approximate) == "none":
        return array * 0.5 * (1 + erf(array * math.sqrt(0.5)))
    inner = math.sqrt(2 / math.pi) * (array + 0.044715 * array * array * array)
    return array * 0.5 * (1 + tanh(inner))


@public("swish")
def silu(x: ArrayLike, /) -> Array:
    """``x * sigmoid(x)`` (Elfwing 2017)."""
    array = Array(lifted_float(x, "silu"))
    return array * sigmoid(array)


@public()
def softplus(x: ArrayLike, /, beta: float = 1.0) -> Array:
    """``log(1 + exp(beta * x)) / beta``, without overflow."""
    array = Array(lifted_float(x, "softplus"))
    beta = number("softplus", "beta", beta)
    if beta == 1.0:
        return logaddexp(array, 0.0)
    return logaddexp(array * beta, 0.0) / beta
