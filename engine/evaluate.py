"""From expressions to arrays: settings, passes, plan, interpreter, results that are nobody else's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .allocation import no_memory
from .blocks import blocks_of
from .config import Settings, config
from .errors import ArgumentError, LimitError
from .forms import form_of
from .interpreter import interpret
from .ir import Node, Values, walk
from .leaves import Data
from .memory import MemoryPlan, plan_memory
from .passes.fuse import Step
from .pipeline import optimize
from .plans import Bound, PinnedError, plans
from .program import Program
from .room import is_alone
from .sources import library, read
from .threads import limited

# How hard to look for an overlap of strided arrays before taking it for granted.
_OVERLAP_WORK: Any = 10_000


def evaluate_at_once(roots: Sequence[Node], check_finite: bool | None) -> list[Values]:
    """What `immediate.evaluate_now` does."""
    settings = config.settings()
    if check_finite is None:
        check_finite = settings.check_finite is not False
    return evaluate(prepare(roots, settings), {}, settings, check_finite=check_finite)


class Prepared:
    """A graph ready to run: as written, and as a program, which the reference targets have none of.

    What the program cannot decide is decided by the graph as written: passes may move where something
    overflows.

    Attributes:
        roots: The results, as written.
        data: The arrays that the graph reads.
    """

    def __init__(self, roots: Sequence[Node], settings: Settings, repeated: bool) -> None:
        self.roots = tuple(roots)
        self._is_native, self._repeated = not settings.target.startswith("reference"), repeated
        self._planned: dict[str, Program] = {}
        form = form_of(self.roots)
        self.data = tuple(leaf for leaf in form.leaves if isinstance(leaf, Data))
        # What is read block by block is planned with the arrays that it is read from.
        is_shared = self._is_native and all(blocks_of(leaf.source) is None for leaf in self.data)
        self._bound: Bound | None = plans.bound(form, self.roots, repeated=repeated) if is_shared else None

    @property
    def program(self) -> Program | None:
        """The program of this very graph, planned when somebody first asks."""
        if not self._planned and self._is_native:
            # Of two threads that come at once, both plan, and both get the same one; a fork meets no held lock.
            self._planned.setdefault("program", Program(optimize(self.roots), repeated=self._repeated))
        return self._planned.get("program")

    @property
    def run(self) -> tuple[Node, ...]:
        """The results of the graph that is run."""
        return self.roots if self.program is None else self.program.roots

    @property
    def steps(self) -> Sequence[Step] | None:
        """What runs, in order; None where the interpreter walks the graph."""
        return None if self.program is None else self.program.plan.steps

    @property
    def native_steps(self) -> int:
        """How many steps are native code."""
        program = self._bound.program if self._bound is not None else self.program
        return 0 if program is None else sum(not isinstance(step, Node) for step in program.plan.steps)

    def memory(self, settings: Settings, *, all64: bool = False) -> MemoryPlan:
        """The memory plan of what runs."""
        return plan_memory(self.roots, all64=all64) if self.program is None else self.program.memory(settings)

    def results(
        self, bindings: Mapping[Node, Values], settings: Settings, *, check_finite: bool
    ) -> list[Values] | None:
        """The program's results, or None if the interpreter has to decide.

        A program that a graph of the same form has left runs first: this one need not be planned then.
        """
        if self._bound is not None and not self._planned:
            try:
                return self._bound.run(bindings, settings, check_finite=check_finite)
            except PinnedError:
                self._bound = None
        program = self.program
        return None if program is None else program.run(bindings, settings, check_finite=check_finite)


def prepare(roots: Sequence[Node], settings: Settings, *, repeated: bool = False) -> Prepared:
    """The graph that is run under these settings; ``repeated`` if again and again (see `Program`)."""
    return Prepared(roots, settings, repeated)


def evaluate(
    prepared: Prepared, bindings: Mapping[Node, Values], settings: Settings, *, check_finite: bool
) -> list[Values]:
    """Run a prepared graph.

    Returns:
        One new, writable array for each root: never a view of an input or of another result.

    Raises:
        LimitError: If more memory would be needed than ``settings.memory_limit``, or than there is.
        NonFiniteError: For NaN or infinity in q, k or v where it counts, if ``check_finite``.
        IndexOutOfRangeError: For an index outside its axis, where it counts.
        ShapeError: If a bound array was resized.
        ArgumentError: If a placeholder has no data.
    """
    roots = prepared.roots
    all64 = settings.target == "reference64"
    check_limit(settings, lambda: prepared.memory(settings, all64=all64))
    try:
        results = prepared.results(bindings, settings, check_finite=check_finite)
        if results is None:  # the interpreter makes what kernels do not
            check_limit(settings, lambda: plan_memory(roots, all64=True))
            with limited(settings.threads):
                results = interpret(roots, bindings, all64=all64, check_finite=check_finite)
        return own(results, [*_arrays_of(prepared.data), *bindings.values()])
    except MemoryError as error:  # of what no single operation asked for
        raise no_memory(roots, error) from error


def check_limit(settings: Settings, planned: Callable[[], MemoryPlan]) -> None:
    """Raise LimitError if more memory is planned than allowed; no plan is made where there is no limit."""
    if settings.memory_limit is None:
        return
    plan = planned()
    if plan.peak_bytes > settings.memory_limit:
        raise LimitError(
            f"compute: needs {plan.peak_bytes} bytes at its peak, more than memory_limit={settings.memory_limit}; "
            f"the smallest possible is {plan.peak_bytes}"
        )


def own(results: Sequence[Values], inputs: Sequence[Values]) -> list[Values]:
    """Results as arrays of their own: contiguous, writable, sharing memory with nothing."""
    taken = {id(array) for array in inputs}
    owned: list[Values] = []
    for result in results:
        fresh = is_alone(result) and result.flags.c_contiguous and result.flags.writeable
        if not fresh or id(result) in taken or type(result) is not np.ndarray:
            result = np.array(result, order="C", copy=True, subok=False)
        taken.add(id(result))
        owned.append(result)
    return owned


def inputs_of(roots: Sequence[Node]) -> list[Values]:
    """The NumPy arrays that a graph reads: for the check that ``out`` overlaps none of them."""
    return _arrays_of([node for node in walk(roots) if isinstance(node, Data)])


def _arrays_of(leaves: Sequence[Data]) -> list[Values]:
    # A tensor is memory too; what lies on disk or in a task graph is not.
    found: list[Values] = []
    for source in [node.source for node in leaves]:
        if isinstance(source, np.ndarray):
            found.append(source)
        elif library(source) == "torch":
            found.append(read(source))
    return found


def write_out(results: Sequence[Values], outs: Sequence[Any], inputs: Sequence[Values]) -> None:
    """Check all of ``outs``, then copy the results into them.

    Raises:
        ArgumentError: If one is no NumPy array, has another shape or dtype, is read-only, overlaps
            an input or another one; nothing is written then.
    """
    for out, result in zip(outs, results, strict=True):
        check_out(out, result.shape, result.dtype)
        if any(_overlap(out, array) for array in inputs):
            raise ArgumentError("out: overlaps the memory of an input")
    for number, out in enumerate(outs):
        if any(_overlap(out, other) for other in outs[:number]):
            raise ArgumentError("out: two of the arrays overlap")
    for out, result in zip(outs, results, strict=True):
        out[...] = result


def check_out(out: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise ArgumentError unless ``out`` is a writable array of this shape and dtype."""
    if type(out) is not np.ndarray and type(out) is not np.memmap:
        raise ArgumentError(f"out: a NumPy array, not {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype:
        raise ArgumentError(f"out: has {out.dtype}{list(out.shape)} where the result is {dtype}{list(shape)}")
    if not out.flags.writeable:
        raise ArgumentError("out: is read-only")
    if _overlaps_itself(out):
        raise ArgumentError("out: several of its elements share memory")


def _overlaps_itself(array: Values) -> bool:
    """Whether two elements share memory: an axis steps less far than all that lies inside it."""
    extent = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < extent:
            return array.size > 0
        extent += stride * (length - 1)
    return False


def _overlap(left: Values, right: Values) -> bool:
    if not np.may_share_memory(left, right):
        return False
    try:
        return bool(np.shares_memory(left, right, max_work=_OVERLAP_WORK))
    except np.exceptions.TooHardError:
        return True
