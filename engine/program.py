"""A graph as a program: sweeps and loops that run natively, and nodes that NumPy runs, in order.

Where anything is in doubt (a value that is not finite, an index out of range), a sweep computes the rows in
question again, with care; what that does not settle, errors above all, the interpreter decides.
"""

import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import blocks_of
from .config import Settings
from .execution import Execution, RejectedError, Steps, ToStream
from .interpreter import Bindings
from .ir import Node, UnfusableError, Values
from .leaves import Data, Placeholder
from .loop import Loop
from .memory import MemoryPlan, last_uses, leavers, plan_memory
from .passes.fuse import Plan, Step, fuse, step_nodes
from .passes.fused import Fused
from .passes.loops import LEAST_ELEMENTS as LEAST_ELEMENTS
from .passes.loops import find_loops, with_loops
from .passes.segments import find_segments
from .products import Product, is_product
from .segment_loop import SegmentLoop
from .single import rounds_as_numpy, single_step
from .types import HALVES, DType, carrier

if TYPE_CHECKING:
    from .kernels import SweepKernel
    from .loops import LoopKernel
    from .plans import Bound
    from .segment_kernels import SegmentKernel
    from .streams import Stream, Streams


@functools.cache
def _kernels() -> Any:
    """The code generator and LLVM: loaded by the first graph that has a sweep, for they take 60 ms."""
    return importlib.import_module(".kernels", __package__)


@functools.cache
def _loops() -> Any:
    """As `_kernels`, for loops."""
    return importlib.import_module(".loops", __package__)


@functools.cache
def _segments() -> Any:
    """As `_kernels`, for loops over segments."""
    return importlib.import_module(".segment_kernels", __package__)


@functools.cache
def _streams() -> Any:
    """As `_kernels`, for what is read block by block."""
    return importlib.import_module(".streams", __package__)


# Positions of tiles below which a kernel is not worth compiling: once it is there it is quicker at any size.
LEAST_WORK = 1 << 15
# What has more steps is not looked at for being one small loop.
_MOST_STEPS_OF_ONE_LOOP = 24


