"""One run of a program: its steps in order, natively or by NumPy, values released after their last use."""

import functools
import importlib
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from .allocation import no_memory
from .config import Settings
from .errors import CompileError
from .finite import is_finite
from .interpreter import Bindings, as_held, evaluate_node, finish, stored_value
from .ir import Node, UnfusableError, Values
from .leaves import Constant, Data, Leaf, Placeholder
from .leftovers import Leftovers, kept
from .loop import Loop
from .passes.fuse import Step
from .passes.fused import Fused
from .products import Product
from .segment_loop import SegmentLoop
from .threads import limited
from .types import HALVES, DType, carrier

if TYPE_CHECKING:
    from .kernels import SweepKernel
    from .loops import LoopKernel
    from .plans import Bound
    from .segment_kernels import SegmentKernel
    from .streams import Stream, Streams

# What NumPy may multiply matrices for.
_MULTIPLYING = ("contraction", "opaque")


@functools.cache
def _streaming() -> Any:
    """What few programs need."""
    return importlib.import_module(".streaming", __package__)


class RejectedError(Exception):
    """Nodes that have turned out to be no part of a kernel, and why."""

    def __init__(self, step: Step, nodes: Sequence[Node], reason: str) -> None:
        super().__init__(reason)
        self.step, self.nodes, self.reason = step, nodes, reason


class _DoubtError(Exception):
    """The interpreter has to decide."""


class ToStream(NamedTuple):
    """What is read block by block, and for each of those steps how many bytes it may take; None for any."""

    streams: "Streams"
    budgets: "Mapping[int, int | None]"

    @classmethod
    def within(cls, streams: "Streams", beside: Mapping[int, int], limit: int | None) -> "ToStream":
        """What is left of a limit, for each step, by what is held ``beside`` it."""
        return cls(streams, {number: None if limit is None else limit - beside[number] for number in streams.steps})


class Steps(NamedTuple):
    """What is run.

    Attributes:
        steps: In order.
        sweeps: Kernels, by the numbers of their steps.
        loops: The same.
        release: What each step is the last one to need.
        stream: What is read block by block; None if nothing is.
        segments: Kernels of loops over segments, by the numbers of their steps.
        leavers: Of what a step is the last one to need, that whose memory later steps can use; empty if there is none.
        given: Leaves that are arrays as a rule, of the call or the graph, and the type in which each is kept.
        products: Nodes that run natively where their sizes make it worth it, by the numbers of their steps.
    """

    steps: Sequence[Step]
    sweeps: "Mapping[int, SweepKernel]"
    loops: "Mapping[int, LoopKernel]"
    release: Sequence[Sequence[Node]]
    stream: ToStream | None = None
    segments: "Mapping[int, SegmentKernel]" = MappingProxyType({})
    leavers: Sequence[Sequence[Node]] = ()
    given: Sequence[tuple[Placeholder | Data, DType]] = ()
    products: Mapping[int, Product] = MappingProxyType({})


