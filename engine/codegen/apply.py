"""The element-wise functions of the kernel language as instructions: the closed set, in one table."""

from collections.abc import Callable

import numpy as np

from ..ir import UnfusableError
from ..scalar import Scalar
from ..types import BOOL, UINT64, is_float, is_integer
from . import math
from .external import apply_foreign
from .llvm import Function, Value
from .values import bits_of

Rule = Callable[..., Value]


def _maximum(f: Function, left: Value, right: Value) -> Value:
    if left.is_float:
        return f.max_nan(left, right)
    return f.or_(left, right) if left.element == "i1" else f.max(left, right)


def _minimum(f: Function, left: Value, right: Value) -> Value:
    if left.is_float:
        return f.min_nan(left, right)
    return f.and_(left, right) if left.element == "i1" else f.min(left, right)


def _equal(f: Function, left: Value, right: Value) -> Value:
    return f.not_(f.xor(left, right)) if left.element == "i1" else f.compare("==", left, right)


def _not_equal(f: Function, left: Value, right: Value) -> Value:
    return f.xor(left, right) if left.element == "i1" else f.compare("!=", left, right)


def _safe_divide(f: Function, left: Value, right: Value) -> Value:
    """0 where the divisor is 0: the sum of a row with nothing to attend to."""
    return f.select(f.compare("==", right, 0.0), f.constant(0.0, left.type), f.div(left, right))


def _sign(f: Function, x: Value) -> Value:
    if not x.is_float:
        return f.select(
            f.compare(">", x, 0), f.constant(1, x.type), f.select(f.compare("<", x, 0), f.constant(-1, x.type), 0)
        )
    return f.select(f.is_zero_or_nan(x), x, f.copysign(f.constant(1.0, x.type), x))


def _hypot(f: Function, left: Value, right: Value) -> Value:
    """Scaled by the larger, so that no square overflows."""
    left, right = f.abs(left), f.abs(right)
    large, small = f.max(left, right), f.min(left, right)
    ratio = _safe_divide(f, small, large)
    length = f.mul(large, f.sqrt(f.fma(ratio, ratio, 1.0)))
    infinite = f.compare("==", large, float("inf"))
    return f.select(infinite, large, f.select(f.is_nan(left), left, f.select(f.is_nan(right), right, length)))


def _relation(symbol: str) -> Rule:
    # A bit that is set is no -1.
    return lambda f, left, right: f.compare(symbol, left, right, unsigned=left.element == "i1")


def _inside(f: Function, index: Value, length: Value) -> Value:
    """An index inside its axis, negative ones counted from the end; of a wrong one the nearest."""
    wrapped = f.select(f.compare("<", index, 0), f.add(index, length), index)
    return f.max(f.min(wrapped, f.sub(length, 1)), 0)


def _outside(f: Function, index: Value, length: Value) -> Value:
    return f.or_(f.compare("<", index, f.sub(0, length)), f.compare(">=", index, length))


