"""Trigonometric and hyperbolic functions. Names and meaning: array API standard 2024.12."""

import numpy as np

from ..engine.ir import Values
from .arithmetic import FloatPair
from .exponential import FloatUnary
from .function import binary, unary


class Sin(FloatUnary):
    """The sine of an angle in radians."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.sin(x))


class Cos(FloatUnary):
    """The cosine of an angle in radians."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.cos(x))


class Tan(FloatUnary):
    """The tangent of an angle in radians."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.tan(x))


class Asin(FloatUnary):
    """The angle in radians whose sine is x; NaN outside [-1, 1]."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arcsin(x))


class Acos(FloatUnary):
    """The angle in radians whose cosine is x; NaN outside [-1, 1]."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arccos(x))


class Atan(FloatUnary):
    """The angle in radians whose tangent is x."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arctan(x))


class Sinh(FloatUnary):
    """The hyperbolic sine."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.sinh(x))


class Cosh(FloatUnary):
    """The hyperbolic cosine."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.cosh(x))


class Tanh(FloatUnary):
    """The hyperbolic tangent."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.tanh(x))


class Asinh(FloatUnary):
    """The inverse hyperbolic sine."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arcsinh(x))


class Acosh(FloatUnary):
    """The inverse hyperbolic cosine; NaN below 1."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arccosh(x))


class Atanh(FloatUnary):
    """The inverse hyperbolic tangent; NaN outside [-1, 1]."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arctanh(x))


class Atan2(FloatPair):
    """The angle in radians of the point (x2, x1): x1 is the ordinate."""

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.arctan2(left, right))


sin, cos, tan = unary(Sin), unary(Cos), unary(Tan)
asin, acos, atan = unary(Asin, "arcsin"), unary(Acos, "arccos"), unary(Atan, "arctan")
sinh, cosh, tanh = unary(Sinh), unary(Cosh), unary(Tanh)
asinh, acosh, atanh = unary(Asinh, "arcsinh"), unary(Acosh, "arccosh"), unary(Atanh, "arctanh")
atan2 = binary(Atan2, "arctan2")
