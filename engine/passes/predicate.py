"""Bounds over a tile: between what values each integer of a predicate lies, and where a condition holds.

Every bound is an expression of the kernel language over the corners of a tile of rows and columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..intervals import bounded, held, limits
from ..ir import Node, Values
from ..kernel import Elements
from ..leaves import Placeholder
from ..lengths import longest
from ..scalar import Axis, Interval, Scalar, below
from ..types import BOOL, INT64, UINT64, DType, TensorType, is_float, is_integer
from .bound_rules import FLOATS, PAIRS, TRUTHS, WRAPPING, Making, Pair, Truth

# Beyond this, arithmetic of bounds might itself wrap around.
_MOST = 1 << 62
_EXACT_INFLOATS = frozenset({"load", "constant", "negative", "abs", "minimum", "maximum", "where"})


class Corners(NamedTuple):
    """The axes that bounds vary over: where a tile begins and ends, ends included.

    ``row_stretch`` and ``column_stretch`` are its places in summaries.
    """

    row_first: Axis
    row_last: Axis
    row_stretch: Axis
    column_first: Axis
    column_last: Axis
    column_stretch: Axis

    @classmethod
    def of(cls, rows: Axis, columns: Axis) -> "Corners":
        """Those of the tiles of a sweep."""
        names = [f"{side}_{part}" for side in ("row", "column") for part in ("first", "last", "stretch")]
        return cls(*(Axis(name, (rows if name.startswith("row") else columns).length) for name in names))

    @property
    def of_rows(self) -> frozenset[Axis]:
        """Those that the columns of a tile do not matter to."""
        return frozenset(self[:3])


class Summary(NamedTuple):
    """What is computed of a table: the least and the largest ``value`` in each stretch of rows or columns.

    Attributes:
        value: Varies over ``axis`` and some batch axes.
        axis: The rows, or the columns.
        batch: The batch axes, in the order of the results' axes.
        low: Stands for the array of the least values: (batch…, stretches).
        high: The same of the largest.
    """

    value: Scalar
    axis: Axis
    batch: tuple[Axis, ...]
    low: Node
    high: Node


def guard_of(dtype: DType) -> int:
    """The largest magnitude that integers read from a table may have, for bounds made of them to hold."""
    return 1 << min(40, 8 * dtype.itemsize - 4)


def is_small(array: Values) -> bool:
    """Whether the integers of a table are within their guard."""
    most = guard_of(array.dtype)
    return array.size == 0 or (int(array.min()) >= -most and int(array.max()) <= most)


class Bounds:
    """Bounds of the integers and conditions of one sweep.

    Args:
        elements: What its scalars were made with.
        corners: The axes of a tile.
        rows: The axis of rows.
        columns: The axis of columns.
        batch: The batch axes.
        reads: Whether tables may be looked at.
    """

    def __init__(
        self, elements: Elements, corners: Corners, rows: Axis, columns: Axis, batch: Sequence[Axis], *, reads: bool
    ) -> None:
        self.elements, self.corners = elements, corners
        self._rows, self._columns, self._batch, self._reads = rows, columns, tuple(batch), reads
        self._pair = frozenset((rows, columns))
        self._static: dict[Scalar, Interval | None] = {}
        self._is_tame: dict[Scalar, bool] = {}
        self._is_known: dict[Scalar, bool] = {}
        self._found: dict[Scalar, Pair | Truth] = {}
        self._summaries: dict[Scalar, Summary] = {}
        self._guarded: dict[Node, None] = {}
        self.make = Making(elements)

    @property
    def summaries(self) -> Sequence[Summary]:
        """What has to be computed of tables."""
        return tuple(self._summaries.values())

    @property
    def guarded(self) -> Sequence[Node]:
        """Tables whose integers must not be larger than `guard_of` their type."""
        return tuple(self._guarded)

    def interval(self, scalar: Scalar) -> Pair | None:
        """The bounds of a number, or None if nothing is known."""
        assert scalar.dtype != BOOL
        found = self._bounds(scalar) if self._knows(scalar) else None
        return found if isinstance(found, Pair) else None

    def truth(self, condition: Scalar) -> Truth:
        """Where a condition holds."""
        assert condition.dtype == BOOL
        found = self._bounds(condition) if self._knows(condition) else None
        return found if isinstance(found, Truth) else Truth(self.make.false, self.make.false)

    def every(self, conditions: Sequence[Scalar]) -> Scalar:
        """Whether all hold."""
        result = self.make.true
        for each in conditions:
            result = self.make.both(result, each)
        return result

    def some(self, conditions: Sequence[Scalar]) -> Scalar:
        """Whether any holds."""
        result = self.make.false
        for each in conditions:
            result = self.make.either(result, each)
        return result

    # --- what can be known

    def is_tame(self, scalar: Scalar) -> bool:
        """Whether an integer can have been wrapped around nowhere on the way, but inside tables."""
        for each in below([scalar]):
            if each not in self._static:
                bounds = self._static_bounds(each)
                self._static[each] = held(each, bounds)
                if bounds is not None and self._static[each] == bounds:
                    self._is_tame[each] = bounds[0] >= -_MOST and bounds[1] <= _MOST and each.dtype != UINT64
        return self._is_tame.get(scalar, False)

    def _static_bounds(self, scalar: Scalar) -> Interval | None:
        """The bounds at any length, with tables' integers as large as their guards allow."""
        if scalar.dtype == BOOL:
            return 0, 1
        if not is_integer(scalar.dtype):
            return None
        if scalar.op == "load":  # nobody guards a table that may not be looked at
            least, most = limits(scalar.dtype)
            guard = guard_of(scalar.dtype)
            return (max(least, -guard), min(most, guard)) if self._reads else None
        if scalar.op == "axis":
            return 0, longest(scalar.attribute.length)
        return bounded(scalar, self._static.__getitem__, longest)

    def _knows(self, root: Scalar) -> bool:
        """Whether anything is known of a scalar; settles it for all below it first."""
        for each in below([root]):
            if each not in self._is_known:
                self._is_known[each] = self._by_rule(each) or self._by_summary(each)
        return self._is_known[root]

    def _by_rule(self, scalar: Scalar) -> bool:
        """Whether its bounds follow from those of its arguments."""
        if not self._pair & scalar.axes:
            tables = not self._reads and any(each.op == "load" for each in below([scalar]))
            return not tables and not _is_computed(scalar)
        if scalar.op == "axis":
            return True
        if scalar.op == "load":
            is_of_both = self._reads and scalar.dtype == BOOL and self._pair <= scalar.axes
            return is_of_both and all(self._is_known[each] for each in scalar.args)
        if scalar.op not in (TRUTHS if scalar.dtype == BOOL else FLOATS if is_float(scalar.dtype) else PAIRS):
            return False
        if scalar.op in ("floor_divide", "remainder") and self._pair & scalar.args[1].axes:
            return False
        numbers = [each for each in scalar.args if each.dtype != BOOL]
        if not all(self._is_known[each] for each in numbers):
            return False
        if scalar.dtype == BOOL:
            return bool(numbers) or any(self._is_known[each] for each in scalar.args)
        return is_float(scalar.dtype) or self.is_tame(scalar)

    def _by_summary(self, scalar: Scalar) -> bool:
        """Whether it is a value of single rows or columns that is the same wherever it is computed."""
        if not self._reads or len(self._pair & scalar.axes) != 1 or not scalar.axes <= {*self._pair, *self._batch}:
            return False
        inside = below([scalar])
        if any(is_float(each.dtype) and each.op not in _EXACT_INFLOATS for each in inside):
            return False
        return not _is_computed(scalar)

    # --- bounds as expressions

    def _bounds(self, root: Scalar) -> Pair | Truth | None:
        """Bounds of what is known, made of those of its arguments as far as rules go."""
        needed: dict[Scalar, None] = {root: None}
        stack = [root]
        while stack:
            each = stack.pop()
            for argument in each.args if self._pair & each.axes and self._by_rule(each) else ():
                if argument not in needed and self._is_known[argument]:
                    needed[argument] = None
                    stack.append(argument)
        for each in sorted(needed, key=lambda scalar: scalar.number):
            if each not in self._found:
                self._found[each] = self._own_bounds(each)
        return self._found[root]

    def _own_bounds(self, scalar: Scalar) -> Pair | Truth:
        if not self._pair & scalar.axes:
            return Truth(scalar, self.make.opposite(scalar)) if scalar.dtype == BOOL else Pair(scalar, scalar)
        if not self._by_rule(scalar):
            return self._summarized(scalar)
        if scalar.op == "axis":
            first, last, _ = self.corners[:3] if scalar.attribute is self._rows else self.corners[3:]
            return Pair(self._corner(first), self._corner(last))
        if scalar.op == "load":
            return self._looked_up(scalar)
        if scalar.dtype == BOOL:
            unknown = Truth(self.make.false, self.make.false)
            return TRUTHS[scalar.op](self.make, *(self._found.get(each, unknown) for each in scalar.args))
        if scalar.op in WRAPPING:
            self.guard(scalar)
        sides = [self._found.get(each, Truth(self.make.false, self.make.false)) for each in scalar.args]
        return PAIRS[scalar.op](self.make, scalar.dtype, *sides)

    def _looked_up(self, load: Scalar) -> Truth:
        """Of a table that has one entry for the whole tile, as one of blocks has, what that entry says."""
        sides = [self._found[each] for each in load.args]
        places = [each for each in sides if isinstance(each, Pair)]
        is_one = self.every([self.make.compared("equal", *each) for each in places if each.low is not each.high])
        zero = self.elements.constant(0)
        # Ends that differ are bounds, and may lie outside the table.
        at = tuple(
            each.low if each.low is each.high else self.elements.apply("where", INT64, is_one, each.low, zero)
            for each in places
        )
        entry = self.elements.make("load", at, BOOL, load.attribute)
        return Truth(self.make.both(is_one, entry), self.make.both(is_one, self.make.opposite(entry)))

    def _corner(self, axis: Axis) -> Scalar:
        return self.elements.make("axis", (), INT64, axis)

    def guard(self, scalar: Scalar) -> None:
        """What is known holds only if integers of tables in this are not too large."""
        tables = [each.attribute for each in below([scalar]) if each.op == "load" and is_integer(each.dtype)]
        self._guarded |= dict.fromkeys(tables)

    def _summarized(self, scalar: Scalar) -> Pair | Truth:
        axis = self._rows if self._rows in scalar.axes else self._columns
        batch = tuple(each for each in self._batch if each in scalar.axes)
        kind = TensorType((0,) * (len(batch) + 1), scalar.dtype)
        low, high = (Placeholder.new(kind, name) for name in ("least", "largest"))
        self._summaries[scalar] = Summary(scalar, axis, batch, low, high)
        stretch = self.corners.row_stretch if axis is self._rows else self.corners.column_stretch
        at = tuple(self._corner(each) for each in (*batch, stretch))
        loads = [self.elements.make("load", at, scalar.dtype, node) for node in (low, high)]
        return Truth(loads[0], self.make.opposite(loads[1])) if scalar.dtype == BOOL else Pair(*loads)


def _is_computed(scalar: Scalar) -> bool:
    """Whether there is anything in it that only the sweep itself knows."""
    return any(each.op in ("reduce", "accumulator", "maximum_of") for each in below([scalar]))
