"""Products and sums of scalars, taken apart: the normal forms in which streaming looks for its parts."""

from collections.abc import Callable

from ..scalar import Axis, Scalar

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
            elif each.is_constant and (each.attribute != 0 or times > 0):
                self.coefficient *= float(each.attribute) ** times
            elif each.op == "exp":
                add_linear(self.exponent, each.args[0], float(times))
            else:
                self._multiply(each, times)
        # exp(-log a) is 1/a: so that a softmax's normaliser divides instead of cancelling in an exponent.
        logs = [term for term, times in self.exponent.items() if term.op == "log" and times in (1.0, -1.0)]
        for term in logs:
            if self.streamed not in term.axes:
                self._put(term.args[0], int(self.exponent.pop(term)))

    def _multiply(self, factor: Scalar, times: int) -> None:
        self.factors[factor] = self.factors.get(factor, 0) + times
        if self.factors[factor] == 0:
            del self.factors[factor]


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
