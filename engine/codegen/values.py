"""Types and values of LLVM IR as text.

A type is the text LLVM writes: ``i1 i8 i16 i32 i64 i128 half bfloat float double ptr`` or a vector,
``<16 x float>``. A vector of one lane is its element, so what is written for any width serves scalars.
"""

import functools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ..types import BFLOAT16, FLOAT16

Number = int | float

_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64, "ptr": 64}
# How LLVM calls half floats.
HALF_TYPES = {FLOAT16: "half", BFLOAT16: "bfloat"}
FLOATS = (*HALF_TYPES.values(), "float", "double")


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value: its text where it is used, its type, and its number if it is a constant in every lane."""

    text: str
    type: str
    constant: Number | None = None

    @property
    def element(self) -> str:
        """The type of one lane."""
        return element_of(self.type)

    @property
    def lanes(self) -> int:
        """How many lanes; 1 for a scalar."""
        return lanes_of(self.type)

    @property
    def is_float(self) -> bool:
        """Whether the lanes are floating."""
        return element_of(self.type) in FLOATS

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


Operand = Value | int | float


@functools.cache
def _split(type_: str) -> tuple[int, str]:
    if not type_.startswith("<"):
        return 1, type_
    lanes, element = type_[1:-1].split(" x ")
    return int(lanes), element


def lanes_of(type_: str) -> int:
    """How many lanes the type has; 1 for a scalar."""
    return _split(type_)[0]


def element_of(type_: str) -> str:
    """The type of one lane."""
    return _split(type_)[1]


@functools.cache
def vector_of(element: str, lanes: int) -> str:
    """The type of ``lanes`` elements: the element itself for one lane."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def with_element(type_: str, element: str) -> str:
    """A type of as many lanes, of another element."""
    return vector_of(element, lanes_of(type_))


@functools.cache
def bits_of(element: str) -> int:
    """Width of an element in bits."""
    return _BITS[element] if element in _BITS else int(element[1:])


def bytes_of(type_: str) -> int:
    """Bytes that a value of this type takes in memory."""
    return lanes_of(type_) * max(bits_of(element_of(type_)) // 8, 1)


def integer_of(type_: str) -> str:
    """The integer type of the same width, lane by lane."""
    return with_element(type_, f"i{bits_of(element_of(type_))}")


@functools.cache
def mangled(type_: str) -> str:
    """A type as it stands in an intrinsic's name: ``v16f32``."""
    lanes, element = _split(type_)
    names = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}
    return (f"v{lanes}" if lanes > 1 else "") + names.get(element, element)


def wrapped(number: int, bits: int) -> int:
    """The number as a signed integer of so many bits, overflow wrapping around."""
    half = 1 << (bits - 1)
    return (number + half) % (2 * half) - half


def _literal(number: Number, element: str) -> tuple[str, Number]:
    """The text of a constant, and the number that it becomes."""
    if element == "i1":
        return ("true", 1) if number else ("false", 0)
    if element not in FLOATS:
        if number != int(number):
            raise TypeError(f"{number} is no {element}")
        whole = wrapped(int(number), bits_of(element))
        return str(whole), whole
    value = float(number)
    if element == "float":
        try:
            (value,) = struct.unpack("f", struct.pack("f", value))
        except OverflowError:
            value = math.copysign(math.inf, value)
    elif element != "double":
        raise TypeError(f"a constant of type {element} has no text here: convert one of type float")
    return f"0x{struct.unpack('Q', struct.pack('d', value))[0]:016X}", value


@functools.lru_cache(4096)
def _constant(text: str, number: Number, type_: str) -> Value:
    lanes, element = _split(type_)
    literal, value = _literal(number, element)
    return Value(literal if lanes == 1 else f"splat ({element} {literal})", type_, value)


def constant(number: Number, type_: str) -> Value:
    """A constant, the same in every lane. Floats are rounded to the type; integers wrap around."""
    # Keyed by its text too, for 0.0 == -0.0 and 1 == 1.0 == True.
    return _constant(repr(number), number, type_)


def constants(numbers: Sequence[Number], element: str) -> Value:
    """A vector of constants, one a lane."""
    if len(set(map(repr, numbers))) == 1:
        return constant(numbers[0], vector_of(element, len(numbers)))
    return Value(f"<{listing(numbers, element)}>", vector_of(element, len(numbers)))


def listing(numbers: Sequence[Number], element: str) -> str:
    """Constants as LLVM lists them: ``i32 1, i32 2``."""
    return ", ".join(f"{element} {_literal(number, element)[0]}" for number in numbers)


def poison(type_: str) -> Value:
    """A value nobody reads."""
    return Value("poison", type_)


def types_of(values: Sequence[Value]) -> list[str]:
    """The types, for checks and messages."""
    return [value.type for value in values]
