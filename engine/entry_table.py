"""The table of an entry, filled: what its native half is to expect of a call, and where it finds what it needs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import workers
from .config import Settings
from .entry_bindings import AxisRule, Binding, bind_loop, bind_sweep
from .entry_layout import ANY, ARRAY, AXIS, DOUBLE, FLOAT, INPUT, OUTPUT, POINTER, STATIC, TABLE
from .ir import Node, Values
from .leaves import Data
from .loop import Loop
from .passes.fused import Fused
from .program import Program
from .single import SingleStep
from .types import BOOL, FLOAT32, FLOAT64, DType, carrier

# Work, in operations, up to which the interpreter's lock is kept: some 20 µs.
MOST_LOCKED = 1 << 20
# Operations and bytes together, up to which one thread is done before others have been woken: some 100 µs.
MOST_ALONE = 1 << 23

_LINE = 64

# Letters that the buffer protocol has for types in the machine's byte order.
_LETTERS = {FLOAT32: "f", FLOAT64: "d", BOOL: "?"} | {np.dtype(letter): letter for letter in "bBhHiIlL"}


class Argument(NamedTuple):
    """An argument of the call that an entry is made for: the leaf that stands for it, None if it is static."""

    node: Node | None
    value: Any


def work(step: Fused | Loop) -> int:
    """How many operations a step is."""
    return step.sweep.flops if isinstance(step, Fused) else step.flops


def effort(step: Fused | Loop) -> int:
    """How many operations a step is, and how many bytes it moves, together."""
    return work(step) + sum(node.type.nbytes for node in (*step.inputs, *step.nodes))


def _bind(program: Program, step: Fused | Loop, arrays: dict[Node, Values], settings: Settings) -> Binding:
    try:
        number = program.plan.steps.index(step)
    except ValueError:  # another thread has found that it must be planned anew
        raise NoEntryError from None
    if isinstance(step, Fused):
        kernel = program.kernels[number]
        skip = kernel.compiled(list(arrays.values()), settings).skip
        if skip.summaries or skip.guarded or skip.listed:  # what is looked at once a call, before the kernel begins
            raise NoEntryError
        return bind_sweep(kernel, arrays, settings)
    return bind_loop(program.loops[number], arrays, settings)


class NoEntryError(Exception):
    """Something that the native half does not take."""


class TableMaker:
    """Fills the table of one entry."""

    def __init__(self, program: Program, single: SingleStep, settings: Settings) -> None:
        self.program, self.settings = program, settings
        self.step, self.places = single
        # Outputs come in the shapes of the results that they are.
        shapes = {place: root.shape for place, root in zip(self.places, program.roots, strict=True)}
        self.shapes = [shapes.get(place, node.shape) for place, node in enumerate(self.step.nodes)]
        self.kept: list[Any] = []

    def made(self, arguments: Sequence[Argument], counter: Values) -> tuple[Values, Any]:
        """The table, and what must be held as long as it is used.

        Raises:
            NoEntryError: If there cannot be one.
            CompileError: If the kernel cannot be compiled.
        """
        if any(carrier(node.type) != node.dtype for node in self.step.nodes):
            raise NoEntryError
        if isinstance(self.step, Fused) and self.step.sweep.adds_up:  # which are added up behind the kernel
            raise NoEntryError
        if isinstance(self.step, Fused) and self.step.sweep.selects:  # places, where results are floats
            raise NoEntryError
        self.values = {each.node: each.value for each in arguments if each.node is not None}
        self.arrays = {node: self._stand_in(node) for node in self.step.inputs}
        self.binding = binding = _bind(self.program, self.step, self.arrays, self.settings)
        self.spare = binding.template.nbytes  # a slot for what the kernel does not ask for; then those of numbers
        self.cells = self.spare + 8
        records = self._inputs(arguments)
        descriptor = np.zeros(self.cells // 8, np.int64)
        descriptor[: binding.template.size] = binding.template
        words = {
            "counter": self._keep(counter),
            "arguments": len(arguments),
            "inputs": len(records),
            "input_records": self._keep_all(records),
            "outputs": len(self.step.nodes),
            "output_records": self._outputs(),
            "sentinel": id(NotImplemented),
            "array_type": id(np.ndarray),
            "float_type": id(float),
            "allocator": id(np.empty),
            "descriptor": self._keep(descriptor),
            "descriptor_bytes": descriptor.nbytes,
            "doubt": binding.doubt,
            "kernel": binding.address,
            "releases": work(self.step) > MOST_LOCKED,
            **self._shared(),
        }
        return _record(TABLE, words), (np.empty, binding.module, binding.doubts, *self.kept)

    def _shared(self) -> dict[str, int]:
        """By how many threads the work is shared: by those of the ordinary path."""
        scratch, threads = self.binding.scratch_bytes, 1
        if self.binding.is_shared and effort(self.step) > MOST_ALONE:
            threads = max(1, min(self.settings.threads, self.binding.tasks))
        if threads == 1:
            return {"scratch": scratch}
        stride = -(-scratch // _LINE) * _LINE
        team = workers.team(threads - 1)
        return {"scratch": threads * stride, "stride": stride, "helpers": threads - 1, "team": team, "releases": 1}

    def _keep(self, array: Values) -> int:
        self.kept.append(array)
        return int(array.ctypes.data)

    def _keep_all(self, records: Sequence[Values]) -> int:
        return self._keep(np.concatenate([*records, np.zeros(1, np.int64)]))

    def _stand_in(self, node: Node) -> Values:
        """An array of the strides that the kernel will see."""
        value = node.source if isinstance(node, Data) else self.values.get(node)
        if type(value) is float:  # a loop takes all of its digits
            return np.zeros((), FLOAT32 if isinstance(self.step, Fused) else FLOAT64)
        if type(value) is not np.ndarray or carrier(node.type) != node.dtype:
            raise NoEntryError
        if value.flags.c_contiguous:  # without the arbitrary strides of axes of length 1
            return np.empty(value.shape, value.dtype)
        return value

    # --- records

    def _inputs(self, arguments: Sequence[Argument]) -> list[Values]:
        records = [self._argument(place, *each) for place, each in enumerate(arguments)]
        held = [node for node in self.step.inputs if node not in self.values]
        return [*records, *map(self._held, held)]

    def _argument(self, place: int, node: Node | None, value: Any) -> Values:
        if node is None:
            if not _is_static(value):
                raise NoEntryError
            self.kept.append(value)
            return _record(INPUT, {"argument": place, "kind": STATIC, "object": id(value)})
        if type(value) is float and node.type.weak:
            is_double = node in self.arrays and self.arrays[node].dtype == FLOAT64
            words = {"argument": place, "kind": DOUBLE if is_double else FLOAT, "cell": self.cells}
            self.cells += 8
            return _record(INPUT, words | self._pointers(node))
        return self._array(node, value, {"argument": place})

    def _held(self, node: Node) -> Values:
        """An array that the graph holds: looked at like an argument, for it may be resized."""
        array = node.source if isinstance(node, Data) else None
        self.kept.append(array)
        return self._array(node, array, {"argument": -1, "object": id(array)})

    def _array(self, node: Node, array: Any, words: dict[str, int]) -> Values:
        if type(array) is not np.ndarray or array.dtype != node.dtype or node.type.weak:
            raise NoEntryError
        if not array.dtype.isnative or array.size == 0 or not array.flags.aligned:
            raise NoEntryError
        words |= {"kind": ARRAY, "format": ord(_letter(array.dtype)), "itemsize": array.itemsize}
        words |= {"axes": array.ndim, "axis_records": self._axes(node, array)}
        return _record(INPUT, words | self._pointers(node))

    def _axes(self, node: Node, array: Values) -> int:
        slots = self.binding.inputs.get(node)
        rules = [AxisRule(length, ANY, 0, None) for length in array.shape] if slots is None else slots.axes
        records = [
            {"length": each.length, "rule": each.rule, "wanted": each.wanted, "slot": self._slot(each)}
            for each in rules
        ]
        return self._keep_all([_record(AXIS, each) for each in records])

    def _slot(self, axis: AxisRule) -> int:
        return self.spare if axis.slot is None else axis.slot

    def _pointers(self, node: Node) -> dict[str, int]:
        slots = self.binding.inputs.get(node)
        pointers = () if slots is None else slots.pointers
        records = [_record(POINTER, {"slot": slot, "ahead": ahead}) for slot, ahead in pointers]
        return {"pointers": len(records), "pointer_records": self._keep_all(records)}

    def _outputs(self) -> int:
        records = []
        for node, shape, slot in zip(self.step.nodes, self.shapes, self.binding.outputs, strict=True):
            wanted = (shape, node.dtype)
            self.kept.append(wanted)
            count = node.type.size if self.binding.must_be_finite else 0
            if count and node.dtype != FLOAT32:
                raise NoEntryError
            records.append(_record(OUTPUT, {"arguments": id(wanted), "pointer": slot, "count": count}))
        return self._keep_all(records)


def _record(places: dict[str, int], words: dict[str, int]) -> Values:
    """Words of these names, the others 0."""
    record = np.zeros(len(places), np.int64)
    for name, word in words.items():
        record[places[name] // 8] = word
    return record


def _is_static(value: Any) -> bool:
    """Whether one object is one value for ever: then the same object means the same trace."""
    kind: Any = type(value)
    if kind in (type(None), bool, int, str, bytes):
        return True
    return kind.__hash__ is object.__hash__ and kind.__eq__ is object.__eq__


def _letter(dtype: DType) -> str:
    letter = _LETTERS.get(dtype)
    if letter is None:
        raise NoEntryError
    return letter
