"""Logarithms, and what is made of them: inverse hyperbolic functions, the sum of exponentials."""

import math

from .llvm import Function, Value
from .math_exponential import exp_nonpositive
from .math_floats import DOUBLE, FLOAT, format_of, in_avx512, polynomial, strict

# A unit in each base, in two parts. Times an exponent the first is exact; times a mantissa both are needed.
_LN_2 = {
    FLOAT: (0.693145751953125, 1.428606765330187e-06),
    DOUBLE: (0.6931471805598903, 5.497923018708371e-14),
}
_LOG10_2 = {
    FLOAT: (0.301025390625, 4.605039066518657e-06),
    DOUBLE: (0.30102999566395283, 2.8363394551044964e-14),
}
_LOG2_E = {
    FLOAT: (1.4426950216293335, 1.925963033500011e-08),
    DOUBLE: (1.4426950408889634, 2.0355273740931033e-17),
}
_LOG10_E = {
    FLOAT: (0.4342944920063019, -1.0103049952192578e-08),
    DOUBLE: (0.4342944819032518, 1.098319650216765e-17),
}
# log(1 + x) = x + x^2 p(x) for 0.75 <= 1 + x <= 1.5; error 5.0e-9
_LOG_FLOAT = (
    *(-0.5, 0.333334506, -0.250001013, 0.199908108, -0.166470453, 0.144784153),
    *(-0.131638512, 0.104695037, -0.0451246835),
)
# log(1 + x) = 2 s + s z p(z) with s = x / (2 + x), z = s^2; error 1.5e-17
_LOG_DOUBLE = (
    *(0.6666666666667271, 0.39999999996159963, 0.2857142939548549, 0.22222138489017174),
    *(0.1818635647645991, 0.15250183197841274, 0.15368206430041495),
)


@strict
def log(f: Function, x: Value) -> Value:
    """The natural logarithm."""
    exponent, above, rest = _parts(f, x)
    first, second = _LN_2[format_of(x)]
    rest = f.fma(exponent, second, rest)
    return _of_valid(f, x, f.fma(exponent, first, f.add(above, rest)))


@strict
def log2(f: Function, x: Value) -> Value:
    """The logarithm to base 2, exact for powers of two."""
    exponent, above, rest = _parts(f, x)
    return _of_valid(f, x, f.add(exponent, _times(f, above, rest, _LOG2_E[format_of(x)])))


@strict
def log10(f: Function, x: Value) -> Value:
    """The logarithm to base 10."""
    exponent, above, rest = _parts(f, x)
    mantissa = _times(f, above, rest, _LOG10_E[format_of(x)])
    first, second = _LOG10_2[format_of(x)]
    return _of_valid(f, x, f.fma(exponent, first, f.fma(exponent, second, mantissa)))


@strict
def log1p(f: Function, x: Value) -> Value:
    """``log(1 + x)``, exact near 0."""
    total = f.add(x, 1.0)
    # What the sum lost: 1 + x = total + lost, exactly (Knuth's two-sum).
    one = f.sub(total, x)
    lost = f.add(f.sub(1.0, one), f.sub(x, f.sub(total, one)))
    correction = f.min(f.div(lost, total), 1.0)  # NaN, of infinity and of -1, becomes 1
    exponent, above, rest = _parts(f, total)
    first, second = _LN_2[format_of(x)]
    rest = f.add(f.fma(exponent, second, rest), correction)
    result = _of_valid(f, total, f.fma(exponent, first, f.add(above, rest)))
    return f.copysign(result, x)  # of zero


@strict
def logaddexp(f: Function, left: Value, right: Value) -> Value:
    """``log(e**left + e**right)``."""
    distance = f.select(f.compare("==", left, right), 0.0, f.abs(f.sub(left, right)))  # of equal infinities, too
    return f.add(f.max_nan(left, right), log1p(f, exp_nonpositive(f, f.neg(distance))))


@strict
def asinh(f: Function, x: Value) -> Value:
    """The inverse of sinh."""
    size = f.abs(x)
    square = f.mul(size, size)
    above = f.add(size, f.div(square, f.add(f.sqrt(f.add(square, 1.0)), 1.0)))
    return f.copysign(_log1p_or_double(f, size, above), x)


