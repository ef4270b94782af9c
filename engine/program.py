"""A graph as a program: sweeps and loops that run natively, and nodes that NumPy runs, in order.

Where anything is in doubt (a value that is not finite, an index out of range), the program gives up and
the interpreter decides: it settles overflow, hidden positions and errors by its careful path.
"""

import functools
import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .allocation import no_memory
from .config import Settings
from .errors import CompileError
from .interpreter import Bindings, evaluate_node, finish
from .ir import Node, UnfusableError, Values
from .loop import Loop
from .memory import last_uses
from .passes.fuse import Fused, Plan, Step, fuse
from .passes.loops import LEAST_ELEMENTS as LEAST_ELEMENTS
from .passes.loops import find_loops, with_loops
from .single import rounds_as_numpy, single_step
from .threads import limited

if TYPE_CHECKING:
    from .kernels import SweepKernel
    from .loops import LoopKernel
    from .plans import Bound


@functools.cache
def _kernels() -> Any:
    """The code generator and LLVM: loaded by the first graph that has a sweep, for they take 60 ms."""
    return importlib.import_module(".kernels", __package__)


@functools.cache
def _loops() -> Any:
    """As `_kernels`, for loops."""
    return importlib.import_module(".loops", __package__)


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
        self.plan: Plan
        self.kernels: dict[int, SweepKernel]
        self.loops: dict[int, LoopKernel]
        self.release: list[list[Node]]
        # Whether NumPy may multiply matrices, on threads that are to be limited.
        self.multiplies: bool
        self._plan()

    def _plan(self) -> None:
        self.plan = fuse(self.roots, self._rejected, LEAST_WORK)
        unwritable = self._unwritable()
        while unwritable:
            self._rejected |= unwritable
            self.plan = fuse(self.roots, self._rejected, LEAST_WORK)
            unwritable = self._unwritable()
        self.plan.not_fused += self._rejected.items()
        self._plan_loops()
        steps = list(enumerate(self.plan.steps))
        self.kernels = {number: _kernels().SweepKernel(step) for number, step in steps if isinstance(step, Fused)}
        self.loops = {number: _loops().LoopKernel(step) for number, step in steps if isinstance(step, Loop)}
        self.release = last_uses(self.plan.steps, self.roots)
        nodes = [step for step in self.plan.steps if isinstance(step, Node)]
        self.multiplies = any(node.role in ("contraction", "opaque") for node in nodes)

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

    def run(
        self, bindings: Bindings, settings: Settings, *, check_finite: bool, bound: "Bound | None" = None
    ) -> list[Values] | None:
        """The results, or None if the interpreter has to decide; at the lengths of ``bound``, if they are free.

        Raises:
            PinnedError: If the program turns out not to hold for these lengths.
        """
        while True:
            try:
                with np.errstate(all="ignore"), limited(settings.threads) if self.multiplies else nullcontext():
                    planned = self.plan, self.kernels, self.loops, self.release
                    return self._run(*planned, bindings, settings, check_finite, bound)
            except _RejectedError as rejected:
                (self._apart if rejected.in_loop else self._rejected).update(
                    dict.fromkeys(rejected.nodes, rejected.reason)
                )
                self._plan()

    def _run(
        self,
        plan: Plan,
        kernels: "dict[int, SweepKernel]",
        loops: "dict[int, LoopKernel]",
        release: list[list[Node]],
        bindings: Bindings,
        settings: Settings,
        check_finite: bool,
        bound: "Bound | None",
    ) -> list[Values] | None:
        values: dict[Node, Values] = {}
        for number, step in enumerate(plan.steps):
            if isinstance(step, Fused):
                # What was kept in Python's precision, such as a float of the call, comes as it is stored.
                arrays = {node: values[node].astype(node.dtype, copy=False) for node in step.inputs}
                if check_finite and not all(_is_finite(arrays[node]) for node in step.guarded()):
                    return None
                results = _call(kernels[number], step, arrays, settings, bound)
                if results is None:
                    return None
                values.update(zip(step.nodes, results, strict=True))
            elif isinstance(step, Loop):
                arrays = {node: values[node] for node in step.inputs}
                results = _call_loop(loops[number], step, arrays, settings, bound)
                if results is None:  # a closer look: node by node, as where there are no loops
                    results = _one_by_one(step, arrays, bindings, check_finite, bound)
                if results is None:
                    return None
                values.update(zip(step.nodes, results, strict=True))
            else:
                operands = [values[operand] for operand in step.operands]
                values[step] = evaluate_node(step if bound is None else bound.node(step), operands, bindings)
                if step.trouble(values[step], operands, check_finite):
                    return None
            for done in release[number]:
                del values[done]
        return [finish(values[root], root.type, False) for root in self.roots]


class _RejectedError(Exception):
    def __init__(self, nodes: Sequence[Node], reason: str, *, in_loop: bool) -> None:
        super().__init__(reason)
        self.nodes, self.reason, self.in_loop = nodes, reason, in_loop


def _call(
    kernel: "SweepKernel", step: Fused, arrays: dict[Node, Values], settings: Settings, bound: "Bound | None"
) -> list[Values] | None:
    try:
        return kernel(arrays, settings, bound)
    except (UnfusableError, CompileError) as reason:
        raise _RejectedError(step.nodes[:1], str(reason).splitlines()[0], in_loop=False) from None
    except MemoryError as error:
        raise no_memory(step.nodes, error) from error


def _call_loop(
    kernel: "LoopKernel", step: Loop, arrays: dict[Node, Values], settings: Settings, bound: "Bound | None"
) -> list[Values] | None:
    try:
        return kernel(arrays, settings) if bound is None else kernel(arrays, settings, bound)
    except (UnfusableError, CompileError) as reason:
        raise _RejectedError(step.members, str(reason).splitlines()[0], in_loop=True) from None
    except MemoryError as error:
        raise no_memory(step.nodes, error) from error


def _one_by_one(
    loop: Loop, arrays: dict[Node, Values], bindings: Bindings, check_finite: bool, bound: "Bound | None"
) -> list[Values] | None:
    """What a loop computes, by NumPy; None where the interpreter has to decide."""
    values = dict(arrays)
    for node in loop.members:
        operands = [values[operand] for operand in node.operands]
        values[node] = evaluate_node(node if bound is None else bound.node(node), operands, bindings)
        if node.trouble(values[node], operands, check_finite):
            return None
    return [values[node] for node in loop.nodes]


def _is_finite(array: Values) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
