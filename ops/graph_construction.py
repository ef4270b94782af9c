"""From what users have of a graph to its edges, sorted by target; nothing that is out of range passes."""

from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, ShapeError
from ..engine.ir import Values
from .array import ArrayLike
from .graph_inputs import Sizes, check_nodes, check_pointers, check_room, counted, extremes, integers
from .graph_order import Edges, sorted_by_target


def edges_of_index(operation: str, edge_index: ArrayLike, num_nodes: Any) -> Edges:
    """Of a row of sources above one of targets."""
    nodes = integers(operation, "edge_index", edge_index, "(2, edges)")
    most = extremes(nodes)[1] + 1
    sizes = Sizes(most, most) if num_nodes is None else _sizes(operation, num_nodes)
    return _edges_of_lists(operation, nodes[0], nodes[1], sizes)


def edges_of_rows(operation: str, indptr: ArrayLike, indices: ArrayLike, num_sources: Any) -> Edges:
    """Of rows that are sorted already."""
    pointers = integers(operation, "indptr", indptr, "(targets + 1,)")
    sources = integers(operation, "indices", indices, "(edges,)")
    of = "num_nodes" if num_sources is None else "num_sources"
    number = max(len(pointers) - 1, 0) if num_sources is None else counted(operation, of, num_sources)
    return checked_edges(operation, Edges(pointers, sources, None, len(sources), number), of)


def edges_of_matrix(operation: str, matrix: Any) -> Edges:
    """Of the entries of a sparse matrix, whatever library it is of, if it can become lists of rows and columns."""
    shape = getattr(matrix, "shape", ())
    if not callable(getattr(matrix, "tocoo", None)) or len(shape) != 2:
        raise ArgumentError(
            f"{operation}: takes a sparse matrix (targets, sources) of SciPy, not {type(matrix).__name__}"
        )
    targets, sources = (counted(operation, f"shape[{axis}]", length) for axis, length in enumerate(shape))
    entries = matrix.tocoo()
    columns = integers(operation, "col", entries.col, "(edges,)")
    rows = integers(operation, "row", entries.row, "(edges,)")
    if len(columns) != len(rows):
        raise ShapeError(f"{operation}: entries have {len(rows)} rows and {len(columns)} columns")
    return _edges_of_lists(operation, columns, rows, Sizes(sources, targets))


def checked_edges(operation: str, edges: Edges, of: str = "num_sources") -> Edges:
    """The same edges.

    Raises:
        ArgumentError: If their rows are none.
        IndexOutOfRangeError: If a source is out of range.
        LimitError: If they are beyond the memory.
    """
    check_pointers(operation, edges.indptr, len(edges.indices))
    check_nodes(operation, "source", edges.indices, edges.sources, of)
    check_room(operation, max(edges.sources, edges.targets), len(edges.indices))
    return edges


def _edges_of_lists(operation: str, sources: Values, targets: Values, sizes: Sizes) -> Edges:
    same = sizes.sources == sizes.targets
    check_nodes(operation, "source", sources, sizes.sources, "num_nodes" if same else "num_sources")
    check_nodes(operation, "target", targets, sizes.targets, "num_nodes" if same else "num_targets")
    check_room(operation, max(sizes), len(sources))
    kind = np.int32 if max(sizes) < 2**31 else np.int64  # the smaller, the quicker sorted
    return sorted_by_target(sources.astype(kind), targets.astype(kind), *sizes)


def _sizes(operation: str, num_nodes: Any) -> Sizes:
    if not isinstance(num_nodes, tuple | list):
        number = counted(operation, "num_nodes", num_nodes)
        return Sizes(number, number)
    if len(num_nodes) != 2:
        raise ArgumentError(f"{operation}: num_nodes is one number, or those of sources and targets, not {num_nodes!r}")
    return Sizes(*(counted(operation, "num_nodes", each) for each in num_nodes))
