"""The careful path of a sweep: the rows that its kernel was in doubt about, once more in float64.

Rows are taken some at a time, and the columns are streamed by them twice: for the largest exponents, and for the
sums. So memory stays small whatever the lengths are. What is hidden and who is to blame follows the same rules as
in the interpreter (`engine.careful`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .careful import EMPTY, Careful, Values, hidden_by_infinity, none_if_empty
from .careful_chunk import Chunk, Frame, Memo
from .careful_product import column_matrix, visible_product, weights_matrix
from .ir import Node, UnfusableError
from .leaves import Leaf
from .scalar import Axis, Scalar, below
from .sweep import Accumulator, Output, Sweep
from .types import is_float

# Rows at a time, positions of a tile, and elements that the columns of a tile bring: half a megabyte an array.
_ROWS = 128
_POSITIONS = 1 << 16
_ELEMENTS = 1 << 17
# Elements of a tile in which rows and columns bring something together along a small axis.
_PAIRED = 1 << 19
_LARGEST = float(np.finfo(np.float32).max)

Place = tuple[int, ...]


class Doubted(NamedTuple):
    """Rows at one place of a sweep's batch."""

    place: Place
    rows: Values


class Problem(NamedTuple):
    """A sweep with all that it reads.

    Attributes:
        sweep: The sweep.
        arrays: What it loads.
        of: The value of a length in this call.
        accused: Arrays of which an element that is not finite is an error where it counts.
        final: Nodes that nothing else is computed from.
    """

    sweep: Sweep
    arrays: Mapping[Node, Values]
    of: Callable[[Any], Any]
    accused: Collection[Node] = ()
    final: Collection[Node] = ()


