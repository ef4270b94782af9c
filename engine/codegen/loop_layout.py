"""How a loop finds its operands: its descriptor, and what its code depends on besides its expressions.

Lengths, strides and the numbers of the program are slots of the descriptor. Axes of rows that lie one behind the
other in every array are one axis, so most loops have none or one.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..loop import Loop, cost
from ..scalar import Axis, Scalar
from .layout import number_name
from .llvm import Function, Value

# How elements that are next to each other along a row lie in an array: they do not vary, they are the same
# element, neighbours, or apart.
Reach = Literal["none", "same", "unit", "apart"]

HEAD = ("tasks", "blocks", "rows", "length", "task_rows", "chunk", "trouble")


class Form(NamedTuple):
    """What one call's code depends on, besides the loop.

    Attributes:
        operands: Of every load its type in memory and its reach.
        axes: How many axes of rows there are.
        places: Which of them each axis of the loop is whose index is computed with.
        keeps_rows: Whether rows are short enough that values of one pass are kept for the next.
        short: The length of rows that are so short that one vector may hold one: a power of two; 0 of others.
    """

    operands: tuple[tuple[str, Reach], ...]
    axes: int
    places: tuple[tuple[int, int], ...]
    keeps_rows: bool
    short: int = 0


class LoopLayout:
    """Names of slots, in order.

    Args:
        loop: The loop.
        form: The call's form.
    """

    def __init__(self, loop: Loop, form: Form) -> None:
        self.places: dict[Any, int] = {name: number for number, name in enumerate(HEAD)}
        for axis in range(form.axes):
            self._add(("axis", axis))
        self.arrays = len(self.places)
        for kind, count in (("in", len(loop.accesses)), ("out", len(loop.outputs))):
            for number in range(count):
                self._add((kind, number, "pointer"))
                for axis in range(form.axes + 1):
                    self._add((kind, number, axis))
        self.numbers = len(self.places)
        self.values = numbers_of(loop.scalars)
        for name in self.values:
            self._add(name)

    def _add(self, name: Any) -> None:
        self.places[name] = len(self.places)


def read_slots(f: Function, places: Mapping[Any, int]) -> dict[Any, Value]:
    """What a call has put into its descriptor, by name."""
    found: dict[Any, Value] = {}
    for name, slot in places.items():
        type_ = "ptr" if name[-1] == "pointer" else "double" if name[0] == "float" else "i64"
        found[name] = f.load(f.offset(f["descriptor"], 8 * slot), type_)
    return found


def numbers_of(scalars: Sequence[Scalar]) -> dict[Any, int]:
    """The numbers of the program that are no part of the code, and their bits: floats as float64."""
    found: dict[Any, int] = {}
    for scalar in scalars:
        if scalar.is_constant and (name := number_name(scalar)) is not None:
            kind, value = name
            (bits,) = struct.unpack("<q", struct.pack("<d", value)) if kind == "float" else (int(value),)
            found[name] = bits
    return found


def loop_signature(loop: Loop) -> str:
    """A text that two loops share exactly if their code is the same, but for their forms."""
    axes = {axis: number for number, axis in enumerate((*loop.lead, loop.inner))}
    numbers: dict[Scalar, int] = {}
    slots = {name: number for number, name in enumerate(numbers_of(loop.scalars))}
    loads = {load: number for number, load in enumerate(loop.accesses)}

    def attribute(scalar: Scalar) -> Any:
        if scalar.is_constant:
            name = number_name(scalar)
            return scalar.attribute if name is None else ("slot", slots[name])
        if scalar.op == "axis":
            return axes[scalar.attribute]
        if scalar.op == "load":
            return loads[scalar], sorted(axes[axis] for axis in scalar.axes)
        return scalar.attribute[0] if scalar.op == "reduce" else scalar.attribute

    rows: list[Any] = []
    for scalar in loop.scalars:
        numbers[scalar] = len(numbers)
        args = [] if scalar.op == "load" else [numbers[each] for each in scalar.args]
        rows.append((scalar.op, scalar.dtype.name, args, attribute(scalar), cost(scalar)))
    outputs = [(output.node.dtype.name, numbers[output.value], loop.inner in output.axes) for output in loop.outputs]
    return repr((rows, outputs, [(numbers[each], kind) for each, kind in loop.watches.items()]))


def positions_used(loop: Loop) -> set[Axis]:
    """Axes whose indices are computed with, beside those in loads."""
    return {
        argument.attribute
        for scalar in loop.scalars
        if scalar.op != "load"
        for argument in scalar.args
        if argument.op == "axis"
    } | {output.value.attribute for output in loop.outputs if output.value.op == "axis"}
