"""Streaming: reductions over columns become accumulators of one sweep.

The rules, for a sum over columns j of a product (Milakov 2018, arXiv:1805.02867; Dao 2022,
arXiv:2205.14135, for the stabilised sum; here for any product):

* factors that do not vary over j leave the sum;
* what varies over rows, columns and a small axis stays one body (`pair_body`), and is never distributed;
* of the exponent, the part R without j leaves too; the part T with j is a *group*: the sum becomes
  ``exp(R + max T) * acc(T, X, G)`` with a running maximum, X the tile factors and G the column factors;
* a sum of such terms is distributed, if its parts are normalised differently;
* ``lse`` is ``R + max T + log acc(T, 1, 1)``: a softmax then cancels to ``acc(T, 1, V) / acc(T, 1, 1)``;
* where T is a logarithm, ``exp(T)`` is its operand, ``exp(-T)`` that one's inverse: a factor X, and no group.
"""

import math
from collections.abc import Iterable, Mapping

from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..scalar import Axis, Scalar, below
from ..sweep import Accumulator, Sweep
from ..types import BOOL, is_float
from .expand import Expansion
from .logarithms import of_logarithm
from .normal import normalized
from .pair_body import brought_along_small, is_paired, pair_parts, small_axes
from .product import Linear, Product, add_linear
from .rows import FEW_ROWS
from .separate import separated
from .totals import over_largest, total_in

# Times that a rounding error of a logarithm may be multiplied in an exponent.
_FEW_TIMES = 4.0


