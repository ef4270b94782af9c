"""Sines and cosines of arguments of any size."""

import itertools
import math

from .llvm import Function, Module, Value
from .math_floats import DOUBLE, FLOAT, format_of, nearest, polynomial, strict

# sin x = x + x z p(z) and cos x = 1 - z/2 + z^2 q(z) for |x| <= pi/4, z = x^2;
# errors 3.7e-9 and 1.2e-10, 3.5e-18 and 5.7e-20
_SIN = {
    FLOAT: (-0.166666552, 0.00833219197, -0.000195187866),
    DOUBLE: (
        *(-0.16666666666666632, 0.008333333333322486, -0.0001984126982985323),
        *(2.755731370497765e-06, -2.5050759869229045e-08, 1.5896884899222654e-10),
    ),
}
_COS = {
    FLOAT: (0.0416666456, -0.00138873106, 2.44325911e-05),
    DOUBLE: (
        *(0.041666666666666595, -0.0013888888888873344, 2.4801587289004685e-05),
        *(-2.755731421799407e-07, 2.0875705535226692e-09, -1.1358756283352439e-11),
    ),
}
# pi/2 in parts: times a whole number of 20 bits the first three are exact. For float two are enough.
_HALF_PI = {
    FLOAT: (1.5707963267341256, 6.077100506506192e-11),
    DOUBLE: (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.478427660368898e-32),
}
_LARGE = 2.0**20
_WORDS = 20  # of 64 bits: what the largest double needs of 2/pi


@strict
def sin(f: Function, x: Value) -> Value:
    """The sine; NaN of what is infinite."""
    sine, cosine, quadrant = _reduced(f, x)
    return _signed(f, _turned(f, sine, cosine, quadrant), x)


@strict
def cos(f: Function, x: Value) -> Value:
    """The cosine; NaN of what is infinite."""
    sine, cosine, quadrant = _reduced(f, x)
    return _turned(f, sine, cosine, f.add(quadrant, 1))


@strict
def tan(f: Function, x: Value) -> Value:
    """The tangent; NaN of what is infinite."""
    return f.convert(f.div(*sin_cos(f, f.convert(x, "double"))), x.element)


@strict
def sin_cos(f: Function, x: Value) -> tuple[Value, Value]:
    """Sine and cosine, for little more than one of them takes."""
    sine, cosine, quadrant = _reduced(f, x)
    both = (_turned(f, sine, cosine, turned) for turned in (quadrant, f.add(quadrant, 1)))
    return _signed(f, next(both), x), next(both)


def _signed(f: Function, value: Value, x: Value) -> Value:
    """The value, its sign flipped where x is negative."""
    sign = f.and_(f.bits(x), f.bits(f.constant(-0.0, x.type)))
    return f.from_bits(f.xor(f.bits(value), sign), x.element)


def _turned(f: Function, sine: Value, cosine: Value, quadrant: Value) -> Value:
    """The sine after so many quarter turns more."""
    value = f.select(f.compare("==", f.and_(quadrant, 1), 0), sine, cosine)
    bits = f.bits(value)
    half_turns = f.convert(f.and_(quadrant, 2), bits.element)
    flipped = f.xor(bits, f.shl(half_turns, 30 if bits.element == "i32" else 62))
    return f.from_bits(flipped, value.element)


def _reduced(f: Function, x: Value) -> tuple[Value, Value, Value]:
    """Sine and cosine of what |x| is beyond a whole number of quarter turns, and that number."""
    form = format_of(x)
    wide = f.abs(f.convert(x, "double"))
    turns, bits = nearest(f, f.mul(wide, 2 / math.pi))
    rest = wide
    for part in _HALF_PI[form]:
        rest = f.fnma(turns, part, rest)
    quadrant = f.convert(bits, "i32")
    some_large = f.any_lane(f.and_(f.compare(">=", wide, _LARGE), f.compare("<", wide, math.inf)))
    rest, quadrant = f.if_else(some_large, lambda: _lane_by_lane(f, wide, rest, quadrant), lambda: [rest, quadrant])
    rest = f.convert(rest, x.element)
    square = f.mul(rest, rest)
    sine = f.fma(f.mul(rest, square), polynomial(f, square, _SIN[form]), rest)
    half = f.mul(square, 0.5)
    start = f.sub(1.0, half)
    lost = f.sub(f.sub(1.0, start), half)
    cosine = f.add(start, f.fma(f.mul(square, square), polynomial(f, square, _COS[form]), lost))
    return sine, cosine, quadrant


