"""Compiled loops: bound to arrays, compiled for a kind of strides, found again by what their code depends on."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from . import workers
from .codegen.layout import address_of
from .codegen.loop import LoopWriter
from .codegen.loop_layout import HEAD, loop_signature
from .codegen.loop_legal import check_loop_scalar as check_loop_scalar
from .codegen.loop_passes import passes_of
from .codegen.target import Target, named_target
from .config import Settings
from .ir import Node, Values
from .kernels import aligned
from .leftovers import empty
from .loop import Loop
from .loop_binding import Fit, Strides, plain_strides, reads_of
from .loop_codes import CompiledLoop, LoopCodes
from .part_runs import Block, Range
from .scalar import Axis
from .types import carrier

if TYPE_CHECKING:
    from .plans import Bound

# Operations below which waking a second thread costs more than it saves.
_WORTH_SHARING = 1 << 18
# Shapes and kinds of strides that one loop remembers.
_MOST_BINDINGS = 16
# The slot that a watch sets.
TROUBLE = HEAD.index("trouble")


class LoopBinding(NamedTuple):
    """Code, and a descriptor without addresses: for arrays of certain shapes and strides.

    Attributes:
        compiled: The code.
        template: The descriptor.
        inputs: For each load the slot of its pointer, which input it reads, and how many bytes into it.
        outputs: Slots of the results' pointers.
        results: Shapes of the results.
        tasks: How many tasks there are.
        scratch_bytes: Scratch memory of a thread.
        is_shared: Whether the work is worth several threads.
    """

    compiled: CompiledLoop
    template: Any
    inputs: tuple[tuple[int, int, int], ...]
    outputs: tuple[int, ...]
    results: tuple[tuple[int, ...], ...]
    tasks: int
    scratch_bytes: int
    is_shared: bool


class LoopKernel:
    """A loop that runs natively. Compiled at its first call, anew for other kinds of strides."""

    # What `explain` says of its domain.
    goes_over: ClassVar[str] = "every element"

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.cost = 1 + sum(each.cost for each in passes_of(loop, True))
        self._types = [carrier(node.type) for node in loop.nodes]
        self._lengths = tuple(axis.length for axis in (*loop.lead, loop.inner))
        self._bindings: dict[tuple[Target, tuple[int, ...], Strides], LoopBinding] = {}
        self._codes = LoopCodes(loop, "loop", loop_signature, LoopWriter)

    def __call__(
        self, arrays: Mapping[Node, Values], settings: Settings, bound: "Bound | None" = None
    ) -> list[Values] | None:
        """The results, or None where a watch was set off.

        Args:
            arrays: The arrays that it loads, in the machine's byte order.
            settings: Threads, target and cache directory.
            bound: What the loop's lengths are in this call, if they are free.

        Raises:
            UnfusableError: If the code generator cannot write it.
            CompileError: If LLVM rejects what was written.
            PinnedError: If the code depends on a length that is another one in this call.
        """
        given = [aligned(arrays[node]) for node in self.loop.inputs]
        binding = self.bound(tuple([(array.strides, array.dtype) for array in given]), settings, bound)
        return self._enter(binding, given, [ahead for *_, ahead in binding.inputs], settings)

    def run_part(
        self, arrays: Mapping[Node, Block], ranges: Mapping[Axis, Range], settings: Settings
    ) -> list[Values] | None:
        """The results for ranges of some axes of rows; None where a watch was set off.

        Args:
            arrays: Pieces of the arrays that it loads, which hold all that `reads` says.
            ranges: Those of axes, none of whose positions it computes with; other axes are whole.
            settings: Threads, target and cache directory.
        """
        blocks = [arrays[node] for node in self.loop.inputs]
        given = [aligned(block.values) for block in blocks]
        axes = (*self.loop.lead, self.loop.inner)
        lengths = tuple(stop - first for first, stop in (ranges.get(axis, (0, axis.length)) for axis in axes))
        binding = self.bound(tuple([(array.strides, array.dtype) for array in given]), settings, lengths=lengths)
        ahead = []
        for (_, number, before), access in zip(binding.inputs, self.loop.accesses.values(), strict=True):
            starts = [sum(step * ranges.get(axis, (0, 0))[0] for axis, step in steps.items()) for steps in access.steps]
            moved = zip(starts, blocks[number].first, given[number].strides, strict=True)
            ahead.append(before + sum((start - first) * stride for start, first, stride in moved))
        return self._enter(binding, given, ahead, settings)

    def reads(self, ranges: Mapping[Axis, Range]) -> dict[Node, tuple[slice, ...]]:
        """What of the arrays it loads for ranges of some axes."""
        return reads_of(self.loop, ranges)

    def _enter(
        self, binding: LoopBinding, given: Sequence[Values], ahead: Sequence[int], settings: Settings
    ) -> list[Values] | None:
        results = [empty(shape, dtype) for shape, dtype in zip(binding.results, self._types, strict=True)]
        descriptor = binding.template.copy()
        addresses = [address_of(array) for array in given]
        for (slot, number, _), bytes_ in zip(binding.inputs, ahead, strict=True):
            descriptor[slot] = addresses[number] + bytes_
        for slot, result in zip(binding.outputs, results, strict=True):
            descriptor[slot] = address_of(result)
        module = binding.compiled.module
        workers.run(
            module.address("loop"),
            address_of(descriptor),
            binding.tasks,
            binding.scratch_bytes,
            settings.threads if binding.is_shared else 1,
            keep=(descriptor, given, results, module),
        )
        return None if descriptor[TROUBLE] else results

    def for_plain_arrays(self, settings: Settings) -> CompiledLoop:
        """The code for arrays in rows-first order."""
        types = [(node.shape, carrier(node.type)) for node in self.loop.inputs]
        return self.bound(tuple((plain_strides(shape, dtype), dtype) for shape, dtype in types), settings).compiled

    def bound(
        self,
        strides: Strides,
        settings: Settings,
        bound: "Bound | None" = None,
        *,
        lengths: tuple[int, ...] | None = None,
    ) -> LoopBinding:
        """The code for arrays with these strides and types, and a descriptor without addresses.

        Args:
            strides: Strides and types.
            settings: Target and cache directory.
            bound: What the loop's lengths are, if they are free.
            lengths: Those of a part; the loop's own if None.
        """
        target = named_target(settings.target)
        if lengths is None:
            lengths = tuple(self._lengths if bound is None else bound.of(self._lengths))
        key = target, lengths, strides
        found = self._bindings.get(key)
        if found is None:
            if len(self._bindings) >= _MOST_BINDINGS:
                self._bindings.clear()
            found = self._bindings[key] = self._bind(target, lengths, strides, settings.cache_dir)
            if bound is not None:
                bound.check()
        return found

    def _bind(self, target: Target, lengths: Sequence[int], strides: Strides, cache_dir: str) -> LoopBinding:
        loop = self.loop
        fit = Fit(loop, lengths, strides)
        compiled = self._codes.of(target, fit.form, cache_dir)
        layout = compiled.writer.layout
        values = fit.slots(self.cost, bool(loop.reductions)) | layout.values
        template = np.zeros(len(layout.places), np.int64)
        for name, value in values.items():
            template[layout.places[name]] = value
        known = dict(zip((*loop.lead, loop.inner), lengths, strict=True))
        return LoopBinding(
            compiled,
            template,
            tuple(
                (layout.places["in", number, "pointer"], source, ahead)
                for number, (source, ahead) in enumerate(zip(fit.sources, fit.ahead, strict=True))
            ),
            tuple(layout.places["out", number, "pointer"] for number in range(len(loop.outputs))),
            tuple(tuple(1 if axis is None else known[axis] for axis in output.axes) for output in loop.outputs),
            values["tasks"],
            compiled.writer.scratch_bytes(fit.lengths[-1]),
            math.prod(lengths) * self.cost >= _WORTH_SHARING,
        )
