"""Whether arrays hold NaN or infinity."""

import numpy as np

from .ir import Values

# Elements that are looked at together: they stay in a cache, and take no memory to speak of.
_TOGETHER = 1 << 15


def is_finite(array: Values) -> bool:
    """Whether all elements are finite, of an array of any layout; what is no float is."""
    if array.dtype.kind != "f":
        return True
    pieces = np.nditer(array, flags=["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=_TOGETHER)
    return all(bool(np.isfinite(piece).all()) for piece in pieces)
