"""Sums of exponentials with something beside them: what a sweep's results are divided by, without its logarithm."""

from typing import TYPE_CHECKING

from ..scalar import Scalar
from .product import Linear, Product

if TYPE_CHECKING:
    from .stream import Streaming


def total_in(exponent: Linear) -> Scalar | None:
    """A ``logaddexp`` of a sweep's results that is subtracted from the largest exponent, if there is one."""
    if _largest_in(exponent) is None:
        return None
    return next(
        (each for each, times in exponent.items() if each.op == "logaddexp" and each.waits and times == -1), None
    )


def over_largest(streaming: "Streaming", exponent: Linear, total: Scalar, like: Scalar) -> tuple[Linear, Scalar]:
    """An exponent without ``m - logaddexp(a, b)``, and what its exponential is divided by: ``exp(a - m) + exp(b - m)``.

    Where a is ``m + log(sum)``, that is the sum itself: m and a may be large, and their difference rounded.
    """
    elements, largest = streaming.elements, _largest_in(exponent)
    assert largest is not None
    sides = []
    for side in total.args:
        over = elements.apply("exp", like.dtype, elements.subtract(side, largest))
        product = Product(over, streaming.sweep.columns, lambda _: False)
        sides.append(streaming.product(product.coefficient, product.factors, product.exponent, like))
    rest = {term: times for term, times in exponent.items() if term not in (total, largest)}
    return rest, elements.add(*sides)


def _largest_in(exponent: Linear) -> Scalar | None:
    return next((each for each, times in exponent.items() if each.op == "maximum_of" and times == 1), None)
