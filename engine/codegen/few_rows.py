"""A sweep as a kernel for few rows: vectors run over the columns, or along a small axis, never over rows.

The tiled kernel has a lane for each row, which with one query leaves all lanes but one idle. Here a block of
columns is taken through the same steps row by row:

A. some columns at a time: contract, compute the tile values with a lane for each column, store them, keep
   the running maxima lane by lane;
B. per row: one maximum of all lanes, weights ``exp(stored - maximum)``, and plain sums lane by lane;
C. ``accumulator * rescaling + sum of weight * column``, vectors along the accumulator's own axis.

All columns of a group are read for all rows before the next ones. What is kept between steps is memory, so the
number of rows is a length like others.
"""

import functools
from collections.abc import Callable

from ..scalar import Scalar, below
from .few_rows_addresses import ALIGNMENT, run_of
from .few_rows_contract import Contraction
from .few_rows_lanes import Lanes
from .few_rows_outputs import write_output
from .few_rows_sizes import FewRows, few_rows_for
from .few_rows_state import RowState
from .few_rows_sums import RowSums
from .listed_runs import ListedRuns, in_pieces
from .llvm import Value
from .masks import Masks
from .operands import Place
from .runs import Run
from .select import Selection
from .state import Stage, state_layout
from .writer import Parts, Writer

__all__ = ["FewRows", "FewRowsWriter", "few_rows_for"]


