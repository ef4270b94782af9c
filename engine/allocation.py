"""Memory that there is not: which operation wanted how much."""

import math
from collections.abc import Sequence
from typing import Any

from .errors import LimitError
from .ir import Node


def no_memory(nodes: Sequence[Node], error: MemoryError) -> LimitError:
    """The error for an allocation that failed while these nodes were computed.

    NumPy says of its own how much they were; of others the results are known.
    """
    shape, dtype = getattr(error, "shape", None), getattr(error, "dtype", None)
    if shape is not None and dtype is not None:
        wanted = math.prod(shape) * int(dtype.itemsize)
    else:
        wanted = sum(node.type.nbytes for node in nodes)
    names = ", ".join(dict.fromkeys(node.name for node in nodes))
    types = ", ".join(dict.fromkeys(str(node.type) for node in nodes))
    line: Any = next((node.lines[0] for node in nodes if node.lines), None)
    return LimitError(f"{names}: there is no memory for {wanted} bytes, wanted for {types}", line)
