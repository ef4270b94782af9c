"""A graph as a program: sweeps that run natively, and nodes that NumPy runs, in order.

Where anything is in doubt (a value that is not finite, an index out of range), the program gives up and
the interpreter decides: it settles overflow, hidden positions and errors by its careful path.
"""

import functools
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import Settings
from .errors import CompileError
from .interpreter import Bindings, evaluate_node, finish
from .ir import Node, UnfusableError, Values
from .memory import last_uses
from .passes.fuse import Fused, Plan, fuse

if TYPE_CHECKING:
    from .kernels import SweepKernel


@functools.cache
def _kernels() -> Any:
    """The code generator and LLVM: loaded by the first graph that has a sweep, for they take 60 ms."""
    return importlib.import_module(".kernels", __package__)


# Positions of tiles below which starting a kernel costs more than it saves.
LEAST_WORK = 1 << 15


class Program:
    """The steps for some results. Kernels are compiled when they are first needed."""

    def __init__(self, roots: Sequence[Node]) -> None:
        self.roots = tuple(roots)
        self._rejected: dict[Node, str] = {}
        self.plan: Plan
        self.kernels: dict[int, SweepKernel]
        self._plan()

    def _plan(self) -> None:
        self.plan = fuse(self.roots, self._rejected, LEAST_WORK)
        unwritable = self._unwritable()
        while unwritable:
            self._rejected |= unwritable
            self.plan = fuse(self.roots, self._rejected, LEAST_WORK)
            unwritable = self._unwritable()
        self.plan.not_fused += self._rejected.items()
        self.kernels = {
            number: _kernels().SweepKernel(step)
            for number, step in enumerate(self.plan.steps)
            if isinstance(step, Fused)
        }

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

    def run(self, bindings: Bindings, settings: Settings, *, check_finite: bool) -> list[Values] | None:
        """The results, or None if the interpreter has to decide."""
        while True:
            try:
                with np.errstate(all="ignore"):
                    return self._run(self.plan, self.kernels, bindings, settings, check_finite)
            except _RejectedError as rejected:
                self._rejected[rejected.node] = rejected.reason
                self._plan()

    def _run(
        self,
        plan: Plan,
        kernels: "dict[int, SweepKernel]",
        bindings: Bindings,
        settings: Settings,
        check_finite: bool,
    ) -> list[Values] | None:
        values: dict[Node, Values] = {}
        release = last_uses(plan.steps, self.roots)
        for number, step in enumerate(plan.steps):
            if isinstance(step, Fused):
                arrays = {node: values[node] for node in step.inputs}
                if check_finite and not all(_is_finite(arrays[node]) for node in step.guarded()):
                    return None
                results = _call(kernels[number], step, arrays, settings)
                if results is None:
                    return None
                values.update(zip(step.nodes, results, strict=True))
            else:
                operands = [values[operand] for operand in step.operands]
                values[step] = evaluate_node(step, operands, bindings)
                if step.trouble(values[step], operands, check_finite):
                    return None
            for done in release[number]:
                del values[done]
        return [finish(values[root], root.type, False) for root in self.roots]


class _RejectedError(Exception):
    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(reason)
        self.node, self.reason = node, reason


def _call(kernel: "SweepKernel", step: Fused, arrays: dict[Node, Values], settings: Settings) -> list[Values] | None:
    try:
        return kernel(arrays, settings)
    except (UnfusableError, CompileError) as reason:
        raise _RejectedError(step.nodes[0], str(reason).splitlines()[0]) from None


def _is_finite(array: Values) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
