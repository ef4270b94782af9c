"""What the functions of ``math`` share: the layout of floats, polynomials, powers of two.

Everything in here and in the files beside it is written without fast-math flags: the sums that round,
split and cancel must happen as they stand. The same bits come out at every vector width.

Coefficients were fitted offline at 60 digits: least squares at Chebyshev nodes, reweighted towards the
smallest maximum (Lawson), each coefficient rounded to the type before the next was fitted again. The
errors noted beside them are relative to the function and of the rounded polynomial in exact arithmetic.
"""

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from .llvm import Function, Value
from .values import bytes_of, constant

_Rest = ParamSpec("_Rest")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Format:
    """How a type of floats is laid out.

    Attributes:
        element: LLVM's name of the type.
        mantissa: Bits of the mantissa that are stored.
        bias: What is added to the exponent.
    """

    element: str
    mantissa: int
    bias: int

    @property
    def magic(self) -> float:
        """Added to a number of moderate size, it leaves the nearest whole number in the lowest bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def smallest_normal(self) -> float:
        """Anything smaller has fewer bits."""
        return 2.0 ** (1 - self.bias)

    def bits_of(self, number: float) -> int:
        """The bits of a number."""
        kinds = "fI" if self.element == "float" else "dQ"
        (bits,) = struct.unpack(kinds[1], struct.pack(kinds[0], number))
        return int(bits)


FLOAT = Format("float", 23, 127)
DOUBLE = Format("double", 52, 1023)


def format_of(value: Value) -> Format:
    """The layout of the value's lanes: only float and double can be computed with."""
    return {"float": FLOAT, "double": DOUBLE}[value.element]


def strict(write: Callable[Concatenate[Function, _Rest], _Result]) -> Callable[Concatenate[Function, _Rest], _Result]:
    """The same, written without fast-math flags."""

    def without_flags(f: Function, /, *arguments: _Rest.args, **options: _Rest.kwargs) -> _Result:
        with f.flags(""):
            return write(f, *arguments, **options)

    return functools.update_wrapper(without_flags, write)


def polynomial(f: Function, x: Value, coefficients: Sequence[float]) -> Value:
    """``c0 + c1 x + c2 x**2 ...`` by Horner's rule."""
    *others, last = coefficients
    total = constant(last, x.type)
    for coefficient in reversed(others):
        total = f.fma(total, x, coefficient)
    return total


def nearest(f: Function, x: Value, offset: int = 0) -> tuple[Value, Value]:
    """The nearest whole number, and integers whose lowest bits are it plus the offset.

    By adding a number so large that no bits are left for the fraction, which takes two instructions, and
    none to get the integer. Never -0.
    """
    magic = format_of(x).magic + offset
    shifted = f.add(x, magic)
    return f.sub(shifted, magic), f.bits(shifted)


def power_of_two(f: Function, lowest_bits: Value, like: Value) -> Value:
    """Two to a power, from integers whose lowest bits are the power plus the bias; 0 where they are 0."""
    form = format_of(like)
    return f.from_bits(f.shl(lowest_bits, form.mantissa), form.element)


def with_scale(f: Function, x: Value) -> tuple[Value, Callable[[Value], Value]]:
    """The nearest whole number ``n``, and what multiplies by ``2**n`` and rounds once.

    Args:
        f: The function being written.
        x: At least -bias - mantissa - 1, at most bias + 2, or NaN. Results may overflow or be denormal.
    """
    form = format_of(x)
    if f.target.has_avx512:
        whole = f.round(x)
        return whole, lambda value: in_avx512(f, "scalef", value, whole)
    whole, bits = nearest(f, x, 2 * form.bias)
    # Two factors, for one need not be a normal number. Only the second product can round.
    both = f.sub(bits, form.bits_of(form.magic))
    half = f.lshr(both, 1)
    first, second = (power_of_two(f, part, x) for part in (half, f.sub(both, half)))
    return whole, lambda value: f.mul(f.mul(value, first), second)


def in_avx512(f: Function, name: str, *operands: Value, immediate: int | None = None) -> Value:
    """An instruction that only AVX-512 has, on values of any width."""

    def in_register(*values: Value) -> Value:
        type_, width = values[0].type, 8 * bytes_of(values[0].type)
        arguments = list(values) if immediate is None else [*values, f.constant(immediate, "i32")]
        arguments += [f.constant(0, type_), f.constant(-1, "i16" if values[0].lanes == 16 else "i8")]
        if width == 512:
            arguments.append(f.constant(4, "i32"))  # rounding as always
        kind = "ps" if values[0].element == "float" else "pd"
        return f.intrinsic(f"llvm.x86.avx512.mask.{name}.{kind}.{width}", type_, arguments)

    return f.in_registers(in_register, *operands)
