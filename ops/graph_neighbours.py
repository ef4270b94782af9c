"""Other edges between the nodes of a graph: self loops, samples, and what lies some steps away."""

import numpy as np

from ..engine.ir import Values
from .graph_inputs import check_room
from .graph_order import Edges, stable_order

# Pairs of a target and a node that one step of `within_hops` may make at a time.
_MOST_PAIRS = 1 << 22
# Targets whose neighbourhoods are looked for together.
_TARGETS = 1024


def with_self_loops(edges: Edges) -> Edges:
    """One more edge at the end of each row, from the node to itself; behind all others in the given order."""
    nodes = np.arange(edges.targets + 1)
    indptr = edges.indptr + nodes
    is_loop = np.zeros(len(edges.indices) + edges.targets, np.bool_)
    is_loop[indptr[1:] - 1] = True
    indices, order = np.empty(len(is_loop), np.int64), np.empty(len(is_loop), np.int64)
    indices[is_loop], indices[~is_loop] = nodes[:-1], edges.indices
    order[is_loop], order[~is_loop] = edges.given + nodes[:-1], edges.places()
    return Edges(indptr, indices, order, edges.given + edges.targets, edges.sources)


def without_self_loops(edges: Edges) -> Edges:
    """The edges that lead from a node to another."""
    return edges.chosen(edges.indices != edges.rows())


def sampled(edges: Edges, count: int, seed: int) -> Edges:
    """At most ``count`` edges of each target, any of them as likely as any other, without replacement."""
    degrees = np.diff(edges.indptr)
    keep = np.repeat(degrees <= count, degrees)
    open_places = np.flatnonzero(~keep)
    # Shuffled, then sorted by their rows as they stand: each row is shuffled.
    shuffled = np.random.default_rng(seed).permutation(open_places)
    rows = edges.rows()[shuffled]
    order = stable_order(rows, edges.targets)
    if order is not None:
        shuffled, rows = shuffled[order], rows[order]
    lengths = degrees[degrees > count]
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    keep[shuffled[rank < count]] = True
    return edges.chosen(keep)


def within_hops(edges: Edges, steps: int, operation: str) -> Edges:
    """An edge wherever a walk of 1 to ``steps`` edges leads, once, each row's sources ascending.

    A walk that comes back to where it began makes no edge, unless the loop is an edge of the graph itself.
    """
    firsts = range(0, edges.targets if steps else 0, _TARGETS)
    waiting = [(first, min(first + _TARGETS, edges.targets)) for first in reversed(firsts)]
    found: list[Values] = [np.zeros(0, np.int64)]
    degrees = np.zeros(edges.targets, np.int64)
    total = 0
    while waiting:
        first, end = waiting.pop()
        reached = _reached(edges, first, end, steps)
        if reached is None:  # too much at a time
            middle = (first + end) // 2
            waiting += [(middle, end), (first, middle)]
            continue
        rows, nodes = reached
        total += len(nodes)
        check_room(operation, edges.targets, total)
        degrees[first:end] = np.bincount(rows, minlength=end - first)
        found.append(nodes)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(degrees)])
    return Edges(indptr, np.concatenate(found), None, total, edges.sources)


def _reached(edges: Edges, first: int, end: int, steps: int) -> tuple[Values, Values] | None:
    """Targets, counted from ``first``, and the nodes within their reach, sorted; None if they are too many."""
    count = edges.targets
    targets = np.arange(end - first)
    frontier = targets * count + targets + first  # a pair of a target and a node as one number
    known = np.zeros(0, np.int64)
    for step in range(steps):
        rows, at = np.divmod(frontier, count)
        degrees = edges.indptr[at + 1].astype(np.int64) - edges.indptr[at]
        ends = np.cumsum(degrees)
        pairs = int(ends[-1])
        if pairs > _MOST_PAIRS and len(targets) > 1:
            return None
        rows = np.repeat(rows, degrees)
        reached = edges.indices[np.arange(pairs) + np.repeat(edges.indptr[at] - (ends - degrees), degrees)]
        if step:
            away = reached != rows + first
            rows, reached = rows[away], reached[away]
        frontier = np.setdiff1d(np.unique(rows * count + reached), known, assume_unique=True)
        if not frontier.size:
            break
        known = np.sort(np.concatenate([known, frontier]))
    rows, nodes = np.divmod(known, count)
    return rows, nodes
