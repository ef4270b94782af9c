"""Compiled sweeps: written, compiled and found again by what their code depends on."""

import ctypes
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import workers
from .codegen.few_rows import FewRows, FewRowsWriter, few_rows_for
from .codegen.layout import Layout
from .codegen.legal import check_writable as check_writable
from .codegen.schedule import Schedule
from .codegen.signature import signature
from .codegen.sweep import SweepWriter, schedule_for
from .codegen.target import Target, named_target
from .codegen.writer import Writer
from .config import Settings
from .intervals import widest_interval
from .ir import Node, Values
from .jit import NativeModule, compile_text
from .kernel import Elements
from .lengths import estimate
from .magnitudes import Magnitudes
from .passes.fuse import Fused
from .passes.rows import FEW_ROWS
from .scalar import Scalar, below
from .sweep import Sweep
from .types import is_integer

if TYPE_CHECKING:
    from .plans import Bound

# Four factors below this, summed over the widest contraction, stay below the largest float32.
_SMALL = 1e8
# Functions that make nothing large out of something small.
# fmt: off
_TAME = frozenset({
    "abs", "add", "astype", "axis", "bitwise_and", "bitwise_invert", "bitwise_or", "bitwise_xor", "constant",
    "equal", "floor_divide", "greater", "greater_equal", "less", "less_equal", "load", "logical_and", "logical_not",
    "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative", "not_equal", "reduce", "remainder",
    "sigmoid", "square", "subtract", "tanh", "where",
})
# fmt: on

MOST_FEW_ROWS = FEW_ROWS

# Operations below which a second thread takes longer to come than the first one to finish: some 40 microseconds.
LEAST_SHARED = 1 << 22

Flags = tuple[tuple[bool, ...], ...]


class Compiled(NamedTuple):
    """Code for one sweep and one kind of strides, and where it finds its operands."""

    module: NativeModule
    layout: Layout
    scratch_bytes: int
    sizes: dict[str, int]
    block_rows: int
    key: str
    text: Callable[[], str]

    @property
    def tasks(self) -> int:
        """Into how much the work is cut, at the lengths that it was compiled for."""
        return self.sizes["tasks"]

    @property
    def ir(self) -> str:
        """The LLVM IR."""
        return self.text()


