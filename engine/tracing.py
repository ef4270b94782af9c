"""Whether a user's function is being traced: then a lazy value must not turn into numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .types import DType

_traced: ContextVar[str | None] = ContextVar("attngraph_traced", default=None)


_scalar: ContextVar[bool] = ContextVar("attngraph_traced_scalars", default=False)


_floats: ContextVar[DType | None] = ContextVar("attngraph_traced_floats", default=None)


@contextmanager
def tracing(what: str, *, scalars: bool = False, floats: DType | None = None) -> Iterator[None]:
    """Inside, lazy arrays refuse to be evaluated; ``what`` names the function in the error.

    Args:
        what: For the error message.
        scalars: Whether the function believes its arguments to be scalars, as a score function does.
        floats: The data type that captured floats take where they meet such scalars; None for their own.
    """
    token, inner, kind = _traced.set(what), _scalar.set(scalars), _floats.set(floats)
    try:
        yield
    finally:
        _traced.reset(token)
        _scalar.reset(inner)
        _floats.reset(kind)


def scalars_are_traced() -> bool:
    """Whether arguments stand for scalars now: then they have no length."""
    return _scalar.get()


def traced_floats() -> DType | None:
    """The data type of captured floats, or None for their own."""
    return _floats.get()


def traced_function() -> str | None:
    """What is being traced now, or None."""
    return _traced.get()
