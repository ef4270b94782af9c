"""Powers with any exponent."""

import math

from .llvm import Function, Value
from .math_exponential import exp2
from .math_floats import FLOAT, format_of, polynomial, strict
from .math_logarithm import log2, split

_THIRD = (0.3333333333333333, 1.850371707708594e-17)  # 1/3 in two parts
_TWO_LOG2_E = (2.8853900817779268, 4.0710547481862066e-17)
# atanh(s) = s (1 + z (1/3 + z p(z))), z = s^2, for (1 + s) / (1 - s) from 0.75 to 1.5; error 1.7e-21
_ATANH = (
    *(0.19999999999999862, 0.14285714285788637, 0.11111111095631941, 0.09090910762028886),
    *(0.07692203381638857, 0.06670570562144643, 0.05796203958647035, 0.06285570703746785),
)

Double = tuple[Value, Value]  # a sum of two: what the first has no digits for is in the second


@strict
def pow(f: Function, x: Value, y: Value) -> Value:
    """``x**y``; every special case as C99 has it."""
    size = f.abs(x)
    power = _of_floats(f, size, y) if format_of(x) == FLOAT else _of_doubles(f, size, y)
    is_infinite = f.compare("==", size, math.inf)
    is_edge = f.or_(is_infinite, f.compare("==", size, 0.0))
    edge = f.select(f.xor(is_infinite, f.compare("<", y, 0.0)), f.constant(math.inf, x.type), 0.0)
    power = f.select(is_edge, edge, power)
    half = f.mul(y, 0.5)
    is_whole = f.compare("==", y, f.round(y, "trunc"))
    is_odd = f.and_(is_whole, f.compare("!=", half, f.round(half, "trunc")))
    sign = f.and_(f.bits(x), f.bits(f.constant(-0.0, x.type)))
    power = f.from_bits(f.xor(f.bits(power), f.select(is_odd, sign, 0)), x.element)
    has_no_root = f.and_(f.and_(f.compare("<", x, 0.0), f.not_(is_whole)), f.not_(is_infinite))
    is_nan = f.or_(has_no_root, f.or_(f.is_nan(x), f.is_nan(y)))
    is_one = f.or_(f.compare("==", x, 1.0), f.compare("==", y, 0.0))
    return f.select(is_one, 1.0, f.select(is_nan, math.nan, power))


def _of_floats(f: Function, x: Value, y: Value) -> Value:
    """``x**y`` by way of double, which has digits enough."""
    bounded = f.max(-(2.0**40), f.min(2.0**40, f.convert(y, "double")))
    return f.convert(exp2(f, f.mul(log2(f, f.convert(x, "double")), bounded)), "float")


def _of_doubles(f: Function, x: Value, y: Value) -> Value:
    """``x**y`` with a logarithm of 64 digits, for the exponent multiplies its error by up to 1074."""
    first, second = _log2(f, x)
    bounded = f.max(-(2.0**70), f.min(2.0**70, y))
    product, rest = _product(f, first, bounded)
    return exp2(f, product, f.fma(second, bounded, rest))


def _log2(f: Function, x: Value) -> Double:
    """The logarithm to base 2 of a positive number, in two parts."""
    exponent, mantissa = split(f, x)
    above = f.sub(mantissa, 1.0)
    # s = above / (above + 2) in two parts
    below = f.add(above, 2.0)
    below_rest = f.sub(above, f.sub(below, 2.0))
    s = f.div(above, below)
    product, rest = _product(f, s, below)
    remainder = f.fnma(s, below_rest, f.sub(f.sub(above, product), rest))
    s_rest = f.div(remainder, below)
    # atanh(s) = s + s c, c = z w, w = 1/3 + z p(z)
    z, z_rest = _product(f, s, s)
    z_rest = f.fma(f.mul(s, 2.0), s_rest, z_rest)
    series = f.mul(z, polynomial(f, z, _ATANH))
    w, w_rest = _sum(f, f.constant(_THIRD[0], x.type), series)
    w_rest = f.add(w_rest, _THIRD[1])
    c, c_rest = _product(f, z, w)
    c_rest = f.fma(z, w_rest, f.fma(z_rest, w, c_rest))
    t, t_rest = _product(f, s, c)
    t_rest = f.fma(s, c_rest, f.fma(s_rest, c, t_rest))
    u, u_rest = _sum(f, s, t)
    u_rest = f.add(u_rest, f.add(t_rest, s_rest))
    # 2 log2(e) atanh(s) + exponent
    unit, unit_rest = _TWO_LOG2_E
    log, log_rest = _product(f, u, f.constant(unit, x.type))
    log_rest = f.fma(u, unit_rest, f.fma(u_rest, unit, log_rest))
    total, total_rest = _sum(f, exponent, log)
    return total, f.add(total_rest, log_rest)


def _sum(f: Function, large: Value, small: Value) -> Double:
    """``large + small`` exactly, for a ``large`` that is the larger or 0 (Dekker)."""
    total = f.add(large, small)
    return total, f.add(f.sub(large, total), small)


def _product(f: Function, left: Value, right: Value) -> Double:
    """``left * right`` exactly (Dekker), where it neither overflows nor comes near a denormal number."""
    product = f.mul(left, right)
    if f.target.has_fma:
        return product, f.fma(left, right, f.neg(product))
    (a, b), (c, d) = _halves(f, left), _halves(f, right)
    rest = f.sub(f.mul(a, c), product)
    return product, f.add(f.add(f.add(rest, f.mul(a, d)), f.mul(b, c)), f.mul(b, d))


def _halves(f: Function, value: Value) -> Double:
    """A double as a sum of two of 26 digits (Veltkamp)."""
    shifted = f.mul(value, 2.0**27 + 1)
    high = f.sub(shifted, f.sub(shifted, value))
    return high, f.sub(value, high)
