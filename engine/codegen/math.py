"""The functions of mathematics as instructions: for float and double, at any width, on every target.

Nothing is called, for a library would be 20 to 100 times slower than the vectors around it. Errors are of
2 units in the last place or so (``tests/engine/codegen/test_math.py`` holds the bound of each); zeros with
their sign, infinities, NaN and denormal numbers give what C99 says, unless a function says otherwise.
"""

from .llvm import Function, Value
from .math_angle import acos, asin, atan, atan2
from .math_circular import cos, sin, sin_cos, tan
from .math_exponential import (
    cosh,
    erf,
    exp,
    exp2,
    exp2_nonpositive,
    exp2_weight,
    exp_less,
    exp_nonpositive,
    exp_weight,
    expm1,
    sigmoid,
    sinh,
    tanh,
    tanh_in_log2,
    tanh_quick,
)
from .math_floats import strict
from .math_logarithm import acosh, asinh, atanh, log, log1p, log2, log10, logaddexp
from .math_power import pow
from .values import mangled

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "call",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "exp",
    "exp2",
    "exp2_nonpositive",
    "exp2_weight",
    "exp_less",
    "exp_nonpositive",
    "exp_weight",
    "expm1",
    "floor",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "pow",
    "rint",
    "rsqrt",
    "sigmoid",
    "sin",
    "sin_cos",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tanh_in_log2",
    "tanh_quick",
    "trunc",
]


def sqrt(f: Function, x: Value) -> Value:
    """The square root, correctly rounded."""
    return f.sqrt(x)


@strict
def rsqrt(f: Function, x: Value) -> Value:
    """``1 / sqrt(x)``; inf at 0."""
    return f.div(1.0, f.sqrt(x))


def floor(f: Function, x: Value) -> Value:
    """The largest whole number that is not larger."""
    return f.round(x, "floor")


def ceil(f: Function, x: Value) -> Value:
    """The smallest whole number that is not smaller."""
    return f.round(x, "ceil")


def trunc(f: Function, x: Value) -> Value:
    """The whole number beside x, towards 0."""
    return f.round(x, "trunc")


def rint(f: Function, x: Value) -> Value:
    """The nearest whole number, the even one of two."""
    return f.round(x, "roundeven")


def call(f: Function, name: str, *arguments: Value) -> Value:
    """A function of this file by name, written once in the module and called.

    For long functions used in many places: it keeps code small, and costs what the caller holds in vector
    registers, for a call preserves none of them.
    """
    type_ = arguments[0].type

    def define(symbol: str) -> Function:
        inner = Function(f.module, symbol, {f"x{n}": type_ for n in range(len(arguments))}, type_, internal=True)
        inner.ret(globals()[name](inner, *inner.arguments.values()))
        return inner

    return f.call(f.module.shared(f"attngraph_{name}_{mangled(type_)}", define), *arguments)[0]
