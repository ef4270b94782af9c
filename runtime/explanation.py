"""`explain`: what a graph is, what each pass made of it, and what running it takes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..engine.config import config
from ..engine.errors import ArgumentError
from ..engine.ir import Change, Node, walk
from ..engine.keeping import Kept, Recomputed, kept_values, recomputed_values
from ..engine.leaves import Placeholder
from ..engine.memory import MemoryPlan, plan_memory
from ..engine.pipeline import PassReport, optimize_reported
from ..engine.printing import brief, listing
from ..engine.program import Program
from ..ops.array import Array, lift
from .compiled import Compiled
from .kernel_report import KernelReport
from .measurement import Measurement, measured

_LEVELS = ("graph", "passes", "optimized", "kernels", "memory")
_MOST_CHANGES = 12
_MOST_OPERATORS = 12
_MOST_VALUES = 12


class Explanation:
    """A report on an expression; ``str()`` is the text.

    Attributes:
        graph: The graph as written, one node a line.
        optimized: The graph after all passes.
        passes: What each pass did (`engine.pipeline.PassReport`).
        memory: The memory plan of running it (`engine.memory.MemoryPlan`).
        kernels: A report on each native kernel (`runtime.kernel_report.KernelReport`).
        not_fused: Node and reason, for each reduction that runs node by node.
        kept: What one step stores for later ones, a backward pass among them, and why (`engine.keeping.Kept`).
        recomputed: What several kernels compute, each for itself, rather than store (`engine.keeping.Recomputed`).
        notes: What nodes say beside the graph: of gradients that are zero, say.
    """

    def __init__(
        self,
        roots: list[Node],
        title: str,
        level: str | None,
        *,
        placeholders: Sequence[Placeholder] = (),
        repeated: bool = False,
    ) -> None:
        self._title, self._level = title, level
        self.passes: list[PassReport] = optimize_reported(roots)
        after = self.passes[-1].roots if self.passes else tuple(roots)
        settings = config.settings()
        self._target = settings.target
        run = roots if settings.target.startswith("reference") else after
        self.graph: str = listing(roots, lines=True)
        self.optimized: str = listing(after, lines=True)
        self.notes: list[str] = list(dict.fromkeys(node.note for node in walk(roots) if node.note))
        self._counts = len(walk(roots)), len(walk(after))
        self._operators = Counter(node.name for node in walk(after) if node.operands)
        self.kernels: tuple[KernelReport, ...] = ()
        self.not_fused: list[tuple[Node, str]] = []
        self.kept: list[Kept] = []
        self.recomputed: list[Recomputed] = []
        self._program: Program | None = None
        self._placeholders = placeholders
        if not settings.target.startswith("reference"):
            self._program = program = Program(after, repeated=repeated)
            steps, self.not_fused = program.plan.steps, program.plan.not_fused
            native = [(number, step) for number, step in enumerate(steps) if not isinstance(step, Node)]
            self.kept, self.recomputed = kept_values(steps, after), recomputed_values(steps)
            self.kernels = tuple(KernelReport(program, number, step, settings) for number, step in native)
        all64 = settings.target == "reference64"
        program_memory = None if self._program is None else self._program.memory(settings)
        self.memory: MemoryPlan = program_memory or plan_memory(run, all64=all64)

    def measure(self, *arrays: Any, rounds: int = 5) -> Measurement:
        """Run it, and put each step's time beside the least that its work can take on this machine.

        Args:
            arrays: For the placeholders, or the arguments of a compiled function, in order; where there are
                none, floats are drawn at random and all else is 0.
            rounds: How often it runs; times are medians.

        Raises:
            ArgumentError: For another number of arrays than placeholders, one of another shape, less than
                one round, or a reference target, which has no steps to measure.
        """
        if self._program is None:
            raise ArgumentError(f"measure: the target {self._target} runs no program that could be measured")
        return measured(self._program, self._placeholders, arrays, rounds, self.kernels)

    def __str__(self) -> str:
        parts = {
            "kernels": self._kernels(),
            "graph": f"graph as written ({self._counts[0]} nodes)\n{self.graph}",
            "passes": "passes\n" + "\n".join(map(_report, self.passes)),
            "optimized": f"graph after all passes ({self._counts[1]} nodes)\n{self.optimized}",
            "memory": self._memory(),
        }
        if self._level is not None:
            return parts[self._level]
        kernels = f"{len(self.kernels)} native kernels, and NumPy" if self.kernels else "NumPy alone"
        runs = f"runs on: {kernels} (target {self._target})"
        shown = [text for name, text in parts.items() if name != "memory"]  # which the summary has
        return "\n\n".join([f"{self._title}\n{self._summary()}\n{runs}", *shown])

    def _kernels(self) -> str:
        """Equal kernels once, with how often they run; then what was not fused."""
        counts = Counter(f"{kernel.ir}" for kernel in self.kernels)
        first = {kernel.ir: kernel for kernel in reversed(self.kernels)}
        lines = [f"{counts[kernel.ir]} × {kernel}" for kernel in first.values()]
        reasons = Counter(f"{node.name} {node.type}: {reason}" for node, reason in self.not_fused)
        lines += [f"not fused, {count} ×: {text}" for text, count in reasons.items()]
        return "kernels\n" + "\n".join(lines or ["none"])

    def _memory(self) -> str:
        """The peak, what is kept on the way, and what is computed again instead."""
        lines = [f"memory: {self.memory}"]
        values: list[list[Kept] | list[Recomputed]] = [self.kept, self.recomputed]
        for each in values:
            lines += [f"  {value}" for value in each[:_MOST_VALUES]]
            if len(each) > _MOST_VALUES:
                rest = each[_MOST_VALUES:]
                lines.append(f"  and {len(rest)} more of at most {max(value.nbytes for value in rest):,} bytes")
        return "\n".join(lines)

    def _summary(self) -> str:
        written, run = self._counts
        operators = ", ".join(f"{count} {name}" for name, count in self._operators.most_common(_MOST_OPERATORS))
        changes = sum(len(report.changes) for report in self.passes)
        counted = f"{written} nodes as written, {run} after {changes} changes: {operators}\n{self._memory()}"
        return "\n".join([counted, *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__


def _report(report: PassReport) -> str:
    if not report.changes:
        return f"  {report.name}: changed nothing"
    shown = [f"    {_change(change)}" for change in report.changes[:_MOST_CHANGES]]
    more = len(report.changes) - len(shown)
    if more:
        shown.append(f"    and {more} more")
    return "\n".join([f"  {report.name}: {len(report.changes)} changes", *shown])


def _change(change: Change) -> str:
    before, after = change
    return f"{brief(before)}  ->  {brief(after)}"


def explain(x: Any, level: str | None = None, format: str = "text") -> Explanation:
    """What an expression, or the latest call of a compiled function, is made of.

    Args:
        x: A lazy array, a sequence of them, a compiled function that has been called, or what `Array.to_dask` made.
        level: Only one part: ``graph``, ``passes``, ``optimized``, ``kernels`` or ``memory``; all if None.
        format: Only ``"text"``.

    Raises:
        ArgumentError: For another level or format, or a compiled function before its first call.
    """
    if str(level) not in ("None", *_LEVELS):
        raise ArgumentError(f"explain: level is {', '.join(_LEVELS)} or None, not {level!r}")
    if str(format) != "text":
        raise ArgumentError(f'explain: format is "text", not {format!r}')
    if isinstance(x, Compiled):
        trace = x.last_trace()
        if trace is None:
            raise ArgumentError(f"explain: {x!r} has not been called yet, so its shapes are unknown")
        roots = [node for node in trace.results if node is not None]
        title = f"compiled function {getattr(x.fn, '__name__', x.fn)}"
        return Explanation(roots, title, level, placeholders=trace.placeholders, repeated=True)
    cut = getattr(x, "expression", None) if hasattr(x, "__dask_graph__") else None
    if isinstance(cut, Array):
        found = explain(cut, level, format)
        found.notes.append(f"tasks of dask: {x.plan}")
        return found
    several = x if isinstance(x, list | tuple) and x and all(isinstance(each, Array) for each in x) else [x]
    roots = [lift(each, "explain") for each in several]
    title = "expression " + ", ".join(str(root.type) for root in roots)
    placeholders = [node for node in walk(roots) if isinstance(node, Placeholder)]
    return Explanation(roots, title, level, placeholders=placeholders)
