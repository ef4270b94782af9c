"""Exponentials of logarithms, without either."""

import math

from ..kernel import Elements
from ..scalar import Axis, Scalar
from ..types import BOOL
from .product import Linear, add_linear


def of_logarithm(elements: Elements, term: Scalar, times: float, streamed: Axis) -> Scalar | None:
    """``exp(times * term)`` without the logarithm that ``term`` is; None if it is none.

    Args:
        elements: Makes the scalars.
        term: A logarithm of what is not below 0, or a selection of one.
        times: Only of 1 and -1 there is something to be had.
        streamed: The axis that a sweep streams.
    """
    if term.op == "where":
        sides = [_side(elements, each, times, streamed) for each in term.args[1:]]
        if None in sides or all(side is not None and side.is_constant for side in sides):
            return None
        return elements.make("where", (term.args[0], *[side for side in sides if side is not None]), term.dtype)
    if term.op not in ("log", "log1p") or times not in (1.0, -1.0):
        return None
    (inner,) = term.args
    one = elements.constant(1.0, term.dtype)
    inner = inner if term.op == "log" else elements.add(inner, one)
    # The logarithm of what is below 0 is NaN, whatever the inverse would be.
    invalid = elements.apply("less", BOOL, inner, elements.constant(0.0, term.dtype))
    valid = inner if times > 0 else elements.apply("divide", term.dtype, one, inner)
    return elements.apply("where", term.dtype, invalid, elements.constant(math.nan, term.dtype), valid)


def _side(elements: Elements, side: Scalar, times: float, streamed: Axis) -> Scalar | None:
    if side.is_constant:
        hidden = side.attribute * times == -math.inf
        return elements.constant(0.0, side.dtype) if hidden else None
    terms: Linear = {}
    add_linear(terms, side, times, streamed)
    return of_logarithm(elements, *next(iter(terms.items())), streamed) if len(terms) == 1 else None
