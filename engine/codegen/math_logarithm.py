"""Logarithms, and what is made of them: inverse hyperbolic functions, the sum of exponentials."""

import math

from .llvm import Function, Value
from .math_exponential import exp_nonpositive
from .math_floats import DOUBLE, FLOAT, format_of, polynomial, strict

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
# log(1 + x) = x + x^2 p(x) for sqrt(1/2) <= 1 + x <= sqrt(2); error 4.2e-9
_LOG_FLOAT = (
    *(-0.499999881, 0.333333254, -0.250016004, 0.200019881, -0.166087538, 0.14181748),
    *(-0.132455379, 0.129039943, -0.0761376843),
)
# log(1 + x) = 2 s + s z p(z) with s = x / (2 + x), z = s^2; error 1.3e-18
_LOG_DOUBLE = (
    *(0.6666666666666734, 0.3999999999941662, 0.2857142874203455, 0.22222198602992746),
    *(0.18183563020098134, 0.15314080349531425, 0.1479566369871976),
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
    first, second = _LOG10_2[format_of(x)]
    mantissa = _times(f, above, rest, _LOG10_E[format_of(x)])
    return _of_valid(f, x, f.fma(exponent, first, f.fma(exponent, second, mantissa)))


@strict
def log1p(f: Function, x: Value) -> Value:
    """``log(1 + x)``, exact near 0."""
    form = format_of(x)
    total = f.add(x, 1.0)
    # What the sum lost: 1 + x = total + lost, exactly (Knuth's two-sum).
    one = f.sub(total, x)
    lost = f.add(f.sub(1.0, one), f.sub(x, f.sub(total, one)))
    exponent, above, rest = _parts(f, total, is_normal=True)  # or 0
    first, second = _LN_2[form]
    rest = f.add(f.fma(exponent, second, rest), f.div(lost, total))
    result = f.fma(exponent, first, f.add(above, rest))
    result = f.select(f.compare("<", f.abs(x), 2.0 ** -(form.mantissa + 3)), x, result)
    return _bounded(f, x, result, -1.0)


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
    """``x = 2**e m`` with m from sqrt(1/2) to sqrt(2): e as i32 and m, for x positive and not denormal."""
    form = format_of(x)
    root = form.bits_of(math.sqrt(0.5))
    shifted = f.add(f.bits(x), form.bits_of(1.0) - root)
    mantissa = f.add(f.and_(shifted, (1 << form.mantissa) - 1), root)
    exponent = f.sub(f.convert(f.lshr(shifted, form.mantissa), "i32"), form.bias)
    return exponent, f.from_bits(mantissa, form.element)


def split_any(f: Function, x: Value) -> tuple[Value, Value]:
    """The same, of denormal numbers too."""
    form = format_of(x)
    is_small = f.compare("<", x, form.smallest_normal)
    more = form.mantissa + 1
    exponent, mantissa = split(f, f.select(is_small, f.mul(x, 2.0**more), x))
    return f.sub(exponent, f.select(is_small, f.constant(more, exponent.type), 0)), mantissa


def _parts(f: Function, x: Value, *, is_normal: bool = False) -> tuple[Value, Value, Value]:
    """For ``x = 2**e (1 + a)``: e as a float, a, and r such that ``log(1 + a) = a + r``."""
    exponent, mantissa = split(f, x) if is_normal else split_any(f, x)
    power, above = f.convert(exponent, x.element), f.sub(mantissa, 1.0)
    squared = f.mul(above, above)
    if format_of(x) == FLOAT:
        return power, above, f.mul(squared, polynomial(f, above, _LOG_FLOAT))
    # log(1 + a) = a - a^2/2 + s (a^2/2 + z p(z)): the order of sums in fdlibm's e_log.c, which loses least.
    ratio, half = f.div(above, f.add(above, 2.0)), f.mul(squared, 0.5)
    square = f.mul(ratio, ratio)
    series = f.mul(square, polynomial(f, square, _LOG_DOUBLE))
    return power, above, f.sub(f.mul(ratio, f.add(half, series)), half)


def _times(f: Function, above: Value, rest: Value, unit: tuple[float, float]) -> Value:
    """``(above + rest) * unit``."""
    first, second = unit
    return f.fma(above, first, f.fma(above, second, f.mul(rest, first)))


def _log1p_or_double(f: Function, x: Value, above: Value) -> Value:
    """``log1p(above)``, or ``log(2 x)`` where x is so large that its square would overflow."""
    is_large = f.compare(">", x, 2.0**30 if format_of(x) == FLOAT else 2.0**60)
    return f.add(log1p(f, f.select(is_large, x, above)), f.select(is_large, f.constant(math.log(2.0), x.type), 0.0))


def _of_valid(f: Function, x: Value, result: Value) -> Value:
    return _bounded(f, x, result, 0.0)


def _bounded(f: Function, x: Value, result: Value, bound: float) -> Value:
    """The result above the bound, -inf at it and NaN below; inf at inf."""
    result = f.select(f.compare("==", x, math.inf), x, result)
    edge = f.select(f.compare("==", x, bound), f.constant(-math.inf, x.type), math.nan)
    return f.select(f.compare(">", x, bound), result, edge)
