"""One run of a program: its steps in order, natively or by NumPy, values released after their last use."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .allocation import no_memory
from .config import Settings
from .errors import CompileError
from .interpreter import Bindings, evaluate_node, finish
from .ir import Node, UnfusableError, Values
from .loop import Loop
from .passes.fuse import Step
from .passes.fused import Fused

if TYPE_CHECKING:
    from .kernels import SweepKernel
    from .loops import LoopKernel
    from .plans import Bound


class RejectedError(Exception):
    """Nodes that have turned out to be no part of a kernel, and why."""

    def __init__(self, nodes: Sequence[Node], reason: str, *, in_loop: bool) -> None:
        super().__init__(reason)
        self.nodes, self.reason, self.in_loop = nodes, reason, in_loop


class _DoubtError(Exception):
    """The interpreter has to decide."""


class Steps(NamedTuple):
    """What is run: steps, the kernels of those that are native by their numbers, and what each one releases."""

    steps: Sequence[Step]
    sweeps: "Mapping[int, SweepKernel]"
    loops: "Mapping[int, LoopKernel]"
    release: Sequence[Sequence[Node]]


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
        self._final: frozenset[Node] = frozenset()

    def results(self, roots: Sequence[Node]) -> list[Values] | None:
        """The values of the roots, or None if the interpreter has to decide."""
        values, self._final = self._values, frozenset(roots)
        try:
            for number, step in enumerate(self._steps.steps):
                start = time.perf_counter() if self._seconds is not None else 0.0
                self._run(number, step)
                if self._seconds is not None:
                    self._seconds[number] = time.perf_counter() - start
                for done in self._steps.release[number]:
                    del values[done]
        except _DoubtError:
            return None
        return [finish(values[root], root.type, False) for root in roots]

    def _run(self, number: int, step: Step) -> None:
        if isinstance(step, Fused):
            results = self._sweep(number, step)
        elif isinstance(step, Loop):
            results = self._loop(number, step)
        else:
            self._values[step] = self._by_numpy(step, [self._values[operand] for operand in step.operands])
            return
        self._values.update(zip(step.nodes, results, strict=True))

    def _sweep(self, number: int, step: Fused) -> list[Values]:
        # What was kept in Python's precision, such as a float of the call, comes as it is stored.
        arrays = {node: self._values[node].astype(node.dtype, copy=False) for node in step.inputs}
        accused: list[Node] = []
        if self._check_finite:
            accused = [node for node in step.guarded() if not _is_finite(arrays[node])]
        kernel = functools.partial(self._steps.sweeps[number], accused=accused, final=self._final)
        results = self._natively(kernel, step, step.nodes[:1], arrays)
        if results is None:
            raise _DoubtError
        return results

    def _loop(self, number: int, step: Loop) -> list[Values]:
        arrays = {node: self._values[node] for node in step.inputs}
        results = self._natively(self._steps.loops[number], step, step.members, arrays)
        # Where a watch was set off, a closer look: node by node, as where there are no loops.
        return self._one_by_one(step, arrays) if results is None else results

    def _natively(
        self, kernel: Any, step: Fused | Loop, members: Sequence[Node], arrays: Mapping[Node, Values]
    ) -> list[Values] | None:
        try:
            found: list[Values] | None = kernel(arrays, self._settings, self._bound)
        except (UnfusableError, CompileError) as reason:
            raise RejectedError(members, str(reason).splitlines()[0], in_loop=isinstance(step, Loop)) from None
        except MemoryError as error:
            raise no_memory(step.nodes, error) from error
        return found

    def _one_by_one(self, loop: Loop, arrays: Mapping[Node, Values]) -> list[Values]:
        values = dict(arrays)
        for node in loop.members:
            values[node] = self._by_numpy(node, [values[operand] for operand in node.operands])
        return [values[node] for node in loop.nodes]

    def _by_numpy(self, node: Node, operands: Sequence[Values]) -> Values:
        here = node if self._bound is None else self._bound.node(node)
        value = evaluate_node(here, operands, self._bindings)
        if node.trouble(value, operands, self._check_finite):
            raise _DoubtError
        return value


def _is_finite(array: Values) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
