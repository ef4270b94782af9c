"""Powers of two and of e, and what is made of them: hyperbolic functions, the logistic function, erf."""

from .llvm import Function, Value
from .math_floats import (
    DOUBLE,
    FLOAT,
    format_of,
    in_avx512,
    nearest,
    polynomial,
    power_of_two,
    strict,
    with_scale,
)

_LOG2_E = 1.4426950408889634
_LN_2 = {  # in two parts: times a whole number of 10 bits the first is exact
    FLOAT: (0.693145751953125, 1.428606765330187e-06),
    DOUBLE: (0.6931471805598903, 5.497923018708371e-14),
}
_EXP2 = {  # 2^x = 1 + x p(x) for |x| <= 1/2; errors 3.3e-9 and 4.4e-18
    FLOAT: (0.693147182, 0.240226477, 0.0555035956, 0.00961849373, 0.0013390932, 0.00015332074),
    DOUBLE: (
        *(0.6931471805599453, 0.24022650695910108, 0.055504108664821715, 0.009618129107601623),
        *(0.0013333558146548232, 0.00015403530448996697, 1.525273363200461e-05, 1.3215438860703418e-06),
        *(1.0178160670219474e-07, 7.0732282346916255e-09, 4.4388277684134083e-10),
    ),
}
_EXP = {  # e^x = 1 + x + x^2 p(x) for |x| <= ln(2)/2; errors 3.5e-9 and 3.9e-18
    FLOAT: (0.49999994, 0.166665211, 0.0416682437, 0.00836864114, 0.00138229679),
    DOUBLE: (
        *(0.5000000000000011, 0.16666666666666435, 0.041666666666526866, 0.008333333333480096),
        *(0.001388888894437294, 0.0001984126953567311, 2.4801492413449105e-05, 2.755756170712233e-06),
        *(2.7630472443745513e-07, 2.5007655645458022e-08),
    ),
}
# tanh x = x + x z p(z) for |x| <= 0.625, z = x^2; error 4.5e-9
_TANH_SMALL = (-0.333332807, 0.133314118, -0.0537374355, 0.0206323024, -0.00569800101)
# tanh x = x p(z) / q(z) for |x| <= 9.02, beyond which it rounds to 1; error 2.9e-8
_TANH_ABOVE = (1.00590909, 0.13458769, 0.00351466727, 2.07048924e-05, 1.33974929e-08)
_TANH_BELOW = (1.00590909, 0.469890565, 0.0260238945, 0.000330247072, 7.80776588e-07)
# erf x = x + x p(z) for |x| <= 0.875, error 1.4e-8; 1 - 2^-p(x) up to 3.93, beyond which it rounds to 1, error 2.2e-9
_ERF_FLOAT = (0.128379151, -0.376125187, 0.112821773, -0.0267824437, 0.00501983054, -0.000614278659)
_ERFC_FLOAT = (0.000193610351, 1.6272639, 0.918624759, 0.150506079, -0.0323420949, 0.00446032686, -0.000289880263)
# erf x = x + x p(x^2) for |x| <= 1; error 1.4e-17
_ERF_DOUBLE = (
    *(0.12837916709551256, -0.3761263890318344, 0.11283791670941835, -0.02686617064281581, 0.00522397760409208),
    *(-0.000854832584532245, 0.0001205529135417848, -1.4924673885091422e-05, 1.64466996992871e-06),
    *(-1.620327041429462e-07, 1.3698771019062467e-08, -7.758191993171645e-10),
)
# erf x = 1 - exp(-x^2) p(x) / q(x) for 1 <= x <= 5.95; error 1.3e-18
_ERFC_ABOVE = (
    *(0.999999889273027597, 1.39004664170125604, 0.948861628410026303, 0.37320597678499557),
    *(0.0842237080869069828, 0.00891153151240588822),
)
_ERFC_BELOW = (
    *(1.0, 2.51842464051430182, 2.79060540437464753, 1.75587627414843679, 0.669447869776242232),
    *(0.149278703563050102, 0.0157954018055684793),
)


@strict
def exp2(f: Function, x: Value, rest: Value | None = None) -> Value:
    """``2**x``, or ``2**(x + rest)`` for a rest that x has no digits for."""
    form = format_of(x)
    if rest is not None:  # not more than that, where x is cut
        rest = f.max(-0.001, f.min(0.001, rest))
    x = f.max(-form.bias - form.mantissa - 1, f.min(form.bias + 2, x))
    whole, scaled = with_scale(f, x)
    fraction = f.sub(x, whole)
    return scaled(_exp2_fraction(f, fraction if rest is None else f.add(fraction, rest)))


