"""Where in the user's code something was written.

A line is ``(file, number)``. Nodes remember the lines that made them; errors quote them. While a
pass rewrites a node, the nodes that it makes inherit that node's lines instead of the stack's.
"""

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

Line = tuple[str, int]

_ROOT = __name__.rsplit(".engine", 1)[0]
# Frames of these modules are never the user's: ours, and the libraries that call us back.
_PACKAGES = frozenset({"numpy", "torch", "xarray", "dask", "functools", "contextlib", "concurrent", "threading"})
_LAYERS = (f"{_ROOT}.engine", f"{_ROOT}.ops", f"{_ROOT}.attention", f"{_ROOT}.runtime")
# The demo is a user of the library that happens to live inside it.
_USERS = f"{_ROOT}.runtime.demo"

# Where the functions are that messages speak of, and those among them that compute what others have said.
_CALLED = (f"{_ROOT}.ops.", f"{_ROOT}.attention.")
_EVALUATIONS = frozenset({"compute", "sparsity", "to_dense", "predicate"})

_inherited = threading.local()


@functools.cache
def _is_users(module: str | None) -> bool:
    name = module or ""
    if name.startswith(_USERS):
        return True
    return name.split(".", 1)[0] not in _PACKAGES and name != _ROOT and not name.startswith(_LAYERS)


def users_line() -> Line | None:
    """The innermost line of the stack that is the user's, or None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_globals.get("__name__")):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def called_function() -> str | None:
    """The public operator or attention that the user called, by name; None where it is another function."""
    found: str | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if _is_users(module):
            return found if found is not None and found[0].isalpha() and found not in _EVALUATIONS else None
        found = frame.f_code.co_name if (module or "").startswith(_CALLED) else None
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
def inherited_lines() -> Iterator[Callable[[tuple[Line, ...]], None]]:
    """For passes, whose stack is not where the user wrote: nodes made inside carry the lines last set."""
    before = getattr(_inherited, "lines", None)

    def inherit(lines: tuple[Line, ...]) -> None:
        _inherited.lines = lines

    try:
        yield inherit
    finally:
        _inherited.lines = before


def show_line(line: Line) -> str:
    """``file.py:12``, the file as Python knows it."""
    return f"{line[0]}:{line[1]}"


def show_line_here(line: Line) -> str:
    """The same, relative to the working directory where the file lies below it: for long listings."""
    path = Path(line[0])
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line[1]}"
