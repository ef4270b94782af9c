"""Summaries of tables: the least and the largest value in each stretch of rows or columns, made by NumPy.

They are what masks that depend on data, such as document ids, are decided by, for whole tiles: a few values for each
stretch, never one for a pair of a row and a column.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .codegen.interpreter import FUNCTIONS, cast
from .ir import Node, UnfusableError, Values
from .leaves import never_changes
from .passes.predicate import Summary, is_small
from .passes.skip import Skip
from .scalar import Axis, Scalar, below
from .types import is_float


def evaluate(
    roots: Sequence[Scalar],
    arrays: Mapping[Node, Values],
    axes: Mapping[Axis, Values],
    length_of: Callable[[int], int] = int,
) -> list[Values]:
    """Expressions at many places at once, each in its own type.

    Args:
        roots: What to evaluate: no reductions, nor results of a sweep.
        arrays: The arrays that they load.
        axes: The values of their axes, in shapes that broadcast.
        length_of: The lengths of axes in this call.
    """
    known: dict[Scalar, Values] = {}
    with np.errstate(all="ignore"):
        for scalar in below(roots):
            if scalar.op == "length":
                known[scalar] = np.asarray(length_of(scalar.attribute[0]))
                continue
            args = [known[each] for each in scalar.args]
            known[scalar] = np.asarray(_one(scalar, args, arrays, axes)).astype(scalar.dtype, copy=False)
    return [known[root] for root in roots]


def _one(scalar: Scalar, args: list[Values], arrays: Mapping[Node, Values], axes: Mapping[Axis, Values]) -> Any:
    if scalar.op == "constant":
        return scalar.attribute
    if scalar.op == "axis":
        return axes[scalar.attribute]
    if scalar.op == "load":
        return arrays[scalar.attribute][tuple(args)]
    if scalar.op == "astype":
        return cast(args[0], scalar)
    function = FUNCTIONS.get(scalar.op) or getattr(np, scalar.op, None)
    if function is None:
        raise UnfusableError(f"NumPy has no {scalar.op}")
    if is_float(scalar.dtype):  # rounded once, as operators define themselves
        args = [each.astype(np.float64) if is_float(each.dtype) else each for each in args]
    return function(*args)


def hold(skip: Skip, arrays: Mapping[Node, Values]) -> bool:
    """Whether the integers of its tables are so small that what it knows of tiles holds."""
    return all(is_small(arrays[node]) for node in skip.guarded)


def summarize(
    summary: Summary, arrays: Mapping[Node, Values], sizes: Sequence[int], length_of: Callable[[int], int]
) -> tuple[Values, Values]:
    """The least and the largest values in stretches of these sizes, those of the first size first.

    Args:
        summary: What is summarized.
        arrays: The arrays that it loads.
        sizes: Rows, or columns, of a stretch.
        length_of: The lengths of axes in this call.
    """
    axes = (*summary.batch, summary.axis)
    lengths = tuple(length_of(axis.length) for axis in axes)
    grid = np.ogrid[tuple(slice(length) for length in lengths)]
    (values,) = evaluate([summary.value], arrays, dict(zip(axes, grid, strict=True)), length_of)
    values = np.broadcast_to(values, lengths)
    starts = [np.arange(0, lengths[-1], size) for size in sizes]
    least, largest = (
        np.concatenate([function.reduceat(values, each, axis=-1) for each in starts], axis=-1)
        if lengths[-1]
        else np.empty(lengths, values.dtype)
        for function in (np.minimum, np.maximum)
    )
    return least, largest


class _Kept(NamedTuple):
    """A summary of arrays that nobody can change, and what it was made of."""

    read: list[Values]
    lengths: list[int]
    result: tuple[Values, Values]


class Summaries:
    """Computes the summaries of one classification; those of `ag.constant` arrays are kept.

    Args:
        skip: The classification.
        rows: Rows of a stretch.
        columns: Columns of a stretch, in several sizes.
    """

    def __init__(self, skip: Skip, rows: int, columns: Sequence[int]) -> None:
        self._skip, self._rows, self._columns = skip, rows, tuple(columns)
        self._kept: dict[Summary, _Kept] = {}

    def of(self, arrays: Mapping[Node, Values], length_of: Callable[[int], int]) -> dict[Node, Values]:
        """The arrays of all summaries in a call."""
        found: dict[Node, Values] = {}
        for summary in self._skip.summaries:
            found[summary.low], found[summary.high] = self._one(summary, arrays, length_of)
        return found

    def _one(
        self, summary: Summary, arrays: Mapping[Node, Values], length_of: Callable[[int], int]
    ) -> tuple[Values, Values]:
        read = [arrays[each.attribute] for each in below([summary.value]) if each.op == "load"]
        lengths = [length_of(axis.length) for axis in (*summary.batch, summary.axis)]
        kept = self._kept.get(summary)
        if kept is not None and kept.lengths == lengths and all(map(operator.is_, kept.read, read)):
            return kept.result
        sizes = (self._rows,) if summary.axis is self._skip.sweep.rows else self._columns
        result = summarize(summary, arrays, sizes, length_of)
        if all(map(never_changes, read)):
            self._kept[summary] = _Kept(read, lengths, result)
        return result
