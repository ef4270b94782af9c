"""A module of LLVM IR as text: declarations, tables of constants, functions."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from .target import Target
from .values import Number, Value, listing


class Written(Protocol):
    """What a module is made of."""

    def text(self) -> str:
        """The definition."""
        ...


_Function = TypeVar("_Function", bound=Written)


class Module:
    """What is compiled at once.

    Args:
        target: The processor it is for.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.functions: list[Written] = []
        self._declarations: dict[str, str] = {}
        self._tables: dict[str, str] = {}
        self._shared: dict[str, Any] = {}

    def declare(self, name: str, returns: str, arguments: Sequence[str]) -> None:
        """Declare a function defined elsewhere; again is no harm."""
        if name not in self._declarations:
            self._declarations[name] = f"declare {returns} @{name}({', '.join(arguments)})"

    def table(self, numbers: Sequence[Number], element: str) -> Value:
        """A pointer to an array of constants, aligned to 64 bytes; equal arrays are one."""
        body = f"[{len(numbers)} x {element}] [{listing(numbers, element)}], align 64"
        return Value(self._tables.setdefault(body, f"@table{len(self._tables)}"), "ptr")

    def shared(self, name: str, define: Callable[[str], _Function]) -> _Function:
        """The function of this name that several places call, defined at the first request."""
        if name not in self._shared:
            self._shared[name] = define(name)
        function: _Function = self._shared[name]
        return function

    def text(self) -> str:
        """The module as LLVM reads it."""
        tables = [f"{name} = private unnamed_addr constant {body}" for body, name in self._tables.items()]
        head = [f'target triple = "{self.target.triple}"', *self._declarations.values(), *tables]
        return "\n\n".join(["\n".join(head), *(function.text() for function in self.functions)])
