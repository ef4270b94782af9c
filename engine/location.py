"""Where in the user's code something was written.

A line is ``(file, number)``. Nodes remember the lines that made them; errors quote them. While a
pass rewrites a node, the nodes that it makes inherit that node's lines instead of the stack's.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

Line = tuple[str, int]

_ROOT = __name__.rsplit(".engine", 1)[0]
# Frames of these modules are never the user's: ours, and the libraries that call us back.
_PACKAGES = frozenset({"numpy", "torch", "xarray", "dask", "functools", "contextlib", "concurrent", "threading"})
_LAYERS = (f"{_ROOT}.engine", f"{_ROOT}.ops", f"{_ROOT}.attention", f"{_ROOT}.runtime.")
# The demo is a user of the library that happens to live inside it.
_USERS = f"{_ROOT}.runtime.demo"

_inherited = threading.local()


def _is_users(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__") or ""
    if name.startswith(_USERS):
        return True
    return name.split(".", 1)[0] not in _PACKAGES and name != _ROOT and not name.startswith(_LAYERS)


def users_line() -> Line | None:
    """The innermost line of the stack that is the user's, or None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def current_lines() -> tuple[Line, ...]:
    """The lines that a node made now should carry: inherited ones, else the user's line."""
    inherited: tuple[Line, ...] | None = getattr(_inherited, "lines", None)
    if inherited is not None:
        return inherited
    line = users_line()
    return () if line is None else (line,)


@contextmanager
def inherit_lines(lines: tuple[Line, ...]) -> Iterator[None]:
    """Nodes made inside carry ``lines``: for passes, whose stack is not where the user wrote."""
    before = getattr(_inherited, "lines", None)
    _inherited.lines = lines
    try:
        yield
    finally:
        _inherited.lines = before


def show_line(line: Line) -> str:
    """``file.py:12``."""
    return f"{line[0]}:{line[1]}"