RULES: dict[str, Rule] = {
    "listed": lambda f, found, which, value: found,
    "inside": _inside,
    "outside": _outside,
    "add": lambda f, a, b: f.or_(a, b) if a.element == "i1" else f.add(a, b),
    "subtract": lambda f, a, b: f.sub(a, b),
    "multiply": lambda f, a, b: f.and_(a, b) if a.element == "i1" else f.mul(a, b),
    "divide": lambda f, a, b: f.div(a, b),
    "safe_divide": _safe_divide,
    "negative": lambda f, a: f.neg(a),
    "positive": lambda f, a: a,
    "abs": lambda f, a: f.abs(a),
    "square": lambda f, a: f.mul(a, a),
    "reciprocal": lambda f, a: f.div(f.constant(1.0, a.type), a),
    "sign": _sign,
    "maximum": _maximum,
    "minimum": _minimum,
    "where": lambda f, c, a, b: f.select(c, a, b),
    "equal": _equal,
    "not_equal": _not_equal,
    "less": _relation("<"),
    "less_equal": _relation("<="),
    "greater": _relation(">"),
    "greater_equal": _relation(">="),
    "logical_and": lambda f, a, b: f.and_(a, b),
    "logical_or": lambda f, a, b: f.or_(a, b),
    "logical_xor": lambda f, a, b: f.xor(a, b),
    "logical_not": lambda f, a: f.not_(a),
    "bitwise_and": lambda f, a, b: f.and_(a, b),
    "bitwise_or": lambda f, a, b: f.or_(a, b),
    "bitwise_xor": lambda f, a, b: f.xor(a, b),
    "bitwise_invert": lambda f, a: f.not_(a),
    "floor_divide": lambda f, a, b: f.floor_divide(a, b),
    "remainder": lambda f, a, b: f.modulo(a, b),
    "bitwise_left_shift": lambda f, a, b: f.shifted_left(a, b),
    "bitwise_right_shift": lambda f, a, b: f.shifted_right(a, b),
    "hypot": _hypot,
    "isnan": lambda f, a: f.is_nan(a),
    "sqrt": lambda f, a: f.sqrt(a),
    "floor": lambda f, a: f.round(a, "floor"),
    "ceil": lambda f, a: f.round(a, "ceil"),
    "trunc": lambda f, a: f.round(a, "trunc"),
    "round": lambda f, a: f.round(a, "roundeven"),
}
# Functions that engine/codegen/math.py writes under the same name.
_FROM_MATH = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "tanh",
    "exp2_weight",
    "exp_weight",
    "tanh_in_log2",
    "sigmoid",
    "erf",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "atan2",
    "pow",
    "rsqrt",
    "logaddexp",
]
_RELATIONS = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}
# What may lie outside of a narrow type, though its arguments lie inside.
_WRAPPING = frozenset(
    {"add", "subtract", "multiply", "square", "negative", "abs", "floor_divide", "bitwise_invert", "bitwise_left_shift"}
)
# Instructions for signed integers: of what does not fit in those they would be other functions.
# fmt: off
_SIGNED = frozenset({
    "abs", "astype", "bitwise_right_shift", "floor_divide", "inside", "maximum", "minimum", "outside", "remainder",
    "sign",
})
# fmt: on
# In floats these would be other functions; graphs hardly use them there.
_INTEGERS_ONLY = ("floor_divide", "remainder")


def apply(f: Function, scalar: Scalar, args: list[Value]) -> Value:
    """The instruction or instructions for one application.

    Raises:
        UnfusableError: If the function is not in the set.
    """
    if scalar.op in _INTEGERS_ONLY and args[0].is_float:
        raise UnfusableError(f"{scalar.op} of floats has no kernel")
    if scalar.op == "call":
        return apply_foreign(f, scalar.attribute.foreign, scalar, args)
    if scalar.op in _RELATIONS and scalar.args[0].dtype == UINT64:
        return f.compare(_RELATIONS[scalar.op], *args, unsigned=True)
    rule = RULES.get(scalar.op) or _math(scalar.op)
    if rule is None:
        raise UnfusableError(f"{scalar.op} has no kernel")
    result = rule(f, *args)
    return _wrapped(f, result, scalar) if scalar.op in _WRAPPING else result


def _wrapped(f: Function, value: Value, scalar: Scalar) -> Value:
    """An integer as its own type holds it, in the kernel's one width."""
    bits = 8 * scalar.dtype.itemsize
    if not is_integer(scalar.dtype) or value.is_float or bits >= bits_of(value.element):
        return value
    return f.convert(f.convert(value, f"i{bits}"), value.element, unsigned=scalar.dtype.kind == "u")


def can_apply(scalar: Scalar) -> bool:
    """Whether there is an instruction for it."""
    if scalar.op in _INTEGERS_ONLY and is_float(scalar.dtype):
        return False
    if any(each.dtype == UINT64 for each in (scalar, *scalar.args)) and scalar.op in _SIGNED:
        return False
    return scalar.op in RULES or scalar.op in ("astype", "call") or _math(scalar.op) is not None


def _math(name: str) -> Rule | None:
    return getattr(math, name, None) if name in _FROM_MATH else None


def convert(f: Function, value: Value, scalar: Scalar, integer: str) -> Value:
    """A cast between floats, integers (of the kernel's one width) and booleans."""
    if scalar.dtype == BOOL:
        return value if value.element == "i1" else f.compare("!=", value, 0)
    if is_float(scalar.dtype):
        return f.convert(value, "float")
    if value.is_float:
        # What saturates is the graph's type; the kernel's one width may be another.
        unsigned, bits = scalar.dtype.kind == "u", min(8 * scalar.dtype.itemsize, bits_of(integer))
        return f.convert(f.saturated(value, f"i{bits}", unsigned=unsigned), integer, unsigned=unsigned)
    converted = f.convert(value, integer)
    before = scalar.args[0].dtype
    return converted if np.can_cast(before, scalar.dtype, "safe") else _wrapped(f, converted, scalar)
