"""Streaming where results for columns are wanted, too: sums over rows, beside those over columns.

What is summed for a column must not depend on what the other columns have brought so far, so there is no running
maximum here: exponents stay inside the weights as they are. A backward pass has them less a saved logarithm of their
sum, so that no weight is above 1; where one overflows all the same, the results show it.

Weights hold all that does not vary over a small axis, in one order, so that sums share them; and conditions that
hide stand outside of everything else: ``exp(where(c, x, -inf) - r) * y`` is ``where(c, exp(x - r) * y, 0)``, and so
is a sum of two terms what hides both.
"""

import math

from ..ir import UnfusableError
from ..scalar import Axis, Scalar
from ..sweep import Accumulator
from ..types import BOOL
from .product import Linear, Product, add_linear
from .stream import Streaming, is_finite


class HidingProduct(Product):
    """A product whose factors' conditions, without which it is 0, are taken out."""

    def __init__(self, streaming: "ColumnStreaming", scalar: Scalar) -> None:
        self.streaming, self.elements = streaming, streaming.elements
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
            self.conditions[self.elements.apply("logical_not", BOOL, condition)] = None
            return right
        return None

    def _shown_sum(self, scalar: Scalar) -> Scalar | None:
        """A sum without the conditions that hide each of its terms."""
        if scalar.op not in ("add", "subtract") or not self.streaming.is_tile(scalar):
            return None
        sides = [HidingProduct(self.streaming, each) for each in scalar.args]
        common = [condition for condition in sides[0].conditions if condition in sides[1].conditions]
        if not common:
            return None
        for side in sides:
            self.cancelled |= side.cancelled
            for condition in common:
                del side.conditions[condition]
        self.conditions |= dict.fromkeys(common)
        return self.elements.apply(scalar.op, scalar.dtype, *(self.streaming.shown(side, scalar) for side in sides))


class ColumnStreaming(Streaming):
    """As `Streaming`, for sweeps with results of columns."""

    of_columns = False

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
        column, small = self._column(brought, body)
        coefficient = product.coefficient
        for factor in brought:
            del product.factors[factor]
        product.coefficient = 1.0
        weight = self.shown(product, body)
        if weight.waits:
            raise UnfusableError("a tile value that needs another reduction's result needs a second sweep")
        if not all(self.varies(term) or is_finite(term) for term in product.cancelled):
            raise UnfusableError("an exponent in which something cancels that may be infinite")
        total = self._accumulated(weight, column, small)
        return elements.multiply(total, elements.constant(coefficient, body.dtype))

    def is_tile(self, scalar: Scalar) -> bool:
        """Whether it is a value of a row and a column, without a small axis."""
        return self.sweep.pair <= scalar.axes and not self._small(scalar)

    def shown(self, product: HidingProduct, like: Scalar) -> Scalar:
        """A product put together, its conditions outside."""
        elements = self.elements
        value = self.power(product.coefficient, product.factors, like)
        if product.exponent:
            value = elements.multiply(value, elements.apply("exp", like.dtype, self.linear(product.exponent, like)))
        zero = elements.constant(0.0, like.dtype)
        for condition in sorted(product.conditions, key=lambda each: each.number):
            value = elements.apply("where", like.dtype, condition, value, zero)
        return value

    def _accumulated(self, weight: Scalar, column: Scalar, small: Axis | None) -> Scalar:
        if not self.of_columns:
            return self.accumulate(None, weight, column, small)
        accumulator = Accumulator(None, weight, column, small, of_columns=True)
        if accumulator not in self.sweep.accumulators:
            self.sweep.accumulators.append(accumulator)
        found = self.elements.make("accumulator", (), weight.dtype, accumulator)
        found.axes = frozenset({self.sweep.columns, *self.sweep.batch} | ({small} if small is not None else set()))
        return found

    def _column(self, factors: dict[Scalar, int], body: Scalar) -> tuple[Scalar, Axis | None]:  # type: ignore[override]
        if not self.of_columns:
            return super()._column(factors, body)
        row = self.power(1.0, factors, body)
        axes = self._small(row)
        if len(axes) != 1 or self.sweep.columns in row.axes:
            raise UnfusableError("what a row brings to a sum over rows has one axis of its own")
        return row, next(iter(axes))
