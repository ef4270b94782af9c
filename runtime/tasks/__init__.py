"""Expressions as dask graphs: tasks that are fused kernels over places of the batch, rows and keys."""

from .collection import Collection as Collection
from .collection import to_dask as to_dask
from .computing import compute_with as compute_with
