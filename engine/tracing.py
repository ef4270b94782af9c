"""Whether a user's function is being traced: then a lazy value must not turn into numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_traced: ContextVar[str | None] = ContextVar("attngraph_traced", default=None)


@contextmanager
def tracing(what: str) -> Iterator[None]:
    """Inside, lazy arrays refuse to be evaluated; ``what`` names the function in the error."""
    token = _traced.set(what)
    try:
        yield
    finally:
        _traced.reset(token)


def traced_function() -> str | None:
    """What is being traced now, or None."""
    return _traced.get()
