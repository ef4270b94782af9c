"""Where the operands of a tile come from: slots of rows, packs of rows, scalars of columns.

*Row values* without a small axis are computed once for a block of rows and kept as vectors over rows.
*Row packs* hold what varies over rows and a small axis, transposed: ``pack[e][row]``. *Column values* are
scalars, read in their natural layout and broadcast.
"""

from collections.abc import Callable

from ..ir import UnfusableError
from ..scalar import Axis, Scalar, below
from ..sweep import Sweep
from ..types import BOOL, is_float
from .apply import apply, convert
from .layout import Layout, number_name
from .llvm import Function, Value
from .row_packs import RowPack
from .values import HALF_TYPES, vector_of

# An index in scalar code: the value (i64) of each axis.
Place = dict[Axis, Value]


class Operands:
    """Evaluates scalars for one task: a block of rows at one place along the batch axes.

    Args:
        f: The function being written.
        sweep: Its sweep.
        layout: Where its arrays and numbers are.
        vectors: Vectors of rows in a block.
        is_unit: Whether an array's axis has a stride of one element.
        integer: Type of integers inside tiles, ``i32`` or ``i64``.
    """

    def __init__(
        self,
        f: Function,
        sweep: Sweep,
        layout: Layout,
        vectors: int,
        is_unit: Callable[[Scalar, int], bool],
        integer: str,
    ) -> None:
        self.f, self.sweep, self.layout, self.is_unit, self.integer = f, sweep, layout, is_unit, integer
        self.vectors = vectors
        self.lanes = f.target.lanes("float32")
        self.block = vectors * self.lanes
        self.scratch_bytes = 0
        self.divisors: frozenset[Scalar] = frozenset()
        self.batch: Place = {}
        self._fixed: dict[Scalar, Value] = {}
        self._rows: dict[tuple[Scalar, int], Value] = {}
        self._slots: dict[Scalar, Value] = {}
        self.packs: dict[Scalar, Value] = {}
        self.row_first = self.row_stop = f.constant(0, "i64")
        # All slots are read at the function's start: what follows may use them anywhere.
        self._descriptor = {
            name: f.load(f.offset(f["descriptor"], place), type_) for name, place, type_ in layout.slots()
        }

    # --- memory

    def allocate(self, elements: int) -> Value:
        """Scratch memory for 32-bit elements, aligned for vectors."""
        place = self.scratch_bytes
        self.scratch_bytes += (elements * 4 + 63) // 64 * 64
        return self.f.offset(self.f["scratch"], place)

    def slot(self, name: object) -> Value:
        """A slot of the descriptor."""
        return self._descriptor[name]

    def number(self, scalar: Scalar) -> Value:
        """A number of the program."""
        if scalar.dtype == BOOL:
            return self.f.constant(int(scalar.attribute), "i1")
        type_ = "float" if is_float(scalar.dtype) else self.integer
        name = number_name(scalar)
        if name is None or scalar in self.divisors:
            return self.f.constant(scalar.attribute, type_)
        value = self._descriptor[name]
        return value if type_ == "float" else self.f.convert(value, type_)

    # --- what does not vary over rows or columns

    def start_task(self, batch: Place, row_first: Value, row_stop: Value, everything: list[Scalar]) -> None:
        """Evaluate all that is fixed for the task."""
        self.batch, self.row_first, self.row_stop = batch, row_first, row_stop
        for known in (self._rows, self._slots, self.packs):  # of rows of another task, which these may not be
            known.clear()
        inner = frozenset(batch)
        for scalar in below(everything):
            if scalar.axes <= inner and scalar.op not in ("accumulator", "maximum_of"):
                self._fixed[scalar] = self._scalar(scalar, batch, self._fixed)

    def fixed(self, scalar: Scalar) -> Value | None:
        """The value of a scalar that is fixed for the task, or None if it varies."""
        return self._fixed.get(scalar)

    def wide(self, scalar: Scalar) -> Value:
        """A fixed scalar, integers as i64."""
        value = self._fixed[scalar]
        return value if value.element == "i1" else self.f.convert(value, "i64")

    # --- scalar code

    def scalar(self, root: Scalar, place: Place, memo: dict[Scalar, Value]) -> Value:
        """The value at one place."""
        for each in below([root]):
            if each not in memo and each not in self._fixed:
                memo[each] = self._scalar(each, place, memo)
        return memo.get(root) or self._fixed[root]

    def _scalar(self, scalar: Scalar, place: Place, memo: dict[Scalar, Value]) -> Value:
        f = self.f
        if scalar.is_constant:
            return self.number(scalar)
        if scalar.op == "axis":
            return f.convert(place[scalar.attribute], self.integer)
        if scalar.op == "length":
            return f.convert(self.slot(("length", scalar, "extent")), self.integer)
        if scalar.op == "load":
            return self.read(scalar, self.address(scalar, place, memo))
        args = [memo.get(each) or self._fixed[each] for each in scalar.args]
        if scalar.op == "astype":
            return convert(f, args[0], scalar, self.integer)
        if scalar.op in ("reduce", "accumulator", "maximum_of"):
            raise UnfusableError(f"{scalar.op} inside scalar code")
        return apply(f, scalar, args)

    def address(self, load: Scalar, place: Place, memo: dict[Scalar, Value], without: Axis | None = None) -> Value:
        """The address of an element; with ``without``, that of the element at 0 of this axis."""
        f, node = self.f, load.attribute
        pointer = self.slot(("in", node, "pointer"))
        for axis, index in enumerate(load.args):
            if index.is_constant:
                if index.attribute:
                    pointer = f.offset(pointer, f.mul(self.slot(("in", node, axis)), int(index.attribute)))
                continue
            if without is not None and index.op == "axis" and index.attribute is without:
                continue
            value = place[index.attribute] if index.op == "axis" else self._index(index, place, memo)
            pointer = f.offset(pointer, f.mul(value, self.stride(load, axis)))
        return pointer

    def _index(self, index: Scalar, place: Place, memo: dict[Scalar, Value]) -> Value:
        value = memo.get(index) or self._fixed.get(index)
        return self.f.convert(value if value is not None else self.scalar(index, place, memo), "i64")

    def stride(self, load: Scalar, axis: int) -> Value:
        """Bytes from one element to the next along an axis of the array: a constant if they are neighbours."""
        if self.is_unit(load, axis):
            return self.f.constant(load.attribute.dtype.itemsize, "i64")
        return self.slot(("in", load.attribute, axis))

    def read(self, load: Scalar, pointer: Value, lanes: int = 1) -> Value:
        """Elements at an address, integers in the tile's type, booleans as a mask."""
        return self.as_read(load, self.f.load(pointer, vector_of(memory_type(load), lanes)))

    def as_read(self, load: Scalar, raw: Value) -> Value:
        """What was read, as tiles have it."""
        if load.dtype == BOOL:
            return self.f.compare("!=", raw, 0)
        return (
            self.f.convert(raw, "float")
            if raw.is_float
            else self.f.convert(raw, self.integer, unsigned=load.dtype.kind == "u")
        )

    # --- rows

    def varies_over_rows_only(self, scalar: Scalar) -> bool:
        """Row-valued, without a small axis."""
        return self.sweep.rows in scalar.axes and scalar.axes <= {self.sweep.rows, *self.sweep.batch}

    def prepare_rows(self, wanted: list[Scalar]) -> None:
        """Compute row values into slots (those that load), or as vectors (arithmetic of positions)."""
        with_loads = [each for each in wanted if any(part.op == "load" for part in below([each]))]
        for each in with_loads:
            self._slots[each] = self.allocate(self.block if self._slot_type(each) != "i64" else 2 * self.block)
        if with_loads:
            self.f.loop(0, self.block, 1, [], lambda row, _: self._fill_slots(with_loads, row))
        for each in wanted:
            if each not in self._slots:
                for vector in range(self.vectors):
                    self._rows[each, vector] = self._positions(each, vector)

    def _slot_type(self, scalar: Scalar) -> str:
        return "float" if is_float(scalar.dtype) else "i32" if scalar.dtype == BOOL else self.integer

    def _fill_slots(self, wanted: list[Scalar], row: Value) -> None:
        f = self.f
        memo: dict[Scalar, Value] = {}
        place = {**self.batch, self.sweep.rows: f.min(f.add(self.row_first, row), f.sub(self.row_stop, 1))}
        for each in wanted:
            value, type_ = self.scalar(each, place, memo), self._slot_type(each)
            size = 8 if type_ == "i64" else 4
            f.store(
                f.convert(value, type_) if value.element == "i1" else value,
                f.offset(self._slots[each], f.mul(row, size)),
            )

    def _positions(self, scalar: Scalar, vector: int) -> Value:
        key = (scalar, vector)
        if key not in self._rows:
            f = self.f
            if scalar in self._fixed:
                return f.splat(self._fixed[scalar], self.lanes)
            if scalar.op == "axis":
                first = f.convert(f.add(self.row_first, vector * self.lanes), self.integer)
                self._rows[key] = f.add(f.splat(first, self.lanes), f.iota(self.lanes, self.integer))
            else:
                args = [self._positions(each, vector) for each in scalar.args]
                done = convert(f, args[0], scalar, self.integer) if scalar.op == "astype" else apply(f, scalar, args)
                self._rows[key] = done
        return self._rows[key]

    def rows(self, scalar: Scalar, vector: int) -> Value:
        """A row value, as a vector over the block's rows."""
        if scalar not in self._slots:
            return self._positions(scalar, vector)
        f, type_ = self.f, self._slot_type(scalar)
        size = 8 if type_ == "i64" else 4
        pointer = f.offset(self._slots[scalar], vector * self.lanes * size)
        value = f.load(pointer, vector_of(type_, self.lanes), aligned=True)
        return f.compare("!=", value, 0) if scalar.dtype == BOOL else value

    def pack_rows(self, leaf: Scalar, small: Axis) -> None:
        """``pack[e][row]`` of a value of rows and a small axis."""
        if leaf not in self.packs:
            self.packs[leaf] = self.allocate(small.length * self.block)
            RowPack(self, leaf, small).write()


def memory_type(load: Scalar) -> str:
    """LLVM's type of an array's elements."""
    if load.dtype in HALF_TYPES:
        return HALF_TYPES[load.dtype]
    return "float" if is_float(load.dtype) else f"i{8 * load.dtype.itemsize}"