def _lane_by_lane(f: Function, wide: Value, rest: Value, quadrant: Value) -> list[Value]:
    """Rest and quadrant, those of large lanes by the long way."""
    long_way = f.module.shared("attngraph_quarter_turns", lambda name: _quarter_turns(f.module, name))

    def lane(index: Value, carried: list[Value]) -> list[Value]:
        rest, quadrant = carried
        x = f.extract(wide, index)
        is_large = f.and_(f.compare(">=", x, _LARGE), f.compare("<", x, math.inf))
        one_rest, one_quadrant = f.if_else(
            is_large, lambda: f.call(long_way, x), lambda: [f.extract(rest, index), f.extract(quadrant, index)]
        )
        return [f.insert(rest, one_rest, index), f.insert(quadrant, one_quadrant, index)]

    return f.loop(0, wide.lanes, 1, [rest, quadrant], lane)


def _quarter_turns(module: Module, name: str) -> Function:
    """A function that takes a whole number of quarter turns from a large double, and tells how many, but for fours.

    Payne and Hanek, "Radian reduction for trigonometric functions" (1983): of the product with 2/pi only the
    bits that count are computed, in integers.
    """
    f = Function(module, name, {"x": "double"}, ("double", "i32"), internal=True)
    bits = f.bits(f["x"])
    mantissa = f.or_(f.and_(bits, (1 << 52) - 1), 1 << 52)
    # x = mantissa * 2**(exponent - 1075). Bits of 2/pi before this one give whole turns.
    first_bit = f.sub(f.lshr(bits, 52), 1075 - 62)
    at = f.offset(module.table(_two_over_pi(), "i64"), f.shl(f.lshr(first_bit, 6), 3))
    words = [f.load(f.offset(at, 8 * number), "i64") for number in range(4)]
    shift = f.and_(first_bit, 63)
    high, middle, low = (
        f.intrinsic("llvm.fshl.i64", "i64", [left, right, shift]) for left, right in itertools.pairwise(words)
    )
    wide, middle, low = (f.convert(each, "i128", unsigned=True) for each in (mantissa, middle, low))
    below = f.add(f.mul(wide, middle), f.lshr(f.mul(wide, low), 64))
    top = f.add(f.mul(mantissa, high), f.convert(f.lshr(below, 64), "i64"))
    low_half = f.and_(below, (1 << 64) - 1)
    turns = f.or_(f.shl(f.convert(top, "i128", unsigned=True), 64), low_half)  # in quarters, times 2**126
    rounded = f.add(turns, 1 << 125)
    quadrant = f.convert(f.lshr(rounded, 126), "i32")
    rest = f.sub(turns, f.and_(rounded, -1 << 126))
    is_negative = f.compare("<", rest, 0)
    size = f.select(is_negative, f.neg(rest), rest)
    zeros = f.intrinsic("llvm.ctlz.i128", "i128", [size, f.constant(1, "i1")])
    leading = f.convert(f.convert(f.lshr(f.shl(size, zeros), 65), "i64"), "double")
    scale = f.from_bits(f.shl(f.sub(1023 - 61, f.convert(zeros, "i64")), 52), "double")
    with f.flags(""):
        result = f.mul(f.mul(leading, scale), math.pi / 2)
    f.ret(f.select(is_negative, f.neg(result), result), quadrant)
    return f


def _two_over_pi() -> list[int]:
    """The bits of 2/pi behind a word of zeros, in words of 64 bits."""
    size = 64 * _WORDS

    def arctan(inverse: int) -> int:
        """Of 1/inverse, times 2**size."""
        total, power, odd = 0, (1 << size) // inverse, 1
        while power:
            total += power // odd if odd % 4 == 1 else -(power // odd)
            power, odd = power // inverse**2, odd + 2
        return total

    pi = 4 * (4 * arctan(5) - arctan(239))  # Machin; wrong in the last ten bits or so
    bits = (1 << (2 * size - 63)) // pi
    return [bits >> (64 * number) & ((1 << 64) - 1) for number in reversed(range(_WORDS))]
