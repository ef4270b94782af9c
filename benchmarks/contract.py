"""What a library gives to be measured."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Unsupported(Exception):  # noqa: N818, for it is no error
    """The library, or this benchmark, has no words for a case; the message says which."""


class Prepared(NamedTuple):
    """A library made ready for a case.

    Attributes:
        run: From its own arrays to its own result: what is timed.
        load: From q, k and v to its own arrays: what is not.
        unload: From its own result to an array.
    """

    run: Callable[..., Any]
    load: Callable[..., tuple[Any, ...]] = lambda *arrays: arrays
    unload: Callable[[Any], np.ndarray] = np.asarray
