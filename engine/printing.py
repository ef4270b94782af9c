"""A graph as text: one node a line, operands before users."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .ir import Node, walk
from .leaves import Constant, Data, Placeholder
from .location import show_line_here


def listing(roots: Sequence[Node], *, lines: bool = False, most: int | None = None) -> str:
    """The graph below ``roots``.

    Scalars stand where they are used; every other node has a number and a line::

        %0 = data                            : float32[4, 8]
        %1 = multiply(%0, 0.125)             : float32[4, 8]
        return %1

    Args:
        roots: The results.
        lines: Say beside each node where the user wrote it.
        most: Show at most this many nodes, the last ones.
    """
    order = [node for node in walk(roots) if not isinstance(node, Constant)]
    names = {node: f"%{number}" for number, node in enumerate(order)}
    shown = order if most is None or len(order) <= most else order[-most:]
    calls = [(f"{names[node]} = {call(node, names)}", node) for node in shown]
    width = max((len(text) for text, _ in calls if len(text) <= 60), default=0)
    rows = [] if len(shown) == len(order) else [f"... {len(order) - len(shown)} nodes before"]
    for text, node in calls:
        place = f"   # {show_line_here(node.lines[0])}" if lines and node.lines else ""
        rows.append(f"{text:<{width}} : {node.type}{place}")
    rows.append("return " + ", ".join(operand(root, names) for root in roots))
    return "\n".join(rows)


def operand(node: Node, names: dict[Node, str]) -> str:
    """How a node is written where it is used: a scalar as itself, else its number."""
    return show_attribute(node.value) if isinstance(node, Constant) else names[node]


def call(node: Node, names: dict[Node, str]) -> str:
    """``multiply(%0, 0.125)``, attributes by name."""
    if isinstance(node, Data):
        return "constant data" if node.frozen else "data"
    if isinstance(node, Placeholder):
        return "placeholder" if node.label is None else f"placeholder {node.label!r}"
    parts = [operand(each, names) for each in node.operands]
    parts += [f"{name}={show_attribute(value)}" for name, value in node.attributes().items()]
    return f"{node.name}({', '.join(parts)})"


def show_attribute(value: Any) -> str:
    """Attributes as Python would write them, data types by name."""
    return value.name if isinstance(value, np.dtype) else repr(value)


def brief(node: Node, depth: int = 2) -> str:
    """An expression in one line, what lies deeper than ``depth`` as its type."""
    if isinstance(node, Constant):
        return show_attribute(node.value)
    if not node.operands or depth == 0:
        return str(node.type)
    return call(node, {each: brief(each, depth - 1) for each in node.operands})
