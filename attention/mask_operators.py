"""What operators of masks say where there is no mask that they would give."""

from collections.abc import Callable
from typing import Any, NoReturn

from ..engine.errors import DTypeError


def refuse(left: Any, symbol: str, right: Any, hint: str) -> NoReturn:
    """Raise the error for an operator of two sides, and what to write for it.

    Raises:
        DTypeError: It is a TypeError, too, as Python's own is.
    """
    raise DTypeError(f"{type(left).__name__} {symbol} {type(right).__name__}: there is no such mask; {hint}")


def _refusing(symbol: str, *, is_reflected: bool) -> Callable[[Any, Any], Any]:
    def _refused(self: Any, other: Any) -> NoReturn:
        left, right = (other, self) if is_reflected else (self, other)
        refuse(left, symbol, right, self.hint)

    return _refused


class RefusesOperators:
    """A mask whose operators say what to write instead. Those that a class has are its own.

    Attributes:
        hint: For two sides.
        inverse: For ``~``.
    """

    hint = ""
    inverse = ""

    # NumPy would go through its elements.
    __array_ufunc__ = None

    __and__, __rand__ = (_refusing("&", is_reflected=each) for each in (False, True))
    __or__, __ror__ = (_refusing("|", is_reflected=each) for each in (False, True))
    __xor__, __rxor__ = (_refusing("^", is_reflected=each) for each in (False, True))
    __sub__, __rsub__ = (_refusing("-", is_reflected=each) for each in (False, True))

    def __invert__(self) -> NoReturn:
        raise DTypeError(f"~{type(self).__name__}: there is no such mask; {self.inverse}")
