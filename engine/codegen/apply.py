"""The element-wise functions of the kernel language as instructions: the closed set, in one table."""

from collections.abc import Callable
from typing import Any

from ..ir import UnfusableError
from ..scalar import Scalar
from ..types import BOOL, is_float
from . import math
from .llvm import Function, Value

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
    one = f.constant(1.0, x.type)
    signed = f.copysign(one, x)
    return f.select(f.compare("==", x, 0.0), x, f.select(f.is_nan(x), x, signed))


def _relation(symbol: str) -> Rule:
    return lambda f, left, right: f.compare(symbol, left, right)


RULES: dict[str, Rule] = {
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
# In floats these would be other functions; graphs hardly use them there.
_INTEGERS_ONLY = ("floor_divide", "remainder")


def apply(f: Function, scalar: Scalar, args: list[Value]) -> Value:
    """The instruction or instructions for one application.

    Raises:
        UnfusableError: If the function is not in the set.
    """
    if scalar.op in _INTEGERS_ONLY and args[0].is_float:
        raise UnfusableError(f"{scalar.op} of floats has no kernel")
    rule = RULES.get(scalar.op) or _math(scalar.op)
    if rule is None:
        raise UnfusableError(f"{scalar.op} has no kernel")
    return rule(f, *args)


def can_apply(scalar: Scalar) -> bool:
    """Whether there is an instruction for it."""
    if scalar.op in _INTEGERS_ONLY and is_float(scalar.dtype):
        return False
    return scalar.op in RULES or scalar.op == "astype" or _math(scalar.op) is not None


def _math(name: str) -> Rule | None:
    return getattr(math, name, None) if name in _FROM_MATH else None


def convert(f: Function, value: Value, scalar: Scalar, integer: str) -> Value:
    """A cast between floats, integers (of the kernel's one width) and booleans."""
    if scalar.dtype == BOOL:
        return value if value.element == "i1" else f.compare("!=", value, 0)
    wanted: Any = "float" if is_float(scalar.dtype) else integer
    if value.is_float and wanted != "float":
        raise UnfusableError("a float becomes an integer inside a tile")
    return f.convert(value, wanted)
