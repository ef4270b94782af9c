"""The error function, which NumPy lacks.

On a grid of spacing 1/64 the values are the C library's; between grid points a Taylor series of the
derivatives ``erf' = 2/sqrt(pi) exp(-x²)`` and their Hermite polynomials carries on (Abramowitz and
Stegun 7.1.1, 7.1.19). Eight terms reach the last digit of float64.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..engine.ir import Values
from .array import Array
from .exponential import FloatUnary, exp
from .function import unary

_STEPS_PER_UNIT = 64
_LARGEST = 6.0  # erf(6) is 1 in float64
_TERMS = 8
_BLOCK = 1 << 14


@functools.cache
def _table() -> Values:
    """Taylor coefficients at every grid point: (terms, points), the value itself first."""
    points = np.arange(int(_LARGEST * _STEPS_PER_UNIT) + 1) / _STEPS_PER_UNIT
    slope = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    rows = [np.array([math.erf(point) for point in points])]
    hermite, before = np.ones_like(points), np.zeros_like(points)
    for order in range(1, _TERMS):
        rows.append(slope * hermite / math.factorial(order))
        # d/dx of H(x) exp(-x²), the sign kept inside: H' - 2 x H, by Hermite's recurrence.
        hermite, before = -2 * points * hermite - 2 * (order - 1) * before, hermite
    return np.stack(rows)


def erf_values(x: Values) -> Values:
    """Erf of float64 values, to a relative error of 4e-16."""
    result = np.empty(x.shape, np.float64)
    flat, source = result.reshape(-1), np.ascontiguousarray(x).reshape(-1)
    for start in range(0, flat.size, _BLOCK):  # in blocks that stay in the cache
        part = slice(start, start + _BLOCK)
        flat[part] = _erf_block(source[part])
    return result


def _erf_block(x: Values) -> Values:
    magnitude = np.minimum(np.abs(x), _LARGEST)
    nearest = np.rint(np.where(np.isnan(magnitude), 0.0, magnitude) * _STEPS_PER_UNIT).astype(np.int64)
    offset = magnitude - nearest / _STEPS_PER_UNIT
    table = _table()
    result = table[_TERMS - 1][nearest]
    for order in range(_TERMS - 2, -1, -1):
        result = result * offset + table[order][nearest]
    return np.asarray(np.copysign(result, x))


class Erf(FloatUnary):
    """The error function ``2/sqrt(pi) * integral of exp(-t²) from 0 to x``."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream * 2 / sqrt(pi) * exp(-x²)``."""
        x = Array(self.operand)
        return (upstream * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),)

    def reference(self, x: Values) -> Values:
        """See `erf_values`."""
        return erf_values(x)


erf = unary(Erf)
