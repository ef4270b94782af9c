"""What the kernels of a sweep have in common: their tasks, and their expressions with scales where they are free."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from ..ir import UnfusableError
from ..kernel import Elements
from ..passes.skip import Skip
from ..scalar import Axis, Scalar, below
from ..sweep import Sweep
from .layout import DOUBT, DOUBTS, Layout, divisors
from .llvm import Function, Module, Value
from .operands import Operands
from .outputs import needs_result
from .scaling import fold_scales, in_powers_of_two
from .state import STATES, Field, Stage, StateLayout
from .target import Target
from .values import vector_of
from .watch import Watch


class Parts(NamedTuple):
    """What a kernel is written from.

    Attributes:
        sweep: The sweep.
        elements: What its scalars were made with.
        skip: What is known of its tiles.
        layout: Where its arrays and numbers are.
        target: The processor it is for.
        is_unit: Whether an array's axis has a stride of one element.
        integer: Type of integers inside tiles, ``i32`` or ``i64``.
        stage: What of the sweep it does.
    """

    sweep: Sweep
    elements: Elements
    skip: Skip
    layout: Layout
    target: Target
    is_unit: Callable[[Scalar, int], bool]
    integer: str
    stage: Stage = Stage.WHOLE


class Writer(ABC):
    """Writes the kernel of one sweep.

    Args:
        parts: What it is written from.
        vectors: Vectors of rows in a block.
        block_rows: Rows of a task at most.
        held: Where the parts of a state are.
    """

    def __init__(self, parts: Parts, vectors: int, block_rows: int, held: StateLayout) -> None:
        self.sweep, self.elements, self.skip, self.layout, target, self.is_unit, self.integer, self.stage = parts
        self.held = held
        self.module = Module(target)
        self.lanes = target.lanes("float32")
        self.vectors, self.block_rows = vectors, block_rows
        self.vector = vector_of("float", self.lanes)
        self._holding: dict[Scalar, bool] = {}
        self._scale()

    def _scale(self) -> None:
        """Scales where they are free: `groups` and `factors`, by what they were."""
        factors = [each.weight for each in self.sweep.accumulators]
        roots = self.skip.through_lists([*self.sweep.groups, *factors])
        # What is compared is rounded as it is written: equal numbers stay equal.
        final = roots if self.sweep.selects else fold_scales(self.elements, self.sweep, roots)
        groups, final = final[: len(self.sweep.groups)], final[len(self.sweep.groups) :]
        if self.sweep.adds_up:
            final = in_powers_of_two(self.elements, self.sweep, final)
        self.groups = dict(zip(self.sweep.groups, groups, strict=True))
        self.factors = dict(zip(factors, final, strict=True))
        self.watch = Watch(self.sweep, self.elements, self.groups, self.factors)

    def expressions(self) -> list[Scalar]:
        """All scalars of the kernel."""
        values = [output.value for output in self.sweep.outputs]
        if self.stage is Stage.FINISH:
            return values
        found = [*self.groups.values(), *(values if self.stage is Stage.WHOLE else [])]
        found += [place for output in self.sweep.outputs for place in output.places]
        for each in self.sweep.accumulators:
            found += [self.factors[each.weight], each.column]
        return found + self.skip.expressions() + self.watch.expressions()

    def write(self) -> str:
        """The module's text: the kernel, ``sweep``, and ``scratch_bytes``, which returns what each thread needs."""
        arguments = {"descriptor": "ptr noalias", "counter": "ptr", "scratch": "ptr noalias"}
        self.f = f = Function(self.module, "sweep", arguments)
        self.operands = Operands(f, self.sweep, self.layout, self.vectors, self.is_unit, self.integer)
        self.operands.divisors = divisors(self.expressions())
        tasks, blocks = self.operands.slot("tasks"), self.operands.slot("blocks")

        def next_task(_: list[Value]) -> tuple[Value, list[Value]]:
            task = f.atomic_add(f["counter"], 1)
            return f.compare("<", task, tasks), [task]

        f.repeat([], next_task, lambda values: self._task(values[0], blocks))
        f.ret()
        # Known only now, and wanted of code that is found on disk, too.
        needed = Function(self.module, "scratch_bytes", {}, returns="i64")
        needed.ret(needed.constant(self.operands.scratch_bytes + 64, "i64"))
        return self.module.text()

    def _place_of(self, task: Value, blocks: Value) -> tuple[Value, Value]:
        """The place along the batch axes, and the block of rows.

        Stretches of rows are few, and may be of unequal work: those that are first for all places are done first, so
        that the last ones to be done are the shortest.
        """
        f = self.f
        if not self.sweep.adds_up:
            return f.unsigned_divide(task, blocks), f.unsigned_modulo(task, blocks)
        places = f.unsigned_divide(self.operands.slot("tasks"), blocks)
        return f.unsigned_modulo(task, places), f.unsigned_divide(task, places)

    @property
    def is_part(self) -> bool:
        """Whether a call may be about a part of the places and rows."""
        return self.stage is not Stage.WHOLE or self.sweep.adds_up

    @property
    def is_backwards(self) -> bool:
        """The last rows of a causal sweep see most columns: longest first leaves no straggler."""
        return bool(self.skip.most and not self.skip.least)

    def _task(self, task: Value, blocks: Value) -> None:
        f, ops = self.f, self.operands
        outer, block = self._place_of(task, blocks)
        flat = outer
        if self.is_backwards:
            block = f.sub(f.sub(blocks, 1), block)
        if self.stage is not Stage.WHOLE:
            self._state = f.offset(ops.slot(STATES), f.mul(f.add(f.mul(outer, blocks), block), 4 * self.held.floats))
        self.columns = self.stop_column = ops.slot("columns")
        # Doubts lie in the order of rows, whatever the order of tasks.
        self._number = outer, blocks, block
        batch: dict[Axis, Value] = {}
        inner = {*self.sweep.streamed, *self.sweep.looped}
        for number, axis in reversed(list(enumerate(self.sweep.batch))):
            if axis not in inner:
                length = ops.slot(f"batch{number}")
                batch[axis] = f.unsigned_modulo(flat, length)
                flat = f.unsigned_divide(flat, length)
                if self.is_part:
                    batch[axis] = f.add(batch[axis], ops.slot(f"first_batch{number}"))
        if self.stage is Stage.STREAM:
            self._range_of_columns(flat)
        if self.is_part:
            block = f.add(block, ops.slot("first_block"))
        if self.sweep.adds_up:
            self._stretch_of_rows(batch, block)
            return
        first = f.mul(block, self.block_rows)
        stop = f.min(f.add(first, self.block_rows), ops.slot("rows"))
        if self.sweep.rows.length == 1:
            first, stop = f.constant(0, "i64"), f.constant(1, "i64")
        ops.start_task(batch, first, stop, self.expressions())
        self._block_of_rows(first, stop)

    def _range_of_columns(self, split: Value) -> None:
        """Which columns a task goes over: those of its split that the call has."""
        f, ops = self.f, self.operands
        number, size = f.add(split, ops.slot("first_split")), ops.slot("split")
        first = f.mul(number, size)
        # The last split takes what is left.
        stop = f.select(f.compare("==", number, ops.slot("last_split")), self.columns, f.add(first, size))
        self.first_column = f.max(first, ops.slot("first_column"))
        self.stop_column = f.min(stop, ops.slot("stop_column"))

    def within(self, low: Value, high: Value, block: int) -> tuple[Value, Value]:
        """Bounds of the columns, inside of what a task goes over.

        Where columns are divided, blocks begin at multiples of their length: where a range ends changes nothing then.
        """
        if self.stage is Stage.WHOLE:
            return low, high
        f = self.f
        ahead = f.unsigned_modulo(low, f.constant(block, "i64"))
        low = f.sub(low, f.select(self.is_divided, ahead, f.constant(0, "i64")))
        return f.max(low, self.first_column), f.min(high, self.stop_column)

    @property
    def is_divided(self) -> Value:
        """Whether other calls, or other tasks, go over other columns of the same rows."""
        return self.f.compare("!=", self.operands.slot("divided"), 0)

    def room(self, field: Field) -> Value:
        """Where numbers of the task's state lie."""
        return self.f.offset(self._state, 4 * field.offset)

    def doubt(self, condition: Value) -> None:
        """Where it holds, say that the results of this task cannot be trusted."""
        f, ops = self.f, self.operands

        def say() -> None:
            outer, blocks, block = self._number
            number = f.add(f.mul(outer, blocks), block)
            f.store(f.constant(1, "i8"), f.offset(ops.slot(DOUBTS), number))
            f.store(f.constant(1, "i64"), f.offset(f["descriptor"], self.layout.place(DOUBT)))

        f.when(condition, say)

    def _stretch_of_rows(self, batch: dict[Axis, Value], chunk: Value) -> None:
        """Write a task of several blocks of rows, which add to the same results."""
        raise UnfusableError("results that several blocks of rows add to, from few rows")

    @abstractmethod
    def _block_of_rows(self, first: Value, stop: Value) -> None:
        """Write what a task does; its place along the batch axes is known."""

    def is_of_rows(self, scalar: Scalar) -> bool:
        """Whether it is a value of rows that is known before the columns are streamed."""
        return self.operands.varies_over_rows_only(scalar) and not needs_result(scalar)

    def padded(self, width: int) -> int:
        """So many elements in whole vectors."""
        return -(-width // self.lanes) * self.lanes

    def holds_result(self, scalar: Scalar) -> bool:
        """Whether it is made of what only the sweep itself knows."""
        if scalar not in self._holding:
            for each in below([scalar]):
                own = each.op in ("reduce", "accumulator", "maximum_of")
                self._holding[each] = own or any(self._holding[one] for one in each.args)
        return self._holding[scalar]

    def _row_values(self, everything: list[Scalar]) -> list[Scalar]:
        """Maximal row values that tiles, contractions and outputs use."""
        found: dict[Scalar, None] = {}
        for scalar in below(everything):
            if self.is_of_rows(scalar):
                continue
            if scalar.op == "load" and not self.sweep.pair <= scalar.axes:
                continue
            found |= dict.fromkeys(scalar.args)
        found |= dict.fromkeys(everything)
        return list(filter(self.is_of_rows, found))
