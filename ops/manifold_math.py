"""Functions that the manifolds are made of, finite and with finite slopes where the plain formulas are not."""

import math
from collections.abc import Callable

from ..engine.types import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, DType
from .arithmetic import maximum
from .array import Array
from .exponential import log1p, sqrt
from .logic import equal
from .reduction import sum
from .selection import where

# A curvature or radius: a number, or a lazy 0-d array, which can be learned.
Parameter = float | Array

_EPSILONS = {FLOAT16: 2.0**-10, BFLOAT16: 2.0**-7, FLOAT32: 2.0**-23, FLOAT64: 2.0**-52}


def wide(x: Parameter) -> Parameter:
    """In float64: for factors of a row that cancel."""
    return x.astype(FLOAT64) if isinstance(x, Array) else x


def root(x: Parameter) -> Parameter:
    """The square root of a parameter."""
    return sqrt(x) if isinstance(x, Array) else math.sqrt(x)


def epsilon(dtype: DType) -> float:
    """The distance from 1 to the next number."""
    return _EPSILONS[dtype]


def square_norm(x: Array, axis: int, keepdim: bool) -> Array:
    """``|x|² = Σ x²``."""
    return sum(x * x, axis, keepdims=keepdim)


def square_distance(x: Array, y: Array, axis: int, keepdim: bool, form: str) -> Array:
    """``|x - y|²``: from differences, or (form ``gram``) ``|x|² + |y|² - 2 x·y``, which loses digits."""
    if form == "direct":
        return square_norm(x - y, axis, keepdim)
    squares = square_norm(x, axis, keepdim) + square_norm(y, axis, keepdim)
    return maximum(squares - 2.0 * sum(x * y, axis, keepdims=keepdim), 0.0)


def safe_root(square: Array) -> Array:
    """``sqrt(x)``, whose slope at 0 is finite.

    The branch at 0 is the operand, not a plain 0, which would count as a mask's.
    """
    zero = equal(square, 0.0)
    return where(zero, square, sqrt(where(zero, 1.0, square)))


def per_self(function: Callable[[Array], Array], x: Array) -> Array:
    """``f(x) / x`` of a function with ``f(0) = 0`` and slope 1 there: 1 at 0, with slope 0."""
    zero = equal(x, 0.0)
    safe = where(zero, 0.5, x)  # where the functions are finite, atanh among them
    return where(zero, 1.0, function(safe) / safe)


def arc_cosh1p(z: Array) -> Array:
    """``acosh(1 + z) = log1p(z + sqrt(z (z + 2)))``, exact near 0."""
    return log1p(z + safe_root(z * (z + 2.0)))


def arc_per_sinh(z: Array) -> Array:
    """``θ / sinh θ`` of ``θ = acosh(1 + z)``: 1 at 0, with slope 0."""
    zero = equal(z, 0.0)
    safe = where(zero, 1.0, z)
    return where(zero, 1.0, arc_cosh1p(safe) / sqrt(safe * (safe + 2.0)))


def part(x: Array, axis: int, start: int, stop: int | None) -> Array:
    """Some of the coordinates along ``axis``, counted from the end."""
    return x[(Ellipsis, slice(start, stop), *(slice(None),) * (-axis - 1))]


def first(x: Array, axis: int, keepdim: bool) -> Array:
    """The first coordinate."""
    return x[(Ellipsis, slice(0, 1) if keepdim else 0, *(slice(None),) * (-axis - 1))]
