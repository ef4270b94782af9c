"""Bounds over a tile: between what values each integer of a predicate lies, and where a condition holds.

Every bound is an expression of the kernel language over the corners of a tile of rows and columns.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..intervals import bounded, held, limits
from ..ir import Node, Values
from ..kernel import Elements
from ..leaves import Placeholder
from ..lengths import longest
from ..scalar import Axis, Interval, Scalar, below
from ..types import BOOL, INT64, UINT64, DType, TensorType, is_float, is_integer

# Beyond this, arithmetic of bounds might itself wrap around.
_MOST = 1 << 62
_EXACT_IN_FLOATS = frozenset({"load", "constant", "negative", "abs", "minimum", "maximum", "where"})


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


class Pair(NamedTuple):
    """The least and the largest value in a tile."""

    low: Scalar
    high: Scalar


class Truth(NamedTuple):
    """Whether a condition holds everywhere in a tile, and whether nowhere; both are false if that is not known."""

    all: Scalar
    none: Scalar


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
        self._true = elements.constant(True, BOOL)
        self._false = elements.constant(False, BOOL)

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
        return found if isinstance(found, Truth) else Truth(self._false, self._false)

    def every(self, conditions: Sequence[Scalar]) -> Scalar:
        """Whether all hold."""
        result = self._true
        for each in conditions:
            result = self._and(result, each)
        return result

    def some(self, conditions: Sequence[Scalar]) -> Scalar:
        """Whether any holds."""
        result = self._false
        for each in conditions:
            result = self._or(result, each)
        return result

    # --- what can be known

    def is_tame(self, scalar: Scalar) -> bool:
        """Whether an integer can have been wrapped around nowhere on the way, but inside tables."""
        for each in below([scalar]):
            if each not in self._static:
                bounds = self._static_bounds(each)
                self._static[each] = held(each, bounds)
                if bounds is not None and self._static[each] == bounds:
                    self._is_tame[each] = -_MOST <= bounds[0] and bounds[1] <= _MOST and each.dtype != UINT64
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
        if scalar.op not in (_TRUTHS if scalar.dtype == BOOL else _FLOATS if is_float(scalar.dtype) else _PAIRS):
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
        if any(is_float(each.dtype) and each.op not in _EXACT_IN_FLOATS for each in inside):
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
            return Truth(scalar, self._not(scalar)) if scalar.dtype == BOOL else Pair(scalar, scalar)
        if not self._by_rule(scalar):
            return self._summarized(scalar)
        if scalar.op == "axis":
            first, last, _ = self.corners[:3] if scalar.attribute is self._rows else self.corners[3:]
            return Pair(self._corner(first), self._corner(last))
        if scalar.op == "load":
            return self._looked_up(scalar)
        if scalar.dtype == BOOL:
            unknown = Truth(self._false, self._false)
            return _TRUTHS[scalar.op](self, *(self._found.get(each, unknown) for each in scalar.args))
        if scalar.op in _WRAPPING:
            self.guard(scalar)
        sides = [self._found.get(each, Truth(self._false, self._false)) for each in scalar.args]
        return _PAIRS[scalar.op](self, scalar.dtype, *sides)

    def _looked_up(self, load: Scalar) -> Truth:
        """Of a table that has one entry for the whole tile, as one of blocks has, what that entry says."""
        sides = [self._found[each] for each in load.args]
        places = [each for each in sides if isinstance(each, Pair)]
        is_one = self.every([self._compared("equal", *each) for each in places if each.low is not each.high])
        zero = self.elements.constant(0)
        # Ends that differ are bounds, and may lie outside the table.
        at = tuple(
            each.low if each.low is each.high else self.elements.apply("where", INT64, is_one, each.low, zero)
            for each in places
        )
        entry = self.elements.make("load", at, BOOL, load.attribute)
        return Truth(self._and(is_one, entry), self._and(is_one, self._not(entry)))

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
        return Truth(loads[0], self._not(loads[1])) if scalar.dtype == BOOL else Pair(*loads)

    # --- making them

    def _and(self, left: Scalar, right: Scalar) -> Scalar:
        for one, other in ((left, right), (right, left)):
            if one.is_constant:
                return other if one.attribute else self._false
        return left if left is right else self.elements.make("logical_and", (left, right), BOOL)

    def _or(self, left: Scalar, right: Scalar) -> Scalar:
        for one, other in ((left, right), (right, left)):
            if one.is_constant:
                return self._true if one.attribute else other
        return left if left is right else self.elements.make("logical_or", (left, right), BOOL)

    def _not(self, condition: Scalar) -> Scalar:
        if condition.is_constant:
            return self._false if condition.attribute else self._true
        return self.elements.make("logical_not", (condition,), BOOL)

    def _compared(self, op: str, left: Scalar, right: Scalar) -> Scalar:
        return self.elements.make(op, (left, right), BOOL)

    def _least(self, values: Sequence[Scalar]) -> Scalar:
        return self._extreme("minimum", values)

    def _largest(self, values: Sequence[Scalar]) -> Scalar:
        return self._extreme("maximum", values)

    def _extreme(self, op: str, values: Sequence[Scalar]) -> Scalar:
        distinct = list(dict.fromkeys(values))
        result = distinct[0]
        for each in distinct[1:]:
            result = self.elements.make(op, (result, each), each.dtype)
        return result

    def _over(self, op: str, dtype: DType, ends: Sequence[tuple[Scalar, Scalar]]) -> Pair:
        """The least and the largest of a function at some corners."""
        values = [self.elements.apply(op, dtype, *each) for each in dict.fromkeys(ends)]
        return Pair(self._least(values), self._largest(values))


def _is_computed(scalar: Scalar) -> bool:
    """Whether there is anything in it that only the sweep itself knows."""
    return any(each.op in ("reduce", "accumulator", "maximum_of") for each in below([scalar]))


# --- rules: bounds of a number from those of its arguments


def _add(b: Bounds, dtype: DType, x: Pair, y: Pair) -> Pair:
    low, high = b.elements.apply("add", dtype, x.low, y.low), b.elements.apply("add", dtype, x.high, y.high)
    return _of_finite(b, dtype, low, high)


def _subtract(b: Bounds, dtype: DType, x: Pair, y: Pair) -> Pair:
    make = b.elements
    low, high = make.apply("subtract", dtype, x.low, y.high), make.apply("subtract", dtype, x.high, y.low)
    return _of_finite(b, dtype, low, high)


def _of_finite(b: Bounds, dtype: DType, low: Scalar, high: Scalar) -> Pair:
    """NaN, of which nothing is known, where a bound is infinite: between them infinities may have met."""
    if not is_float(dtype) or low is high:
        return Pair(low, high)
    spread = b.elements.apply("subtract", dtype, high, low)
    nothing = b.elements.apply("subtract", dtype, spread, spread)
    return Pair(*(b.elements.make("add", (each, nothing), dtype) for each in (low, high)))


def _negative(b: Bounds, dtype: DType, x: Pair) -> Pair:
    return Pair(b.elements.apply("negative", dtype, x.high), b.elements.apply("negative", dtype, x.low))


def _multiply(b: Bounds, dtype: DType, x: Pair, y: Pair) -> Pair:
    if y.low is y.high and y.low.is_constant:
        ends = [b.elements.apply("multiply", dtype, each, y.low) for each in x]
        return Pair(*ends) if y.low.attribute >= 0 else Pair(*reversed(ends))
    return b._over("multiply", dtype, [(left, right) for left in x for right in y])


def _divide(b: Bounds, dtype: DType, x: Pair, y: Pair) -> Pair:
    return b._over("floor_divide", dtype, [(x.low, y.low), (x.high, y.low)])


def _remainder(b: Bounds, dtype: DType, x: Pair, y: Pair) -> Pair:
    """Of a stretch without a multiple of the divisor inside, from end to end; else anything below the divisor."""
    divisor, make = y.low, b.elements
    one, zero = make.constant(1, dtype), make.constant(0, dtype)
    quotients = [make.apply("floor_divide", dtype, each, divisor) for each in x]
    is_one_stretch = b._compared("equal", *quotients)
    ends = [make.apply("remainder", dtype, each, divisor) for each in x]
    if divisor.is_constant:
        least, most = min(0, int(divisor.attribute) + 1), max(0, int(divisor.attribute) - 1)
        widest = Pair(make.constant(least, dtype), make.constant(most, dtype))
    else:
        widest = Pair(
            b._least([zero, make.apply("add", dtype, divisor, one)]),
            b._largest([zero, make.apply("subtract", dtype, divisor, one)]),
        )
    return Pair(*(make.apply("where", dtype, is_one_stretch, *each) for each in zip(ends, widest, strict=True)))


def _abs(b: Bounds, dtype: DType, x: Pair) -> Pair:
    negative = _negative(b, dtype, x)
    zero = b.elements.constant(0, dtype)
    return Pair(b._largest([x.low, negative.low, zero]), b._largest([x.high, negative.high]))


def _minimum(b: Bounds, dtype: DType, x: Pair, y: Pair) -> Pair:
    return Pair(b._least([x.low, y.low]), b._least([x.high, y.high]))


def _maximum(b: Bounds, dtype: DType, x: Pair, y: Pair) -> Pair:
    return Pair(b._largest([x.low, y.low]), b._largest([x.high, y.high]))


def _where(b: Bounds, dtype: DType, condition: Truth, x: Pair, y: Pair) -> Pair:
    def chosen(left: Scalar, right: Scalar, either: Scalar) -> Scalar:
        if left is right:
            return left
        other = either if condition.none.is_constant else b.elements.apply("where", dtype, condition.none, right, either)
        return other if condition.all.is_constant else b.elements.apply("where", dtype, condition.all, left, other)

    return Pair(
        chosen(x.low, y.low, b._least([x.low, y.low])), chosen(x.high, y.high, b._largest([x.high, y.high]))
    )


def _as_type(b: Bounds, dtype: DType, x: Pair | Truth) -> Pair:
    make = b.elements
    if isinstance(x, Truth):
        one, zero = make.constant(1, dtype), make.constant(0, dtype)
        return Pair(make.apply("where", dtype, x.all, one, zero), make.apply("where", dtype, x.none, zero, one))
    if x.low.is_constant and x.high.is_constant and is_integer(dtype):
        return Pair(make.constant(x.low.attribute, dtype), make.constant(x.high.attribute, dtype))
    return Pair(*(each if each.dtype == dtype else make.apply("astype", dtype, each) for each in x))


# --- rules: where a condition holds


def _less(b: Bounds, x: Pair | Truth, y: Pair | Truth) -> Truth:
    if isinstance(x, Truth) and isinstance(y, Truth):
        return _both(b, _opposite(b, x), y)
    assert isinstance(x, Pair)
    assert isinstance(y, Pair)
    return Truth(b._compared("less", x.high, y.low), b._compared("greater_equal", x.low, y.high))


def _less_equal(b: Bounds, x: Pair | Truth, y: Pair | Truth) -> Truth:
    if isinstance(x, Truth) and isinstance(y, Truth):
        return _either(b, _opposite(b, x), y)
    assert isinstance(x, Pair)
    assert isinstance(y, Pair)
    return Truth(b._compared("less_equal", x.high, y.low), b._compared("greater", x.low, y.high))


def _equal(b: Bounds, x: Pair | Truth, y: Pair | Truth) -> Truth:
    if isinstance(x, Truth) and isinstance(y, Truth):
        return _opposite(b, _xor(b, x, y))
    assert isinstance(x, Pair)
    assert isinstance(y, Pair)
    apart = b._or(b._compared("less", x.high, y.low), b._compared("less", y.high, x.low))
    same = b._compared("equal", x.low, y.low)
    for side in (x, y):
        if side.low is not side.high:
            same = b._and(same, b._compared("equal", side.low, side.high))
    return Truth(same, apart)


def _xor(b: Bounds, x: Truth, y: Truth) -> Truth:
    apart = b._or(b._and(x.all, y.none), b._and(x.none, y.all))
    return Truth(apart, b._or(b._and(x.all, y.all), b._and(x.none, y.none)))


def _both(b: Bounds, x: Truth, y: Truth) -> Truth:
    return Truth(b._and(x.all, y.all), b._or(x.none, y.none))


def _either(b: Bounds, x: Truth, y: Truth) -> Truth:
    return Truth(b._or(x.all, y.all), b._and(x.none, y.none))


def _opposite(_: Bounds, x: Truth) -> Truth:
    return Truth(x.none, x.all)


def _choice(b: Bounds, condition: Truth, x: Truth, y: Truth) -> Truth:
    """``(condition & x) | (~condition & y)``; and where both agree, whatever the condition says."""
    chosen = _either(b, _both(b, condition, x), _both(b, _opposite(b, condition), y))
    return Truth(b._or(chosen.all, b._and(x.all, y.all)), b._or(chosen.none, b._and(x.none, y.none)))


def _is_nonzero(b: Bounds, x: Pair | Truth) -> Truth:
    if isinstance(x, Truth):
        return x
    zero = b.elements.constant(0, x.low.dtype)
    return _opposite(b, _equal(b, x, Pair(zero, zero)))


_PAIRS: dict[str, Callable[..., Pair]] = {
    "add": _add,
    "subtract": _subtract,
    "negative": _negative,
    "positive": lambda b, dtype, x: x,
    "multiply": _multiply,
    "floor_divide": _divide,
    "remainder": _remainder,
    "abs": _abs,
    "minimum": _minimum,
    "maximum": _maximum,
    "where": _where,
    "astype": _as_type,
}
_FLOATS = frozenset({"add", "subtract", "negative", "positive", "abs", "minimum", "maximum", "where", "astype"})
_WRAPPING = frozenset({"add", "subtract", "negative", "multiply", "floor_divide", "remainder", "abs", "astype"})
_TRUTHS: dict[str, Callable[..., Truth]] = {
    "less": _less,
    "less_equal": _less_equal,
    "greater": lambda b, x, y: _less(b, y, x),
    "greater_equal": lambda b, x, y: _less_equal(b, y, x),
    "equal": _equal,
    "not_equal": lambda b, x, y: _opposite(b, _equal(b, x, y)),
    **dict.fromkeys(("logical_and", "bitwise_and", "multiply", "minimum"), _both),
    **dict.fromkeys(("logical_or", "bitwise_or", "add", "maximum"), _either),
    **dict.fromkeys(("logical_xor", "bitwise_xor"), _xor),
    **dict.fromkeys(("logical_not", "bitwise_invert"), _opposite),
    "where": _choice,
    "astype": _is_nonzero,
}
