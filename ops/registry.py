"""Public functions by name: what operators, methods, NumPy's and torch's protocols look up."""

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def public(*aliases: str) -> Callable[[Function], Function]:
    """Register a function under its name and aliases (NumPy's and torch's names for it)."""

    def register(function: Function) -> Function:
        for name in (function.__name__, *aliases):
            assert name not in FUNCTIONS, f"two public functions are called {name}"
            FUNCTIONS[name] = function
        return function

    return register
