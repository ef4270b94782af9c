"""Scalars: expressions for one element, the terms of the kernel language.

Their operators are a closed set, so what works on them never asks which operator a graph had: constants, axes (index
variables), loads from arrays, element-wise functions, calls of functions that came compiled (``call``; the attribute is
the `ScalarCode`), and reductions over an axis.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from .types import DType

# The least and the largest value of an integer.
Interval = tuple[int, int]


class Axis:
    """An index variable that runs over ``range(length)``. Two axes are never the same by their names."""

    __slots__ = ("length", "name")

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length

    def __repr__(self) -> str:
        return self.name


class Scalar:
    """An expression for one element: ``op`` on ``args``, with the axes that it varies over."""

    __slots__ = ("args", "attribute", "axes", "dtype", "height", "interval", "number", "op", "waits")

    def __init__(
        self, op: str, args: "tuple[Scalar, ...]", attribute: Any, dtype: DType, axes: frozenset[Axis], number: int
    ) -> None:
        self.op, self.args, self.attribute = op, args, attribute
        self.dtype, self.axes, self.number = dtype, axes, number
        # What is asked often of whole expressions is known of each: how deep reductions are nested in it,
        # whether it waits for a sweep's results, and, once asked, the interval of an integer.
        self.height = int(op == "reduce")
        self.waits = op in ("accumulator", "maximum_of")
        if args:
            self.height += max([each.height for each in args])
            self.waits = self.waits or any([each.waits for each in args])  # noqa: C419 (a list is quicker)
        self.interval: Interval | bool | None = False

    @property
    def is_constant(self) -> bool:
        """Whether it is a number of the program."""
        return self.op == "constant"

    def __repr__(self) -> str:
        return show(self)


def show(scalar: Scalar, depth: int = 6, names: Mapping[Any, str] = MappingProxyType({})) -> str:
    """``exp(subtract(%q[i, d], 0.5))``: nested, what lies deeper as ``…``; scalars and arrays by their names."""
    if scalar in names:
        return names[scalar]
    if scalar.op == "constant":
        return repr(scalar.attribute)
    if scalar.op == "axis":
        return str(scalar.attribute)
    if depth == 0:
        return "…"
    inner = ", ".join(show(each, depth - 1, names) for each in shown_args(scalar))
    if scalar.op == "load":
        return f"%{names.get(scalar.attribute, scalar.attribute.name)}[{inner}]"
    if scalar.op == "reduce":
        kind, axis = scalar.attribute
        return f"{kind}[{axis}]({inner})"
    return f"{scalar.op}({inner})"


def shown_args(scalar: Scalar) -> tuple[Scalar, ...]:
    """What a listing shows of its arguments: of a condition of lists not how it is looked up, which is first."""
    return scalar.args[1:] if scalar.op == "listed" else scalar.args


def below_shown(roots: Sequence[Scalar]) -> list[Scalar]:
    """As `below`, but for how conditions of lists are looked up."""
    seen, stack = set(roots), list(roots)
    while stack:
        for each in shown_args(stack.pop()):
            if each not in seen:
                seen.add(each)
                stack.append(each)
    return sorted(seen, key=_number)


def below(roots: Sequence[Scalar]) -> list[Scalar]:
    """All scalars of an expression, each once, arguments first: in the order in which they were made."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        for each in stack.pop().args:
            if each not in seen:
                seen.add(each)
                stack.append(each)
    return sorted(seen, key=_number)


_number = attrgetter("number")
