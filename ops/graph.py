"""Graphs: ``ag.CSR`` holds edges sorted by their target, so that what is computed of them runs row by row.

A graph attention is written with gathers and segment operations over `CSR.src` and `CSR.dst`, as in Veličković et al.,
Graph Attention Networks (arXiv:1710.10903):

    import attngraph as ag
    import numpy as np

    rng = np.random.default_rng(0)
    edge_index = rng.integers(0, 50, (2, 300))  # sources, and the targets that they send to, as PyTorch Geometric's
    csr = ag.CSR.from_edge_index(edge_index, num_nodes=50).remove_self_loops().add_self_loops()
    features, weight = rng.standard_normal((50, 16)), rng.standard_normal((16, 4, 8)) / 4
    to_source, to_target = rng.standard_normal((2, 4, 8))  # 4 heads of width 8

    @ag.compile
    def layer(features, weight, to_source, to_target):
        h = ag.einsum("ni,ihf->nhf", features, weight)
        score = ag.sum(h * to_source, axis=-1)[csr.src] + ag.sum(h * to_target, axis=-1)[csr.dst]
        alpha = ag.segment_softmax(ag.leaky_relu(score, 0.2), csr.dst, csr.num_nodes)
        return ag.segment_sum(alpha[..., None] * h[csr.src], csr.dst, csr.num_nodes)

    out = layer(features, weight, to_source, to_target)  # (nodes, heads, width)
    assert out.shape == (50, 4, 8)
    grad = ag.grad(lambda w: ag.sum(layer(features, w, to_source, to_target) ** 2))(weight).compute()
    assert grad.shape == weight.shape
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, ShapeError
from ..engine.ir import Values
from .array import Array, ArrayLike, constant
from .graph_attributes import EdgeOrder
from .graph_construction import checked_edges, edges_of_index, edges_of_matrix, edges_of_rows
from .graph_inputs import check_room, counted
from .graph_neighbours import sampled, with_self_loops, within_hops, without_self_loops
from .graph_order import Edges, frozen


class CSR:
    """The edges of a graph in compressed rows: a row for each target, with its sources.

    Made by `from_edge_index`, `from_indptr` or `from_scipy`. It never changes: what it was made of is copied, and its
    arrays cannot be written to. Nodes without edges have empty rows; an edge that is there twice counts twice. Edge
    attributes stay in the order in which the edges were given; `sort` brings them into that of `src` and `dst`.
    Source of the names: PyTorch Geometric, SciPy.

    Attributes:
        num_sources: How many nodes edges come from.
        num_targets: How many nodes they lead to.
        num_edges: How many edges there are.
        indptr: Where each target's edges begin and end, integers (targets + 1,): int32 if all fit, else int64.
        indices: The source of each edge, (edges,), of the same type.
        src: The same as a lazy array, which is what to gather by: ``h[csr.src]``.
        dst: The target of each edge, lazy, ascending: the segments of ``segment_sum(…, csr.dst, csr.num_targets)``.
    """

    __slots__ = ("__weakref__", "_attributes", "_edges", "dst", "src")
    src: Array
    dst: Array

    def __init__(self, edges: Edges) -> None:
        if not isinstance(edges, Edges):
            raise ArgumentError(
                "CSR: made by CSR.from_edge_index(edge_index), CSR.from_indptr(indptr, indices) or "
                f"CSR.from_scipy(matrix), not of {type(edges).__name__}"
            )
        self._edges = edges.compact()
        self._attributes = EdgeOrder(self._edges)
        self.src, self.dst = constant(self._edges.indices), constant(frozen(self._edges.rows()))

    @classmethod
    def from_edge_index(cls, edge_index: ArrayLike, num_nodes: int | Sequence[int] | None = None) -> "CSR":
        """Of edges as PyTorch Geometric has them: (2, edges), the sources above their targets.

        Args:
            edge_index: Integers of any type. The edges of one target stay in the order that they have here.
            num_nodes: How many nodes there are; two numbers, of sources and of targets, where these are different
                nodes. By default as many as the largest index asks for.

        Raises:
            DTypeError: If the indices are no integers.
            ShapeError: If there are not two rows of them.
            IndexOutOfRangeError: If one is below 0, or not below ``num_nodes``.
            ArgumentError: If ``num_nodes`` is no whole number (or two), or negative.
            LimitError: For so many nodes that their rows are beyond the memory.
        """
        return cls(edges_of_index("CSR.from_edge_index", edge_index, num_nodes))

    @classmethod
    def from_indptr(cls, indptr: ArrayLike, indices: ArrayLike, num_sources: int | None = None) -> "CSR":
        """Of rows that are there already, which stay as they are.

        Args:
            indptr: Where the edges of each target begin and end, integers (targets + 1,).
            indices: The sources, integers (edges,).
            num_sources: How many nodes edges come from, if these are other nodes than the targets.

        Raises:
            DTypeError: If one of them holds no integers.
            ShapeError: If one of them has not one axis.
            ArgumentError: If ``indptr`` does not begin at 0, decreases, or does not end at the number of edges; if
                ``num_sources`` is no whole number, or negative.
            IndexOutOfRangeError: If a source is below 0, or not below the number of sources.
            LimitError: As `from_edge_index`.
        """
        return cls(edges_of_rows("CSR.from_indptr", indptr, indices, num_sources))

    @classmethod
    def from_scipy(cls, matrix: Any) -> "CSR":
        """Of a sparse matrix of SciPy, in any of its formats: rows are targets, columns sources, entries edges.

        What is stored is an edge, a stored 0 too. The given order is that of ``matrix.tocoo()``, for the formats
        COO, CSR, CSC that of ``matrix.data``.

        Raises:
            ArgumentError: If it is no such matrix.
            ShapeError, DTypeError, IndexOutOfRangeError, LimitError: As `from_edge_index`, if it is damaged.
        """
        return cls(edges_of_matrix("CSR.from_scipy", matrix))

    @property
    def num_sources(self) -> int:
        """How many nodes edges come from."""
        return self._edges.sources

    @property
    def num_targets(self) -> int:
        """How many nodes edges lead to."""
        return self._edges.targets

    @property
    def num_nodes(self) -> int:
        """How many nodes there are.

        Raises:
            ShapeError: If sources and targets differ in number.
        """
        return self._square("CSR.num_nodes")

    @property
    def num_edges(self) -> int:
        """How many edges there are."""
        return len(self._edges.indices)

    @property
    def indptr(self) -> np.ndarray[Any, Any]:
        """Where each target's edges begin, and where the last one's end: (targets + 1,)."""
        return self._edges.indptr

    @property
    def indices(self) -> np.ndarray[Any, Any]:
        """The source of each edge, sorted by target: (edges,)."""
        return self._edges.indices

    @property
    def edge_order(self) -> np.ndarray[Any, Any]:
        """For each edge its place in the given order: (edges,). ``indices`` is ``edge_index[0][edge_order]``."""
        return frozen(self._edges.places()) if self._edges.order is None else self._edges.order

    def sort(self, edge_attr: ArrayLike, /) -> Any:
        """Attributes of the edges, (given edges, …), in the order of `src` and `dst`, (edges, …).

        A NumPy array is sorted now and stays one; anything else becomes a lazy array, through which gradients pass.

        Raises:
            ShapeError: If there is not one row for each edge in the given order.
        """
        return self._attributes.sorted("CSR.sort", edge_attr)

    def unsort(self, values: ArrayLike, /) -> Any:
        """The inverse: of values for each edge, (edges, …), those in the given order, (given edges, …).

        Edges that were given and are no more (`sample`, `remove_self_loops`) get zeros. NumPy arrays and others as in
        `sort`.

        Raises:
            ShapeError: If there is not one row for each edge.
        """
        return self._attributes.given("CSR.unsort", values)

    def add_self_loops(self) -> "CSR":
        """With one more edge from each node to itself, whether it has one or not: PyTorch Geometric's meaning.

        In the given order they come last, node after node: that is where `sort` expects their attributes.

        Raises:
            ShapeError: If sources and targets differ in number.
        """
        nodes = self._square("CSR.add_self_loops")
        check_room("CSR.add_self_loops", nodes, self.num_edges + nodes)
        return CSR(with_self_loops(self._edges))

    def remove_self_loops(self) -> "CSR":
        """Without edges from a node to itself. The given order stays: `sort` takes the attributes that it took.

        Raises:
            ShapeError: If sources and targets differ in number.
        """
        self._square("CSR.remove_self_loops")
        return CSR(without_self_loops(self._edges))

    def k_hop(self, k: int) -> "CSR":
        """An edge from each node to every other one that a walk of 1 to ``k`` edges leads to, once.

        A node is a neighbour of its own only if the graph itself has that edge: walks that come back make none (as
        in PyTorch Geometric's TwoHop). The edges are new ones, given in the order that they have: targets ascending,
        and the sources of each.

        Raises:
            ArgumentError: If ``k`` is no whole number, or negative. 0 steps lead nowhere.
            ShapeError: If sources and targets differ in number.
            LimitError: If there are so many that they are beyond the memory.
        """
        steps = counted("CSR.k_hop", "k", k)
        self._square("CSR.k_hop")
        return CSR(within_hops(self._edges, steps, "CSR.k_hop"))

    def sample(self, count: int, seed: int) -> "CSR":
        """At most ``count`` edges of each target, chosen without replacement, any as likely as any other.

        Those that stay keep their order, and `sort` takes the attributes that it took (Hamilton et al.,
        arXiv:1706.02216, samples neighbourhoods so).

        Args:
            count: How many at most.
            seed: From 0; the same seed gives the same edges.

        Raises:
            ArgumentError: If one of them is no whole number, or negative.
        """
        most, start = counted("CSR.sample", "count", count), counted("CSR.sample", "seed", seed)
        return CSR(sampled(self._edges, most, start))

    def _square(self, operation: str) -> int:
        if self.num_sources != self.num_targets:
            raise ShapeError(
                f"{operation}: needs edges among nodes of one kind, not from {self.num_sources} sources to "
                f"{self.num_targets} targets"
            )
        return self.num_targets

    def __repr__(self) -> str:
        nodes = f"num_sources={self.num_sources}, num_targets={self.num_targets}"
        if self.num_sources == self.num_targets:
            nodes = f"num_nodes={self.num_nodes}"
        return f"CSR({nodes}, num_edges={self.num_edges})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, tuple(self._edges)


def _restored(indptr: Values, indices: Values, order: Values | None, given: int, sources: int) -> CSR:
    """A graph out of a pickle, checked as one that is made anew."""
    return CSR(checked_edges("CSR", Edges(indptr, indices, order, given, sources)))
