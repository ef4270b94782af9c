"""Streaming where results for columns are wanted, too: sums over rows, beside those over columns.

What is summed for a column must not depend on what the other columns have brought so far, so there is no running
maximum here: exponents stay inside the weights as they are. A backward pass has them less a saved logarithm of their
sum, so that no weight is above 1; where one overflows all the same, the results show it.

Weights hold all that does not vary over a small axis, in one order, so that sums share them; and conditions that
hide stand outside of everything else: ``exp(where(c, x, -inf) - r) * y`` is ``where(c, exp(x - r) * y, 0)``, and so
is a sum of two terms what hides both.
"""

import functools
import math
from collections.abc import Iterable, Sequence, Set

from ..ir import UnfusableError
from ..scalar import Axis, Scalar, below
from ..sweep import Accumulator
from ..types import BOOL, is_float
from .logarithms import of_logarithm
from .pair_body import brought_along_small
from .product import Linear, Product, add_linear
from .separate import separated
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

    def _sum(self, body: Scalar, *, scaled: bool = False) -> Scalar:
        elements = self.elements
        product = HidingProduct(self, separated(elements, body, self.sweep, tiles=True))
        if not all(self.varies(term) or is_finite(term) for term in product.cancelled):
            raise UnfusableError("an exponent in which something cancels that may be infinite")
        streamed = self.sweep.rows if self.of_columns else self.sweep.columns
        brought, leaving = brought_along_small(product.factors, self.sweep, streamed)
        if self.of_pairs and (brought or leaving):
            raise UnfusableError("a result of pairs that has an axis of its own")
        inside = {f: p for f, p in product.factors.items() if f not in brought and f not in leaving}
        mixed = next((f for f, p in brought.items() if p == 1 and self._is_mixed(f)), None)
        if mixed is not None:
            return self._added(product, mixed, body)
        column, small = self._column(brought, body)
        inside, exponent = self._without_logarithm(inside, product.exponent)
        weight = self._weight(inside, exponent, body)
        outside = elements.constant(product.coefficient, body.dtype)
        if scaled:
            weight, outside = elements.multiply(weight, outside), elements.constant(1.0, body.dtype)
        weight = self.shown(weight, product.conditions)
        if weight.waits:
            raise self.waiting([weight], "a tile value that needs another reduction's result")
        total = self._accumulated(weight, column, small)
        if leaving:
            total = elements.multiply(total, self.power(1.0, leaving, body))
        return elements.multiply(total, outside)

    def _added(self, product: HidingProduct, mixed: Scalar, body: Scalar) -> Scalar:
        """A sum for each term of a factor, added up; what each is multiplied by is in its weights."""
        elements, totals = self.elements, []
        others = {f: p for f, p in product.factors.items() if f is not mixed}
        rest = self.shown(self.product(product.coefficient, others, product.exponent, body), product.conditions)
        for term, times in self._terms(mixed).items():
            weighed = elements.multiply(term, elements.constant(times, term.dtype))
            total = self._sum(elements.multiply(weighed, rest), scaled=True)
            if self.of_columns and (total.op != "accumulator" or total in totals):
                raise UnfusableError("a result of columns of several sums, each multiplied by something else")
            totals.append(total)
        return functools.reduce(elements.add, totals)

    def _terms(self, mixed: Scalar) -> Linear:
        """The terms of a sum of several sums, each once: what is added to a column is added there once."""
        found: Linear = {}
        stack = [(mixed, 1.0)]
        while stack:
            each, times = stack.pop()
            if self._is_mixed(each):
                stack += [(each.args[1], times if each.op == "add" else -times), (each.args[0], times)]
            else:
                found[each] = found.get(each, 0.0) + times
        return found

    def _without_logarithm(self, factors: dict[Scalar, int], exponent: Linear) -> tuple[dict[Scalar, int], Linear]:
        """``exp(log x - r)`` as ``x * exp(-r)``, where r is of rows or columns alone: no logarithm of each pair."""
        tile = [term for term in exponent if self.is_tile(term)]
        factor = of_logarithm(self.elements, tile[0], exponent[tile[0]], self.sweep.columns) if len(tile) == 1 else None
        if factor is None:
            return factors, exponent
        rest = {term: times for term, times in exponent.items() if term is not tile[0]}
        return {**factors, factor: factors.get(factor, 0) + 1}, rest

    def _weight(self, factors: dict[Scalar, int], exponent: Linear, like: Scalar) -> Scalar:
        """A product whose parts come in an order in which weights share what they begin with.

        An exponential of pairs, and what columns multiply it by: a softmax's own weights are those. Then factors of
        pairs, those made last before others, and what rows and columns bring, one by one: an error of their product
        would be one of the whole row, and of one result more than of another that much cancels it with.
        """
        ordered = sorted(factors.items(), key=lambda item: item[0].number)
        tiles = [item for item in reversed(ordered) if self.is_tile(item[0])]
        columns = [item for item in ordered if item not in tiles and self.sweep.columns in item[0].axes]
        others = [item for item in ordered if item not in tiles and item not in columns]
        result = self.product(1.0, {}, exponent, like)
        if self.is_tile(result):
            return self._times([*columns, *tiles, *others], result, like)
        # What weights are normalised by was made last: with that as one number they begin, too.
        begun = self._times(columns[-1:], result, like)
        product = self.elements.multiply(self._times(tiles[:1], self.one(like), like), begun)
        return self._times([*tiles[1:], *columns[:-1], *others], product, like)

    def _times(self, factors: Sequence[tuple[Scalar, int]], result: Scalar, like: Scalar) -> Scalar:
        """What is multiplied by factors, or divided, as often as they say."""
        for factor, times in factors:
            for _ in range(abs(times)):
                op = "multiply" if times > 0 else "divide"
                result = self.elements.apply(op, like.dtype, result, factor)
        return result

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
            return self._kept(Accumulator(None, weight, column, None, of_pairs=True), sweep.pair | {*sweep.batch})
        if not self.of_columns:
            return self.accumulate(None, weight, column, small)
        if small is None and any(map(_compares_bits, below([weight]))):
            raise UnfusableError("a count of what is equal to a stored result, which computed anew may differ from it")
        axes = {sweep.columns, *sweep.batch} | ({small} if small is not None else set())
        return self._kept(Accumulator(None, weight, column, small, of_columns=True), axes)

    def _kept(self, accumulator: Accumulator, axes: Set[Axis]) -> Scalar:
        """What stands for an accumulator's value, which varies over these axes."""
        if accumulator not in self.sweep.accumulators:
            self.sweep.accumulators.append(accumulator)
        found = self.elements.make("accumulator", (), accumulator.weight.dtype, accumulator)
        found.axes = frozenset(axes)
        return found


def _compares_bits(scalar: Scalar) -> bool:
    """Whether floats of which one is contracted must be equal to others, and not to a number."""
    if scalar.op not in ("equal", "not_equal") or any(
        each.is_constant or not is_float(each.dtype) for each in scalar.args
    ):
        return False
    return any(each.op == "reduce" for each in below(scalar.args))
