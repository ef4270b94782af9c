"""Which inputs of sweeps are read block by block, and what memory that takes: known before anything is read."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .blocks import Blocks, blocks_of
from .codegen.state import Stage, state_layout
from .config import Settings
from .ir import Node
from .leaves import Data
from .lengths import FEWEST_COLUMNS
from .part_runs import Part, wanted_loads, whole_part
from .passes.fuse import Step, step_inputs
from .passes.fused import Fused
from .splits import Splits, splits_of
from .streamed import Streamed

if TYPE_CHECKING:
    from .kernels import SweepKernel

# Bytes of the blocks in memory at once, where no limit says how many: enough to read well and to keep threads busy.
_ENOUGH = 1 << 27
# Bytes of views at once: files are looked at before each, and little is computed between two looks.
_VIEWED = 1 << 29


class Sizes(NamedTuple):
    """Memory of a sweep that streams.

    Attributes:
        block: Columns between two of which a range may end.
        unit: Columns that are read at once at least.
        column: Bytes of a column of all that is streamed.
        copies: How many blocks there are at once: one that is computed with, one that is being read, and where what is
            read does not end where blocks do, a copy of one.
        state: Bytes of the states of one split.
        splits: The splits.
        viewed: Bytes of a column of what is a view of mapped files, and takes no memory.
    """

    block: int
    unit: int
    column: int
    copies: int
    state: int
    splits: Splits
    viewed: int = 0

    def bytes_of(self, columns: int) -> int:
        """Bytes where so many columns are read at once."""
        at_once = min(columns + (self.block + FEWEST_COLUMNS if self.copies > 2 else 0), self.splits.columns)
        states = 2
        if self.splits.count > 1:  # those of splits that are complete, nodes of the tree, and two that merge
            states = 2 * (at_once // self.splits.size + 1) + self.splits.count.bit_length() + 2
        return self.column * (min(columns, self.splits.columns) * 2 + at_once * (self.copies - 2)) + self.state * states

    def end(self, stop: int) -> int:
        """Where a range may end when columns up to ``stop`` are there: no group of columns reaches beyond the last."""
        if stop == self.splits.columns:
            return stop
        end = stop // self.block * self.block
        return end if self.splits.columns - end >= FEWEST_COLUMNS else end - self.block

    @property
    def least(self) -> int:
        """The fewest bytes that do."""
        return self.bytes_of(self.unit)

    def columns_within(self, budget: int | None) -> int:
        """How many columns to read at once: whole units, as many as fit; whole splits, if it is one or more."""
        most = _ENOUGH if budget is None else min(budget, max(_ENOUGH, self.least))
        units = 1
        step = 1 << max(0, (-(-self.splits.columns // self.unit)).bit_length())
        while step:
            if self.bytes_of((units + step) * self.unit) <= most:
                units += step
            step //= 2
        if self.viewed:
            units = max(1, min(units, _VIEWED // (self.viewed * self.unit)))
        found, columns, size = units * self.unit, self.splits.columns, self.splits.size
        is_cut_well = size % self.unit == 0 and size < found < columns
        return found // size * size if is_cut_well else min(found, columns)


class Stream:
    """A sweep some of whose inputs are read block by block."""

    def __init__(self, kernel: "SweepKernel", inputs: Sequence[Streamed]) -> None:
        self.kernel, self.inputs = kernel, tuple(inputs)
        self.nodes = {each.node for each in inputs}

    @property
    def guarded(self) -> tuple[Node, ...]:
        """Inputs of the sweep of which an element that is not finite is an error where it counts."""
        chained = (each.node for each in self.inputs if each.is_guarded)
        return tuple(dict.fromkeys((*self.kernel.fused.guarded(), *chained)))

    def sizes(self, settings: Settings, part: Part | None = None) -> Sizes:
        """The memory that it takes, for all rows and places or a part of them."""
        schedule, target, block_rows = self.kernel.schedule(settings)
        sweep, block = self.kernel.sweep, schedule.block
        steps = [int(each.blocks.steps[each.axis]) for each in self.inputs]
        largest = min(max(steps), int(sweep.columns.length))
        unit = -(-block // largest) * largest if largest < block else largest
        is_even = all(unit % each == 0 for each in (*steps, block)) or unit >= int(sweep.columns.length)
        part = whole_part(self.kernel) if part is None else part
        rows = part.rows[1] - part.rows[0]
        tasks = math.prod(stop - first for first, stop in part.batch) * -(-rows // block_rows)
        floats = state_layout(sweep, schedule, target.lanes("float32")).floats
        column = sum(each.column_bytes for each in self.inputs)
        viewed = sum(each.viewed_bytes for each in self.inputs)
        return Sizes(block, unit, column, 2 if is_even else 3, 4 * floats * tasks, splits_of(sweep), viewed)


class Streams:
    """All of a program.

    Attributes:
        steps: The sweeps that stream, by the numbers of their steps.
        unread: Nodes that are not computed, for they are read block by block.
    """

    def __init__(self, steps: Sequence[Step], kernels: Mapping[int, "SweepKernel"], roots: Sequence[Node]) -> None:
        self.steps: dict[int, Stream] = {}
        self.unread: set[Node] = set()
        known = {leaf: blocks_of(leaf.source) for leaf in steps if isinstance(leaf, Data)}
        sources = {leaf: blocks for leaf, blocks in known.items() if blocks is not None}
        if not sources:
            return
        users: dict[Node, list[int]] = {}
        for number, step in enumerate(steps):
            for node in step_inputs(step):
                users.setdefault(node, []).append(number)
        found = {
            number: self._streamed(step, kernels[number], sources)
            for number, step in enumerate(steps)
            if isinstance(step, Fused) and not step.sweep.adds_up and not step.sweep.selects
        }
        chained = {node for each in found.values() for one in each for node in (one.leaf, *one.casts)}
        needed = set(roots)
        for number, step in reversed(list(enumerate(steps))):  # what is read as a whole makes what it is made of that
            streams = {one.node for one in found.get(number, ())} if not isinstance(step, Node) else set()
            if isinstance(step, Node) and step in chained and step not in needed:
                continue
            needed |= set(step_inputs(step)) - streams
        for number, each in found.items():
            kept = [one for one in each if one.node not in needed]
            if kept:
                self.steps[number] = Stream(kernels[number], kept)
                self.unread |= {node for one in kept for node in (one.leaf, *one.casts)}
        self.unread -= needed

    def least(self, settings: Settings) -> dict[int, int]:
        """Bytes that each of these steps takes at the least for what it reads, and for states."""
        return {number: each.sizes(settings).least for number, each in self.steps.items()}

    def _streamed(self, step: Fused, kernel: "SweepKernel", sources: Mapping[Data, Blocks]) -> list[Streamed]:
        """Inputs of a sweep that vary over its columns, and are read for nothing but tiles."""
        found = []
        at_end = {each.attribute for each in wanted_loads(kernel, Stage.FINISH)}
        for node in step.inputs:
            chain = chain_of(node)
            leaf = chain[0]
            if not isinstance(leaf, Data) or leaf not in sources or node in at_end or node in kernel.at_once:
                continue
            loads = [each for each in wanted_loads(kernel, Stage.STREAM) if each.attribute is node]
            axes = {_axis_of_columns(step, each.args) for each in loads}
            if len(axes) == 1 and None not in axes:
                (axis,) = axes
                assert axis is not None
                found.append(Streamed(node, leaf, tuple(chain[1:]), sources[leaf], axis))
        return found


def _axis_of_columns(step: Fused, args: Sequence[object]) -> int | None:
    """The index that the columns are, if they stand in no other."""
    columns = step.sweep.columns
    places = [axis for axis, index in enumerate(args) if columns in index.axes]  # type: ignore[attr-defined]
    is_plain = len(places) == 1 and args[places[0]].op == "axis"  # type: ignore[attr-defined]
    return places[0] if is_plain else None


def chain_of(node: Node) -> list[Node]:
    """A node, and what it is a cast of, the innermost first."""
    chain = [node]
    while len(chain[0].operands) == 1 and (chain[0].rounds or chain[0].guards):
        if chain[0].operands[0].shape != chain[0].shape:
            break
        chain.insert(0, chain[0].operands[0])
    return chain