class SweepKernel:
    """A sweep that runs natively. Compiled at its first call, anew for other kinds of strides."""

    def __init__(self, fused: Fused) -> None:
        self.fused, self.sweep = fused, fused.sweep
        self._flops_of_position = self.sweep.flops_of_position
        self.magnitudes = Magnitudes(self.sweep)
        self._variants: dict[tuple[Target, Flags], Compiled] = {}

    def __call__(
        self, arrays: Mapping[Node, Values], settings: Settings, bound: "Bound | None" = None
    ) -> list[Values] | None:
        """The sweep's results, or None if they cannot be trusted.

        A result that is not finite, and a row whose exponents are all -inf, may come from overflow on
        the way; -inf is trusted where inputs are too small for that.

        Args:
            arrays: The arrays that it loads, in the machine's byte order.
            settings: Threads, target and cache directory.
            bound: What the sweep's lengths are in this call, if they are free.

        Raises:
            UnfusableError: If the code generator cannot write it.
            CompileError: If LLVM rejects what was written.
            PinnedError: If the code depends on a length that is another one in this call.
        """
        of = _unchanged if bound is None else bound.of
        held = {node: _aligned(arrays[node]) for node in self.fused.inputs}
        assert all(array.shape == of(node.shape) for node, array in held.items())
        if self.magnitudes.may_overflow(held):
            return None
        results = [np.empty(of(node.shape), node.dtype) for node in self.fused.nodes]
        compiled = self.compiled([held[node] for node in self.fused.inputs], settings)
        sizes = compiled.sizes
        if bound is not None:
            bound.check()
            sizes = sizes_of(self.sweep, compiled.block_rows, of)
        descriptor = compiled.layout.bind(held, results, sizes)
        workers.run(
            compiled.module.address("sweep"),
            descriptor.ctypes.data,
            sizes["tasks"],
            compiled.scratch_bytes,
            settings.threads if self._is_shared(sizes) else 1,
            keep=(descriptor, held, results, compiled.module),
        )
        empty, unusual = (bool(descriptor[compiled.layout.place(name) // 8]) for name in ("empty", "unusual"))
        # Of few rows the kernel does not say whether they are finite.
        if not empty and not unusual and (not has_few_rows(self.sweep) or all(map(is_finite, results))):
            return results
        return results if empty and self._are_masked(held.values(), results) else None

    @property
    def kind(self) -> str:
        """Which kernel it is, by the number of rows."""
        return "few-row sweep" if has_few_rows(self.sweep) else "sweep"

    def _is_shared(self, sizes: Mapping[str, int]) -> bool:
        """Whether the work is worth waking another thread: judged from the lengths alone."""
        positions = sizes["rows"] * sizes["columns"] * (sizes["tasks"] // max(sizes["blocks"], 1))
        return positions * self._flops_of_position >= LEAST_SHARED

    def _are_masked(self, inputs: Iterable[Values], results: Sequence[Values]) -> bool:
        """Whether rows without weights are hidden ones: no exponent can have overflowed."""
        if any(np.isnan(result).any() or np.isposinf(result).any() for result in results):
            return False
        if any(each.op not in _TAME for each in below(self.sweep.groups)):
            return False
        floats = [array for array in inputs if array.dtype.kind == "f"]
        return all(float(np.abs(array).max(initial=0.0)) < _SMALL for array in floats)

    def compiled(self, arrays: Sequence[Values], settings: Settings) -> Compiled:
        """The code for arrays with these strides."""
        flags = tuple(tuple(stride == array.itemsize for stride in array.strides) for array in arrays)
        return self._of(named_target(settings.target), flags, settings)

    def _of(self, target: Target, flags: Flags, settings: Settings) -> Compiled:
        found = self._variants.get((target, flags))
        if found is None:
            found = self._variants[target, flags] = self._compile(target, flags, settings.cache_dir)
        return found

    def for_plain_arrays(self, settings: Settings) -> Compiled:
        """The code for arrays in rows-first order."""
        plain = []
        for node in self.fused.inputs:
            inner = [math.prod(node.shape[axis + 1 :]) for axis in range(len(node.shape))]
            plain.append(tuple(elements == 1 for elements in inner))
        return self._of(named_target(settings.target), tuple(plain), settings)

    def _compile(self, target: Target, flags: Flags, cache_dir: str) -> Compiled:
        schedule = chosen_schedule(self.sweep, target)
        units = {
            (node, axis): unit
            for node, row in zip(self.fused.inputs, flags, strict=True)
            for axis, unit in enumerate(row)
        }
        integer = integer_type(self.sweep.expressions())
        block_rows = schedule.rows if isinstance(schedule, FewRows) else schedule.vectors * target.lanes("float32")
        sizes = sizes_of(self.sweep, block_rows, estimate)
        # "empty" is set by a row that no column had a weight for, "unusual" by a result that is not finite.
        layout = Layout(self.fused.inputs, self.fused.nodes, {**sizes, "empty": 0, "unusual": 0})
        parts = self.sweep, self.fused.elements, layout, target
        writer = written_by(schedule, parts, lambda load, axis: units[load.attribute, axis], integer)
        layout.collect(writer.expressions())
        shape = signature(self.sweep, writer.expressions(), layout, writer.is_unit)
        key = "\n".join([generator_hash(), repr((target, schedule, integer)), shape])
        text = functools.cache(writer.write)
        module = compile_text(text, ["sweep", "scratch_bytes"], target, key=key, cache_dir=cache_dir)
        scratch = int(module.function("scratch_bytes", ctypes.c_int64)())
        return Compiled(module, layout, scratch, sizes, block_rows, key, text)


def sizes_of(sweep: Sweep, block_rows: int, of: Callable[[Any], Any]) -> dict[str, int]:
    """The lengths that a kernel is given, and how its work is cut into tasks; ``of`` gives a length's value."""
    rows, batch = of(sweep.rows.length), [of(axis.length) for axis in sweep.batch]
    blocks = -(-rows // block_rows)
    sizes = {"tasks": blocks * math.prod(batch), "blocks": blocks, "rows": rows, "columns": of(sweep.columns.length)}
    return sizes | {f"batch{number}": length for number, length in enumerate(batch)}


def _unchanged(value: Any) -> Any:
    return value


def chosen_schedule(sweep: Sweep, target: Target) -> Schedule | FewRows:
    """Which kernel a sweep gets, and its sizes: they follow from the shape alone."""
    return few_rows_for(sweep) if has_few_rows(sweep) else schedule_for(target, sweep)


def has_few_rows(sweep: Sweep) -> bool:
    """Whether vectors over rows would leave most lanes idle."""
    return bool(sweep.rows.length <= MOST_FEW_ROWS)


def written_by(
    schedule: Schedule | FewRows,
    parts: tuple[Sweep, Elements, Layout, Target],
    is_unit: Callable[[Scalar, int], bool],
    integer: str,
) -> Writer:
    """What writes the kernel of a schedule."""
    if isinstance(schedule, FewRows):
        return FewRowsWriter(*parts, schedule, is_unit, integer)
    return SweepWriter(*parts, schedule, is_unit, integer)


def is_finite(array: Values) -> bool:
    """Whether all of it is finite. The sum of squares says so at the memory's speed, unless it overflows itself."""
    if array.dtype.kind == "f" and array.flags.c_contiguous:
        flat = array.reshape(-1)
        with np.errstate(all="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return True
    return bool(np.isfinite(array).all())


def _aligned(array: Values) -> Values:
    return array if array.flags.aligned else array.copy()


def integer_type(expressions: Sequence[Scalar]) -> str:
    """``i32`` where every integer of the tile provably fits, else ``i64``."""
    widest = functools.cache(widest_interval)
    for scalar in below(expressions):
        if is_integer(scalar.dtype):
            bounds = widest(scalar)
            if bounds is None or bounds[0] < -(2**31) or bounds[1] >= 2**31:
                return "i64"
    return "i32"


@functools.cache
def generator_hash() -> str:
    """A hash of the code generator's own source: other source, other code."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "codegen").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
