"""Rounding to whole numbers. Integers stay as they are. Names: array API standard 2024.12."""

from collections.abc import Sequence

import numpy as np

from ..engine.errors import ArgumentError, DTypeError
from ..engine.ir import Node, Values
from ..engine.types import is_float
from .arithmetic import Unary
from .array import Array, ArrayLike, lift
from .function import unary
from .kinds import whole
from .logic import isfinite
from .registry import public
from .selection import where


class Rounding(Unary):
    """Floats to whole floats; integers are whole."""

    takes = (1, 2)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """Nothing: it is constant between steps."""
        return (None,)

    def simplify(self) -> Node | None:
        """A whole number is itself."""
        return None if is_float(self.dtype) else self.operand


class Floor(Rounding):
    """The largest whole number not above x."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.floor(x)) if x.dtype.kind == "f" else x


class Ceil(Rounding):
    """The smallest whole number not below x."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.ceil(x)) if x.dtype.kind == "f" else x


class Trunc(Rounding):
    """x without its fraction."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.trunc(x)) if x.dtype.kind == "f" else x


class Round(Rounding):
    """The nearest whole number, ties to even."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.rint(x)) if x.dtype.kind == "f" else x


floor, ceil, trunc = unary(Floor), unary(Ceil), unary(Trunc, "fix")


@public("around", "rint")
def round(x: ArrayLike, decimals: int = 0) -> Array:
    """The nearest number with ``decimals`` decimal places, ties to even.

    Raises:
        ArgumentError: If ``decimals`` is no integer in [-308, 308].
        DTypeError: For integers with negative ``decimals``, and for booleans.
    """
    node, places = lift(x, "round"), whole("round", "decimals", decimals)
    if not -308 <= places <= 308:
        raise ArgumentError(f"round: decimals is between -308 and 308, not {places}")
    if places == 0 or (places > 0 and not is_float(node.dtype)):
        return Array(Round(node))
    if not is_float(node.dtype):
        raise DTypeError(f"round: takes float arrays where decimals is {places}, not {node.type}")
    array = Array(node)
    if places < 0:
        return Array(Round((array / 10.0**-places).node)) * 10.0**-places
    scaled = array * 10.0**places
    # What overflows has no decimal places.
    return where(isfinite(scaled), Array(Round(scaled.node)) / 10.0**places, array)
