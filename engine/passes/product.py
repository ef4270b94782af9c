"""Products and sums of scalars, taken apart: the normal forms in which streaming looks for its parts."""

import math
from collections.abc import Callable

from ..scalar import Axis, Scalar
from ..types import is_float

Linear = dict[Scalar, float]

_PRODUCTS = frozenset({"multiply", "divide", "square"})


class Product:
    """``coefficient * product of factor ** power * exp(exponent)``.

    Args:
        scalar: What to take apart.
        streamed: Logarithms in the exponent that vary over this axis stay there.
        whole: Products that are one factor.
    """

    def __init__(self, scalar: Scalar, streamed: Axis, whole: Callable[[Scalar], bool]) -> None:
        self.streamed, self.whole = streamed, whole
        self.coefficient = 1.0
        self.factors: dict[Scalar, int] = {}
        self.exponent: Linear = {}
        # Terms of the exponent that cancelled: of infinity nothing does.
        self.cancelled: dict[Scalar, None] = {}
        self._put(scalar, 1)

    def _put(self, scalar: Scalar, power: int) -> None:
        stack = [(scalar, power)]
        while stack:
            each, times = stack.pop()
            if each.op in _PRODUCTS and self.whole(each):
                self._multiply(each, times)
            elif each.op == "multiply":
                stack += [(each.args[0], times), (each.args[1], times)]
            elif each.op in ("divide", "safe_divide"):
                stack += [(each.args[0], times), (each.args[1], -times)]
            elif each.op == "negative":
                self.coefficient = -self.coefficient
                stack.append((each.args[0], times))
            elif each.op == "square":
                stack.append((each.args[0], 2 * times))
            elif each.op == "add" and each.args[0] is each.args[1]:
                self.coefficient *= 2.0**times
                stack.append((each.args[0], times))
            elif each.is_constant and (each.attribute != 0 or times > 0):
                self.coefficient *= float(each.attribute) ** times
            elif each.op == "exp":
                self._raise(each.args[0], float(times))
            else:
                self._multiply(each, times)
        # exp(-log a) is 1/a: so that a softmax's normaliser divides instead of cancelling in an exponent.
        logs = [term for term, times in self.exponent.items() if term.op == "log" and times in (1.0, -1.0)]
        for term in logs:
            if self.streamed not in term.axes:
                self._put(term.args[0], int(self.exponent.pop(term)))

    def _raise(self, scalar: Scalar, times: float) -> None:
        """Add to the exponent."""
        terms: Linear = {}
        add_linear(terms, scalar, times, self.streamed, self.cancelled)
        for term, factor in terms.items():
            self.exponent[term] = self.exponent.get(term, 0.0) + factor
            if factor != 0 and self.exponent[term] == 0:
                del self.exponent[term]
                self.cancelled[term] = None

    def _multiply(self, factor: Scalar, times: int) -> None:
        self.factors[factor] = self.factors.get(factor, 0) + times
        if self.factors[factor] == 0:
            del self.factors[factor]


def add_linear(
    into: Linear, scalar: Scalar, times: float, streamed: Axis, cancelled: dict[Scalar, None] | None = None
) -> None:
    """Add ``times * scalar``, taken apart into its terms.

    Args:
        into: What it is added to.
        scalar: What to take apart.
        times: Its factor.
        streamed: A term that varies over this axis stays even if it cancels, with 0 times: it may be infinite.
        cancelled: Filled with the other terms that cancel.
    """
    if scalar.op in ("add", "subtract") and scalar.waits:  # a result is no part of what may be infinite less infinity
        add_linear(into, scalar.args[0], times, streamed, cancelled)
        add_linear(into, scalar.args[1], times if scalar.op == "add" else -times, streamed, cancelled)
        return
    stack = [(scalar, times)]
    while stack:
        each, factor = stack.pop()
        if each.op in ("add", "subtract"):
            stack += [(each.args[0], factor), (each.args[1], factor if each.op == "add" else -factor)]
        elif each.op == "negative":
            stack.append((each.args[0], -factor))
        elif each.op == "multiply" and _is_number(each.args[1]):
            stack.append((each.args[0], factor * each.args[1].attribute))
        elif each.op == "multiply" and _is_number(each.args[0]):
            stack.append((each.args[1], factor * each.args[0].attribute))
        elif each.op == "divide" and _is_number(each.args[1]) and each.args[1].attribute != 0:
            stack.append((each.args[0], factor / each.args[1].attribute))
        else:
            taken, before = each in into, into.get(each, 0.0)
            into[each] = before + factor
            if streamed in each.axes and is_float(each.dtype):
                if taken and before * factor <= 0 and each is not scalar:
                    into.setdefault(scalar, 0.0)  # infinity less infinity is NaN: so is 0 times the whole
            elif into[each] == 0:
                del into[each]
                if cancelled is not None:
                    cancelled[each] = None


def _is_number(scalar: Scalar) -> bool:
    return scalar.is_constant and math.isfinite(scalar.attribute)
