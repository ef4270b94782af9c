"""Compiled sweeps: written, compiled and found again by what their code depends on."""

import ctypes
import functools
import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import workers
from .careful_sweep import Doubted, Problem, all_rows, doubted_rows, settle
from .codegen.few_rows import FewRows, FewRowsWriter, few_rows_for
from .codegen.layout import DOUBT, DOUBTS, Layout, address_of
from .codegen.legal import check_writable as check_writable
from .codegen.schedule import Schedule
from .codegen.signature import signature
from .codegen.state import STATES, Stage, StateLayout
from .codegen.sweep import SweepWriter, schedule_for
from .codegen.target import Target, named_target
from .codegen.writer import Parts, Writer
from .config import Settings
from .domains import Domain, domain_of, lists_of, tables_of
from .intervals import widest_interval
from .ir import Node, Values
from .jit import NativeModule, compile_text
from .leftovers import empty
from .lengths import estimate
from .magnitudes import Magnitudes
from .part_runs import run_splits
from .passes.fused import Fused
from .passes.gathers import any_outside, deciding_gathers
from .passes.rows import FEW_ROWS
from .passes.skip import Skip
from .room import zeros
from .scalar import Scalar, below
from .splits import splits_of
from .summaries import Summaries, hold
from .sweep import Output, Sweep
from .threads import limited
from .types import is_integer

if TYPE_CHECKING:
    from .plans import Bound

MOST_FEW_ROWS = FEW_ROWS

# Operations below which a second thread takes longer to come than the first one to finish: some 40 microseconds.
LEAST_SHARED = 1 << 22

# Where columns have results, a task is a stretch of rows with results of its own: so many tasks, more or less.
_MOST_STRETCHES = 16

Flags = tuple[tuple[bool, ...], ...]


