"""The edges of a graph in compressed rows, and their counting sort: plain arrays."""

from typing import Any, NamedTuple

import numpy as np

from ..engine.ir import Values

# NumPy sorts 16-bit integers by counting them: in time linear in their number.
_DIGIT = 16


class Edges(NamedTuple):
    """Edges sorted by their target.

    Attributes:
        indptr: Where the edges of each target begin, and where the last ones end.
        indices: The source of each edge.
        order: For each edge its place in the given order; None if that is its own.
        given: How many edges the given order has.
        sources: How many nodes edges come from.
    """

    indptr: Values
    indices: Values
    order: Values | None
    given: int
    sources: int

    @property
    def targets(self) -> int:
        """How many nodes edges lead to."""
        return len(self.indptr) - 1

    def rows(self) -> Values:
        """The target of each edge."""
        return np.repeat(np.arange(self.targets, dtype=self.indices.dtype), np.diff(self.indptr))

    def places(self) -> Values:
        """For each edge its place in the given order."""
        return np.arange(len(self.indices), dtype=self.indices.dtype) if self.order is None else self.order

    def chosen(self, keep: Values) -> "Edges":
        """The edges for which ``keep`` is True; the given order stays what it was."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])
        return self._replace(indptr=before[self.indptr], indices=self.indices[keep], order=self.places()[keep])

    def compact(self) -> "Edges":
        """In arrays of the smallest index type, of their own, that nobody can write to."""
        most = max(self.sources, self.targets, self.given, len(self.indices))
        kind = np.int32 if most < 2**31 else np.int64
        arrays = (self.indptr, self.indices, self.order)
        indptr, indices, order = (None if array is None else frozen(array, kind) for array in arrays)
        assert indptr is not None
        assert indices is not None
        return self._replace(indptr=indptr, indices=indices, order=order)


def frozen(array: Values, kind: Any = None) -> Values:
    """A copy in this type that nobody can write to: a view, for the owner of memory could make it writable again."""
    held = np.array(array, kind, order="C")
    held.flags.writeable = False
    return held.view()


def sorted_by_target(sources: Values, targets: Values, num_sources: int, num_targets: int) -> Edges:
    """Edges out of two lists, those of one target in the order in which they are given."""
    indptr = np.zeros(num_targets + 1, np.int64)
    np.cumsum(np.bincount(targets, minlength=num_targets), out=indptr[1:])
    order = stable_order(targets, num_targets)
    indices = sources if order is None else sources[order]
    return Edges(indptr, indices, order, len(sources), num_sources)


def stable_order(keys: Values, most: int) -> Values | None:
    """The order that sorts integers from 0 to ``most``, equal ones as they stand; None if they are sorted.

    By counting, 16 bits at a time: a tenth of the time that comparing takes.
    """
    if (keys[1:] >= keys[:-1]).all():
        return None
    order: Values | None = None
    for shift in range(0, most.bit_length(), _DIGIT):
        digits = (keys >> shift).astype(np.uint16)
        step = np.argsort(digits if order is None else digits[order], kind="stable")
        order = step if order is None else order[step]
    return order
