"""Pictures of masks: blocks as characters."""

import numpy as np

from ..engine.block_states import EMPTY, FULL, States

_FULL, _PARTIAL, _EMPTY = "██", "░░", "  "
# A printed mask is a picture: at most this many characters' worth of blocks along an axis.
MOST_SHOWN = 40


def share_of_empty(states: States) -> float:
    """In per cent; 0 of no blocks at all."""
    return float(100.0 * (states == EMPTY).mean()) if states.size else 0.0


def drawn(states: States) -> list[str]:
    """Blocks as characters: full, partial, empty; several blocks as one where there are too many."""
    step = [max(1, -(-length // MOST_SHOWN)) for length in states.shape]
    if 0 in states.shape:
        return []
    starts = [np.arange(0, length, by) for length, by in zip(states.shape, step, strict=True)]
    least, most = (
        function.reduceat(function.reduceat(states, starts[0], axis=0), starts[1], axis=1)
        for function in (np.minimum, np.maximum)
    )
    return [
        "".join(_EMPTY if high == EMPTY else _FULL if low == FULL else _PARTIAL for low, high in zip(*row, strict=True))
        for row in zip(least, most, strict=True)
    ]