@strict
def acosh(f: Function, x: Value) -> Value:
    """The inverse of cosh; NaN below 1."""
    beyond = f.sub(x, 1.0)
    above = f.add(beyond, f.sqrt(f.mul(beyond, f.add(beyond, 2.0))))
    return f.select(f.compare(">=", x, 1.0), _log1p_or_double(f, x, above), math.nan)


@strict
def atanh(f: Function, x: Value) -> Value:
    """The inverse of tanh; infinite at -1 and 1, NaN beyond."""
    size = f.abs(x)
    above = f.div(f.mul(size, 2.0), f.sub(1.0, size))
    return f.copysign(f.mul(log1p(f, above), 0.5), x)


def split(f: Function, x: Value) -> tuple[Value, Value]:
    """``x = 2**e m`` with m from 0.75 to 1.5: e as a float, and m.

    With AVX-512 e is infinite for 0 and infinity, and m is NaN for numbers below 0.
    """
    form = format_of(x)
    if f.target.has_avx512:
        mantissa = in_avx512(f, "getmant", x, immediate=0b1011)  # from 0.75; NaN for negative numbers
        return f.sub(in_avx512(f, "getexp", x), in_avx512(f, "getexp", mantissa)), mantissa
    is_small = f.compare("<", x, form.smallest_normal)
    more = form.mantissa + 1
    normal = f.select(is_small, f.mul(x, 2.0**more), x)
    start = form.bits_of(0.75)
    shifted = f.add(f.bits(normal), form.bits_of(1.0) - start)
    mantissa = f.add(f.and_(shifted, (1 << form.mantissa) - 1), start)
    exponent = f.convert(f.lshr(shifted, form.mantissa), "i32")
    exponent = f.sub(exponent, f.select(is_small, f.constant(form.bias + more, exponent.type), form.bias))
    return f.convert(exponent, x.element), f.from_bits(mantissa, form.element)


def _parts(f: Function, x: Value) -> tuple[Value, Value, Value]:
    """For ``x = 2**e (1 + a)``: e, a, and r such that ``log(1 + a) = a + r``."""
    exponent, mantissa = split(f, x)
    above = f.sub(mantissa, 1.0)
    squared = f.mul(above, above)
    if format_of(x) == FLOAT:
        return exponent, above, f.mul(squared, polynomial(f, above, _LOG_FLOAT))
    # log(1 + a) = a - a^2/2 + s (a^2/2 + z p(z)): the order of sums in fdlibm's e_log.c, which loses least.
    ratio, half = f.div(above, f.add(above, 2.0)), f.mul(squared, 0.5)
    square = f.mul(ratio, ratio)
    series = f.mul(square, polynomial(f, square, _LOG_DOUBLE))
    return exponent, above, f.sub(f.mul(ratio, f.add(half, series)), half)


def _times(f: Function, above: Value, rest: Value, unit: tuple[float, float]) -> Value:
    """``(above + rest) * unit``."""
    first, second = unit
    return f.fma(above, first, f.fma(above, second, f.mul(rest, first)))


def _log1p_or_double(f: Function, x: Value, above: Value) -> Value:
    """``log1p(above)``, or ``log(2 x)`` where x is so large that its square would overflow."""
    is_large = f.compare(">", x, 2.0**30 if format_of(x) == FLOAT else 2.0**60)
    return f.add(log1p(f, f.select(is_large, x, above)), f.select(is_large, f.constant(math.log(2.0), x.type), 0.0))


def _of_valid(f: Function, x: Value, result: Value) -> Value:
    """The result for positive numbers, inf at inf, -inf at 0 and NaN below."""
    if f.target.has_avx512:  # where `split` has seen to it
        return result
    result = f.select(f.compare("==", x, math.inf), x, result)
    edge = f.select(f.compare("==", x, 0.0), f.constant(-math.inf, x.type), math.nan)
    return f.select(f.compare(">", x, 0.0), result, edge)
