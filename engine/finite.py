"""Whether arrays hold NaN or infinity."""

import numpy as np

from .ir import Values
from .types import BFLOAT16, is_float

# Elements that are looked at together: they stay in a cache, and take no memory to speak of.
_TOGETHER = 1 << 15
# The exponent's bits of a bfloat16: all of them are set in infinity and NaN.
_EXPONENT = np.uint16(0x7F80)


def is_finite(array: Values) -> bool:
    """Whether all elements are finite, of an array of any layout; what is no float is."""
    if not is_float(array.dtype):
        return True
    is_bfloat16 = array.dtype == BFLOAT16
    if is_bfloat16:  # whose own functions go through elements one by one
        array = array.view(np.uint16)
    pieces = np.nditer(array, flags=["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=_TOGETHER)
    if is_bfloat16:
        return all(bool((np.bitwise_and(piece, _EXPONENT) != _EXPONENT).all()) for piece in pieces)
    return all(bool(np.isfinite(piece).all()) for piece in pieces)
