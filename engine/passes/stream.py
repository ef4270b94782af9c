"""Streaming: reductions over columns become accumulators of one sweep.

The rules, for a sum over columns j of a product (Milakov 2018, arXiv:1805.02867; Dao 2022,
arXiv:2205.14135, for the stabilised sum; here for any product):

* factors that do not vary over j leave the sum;
* of the exponent, the part R without j leaves too; the part T with j is a *group*: the sum becomes
  ``exp(R + max T) * acc(T, X, G)`` with a running maximum, X the tile factors and G the column factors;
* a sum of such terms is distributed, if its parts are normalised differently;
* ``lse`` is ``R + max T + log acc(T, 1, 1)``: a softmax then cancels to ``acc(T, 1, V) / acc(T, 1, 1)``.
"""

from collections.abc import Mapping

from ..ir import UnfusableError
from ..kernel import Axis, Elements, Scalar, below
from ..sweep import Accumulator, Sweep
from ..types import is_float

Linear = dict[Scalar, float]


class Product:
    """``coefficient * product of factor ** power * exp(exponent)``."""

    def __init__(self, scalar: Scalar, one: Scalar) -> None:
        self.one = one
        self.coefficient = 1.0
        self.factors: dict[Scalar, int] = {}
        self.exponent: Linear = {}
        self._put(scalar, 1)

    def _put(self, scalar: Scalar, power: int) -> None:
        stack = [(scalar, power)]
        while stack:
            each, times = stack.pop()
            if each.op == "multiply":
                stack += [(each.args[0], times), (each.args[1], times)]
            elif each.op in ("divide", "safe_divide"):
                stack += [(each.args[0], times), (each.args[1], -times)]
            elif each.op == "negative":
                self.coefficient = -self.coefficient
                stack.append((each.args[0], times))
            elif each.op == "square":
                stack.append((each.args[0], 2 * times))
            elif each.is_constant and (each.attribute != 0 or times > 0):
                self.coefficient *= float(each.attribute) ** times
            elif each.op == "exp":
                add_linear(self.exponent, each.args[0], float(times))
            else:
                self.factors[each] = self.factors.get(each, 0) + times
                if self.factors[each] == 0:
                    del self.factors[each]
        # exp(-log a) is 1/a: so that a softmax's normaliser divides instead of cancelling in an exponent.
        for term in [term for term, times in self.exponent.items() if term.op == "log" and times in (1.0, -1.0)]:
            self._put(term.args[0], int(self.exponent.pop(term)))


def add_linear(into: Linear, scalar: Scalar, times: float) -> None:
    """Add ``times * scalar``, taken apart into its terms."""
    stack = [(scalar, times)]
    while stack:
        each, factor = stack.pop()
        if each.op in ("add", "subtract"):
            stack += [(each.args[0], factor), (each.args[1], factor if each.op == "add" else -factor)]
        elif each.op == "negative":
            stack.append((each.args[0], -factor))
        elif each.op == "multiply" and each.args[1].is_constant:
            stack.append((each.args[0], factor * each.args[1].attribute))
        elif each.op == "multiply" and each.args[0].is_constant:
            stack.append((each.args[1], factor * each.args[0].attribute))
        elif each.op == "divide" and each.args[1].is_constant and each.args[1].attribute != 0:
            stack.append((each.args[0], factor / each.args[1].attribute))
        else:
            into[each] = into.get(each, 0.0) + factor
            if into[each] == 0:
                del into[each]


