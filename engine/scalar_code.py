"""Scalar functions compiled by numba: their IR for kernels, and NumPy functions of whole arrays for everything else."""

import functools
import hashlib
import importlib
from collections.abc import Callable
from typing import Any

from .errors import ArgumentError, CompileError
from .foreign import Foreign, calls, may_raise, read
from .foreign_text import ForeignError

# What arguments and results are compiled as: every float has 64 bits, and what holds it in a kernel is decided there.
KINDS = ("boolean", "int64", "float64")
# Functions of the C library that only compute. What calls others may print, allocate, or draw random numbers.
# fmt: off
_PURE = frozenset({
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh",
    "erf", "erfc", "exp", "exp2", "expm1", "fabs", "floor", "fmod", "hypot", "ldexp", "lgamma", "log", "log10",
    "log1p", "log2", "nearbyint", "pow", "remainder", "rint", "round", "sin", "sincos", "sinh", "sqrt", "tan",
    "tanh", "tgamma", "trunc", "numba_gamma", "numba_lgamma", "numba_ldexp", "numba_frexp",
})
# fmt: on
_LINES_OF_MESSAGE = 3


@functools.cache
def _numba() -> Any:
    """The compiler of users' functions: loaded by the first of them, for it takes 0.3 s."""
    return importlib.import_module("numba")


class ScalarCode:
    """A function of scalars, compiled for one kind of each argument.

    Attributes:
        result: What it gives: a kind, or for derivatives a tuple of kinds.
        foreign: What a kernel writes; None where it cannot.
        reason: Why it cannot.
    """

    def __init__(self, function: Callable[..., Any], kinds: tuple[str, ...], what: str) -> None:
        self._function, self._kinds, self._what = function, kinds, what
        compiled = self._compiled()
        self.result = _kinds_of(compiled.signature.return_type, what)
        text, name = compiled.library.get_llvm_str(), compiled.fndesc.llvm_func_name
        self._refuse(text, name)
        self.reason = ""
        self.foreign: Foreign | None = None
        try:
            self.foreign = read(text, name)
        except ForeignError as reason:
            self.reason = f"{what}: {reason}"

    def __repr__(self) -> str:
        """What identifies the code that is written for it, in other processes too."""
        return f"<scalar function {self._digest}>"

    @functools.cached_property
    def _digest(self) -> str:
        """A hash of all that is written; numba's text has names in it that count the functions compiled so far."""
        written = None if self.foreign is None else (self.foreign.arguments, self.foreign.blocks)
        return hashlib.sha256(repr(written).encode()).hexdigest()

    @functools.cached_property
    def evaluate(self) -> Callable[..., Any]:
        """It as a function of NumPy arrays of its kinds, element by element."""
        signature = f"{self.result}({', '.join(self._kinds)})"
        try:
            found: Callable[..., Any] = _numba().vectorize([signature], nopython=True)(self._function)
        except Exception as error:
            raise self._rejected(error) from error
        return found

    def _compiled(self) -> Any:
        numba = _numba()
        types = tuple(getattr(numba, kind) for kind in self._kinds)
        options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
        try:
            # numba raises whatever its own steps raise, besides its own errors.
            (found,) = numba.njit(types, **options)(self._function).overloads.values()
        except Exception as error:
            raise self._rejected(error) from error
        return found

    def _rejected(self, error: Exception) -> CompileError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = "; ".join(lines[:_LINES_OF_MESSAGE])
        return CompileError(f"{self._what}: numba cannot compile it for {', '.join(self._kinds)}: {shown}")

    def _refuse(self, text: str, name: str) -> None:
        """Raise CompileError for what is no function of its arguments alone, or not for all of them."""
        strange = sorted(calls(text) - _PURE)
        if strange:
            raise CompileError(
                f"{self._what}: it may only compute with its arguments, and calls {', '.join(strange)} "
                "(an allocation, an exception, random numbers, output, or a library)"
            )
        if may_raise(text, name):
            raise CompileError(
                f"{self._what}: it may raise an exception, or looks up a sequence, which may raise one; "
                "return a number for every argument, and look tables up outside: table[i], passed as an argument"
            )


def _kinds_of(type_: Any, what: str) -> Any:
    """The kind of a result, or of the parts of a tuple."""
    numba = _numba()
    if isinstance(type_, numba.types.BaseTuple):
        return tuple(_kinds_of(each, what) for each in type_)
    if isinstance(type_, numba.types.Literal):
        type_ = type_.literal_type
    if isinstance(type_, numba.types.Boolean):
        return "boolean"
    if isinstance(type_, numba.types.Integer) and type_.signed:
        return "int64"
    if isinstance(type_, numba.types.Float):
        return "float64"
    raise ArgumentError(f"{what}: returns {type_}, not a float, an integer or a boolean for every argument")
