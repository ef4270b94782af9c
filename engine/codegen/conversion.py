"""Conversions between types of elements, none of which calls a library.

LLVM calls one for float16 on processors without F16C, and for bfloat16 wherever it rounds (its one
instruction for that, of AVX-512 BF16, makes denormal numbers 0). Those are done here in integers.
"""

from .arithmetic import Arithmetic
from .values import FLOATS, Value, bits_of, constant, integer_of, mangled, with_element

_FOLDED = ("sext", "trunc", "sitofp", "fpext", "fptrunc")


class Conversion(Arithmetic):
    """Numbers in another type, and their bits."""

    def cast(self, operation: str, value: Value, element: str) -> Value:
        """LLVM's conversion of that name, of every lane; nothing if the type is already the element's."""
        if value.element == element:
            return value
        type_ = with_element(value.type, element)
        if (
            value.constant is not None
            and operation in _FOLDED
            and not {value.element, element} & {"i1", "half", "bfloat"}
        ):
            return constant(value.constant, type_)
        return self.emit(type_, f"{operation} {value} to {type_}", operation)

    def convert(self, value: Value, element: str, *, unsigned: bool = False) -> Value:
        """The same number in another type, floats rounded to the nearest.

        Floats become integers towards zero, and any integer where they do not fit (but see `saturated`). Of ``i1``
        true is 1, and what is not 0 is true.
        """
        before = value.element
        if before == element:
            return value
        if element == "i1":
            return self.compare("!=", value, 0)
        if {before, element} & {"half", "bfloat"}:
            return self._by_float(value, element, unsigned)
        unsigned = unsigned or before == "i1"
        if before in FLOATS and element in FLOATS:
            operation = "fpext" if bits_of(before) < bits_of(element) else "fptrunc"
        elif before in FLOATS:
            operation = "fptoui" if unsigned else "fptosi"
        elif element in FLOATS:
            operation = "uitofp" if unsigned else "sitofp"
        elif bits_of(before) > bits_of(element):
            operation = "trunc"
        else:
            operation = "zext" if unsigned else "sext"
        return self.cast(operation, value, element)

    def saturated(self, value: Value, element: str, *, unsigned: bool = False) -> Value:
        """Floats as integers, towards zero: the nearest that fits, NaN as 0. Nothing is left undefined."""
        type_ = with_element(value.type, element)
        name = "fptoui" if unsigned else "fptosi"
        return self.intrinsic(f"llvm.{name}.sat.{mangled(type_)}.{mangled(value.type)}", type_, [value])

    def bits(self, value: Value) -> Value:
        """The bits of floats, as integers of their width."""
        return self.cast("bitcast", value, integer_of(value.element))

    def from_bits(self, value: Value, element: str) -> Value:
        """The floats that have these bits."""
        return self.cast("bitcast", value, element)

    def _by_float(self, value: Value, element: str, unsigned: bool) -> Value:
        """To or from one of the types of 16 bits, by way of float."""
        if value.element == "half":
            wide = self.cast("fpext", value, "float") if self.target.has_f16c else self._from_half(value)
        elif value.element == "bfloat":
            wide = self.cast("fpext", value, "float")
        else:
            wide = self.convert(value, "float", unsigned=unsigned)
        if element == "half":
            return self.cast("fptrunc", wide, "half") if self.target.has_f16c else self._to_half(wide)
        return self._to_bfloat(wide) if element == "bfloat" else self.convert(wide, element, unsigned=unsigned)

    def _to_bfloat(self, value: Value) -> Value:
        bits = self.bits(value)
        odd = self.and_(self.lshr(bits, 16), 1)
        rounded = self.add(bits, self.add(odd, 0x7FFF))  # to the even one of two
        upper = self.select(self.is_nan(value), self.or_(bits, 0x400000), rounded)
        return self.from_bits(self.convert(self.lshr(upper, 16), "i16"), "bfloat")

    def _from_half(self, value: Value) -> Value:
        bits = self.convert(self.bits(value), "i32", unsigned=True)
        magnitude = self.shl(self.and_(bits, 0x7FFF), 13)
        with self.flags(""):  # the difference of the biases, which makes denormal numbers normal
            scaled = self.bits(self.mul(self.from_bits(magnitude, "float"), 2.0**112))
        is_special = self.compare(">=", magnitude, 0x7C00 << 13)
        whole = self.select(is_special, self.or_(magnitude, 0x7F800000), scaled)
        return self.from_bits(self.or_(whole, self.shl(self.and_(bits, 0x8000), 16)), "float")

    def _to_half(self, value: Value) -> Value:
        bits = self.bits(value)
        magnitude = self.and_(bits, 0x7FFFFFFF)
        odd = self.and_(self.lshr(magnitude, 13), 1)
        normal = self.lshr(self.add(self.sub(magnitude, (112 << 23) - 0xFFF), odd), 13)
        with self.flags(""):  # beside 0.5 the last bit is that of a denormal half
            shifted = self.bits(self.add(self.from_bits(magnitude, "float"), 0.5))
        small = self.sub(shifted, 0x3F000000)
        finite = self.select(self.compare("<", magnitude, 113 << 23), small, normal)
        special = self.select(self.compare(">", magnitude, 0x7F800000), constant(0x7E00, bits.type), 0x7C00)
        whole = self.select(self.compare(">=", magnitude, 143 << 23), special, finite)
        signed = self.or_(whole, self.and_(self.lshr(bits, 16), 0x8000))
        return self.from_bits(self.convert(signed, "i16"), "half")