class Program:
    """The steps for some results. Kernels are compiled when they are first needed.

    Args:
        roots: The results.
        repeated: Whether it will run again and again: then a loop is worth its code even for little work,
            if it is all that there is to do, for it can be entered without NumPy.
    """

    def __init__(self, roots: Sequence[Node], *, repeated: bool = False) -> None:
        self.roots = tuple(roots)
        self._repeated = repeated
        self._rejected: dict[Node, str] = {}
        # Nodes that have turned out to be no parts of loops.
        self._apart: dict[Node, str] = {}
        # Nodes that have turned out to be no parts of loops over segments.
        self._no_segments: dict[Node, str] = {}
        self.plan: Plan
        self.kernels: dict[int, SweepKernel]
        self.loops: dict[int, LoopKernel]
        self.segments: dict[int, SegmentKernel]
        self.release: list[list[Node]]
        self._leavers: list[list[Node]]
        # Leaves that are arrays as a rule, and the type in which each is kept.
        self._given: list[tuple[Placeholder | Data, DType]]
        self._fixed: Steps
        # What is read block by block; None if nothing is.
        self.streams: Streams | None
        self.products: dict[int, Product]
        self._plan()

    def _plan(self) -> None:
        segments, reasons = find_segments(
            self.roots, self._no_segments, LEAST_ELEMENTS, lambda each: _loops().check_loop_scalar(each)
        )
        self.plan = fuse(self.roots, self._rejected, LEAST_WORK, segments)
        unwritable = self._unwritable()
        while unwritable:
            self._rejected |= unwritable
            self.plan = fuse(self.roots, self._rejected, LEAST_WORK, segments)
            unwritable = self._unwritable()
        self.plan.not_fused += [*self._rejected.items(), *reasons]
        self._plan_loops()
        steps = list(enumerate(self.plan.steps))
        self.kernels = {number: _kernels().SweepKernel(step) for number, step in steps if isinstance(step, Fused)}
        self.loops = {number: _loops().LoopKernel(step) for number, step in steps if isinstance(step, Loop)}
        self.segments = {
            number: _segments().SegmentKernel(step) for number, step in steps if isinstance(step, SegmentLoop)
        }
        self.release = last_uses(self.plan.steps, self.roots)
        found = leavers(self.plan.steps, self.release)
        self._leavers = found if any(found) else []
        self.streams = self._streams()
        leaves = [step for step in self.plan.steps if isinstance(step, Placeholder | Data)]
        self._given = [(leaf, leaf.dtype if leaf.dtype in HALVES else carrier(leaf.type)) for leaf in leaves]
        self.products = {number: Product() for number, step in steps if isinstance(step, Node) and is_product(step)}
        self._fixed = Steps(
            self.plan.steps,
            self.kernels,
            self.loops,
            self.release,
            segments=self.segments,
            leavers=self._leavers,
            given=self._given,
            products=self.products,
        )

    def _streams(self) -> "Streams | None":
        has_blocks = any(isinstance(step, Data) and blocks_of(step.source) is not None for step in self.plan.steps)
        if not has_blocks or not self.kernels:
            return None
        found: Streams = _streams().Streams(self.plan.steps, self.kernels, self.roots)
        return found if found.steps else None

    def memory(self, settings: Settings) -> MemoryPlan:
        """The memory plan of running it."""
        streams = self.streams
        if streams is None:
            return plan_memory(self.roots, steps=self.plan.steps)
        return plan_memory(self.roots, steps=self.plan.steps, streams=streams.least(settings), unread=streams.unread)

    def stream_of(self, number: int) -> "Stream | None":
        """What a step, by its number, reads block by block; None if nothing."""
        return None if self.streams is None else self.streams.steps.get(number)

    def _plan_loops(self) -> None:
        """Fuse what is element-wise outside sweeps."""
        if self._repeated and len(self.plan.steps) <= _MOST_STEPS_OF_ONE_LOOP and not self.plan.sweeps:
            steps, apart = self._with_loops(1)
            single = single_step(steps, self.roots)
            if single is not None and isinstance(single.step, Loop) and rounds_as_numpy(single.step):
                self.plan.steps, self._apart = steps, apart
                return
        self.plan.steps, self._apart = self._with_loops(LEAST_ELEMENTS)
        self.plan.not_fused += [(node, reason) for node, reason in self._apart.items() if node not in self._rejected]

    def _with_loops(self, least_elements: int) -> tuple[list[Step], dict[Node, str]]:
        """The steps of the plan with loops of so many elements, and what cannot be part of one."""
        loops, apart = find_loops(
            self.plan, self.roots, self._apart, least_elements, lambda scalar: _loops().check_loop_scalar(scalar)
        )
        return with_loops(self.plan, self.roots, loops), apart

    def _unwritable(self) -> dict[Node, str]:
        """Nodes whose sweeps the code generator cannot write, and why."""
        found: dict[Node, str] = {}
        for step in self.plan.steps:
            if isinstance(step, Fused):
                try:
                    _kernels().check_writable(step.sweep)
                except UnfusableError as reason:
                    found |= dict.fromkeys(step.nodes, str(reason))
        return found

    def _to_stream(self, settings: Settings) -> "ToStream | None":
        if self.streams is None:
            return None
        limit = settings.memory_limit
        return ToStream.within(self.streams, {} if limit is None else self.memory(settings).beside, limit)

    def _steps(self, settings: Settings) -> Steps:
        return self._fixed if self.streams is None else self._fixed._replace(stream=self._to_stream(settings))

    def _reject(self, rejected: RejectedError) -> None:
        """Plan anew without nodes that turned out to be no part of their kernel."""
        step = rejected.step
        apart = self._rejected
        if not isinstance(step, Fused):
            apart = self._no_segments if isinstance(step, SegmentLoop) else self._apart
        apart.update(dict.fromkeys(rejected.nodes, rejected.reason))
        self._plan()

    def run_step(
        self, number: int, values: Mapping[Node, Values], settings: Settings, *, check_finite: bool
    ) -> dict[Node, Values] | None:
        """What one step makes of what it reads, by nodes, or None if the undivided run has to decide.

        Args:
            number: The step's.
            values: What it reads, by nodes; what is read block by block is not among it.
            settings: Threads, target and cache directory.
            check_finite: Whether NaN or infinity in what guards watch is an error.
        """
        with np.errstate(all="ignore"):
            steps = self._steps(settings)
            try:
                found = Execution(steps, {}, settings, check_finite, None, None).values(values, [number], self.roots)
            except RejectedError:
                return None
        return None if found is None else {node: found[node] for node in step_nodes(self.plan.steps[number])}

    def run(
        self,
        bindings: Bindings,
        settings: Settings,
        *,
        check_finite: bool,
        bound: "Bound | None" = None,
        seconds: dict[int, float] | None = None,
    ) -> list[Values] | None:
        """The results, or None if the interpreter has to decide.

        Args:
            bindings: Arrays of placeholders.
            settings: Threads, target and cache directory.
            check_finite: Whether NaN or infinity in what guards watch is an error.
            bound: What free lengths are in this call.
            seconds: Filled with what each step took, by its number.

        Raises:
            PinnedError: If the program turns out not to hold for these lengths.
        """
        while True:
            try:
                with np.errstate(all="ignore"):
                    steps = self._steps(settings)
                    return Execution(steps, bindings, settings, check_finite, bound, seconds).results(self.roots)
            except RejectedError as rejected:
                self._reject(rejected)
