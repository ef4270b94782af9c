"""Summaries of tables: the least and the largest value in each stretch of rows or columns, made by NumPy.

They are what masks that depend on data, such as document ids, are decided by, for whole tiles: a few values for each
stretch, never one for a pair of a row and a column.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .codegen.interpreter import FUNCTIONS, cast
from .ir import Node, UnfusableError, Values
from .leaves import never_changes
from .listed_runs import runs_of
from .passes.listed import Listed
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
        self._kept: dict[Summary | Listed, _Kept] = {}

    def of(self, arrays: Mapping[Node, Values], length_of: Callable[[int], int]) -> dict[Node, Values]:
        """The arrays of all summaries in a call."""
        found: dict[Node, Values] = {}
        for summary in self._skip.summaries:
            sizes = (self._rows,) if summary.axis is self._skip.sweep.rows else self._columns
            make = functools.partial(summarize, summary, arrays, sizes, length_of)
            axes = (*summary.batch, summary.axis)
            found[summary.low], found[summary.high] = self._kept_or(
                make, summary, [summary.value], axes, arrays, length_of
            )
        listed = self._skip.listed
        if listed is not None:
            make = functools.partial(self._runs, listed, arrays, length_of)
            axes = (*listed.batch, self._skip.sweep.rows, self._skip.sweep.columns)
            parts = [listed.condition]
            found[listed.begins], found[listed.runs] = self._kept_or(make, listed, parts, axes, arrays, length_of)
        return found

    def _runs(
        self, listed: Listed, arrays: Mapping[Node, Values], length_of: Callable[[int], int]
    ) -> tuple[Values, Values]:
        def values(scalar: Scalar, at: Mapping[Axis, Values]) -> Values:
            (found,) = evaluate([scalar], arrays, at, length_of)
            return found

        lists = arrays[listed.starts], arrays[listed.indices]
        return runs_of(listed, self._skip.sweep, *lists, self._rows, length_of, values)

    def _kept_or(
        self,
        make: Callable[[], tuple[Values, Values]],
        name: Summary | Listed,
        parts: Sequence[Scalar],
        axes: Sequence[Axis],
        arrays: Mapping[Node, Values],
        length_of: Callable[[int], int],
    ) -> tuple[Values, Values]:
        """What was made before of the same arrays that nobody can change, or what is made now."""
        read = [arrays[each.attribute] for each in below(parts) if each.op == "load"]
        lengths = [length_of(axis.length) for axis in axes]
        kept = self._kept.get(name)
        if kept is not None and kept.lengths == lengths and all(map(operator.is_, kept.read, read)):
            return kept.result
        result = make()
        if all(map(never_changes, read)):
            self._kept[name] = _Kept(read, lengths, result)
        return result
