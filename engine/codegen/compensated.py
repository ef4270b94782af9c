"""Sums that lose no more the longer they are: in float64, or with what was rounded away beside them."""

from .llvm import Function, Value
from .values import element_of


def added(f: Function, total: Value, lost: Value, part: Value) -> list[Value]:
    """A float64 total, and what its additions rounded away, with one more part of float32 or float64."""
    with f.flags(""):
        if element_of(part.type) == "float":
            return [f.add(total, f.convert(part, "double")), lost]
        whole = f.add(total, part)
        back = f.sub(whole, total)
        error = f.add(f.sub(total, f.sub(whole, back)), f.sub(part, back))
        return [whole, f.add(lost, error)]