def doubted_rows(sweep: Sweep, of: Callable[[Any], Any], block_rows: int, tasks: Values) -> list[Doubted]:
    """The rows of some tasks, by their places along the batch."""
    rows = int(of(sweep.rows.length))
    blocks = -(-rows // block_rows)
    lengths = [int(of(axis.length)) for axis in sweep.batch]
    found: dict[Place, list[Values]] = {}
    for task in tasks.tolist():
        flat, place = task // blocks, []
        for length in reversed(lengths):
            place.append(flat % length)
            flat //= length
        first = task % blocks * block_rows
        found.setdefault(tuple(reversed(place)), []).append(np.arange(first, min(first + block_rows, rows)))
    return [Doubted(place, np.concatenate(parts)) for place, parts in found.items()]


def all_rows(sweep: Sweep, other: Sweep, doubted: Sequence[Doubted], of: Callable[[Any], Any]) -> list[Doubted]:
    """All rows of a sweep at doubted places of another one, whose batch is the same but for axes of length 1."""
    rows, found = np.arange(int(of(sweep.rows.length))), []
    for each in doubted:
        indices = iter([index for axis, index in zip(other.batch, each.place, strict=True) if axis.length != 1])
        found.append(Doubted(tuple(0 if axis.length == 1 else next(indices) for axis in sweep.batch), rows))
    return found


def settle(problem: Problem, results: Sequence[Values], doubted: Sequence[Doubted]) -> bool:
    """Compute doubted rows again, into the results; False if the interpreter has to decide after all.

    It has to where a result is to blame on an index out of range, or on what must be finite; and where what comes
    after needs more than float32 holds.
    """
    with np.errstate(all="ignore"):
        try:
            return _Settlement(problem, results).all(doubted)
        except UnfusableError:  # a function that there is no careful rule for
            return False


class Total:
    """What accumulates over the columns for some rows."""

    def __init__(self, value: Values) -> None:
        self.value = value
        self.is_seen: Any = False
        self.blame: Any = None

    def blames(self, blame: Any) -> None:
        if blame is not None:
            self.blame = blame if self.blame is None else np.maximum(self.blame, blame)

    def result(self) -> Careful:
        """The sum or maximum; empty where nothing was seen of it."""
        levels = none_if_empty(EMPTY * np.broadcast_to(np.logical_not(self.is_seen), self.value.shape))
        return Careful(self.value, levels, self.blame)


def add_pairs(total: Total, weight: Careful, column: Careful) -> None:
    """Add what rows and columns of a chunk bring together: terms with a hidden factor are left out."""
    shown = (weight.hidden_zeros() == 0) & (column.hidden_zeros() == 0)
    terms = np.where(shown, weight.contribution() * column.contribution(), 0.0)
    total.value = total.value + terms.sum(axis=1, keepdims=True)
    total.is_seen = total.is_seen | shown.any(axis=1, keepdims=True)
    for each in (weight, column):
        if each.blame is not None:
            guilty = (each.blame > 0) & shown
            total.blames(guilty.any(axis=1, keepdims=True).astype(np.int32))


class _Settlement:
    def __init__(self, problem: Problem, results: Sequence[Values]) -> None:
        self.problem, self.sweep, self.results = problem, problem.sweep, results
        made = [node for node in problem.arrays if not isinstance(node, Leaf)]
        masking = [node for node in made if is_float(node.dtype)]
        axes = self.sweep.rows, self.sweep.columns
        self.frame = Frame(axes, self.sweep.expressions(), problem.arrays, problem.accused, masking)
        self.columns = int(problem.of(self.sweep.columns.length))
        small = set(self.frame.dimensions) - {*axes, *self.sweep.batch}
        widths = [int(problem.of(axis.length)) for axis in small]
        self.widest = max(widths, default=1)

    def all(self, doubted: Sequence[Doubted]) -> bool:
        for place, rows in doubted:
            for start in range(0, len(rows), _ROWS):
                if not self._some(place, rows[start : start + _ROWS]):
                    return False
        return True

    def _some(self, place: Place, rows: Values) -> bool:
        fixed: dict[Axis, Any] = {**dict(zip(self.sweep.batch, place, strict=True)), self.sweep.rows: rows}
        chunk = Chunk(self.frame, fixed, self.problem.of, {})
        maxima = self._maxima(chunk)
        known: Memo = dict(chunk.known)
        for scalar, total in self._sums(chunk, maxima).items():
            known[scalar] = total.result()
        everything = below([output.value for output in self.sweep.outputs])
        for scalar in everything:
            if scalar.op == "maximum_of":
                known[scalar] = maxima[scalar.attribute].result()
        ended = Chunk(self.frame, fixed, self.problem.of, known)
        for scalar in filter(_is_logarithm, everything):
            known[scalar] = _logarithm(ended.value(scalar), known[scalar.args[0]])
        found = [ended.value(output.value) for output in self.sweep.outputs]
        if any(each.blame is not None and each.blame.any() for each in found):
            return False
        if any(map(self._is_too_large, self.sweep.outputs, found)):
            return False
        for output, array, each in zip(self.sweep.outputs, self.results, found, strict=True):
            self._write(output, array, each.value, fixed)
        return True

    def _is_too_large(self, output: Output, found: Careful) -> bool:
        """Whether float32 loses a number that others are computed from."""
        if output.node in self.problem.final:
            return False
        return bool((np.isfinite(found.value) & (np.abs(found.value) > _LARGEST)).any())

    def _write(self, output: Output, array: Values, value: Values, fixed: Mapping[Axis, Any]) -> None:
        frame = self.frame
        index: list[Any] = []
        for axis, length in zip(output.axes, array.shape, strict=True):
            if axis is self.sweep.rows:
                index.append(frame.along(axis, fixed[axis]))
            elif axis in fixed:
                index.append(frame.one(fixed[axis]))
            elif axis in frame.dimensions and axis is output.small:
                index.append(frame.along(axis, np.arange(length)))
            else:
                index.append(frame.one(0))
        shape = np.broadcast_shapes(*(each.shape for each in index)) if index else value.shape
        array[tuple(index)] = np.broadcast_to(value, shape)

    # --- the columns

    def _chunks(self, rows: Chunk) -> list[tuple[int, int]]:
        count = len(rows.places[self.sweep.rows])
        most = min(_POSITIONS // count, _ELEMENTS // self.widest)
        if self.sweep.paired:
            most = min(most, _PAIRED // (count * self.widest))
        step = max(1, most)
        return [(start, min(start + step, self.columns)) for start in range(0, self.columns, step)]

    def _tile(self, rows: Chunk, start: int, stop: int) -> Chunk:
        """A chunk of columns; what varies over rows alone is kept from one to the next."""
        known = {scalar: each for scalar, each in rows.known.items() if self.sweep.columns not in scalar.axes}
        places = {**rows.places, self.sweep.columns: np.arange(start, stop)}
        return Chunk(self.frame, places, self.problem.of, known)

    def _keep(self, rows: Chunk, tile: Chunk) -> None:
        for scalar, each in tile.known.items():
            if self.sweep.columns not in scalar.axes:
                rows.known.setdefault(scalar, each)

    def _maxima(self, rows: Chunk) -> dict[Scalar, Total]:
        """The largest exponent of each row."""
        shape = [1] * len(self.frame.dimensions)
        shape[0] = len(rows.places[self.sweep.rows])
        found = {group: Total(np.full(shape, -np.inf)) for group in self.sweep.groups}
        for start, stop in self._chunks(rows) if found else ():
            tile = self._tile(rows, start, stop)
            for group, total in found.items():
                scores = tile.value(group)
                hidden = hidden_by_infinity(scores)
                here = np.max(scores.contribution(), axis=1, keepdims=True)
                total.value = np.maximum(total.value, here)
                flagged = scores.full_hidden() > 0
                total.is_seen = total.is_seen | np.logical_not(flagged).any(axis=1, keepdims=True)
                if scores.blame is not None:
                    blame = scores.full_blame() if hidden is None else np.where(hidden > 0, 0, scores.full_blame())
                    total.blames(blame.max(axis=1, keepdims=True))
            self._keep(rows, tile)
        return found

    def _sums(self, rows: Chunk, maxima: Mapping[Scalar, Total]) -> dict[Scalar, Total]:
        """What accumulates, by the scalars that stand for it."""
        wanted = [each for each in below(self.sweep.expressions()) if each.op == "accumulator"]
        found = {each: Total(np.zeros((1,) * len(self.frame.dimensions))) for each in wanted}
        for start, stop in self._chunks(rows):
            tile = self._tile(rows, start, stop)
            weights: dict[tuple[Scalar | None, Scalar], Careful] = {}
            for scalar, total in found.items():
                each: Accumulator = scalar.attribute
                key = each.group, each.weight
                if key not in weights:
                    weights[key] = self._weight(tile, each, maxima)
                self._add(total, weights[key], tile.value(each.column), each.small)
            self._keep(rows, tile)
        return found

    def _weight(self, tile: Chunk, accumulator: Accumulator, maxima: Mapping[Scalar, Total]) -> Careful:
        """``exp(group - maximum) * weight``, hidden where either is nothing."""
        factor = tile.value(accumulator.weight)
        if accumulator.group is None:
            return factor
        scores = tile.value(accumulator.group)
        largest = maxima[accumulator.group].value
        exponential = np.exp(scores.contribution() - np.where(np.isneginf(largest), 0.0, largest))
        levels = hidden_by_infinity(scores)
        hidden = levels
        if factor.hidden is not None:
            hidden = np.maximum(np.uint8(0) if levels is None else levels, factor.hidden_zeros())
        blame = None
        if scores.blame is not None or factor.blame is not None:
            blame = np.maximum(scores.full_blame(), factor.full_blame())
        return Careful(exponential * factor.value, hidden, blame)

    def _add(self, total: Total, weight: Careful, column: Careful, small: Axis | None) -> None:
        """Add what a chunk brings: terms with a hidden factor are left out."""
        place = None if small is None else self.frame.dimensions[small]
        if column.value.shape[0] > 1:
            add_pairs(total, weight, column)
            return
        rows, count = weight.value.shape[0], max(weight.value.shape[1], column.value.shape[1])
        sides = [weights_matrix(weight, (rows, count)), column_matrix(column, count, place)]
        shape = [1] * len(self.frame.dimensions)
        shape[0] = rows
        if place is not None:
            shape[place] = sides[1].value.shape[1]
        total.value = total.value + visible_product(*sides).reshape(shape)
        seen = [(side.hidden_zeros() == 0).astype(np.float64) for side in sides]
        total.is_seen = total.is_seen | ((seen[0] @ seen[1]) > 0).reshape(shape)
        for mine, other, number in ((sides[0], seen[1], 0), (sides[1], seen[0], 1)):
            if mine.blame is not None:
                guilty = (mine.blame > 0) & (seen[number] > 0)
                terms = guilty @ other if number == 0 else other @ guilty
                total.blames((terms > 0).reshape(shape).astype(np.int32))


def _is_logarithm(scalar: Scalar) -> bool:
    """Of a sum of exponentials: the largest exponent, and the logarithm of the sum relative to that."""
    if scalar.op != "add" or scalar.args[0].op != "maximum_of" or scalar.args[1].op != "log":
        return False
    (total,) = scalar.args[1].args
    return total.op == "accumulator" and total.attribute.group is scalar.args[0].attribute


def _logarithm(found: Careful, largest: Careful) -> Careful:
    """Infinity where the largest exponent is, although there is no number relative to that."""
    return found._replace(value=np.where(np.isposinf(largest.value), np.inf, found.value))
