"""Trigonometric and hyperbolic functions. Names and meaning: array API standard 2024.12."""

from collections.abc import Sequence

import numpy as np

from ..engine.ir import Values
from .arithmetic import FloatPair
from .array import Array
from .exponential import FloatUnary, rsqrt
from .function import binary, unary
from .selection import where


class Sin(FloatUnary):
    """The sine of an angle in radians."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * cos(x)``."""
        return (upstream * cos(Array(self.operand)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.sin(x))


class Cos(FloatUnary):
    """The cosine of an angle in radians."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``-upstream * sin(x)``."""
        return (-(upstream * sin(Array(self.operand))),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.cos(x))


class Tan(FloatUnary):
    """The tangent of an angle in radians."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * (1 + tan² x)``."""
        return (upstream * (Array(self) * Array(self) + 1),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.tan(x))


class Asin(FloatUnary):
    """The angle in radians whose sine is x; NaN outside [-1, 1]."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / sqrt(1 - x²)``."""
        x = Array(self.operand)
        return (upstream * rsqrt((1 - x) * (1 + x)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arcsin(x))


class Acos(FloatUnary):
    """The angle in radians whose cosine is x; NaN outside [-1, 1]."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``-upstream / sqrt(1 - x²)``."""
        x = Array(self.operand)
        return (-(upstream * rsqrt((1 - x) * (1 + x))),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arccos(x))


class Atan(FloatUnary):
    """The angle in radians whose tangent is x."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / (1 + x²)``."""
        x = Array(self.operand)
        return (upstream / (x * x + 1),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arctan(x))


class Sinh(FloatUnary):
    """The hyperbolic sine."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * cosh(x)``."""
        return (upstream * cosh(Array(self.operand)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.sinh(x))


class Cosh(FloatUnary):
    """The hyperbolic cosine."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * sinh(x)``."""
        return (upstream * sinh(Array(self.operand)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.cosh(x))


class Tanh(FloatUnary):
    """The hyperbolic tangent."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * (1 - tanh² x)``."""
        return (upstream * (1 - Array(self) * Array(self)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.tanh(x))


class Asinh(FloatUnary):
    """The inverse hyperbolic sine."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / sqrt(x² + 1)``."""
        x = Array(self.operand)
        return (upstream * rsqrt(x * x + 1),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arcsinh(x))


class Acosh(FloatUnary):
    """The inverse hyperbolic cosine; NaN below 1."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / sqrt(x² - 1)``."""
        x = Array(self.operand)
        return (upstream * rsqrt((x - 1) * (x + 1)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arccosh(x))


class Atanh(FloatUnary):
    """The inverse hyperbolic tangent; NaN outside [-1, 1]."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream / (1 - x²)``."""
        x = Array(self.operand)
        return (upstream / ((1 - x) * (1 + x)),)

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arctanh(x))


class Atan2(FloatPair):
    """The angle in radians of the point (x2, x1): x1 is the ordinate."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * x2 / (x1² + x2²)``, ``-upstream * x1 / (x1² + x2²)``; 0 at the origin."""
        y, x = Array(self.left), Array(self.right)
        square = x * x + y * y
        share = upstream / where(square == 0, 1.0, square)
        return share * x, -(share * y)

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arctan2(left, right))


sin, cos, tan = unary(Sin), unary(Cos), unary(Tan)
asin, acos, atan = unary(Asin, "arcsin"), unary(Acos, "arccos"), unary(Atan, "arctan")
sinh, cosh, tanh = unary(Sinh), unary(Cosh), unary(Tanh)
asinh, acosh, atanh = unary(Asinh, "arcsinh"), unary(Acosh, "arccosh"), unary(Atanh, "arctanh")
atan2 = binary(Atan2, "arctan2")