class Streaming:
    """Rewrites element expressions so that every reduction over the columns is an accumulator."""

    def __init__(self, elements: Elements, sweep: Sweep) -> None:
        self.elements, self.sweep = elements, sweep
        self.column_index = elements.index(sweep.columns)
        self.outer: frozenset[Axis] = frozenset()
        # Terms of rows in exponents, and the sign with which they stand there: None for both.
        self._signs: dict[Scalar, float | None] = {}
        # What reductions have become, and whose elements they are: stored, those are there before the next sweep.
        self._made: dict[Scalar, Node] = {}

    def rewrite(self, roots: list[Scalar]) -> list[Scalar]:
        """The expressions over rows and accumulators.

        Raises:
            UnfusableError: If a part is not of the form that a sweep can compute.
        """
        self.outer = frozenset({self.sweep.rows, *self.sweep.batch}.union(*(root.axes for root in roots)))
        roots = normalized(self.elements, roots)
        length = self.sweep.columns.length
        roots = Expansion(self.elements, self.sweep.rows, self.outer, length).rewrite(roots)
        memo: dict[Scalar, Scalar] = {}
        for scalar in below(roots):
            args = tuple([memo[each] for each in scalar.args])
            same = scalar
            if args != scalar.args:
                same = self.elements.rebuild(scalar, args)
                self.elements.descends(same, scalar)
            memo[scalar] = same
            if self._streams(scalar):
                result = memo[scalar] = self._reduced(same)
                origin = self.elements.origin.get(scalar) or self.elements.origin.get(same)
                if origin is not None:
                    self._made.setdefault(result, origin)
        return [self._tidied(memo[root]) for root in roots]

    def _streams(self, scalar: Scalar) -> bool:
        # What varies over a further axis is inside another reduction: a contraction within the tile.
        if scalar.op != "reduce" or not scalar.axes <= self.outer:
            return False
        streams = bool(scalar.attribute[1].length == self.sweep.columns.length)
        return streams and (self.sweep.rows.length == 1 or self.sweep.rows in scalar.axes)

    def _reduced(self, scalar: Scalar) -> Scalar:
        kind, axis = scalar.attribute
        (body,) = self.elements.substitute(scalar.args, {self.elements.index(axis): self.column_index})
        if kind == "sum":
            return self._sum(separated(self.elements, body, self.sweep))
        terms: Linear = {}
        add_linear(terms, body, 1.0, self.sweep.columns)
        rows = {term: times for term, times in terms.items() if not self.varies(term)}
        tile = {term: times for term, times in terms.items() if term not in rows}
        if any(term.waits for term in tile):
            raise self.waiting(tile, f"a {kind} over columns of what another one normalises")
        for term, times in rows.items():
            sign = math.copysign(1.0, times)
            self._signs[term] = sign if self._signs.get(term, sign) == sign else None
        total = self._over(kind, tile, body)
        return self.elements.add(self.linear(rows, body), total) if rows else total

    def _over(self, kind: str, tile: Linear, body: Scalar) -> Scalar:
        if kind == "max":
            return self.maximum(self._group(tile, body))
        if kind == "shift":
            group, _ = self._exponential(tile, body)
            return self.elements.constant(0.0, body.dtype) if group is None else self.maximum(group)
        return self._log_of_sum(tile, body)

    def _log_of_sum(self, tile: Linear, body: Scalar) -> Scalar:
        group, weight = self._exponential(tile, body)
        accumulator = self.accumulate(group, weight, self.one(body), None)
        log = self.elements.apply("log", body.dtype, accumulator)
        return log if group is None else self.elements.add(self.maximum(group), log)

    def _exponential(self, tile: Linear, body: Scalar) -> tuple[Scalar | None, Scalar]:
        """``exp`` of a tile value: a group and a factor, one of which is nothing.

        A logarithm alone needs no maximum: what it was taken of is a number, and so is that one's inverse.
        """
        if len(tile) == 1:
            ((term, times),) = tile.items()
            factor = of_logarithm(self.elements, term, times, self.sweep.columns)
            if factor is not None:
                return None, factor
        return self._group(tile, body), self.one(body)

    def _group(self, tile: Linear, body: Scalar) -> Scalar:
        """An exponent, of which the absolute error counts alone: there ``log(1 + x)`` will do for ``log1p(x)``."""
        terms: Linear = {}
        for term, times in tile.items():
            if term.op == "log1p" and abs(times) <= _FEW_TIMES:
                inner = self.elements.add(term.args[0], self.one(term))
                term = self.elements.apply("log", term.dtype, inner)
            terms[term] = times
        return self.linear(terms, body)

    def varies(self, scalar: Scalar) -> bool:
        """Whether it varies over the columns."""
        return self.sweep.columns in scalar.axes

    def one(self, like: Scalar) -> Scalar:
        """1 of the same type."""
        return self.elements.constant(1.0, like.dtype)

    def maximum(self, group: Scalar) -> Scalar:
        """The largest of a group over the columns, when the sweep has ended."""
        if group not in self.sweep.groups:
            self.sweep.groups.append(group)
        return self._result("maximum_of", group, group, None)

    def accumulate(self, group: Scalar | None, weight: Scalar, column: Scalar, small: Axis | None) -> Scalar:
        """The accumulator's value, when the sweep has ended."""
        accumulator = Accumulator(group, weight, column, small)
        if accumulator not in self.sweep.accumulators:
            self.sweep.accumulators.append(accumulator)
        return self._result("accumulator", weight if group is None else group, accumulator, small)

    def _result(self, op: str, like: Scalar, attribute: object, small: Axis | None) -> Scalar:
        found = self.elements.make(op, (), like.dtype, attribute)
        found.axes = frozenset({self.sweep.rows, *self.sweep.batch} | ({small} if small is not None else set()))
        return found

    def _sum(self, body: Scalar) -> Scalar:
        product = Product(body, self.sweep.columns, self._of_columns)
        for factor, power in product.factors.items():
            if power == 1 and factor.op in ("add", "subtract") and self.varies(factor) and factor.waits:
                freed = separated(self.elements, body, self.sweep, tiles=True)
                # What waits may be a factor of all terms, and leave.
                return self._distributed(product, factor, body) if freed is body else self._sum(freed)
        columns, _ = brought_along_small(product.factors, self.sweep, self.sweep.columns)
        rows = {f: p for f, p in product.factors.items() if not self.varies(f) and f not in columns}
        tiles = {f: p for f, p in product.factors.items() if self.varies(f) and f not in columns}
        exponent_rows = {t: c for t, c in product.exponent.items() if not self.varies(t)}
        exponent_tile = {t: c for t, c in product.exponent.items() if self.varies(t)}
        mixed = next((f for f, p in columns.items() if p == 1 and self._is_mixed(f)), None)
        if mixed is not None:
            return self._distributed(product, mixed, body)
        column, small = self._column(columns, body)
        weight = self.power(1.0, tiles, body)
        if weight.waits or any(term.waits for term in exponent_tile):
            raise self.waiting([weight, *exponent_tile], "a tile value that needs another reduction's result")
        group: Scalar | None = None
        if exponent_tile:
            group, factor = self._exponential(exponent_tile, body)
            weight = self.elements.multiply(weight, factor)
        if group is not None:
            add_linear(exponent_rows, self.maximum(group), 1.0, self.sweep.columns)
        accumulator = self.accumulate(group, weight, column, small)
        rows[accumulator] = rows.get(accumulator, 0) + 1
        result = self.product(product.coefficient, rows, exponent_rows, body)
        return self._weighed(self._tidied(result), product)

    def waiting(self, tiles: Iterable[Scalar], reason: str) -> UnfusableError:
        """Of tiles that wait for a result of the same sweep: which node has to be stored by one before."""
        error = UnfusableError(f"{reason}: that needs a second sweep")
        awaited = _ended(tiles)
        results = [each for each in self._made if awaited & _ended([each])]
        error.node = self._made[max(results, key=lambda each: each.number)] if results else None
        return error

    def _weighed(self, result: Scalar, product: Product) -> Scalar:
        """A result where what cancelled in its exponents is finite; elsewhere what ``exp(term - term)`` makes of it.

        A row whose scores are all -inf has no weights, though their sum cancels: so in a softmax, the exponent of
        which says what sign a term has. Nothing but a normaliser that is no number counts there.
        """
        elements, dtype = self.elements, result.dtype
        normalisers = [each for each, power in product.factors.items() if each.op == "accumulator" and power < 0]
        for term in product.cancelled:
            looks = any(each.op == "inside" for each in below([term]))  # at an index, which is to be seen still
            if self.varies(term) or (is_finite(term) and not looks):
                continue
            sign, otherwise = self._signs.get(term), elements.multiply(result, elements.constant(math.nan, dtype))
            if sign is not None:
                hidden = elements.apply("equal", BOOL, term, elements.constant(-sign * math.inf, dtype))
                zero = elements.constant(0.0, dtype)
                nothing = elements.apply("multiply", dtype, normalisers[0] if normalisers else result, zero)
                otherwise = elements.apply("where", dtype, hidden, nothing, otherwise)
            size = elements.apply("abs", dtype, term)
            finite = elements.apply("less", BOOL, size, elements.constant(math.inf, dtype))
            result = elements.apply("where", dtype, finite, result, otherwise)
        return result

    def _distributed(self, product: Product, factor: Scalar, body: Scalar) -> Scalar:
        """``(P1 - c * P2) * V`` as two sums: each has a normaliser of its own."""
        others = {f: p for f, p in product.factors.items() if f is not factor}
        rest = self.product(product.coefficient, others, product.exponent, body)
        left, right = (self._sum(self.elements.multiply(term, rest)) for term in factor.args)
        return self.elements.apply(factor.op, body.dtype, left, right)

    def _of_columns(self, scalar: Scalar) -> bool:
        """Whether columns bring it whole, along a small axis: then it can be a node's, and stored as that.

        For few rows nothing is: a factor of a column alone, as the scale of quantized values, is one of their weights.
        """
        if self.sweep.rows in scalar.axes or self.sweep.rows.length <= FEW_ROWS or not self._small(scalar):
            return False
        return self.varies(scalar) and not any(each.is_constant for each in scalar.args)

    def _small(self, scalar: Scalar) -> frozenset[Axis]:
        return small_axes(scalar, self.sweep)

    def _is_mixed(self, factor: Scalar) -> bool:
        """Whether it is a sum of weights times bodies, that is several sums."""
        if factor.op not in ("add", "subtract") or not is_paired(factor, self.sweep):
            return False
        return any(self.sweep.pair <= each.axes and not self._small(each) for each in below([factor]))

    def _column(self, factors: Mapping[Scalar, int], body: Scalar) -> tuple[Scalar, Axis | None]:
        column = self.power(1.0, factors, body)
        axes = self._small(column)
        if len(axes) > 1:
            raise UnfusableError("what is brought to a sum over columns has one axis of its own")
        small = next(iter(axes), None)
        if small is not None and is_paired(column, self.sweep):
            pair_parts(column, self.sweep, small)  # if it can be taken apart
        return column, small

    def _tidied(self, scalar: Scalar) -> Scalar:
        """Exponents that cancel, cancelled; division by an accumulator that is 0 for an empty row gives 0."""
        if not is_float(scalar.dtype) or scalar.op not in ("multiply", "divide", "exp"):
            return scalar
        product = Product(scalar, self.sweep.columns, self._of_columns)
        result = self.product(product.coefficient, product.factors, product.exponent, scalar)
        return self._weighed(result, product)

    def product(self, coefficient: float, factors: Mapping[Scalar, int], exponent: Linear, like: Scalar) -> Scalar:
        """``coefficient * product of factor ** power * exp(exponent)``."""
        result, total = self.power(coefficient, factors, like), total_in(exponent)
        if total is not None:
            exponent, divisor = over_largest(self, exponent, total, like)
            result = self.elements.apply("safe_divide", like.dtype, result, divisor)
        if not exponent:
            return result
        return self.elements.multiply(result, self.elements.apply("exp", like.dtype, self.linear(exponent, like)))

    def power(self, coefficient: float, factors: Mapping[Scalar, int], like: Scalar) -> Scalar:
        """``coefficient * product of factor ** power``."""
        result = self.elements.constant(coefficient, like.dtype)
        ordered = sorted(factors.items(), key=lambda item: item[0].number)
        for factor, times in ordered:
            for _ in range(max(times, 0)):
                result = self.elements.multiply(result, factor)
        for factor, times in ordered:
            divides = "safe_divide" if factor.op == "accumulator" else "divide"
            for _ in range(max(-times, 0)):
                result = self.elements.apply(divides, like.dtype, result, factor)
        return result

    def linear(self, terms: Linear, like: Scalar) -> Scalar:
        """``sum of coefficient * term``; terms of one coefficient are added first, and multiplied once."""
        by_size: dict[float, list[tuple[Scalar, bool]]] = {}
        for term, times in sorted(terms.items(), key=lambda item: item[0].number):
            by_size.setdefault(abs(times), []).append((term, times > 0))
        result: Scalar | None = None
        for size, signed in by_size.items():
            total, positive = self._signed_sum(signed, like)
            total = self.elements.multiply(total, self.elements.constant(size, like.dtype))
            if result is None:
                result = total if positive else self.elements.apply("negative", like.dtype, total)
            else:
                result = self.elements.apply("add" if positive else "subtract", like.dtype, result, total)
        return self.elements.constant(0.0, like.dtype) if result is None else result

    def _signed_sum(self, terms: list[tuple[Scalar, bool]], like: Scalar) -> tuple[Scalar, bool]:
        """A sum of terms, each with its sign, and the sum's own: above 0, if a term's is.

        What a mask hides, -inf, is subtracted from nothing then: infinity less infinity would be there.
        """
        leading = next((each for each in terms if each[1]), terms[0])
        (total, positive), *others = leading, *(each for each in terms if each is not leading)
        for term, sign in others:
            total = self.elements.apply("add" if sign == positive else "subtract", like.dtype, total, term)
        return total, positive


def _ended(scalars: Iterable[Scalar]) -> set[Scalar]:
    """What is known only when the columns have ended."""
    return {each for each in below([*scalars]) if each.op in ("accumulator", "maximum_of")}


def is_finite(term: Scalar) -> bool:
    """Whether it is a number for certain: arithmetic on whole numbers, or what a sweep itself looks at."""
    if term.is_constant:
        return math.isfinite(term.attribute)
    if term.op in ("maximum_of", "accumulator") or not is_float(term.dtype):
        return True
    if term.op == "astype":
        return is_finite(term.args[0])
    if term.op == "log":
        return term.args[0].op == "accumulator"
    return term.op in ("add", "subtract", "multiply", "negative", "tanh") and all(map(is_finite, term.args))
