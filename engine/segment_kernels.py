"""Compiled loops over segments: compiled for the types of arrays, found again by what their code depends on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from . import workers
from .codegen.loop_legal import check_loop_scalar as check_loop_scalar
from .codegen.segment import SegmentWriter
from .codegen.segment_layout import SegmentForm, segment_signature
from .codegen.target import named_target
from .config import Settings
from .ir import Node, Values
from .loop_binding import memory_type
from .loop_codes import CompiledLoop, LoopCodes
from .segment_loop import SegmentLoop, SegmentOutput
from .segment_order import Order, in_order, order_of
from .types import carrier

if TYPE_CHECKING:
    from .plans import Bound

# Bytes of a thread's scratch above which values of one pass are computed anew in the next.
_MOST_KEPT = 1 << 23
# Edges below which waking a second thread costs more than it saves.
_WORTH_SHARING = 1 << 12


class SegmentKernel:
    """A loop over segments that runs natively. Compiled at its first call."""

    # What `explain` says of its domain.
    goes_over: ClassVar[str] = "CSR rows"

    def __init__(self, loop: SegmentLoop) -> None:
        self.loop = loop
        self._types = [carrier(node.type) for node in loop.nodes]
        self._codes = LoopCodes(loop, "segments", segment_signature, SegmentWriter)

    def __call__(
        self, arrays: Mapping[Node, Values], settings: Settings, bound: "Bound | None" = None
    ) -> list[Values] | None:
        """The results, or None where a watch was set off, or an id or index is out of range.

        Args:
            arrays: The arrays that it loads, in the machine's byte order.
            settings: Threads, target and cache directory.
            bound: What the loop's lengths are in this call, if they are free.

        Raises:
            UnfusableError: If the code generator cannot write it.
            CompileError: If LLVM rejects what was written.
            PinnedError: If the code depends on a length that is another one in this call.
        """
        loop = self.loop
        rows, edges = (axis.length if bound is None else bound.of(axis.length) for axis in (loop.row, loop.edge))
        order = order_of(arrays[loop.ids], int(rows), loop.wraps, settings.cache_dir)
        if order is None:
            return None
        given = [_plain(arrays[node], order, node in loop.numbers_of_edges) for node in loop.inputs]
        if any(not array.size for array in given):  # clamped indices are read even where nothing is there
            return None
        types = tuple([memory_type(array.dtype) for array in given])
        target = named_target(settings.target)
        form = SegmentForm(types, order.order is None, keeps_edges=True)
        compiled = self._codes.of(target, form, settings.cache_dir)
        if compiled.writer.scratch_bytes(order.longest) > _MOST_KEPT:
            compiled = self._codes.of(target, form._replace(keeps_edges=False), settings.cache_dir)
        if bound is not None:
            bound.check()
        return self._run(compiled, order, given, int(edges), settings, bound)

    def _run(
        self,
        compiled: CompiledLoop,
        order: Order,
        given: list[Values],
        edges: int,
        settings: Settings,
        bound: "Bound | None",
    ) -> list[Values] | None:
        layout, tasks = compiled.writer.layout, len(order.bounds) - 1
        results = [
            np.empty(self._shape(output, tasks, bound), dtype)
            for output, dtype in zip(self.loop.outputs, self._result_types(), strict=True)
        ]
        values = {"tasks": tasks, "edges": edges, "trouble": 0, **layout.values}
        for scalar, name in layout.lengths.items():
            (length,) = scalar.attribute
            values[name] = int(length if bound is None else bound.of(length))
        lists = {"bounds": order.bounds, "starts": order.starts, "order": order.starts}
        if order.order is not None:
            lists["order"] = order.order
        pointers: dict[object, Values] = {(name, "pointer"): array for name, array in lists.items()}
        pointers |= {("in", number, "pointer"): array for number, array in enumerate(given)}
        pointers |= {("out", number, "pointer"): array for number, array in enumerate(results)}
        descriptor = np.zeros(len(layout.places), np.int64)
        for name, place in layout.places.items():
            descriptor[place] = values[name] if name in values else pointers[name].__array_interface__["data"][0]
        module = compiled.module
        workers.run(
            module.address("segments"),
            descriptor.__array_interface__["data"][0],
            tasks,
            compiled.writer.scratch_bytes(order.longest),
            settings.threads if edges >= _WORTH_SHARING else 1,
            keep=(descriptor, given, results, order, module),
        )
        if descriptor[layout.places["trouble"]]:
            return None
        return [self._finished(output, array) for output, array in zip(self.loop.outputs, results, strict=True)]

    def _result_types(self) -> list[np.dtype]:
        return [
            np.dtype(np.float64) if output.extent == "total" else dtype
            for output, dtype in zip(self.loop.outputs, self._types, strict=True)
        ]

    def _shape(self, output: SegmentOutput, tasks: int, bound: "Bound | None") -> tuple[int, ...]:
        shape = tuple(output.node.shape if bound is None else bound.of(tuple(output.node.shape)))
        return (tasks, *shape) if output.extent == "total" else shape

    def _finished(self, output: SegmentOutput, array: Values) -> Values:
        """What tasks have summed is summed, in their order."""
        return array.sum(axis=0).astype(carrier(output.node.type)) if output.extent == "total" else array

    def for_plain_arrays(self, settings: Settings) -> CompiledLoop:
        """The code for edges in the order of their rows."""
        types = tuple([memory_type(carrier(node.type)) for node in self.loop.inputs])
        return self._codes.of(named_target(settings.target), SegmentForm(types, True, True), settings.cache_dir)


def _plain(array: Values, order: Order, is_of_edges: bool) -> Values:
    """An array as kernels read it: rows first; numbers of edges in their order."""
    if is_of_edges and order.order is not None:
        return in_order(array, order.order)
    return np.require(array, requirements=("C", "A"))
