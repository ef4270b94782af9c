"""How a compiled kernel finds its arrays, in one form for sweeps and loops: what an entry must know of it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .codegen.layout import DOUBT, DOUBTS, address_of
from .config import Settings
from .entry_layout import ANY, EQUAL, UNEQUAL
from .ir import Node, Values
from .jit import NativeModule
from .kernels import SweepKernel
from .loops import TROUBLE, LoopKernel


class AxisRule(NamedTuple):
    """An axis of an input: its length, what holds of its stride, and the slot that wants the stride, if one does."""

    length: int
    rule: int
    wanted: int
    slot: int | None


class InputSlots(NamedTuple):
    """An input: the slots that want its address, each with the bytes to go ahead from there, and its axes."""

    pointers: tuple[tuple[int, int], ...]
    axes: tuple[AxisRule, ...]


class Binding(NamedTuple):
    """A kernel for arrays of one kind.

    Attributes:
        module: Its code, which must be held.
        address: Where it begins.
        template: Its descriptor, without the addresses.
        scratch_bytes: Scratch memory that it needs.
        doubt: The slot that it sets where its results cannot be trusted.
        must_be_finite: Whether results that are not finite cannot be trusted either.
        inputs: What it loads.
        outputs: Slots of the results' addresses.
        tasks: Into how much the work is cut.
        is_shared: Whether the work is worth several threads.
        doubts: What its descriptor points to beside inputs and results, which must be held.
    """

    module: NativeModule
    address: int
    template: Values
    scratch_bytes: int
    doubt: int
    must_be_finite: bool
    inputs: Mapping[Node, InputSlots]
    outputs: tuple[int, ...]
    tasks: int
    is_shared: bool
    doubts: Values | None = None


def bind_sweep(kernel: SweepKernel, arrays: Mapping[Node, Values], settings: Settings) -> Binding:
    """The code for a sweep over arrays with these strides: it depends on which of them are one element."""
    compiled = kernel.compiled(list(arrays.values()), settings)
    layout = compiled.layout
    results = [np.empty(node.shape, node.dtype) for node in kernel.fused.nodes]
    doubts = np.zeros(compiled.tasks, np.uint8)

    def slots(node: Node, array: Values) -> InputSlots:
        axes = tuple(
            AxisRule(
                length, EQUAL if stride == array.itemsize else UNEQUAL, array.itemsize, layout.place(("in", node, axis))
            )
            for axis, (length, stride) in enumerate(zip(array.shape, array.strides, strict=True))
        )
        return InputSlots(((layout.place(("in", node, "pointer")), 0),), axes)

    return Binding(
        compiled.module,
        compiled.module.address("sweep"),
        layout.bind(arrays, results, {DOUBTS: address_of(doubts)}),
        compiled.scratch_bytes,
        layout.place(DOUBT),
        False,
        {node: slots(node, array) for node, array in arrays.items()},
        tuple(layout.place(("out", node, "pointer")) for node in kernel.fused.nodes),
        compiled.tasks,
        kernel.is_shared(compiled.sizes),
        doubts,
    )


def bind_loop(kernel: LoopKernel, arrays: Mapping[Node, Values], settings: Settings) -> Binding:
    """The code for a loop over arrays with these strides, which its descriptor follows from."""
    given = list(arrays.values())
    found = kernel.bound(tuple((array.strides, array.dtype) for array in given), settings)

    def slots(number: int, array: Values) -> InputSlots:
        axes = tuple(
            AxisRule(length, EQUAL if length > 1 else ANY, stride, None)
            for length, stride in zip(array.shape, array.strides, strict=True)
        )
        return InputSlots(tuple((8 * slot, ahead) for slot, place, ahead in found.inputs if place == number), axes)

    module = found.compiled.module
    return Binding(
        module,
        module.address("loop"),
        found.template,
        found.scratch_bytes,
        8 * TROUBLE,
        False,
        {node: slots(number, array) for number, (node, array) in enumerate(arrays.items())},
        tuple(8 * slot for slot in found.outputs),
        found.tasks,
        found.is_shared,
    )
