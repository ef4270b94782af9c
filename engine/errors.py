"""The errors that users meet. Every one names the operation, both sides and the user's line."""

import re
from typing import Any

from .location import Line, called_function, show_line, users_line


class AttnGraphError(Exception):
    """The root of all errors that attngraph raises.

    Args:
        message: What went wrong: the operation and both sides.
        line: Where the expression was written; the user's innermost line of the stack if None.
    """

    line: Line | None

    def __init__(self, message: str, line: Line | None = None) -> None:
        self.line = users_line() if line is None else line
        called = called_function() if line is None else None
        # What went wrong may be a step inside the function that was called.
        if called is not None and not re.search(rf"\b{called}\b", message.partition(":")[0]):
            message = f"{called}: {message}"
        place = "" if self.line is None else f"\n  at {show_line(self.line)}"
        super().__init__(message + place)

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, self.line)


def _revive(kind: type[AttnGraphError], args: tuple[Any, ...], line: Line | None) -> AttnGraphError:
    """An error out of a pickle: its message already holds the place."""
    error = kind.__new__(kind)
    error.args = args
    error.line = line
    return error


class ShapeError(AttnGraphError, ValueError):
    """Shapes that do not go together."""


class DTypeError(AttnGraphError, TypeError):
    """A data type that the operation does not take."""


class NonFiniteError(AttnGraphError, ValueError):
    """NaN or infinity in q, k or v of an attention, at a position that counts."""


class IndexOutOfRangeError(AttnGraphError, IndexError):
    """An index outside its axis, at a position that counts."""


class LimitError(AttnGraphError, ValueError):
    """A declared limit that the computation would exceed, or a feature beyond what is supported."""


class StoreError(AttnGraphError, OSError):
    """A store on disk that is damaged, missing or full."""

    # OSError's own __new__ would read two arguments as (errno, text).
    def __init__(self, message: str, line: Line | None = None) -> None:
        AttnGraphError.__init__(self, message, line)


class CompileError(AttnGraphError, RuntimeError):
    """A kernel that could not be compiled."""


class TraceError(AttnGraphError, TypeError):
    """A lazy value used where Python needs a concrete one."""


class ArgumentError(AttnGraphError, ValueError):
    """An argument of a wrong kind, structure or count."""


class SignatureError(ArgumentError, TypeError):
    """A function of the user's that cannot be called as it will be: of another number of arguments."""
