"""Scalars of a sweep in float64 for some rows and some columns at one place of its batch.

Every axis has a dimension of its own: rows first, then columns, then the small ones. What varies over neither
rows nor columns has length 1 there.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .careful import EMPTY, Careful, Values, adds_nothing, none_if_empty
from .careful_values import careful_apply, carrier_of
from .ir import Node, UnfusableError
from .scalar import Axis, Scalar, below
from .types import is_float

Memo = dict[Scalar, Careful]


class Frame:
    """What is the same for all chunks: arrays, dimensions, lengths of small axes.

    Args:
        axes: The axes of rows and of columns.
        roots: All expressions that will be asked for.
        arrays: The arrays that they load.
        accused: Those of which an element that is not finite is an error where it counts.
        masking: Those in which -inf is what was left of nothing but hidden positions.
    """

    def __init__(
        self,
        axes: tuple[Axis, Axis],
        roots: Sequence[Scalar],
        arrays: Mapping[Node, Values],
        accused: Collection[Node],
        masking: Collection[Node],
    ) -> None:
        self.rows, self.columns = axes
        self.arrays, self.accused, self.masking = arrays, frozenset(accused), frozenset(masking)
        self.dimensions: dict[Axis, int] = {self.rows: 0, self.columns: 1}
        for scalar in below(roots):
            bound = {scalar.attribute[1]} if scalar.op == "reduce" else frozenset[Axis]()
            for axis in sorted(scalar.axes | bound, key=repr):
                self.dimensions.setdefault(axis, len(self.dimensions))

    def along(self, axis: Axis, values: Values) -> Values:
        """Numbers along the dimension of an axis."""
        shape = [1] * len(self.dimensions)
        shape[self.dimensions[axis]] = -1
        return values.reshape(shape)

    def one(self, value: Any) -> Values:
        """A number, with all dimensions."""
        return np.asarray(value).reshape((1,) * len(self.dimensions))


class Chunk:
    """Some rows and columns.

    Args:
        frame: The sweep's.
        places: The index of each axis that is fixed, and the indices of rows and columns.
        of: The value of a length in this call.
        known: Values that are known already, such as those of rows alone.
    """

    def __init__(self, frame: Frame, places: Mapping[Axis, Any], of: Any, known: Memo) -> None:
        self.frame, self.places, self.of, self.known = frame, dict(places), of, known

    def value(self, root: Scalar) -> Careful:
        """The value of an expression, its dimensions those of the frame."""
        for scalar in _needed(root, self.known):
            self.known[scalar] = self._computed(scalar)
        return self.known[root]

    def _computed(self, scalar: Scalar) -> Careful:
        frame = self.frame
        if scalar.op == "constant":
            return Careful(frame.one(np.asarray(scalar.attribute, carrier_of(scalar))))
        if scalar.op == "length":
            return Careful(frame.one(np.int64(self.of(scalar.attribute[0]))))
        if scalar.op == "axis":
            return Careful(self._indices(scalar.attribute))
        if scalar.op == "reduce":
            return self._reduced(scalar)
        args = [self.known[each] for each in scalar.args]
        if scalar.op == "load":
            return self._loaded(scalar, args)
        if scalar.op in ("accumulator", "maximum_of"):
            raise UnfusableError("a tile that waits for a result")
        return careful_apply(scalar, args)

    def _indices(self, axis: Axis) -> Values:
        given = self.places.get(axis)
        if given is None:
            given = np.arange(int(self.of(axis.length)), dtype=np.int64)
        return self.frame.along(axis, np.asarray(given, np.int64))

    def _loaded(self, load: Scalar, args: Sequence[Careful]) -> Careful:
        frame, array = self.frame, self.frame.arrays[load.attribute]
        indices = [each.value for each in args]
        shape = np.broadcast_shapes((1,) * len(frame.dimensions), *(each.shape for each in indices))
        if array.size == 0:  # nothing is there: whoever counts on it is to blame by its index
            value = np.zeros(shape, carrier_of(load))
        else:
            value = np.asarray(array[tuple(indices)] if indices else array).astype(carrier_of(load)).reshape(shape)
        blames = [np.broadcast_to(each.blame, shape) for each in args if each.blame is not None]
        hidden = None
        if is_float(load.dtype):
            if load.attribute in frame.accused:
                blames.append((~np.isfinite(value)).astype(np.int32))
            if load.attribute in frame.masking:
                hidden = none_if_empty(EMPTY * np.isneginf(value))
        blame = np.maximum.reduce(blames) if blames else None
        return Careful(value, hidden, none_if_empty(blame))

    # --- contractions

    def _reduced(self, scalar: Scalar) -> Careful:
        kind, axis = scalar.attribute
        if kind != "sum":
            raise UnfusableError(f"a {kind} over a small axis has no careful rule")
        rows: list[Scalar] = []
        columns: list[Scalar] = []
        for factor in _factors(scalar.args[0]):
            (rows if self.frame.columns not in factor.axes else columns).append(factor)
        if rows and columns and not any(self.frame.rows in each.axes for each in columns):
            sides = [self._multiplied(side) for side in (rows, columns)]
            found = self._contracted(sides[0], sides[1], axis)
            if found is not None:
                return found
        return self._summed(scalar.args[0], axis)

    def _multiplied(self, factors: Sequence[Scalar]) -> Careful:
        result, *others = (self.value(each) for each in factors)
        for each in others:
            value = result.value * each.value
            hidden = blame = None
            if result.hidden is not None or each.hidden is not None:
                hidden = np.maximum(result.hidden_zeros(), each.hidden_zeros())
            if result.blame is not None or each.blame is not None:
                blame = np.maximum(result.full_blame(), each.full_blame())
            result = Careful(value, hidden, blame)
        return result

    def _contracted(self, left: Careful, right: Careful, axis: Axis) -> Careful | None:
        """A product of matrices; None for what is more than that."""
        place = self.frame.dimensions[axis]
        plain = left.hidden is None and right.hidden is None
        others = [number for number in range(2, len(self.frame.dimensions)) if number != place]
        if not plain or any(side.value.shape[number] != 1 for side in (left, right) for number in others):
            return None
        length = int(self.of(axis.length))
        matrices = [_matrix(side.value, number, place, length) for number, side in enumerate((left, right))]
        shape = [1] * len(self.frame.dimensions)
        shape[0], shape[1] = len(matrices[0]), len(matrices[1])
        value = (matrices[0] @ matrices[1].T).reshape(shape)
        blame = None
        for side in (left, right):
            if side.blame is not None:
                mine = side.full_blame().max(axis=place, keepdims=True)
                blame = np.broadcast_to(mine if blame is None else np.maximum(blame, mine), shape)
        return Careful(value, None, blame)

    def _summed(self, body: Scalar, axis: Axis) -> Careful:
        """A sum of anything, one place at a time."""
        fixed = {each: value for each, value in self.known.items() if axis not in each.axes}
        total: Values | None = None
        hidden: Values | None = None
        blame: Any = None
        for place in range(int(self.of(axis.length))):
            term = Chunk(self.frame, {**self.places, axis: np.asarray([place])}, self.of, dict(fixed)).value(body)
            total = term.contribution() if total is None else total + term.contribution()
            here = term.full_hidden() > 0
            hidden = here if hidden is None else hidden & here
            if term.blame is not None:
                blame = term.blame if blame is None else np.maximum(blame, term.blame)
        assert total is not None
        assert hidden is not None
        return Careful(total, none_if_empty(EMPTY * (hidden & adds_nothing(total))), blame)


def _factors(body: Scalar) -> list[Scalar]:
    found, stack = [], [body]
    while stack:
        each = stack.pop()
        if each.op == "multiply" and is_float(each.dtype):
            stack += reversed(each.args)
        elif each.op == "square":
            stack += [each.args[0], each.args[0]]
        else:
            found.append(each)
    return found


def _matrix(value: Values, number: int, place: int, length: int) -> Values:
    """One row for each place along dimension ``number``, its elements along ``place``."""
    moved = np.moveaxis(value, (number, place), (0, 1))
    flat = moved.reshape(moved.shape[:2])
    return np.ascontiguousarray(np.broadcast_to(flat, (len(flat), length)))


def _needed(root: Scalar, known: Memo) -> list[Scalar]:
    """What has to be computed, arguments first; of contractions they see to it themselves."""
    order: list[Scalar] = []
    seen: set[Scalar] = set()
    stack = [(root, False)]
    while stack:
        scalar, ready = stack.pop()
        if ready:
            order.append(scalar)
        elif scalar not in known and scalar not in seen:
            seen.add(scalar)
            stack.append((scalar, True))
            if scalar.op != "reduce":
                stack += [(each, False) for each in scalar.args]
    return order
