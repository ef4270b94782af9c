"""Whether a user's function is being traced: then a lazy value must not turn into numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_traced: ContextVar[str | None] = ContextVar("attngraph_traced", default=None)


_scalar: ContextVar[bool] = ContextVar("attngraph_traced_scalars", default=False)


@contextmanager
def tracing(what: str, *, scalars: bool = False) -> Iterator[None]:
    """Inside, lazy arrays refuse to be evaluated; ``what`` names the function in the error.

    Args:
        what: For the error message.
        scalars: Whether the function believes its arguments to be scalars, as a score function does.
    """
    token, inner = _traced.set(what), _scalar.set(scalars)
    try:
        yield
    finally:
        _traced.reset(token)
        _scalar.reset(inner)


def scalars_are_traced() -> bool:
    """Whether arguments stand for scalars now: then they have no length."""
    return _scalar.get()


def traced_function() -> str | None:
    """What is being traced now, or None."""
    return _traced.get()