class Execution:
    """One run of a program's steps. The arguments are those of `Program.run`."""

    def __init__(
        self,
        steps: Steps,
        bindings: Bindings,
        settings: Settings,
        check_finite: bool,
        bound: "Bound | None",
        seconds: dict[int, float] | None,
    ) -> None:
        self._steps, self._bindings, self._settings = steps, bindings, settings
        self._check_finite, self._bound, self._seconds = check_finite, bound, seconds
        self._values: dict[Node, Values] = {}
        # Inputs of 16 bits are kept as they are stored, which is how kernels read them; widened, where others do.
        self._widened: dict[Node, Values] = {}
        self._final: frozenset[Node] = frozenset()
        # NumPy's products are limited to so many threads from the first one on: to say so takes its time.
        self._limit: AbstractContextManager[None] | None = None

    def results(self, roots: Sequence[Node]) -> list[Values] | None:
        """The values of the roots, or None if the interpreter has to decide."""
        self._final = frozenset(roots)
        try:
            # What is kept comes on top of the plan's peak.
            if self._steps.leavers and self._settings.memory_limit is None:
                with kept() as left:
                    self._run_all(left)
            else:
                self._run_all(None)
        except _DoubtError:
            return None
        finally:
            self._end()
        return [finish(self._values[root], root.type, False) for root in roots]

    def _end(self) -> None:
        if self._limit is not None:
            self._limit.__exit__(None, None, None)
            self._limit = None

    def _run_all(self, left: Leftovers | None) -> None:
        values, widened, bindings, seconds = self._values, self._widened, self._bindings, self._seconds
        for leaf, held in self._steps.given:
            given = bindings.get(leaf) if isinstance(leaf, Placeholder) else leaf.array()
            if given is not None:
                values[leaf] = as_held(given, held)
        for number, step in enumerate(self._steps.steps):
            start = time.perf_counter() if seconds is not None else 0.0
            if not isinstance(step, Node) or step not in values:
                self._run(number, step)
            if seconds is not None:
                seconds[number] = time.perf_counter() - start
            if left is not None:
                for node in self._steps.leavers[number]:
                    if node in values:
                        left.leave([values.pop(node)])
            for done in self._steps.release[number]:
                values.pop(done, None)
                if widened:
                    widened.pop(done, None)

    def values(
        self, known: Mapping[Node, Values], numbers: Sequence[int], final: Sequence[Node]
    ) -> Mapping[Node, Values] | None:
        """All values after some of the steps, by their numbers; None if the interpreter has to decide.

        Args:
            known: What other steps have computed.
            numbers: Those that are run, in order.
            final: Nodes from which nothing else is computed.
        """
        self._values, self._final = dict(known), frozenset(final)
        try:
            for number in numbers:
                self._run(number, self._steps.steps[number])
        except _DoubtError:
            return None
        finally:
            self._end()
        return self._values

    def _run(self, number: int, step: Step) -> None:
        if isinstance(step, Node):
            if self._steps.stream is None or step not in self._steps.stream.streams.unread:
                self._values[step] = self._node(number, step)
            elif isinstance(step, Data):
                step.check()
            return
        if isinstance(step, Fused):
            results = self._sweep(number, step)
        elif isinstance(step, Loop):
            results = self._loop(self._steps.loops[number], step)
        else:
            results = self._loop(self._steps.segments[number], step)
        self._values.update(zip(step.nodes, results, strict=True))

    def _node(self, number: int, node: Node) -> Values:
        operands = [self._wide(operand) for operand in node.operands]
        product = self._steps.products.get(number)
        if product is not None:
            try:
                found = product(operands[0], operands[1], self._settings)
            except MemoryError as error:
                raise no_memory([node], error) from error
            if found is not None:
                return found
        return self._by_numpy(node, operands)

    def _sweep(self, number: int, step: Fused) -> list[Values]:
        # What was kept in Python's precision, such as a float of the call, comes as it is stored.
        stream = None if self._steps.stream is None else self._steps.stream.streams.steps.get(number)
        there = [node for node in step.inputs if stream is None or node not in stream.nodes]
        arrays = {node: self._values[node].astype(node.dtype, copy=False) for node in there}
        guarded: tuple[Node, ...] = ()
        if self._check_finite:
            guarded = step.guarded() if stream is None else stream.guarded
        accused = [node for node in guarded if node in arrays and not is_finite(arrays[node])]
        kernel: Any = functools.partial(self._steps.sweeps[number], accused=accused, final=self._final)
        if stream is not None:
            kernel = functools.partial(self._streaming, number, stream, accused=accused, guarded=guarded)
        results = self._natively(kernel, step, step.nodes[:1], arrays)
        if results is None:
            raise _DoubtError
        return results

    def _streaming(
        self,
        number: int,
        stream: "Stream",
        arrays: Mapping[Node, Values],
        settings: Settings,
        _: "Bound | None",
        *,
        accused: Collection[Node],
        guarded: Collection[Node],
    ) -> list[Values] | None:
        """The results of a sweep that reads inputs block by block."""
        assert self._steps.stream is not None
        budget = self._steps.stream.budgets[number]
        run = _streaming().StreamingRun(stream, settings, budget, guarded)
        found: list[Values] | None = run.results(arrays, accused=accused, final=self._final)
        return found

    def _loop(self, kernel: "LoopKernel | SegmentKernel", step: Loop | SegmentLoop) -> list[Values]:
        arrays = {node: self._wide(node) for node in step.inputs}
        results = self._natively(kernel, step, step.members, arrays)
        # Where a watch was set off, a closer look: node by node, as where there are no loops.
        return self._one_by_one(step, arrays) if results is None else results

    def _natively(
        self, kernel: Any, step: Fused | Loop | SegmentLoop, members: Sequence[Node], arrays: Mapping[Node, Values]
    ) -> list[Values] | None:
        try:
            found: list[Values] | None = kernel(arrays, self._settings, self._bound)
        except (UnfusableError, CompileError) as reason:
            raise RejectedError(step, members, str(reason).splitlines()[0]) from None
        except MemoryError as error:
            raise no_memory(step.nodes, error) from error
        return found

    def _one_by_one(self, loop: Loop | SegmentLoop, arrays: Mapping[Node, Values]) -> list[Values]:
        values = dict(arrays)
        for node in loop.members:
            values[node] = self._by_numpy(node, [values[operand] for operand in node.operands])
        return [values[node] for node in loop.nodes]

    def _wide(self, node: Node) -> Values:
        """A value in the type that it is computed in."""
        value = self._values[node]
        if value.dtype not in HALVES:
            return value
        if node not in self._widened:
            self._widened[node] = value.astype(carrier(node.type))
        return self._widened[node]

    def _by_numpy(self, node: Node, operands: Sequence[Values]) -> Values:
        here = node if self._bound is None else self._bound.node(node)
        if node.role in _MULTIPLYING and self._limit is None:
            self._limit = limited(self._settings.threads)
            self._limit.__enter__()
        if isinstance(node, Leaf) and not isinstance(node, Constant) and node.dtype in HALVES:
            return stored_value(here, self._bindings)
        value = evaluate_node(here, operands, self._bindings)
        if node.trouble(value, operands, self._check_finite):
            raise _DoubtError
        return value
