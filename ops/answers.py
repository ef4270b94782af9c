"""What the protocols of NumPy and torch share: how a call is answered, or declined."""

from collections.abc import Callable
from typing import Any

from ..engine.errors import TraceError
from .array import Array


def no_lazy_form(name: str) -> TraceError:
    """The error for what can only be computed, not written into a graph."""
    return TraceError(f"{name}: has no lazy form in attngraph with these arguments; call .compute() on the array first")


def answered(function: Callable[..., Any], name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """What the function gives.

    Raises:
        TraceError: If it does not take such arguments.
    """
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        # Our own errors are TypeErrors too where they concern types; a foreign one is a bad call.
        if type(error) is TypeError:
            raise no_lazy_form(name) from error
        raise


def typed(array: Array, dtype: Any) -> Array:
    """In this type, or as it is."""
    return array if dtype is None else array.astype(dtype)
