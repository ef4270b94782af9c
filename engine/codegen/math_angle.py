"""Angles: the inverses of sine, cosine and tangent."""

import math

from .llvm import Function, Value
from .math_floats import DOUBLE, FLOAT, format_of, polynomial, strict

# atan x = x + x z p(z) for |x| <= tan(pi/8); errors 7.0e-10 and 1.3e-18
_ATAN = {
    FLOAT: (-0.333333164, 0.199985325, -0.142445177, 0.106003143, -0.0609334558),
    DOUBLE: (
        *(-0.333333333333332, 0.19999999999953888, -0.14285714280232076, 0.11111110785416366),
        *(-0.09090897817809043, 0.07692061335251231, -0.06663117232136827, 0.05847987703162203),
        *(-0.05039756532617251, 0.03807620318251617, -0.017920092479631368),
    ),
}
# asin x = x + x z p(z) for |x| <= 1/2; errors 5.4e-9 and 1.2e-18
_ASIN = {
    FLOAT: (0.166667536, 0.0749524981, 0.0454766937, 0.0241477303, 0.0422199294),
    DOUBLE: (
        *(0.16666666666666763, 0.07499999999970135, 0.044642857175250614, 0.030381942676956996),
        *(0.022372215859635093, 0.01735159631870169, 0.01398100876552622, 0.011397373496020878),
        *(0.010788863117231406, 0.0036739569659694745, 0.02178619827824118, -0.021110174485458107),
        0.03269787686663407,
    ),
}
_HALF_PI_REST = {FLOAT: -4.371139000186241e-08, DOUBLE: 6.123233995736766e-17}  # pi/2 less its nearest float


@strict
def atan(f: Function, x: Value) -> Value:
    """The inverse of the tangent."""
    return f.copysign(_atan(f, f.abs(x)), x)


@strict
def atan2(f: Function, y: Value, x: Value) -> Value:
    """The angle of the point (x, y), from -pi to pi."""
    up, along = f.abs(y), f.abs(x)
    small, large = f.min(up, along), f.max(up, along)
    ratio = f.select(f.compare("==", small, large), 1.0, f.div(small, large))
    angle = _atan(f, f.select(f.compare("==", small, 0.0), 0.0, ratio))
    angle = f.select(f.compare(">", up, along), _turned(f, angle, 1), angle)
    angle = f.select(f.compare("<", f.bits(x), 0), _turned(f, angle, 2), angle)
    unordered = f.or_(f.is_nan(x), f.is_nan(y))
    return f.select(unordered, math.nan, f.copysign(angle, y))


@strict
def asin(f: Function, x: Value) -> Value:
    """The inverse of the sine; NaN outside -1 to 1."""
    is_large, angle = _asin(f, f.abs(x))
    return f.copysign(f.select(is_large, _turned(f, f.mul(angle, 2.0), 1), angle), x)


@strict
def acos(f: Function, x: Value) -> Value:
    """The inverse of the cosine; NaN outside -1 to 1."""
    is_large, angle = _asin(f, f.abs(x))
    double = f.mul(angle, 2.0)
    large = f.select(f.compare("<", x, 0.0), _turned(f, double, 2), double)
    return f.select(is_large, large, _turned(f, f.copysign(angle, x), 1))


def _turned(f: Function, angle: Value, quarters: int) -> Value:
    """``quarters * pi/2 - angle``."""
    form = format_of(angle)
    return f.sub(quarters * math.pi / 2, f.sub(angle, quarters * _HALF_PI_REST[form]))


def _asin(f: Function, size: Value) -> tuple[Value, Value]:
    """Where the argument is beyond 1/2, and the angle: there of sqrt((1 - size) / 2), else of the argument."""
    is_large = f.compare(">", size, 0.5)
    square = f.select(is_large, f.mul(f.sub(1.0, size), 0.5), f.mul(size, size))
    root = f.select(is_large, f.sqrt(square), size)
    return is_large, _odd(f, root, square, _ASIN[format_of(size)])


def _atan(f: Function, size: Value) -> Value:
    """The angle whose tangent is a number that is not negative."""
    form = format_of(size)
    is_steep, is_flat = f.compare(">", size, 2.414213562373095), f.compare("<", size, 0.41421356237309503)
    # Turned by pi/2, pi/4 or not at all, so that a quotient of at most tan(pi/8) remains.
    above = f.select(is_steep, -1.0, f.select(is_flat, size, f.sub(size, 1.0)))
    below = f.select(is_steep, size, f.select(is_flat, 1.0, f.add(size, 1.0)))
    quotient = f.div(above, below)
    angle = _odd(f, quotient, f.mul(quotient, quotient), _ATAN[form])
    zero, rest = f.constant(0.0, size.type), _HALF_PI_REST[form]
    turn = f.select(is_steep, math.pi / 2, f.select(is_flat, zero, math.pi / 4))
    turn_rest = f.select(is_steep, rest, f.select(is_flat, zero, rest / 2))
    return f.add(turn, f.add(angle, turn_rest))


def _odd(f: Function, x: Value, square: Value, coefficients: tuple[float, ...]) -> Value:
    """``x + x z p(z)``."""
    return f.fma(f.mul(x, square), polynomial(f, square, coefficients), x)
