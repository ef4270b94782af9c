"""Nested tuples, lists and dicts of arguments, taken apart and put together again."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from .errors import ArgumentError


class Structure(NamedTuple):
    """The shape of a nest: what kind of container, its keys, its parts; ``kind`` None is a leaf."""

    kind: Any
    keys: tuple[Any, ...]
    parts: "tuple[Structure, ...]"

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        inner = ", ".join(map(str, self.parts))
        if self.kind is dict:
            return "{" + ", ".join(f"{k!r}: {part}" for k, part in zip(self.keys, self.parts, strict=True)) + "}"
        return f"[{inner}]" if self.kind is list else f"({inner})"


LEAF = Structure(None, (), ())


def flatten(nest: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure; None and all that is no container is a leaf."""
    if not isinstance(nest, dict | list | tuple):
        return [nest], LEAF
    kind = dict if isinstance(nest, dict) else type(nest)
    keys = tuple(nest) if isinstance(nest, dict) else ()
    parts = list(nest.values()) if isinstance(nest, dict) else list(nest)
    leaves: list[Any] = []
    structures = []
    for part in parts:
        below, structure = flatten(part)
        leaves += below
        structures.append(structure)
    return leaves, Structure(kind, keys, tuple(structures))


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The nest with these leaves."""
    if structure.kind is None:
        return next(leaves)
    parts = [unflatten(part, leaves) for part in structure.parts]
    if structure.kind is dict:
        return dict(zip(structure.keys, parts, strict=True))
    if hasattr(structure.kind, "_fields"):
        return structure.kind(*parts)
    return structure.kind(parts)


def same_structure(given: Any, expected: Structure, what: str) -> list[Any]:
    """The leaves of ``given``, which must have the expected structure.

    Raises:
        ArgumentError: If it has another one.
    """
    leaves, structure = flatten(given)
    if structure != expected:
        raise ArgumentError(f"{what}: has structure {structure} where {expected} is expected")
    return leaves
