"""Membership in lists: whether a value stands in a list, of many lists that lie one behind the other.

This is how a sparse pattern is a predicate of positions without an array of all of them: of a block of rows the list
of the blocks of columns that it sees. `engine.listed_runs` makes of it what kernels go through instead of all columns.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court
from ..engine.errors import DTypeError, ShapeError
from ..engine.ir import Node, Values
from ..engine.labels import Axes, broadcast_axes
from ..engine.types import BOOL, INT64, TensorType, broadcast
from .array import Array, ArrayLike, lift


class InLists(Node):
    """Whether ``values`` stand in lists of ``indices``: list n is ``indices[starts[n]:starts[n + 1]]``, in order.

    ``longest`` is the length of the longest list. What lies outside of all lists is in none.
    """

    # One element out of one index and one value; but not one out of one element of each operand.
    role: ClassVar[str] = "rearrangement"

    lists: Node
    values: Node
    starts: Node
    indices: Node
    longest: int

    def infer(self) -> TensorType:
        """Raises DTypeError and ShapeError for anything but lists of int64."""
        for operand in self.operands:
            if operand.dtype != INT64:
                raise DTypeError(f"{self.name}: lists are int64 arrays, not {operand.type}")
        for operand in (self.starts, self.indices):
            if len(operand.shape) != 1 or not operand.shape[0]:
                raise ShapeError(f"{self.name}: starts and indices have one axis, not {operand.type}")
        return TensorType(broadcast(self.name, self.lists.shape, self.values.shape), BOOL)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """What lists and values agree on."""
        sides = (self.lists, self.values)
        return broadcast_axes(self.shape, [(axes, side.shape) for axes, side in zip(operands[:2], sides, strict=True)])

    def reference(self, lists: Values, values: Values, starts: Values, indices: Values) -> Values:
        """By looking up pairs of a list and a value among all those that there are."""
        count = len(starts) - 1
        entries = indices[: starts[-1]]
        owners = np.repeat(np.arange(count), np.diff(starts))
        known, numbers = np.unique(entries, return_inverse=True)
        result = np.zeros(self.shape, np.bool_)
        if not entries.size or not result.size:
            return result
        number = np.minimum(np.searchsorted(known, values), len(known) - 1)
        inside = (known[number] == values) & (lists >= 0) & (lists < count)
        wanted = np.clip(lists, 0, count - 1) * len(known) + number
        pairs = np.sort(owners * len(known) + numbers)
        found = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        return np.asarray(inside & (pairs[found] == wanted))

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """A search by halves, every index held inside; named, so that whoever goes through lists may know it."""
        which, value = kernel.spread(self.lists, at), kernel.spread(self.values, at)

        def number(this: int) -> Any:
            return kernel.constant(this)

        def held(index: Any, length: int) -> Any:
            within = kernel.apply("maximum", INT64, index, number(0))
            return kernel.apply("minimum", INT64, within, number(length - 1))

        def entry(behind: Any) -> Any:
            return kernel.element(self.indices, [held(kernel.subtract(behind, number(1)), self.indices.shape[0])])

        last = held(which, self.starts.shape[0] - 1)
        first = kernel.element(self.starts, [last])
        stop = kernel.element(self.starts, [held(kernel.add(last, number(1)), self.starts.shape[0])])
        # Behind the last entry that is no larger.
        behind = first
        for step in reversed(range(self.longest.bit_length())):
            probe = kernel.add(behind, number(1 << step))
            inside = kernel.apply("less_equal", BOOL, probe, stop)
            small = kernel.apply("less_equal", BOOL, entry(probe), value)
            goes_on = kernel.apply("logical_and", BOOL, inside, small)
            behind = kernel.apply("where", INT64, goes_on, probe, behind)
        is_any = kernel.apply("greater", BOOL, behind, first)
        found = kernel.apply("logical_and", BOOL, is_any, kernel.apply("equal", BOOL, entry(behind), value))
        exists = kernel.apply("equal", BOOL, which, last)
        found = kernel.apply("logical_and", BOOL, found, exists)
        return kernel.make("listed", (found, which, value), BOOL, (self.starts, self.indices))

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """Nothing: neither lists nor values are floats."""
        return [None] * len(self.operands)

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Never: nothing is computed."""
        return False

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Nothing hidden, nobody to blame."""
        return Careful(value)


def in_lists(lists: ArrayLike, values: ArrayLike, starts: ArrayLike, indices: ArrayLike, longest: int) -> Array:
    """Whether values stand in lists, element by element.

    Args:
        lists: Which list to look in: integers.
        values: What to look for: integers that broadcast against ``lists``.
        starts: Where each list begins among the indices, and where the last one ends.
        indices: The lists, each in increasing order; one entry more at least than there are, which belongs to none.
        longest: Entries of the longest list.
    """
    which, what, begins, entries = (lift(each, "in_lists") for each in (lists, values, starts, indices))
    return Array(InLists(which, what, begins, entries, longest))
