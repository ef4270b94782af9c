"""Which tiles of a sweep are full, empty or mixed: interval arithmetic over its masks' predicates.

A *condition* of a ``where`` is evaluated not for a position but for a rectangle of them, a tile: between what
bounds each integer in it lies, and from these whether the condition holds everywhere (then the tile needs no mask)
or nowhere (then, if everything the sweep sums is 0 there, it needs not be computed). The results are expressions of
the kernel language themselves, over the tile's corners, so that they are written as code, or evaluated by NumPy, as
any others. Comparisons that are linear in the column become bounds of the columns.

What a table says of single rows or columns, document ids for instance, enters by *summaries*: the least and the
largest value in each stretch of rows or columns, computed once a call. Sound, never exact: a tile that is called
mixed may be full or empty; one that is called full or empty is.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..ir import Node
from ..kernel import Elements
from ..scalar import Scalar, below, below_shown
from ..sweep import Sweep
from ..types import BOOL, INT64, is_float, is_integer
from .listed import Listed, listed_by
from .predicate import Bounds, Corners, Summary

_LESS = {"less": (1, 1, 0), "less_equal": (0, 1, 0), "greater": (1, 0, 1), "greater_equal": (0, 0, 1)}


class Atom(NamedTuple):
    """``sum of times * term - strict >= 0``, of integers."""

    terms: dict[Scalar, int]
    strict: int


class Skip:
    """The classification of a sweep's tiles.

    Attributes:
        corners: The axes of a tile's corners, which the expressions vary over.
        roots: Conditions that can be decided for whole tiles: all of them hold in a full one.
        full: Whether all roots hold everywhere in the tile.
        empty: Whether the tile adds nothing to any accumulator.
        least: Columns that no row of the tile's sees a column before.
        most: Columns that no row of the tile's sees a column behind.
        is_bounded: Whether `least` and `most` say all there is to say about empty tiles.
        summaries: What has to be computed of tables, once a call.
        guarded: Tables that the classification holds for if their integers are not too large.
        listed: The lists of columns that a condition leaves to each row, if there is one.
        skipping: Conditions without which a tile adds nothing.
        undecided: Conditions that no tile is known to be full by.

    Args:
        sweep: The sweep.
        elements: What its scalars were made with.
        reads: Whether tables may be looked at; without, what depends on one is undecided.
    """

    def __init__(self, sweep: Sweep, elements: Elements, *, reads: bool = True) -> None:
        self.sweep, self.elements = sweep, elements
        self.corners = Corners.of(sweep.rows, sweep.columns)
        self._bounds = Bounds(elements, self.corners, sweep.rows, sweep.columns, sweep.batch, reads=reads)
        conditions = _conditions(sweep)
        parts = list(dict.fromkeys(part for each in conditions for part in _conjuncts(each)))
        decided = [part for part in parts if not _is_false(self._bounds.truth(part).all)]
        self.skipping = skipping = [part for part in parts if empties(sweep, part)]
        of_lists = [listed_by(sweep, elements, part) for part in skipping]
        self.listed: Listed | None = next((each for each in of_lists if each is not None), None)
        known = {*decided, *self._conditions_of_lists()}
        whole = [each for each in conditions if set(_conjuncts(each)) <= known]
        self.undecided = [part for part in parts if part not in known]
        roots = [*whole, *(part for part in parts if part in known)]
        self.roots = tuple(dict.fromkeys([*roots, *self.through_lists(roots)]))
        self.full = self._bounds.every([self._bounds.truth(part).all for part in decided])
        self.empty = self._bounds.some([self._bounds.truth(part).none for part in skipping])
        self.least: list[Scalar] = []
        self.most: list[Scalar] = []
        exact = [self._bounded_by(part) for part in skipping if part not in self._conditions_of_lists()]
        self.is_bounded = all(exact)

    @property
    def summaries(self) -> Sequence[Summary]:
        """What has to be computed of tables, once a call."""
        return self._bounds.summaries

    @property
    def guarded(self) -> Sequence[Node]:
        """Tables whose integers must not be too large."""
        return self._bounds.guarded

    def through_lists(self, roots: Sequence[Scalar]) -> list[Scalar]:
        """Expressions as they are in code that goes through the lists."""
        if self.listed is None:
            return list(roots)
        return self.elements.substitute(roots, {self.listed.condition: self.listed.visible})

    def without_lists(self, roots: Sequence[Scalar]) -> list[Scalar]:
        """Such expressions for code that goes through no list."""
        if self.listed is None:
            return list(roots)
        return self.elements.substitute(roots, {self.listed.visible: self.listed.condition})

    def _conditions_of_lists(self) -> Sequence[Scalar]:
        return () if self.listed is None else (self.listed.condition,)

    @property
    def skips(self) -> bool:
        """Whether any tile may be left out."""
        return bool(self.least or self.most or self.listed) or not _is_false(self.empty)

    @property
    def is_narrow(self) -> bool:
        """Whether rows may see a few columns only: from both sides, or with holes between."""
        return self.skips and (self.listed is not None or not (self.is_bounded and (not self.least or not self.most)))

    def expressions(self) -> list[Scalar]:
        """All of its expressions."""
        return [self.full, self.empty, *self.least, *self.most]

    def _bounded_by(self, part: Scalar) -> bool:
        """Take bounds of the columns from a condition; whether they say all that it says."""
        atoms = list(_Atoms(self._bounds).of(part))
        exact = [self._add_bound(atom) for atom in atoms]  # each of them, whatever the first one says
        return bool(atoms) and all(exact)

    def _add_bound(self, atom: Atom) -> bool:
        """From ``rest + b * column - strict >= 0`` with b = ±1: the last or the first column."""
        sweep, make = self.sweep, self.elements
        rest, columns, is_plain = make.constant(-atom.strict), 0, True
        if not all(map(self._bounds.is_tame, atom.terms)):
            return False
        for term, times in atom.terms.items():
            if term.op == "axis" and term.attribute is sweep.columns:
                columns = times
                continue
            if sweep.columns in term.axes:
                return False
            if sweep.rows in term.axes:
                is_plain = is_plain and term.op == "axis" and abs(times) == 1
            wide = term if term.dtype == INT64 else make.apply("astype", INT64, term)
            rest = make.add(rest, make.multiply(wide, make.constant(times)))
        if columns not in (1, -1) or not self._bounds.is_tame(rest):
            return False
        interval = self._bounds.interval(rest)
        if interval is None:
            return False
        for term in atom.terms:
            self._bounds.guard(term)
        if columns == -1:
            self.most.append(interval.high)
        else:
            self.least.append(make.subtract(make.constant(0), interval.high))
        return is_plain


def _conditions(sweep: Sweep) -> list[Scalar]:
    """Conditions that select between tile values, whatever they are made of; not those inside of a small reduction."""
    pair = {sweep.rows, sweep.columns}
    known = pair | set(sweep.batch)
    tile = [*sweep.groups, *(each.weight for each in sweep.accumulators)]
    found = [each.args[0] for each in below_shown(tile) if each.op == "where"]
    return [each for each in dict.fromkeys(found) if pair & each.axes and each.axes <= known]


def _is_false(scalar: Scalar) -> bool:
    return scalar.is_constant and not scalar.attribute


def empties(sweep: Sweep, condition: Scalar) -> bool:
    """Whether a tile in which the condition is false everywhere adds nothing to any accumulator."""
    if any(_if_false(group, condition) != float("-inf") for group in sweep.groups):
        return False
    if any(each.selects and _if_false(each.weight, condition) != float("-inf") for each in sweep.accumulators):
        return False
    plain = [each.weight for each in sweep.accumulators if each.group is None and not each.selects]
    return all(_if_false(weight, condition) == 0.0 for weight in plain)


def _if_false(root: Scalar, condition: Scalar) -> float | None:
    """What a tile value is where the condition is false: a number, or None if that depends."""
    found: dict[Scalar, float | None] = {}
    for scalar in below([root]):
        found[scalar] = _own_if_false(scalar, condition, [found[each] for each in scalar.args])
    return found[root]


def _own_if_false(scalar: Scalar, condition: Scalar, values: list[float | None]) -> float | None:
    if scalar.is_constant:
        return float(scalar.attribute)
    if scalar.op == "where":
        if condition in _conjuncts(scalar.args[0]):
            return values[2]
        return values[1] if values[1] == values[2] else None
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
    found: dict[Scalar, None] = {}
    seen, stack = {condition}, [condition]
    while stack:
        each = stack.pop()
        if each.dtype == BOOL and each.op in ("logical_and", "bitwise_and", "multiply", "minimum"):
            new = [side for side in reversed(each.args) if side not in seen]
            seen.update(new)
            stack += new
        else:
            found[each] = None
    return list(found)


class _Atoms:
    """Comparisons as sums, taken apart as far as no integer of them can have wrapped around."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def of(self, condition: Scalar) -> Iterable[Atom]:
        """Sums that are to be at least 0, all of them; nothing for what is no comparison of integers."""
        if any(each.dtype == BOOL or is_float(each.dtype) for each in condition.args):
            if condition.op == "logical_not" and condition.args[0].op in _LESS:
                yield from self._opposite(condition.args[0])
        elif condition.op in _LESS:
            strict, left, right = _LESS[condition.op]
            yield from self._at_least(condition.args[left], condition.args[right], strict)
        elif condition.op == "equal":
            left_side, right_side = condition.args
            yield from self._at_least(left_side, right_side, 0)
            yield from self._at_least(right_side, left_side, 0)

    def _opposite(self, condition: Scalar) -> Iterable[Atom]:
        if not any(is_float(each.dtype) for each in condition.args):  # a NaN is neither less nor not less
            strict, left, right = _LESS[condition.op]
            yield from self._at_least(condition.args[right], condition.args[left], 1 - strict)

    def _at_least(self, large: Scalar, small: Scalar, strict: int) -> Iterable[Atom]:
        """``large - small - strict >= 0``; the magnitude of something is small where it is so both ways."""
        if small.op == "abs" and self._bounds.is_tame(small):
            for sign in (1, -1):
                yield Atom(self._difference(large, small.args[0], sign), strict)
        else:
            yield Atom(self._difference(large, small, 1), strict)

    def _difference(self, large: Scalar, small: Scalar, sign: int) -> dict[Scalar, int]:
        terms: dict[Scalar, int] = {}
        self._add(large, 1, terms)
        self._add(small, -sign, terms)
        return {term: times for term, times in terms.items() if times}

    def _add(self, scalar: Scalar, times: int, into: dict[Scalar, int]) -> None:
        """Add ``times * scalar`` as a sum of whole multiples."""
        stack = [(scalar, times)]
        while stack:
            each, times = stack.pop()
            parts = each.args if self._bounds.is_tame(each) else ()
            if parts and each.op in ("add", "subtract"):
                stack += [(parts[0], times), (parts[1], times if each.op == "add" else -times)]
            elif parts and each.op == "negative":
                stack.append((parts[0], -times))
            elif parts and each.op == "astype" and is_integer(parts[0].dtype):
                stack.append((parts[0], times))
            elif parts and each.op == "multiply" and parts[1].is_constant:
                stack.append((parts[0], times * int(parts[1].attribute)))
            else:
                into[each] = into.get(each, 0) + times


__all__ = ["Atom", "Skip", "Summary", "empties"]
