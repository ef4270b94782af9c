"""The scalars of a loop as instructions: one number at a time, or a vector along the row."""

from collections.abc import Mapping
from typing import Any

from ..loop import Loop
from ..scalar import Scalar
from ..types import BOOL, DType, is_float, is_integer
from .apply import apply
from .layout import number_name
from .llvm import Function, Value
from .loop_layout import Form
from .values import HALF_TYPES, bits_of, bytes_of, vector_of


def held(dtype: DType) -> str:
    """The type that a value is computed in: half floats in float, as the interpreter does."""
    if is_float(dtype):
        return "double" if dtype.itemsize == 8 else "float"
    return "i1" if dtype == BOOL else f"i{8 * dtype.itemsize}"


def stored(dtype: DType) -> str:
    """The type that a value has in memory: booleans are bytes."""
    return "i8" if dtype == BOOL else held(dtype)


def computed(f: Function, scalar: Scalar, args: list[Value]) -> Value:
    """One function of its arguments' values."""
    if scalar.op == "astype":
        return _cast(f, args[0], scalar.args[0].dtype, scalar.dtype)
    return apply(f, scalar, args)


def _cast(f: Function, value: Value, source: DType, target: DType) -> Value:
    element = held(target)
    if is_float(source) and is_integer(target):
        return f.saturated(value, element, unsigned=target.kind == "u")
    converted = f.convert(value, element, unsigned=source.kind == "u")
    if target in HALF_TYPES and target != source:
        return f.convert(f.convert(converted, HALF_TYPES[target]), element)
    return converted


def program_number(f: Function, scalar: Scalar, slots: Mapping[Any, Value]) -> Value:
    """A number of the program."""
    element = held(scalar.dtype)
    name = number_name(scalar)
    if name is None or element == "i1":
        return f.constant(int(scalar.attribute) if element == "i1" else scalar.attribute, element)
    return f.convert(slots[name], element)


def as_read(f: Function, load: Scalar, raw: Value) -> Value:
    """What memory holds, in the type that is computed with."""
    return f.compare("!=", raw, 0) if load.dtype == BOOL else f.convert(raw, held(load.dtype))


class Scalars:
    """Values that do not vary along the row: of the whole call, and of one row."""

    def __init__(self, f: Function, loop: Loop, form: Form, slots: dict[object, Value]) -> None:
        self.f, self.loop, self.form, self.slots = f, loop, form, slots
        self.loads = {load: number for number, load in enumerate(loop.accesses)}
        self.fixed: dict[Scalar, Value] = {}
        self.row: dict[Scalar, Value] = {}
        self.coordinates: list[Value] = []
        self.pointers: dict[tuple[str, int], Value] = {}
        self._spread: dict[Scalar, Value] = {}
        self._spread_fixed: dict[Scalar, Value] = {}

    def start_row(self, coordinates: list[Value], pointers: dict[tuple[str, int], Value]) -> None:
        """From here on values are those of this row."""
        self.coordinates, self.pointers = coordinates, pointers
        self.row = {}
        self._spread = {}

    def known(self, scalar: Scalar) -> Value | None:
        """The value, if it has been computed."""
        return self.fixed.get(scalar) or self.row.get(scalar)

    def compute(self, scalar: Scalar) -> Value:
        """The value of a scalar whose arguments are known."""
        f = self.f
        if scalar.is_constant:
            value = program_number(f, scalar, self.slots)
        elif scalar.op == "axis":
            places = dict(self.form.places)
            value = self.coordinates[places[self.loop.lead.index(scalar.attribute)]]
        elif scalar.op == "load":
            number = self.loads[scalar]
            value = as_read(f, scalar, f.load(self.pointers["in", number], self.form.operands[number][0]))
        else:
            args = [self.known(each) for each in scalar.args]
            value = computed(f, scalar, [each for each in args if each is not None])
        is_fixed = scalar.is_constant or (bool(scalar.args) and all(each in self.fixed for each in scalar.args))
        (self.fixed if is_fixed and scalar.op != "load" else self.row)[scalar] = value
        return value

    def spread(self, scalar: Scalar, lanes: int) -> Value:
        """The value in every lane. Asked for before the loop that uses it, it is made once a row."""
        spread = self._spread_fixed if scalar in self.fixed else self._spread
        if scalar not in spread:
            value = self.known(scalar)
            assert value is not None, f"{scalar} has no value yet"
            spread[scalar] = self.f.splat(value, lanes)
        return spread[scalar]


class Lanes:
    """Values of one vector of consecutive elements of a row."""

    def __init__(self, scalars: Scalars, lanes: int, start: Value, ahead: int, valid: Value | None) -> None:
        self.scalars, self.lanes, self.valid = scalars, lanes, valid
        self.f, self.start, self.ahead = scalars.f, start, ahead
        self.memo: dict[Scalar, Value] = {}

    def compute(self, scalar: Scalar) -> Value:
        """The value of a scalar whose arguments are known."""
        f = self.f
        if scalar.op == "load":
            value = as_read(f, scalar, self._loaded(scalar))
        elif scalar.op == "axis":
            first = f.add(self.start, self.ahead)
            value = f.add(f.splat(first, self.lanes), f.iota(self.lanes, "i64"))
        else:
            value = computed(f, scalar, [self.value(each) for each in scalar.args])
        self.memo[scalar] = value
        return value

    def value(self, scalar: Scalar) -> Value:
        """A value that has been computed, for this vector or for the row."""
        return self.memo.get(scalar) or self.scalars.spread(scalar, self.lanes)

    def place(self, base: Value, size: int) -> Value:
        """The address of the vector's first element, elements of this size being neighbours."""
        return self.f.offset(self.f.offset(base, self.f.mul(self.start, size)), self.ahead * size)

    def _loaded(self, load: Scalar) -> Value:
        f, number = self.f, self.scalars.loads[load]
        element, reach = self.scalars.form.operands[number]
        pointer = self.scalars.pointers["in", number]
        if reach == "unit":
            type_ = vector_of(element, self.lanes)
            place = self.place(pointer, bytes_of(element))
            return f.load(place, type_) if self.valid is None else f.load_masked(place, type_, self.valid)
        if reach == "same":
            return f.splat(f.load(pointer, element), self.lanes)
        stride = self.scalars.slots["in", number, self.scalars.form.axes]
        first = f.offset(pointer, f.mul(f.add(self.start, self.ahead), stride))
        steps = f.mul(f.splat(stride, self.lanes), f.iota(self.lanes, "i64"))
        return f.gather(f.offset(first, steps), element, self.valid)

    def store(self, value: Value, base: Value) -> None:
        """Write the vector into neighbouring elements."""
        value = self.f.convert(value, "i8") if value.element == "i1" else value
        place = self.place(base, bits_of(value.element) // 8)
        if self.valid is None:
            self.f.store(value, place)
        else:
            self.f.store_masked(value, place, self.valid)
