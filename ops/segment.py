"""Segment operations: reductions over rows that share a number, as in graph attention.

``segment_ids`` names for each element along the first axis of ``values`` the segment that it belongs
to; ids need not be sorted. An id is no index into an array: none wraps, and one below 0 is out of range,
unless a mask hides all of its row. A segment without elements gives 0, and -inf as a maximum (the identity).
Source: JAX's segment_sum, PyTorch Geometric's scatter and softmax.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import EMPTY, Careful, Court, adds_nothing, none_if_empty
from ..engine.errors import DTypeError, IndexOutOfRangeError, ShapeError
from ..engine.ir import Node, Values
from ..engine.types import INT64, UINT64, DType, TensorType, is_float, is_integer
from .arithmetic import maximum
from .array import Array, ArrayLike, lift
from .creation import ones
from .exponential import exp
from .function import lifted_float
from .identities import StopGradient
from .indexing import getitem
from .kinds import countable
from .logic import equal
from .registry import public
from .selection import where


class Segment(Node):
    """A reduction of the rows of ``values`` by their segment."""

    # What the kernel language calls it.
    kind: ClassVar[str]

    values: Node
    ids: Node
    count: int
    called: str  # the function, for errors

    def infer(self) -> TensorType:
        """One row a segment."""
        operation = self.called
        if not is_integer(self.ids.dtype):
            raise DTypeError(f"{operation}: segment_ids are integers, not {self.ids.type}")
        if len(self.ids.shape) != 1:
            raise ShapeError(f"{operation}: segment_ids have one axis, not {self.ids.type}")
        if not self.values.shape or self.values.shape[0] != self.ids.shape[0]:
            raise ShapeError(f"{operation}: {self.values.type} has not one row for each of {self.ids.type}")
        return TensorType((self.count, *self.values.shape[1:]), self.result_dtype(self.values.dtype))

    def result_dtype(self, dtype: DType) -> DType:
        """The values' type."""
        return dtype

    def segments(self) -> tuple[Node, int, bool]:
        """By the ids, none of which wraps."""
        return self.ids, self.count, False

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """A reduction over the rows of one segment."""
        return kernel.over_segment(self.kind, self, at)

    def start(self) -> Any:
        """What a segment without rows gives."""
        raise NotImplementedError

    def accumulate(self, result: Values, ids: Values, values: Values) -> None:
        """Add the rows to their segments' results, in order."""
        raise NotImplementedError

    def reference(self, values: Values, ids: Values) -> Values:
        """Row after row, in float64 or 64-bit integers."""
        dtype = np.dtype(np.float64) if values.dtype.kind == "f" else self.dtype
        result = np.full(self.shape, self.start(), dtype)
        inside = ~self._outside(ids)
        self.accumulate(result, ids[inside].astype(np.int64), values[inside].astype(dtype))
        return result

    def _outside(self, ids: Values) -> Values:
        return np.asarray((ids < 0) | (ids >= self.count))

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """An id out of range, or a value that is not finite."""
        return bool(self._outside(operands[1]).any()) or super().trouble(value, operands, check_finite)

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden rows add nothing; a segment blames whom its visible rows blame."""
        values, ids = operands
        number = self._misplaced(values, ids.value, court)
        hidden = blame = None
        if values.hidden is not None:
            value = self.reference(values.contribution(), ids.value).astype(value.dtype)
            visible = self._any_of((values.full_hidden() == 0), ids.value)
            present = self._any_of(np.ones(values.value.shape, np.bool_), ids.value)
            hidden = none_if_empty(EMPTY * (present & ~visible & adds_nothing(value)))
        if values.blame is not None:
            blame = np.zeros(value.shape, np.int32)
            keep = ~self._outside(ids.value)
            np.maximum.at(blame, ids.value[keep].astype(np.int64), values.full_blame()[keep])
        if number or ids.blame is not None:
            worst = max(number, int(ids.full_blame()[_seen_rows(values)].max(initial=0)))
            blame = np.maximum(0 if blame is None else blame, np.full(value.shape, worst, np.int32))
        return Careful(value, hidden, blame)

    def _any_of(self, rows: Values, ids: Values) -> Values:
        result = np.zeros(self.shape, np.bool_)
        keep = ~self._outside(ids)
        np.logical_or.at(result, ids[keep].astype(np.int64), rows[keep])
        return result

    def _misplaced(self, values: Careful, ids: Values, court: Court) -> int:
        """Accuse an id out of range, unless everything in its row is hidden."""
        wrong = ids[self._outside(ids) & _seen_rows(values)]
        if not wrong.size:
            return 0
        message = f"{self.called}: segment id {int(wrong[0])} is out of range for {self.count} segments"
        return court.accuse(self, IndexOutOfRangeError, message)


def _seen_rows(values: Careful) -> Values:
    """The rows that are not hidden as a whole."""
    levels = values.full_hidden()
    return np.asarray((levels == 0).any(axis=tuple(range(1, levels.ndim))) | (levels[:1].size == 0))


class SegmentSum(Segment):
    """The sum of each segment's rows; 0 of none."""

    kind: ClassVar[str] = "sum"

    def result_dtype(self, dtype: DType) -> DType:
        """Floats keep their type; integers and booleans accumulate in 64 bits."""
        if is_float(dtype):
            return dtype
        return UINT64 if dtype.kind == "u" else INT64

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """To every row its segment's."""
        return getitem(upstream, Array(self.ids)), None

    def start(self) -> Any:
        """0."""
        return 0

    def accumulate(self, result: Values, ids: Values, values: Values) -> None:
        """By addition."""
        np.add.at(result, ids, values)


