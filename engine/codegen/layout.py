"""How a kernel finds its operands: one array of 64-bit slots, the descriptor.

Lengths, strides and the numbers of the program are slots, not code: another length, or another scale,
runs the same code.
"""

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import Node
from ..lengths import estimate
from ..scalar import Scalar, below

Values = np.ndarray[Any, Any]
Descriptor = np.ndarray[Any, np.dtype[np.int64]]

LARGEST_FLOAT = 3.4028234e38
# Where a kernel says that results cannot be trusted: one flag for all, and a byte for each task.
DOUBT = "doubt"
DOUBTS = ("doubts", "", "pointer")
# Numbers that are worth being part of the code, for what they simplify.
_PLAIN_FLOATS = (0.0, 1.0, -1.0, 2.0, 0.5, float("inf"), float("-inf"))


def number_name(scalar: Scalar) -> tuple[str, float] | None:
    """The name of a number's slot, or None if it is plain enough to be code."""
    value = scalar.attribute
    if isinstance(value, float):
        return None if value in _PLAIN_FLOATS or value != value else ("float", value)
    return None if isinstance(value, bool) or -1 <= value <= 2 else ("integer", int(value))


# What tells more of an array than its address takes most of a microsecond; a buffer, where there is one, does not.
_NOTHING = ctypes.c_char * 0


def address_of(array: Values) -> int:
    """Where an array's elements lie."""
    flags = array.flags
    if flags.writeable and flags.c_contiguous:
        buffer: Any = array  # as it is, but not to every release of NumPy's types
        try:
            return ctypes.addressof(_NOTHING.from_buffer(buffer))
        except ValueError:  # of a type that no buffer knows
            pass
    address: int = array.__array_interface__["data"][0]
    return address


def divisors(expressions: Sequence[Scalar]) -> frozenset[Scalar]:
    """Numbers that integers are divided by: a part of the code, for dividing by a number that is known costs little."""
    return frozenset(
        scalar.args[1]
        for scalar in below(expressions)
        if scalar.op in ("floor_divide", "remainder") and scalar.args[1].is_constant
    )


def _type(name: Any) -> str:
    if isinstance(name, tuple):
        return "float" if name[0] == "float" else "ptr" if name[-1] == "pointer" else "i64"
    return "i64"


class Layout:
    """Names of slots, in order; and the values of those that are known before any array is.

    Args:
        inputs: Nodes whose arrays are loaded.
        outputs: Nodes whose arrays are written.
        lengths: Lengths by name, written into the descriptor as they are.
    """

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node], lengths: Mapping[Any, int]) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._places: dict[Any, int] = {}
        self._known: list[int] = []
        for name, length in lengths.items():
            self._slot(name, length)
        for node in (*self.inputs, *self.outputs):
            role = ("out" if node in self.outputs else "in", node)
            self._slot((*role, "pointer"), 0)
            for axis in range(len(node.shape)):
                self._slot((*role, axis), 0)

    def _slot(self, name: Any, value: int) -> int:
        if name not in self._places:
            self._places[name] = len(self._known)
            self._known.append(value)
        return self._places[name]

    def place(self, name: Any) -> int:
        """Byte offset of a slot."""
        return 8 * self._places[name]

    def collect(self, expressions: Sequence[Scalar]) -> None:
        """Slots for the numbers of the program, in the order of the expressions."""
        for scalar in below(expressions):
            if scalar.op == "length":
                self._slot(("length", scalar, "extent"), int(estimate(scalar.attribute[0])))
            if scalar.is_constant:
                name = number_name(scalar)
                if name is not None:
                    (bits,) = struct.unpack("<q", struct.pack("<fi", name[1], 0)) if name[0] == "float" else (name[1],)
                    self._slot(name, int(bits))

    def lengths(self, of: Callable[[Any], int]) -> dict[Any, int]:
        """The lengths of axes that the program looks at, by their slots; ``of`` gives a length's value."""
        names = [name for name in self._places if isinstance(name, tuple) and name[0] == "length"]
        return {name: of(name[1].attribute[0]) for name in names}

    def slots(self) -> list[tuple[Any, int, str]]:
        """Name, byte offset and type of every slot."""
        return [(name, 8 * place, _type(name)) for name, place in self._places.items()]

    @property
    def shape(self) -> tuple[Any, ...]:
        """What code depends on: the kinds of slots in order, without their values."""
        kinds = []
        for name in self._places:
            if isinstance(name, tuple):
                kinds.append(name[0] if name[0] in ("float", "integer") else (name[0], name[2]))
            else:
                kinds.append(name)
        return tuple(kinds)

    def bind(
        self, arrays: Mapping[Node, Values], results: Sequence[Values], sizes: Mapping[Any, int] | None = None
    ) -> Descriptor:
        """The descriptor of a call, with other lengths than those given at first. The arrays must outlive it."""
        slots = list(self._known)  # a list takes a number in a tenth of an array's time
        for name, size in (sizes or {}).items():
            slots[self._places[name]] = size
        for role, nodes, held in (
            ("in", self.inputs, [arrays[node] for node in self.inputs]),
            ("out", self.outputs, results),
        ):
            for node, array in zip(nodes, held, strict=True):
                slots[self._places[role, node, "pointer"]] = address_of(array)
                for axis, stride in enumerate(array.strides):
                    slots[self._places[role, node, axis]] = stride
        return np.array(slots, np.int64)
