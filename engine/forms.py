"""The form of a graph: what is left of it when its lengths are forgotten.

Graphs of one form differ in the values of their lengths alone, and in the arrays that they read.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .ir import Node, freeze, walk
from .leaves import Constant, Data, Placeholder
from .lengths import LEAST, Length, estimate, size_class
from .types import TensorType


class GraphForm(NamedTuple):
    """A graph without its lengths.

    Attributes:
        key: Equal for graphs of one form.
        values: The lengths, by symbol: those of one value are one symbol.
        leaves: The nodes that bring arrays, in order.
        order: All nodes, operands first.
    """

    key: tuple[Any, ...]
    values: tuple[int, ...]
    leaves: tuple[Node, ...]
    order: tuple[Node, ...]


def form_of(roots: Sequence[Node]) -> GraphForm:
    """The form of a graph, and what it leaves out."""
    symbols: dict[int, int] = {}
    places: dict[Node, int] = {}
    leaves: list[Node] = []
    rows: list[Any] = []

    def frozen(value: Any) -> Any:
        kind = type(value)
        if kind is int:
            return ("length", symbols.setdefault(value, len(symbols))) if value >= LEAST else value
        if kind is bool or kind is str or value is None:
            return kind, value
        if kind is tuple:
            return kind, *map(frozen, value)
        return freeze(value)

    for node in walk(roots):
        places[node] = len(places)
        if is_source(node):
            leaves.append(node)
            rows.append((frozen(node.shape), node.dtype.num, node.type.weak))
            continue
        if isinstance(node, Constant):
            rows.append((Constant, freeze(node.value), node.element_type.num, node.weak))
            continue
        row: list[Any] = [type(node)]
        for field in node.fields:
            value = getattr(node, field)
            if field not in node.operand_fields:
                row.append(frozen(value))
            elif isinstance(value, tuple):
                row.append(tuple([places[each] for each in value]))
            else:
                row.append(places[value])
        rows.append(tuple(row))
    sizes = tuple([size_class(value) for value in symbols])
    key = (tuple(rows), tuple([places[root] for root in roots]), sizes)
    return GraphForm(key, tuple(symbols), tuple(leaves), tuple(places))


def is_source(node: Node) -> bool:
    """Whether it brings an array."""
    return isinstance(node, Data | Placeholder)


def with_free_lengths(form: GraphForm, roots: Sequence[Node]) -> tuple[tuple[Node, ...], tuple[Node, ...], set[int]]:
    """The same graph on free lengths, its sources replaced by placeholders.

    Returns:
        The results, the placeholders in the order of ``form.leaves``, and the set that fills with the
        symbols whose values are looked at.
    """
    pinned: set[int] = set()
    lengths = {value: Length(value, symbol, pinned) for symbol, value in enumerate(form.values)}

    def freed(value: Any) -> Any:
        if type(value) is int:
            return lengths.get(value, value)
        if type(value) is tuple:
            return tuple([freed(each) for each in value])
        return value

    made: dict[Node, Node] = {}
    for node in form.order:
        if is_source(node):
            kind = TensorType(freed(node.shape), node.dtype, node.type.weak)
            made[node] = Placeholder.new(kind)
            continue
        if isinstance(node, Constant):
            made[node] = node
            continue
        args: list[Any] = []
        for field in node.fields:
            value = getattr(node, field)
            if field not in node.operand_fields:
                args.append(freed(value))
            else:
                args.append(tuple([made[each] for each in value]) if isinstance(value, tuple) else made[value])
        made[node] = type(node)(*args)
        assert tuple(map(estimate, made[node].shape)) == node.shape, node
    return tuple(made[root] for root in roots), tuple(made[leaf] for leaf in form.leaves), pinned