class SegmentMax(Segment):
    """The largest of each segment's rows; -inf, or the least integer, of none."""

    kind: ClassVar[str] = "max"

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """To the largest row its segment's; equal shares to equals."""
        ids = Array(self.ids)
        taken = where(equal(Array(self.values), getitem(Array(self), ids)), 1.0, 0.0).astype(self.dtype)
        count = Array(SegmentSum(taken.node, self.ids, self.count, self.called))
        return getitem(upstream / maximum(count, 1), ids) * taken, None

    def start(self) -> Any:
        """The identity of the maximum."""
        if is_float(self.dtype):
            return -np.inf
        return False if self.dtype.kind == "b" else np.iinfo(self.dtype).min

    def accumulate(self, result: Values, ids: Values, values: Values) -> None:
        """By maximum; NaN wins."""
        np.maximum.at(result, ids, values)


def _segment(cls: Any, operation: str, values: Node, segment_ids: ArrayLike, num_segments: Any) -> Array:
    try:
        count = int(num_segments.__index__())
    except (AttributeError, TypeError):
        raise DTypeError(f"{operation}: num_segments is an integer, not {num_segments!r}") from None
    if count < 0:
        raise ShapeError(f"{operation}: num_segments is {count}")
    countable(operation, (count, *values.shape[1:]))
    return Array(cls(values, lift(segment_ids, operation), count, operation))


@public()
def segment_sum(values: ArrayLike, segment_ids: ArrayLike, num_segments: int) -> Array:
    """The sum of the rows of each segment: (rows, …) to (num_segments, …); 0 of none.

    Raises:
        ShapeError: If there is not one id for each row.
        IndexOutOfRangeError: At evaluation, for an id outside the segments: below 0, or not below
            ``num_segments``.
    """
    return _segment(SegmentSum, "segment_sum", lift(values, "segment_sum"), segment_ids, num_segments)


@public()
def segment_max(values: ArrayLike, segment_ids: ArrayLike, num_segments: int) -> Array:
    """The largest row elements of each segment; -inf (or the least integer) of none.

    Raises:
        ShapeError, IndexOutOfRangeError: As `segment_sum`.
    """
    return _segment(SegmentMax, "segment_max", lift(values, "segment_max"), segment_ids, num_segments)


@public()
def segment_mean(values: ArrayLike, segment_ids: ArrayLike, num_segments: int) -> Array:
    """The mean of the rows of each segment; 0 of none.

    Raises:
        ShapeError, IndexOutOfRangeError: As `segment_sum`.
    """
    node = lifted_float(values, "segment_mean")
    total = _segment(SegmentSum, "segment_mean", node, segment_ids, num_segments)
    rows = ones(node.shape[:1], dtype=node.dtype)
    count = maximum(_segment(SegmentSum, "segment_mean", lift(rows), segment_ids, num_segments), 1)
    return total / count.reshape((total.shape[0],) + (1,) * (total.ndim - 1))


@public()
def segment_softmax(values: ArrayLike, segment_ids: ArrayLike, num_segments: int) -> Array:
    """The softmax over the rows of each segment, in the shape of ``values``.

    A segment whose scores are all -inf gives zeros.

    Raises:
        ShapeError, IndexOutOfRangeError: As `segment_sum`.
    """
    node = lifted_float(values, "segment_softmax")
    scores = Array(node)
    ids = Array(lift(segment_ids, "segment_softmax"))
    largest = _segment(SegmentMax, "segment_softmax", node, ids, num_segments)
    # Whatever is subtracted, the shares are the same: no gradient goes through it.
    shift = getitem(Array(StopGradient(where(equal(largest, -np.inf), 0.0, largest).node)), ids)
    weights = exp(scores - shift)
    total = _segment(SegmentSum, "segment_softmax", weights.node, ids, num_segments)
    return weights / getitem(where(equal(total, 0), 1.0, total), ids)
