"""Public functions of element-wise classes: `unary` and `binary` turn ``Exp`` into ``exp``."""

from collections.abc import Callable
from typing import Any

from ..engine.ir import Node
from ..engine.types import DEFAULT_FLOAT, category
from .array import Array, ArrayLike, lift
from .casting import cast, promoted
from .kinds import Comparison, Elementwise
from .registry import public


def as_taken(node: Node, takes: tuple[int, ...]) -> Node:
    """Integers and booleans as floats, for operators that take floats alone."""
    if takes == (2,) and category(node.dtype) != 2:
        return cast(node, DEFAULT_FLOAT, node.type.weak)
    return node


def unary(cls: type[Elementwise], *aliases: str) -> Callable[[ArrayLike], Array]:
    """The public function of a one-operand element-wise class, under its name and aliases."""
    make: Any = cls

    def function(x: ArrayLike, /) -> Array:
        return Array(make(as_taken(lift(x, cls.name), cls.takes)))

    _publish(function, cls, aliases)
    return function


def binary(cls: type[Elementwise], *aliases: str) -> Callable[[ArrayLike, ArrayLike], Array]:
    """The public function of a two-operand element-wise class: promotes, then makes the node."""
    make: Any = cls
    comparing = issubclass(cls, Comparison)

    def function(x1: ArrayLike, x2: ArrayLike, /) -> Array:
        left, right = promoted(cls.name, lift(x1, cls.name), lift(x2, cls.name), comparing=comparing)
        return Array(make(as_taken(left, cls.takes), as_taken(right, cls.takes)))

    _publish(function, cls, aliases)
    return function


def _publish(function: Any, cls: type[Elementwise], aliases: tuple[str, ...]) -> None:
    function.__name__ = function.__qualname__ = cls.name
    function.__doc__ = cls.__doc__
    function.__module__ = cls.__module__
    public(*aliases)(function)


def lifted_float(x: ArrayLike, operation: str) -> Node:
    """The node of ``x``, integers as float32.

    Raises:
        DTypeError: If ``x`` cannot become an array.
    """
    return as_taken(lift(x, operation), (2,))