class Compiled(NamedTuple):
    """Code for one sweep and one kind of strides, and where it finds its operands.

    Attributes:
        held: Where the parts of a state are.
        columns: Columns of a block.
    """

    module: NativeModule
    layout: Layout
    skip: Skip
    summaries: Summaries
    scratch_bytes: int
    sizes: dict[str, int]
    block_rows: int
    key: str
    text: Callable[[], str]
    held: StateLayout
    columns: int

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
        self.deciding = deciding_gathers(self.sweep)
        self._variants: dict[tuple[Target, Flags, bool, Stage], Compiled] = {}

    def __call__(
        self,
        arrays: Mapping[Node, Values],
        settings: Settings,
        bound: "Bound | None" = None,
        *,
        accused: Collection[Node] = (),
        final: Collection[Node] = (),
    ) -> list[Values] | None:
        """The sweep's results, or None if the interpreter has to decide.

        A result that is not finite may come from overflow on the way: the kernel says of which tasks the results
        are in doubt, and their rows are computed again with care.

        Args:
            arrays: The arrays that it loads, in the machine's byte order.
            settings: Threads, target and cache directory.
            bound: What the sweep's lengths are in this call, if they are free.
            accused: Inputs that hold something that is not finite, which is an error where it counts.
            final: Nodes from which nothing else is computed.

        Raises:
            UnfusableError: If the code generator cannot write it.
            CompileError: If LLVM rejects what was written.
            PinnedError: If the code depends on a length that is another one in this call.
        """
        of = _unchanged if bound is None else bound.of
        held = {node: aligned(arrays[node]) for node in self.fused.inputs}
        assert all(array.shape == of(node.shape) for node, array in held.items())
        splits = splits_of(self.sweep, of, self._flops_of_position)
        if splits.count > 1:
            results, rows, doubts = run_splits(self, held, settings, bound, splits)
        else:
            results, rows, doubts = self._run(held, settings, bound)
        if accused or self.magnitudes.may_overflow(held) or any_outside(self.deciding, held, of):
            doubts[:] = 1
        if not doubts.any():
            return results
        if not self.fused.is_settled_alone:
            return None
        doubted = doubted_rows(self.sweep, of, rows, np.flatnonzero(doubts))
        with limited(settings.threads):
            is_settled = all(
                settle(Problem(sweep, held, of, accused, final), mine, places)
                for sweep, mine, places in self._to_settle(results, doubted, of)
            )
        return results if is_settled else None

    def _to_settle(
        self, results: Sequence[Values], doubted: Sequence[Doubted], of: Callable[[Any], Any]
    ) -> Iterator[tuple[Sweep, list[Values], Sequence[Doubted]]]:
        """Sweeps by which the careful path computes doubted results again, each with its results and rows."""
        if not self.fused.alone:
            yield self.sweep, list(results), doubted
            return
        made = dict(zip(self.fused.nodes, results, strict=True))
        for sweep in self.fused.alone:
            # Every row may have added to a column: all rows of those places are computed again.
            everything = all_rows(sweep, self.sweep, doubted, of)
            yield sweep, [made[output.node] for output in sweep.outputs], everything

    def _run(
        self, held: Mapping[Node, Values], settings: Settings, bound: "Bound | None"
    ) -> tuple[list[Values], int, Values]:
        """Run the code; the results, the rows of a task, and of which tasks the results are in doubt."""
        of = _unchanged if bound is None else bound.of
        # Of nothing a kernel reads what is not used: there must be something.
        there = {node: _with_elements(array) for node, array in held.items()}
        given = [there[node] for node in self.fused.inputs]
        compiled = self.compiled(given, settings)
        if not hold(compiled.skip, there):
            compiled = self.compiled(given, settings, reads=False)
        sizes = compiled.sizes
        if bound is not None:
            bound.check()
            sizes = sizes_of(self.sweep, compiled.block_rows, of)
        loaded = {**there, **compiled.summaries.of(there, of)}
        doubts = np.zeros(sizes["tasks"], np.uint8)
        parts = [self._parts(output, sizes, of(output.node.shape)) for output in self.sweep.outputs]
        added = self._added_up(parts)
        strides = {("partial", number, "stride"): 0 if len(each) == 1 else each.strides[0] for number, each in added}
        sizes_here = {**sizes, **strides, **compiled.layout.lengths(of), DOUBTS: address_of(doubts)}
        descriptor = compiled.layout.bind(loaded, [each[0] for each in parts], sizes_here)
        workers.run(
            compiled.module.address("sweep"),
            address_of(descriptor),
            sizes["tasks"],
            compiled.scratch_bytes,
            settings.threads if self.is_shared(sizes) else 1,
            keep=(descriptor, loaded, parts, doubts, compiled.module),
        )
        # Of one part the array itself: a view of it would be copied for being nobody else's.
        results = [_whole(each) if len(each) == 1 else total_of(list(each)) for each in parts]
        return results, sizes.get("chunk", compiled.block_rows), doubts

    def _added_up(self, parts: Sequence[Values]) -> Iterator[tuple[int, Values]]:
        """Results that several blocks of rows add to, by their numbers."""
        pairs = zip(self.sweep.outputs, parts, strict=True)
        return ((number, part) for number, (output, part) in enumerate(pairs) if not output.is_of_rows)

    def _parts(self, output: Output, sizes: Mapping[str, int], shape: tuple[int, ...]) -> Values:
        """Room for a result: one array, or one for each stretch of rows where several of them may add to one place."""
        count = sizes["blocks"] if are_shared(output, self.sweep) else 1
        if output.of_pairs is None:  # results of columns are cleared by the kernel
            dtype = output.node.dtype if self.sweep.selects else np.dtype(np.float32)
            return np.empty((count, *shape), dtype) if count > 1 else empty(shape, dtype)[None]
        return np.zeros((count, *shape), np.float32) if count > 1 else zeros(shape)[None]

    @property
    def kind(self) -> str:
        """Which kernel it is, by the number of rows."""
        return "few-row sweep" if has_few_rows(self.sweep) else "sweep"

    def is_shared(self, sizes: Mapping[str, int]) -> bool:
        """Whether the work is worth waking another thread: judged from the lengths alone."""
        places = math.prod(sizes[f"batch{number}"] for number in range(len(self.sweep.batch)))
        positions = sizes["rows"] * sizes["columns"] * places
        return positions * self._flops_of_position >= LEAST_SHARED

    def compiled(
        self, arrays: Sequence[Values], settings: Settings, *, reads: bool = True, stage: Stage = Stage.WHOLE
    ) -> Compiled:
        """The code for arrays with these strides.

        Args:
            arrays: Those of the inputs, or arrays like them.
            settings: Target and cache directory.
            reads: Whether tables may decide which tiles are left out.
            stage: What of the sweep it is to do.
        """
        flags = tuple(tuple(stride == array.itemsize for stride in array.strides) for array in arrays)
        return self._of(named_target(settings.target), flags, settings, reads, stage)

    def _of(
        self, target: Target, flags: Flags, settings: Settings, reads: bool = True, stage: Stage = Stage.WHOLE
    ) -> Compiled:
        key = target, flags, reads, stage
        found = self._variants.get(key)
        if found is None:
            found = self._variants[key] = self._compile(target, flags, settings.cache_dir, reads, stage)
        return found

    @functools.cached_property
    def skip(self) -> Skip:
        """What is known of its tiles: found out once, for parts of the sweep ask again and again."""
        return Skip(self.sweep, self.fused.elements)

    @functools.cached_property
    def at_once(self) -> frozenset[Node]:
        """Inputs that it needs as a whole, whatever part of it runs: tables by which masks are decided."""
        listed = self.skip.listed
        lists = [] if listed is None else [listed.which, listed.value]
        loads = below([*(each.value for each in self.skip.summaries), *lists, *self.deciding])
        tables = {each.attribute for each in loads if each.op == "load"}
        return frozenset({*tables, *self.skip.guarded, *(() if listed is None else (listed.starts, listed.indices))})

    def schedule(self, settings: Settings) -> tuple[Schedule | FewRows, Target, int]:
        """The sizes of its code's blocks, the target that they are for, and the rows of a task."""
        target = named_target(settings.target)
        schedule = chosen_schedule(self.skip, target)
        return schedule, target, rows_of(schedule, target)

    @property
    def tables(self) -> list[Node]:
        """Arrays that decide what it goes over."""
        return tables_of(self.skip)

    def domain(self, settings: Settings, arrays: Mapping[Node, Values]) -> Domain:
        """What it goes over, from what is known of the arrays that decide that (`tables`).

        Lists are enough: what further conditions leave out of them may depend on arrays that are not there.
        """
        schedule, _, rows = self.schedule(settings)
        skip, is_known = self.skip, arrays.keys() >= {*self.tables}
        if not (is_known and hold(skip, arrays)):
            skip = Skip(self.sweep, self.fused.elements, reads=False)
        is_enough = is_known or (bool(lists_of(skip)) and arrays.keys() >= {*lists_of(skip)})
        return domain_of(skip, rows, columns_of_stretches(schedule), arrays if is_enough else None)

    def for_plain_arrays(self, settings: Settings) -> Compiled:
        """The code for arrays in rows-first order."""
        plain = []
        for node in self.fused.inputs:
            inner = [math.prod(node.shape[axis + 1 :]) for axis in range(len(node.shape))]
            plain.append(tuple(elements == 1 for elements in inner))
        return self._of(named_target(settings.target), tuple(plain), settings)

    def _compile(self, target: Target, flags: Flags, cache_dir: str, reads: bool, stage: Stage) -> Compiled:
        skip = Skip(self.sweep, self.fused.elements, reads=reads)
        schedule = chosen_schedule(skip, target)
        units = {
            (node, axis): unit
            for node, row in zip(self.fused.inputs, flags, strict=True)
            for axis, unit in enumerate(row)
        }
        summarized = [node for each in skip.summaries for node in (each.low, each.high)]
        if skip.listed is not None:
            summarized += [skip.listed.begins, skip.listed.runs]
        units |= {(node, len(node.shape) - 1): True for node in summarized}
        integer = integer_type([*self.sweep.expressions(), *skip.expressions()])
        block_rows = rows_of(schedule, target)
        sizes = sizes_of(self.sweep, block_rows, estimate)
        strides = {("partial", n, "stride"): 0 for n, each in enumerate(self.sweep.outputs) if not each.is_of_rows}
        lengths: dict[Any, int] = {**sizes, **strides, DOUBT: 0, DOUBTS: 0, **slots_of(stage, self.sweep)}
        written = () if stage is Stage.STREAM else self.fused.nodes
        layout = Layout([*self.fused.inputs, *summarized], written, lengths)
        summaries = Summaries(skip, block_rows, columns_of_stretches(schedule))

        def is_unit(load: Scalar, axis: int) -> bool:
            return units.get((load.attribute, axis), False)

        parts = Parts(self.sweep, self.fused.elements, skip, layout, target, is_unit, integer, stage)
        writer = written_by(schedule, parts)
        layout.collect(writer.expressions())
        shape = signature(self.sweep, skip, writer.expressions(), layout, writer.is_unit)
        key = "\n".join([generator_hash(), repr((target, schedule, integer, stage.name)), shape])
        text = functools.cache(writer.write)
        module = compile_text(text, ["sweep", "scratch_bytes"], target, key=key, cache_dir=cache_dir)
        scratch = int(module.function("scratch_bytes", ctypes.c_int64)())
        return Compiled(
            module, layout, skip, summaries, scratch, sizes, block_rows, key, text, writer.held, schedule.block
        )


