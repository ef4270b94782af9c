"""Predicates of positions, decided for whole tiles by interval arithmetic written as code.

Each tile of rows ``[row_first, row_last]`` and columns ``[column_first, column_last]`` is full, empty or
mixed; comparisons that are linear in the column become loop bounds.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..scalar import Scalar, below
from ..sweep import Sweep
from ..types import BOOL, is_float, is_integer
from .llvm import Function, Value

_FAR = 1 << 62
# The value (i64, or i1) of a scalar that varies over neither rows nor columns.
Outside = Callable[[Scalar], Value]
_COMPARISONS = {"less": (1, -1, 1), "less_equal": (0, -1, 1), "greater": (1, 1, -1), "greater_equal": (0, 1, -1)}


class Tile(NamedTuple):
    """A rectangle of positions, ends included, as i64."""

    row_first: Value
    row_last: Value
    column_first: Value
    column_last: Value


def roots_of(sweep: Sweep) -> list[Scalar]:
    """Conditions of ``where`` that are arithmetic of positions: what may decide whole tiles."""
    found: dict[Scalar, None] = {}
    for scalar in below([*sweep.groups, *(each.weight for each in sweep.accumulators)]):
        if scalar.op == "where" and {sweep.columns} & scalar.args[0].axes and _is_arithmetic(scalar.args[0]):
            found[scalar.args[0]] = None
    return list(found)


def _is_arithmetic(condition: Scalar) -> bool:
    return not any(is_float(each.dtype) or (each.op == "load" and each.axes) for each in below([condition]))


def empties(sweep: Sweep, condition: Scalar) -> bool:
    """Whether a tile in which the condition is false everywhere adds nothing to any accumulator."""
    if any(_if_false(group, condition) != float("-inf") for group in sweep.groups):
        return False
    plain = [each.weight for each in sweep.accumulators if each.group is None]
    return all(_if_false(weight, condition) == 0.0 for weight in plain)


def _if_false(scalar: Scalar, condition: Scalar) -> float | None:
    """What a tile value is where the condition is false: a number, or None if that depends."""
    if scalar.is_constant:
        return float(scalar.attribute)
    if scalar.op == "where":
        if condition in _conjuncts(scalar.args[0]):
            return _if_false(scalar.args[2], condition)
        return None
    values = [_if_false(each, condition) for each in scalar.args]
    if scalar.op == "multiply" and 0.0 in values:
        return 0.0
    if scalar.op in ("multiply", "divide") and values[0] == float("-inf"):
        other = scalar.args[1]
        return float("-inf") if other.is_constant and float(other.attribute) > 0 else None
    if scalar.op == "add" and float("-inf") in values:
        return float("-inf")
    if scalar.op == "subtract" and values[0] == float("-inf"):
        return float("-inf")
    if scalar.op in ("exp", "exp2", "sigmoid") and values[0] == float("-inf"):
        return 0.0
    return None


def _conjuncts(condition: Scalar) -> list[Scalar]:
    """Conditions that must all hold: any of them being false makes this one false."""
    if condition.op in ("logical_and", "bitwise_and"):
        return [condition, *(each for side in condition.args for each in _conjuncts(side))]
    return [condition]


class Masks:
    """Writes the decisions for one sweep.

    Args:
        f: The function being written.
        sweep: Its sweep.
        outside: The value (i64) of an integer scalar that varies over neither rows nor columns.
    """

    def __init__(self, f: Function, sweep: Sweep, outside: Outside) -> None:
        self.f, self.sweep, self.outside = f, sweep, outside
        self.roots = roots_of(sweep)
        self.skipping = [root for root in self.roots if empties(sweep, root)]

    def column_bounds(self, row_first: Value, row_last: Value, columns: Value) -> tuple[Value, Value]:
        """First and last-but-one column that any row may see."""
        f = self.f
        low, high = f.constant(0, "i64"), columns
        for root in self.skipping:
            for atom in _conjuncts(root):
                bound = self._bound(atom, row_first, row_last)
                if bound is None:
                    continue
                is_upper, value = bound
                if is_upper:
                    high = f.min(high, f.max(f.add(value, 1), 0))
                else:
                    low = f.max(low, value)
        return low, high

    def _bound(self, atom: Scalar, row_first: Value, row_last: Value) -> tuple[bool, Value] | None:
        """From ``a * row + b * column + rest >= 0`` with b = ±1: the last or the first column."""
        f = self.f
        if atom.op not in _COMPARISONS or not is_integer(atom.args[0].dtype):
            return None
        strict, left_sign, right_sign = _COMPARISONS[atom.op]
        terms: dict[Scalar, int] = {}
        _linear(atom.args[0], left_sign, terms)
        _linear(atom.args[1], right_sign, terms)
        rows = columns = 0
        rest = f.constant(-strict, "i64")
        for term, times in terms.items():
            if term.op == "axis" and term.attribute is self.sweep.rows:
                rows = times
            elif term.op == "axis" and term.attribute is self.sweep.columns:
                columns = times
            elif {self.sweep.rows, self.sweep.columns} & term.axes:
                return None
            else:
                rest = f.add(rest, f.mul(self.outside(term), times))
        if columns not in (1, -1):
            return None
        most = f.add(f.mul(row_last if rows > 0 else row_first, rows), rest)
        return (True, most) if columns == -1 else (False, f.sub(0, most))

    def all_true(self, tile: Tile) -> Value:
        """Whether every root holds at every position of the tile."""
        memo: dict[Scalar, tuple[Value, Value]] = {}
        result = self.f.constant(1, "i1")
        for root in self.roots:
            result = self.f.and_(result, self._interval(root, tile, memo)[0])
        return result

    def all_false(self, tile: Tile) -> Value:
        """Whether some root that empties the tile holds nowhere in it."""
        memo: dict[Scalar, tuple[Value, Value]] = {}
        result = self.f.constant(0, "i1")
        for root in self.skipping:
            result = self.f.or_(result, self._interval(root, tile, memo)[1])
        return result

    def _interval(self, scalar: Scalar, tile: Tile, memo: dict[Scalar, tuple[Value, Value]]) -> tuple[Value, Value]:
        """Bounds of an integer; of a condition, whether it is true everywhere and whether nowhere."""
        if scalar not in memo:
            memo[scalar] = self._bounds(
                scalar, tile, [self._interval(each, tile, memo) for each in self._parts(scalar)]
            )
        return memo[scalar]

    def _parts(self, scalar: Scalar) -> Iterable[Scalar]:
        return scalar.args if {self.sweep.rows, self.sweep.columns} & scalar.axes and scalar.op != "load" else ()

    def _bounds(self, scalar: Scalar, tile: Tile, sides: list[tuple[Value, Value]]) -> tuple[Value, Value]:
        f = self.f
        if not {self.sweep.rows, self.sweep.columns} & scalar.axes:
            value = self.outside(scalar)
            return (value, f.not_(value)) if scalar.dtype == BOOL else (value, value)
        if scalar.op == "axis":
            rows = scalar.attribute is self.sweep.rows
            return (tile.row_first, tile.row_last) if rows else (tile.column_first, tile.column_last)
        if scalar.dtype == BOOL:
            return self._truth(scalar, sides)
        if scalar.op == "add":
            return f.add(sides[0][0], sides[1][0]), f.add(sides[0][1], sides[1][1])
        if scalar.op == "subtract":
            return f.sub(sides[0][0], sides[1][1]), f.sub(sides[0][1], sides[1][0])
        if scalar.op == "negative":
            return f.sub(0, sides[0][1]), f.sub(0, sides[0][0])
        if scalar.op == "multiply" and scalar.args[1].is_constant:
            times = int(scalar.args[1].attribute)
            ends = [f.mul(end, times) for end in sides[0]]
            return (ends[0], ends[1]) if times >= 0 else (ends[1], ends[0])
        if scalar.op == "abs":
            low, high = sides[0]
            return f.max(f.max(low, f.sub(0, high)), 0), f.max(high, f.sub(0, low))
        if scalar.op in ("minimum", "maximum"):
            pick = f.min if scalar.op == "minimum" else f.max
            return pick(sides[0][0], sides[1][0]), pick(sides[0][1], sides[1][1])
        return f.constant(-_FAR, "i64"), f.constant(_FAR, "i64")

    def _truth(self, scalar: Scalar, sides: list[tuple[Value, Value]]) -> tuple[Value, Value]:
        f = self.f
        never = f.constant(0, "i1"), f.constant(0, "i1")
        if scalar.op in ("logical_and", "bitwise_and"):
            return f.and_(sides[0][0], sides[1][0]), f.or_(sides[0][1], sides[1][1])
        if scalar.op in ("logical_or", "bitwise_or"):
            return f.or_(sides[0][0], sides[1][0]), f.and_(sides[0][1], sides[1][1])
        if scalar.op in ("logical_not", "bitwise_invert"):
            return sides[0][1], sides[0][0]
        if not scalar.args or scalar.args[0].dtype == BOOL:
            return never
        (low, high), (other_low, other_high) = sides
        if scalar.op == "less":
            return f.compare("<", high, other_low), f.compare(">=", low, other_high)
        if scalar.op == "less_equal":
            return f.compare("<=", high, other_low), f.compare(">", low, other_high)
        if scalar.op == "greater":
            return f.compare(">", low, other_high), f.compare("<=", high, other_low)
        if scalar.op == "greater_equal":
            return f.compare(">=", low, other_high), f.compare("<", high, other_low)
        if scalar.op in ("equal", "not_equal"):
            apart = f.or_(f.compare("<", high, other_low), f.compare("<", other_high, low))
            points = f.and_(f.compare("==", low, high), f.compare("==", other_low, other_high))
            same = f.and_(points, f.compare("==", low, other_low))
            return (same, apart) if scalar.op == "equal" else (apart, same)
        return never


def _linear(scalar: Scalar, times: int, into: dict[Scalar, int]) -> None:
    """Add ``times * scalar`` as a sum of whole multiples."""
    if scalar.op in ("add", "subtract"):
        _linear(scalar.args[0], times, into)
        _linear(scalar.args[1], times if scalar.op == "add" else -times, into)
    elif scalar.op == "negative":
        _linear(scalar.args[0], -times, into)
    elif scalar.op == "multiply" and scalar.args[1].is_constant:
        _linear(scalar.args[0], times * int(scalar.args[1].attribute), into)
    else:
        into[scalar] = into.get(scalar, 0) + times
