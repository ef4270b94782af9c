"""Public functions of element-wise classes: `unary` and `binary` turn ``Exp`` into ``exp``."""

from collections.abc import Callable
from typing import Any

from ..engine.ir import Node
from ..engine.leaves import Constant
from ..engine.types import DEFAULT_FLOAT, FLOATS, category
from .array import Array, ArrayLike, lift
from .casting import cast, comparable, promoted
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
        pair = _with_scalar(x1, x2) or promoted(cls.name, lift(x1, cls.name), lift(x2, cls.name), comparing=comparing)
        if comparing:  # a float32 0.1 equals 0.1, in whatever precision the two are compared
            pair = comparable(pair[0]), comparable(pair[1])
        return Array(make(as_taken(pair[0], cls.takes), as_taken(pair[1], cls.takes)))

    _publish(function, cls, aliases)
    return function


def _with_scalar(x1: ArrayLike, x2: ArrayLike) -> tuple[Node, Node] | None:
    """The commonest pair, a float array and a Python number, promoted without the general rules."""
    if type(x1) is Array and _is_number(x2):
        kind = x1.node.type
        if kind.dtype in FLOATS and not kind.weak:
            return x1.node, Constant(float(x2), kind.dtype, False)
    elif type(x2) is Array and _is_number(x1):
        kind = x2.node.type
        if kind.dtype in FLOATS and not kind.weak:
            return Constant(float(x1), kind.dtype, False), x2.node
    return None


def _is_number(x: ArrayLike) -> bool:
    return type(x) is float or (type(x) is int and -(2**63) <= x < 2**63)


def _publish(function: Any, cls: type[Elementwise], aliases: tuple[str, ...]) -> None:
    function.__name__ = function.__qualname__ = cls.name
    function.__code__ = function.__code__.replace(co_name=cls.name)  # what errors say was called
    function.__doc__ = cls.__doc__
    function.__module__ = cls.__module__
    public(*aliases)(function)


def lifted_float(x: ArrayLike, operation: str) -> Node:
    """The node of ``x``, integers as float32.

    Raises:
        DTypeError: If ``x`` cannot become an array.
    """
    return as_taken(lift(x, operation), (2,))
