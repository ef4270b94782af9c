"""Compiled loops over segments: compiled for the types of arrays, found again by what their code depends on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from . import workers
from .codegen.layout import address_of
from .codegen.loop_legal import check_loop_scalar as check_loop_scalar
from .codegen.segment import SegmentWriter
from .codegen.segment_layout import HEAD, SegmentForm, segment_signature
from .codegen.target import named_target
from .config import Settings
from .ir import Node, Values
from .leftovers import empty
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
# Bytes of all inputs from which on rows are asked for ahead: less stays in the second cache.
_LEAST_AHEAD = 1 << 19
# Types and sizes of calls that one loop remembers.
_MOST_BINDINGS = 16
# The slot that a watch sets.
_TROUBLE = HEAD.index("trouble")


class SegmentBinding(NamedTuple):
    """Code, and a descriptor without addresses: for arrays of certain types, and lengths.

    Attributes:
        compiled: The code.
        template: The descriptor.
        pointers: Its slots of addresses: of the order's lists, of inputs, of results.
        results: Shapes of the results, and their types.
    """

    compiled: CompiledLoop
    template: Any
    pointers: slice
    results: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]


class SegmentKernel:
    """A loop over segments that runs natively. Compiled at its first call."""

    # What `explain` says of its domain.
    goes_over: ClassVar[str] = "CSR rows"

    def __init__(self, loop: SegmentLoop) -> None:
        self.loop = loop
        self._types = [carrier(node.type) for node in loop.nodes]
        self._codes = LoopCodes(loop, "segments", segment_signature, SegmentWriter)
        # What free lengths results and their values may depend on.
        lengths = [each.attribute for each in loop.scalars if each.op == "length"]
        self._lengths = (*(tuple(node.shape) for node in loop.nodes), *lengths)
        self._bindings: dict[tuple[object, ...], SegmentBinding] = {}

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
        size = int(rows), int(edges)
        binding = self._binding(order, given, size, settings, bound, keeps_edges=True)
        if binding.compiled.writer.scratch_bytes(order.longest) > _MOST_KEPT:
            binding = self._binding(order, given, size, settings, bound, keeps_edges=False)
        if bound is not None:
            bound.check()
        return self._run(binding, order, given, size[1], settings)

    def _binding(
        self,
        order: Order,
        given: list[Values],
        size: tuple[int, int],
        settings: Settings,
        bound: "Bound | None",
        *,
        keeps_edges: bool,
    ) -> SegmentBinding:
        """The code for such a call, and its descriptor."""
        target, dtypes = named_target(settings.target), tuple([array.dtype for array in given])
        lengths = () if bound is None else bound.of(self._lengths)
        asks_ahead = sum([array.nbytes for array in given]) >= _LEAST_AHEAD
        key = target, dtypes, order.order is None, keeps_edges, asks_ahead, len(order.bounds), size, lengths
        found = self._bindings.get(key)
        if found is None:
            if len(self._bindings) >= _MOST_BINDINGS:
                self._bindings.clear()
            form = SegmentForm(tuple(map(memory_type, dtypes)), order.order is None, keeps_edges, asks_ahead)
            compiled = self._codes.of(target, form, settings.cache_dir)
            found = self._bindings[key] = self._bound(compiled, len(order.bounds) - 1, size[1], bound)
        return found

    def _bound(self, compiled: CompiledLoop, tasks: int, edges: int, bound: "Bound | None") -> SegmentBinding:
        layout = compiled.writer.layout
        values = {"tasks": tasks, "edges": edges, "trouble": 0, **layout.values}
        for scalar, name in layout.lengths.items():
            (length,) = scalar.attribute
            values[name] = int(length if bound is None else bound.of(length))
        template = np.zeros(len(layout.places), np.int64)
        for name, value in values.items():
            template[layout.places[name]] = value
        results = [
            (self._shape(output, tasks, bound), dtype)
            for output, dtype in zip(self.loop.outputs, self._result_types(), strict=True)
        ]
        return SegmentBinding(compiled, template, layout.pointers, tuple(results))

    def _run(
        self, binding: SegmentBinding, order: Order, given: list[Values], edges: int, settings: Settings
    ) -> list[Values] | None:
        results = [empty(shape, dtype) for shape, dtype in binding.results]
        descriptor, module = binding.template.copy(), binding.compiled.module
        # Where edges lie in order there is no list of it, and something has to stand for it.
        lists = order.bounds, order.starts, order.starts if order.order is None else order.order
        addresses = [address_of(array) for array in (*lists, *given, *results)]
        descriptor[binding.pointers] = addresses
        workers.run(
            module.address("segments"),
            address_of(descriptor),
            len(order.bounds) - 1,
            binding.compiled.writer.scratch_bytes(order.longest),
            settings.threads if edges >= _WORTH_SHARING else 1,
            keep=(descriptor, given, results, order, module),
        )
        if descriptor[_TROUBLE]:
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
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, requirements=("C", "A"))
