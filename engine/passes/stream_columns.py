"""Streaming where results for columns are wanted, too: sums over rows, beside those over columns.

What is summed for a column must not depend on what the other columns have brought so far, so there is no running
maximum here: exponents stay inside the weights as they are. A backward pass has them less a saved logarithm of their
sum, so that no weight is above 1; where one overflows all the same, the results show it.

Weights hold all that does not vary over a small axis, in one order, so that sums share them; and conditions that
hide stand outside of everything else: ``exp(where(c, x, -inf) - r) * y`` is ``where(c, exp(x - r) * y, 0)``, and so
is a sum of two terms what hides both.
"""

import math
from collections.abc import Iterable, Set

from ..ir import UnfusableError
from ..scalar import Axis, Scalar
from ..sweep import Accumulator
from ..types import BOOL
from .product import Linear, Product, add_linear
from .stream import Streaming, is_finite


class HidingProduct(Product):
    """A product whose factors' conditions, without which it is 0, are taken out."""

    def __init__(self, streaming: "ColumnStreaming", scalar: Scalar) -> None:
        self.streaming = streaming
        self.conditions: dict[Scalar, None] = {}
        super().__init__(scalar, streaming.sweep.columns, streaming._of_columns)

    def _multiply(self, factor: Scalar, times: int) -> None:
        shown = (self._shown(factor, 0.0) or self._shown_sum(factor)) if times > 0 else None
        if shown is None:
            super()._multiply(factor, times)
        else:
            self._put(shown, times)

    def _raise(self, scalar: Scalar, times: float) -> None:
        terms: Linear = {}
        add_linear(terms, scalar, times, self.streamed, self.cancelled)
        for term, factor in terms.items():
            shown = self._shown(term, -math.inf) if factor > 0 else None
            if shown is None:
                super()._raise(term, factor)
            else:
                self._raise(shown, factor)

    def _shown(self, scalar: Scalar, hidden: float) -> Scalar | None:
        """What a ``where`` shows that hides all else; its condition is kept."""
        if scalar.op != "where":
            return None
        condition, left, right = scalar.args
        if right.is_constant and right.attribute == hidden:
            self.conditions[condition] = None
            return left
        if left.is_constant and left.attribute == hidden:
            self.conditions[self.streaming.elements.apply("logical_not", BOOL, condition)] = None
            return right
        return None

    def _shown_sum(self, scalar: Scalar) -> Scalar | None:
        """A sum without the conditions that hide each of its terms."""
        if scalar.op not in ("add", "subtract") or not self.streaming.is_tile(scalar):
            return None
        sides = [HidingProduct(self.streaming, each) for each in scalar.args]
        common = sides[0].conditions.keys() & sides[1].conditions.keys()
        if not common:
            return None
        terms = []
        for side in sides:
            self.cancelled |= side.cancelled
            value = self.streaming.product(side.coefficient, side.factors, side.exponent, scalar)
            terms.append(self.streaming.shown(value, side.conditions.keys() - common))
        self.conditions |= dict.fromkeys(common)
        return self.streaming.elements.apply(scalar.op, scalar.dtype, *terms)


class ColumnStreaming(Streaming):
    """As `Streaming`, for sweeps with results of columns."""

    of_columns = of_pairs = False

    def pair_output(self, element: Scalar) -> Scalar:
        """A result of pairs, the weight of each of them, as a multiple of what the sweep computes.

        Raises:
            UnfusableError: If it is none.
        """
        summed = self.elements.reduce("sum", self.sweep.columns, element)
        before = list(self.sweep.accumulators)
        self.rewrite([summed])  # raises, if it waits for another result
        self.sweep.accumulators = before
        self.of_pairs = True
        (total,) = self.rewrite([summed])
        self.of_pairs = False
        return total

    def column_output(self, element: Scalar) -> Scalar:
        """A result of columns, ``sum over rows of weight * what a row brings``, as a multiple of an accumulator.

        Raises:
            UnfusableError: If it is no such sum.
        """
        product = Product(element, self.sweep.columns, lambda _: False)
        ((reduction, power),) = product.factors.items() if len(product.factors) == 1 else ((element, 0),)
        if power != 1 or product.exponent or reduction.op != "reduce" or reduction.attribute[0] != "sum":
            raise UnfusableError("a result of columns that is no sum over rows")
        axis = reduction.attribute[1]
        if axis.length != self.sweep.rows.length:
            raise UnfusableError("a result of columns that sums over something else than rows")
        elements = self.elements
        (body,) = elements.substitute(reduction.args, {elements.index(axis): elements.index(self.sweep.rows)})
        self.of_columns = True
        (total,) = self.rewrite([elements.reduce("sum", self.sweep.columns, body)])
        self.of_columns = False
        return elements.multiply(total, elements.constant(product.coefficient, total.dtype))

    def _sum(self, body: Scalar) -> Scalar:
        elements = self.elements
        product = HidingProduct(self, body)
        brought = {f: p for f, p in product.factors.items() if self._small(f)}
        inside = {f: p for f, p in product.factors.items() if f not in brought}
        column, small = self._column(brought, body)
        weight = self.shown(self.product(1.0, inside, product.exponent, body), product.conditions)
        if weight.waits:
            raise self.waiting([weight], "a tile value that needs another reduction's result")
        if not all(self.varies(term) or is_finite(term) for term in product.cancelled):
            raise UnfusableError("an exponent in which something cancels that may be infinite")
        total = self._accumulated(weight, column, small)
        return elements.multiply(total, elements.constant(product.coefficient, body.dtype))

    def is_tile(self, scalar: Scalar) -> bool:
        """Whether it is a value of a row and a column, without a small axis."""
        return self.sweep.pair <= scalar.axes and not self._small(scalar)

    def shown(self, value: Scalar, conditions: Iterable[Scalar]) -> Scalar:
        """The value where all conditions hold, and 0 elsewhere."""
        zero = self.elements.constant(0.0, value.dtype)
        for condition in sorted(conditions, key=lambda each: each.number):
            value = self.elements.apply("where", value.dtype, condition, value, zero)
        return value

    def _accumulated(self, weight: Scalar, column: Scalar, small: Axis | None) -> Scalar:
        sweep = self.sweep
        if self.of_pairs:
            if small is not None:
                raise UnfusableError("a result of pairs that has an axis of its own")
            return self._kept(Accumulator(None, weight, column, None, of_pairs=True), sweep.pair | {*sweep.batch})
        if not self.of_columns:
            return self.accumulate(None, weight, column, small)
        axes = {sweep.columns, *sweep.batch} | ({small} if small is not None else set())
        return self._kept(Accumulator(None, weight, column, small, of_columns=True), axes)

    def _kept(self, accumulator: Accumulator, axes: Set[Axis]) -> Scalar:
        """What stands for an accumulator's value, which varies over these axes."""
        if accumulator not in self.sweep.accumulators:
            self.sweep.accumulators.append(accumulator)
        found = self.elements.make("accumulator", (), accumulator.weight.dtype, accumulator)
        found.axes = frozenset(axes)
        return found

    def _column(self, factors: dict[Scalar, int], body: Scalar) -> tuple[Scalar, Axis | None]:  # type: ignore[override]
        if not self.of_columns:
            return super()._column(factors, body)
        row = self.power(1.0, factors, body)
        axes = self._small(row)
        if len(axes) != 1 or self.sweep.columns in row.axes:
            raise UnfusableError("what a row brings to a sum over rows has one axis of its own")
        return row, next(iter(axes))