@strict
def exp2_nonpositive(f: Function, x: Value) -> Value:
    """``2**x`` for ``x <= 0``, quicker: the weights of a softmax. Exactly 0 at -inf; NaN stays NaN.

    Without AVX-512, results that would be denormal are 0.
    """
    form = format_of(x)
    if f.target.has_avx512 and form == FLOAT:
        return _exp2_reduced(f, x)
    return _normal_exp2(f, f.max(-form.bias - (form.mantissa + 1 if f.target.has_avx512 else 0), x))


@strict
def exp2_weight(f: Function, x: Value) -> Value:
    """``2**x`` for what is mostly not above 0, as quick as there; infinity where it overflows, NaN stays NaN."""
    form = format_of(x)
    if f.target.has_avx512 and form == FLOAT:
        return _exp2_reduced(f, x)
    return _normal_exp2(f, f.min(form.bias + 1, f.max(-form.bias, x)))


@strict
def exp_less(f: Function, x: Value, largest: Value) -> Value:
    """``e**(x - y)`` for what is not above 0: the difference first, exact for the largest however large that is."""
    return exp2_nonpositive(f, f.mul(f.sub(x, largest), _LOG2_E))


@strict
def exp_weight(f: Function, x: Value, shift: Value) -> Value:
    """``e**(x - y)`` for what is mostly not above 0, as quick as `exp_less`, and to the same bits."""
    return exp2_weight(f, f.mul(f.sub(x, shift), _LOG2_E))


@strict
def exp(f: Function, x: Value) -> Value:
    """``e**x``."""
    low, high = (-104.0, 89.0) if format_of(x) == FLOAT else (-746.0, 710.0)
    x = f.max(low, f.min(high, x))
    whole, scaled = with_scale(f, f.mul(x, _LOG2_E))
    return scaled(_exp_fraction(f, _without(f, x, whole)))


@strict
def exp_nonpositive(f: Function, x: Value) -> Value:
    """``e**x`` for ``x <= 0``, quicker. Exactly 0 at -inf. Without AVX-512, what would be denormal is 0."""
    form = format_of(x)
    if f.target.has_avx512:
        x = f.max(-104.0 if form == FLOAT else -746.0, x)
        whole, scaled = with_scale(f, f.mul(x, _LOG2_E))
        return scaled(_exp_fraction(f, _without(f, x, whole)))
    x = f.max(-88.1 if form == FLOAT else -709.2, x)  # log2(e) times it is nearest to -bias
    whole, bits = nearest(f, f.mul(x, _LOG2_E), form.bias)
    return f.mul(_exp_fraction(f, _without(f, x, whole)), power_of_two(f, bits, x))


@strict
def expm1(f: Function, x: Value) -> Value:
    """``e**x - 1``, exact near 0."""
    return _if_tiny(f, x, f.mul(_quarter_expm1(f, x), 4.0))


@strict
def sinh(f: Function, x: Value) -> Value:
    """The hyperbolic sine."""
    quarter = _quarter_expm1(f, f.abs(x))
    above = f.add(quarter, f.div(quarter, f.fma(quarter, 4.0, 1.0)))
    return _if_tiny(f, x, f.copysign(f.mul(above, 2.0), x))


@strict
def cosh(f: Function, x: Value) -> Value:
    """The hyperbolic cosine."""
    quarter = f.add(_quarter_expm1(f, f.abs(x)), 0.25)
    return f.fma(quarter, 2.0, f.div(0.125, quarter))


@strict
def tanh(f: Function, x: Value) -> Value:
    """The hyperbolic tangent."""
    if f.target.has_avx512 and format_of(x) == FLOAT:
        return _tanh_reduced(f, x)
    size = f.abs(x)
    if format_of(x) == FLOAT:
        square = f.mul(size, size)
        near = f.fma(f.mul(size, square), polynomial(f, square, _TANH_SMALL), size)
        above = f.add(_normal_exp2(f, f.mul(f.min(10.0, size), 2 * _LOG2_E)), 1.0)
        return f.copysign(f.select(f.compare("<", size, 0.625), near, f.sub(1.0, f.div(2.0, above))), x)
    above = f.mul(_quarter_expm1(f, f.mul(f.min(20.0, size), 2.0)), 4.0)
    return _if_tiny(f, x, f.copysign(f.div(above, f.add(above, 2.0)), x))


@strict
def tanh_in_log2(f: Function, x: Value) -> Value:
    """``tanh(x ln(2) / 2)``: for an argument whose maker can multiply by 2 log2(e) for nothing. -0 may become 0."""
    if f.target.has_avx512 and format_of(x) == FLOAT:
        return _tanh_of_power(f, x)
    return tanh(f, f.mul(x, 0.5 / _LOG2_E))


