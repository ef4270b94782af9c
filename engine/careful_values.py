"""The careful path for scalars of the kernel language: what is hidden, and who is to blame, element by element.

The rules are those that operators give for their nodes (`Node.careful`), for the closed set of functions that
kernels are made of. All floats are float64.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .careful import (
    EMPTY,
    Careful,
    Values,
    adds_nothing,
    blame_of_any,
    chosen,
    clear,
    hidden_by_infinity,
    none_if_empty,
)
from .codegen.interpreter import FUNCTIONS, cast
from .ir import UnfusableError
from .scalar import Scalar
from .types import is_float

_TO_BLAME = np.int32(1)


def careful_apply(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    """The value of an element-wise function, from those of its arguments.

    Raises:
        UnfusableError: If nothing here computes the function.
    """
    rule = _RULES.get(scalar.op)
    return _pointwise(scalar, args) if rule is None else rule(scalar, args)


def clamped(index: Values, length: int) -> Values:
    """Indices inside an axis, negative ones counted from the end: of a wrong one the nearest."""
    wrapped = np.where(index < 0, index + length, index)
    return np.clip(wrapped, 0, max(length - 1, 0))


def carrier_of(scalar: Scalar) -> Any:
    """The type that holds it."""
    return np.float64 if is_float(scalar.dtype) else scalar.dtype


def _plain(scalar: Scalar, values: Sequence[Values]) -> Values:
    if scalar.op == "astype":  # rounds as in a kernel; what float64 holds beyond that is no result
        return cast(values[0], scalar).astype(scalar.dtype).astype(carrier_of(scalar), copy=False)
    function: Any = _FUNCTIONS.get(scalar.op) or FUNCTIONS.get(scalar.op) or getattr(np, scalar.op, None)
    if function is None:
        raise UnfusableError(f"{scalar.op} has no careful rule")
    return np.asarray(function(*values)).astype(carrier_of(scalar), copy=False)


def _shape(args: Sequence[Careful]) -> tuple[int, ...]:
    return np.broadcast_shapes(*(each.value.shape for each in args))


def _pointwise(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    """Hidden positions stay hidden while they add nothing: ``maximum(-inf, 0)``, ``0 ** 2``."""
    value = _plain(scalar, [each.value for each in args])
    hidden = None
    varying = [each for each, given in zip(args, scalar.args, strict=True) if not given.is_constant]
    if varying and all(each.hidden is not None for each in varying):
        of_zero = _plain(scalar, [each.contribution() for each in args])
        levels = np.full(value.shape, EMPTY)
        for each in varying:
            np.minimum(levels, each.full_hidden(), out=levels)
        hidden = none_if_empty(levels * adds_nothing(of_zero))
    return Careful(value, hidden, clear(blame_of_any(args, value.shape), hidden))


def _sum(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    """Hidden where a side that adds is a hidden -inf, or both sides are hidden zeros."""
    left, right = args
    if left.hidden is None and right.hidden is None:
        return _pointwise(scalar, args)
    value = _plain(scalar, [left.value, right.value])
    zeros = np.minimum(left.hidden_zeros(), right.hidden_zeros())
    infinities = np.broadcast_to(left.hidden_infinities(), value.shape)
    if scalar.op == "add":
        infinities = np.maximum(infinities, right.hidden_infinities())
    value = np.where(zeros == EMPTY, value.dtype.type(0), value)
    if value.dtype.kind == "f":
        value = np.where(infinities > 0, -np.inf, value)
    return _found(value, np.maximum(zeros, infinities), args)


def _product(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    """A hidden zero stays hidden, whatever it meets, and a hidden -inf that is scaled upwards."""
    left, right = args
    if left.hidden is None and right.hidden is None:
        return _pointwise(scalar, args)
    value = _plain(scalar, [left.value, right.value])
    zeros = np.maximum(left.hidden_zeros(), right.hidden_zeros())
    infinities = np.maximum(left.hidden_infinities(), right.hidden_infinities()) * (value == -np.inf)
    return _found(np.where(zeros == EMPTY, value.dtype.type(0), value), np.maximum(zeros, infinities), args)


def _quotient(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    """A hidden numerator stays hidden: a row with nothing to attend to gives 0, not 0/0."""
    above, below = args
    value = _plain(scalar, [above.value, below.value])
    if above.hidden is None:
        return Careful(value, None, blame_of_any(args, value.shape))
    zeros = np.broadcast_to(above.hidden_zeros(), value.shape)
    value = np.where(zeros == EMPTY, 0.0, value)
    return _found(value, np.maximum(zeros, above.hidden_infinities() * np.isneginf(value)), args)


def _found(value: Values, hidden: Values, args: Sequence[Careful]) -> Careful:
    levels = none_if_empty(hidden)
    return Careful(value, levels, clear(blame_of_any(args, value.shape), levels))


def _exponential(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    """A score of -inf is a weight of nothing."""
    value = _plain(scalar, [args[0].value])
    hidden = hidden_by_infinity(args[0])
    return Careful(value, hidden, clear(blame_of_any(args, value.shape), hidden))


def _where(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    value = _plain(scalar, [each.value for each in args])
    return chosen(value, args, [given.is_constant and given.attribute in (0, -math.inf) for given in scalar.args[1:]])


def _inside(scalar: Scalar, args: Sequence[Careful]) -> Careful:
    """An index of an axis: one that lies outside is to blame."""
    index, length = args[0].value, int(args[1].value.flat[0])
    value = clamped(index.astype(np.int64), length)
    outside = (index < -length) | (index >= length)
    blame = blame_of_any(args[:1], value.shape)
    if outside.any():
        accused = np.where(outside, _TO_BLAME, np.int32(0))
        blame = accused if blame is None else np.maximum(blame, accused)
    return Careful(value, None, blame)


def _erf(x: Values) -> Values:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)


def _safe_divide(above: Values, below: Values) -> Values:
    return np.asarray(np.where(below == 0, 0.0, above / np.where(below == 0, 1.0, below)))


_FUNCTIONS: Mapping[str, Callable[..., Values]] = {"erf": _erf, "safe_divide": _safe_divide}
_RULES: Mapping[str, Callable[[Scalar, Sequence[Careful]], Careful]] = {
    "add": _sum,
    "subtract": _sum,
    "multiply": _product,
    "divide": _quotient,
    "safe_divide": _quotient,
    "exp": _exponential,
    "exp2": _exponential,
    "where": _where,
    "inside": _inside,
}
