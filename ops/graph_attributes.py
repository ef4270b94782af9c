"""Attributes of edges: between the order in which the edges were given, and that of a graph's rows."""

from typing import Any

import numpy as np

from ..engine.errors import ShapeError
from ..engine.ir import Node
from .array import Array, ArrayLike, constant, lift
from .creation import zeros
from .graph_order import Edges
from .indexing import getitem
from .selection import where


class EdgeOrder:
    """Both ways between the given order and that of the rows."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._inverse: tuple[Array, Array] | None = None

    def sorted(self, operation: str, values: ArrayLike) -> Any:
        """(given edges, …) to (edges, …): arrays of NumPy now, others lazily."""
        node = lift(values, operation)
        _check_rows(operation, "edge in the given order", node, self._edges.given)
        order = self._edges.order
        if isinstance(values, np.ndarray):
            return np.array(values if order is None else values[order])
        return Array(node) if order is None else getitem(Array(node), constant(order))

    def given(self, operation: str, values: ArrayLike) -> Any:
        """(edges, …) to (given edges, …), zeros for those that are no more."""
        node = lift(values, operation)
        _check_rows(operation, "edge", node, len(self._edges.indices))
        if isinstance(values, np.ndarray):
            result = np.zeros((self._edges.given, *values.shape[1:]), values.dtype)
            result[self._edges.places()] = values
            return result
        return Array(node) if self._edges.order is None else self._placed(node)

    def _placed(self, node: Node) -> Array:
        edges, given = len(self._edges.indices), self._edges.given
        if not edges:
            return zeros((given, *node.shape[1:]), dtype=node.dtype)
        places, is_there = self._places()
        found = getitem(Array(node), places)
        if edges == given:
            return found
        is_there = is_there.reshape((given,) + (1,) * (found.ndim - 1))
        return where(is_there, found, zeros((), dtype=node.dtype))

    def _places(self) -> tuple[Array, Array]:
        """For each given edge its place among the edges, and whether it is there: the same arrays every time."""
        if self._inverse is None:
            order, given = self._edges.places(), self._edges.given
            places, is_there = np.zeros(given, order.dtype), np.zeros(given, np.bool_)
            places[order] = np.arange(len(order))
            is_there[order] = True
            self._inverse = constant(places), constant(is_there)
        return self._inverse


def _check_rows(operation: str, what: str, node: Node, due: int) -> None:
    if not node.shape or node.shape[0] != due:
        raise ShapeError(f"{operation}: {node.type} has not one row for each {what}, of which there are {due}")