class Streaming:
    """Rewrites element expressions so that every reduction over the columns is an accumulator."""

    def __init__(self, elements: Elements, sweep: Sweep) -> None:
        self.elements, self.sweep = elements, sweep
        self.column_index = elements.index(sweep.columns)
        self.outer: frozenset[Axis] = frozenset()

    def rewrite(self, roots: list[Scalar]) -> list[Scalar]:
        """The expressions over rows and accumulators.

        Raises:
            UnfusableError: If a part is not of the form that a sweep can compute.
        """
        self.outer = frozenset({self.sweep.rows, *self.sweep.batch}.union(*(root.axes for root in roots)))
        memo: dict[Scalar, Scalar] = {}
        for scalar in below(roots):
            args = tuple(memo[each] for each in scalar.args)
            same = scalar if args == scalar.args else self.elements.rebuild(scalar, args)
            self.elements.descends(same, scalar)
            memo[scalar] = self._reduced(same) if self._streams(scalar) else same
        return [self._tidied(memo[root]) for root in roots]

    def _streams(self, scalar: Scalar) -> bool:
        # What varies over a further axis is inside another reduction: a contraction within the tile.
        if scalar.op != "reduce" or not scalar.axes <= self.outer:
            return False
        return bool(scalar.attribute[1].length == self.sweep.columns.length) and self.sweep.rows in scalar.axes

    def _reduced(self, scalar: Scalar) -> Scalar:
        kind, axis = scalar.attribute
        (body,) = self.elements.substitute(scalar.args, {self.elements.index(axis): self.column_index})
        if kind == "sum":
            return self._sum(body)
        terms: Linear = {}
        add_linear(terms, body, 1.0)
        rows = {term: times for term, times in terms.items() if not self.varies(term)}
        group = self.linear({term: times for term, times in terms.items() if term not in rows}, body)
        if self._needs_result(group):
            raise UnfusableError(f"a {kind} over columns of what another one normalises needs a second sweep")
        total = self.maximum(group)
        if kind == "lse":
            one = self.one(body)
            log = self.elements.apply("log", body.dtype, self.accumulate(group, one, one, None))
            total = self.elements.add(total, log)
        return self.elements.add(self.linear(rows, body), total) if rows else total

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

    def _needs_result(self, scalar: Scalar) -> bool:
        return any(each.op in ("accumulator", "maximum_of") for each in below([scalar]))

    def _sum(self, body: Scalar) -> Scalar:
        product = Product(body, self.one(body))
        for factor, power in product.factors.items():
            if power == 1 and factor.op in ("add", "subtract") and self.varies(factor) and self._needs_result(factor):
                return self._distributed(product, factor, body)
        rows = {f: p for f, p in product.factors.items() if not self.varies(f)}
        tiles = {f: p for f, p in product.factors.items() if self.varies(f) and not self._small(f)}
        columns = {f: p for f, p in product.factors.items() if self.varies(f) and self._small(f)}
        exponent_rows = {t: c for t, c in product.exponent.items() if not self.varies(t)}
        exponent_tile = {t: c for t, c in product.exponent.items() if self.varies(t)}
        column, small = self._column(columns, body)
        weight = self.power(1.0, tiles, body)
        if self._needs_result(weight) or any(self._needs_result(term) for term in exponent_tile):
            raise UnfusableError("a tile value that needs another reduction's result needs a second sweep")
        group = self.linear(exponent_tile, body) if exponent_tile else None
        if group is not None:
            add_linear(exponent_rows, self.maximum(group), 1.0)
        accumulator = self.accumulate(group, weight, column, small)
        rows[accumulator] = rows.get(accumulator, 0) + 1
        result = self.power(product.coefficient, rows, body)
        if exponent_rows:
            scale = self.elements.apply("exp", body.dtype, self.linear(exponent_rows, body))
            result = self.elements.multiply(result, scale)
        return self._tidied(result)

    def _distributed(self, product: Product, factor: Scalar, body: Scalar) -> Scalar:
        """``(P1 - c * P2) * V`` as two sums: each has a normaliser of its own."""
        rest = self.power(product.coefficient, {f: p for f, p in product.factors.items() if f is not factor}, body)
        if product.exponent:
            rest = self.elements.multiply(
                rest, self.elements.apply("exp", body.dtype, self.linear(product.exponent, body))
            )
        left, right = (self._sum(self.elements.multiply(term, rest)) for term in factor.args)
        return self.elements.apply(factor.op, body.dtype, left, right)

    def _small(self, scalar: Scalar) -> frozenset[Axis]:
        return scalar.axes - {self.sweep.rows, self.sweep.columns, *self.sweep.batch}

    def _column(self, factors: Mapping[Scalar, int], body: Scalar) -> tuple[Scalar, Axis | None]:
        column = self.power(1.0, factors, body)
        axes = self._small(column)
        if len(axes) > 1 or self.sweep.rows in column.axes:
            raise UnfusableError("a value that varies over rows, columns and a further axis at once")
        return column, next(iter(axes), None)

    def _tidied(self, scalar: Scalar) -> Scalar:
        """Exponents that cancel, cancelled; division by an accumulator that is 0 for an empty row gives 0."""
        if not is_float(scalar.dtype) or scalar.op not in ("multiply", "divide", "exp"):
            return scalar
        product = Product(scalar, self.one(scalar))
        result = self.power(product.coefficient, product.factors, scalar)
        if product.exponent:
            scale = self.elements.apply("exp", scalar.dtype, self.linear(product.exponent, scalar))
            result = self.elements.multiply(result, scale)
        return result

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
        """``sum of coefficient * term``."""
        result: Scalar | None = None
        for term, times in sorted(terms.items(), key=lambda item: item[0].number):
            magnitude = self.elements.multiply(term, self.elements.constant(abs(times), like.dtype))
            if result is None:
                result = magnitude if times > 0 else self.elements.apply("negative", like.dtype, magnitude)
            else:
                result = self.elements.apply("add" if times > 0 else "subtract", like.dtype, result, magnitude)
        return self.elements.constant(0.0, like.dtype) if result is None else result
