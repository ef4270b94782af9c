"""Triangles and diagonals of the last two axes, by arithmetic on positions."""

from typing import Any

import numpy as np

from ..engine.errors import ShapeError
from ..engine.types import DEFAULT_FLOAT
from .array import Array, ArrayLike, lift
from .creation import arange, as_shape
from .kinds import whole
from .registry import public
from .selection import where


def _triangle(x: ArrayLike, operation: str, k: int, lower: bool) -> Array:
    array = Array(lift(x, operation))
    if array.ndim < 2:
        raise ShapeError(f"{operation}: {array.node.type} has fewer than two axes")
    below = arange(array.shape[-1])[None, :] - arange(array.shape[-2])[:, None]
    k = whole(operation, "k", k)
    return where(below <= k if lower else below >= k, array, False if array.dtype == np.bool_ else 0)


@public()
def tril(x: ArrayLike, /, *, k: int = 0) -> Array:
    """The lower triangle of the last two axes, up to diagonal ``k``; 0 above.

    Raises:
        ShapeError: For fewer than two axes.
    """
    return _triangle(x, "tril", k, True)


@public()
def triu(x: ArrayLike, /, *, k: int = 0) -> Array:
    """The upper triangle of the last two axes, from diagonal ``k`` on; 0 below.

    Raises:
        ShapeError: For fewer than two axes.
    """
    return _triangle(x, "triu", k, False)


@public()
def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None) -> Array:
    """1 on the diagonal ``k`` (above the main one for k > 0), 0 elsewhere; float32 by default."""
    rows, columns = as_shape("eye", (n_rows, n_rows if n_cols is None else n_cols))
    on_diagonal = arange(rows)[:, None] + whole("eye", "k", k) == arange(columns)[None, :]
    return on_diagonal.astype(DEFAULT_FLOAT if dtype is None else dtype)
