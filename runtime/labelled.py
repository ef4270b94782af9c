"""Compiled functions on xarray's arrays: labels are taken off the arguments, and put on the results."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..engine.ir import Node
from ..engine.labels import Labels, labels_of_source
from ..engine.sources import read
from ..engine.structure import flatten, unflatten
from ..ops.array import Array
from ..ops.labelled import is_labelled, labels_in, with_labels


def without_labels(leaf: Any) -> Any:
    """What a DataArray holds: the lazy array, or its values now. Anything else as it is."""
    if not is_labelled(leaf):
        return leaf
    held = leaf.variable._data
    return held if isinstance(held, Array) else read(leaf)


def taken_off(out: Any) -> Any:
    """A structure of arrays that results are written into, those of DataArrays themselves."""
    leaves, structure = flatten(out)
    return unflatten(structure, iter([leaf.values if is_labelled(leaf) else leaf for leaf in leaves]))


def known_labels(pairs: Iterable[tuple[Node, Any]]) -> dict[Node, Labels]:
    """Labels of the nodes that stand for a call's arrays, from the arrays; two that are one node have the first's."""
    known: dict[Node, Labels] = {}
    for node, leaf in pairs:
        labels = labels_of_source(leaf) if is_labelled(leaf) else None
        if labels is not None:
            known.setdefault(node, labels)
    return known


def labelled_results(results: Sequence[Any], nodes: Sequence[Node | None], known: dict[Node, Labels]) -> list[Any]:
    """Results as DataArrays, labelled by what their graph says of them."""
    labels = iter(labels_in([node for node in nodes if node is not None], known))
    return [None if result is None else with_labels(result, next(labels)) for result in results]