def slots_of(stage: Stage, sweep: Sweep) -> dict[Any, int]:
    """Slots of a kernel that works on parts: which rows, places and columns a call is about, and where states are."""
    if stage is Stage.WHOLE and not sweep.adds_up:
        return {}
    names: list[Any] = ["first_block", *(f"first_batch{number}" for number in range(len(sweep.batch)))]
    if stage is not Stage.WHOLE:
        names.append(STATES)
    if stage is Stage.STREAM:
        names += ["first_split", "split", "last_split", "first_column", "stop_column", "divided"]
    return dict.fromkeys(names, 0)


def sizes_of(sweep: Sweep, block_rows: int, of: Callable[[Any], Any]) -> dict[str, int]:
    """The lengths that a kernel is given, and how its work is cut into tasks; ``of`` gives a length's value."""
    rows, batch = of(sweep.rows.length), [of(axis.length) for axis in sweep.batch]
    blocks = -(-rows // block_rows)
    inner = {*sweep.streamed, *sweep.looped}
    places = math.prod(length for axis, length in zip(sweep.batch, batch, strict=True) if axis not in inner)
    chunk = {}
    if sweep.adds_up:
        shared = any(not output.is_of_rows for output in sweep.outputs)
        stretches = min(blocks, -(-_MOST_STRETCHES // max(1, places))) if shared else blocks
        chunk = {"chunk": -(-blocks // stretches) * block_rows}
        blocks = -(-rows // chunk["chunk"])
    sizes = {"tasks": blocks * places, "blocks": blocks, "rows": rows, "columns": of(sweep.columns.length)}
    return sizes | chunk | {f"batch{number}": length for number, length in enumerate(batch)}


def are_shared(output: Output, sweep: Sweep) -> bool:
    """Whether stretches of rows add to the same places of a result."""
    own = any(place.op == "axis" and place.attribute is sweep.rows for place in output.places)
    return not output.is_of_rows and not own


def total_of(stretches: Sequence[Values]) -> Values:
    """What stretches of rows have left, added up in their order, whatever the shape of a part is."""
    if len(stretches) == 1:
        return np.array(stretches[0])
    total: Values = np.add(stretches[0], stretches[1])
    for each in stretches[2:]:
        np.add(total, each, out=total)
    return total


def _whole(part: Values) -> Values:
    return part[0] if part.base is None else part.base


def _unchanged(value: Any) -> Any:
    return value


def chosen_schedule(skip: Skip, target: Target) -> Schedule | FewRows:
    """Which kernel a sweep gets, and its sizes: they follow from its shape and its masks alone."""
    if has_few_rows(skip.sweep):
        return few_rows_for(skip.sweep)
    return schedule_for(target, skip.sweep, is_narrow=skip.is_narrow)


def has_few_rows(sweep: Sweep) -> bool:
    """Whether vectors over rows would leave most lanes idle."""
    return bool(sweep.rows.length <= MOST_FEW_ROWS) and not sweep.paired


def rows_of(schedule: Schedule | FewRows, target: Target) -> int:
    """Rows of a task at most."""
    return schedule.rows if isinstance(schedule, FewRows) else schedule.vectors * target.lanes("float32")


def columns_of_stretches(schedule: Schedule | FewRows) -> tuple[int, int]:
    """Columns that are tested together: first a few, and then many."""
    return (schedule.block if isinstance(schedule, FewRows) else schedule.strip), schedule.block


def written_by(schedule: Schedule | FewRows, parts: Parts) -> Writer:
    """What writes the kernel of a schedule."""
    return FewRowsWriter(parts, schedule) if isinstance(schedule, FewRows) else SweepWriter(parts, schedule)


def aligned(array: Values) -> Values:
    """The array, or a copy of one whose elements lie where a processor may refuse to read them."""
    return array if array.flags.aligned else array.copy()


def _with_elements(array: Values) -> Values:
    return array if array.size else np.zeros([max(length, 1) for length in array.shape], array.dtype)


def integer_type(expressions: Sequence[Scalar]) -> str:
    """``i32`` where every integer of the tile provably fits, else ``i64``."""
    widest = functools.cache(widest_interval)
    for scalar in below(expressions):
        if is_integer(scalar.dtype) and not scalar.waits:
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