@strict
def tanh_quick(f: Function, x: Value) -> Value:
    """The hyperbolic tangent in three quarters of the time, in float to 5 units in the last place: for long sums."""
    if format_of(x) != FLOAT:
        return tanh(f, x)
    size = f.abs(x)
    inside = f.min(9.02, size)
    square = f.mul(inside, inside)
    ratio = f.div(f.mul(inside, polynomial(f, square, _TANH_ABOVE)), polynomial(f, square, _TANH_BELOW))
    return f.copysign(f.min(1.0, ratio), x)


@strict
def sigmoid(f: Function, x: Value) -> Value:
    """``1 / (1 + e**-x)``."""
    small = exp_nonpositive(f, f.neg(f.abs(x)))
    return f.div(f.select(f.compare("<", x, 0.0), small, 1.0), f.add(small, 1.0))


@strict
def erf(f: Function, x: Value) -> Value:
    """The error function."""
    size, is_float = f.abs(x), format_of(x) == FLOAT
    square = f.mul(x, x)
    near = f.fma(polynomial(f, square, _ERF_FLOAT if is_float else _ERF_DOUBLE), x, x)
    far = f.min(3.93 if is_float else 5.95, size)
    if is_float:
        rest = _normal_exp2(f, f.neg(polynomial(f, far, _ERFC_FLOAT)))
    else:
        ratio = f.div(polynomial(f, far, _ERFC_ABOVE), polynomial(f, far, _ERFC_BELOW))
        rest = f.mul(exp_nonpositive(f, f.neg(f.mul(far, far))), ratio)
    is_near = f.compare("<", size, 0.875 if is_float else 1.0)
    return f.select(is_near, near, f.copysign(f.sub(1.0, rest), x))


def _normal_exp2(f: Function, x: Value) -> Value:
    """``2**x`` where it is a normal number, or 0 for the opposite of the bias."""
    if f.target.has_avx512:
        if format_of(x) == FLOAT:
            return _exp2_reduced(f, x)
        whole, scaled = with_scale(f, x)
        return scaled(_exp2_fraction(f, f.sub(x, whole)))
    whole, bits = nearest(f, x, format_of(x).bias)
    # A product, where adding to the exponent would spoil NaN.
    return f.mul(_exp2_fraction(f, f.sub(x, whole)), power_of_two(f, bits, x))


def _exp2_reduced(f: Function, x: Value) -> Value:
    """``2**x`` in AVX-512 for any float: as -inf has no fraction there, nothing is to be cut."""
    fraction = _fraction(f, x)
    return in_avx512(f, "scalef", _exp2_fraction(f, fraction), f.sub(x, fraction))


def _fraction(f: Function, x: Value) -> Value:
    """In AVX-512, x minus the nearest whole number; 0 for infinities."""
    return in_avx512(f, "reduce", x, immediate=0b1000)


def _tanh_reduced(f: Function, x: Value) -> Value:
    """``tanh x`` in AVX-512 for float, without a branch."""
    return f.copysign(_tanh_of_power(f, f.mul(x, 2 * _LOG2_E)), x)


def _tanh_of_power(f: Function, power: Value) -> Value:
    """``(2**power - 1) / (2**power + 1)``; of a zero without its sign."""
    power = f.min(30.0, power)
    fraction = _fraction(f, power)
    scale = in_avx512(f, "scalef", f.constant(1.0, power.type), f.sub(power, fraction))
    above = f.fma(polynomial(f, fraction, _EXP2[FLOAT]), f.mul(fraction, scale), f.sub(scale, 1.0))
    return f.div(above, f.add(above, 2.0))


def _exp2_fraction(f: Function, x: Value) -> Value:
    return polynomial(f, x, (1.0, *_EXP2[format_of(x)]))


def _exp_fraction(f: Function, x: Value) -> Value:
    return polynomial(f, x, (1.0, 1.0, *_EXP[format_of(x)]))


def _without(f: Function, x: Value, whole: Value) -> Value:
    """``x - whole ln 2``."""
    first, second = _LN_2[format_of(x)]
    return f.fnma(whole, second, f.fnma(whole, first, x))


def _quarter_expm1(f: Function, x: Value) -> Value:
    """``(e**x - 1) / 4``, which does not overflow where a hyperbolic function does not."""
    form = format_of(x)
    x = f.max(-40.0, f.min(89.5 if form == FLOAT else 710.5, x))
    whole, bits = nearest(f, f.mul(x, _LOG2_E), form.bias - 2)
    rest = _without(f, x, whole)
    scale = power_of_two(f, bits, x)
    above = f.fma(f.mul(rest, rest), polynomial(f, rest, _EXP[form]), rest)
    return f.fma(scale, above, f.sub(scale, 0.25))


def _if_tiny(f: Function, x: Value, otherwise: Value) -> Value:
    """``x`` where its square is nothing beside it, -0 and denormals among them."""
    return f.select(f.compare("<", f.abs(x), 2.0 ** -(format_of(x).mantissa + 3)), x, otherwise)