class FewRowsWriter(Writer):
    """Writes the kernel of one sweep, for few rows."""

    def __init__(self, parts: Parts, sizes: FewRows) -> None:
        super().__init__(parts, 1, sizes.rows, state_layout(parts.sweep, sizes, parts.target.lanes("float32")))
        self.sizes = sizes
        self.packs: dict[Scalar, Value] = {}

    def expressions(self) -> list[Scalar]:
        """All scalars of the kernel; conditions as they are looked at when no list is gone through, too."""
        found = super().expressions()
        if self.stage is Stage.FINISH or self.skip.listed is None:
            return found
        conditions = [condition for each in self.watch.visible.values() for condition in each]
        return found + self.skip.without_lists(conditions)

    # --- what the parts of the kernel ask for

    def each_row(self, body: Callable[[Value], None]) -> None:
        """Do something for each row of the task."""
        self.f.loop(0, self.rows, 1, [], lambda row, _: body(row))

    def row_place(self, row: Value) -> Place:
        """Where a row of the task is."""
        return {**self.operands.batch, self.sweep.rows: self.f.add(self.operands.row_first, row)}

    def row_scalars(self, row: Value) -> dict[Scalar, Value]:
        """The values of a row that were computed when the task began."""
        f, found = self.f, {}
        at = f.mul(row, 8)
        for scalar, slot in self._row_slots.items():
            value = f.load(f.offset(slot, at), self._slot_type(scalar))
            found[scalar] = f.compare("!=", value, 0) if scalar.dtype.kind == "b" else value
        return found

    def in_chunks(self, length: int, chunk: Callable[[Value, Value | None], object]) -> None:
        """Do something for each vector along a small axis, with a mask of its lanes for a ragged last one."""

        def one(firsts: list[Value], carried: list[Value], valid: Value | None) -> list[Value]:
            for first in firsts:
                chunk(first, valid)
            return carried

        self.in_chunks_of(length, 1, [], one)

    def in_chunks_of(
        self,
        length: int,
        most: int,
        carried: list[Value],
        chunks: Callable[[list[Value], list[Value], Value | None], list[Value]],
    ) -> list[Value]:
        """As `in_chunks`, carrying values, for the first places of up to ``most`` vectors at once."""
        f, lanes = self.f, self.lanes
        vectors = length // lanes
        most = max(1, min(most, vectors))

        def several(first: Value, values: list[Value], count: int) -> list[Value]:
            return chunks([f.add(first, number * lanes) for number in range(count)], values, None)

        main, stop = vectors // most * most * lanes, vectors * lanes
        carried = f.loop(0, main, most * lanes, carried, lambda first, values: several(first, values, most))
        carried = f.loop(main, stop, lanes, carried, lambda first, values: several(first, values, 1))
        if stop < length:
            carried = chunks([f.constant(stop, "i64")], carried, f.first_lanes(length - stop, lanes))
        return carried

    # --- one task

    def _block_of_rows(self, first: Value, stop: Value) -> None:
        f = self.f
        self.rows = f.sub(stop, first)
        self._prepare_rows()
        if self.stage is Stage.FINISH:
            self.state, self.sums = RowState(self), RowSums(self)
        else:
            self.contractions = {each: Contraction(self, each) for each in self._contracted()}
            for contraction in self.contractions.values():
                contraction.pack(self.rows)
            self.selections = [Selection(self, each) for each in self.sweep.accumulators if each.selects]
            for selection in self.selections:
                selection.begin()
            self._stream(first, stop)
        self.each_row(self.state.look)
        if self.stage is Stage.STREAM:
            return
        if self.sweep.selects:
            for selection, output in zip(self.selections, self.sweep.outputs, strict=True):
                selection.write(output, first, stop)
            return
        for output in self.sweep.outputs:
            self.each_row(functools.partial(write_output, self, output))

    def _contracted(self) -> list[Scalar]:
        tile = [*self.groups.values(), *self.factors.values()]
        return [each for each in below(tile) if each.op == "reduce"]

    def _slot_type(self, scalar: Scalar) -> str:
        return "float" if scalar.dtype.kind == "f" else "i32" if scalar.dtype.kind == "b" else self.integer

    def _prepare_rows(self) -> None:
        """Row values that are more than positions, computed once."""
        f, ops = self.f, self.operands
        self._row_slots: dict[Scalar, Value] = {}
        wanted = self._row_values(self.expressions())
        brought = [each for each in wanted if any(part.op == "load" for part in below([each]))]
        slots = {each: ops.allocate(2 * self.block_rows) for each in brought}

        def fill(row: Value) -> None:
            place = self.row_place(row)
            memo: dict[Scalar, Value] = {}
            for each, slot in slots.items():
                value = ops.scalar(each, place, memo)
                value = f.convert(value, self._slot_type(each)) if value.element == "i1" else value
                f.store(value, f.offset(slot, f.mul(row, 8)))

        if slots:
            self.each_row(fill)
        self._row_slots = slots

    # --- the sweep

    def _stream(self, first: Value, stop: Value) -> None:
        f = self.f
        self.state = RowState(self)
        self.sums = RowSums(self)
        masks = Masks(self.operands, self.skip, self.sizes.rows, self.sizes.block, self.sizes.block)
        low, high = self.within(*masks.column_bounds(self.columns), self.sizes.block)
        has_runs = any(self._has_runs(each) for each in below(self.expressions()))
        if has_runs:
            low = f.and_(low, -ALIGNMENT)

        def is_full(start: Value, last: Value) -> Value:
            full = masks.is_full(start, last)
            if not has_runs or self.skip.listed is None:
                return full
            # Lists begin anywhere: only from a multiple on do runs of columns lie as they are read together.
            return f.and_(full, f.compare("==", f.and_(start, ALIGNMENT - 1), 0))

        def block(start: Value, stop: Value, _: list[Value]) -> list[Value]:
            size, last = f.sub(stop, start), f.sub(stop, 1)
            if masks.tests:
                live = f.not_(masks.is_empty(start, last))
                f.when(live, lambda: self._block(start, size, masks, is_full(start, last)))
            else:
                self._block(start, size, masks, is_full(start, last))
            return []

        step = self.sizes.block
        if self.skip.listed is None:
            f.loop(low, high, step, [], lambda start, _: block(start, f.min(f.add(start, step), high), []))
            return
        # Blocks that something is known of begin where their stretches do.
        is_aligned = f.constant(1, "i1")
        if not masks.looks_at_strips:
            is_aligned = self.is_divided if self.stage is Stage.STREAM else f.constant(0, "i1")

        def within(first: Value, stop: Value, state: list[Value], run: Run) -> list[Value]:
            return in_pieces(f, (first, stop), step, is_aligned, state, run)

        lists = ListedRuns(self.operands, self.skip.listed, self.block_rows)
        lists.each(masks, (low, high), [], within, block)

    def _has_runs(self, scalar: Scalar) -> bool:
        run = run_of(scalar, self.sweep.columns) if scalar.op == "load" else None
        return run is not None and run.length > 0

    def _block(self, start: Value, size: Value, masks: Masks, full: Value) -> None:
        f, lanes = self.f, self.lanes
        self.state.start_block()
        whole = f.and_(size, -lanes)
        whole = f.select(full, whole, f.constant(0, "i64"))
        f.loop(0, whole, lanes, [], lambda at, _: self._group(start, at, size, masks, True))
        f.loop(whole, size, lanes, [], lambda at, _: self._group(start, at, size, masks, False))
        self.state.end_block(size)
        self.sums.add_block(start, size)
        for each in self.selections:
            buffer = self.state.weights[None, each.accumulator.weight]
            self.each_row(functools.partial(self._select, each, buffer, start, size))

    def _select(self, selection: Selection, buffer: Value, start: Value, size: Value, row: Value) -> None:
        selection.add_row(row, self.state.at_row(buffer, row), start, size)

    def _group(self, start: Value, at: Value, size: Value, masks: Masks, full: bool) -> None:
        """Step A for a group of columns: all of them exist and are visible, or it is to be seen which."""
        f, columns = self.f, self.sweep.columns
        column = f.add(start, at)
        last = f.sub(f.add(start, size), 1)
        valid = None if full else f.first_lanes(f.sub(size, at), self.lanes)
        for part in self.contractions.values():
            part.fill(column, None if full else last)

        def one(row: Value) -> None:
            known = {each: part.value(column, row, valid) for each, part in self.contractions.items()}
            if self.skip.listed is not None and not full:
                lanes = f.add(f.splat(column, self.lanes), f.iota(self.lanes, "i64"))
                known[self.skip.listed.visible] = masks.seen_by_row(row, lanes)
            tile = Lanes(
                self,
                columns,
                column,
                self.row_place(row),
                known=known,
                scalars=self.row_scalars(row),
                valid=valid,
                holding=masks.roots if full else (),
            )
            self.state.store(row, at, tile)

        self.each_row(one)

    def neighbours(self, pointer: Value, stride: Value, count: int) -> list[Value]:
        """Pointers that follow each other by a stride."""
        f, found = self.f, []
        for number in range(count):
            # Four to a register: a processor adds another, twice it, and a third one to an address for nothing.
            if number % 4 == 0 and number:
                pointer = f.offset(pointer, f.shl(stride, 2))
            found.append(f.offset(pointer, f.mul(stride, number % 4)))
        return found
