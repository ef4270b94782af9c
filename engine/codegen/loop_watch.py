"""What watches of loops look for in a value."""

import math
from collections.abc import Iterable

from ..loop import Watch
from .llvm import Function, Value
from .values import vector_of


def leaves_numbers(f: Function, kind: Watch, value: Value, given: Iterable[Value | None]) -> Value:
    """Where a value that may be -inf is NaN or +inf; under "mask" also where it is -inf that none of its arguments is.

    Args:
        f: The function being written.
        kind: "upper" or "mask".
        value: The value.
        given: Its arguments; None for what is not known.
    """
    wrong = f.or_(f.is_nan(value), f.compare("==", value, math.inf))
    if kind != "mask":
        return wrong
    brought = f.constant(0, vector_of("i1", value.lanes))
    for each in given:
        if each is not None and each.is_float:
            each = each if each.lanes == value.lanes else f.splat(each, value.lanes)
            brought = f.or_(brought, f.compare("==", f.abs(each), math.inf))
    return f.or_(wrong, f.and_(f.compare("==", value, -math.inf), f.not_(brought)))
