"""Lazy arrays with the names of their axes: from and to xarray, which is not imported before somebody has it."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.ir import Node, walk
from ..engine.labels import Axis, Labels, labels_of
from .array import Array, lift
from .registry import public


def is_labelled(value: Any) -> bool:
    """Whether it is an xarray DataArray; False without a look at it where xarray is not loaded."""
    kind = getattr(sys.modules.get("xarray"), "DataArray", None)
    return kind is not None and isinstance(value, kind)


def labels_in(roots: Sequence[Node], known: Mapping[Node, Labels] | None = None) -> list[Labels]:
    """Labels of nodes, from those that are known and from the DataArrays that their graph holds."""
    return labels_of(roots, walk(roots), known or {})


@public()
def axis_names(x: Any, /) -> tuple[Any, ...]:
    """What the axes of a lazy array are called; None where nothing says so."""
    (labels,) = labels_in([lift(x, "axis_names")])
    return tuple(axis.dim if axis is not None and _is_name(axis) else None for axis in labels.axes)


@public()
def to_xarray(x: Any, /) -> Any:
    """A lazy array as a DataArray that is still lazy; see `Array.to_xarray`."""
    array = Array(lift(x, "to_xarray"))
    return with_labels(array, labels_in([array.node])[0])


def with_labels(value: Any, labels: Labels) -> Any:
    """An array, lazy or not, as a DataArray.

    Args:
        value: The array.
        labels: Of its axes. One without a name is called ``dim_N``, as xarray calls such; so is the second of two that
            have the same.
    """
    xarray: Any = importlib.import_module("xarray")
    dims: list[Any] = []
    for place, axis in enumerate(labels.axes):
        is_new = _is_name(axis) and axis is not None and axis.dim not in dims
        dims.append(axis.dim if is_new and axis is not None else f"dim_{place}")
    named = {dim: axis for dim, axis in zip(dims, labels.axes, strict=True) if axis is not None and axis.dim == dim}
    lead = labels.lead
    keeps = lead is not None and xarray.get_options()["keep_attrs"] is not False
    coords = _coordinates(xarray, named, lead)
    return xarray.DataArray(value, coords, dims, getattr(lead, "name", None), lead.attrs if keeps else None)


def _is_name(axis: Axis | None) -> bool:
    return axis is not None and axis.dim is not None and axis.part == (0, 1)


def _coordinates(xarray: Any, named: Mapping[Any, Axis], lead: Any) -> Any:
    variables: dict[Any, Any] = {}
    indexes: dict[Any, Any] = {}
    for dim, axis in named.items():
        source = axis.whole if hasattr(axis.whole, "xindexes") else None
        for name, variable in axis.coordinates.items():
            if source is not None and name in source.xindexes:
                indexes[name] = source.xindexes[name]
            elif name == dim and variable.to_index().nlevels == 1:
                indexes[name] = xarray.indexes.PandasIndex(variable.to_index(), dim)
            elif name == dim or (dim in axis.coordinates and axis.coordinates[dim].to_index().nlevels > 1):
                continue  # levels of a selection: xarray makes them of their index alone
            variables[name] = variable
    for name, variable in {} if lead is None else lead.coords.variables.items():
        # Those of no axis, or of several, all of which are there as they were.
        is_kept = all(dim in named and named[dim].whole is lead for dim in variable.dims)
        if name not in variables and len(variable.dims) != 1 and is_kept:
            variables[name] = variable
    return xarray.Coordinates(variables, indexes)
