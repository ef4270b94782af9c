"""Whether blocks of positions are empty, partial or full; what tells (`tiles`) is loaded when somebody asks."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .ir import Node
from .lazily import Lazily

if TYPE_CHECKING:
    from . import tiles as _tiles
else:
    _tiles = Lazily(f"{__package__}.tiles")

EMPTY, PARTIAL, FULL = 0, 1, 2

States = np.ndarray[Any, np.dtype[np.int8]]


def block_states(predicate: Node, block: tuple[int, int]) -> States | None:
    """`EMPTY`, `PARTIAL` or `FULL` for each block of positions; None if the predicate is no arithmetic of them.

    Args:
        predicate: Boolean, (batch, heads, rows, columns).
        block: Rows and columns of a block; what lies beyond the end does not count.

    Returns:
        (batch, heads, blocks of rows, blocks of columns).
    """
    return _tiles.states_of(predicate, block)
