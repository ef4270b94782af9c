"""Small reductions inside a tile: what is left of them are contractions, one level deep.

A contraction sums a function of a row's and a column's element over one small axis. Other small reductions
are written out, so that no array over pairs and a small axis is ever needed:

* a reduction within a reduction: both, if that makes few terms (points of three coordinates), else the
  shorter: a sum of contractions, or one contraction whose terms are longer;
* a maximum, and a logarithm of a sum of exponentials, of few terms;
* a sum of few terms of an array that is indexed by row, column and the small axis.

Factors that do not vary over the contracted axis leave the sum.
"""

from ..ir import UnfusableError
from ..kernel import Elements
from ..lengths import estimate
from ..scalar import Axis, Scalar, below
from ..types import is_float

# As many terms as this are written out at once: quicker than a loop of a few rounds.
QUICK = 16
# More terms than this are not written out, for code grows with each of them.
MOST_TERMS = 64
# Contractions beside each other, or terms within one: each is a loop, or makes one longer.
MOST_CONTRACTED = 16
# Values that all terms of one reduction may come to: code that is compiled in a fraction of a second.
MOST_WRITTEN = 512

_STEPS = {"max": "maximum", "sum": "add", "lse": "logaddexp"}


class Expansion:
    """Rewrites the reductions within the tiles of one sweep.

    Args:
        elements: Makes the scalars.
        rows: The axis of rows.
        outer: The axes that a sweep's results may vary over.
        columns: How many columns are streamed.
    """

    def __init__(self, elements: Elements, rows: Axis, outer: frozenset[Axis], columns: int) -> None:
        self.elements, self.rows, self.outer, self.columns = elements, rows, outer, columns
        self.streamed: frozenset[Axis] = frozenset()

    def rewrite(self, roots: list[Scalar]) -> list[Scalar]:
        """The expressions with the reductions within tiles written out or made plain.

        Raises:
            UnfusableError: For one that would be too long; it names the node, which can be stored.
        """
        everything = below(roots)
        reductions = [each for each in everything if each.op == "reduce"]
        streams = [each for each in reductions if each.axes <= self.outer and each.attribute[1].length == self.columns]
        self.streamed = frozenset(each.attribute[1] for each in streams)
        if not any(map(self._in_tile, reductions)):
            return roots
        memo: dict[Scalar, Scalar] = {}
        for scalar in everything:
            args = tuple([memo[each] for each in scalar.args])
            same = scalar if args == scalar.args else self.elements.rebuild(scalar, args)
            self.elements.descends(same, scalar)
            if same.op == "reduce" and self._in_tile(same):
                same = self._plain_or_stored(same)
                self.elements.descends(same, scalar)
            memo[scalar] = same
        return [memo[root] for root in roots]

    def _in_tile(self, scalar: Scalar) -> bool:
        return (self.rows.length == 1 or self.rows in scalar.axes) and not self.streamed.isdisjoint(scalar.axes)

    def _plain_or_stored(self, scalar: Scalar) -> Scalar:
        try:
            return self._plain(scalar)
        except UnfusableError as reason:
            reason.node = reason.node or self.elements.origin.get(scalar)
            raise

    def _plain(self, scalar: Scalar) -> Scalar:
        kind, axis = scalar.attribute
        (body,) = scalar.args
        if axis.length == 1:
            return body
        inner = self._inner(body, axis)
        length, longest = estimate(axis.length), max([estimate(each.attribute[1].length) for each in inner], default=1)
        if not inner and kind == "sum" and not self._pairs_bring(body, axis):
            return self._without_factors(scalar)
        if length * longest <= QUICK:
            return self._written_out(kind, axis, self._all_written_out(body, inner))
        if length <= min(longest, MOST_CONTRACTED):
            return self._written_out(kind, axis, body)
        if kind == "sum" and inner and longest <= MOST_CONTRACTED:
            return self.elements.reduce(kind, axis, self._all_written_out(body, inner))
        # Of a single row, what does not fit is stored: that is one value of a column.
        if length * longest <= MOST_TERMS and self.rows.length > 1:
            return self._written_out(kind, axis, self._all_written_out(body, inner))
        raise UnfusableError(f"a {kind} over {length} places that no contraction computes")

    def _inner(self, body: Scalar, axis: Axis) -> list[Scalar]:
        """Reductions within the body of another one that vary with its index."""
        reductions = [each for each in below([body]) if each.op == "reduce"] if body.height else []
        return [each for each in reductions if axis in each.axes and self._in_tile(each)]

    def _pairs_bring(self, body: Scalar, axis: Axis) -> bool:
        """Whether an array holds something for each row, column and place along the axis: a table of vectors, say."""
        if self.rows.length == 1:  # what a column brings
            return False
        return any(each.op == "load" and axis in each.axes and self._in_tile(each) for each in below([body]))

    def _all_written_out(self, body: Scalar, inner: list[Scalar]) -> Scalar:
        found = {each: self._written_out(each.attribute[0], each.attribute[1], each.args[0]) for each in inner}
        return self.elements.substitute([body], found)[0]

    def _written_out(self, kind: str, axis: Axis, body: Scalar) -> Scalar:
        """One term for each index.

        Raises:
            UnfusableError: If that would be too much code.
        """
        elements = self.elements
        index = elements.index(axis)
        varying = sum(axis in each.axes for each in below([body]))
        if varying * int(axis.length) > MOST_WRITTEN:
            raise UnfusableError(f"a {kind} over {axis.length} places of {varying} values each, too long to write out")
        terms = [elements.substitute([body], {index: elements.constant(at)})[0] for at in range(int(axis.length))]
        result = terms[0]
        for term in terms[1:]:
            result = elements.apply(_STEPS[kind], body.dtype, result, term)
        return result

    def _without_factors(self, scalar: Scalar) -> Scalar:
        """Of a product, factors that do not vary over the axis before the sum; the rest by rows and by columns."""
        kind, axis = scalar.attribute
        inside: list[Scalar] = []
        outside: list[tuple[Scalar, bool]] = []
        for factor, divides in _factors(scalar.args[0], axis):
            if axis in factor.axes:
                inside.append(factor)
            else:
                outside.append((factor, divides))
        if not outside:
            return scalar
        # What rows bring first, so that it is one value of a row.
        inside.sort(key=lambda factor: not self.streamed.isdisjoint(factor.axes))
        result = self.elements.reduce(kind, axis, self._product(inside, scalar))
        return self._scaled(result, outside, scalar)

    def _scaled(self, sum_: Scalar, outside: list[tuple[Scalar, bool]], like: Scalar) -> Scalar:
        """The sum times factors: those of rows together, for a block of rows computes them once."""
        elements = self.elements
        of_rows = elements.constant(1.0, like.dtype)
        for factor, divides in outside:
            if self.streamed.isdisjoint(factor.axes) and not factor.is_constant:
                of_rows = elements.apply("divide" if divides else "multiply", like.dtype, of_rows, factor)
            else:
                sum_ = elements.apply("divide" if divides else "multiply", like.dtype, sum_, factor)
        return elements.multiply(sum_, of_rows)

    def _product(self, factors: list[Scalar], like: Scalar) -> Scalar:
        result, *others = factors or [self.elements.constant(1.0, like.dtype)]
        for factor in others:
            result = self.elements.multiply(result, factor)
        return result


def _factors(body: Scalar, axis: Axis) -> list[tuple[Scalar, bool]]:
    """The factors of a product of floats, and whether they divide; a divisor that varies over the axis stays."""
    found: list[tuple[Scalar, bool]] = []
    stack = [body]
    while stack:
        each = stack.pop()
        if each.op == "multiply" and is_float(each.dtype):
            stack += (each.args[1], each.args[0])
        elif each.op == "divide" and axis not in each.args[1].axes:
            found.append((each.args[1], True))
            stack.append(each.args[0])
        else:
            found.append((each, False))
    return found
