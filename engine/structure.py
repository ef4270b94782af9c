"""Nested tuples, lists and dicts of arguments, taken apart and put together again."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from .errors import ArgumentError


class Structure(NamedTuple):
    """The shape of a nest: what kind of container, its keys, its parts; ``kind`` None is a leaf."""

    kind: Any
    keys: tuple[Any, ...]
    parts: "tuple[Structure, ...]"
    key_types: tuple[type, ...] = ()

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        inner = ", ".join(map(str, self.parts))
        if self.kind is dict:
            return "{" + ", ".join(f"{k!r}: {part}" for k, part in zip(self.keys, self.parts, strict=True)) + "}"
        if self.kind is list:
            return f"[{inner}]"
        name = "" if self.kind is tuple else self.kind.__name__
        return f"{name}({inner}{',' if len(self.parts) == 1 and not name else ''})"


LEAF = Structure(None, (), ())


def flatten(nest: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure; None and all that is no container is a leaf.

    Raises:
        ArgumentError: If the nest is deeper than Python recurses, or holds itself.
    """
    try:
        return _flatten(nest)
    except RecursionError:
        raise ArgumentError("arguments or results are nested too deeply, or hold themselves") from None


def _flatten(nest: Any) -> tuple[list[Any], Structure]:
    if not isinstance(nest, dict | list | tuple):
        return [nest], LEAF
    kind = dict if isinstance(nest, dict) else type(nest)
    keys = tuple(nest) if isinstance(nest, dict) else ()
    parts = list(nest.values()) if isinstance(nest, dict) else list(nest)
    leaves: list[Any] = []
    structures = []
    for part in parts:
        if not isinstance(part, dict | list | tuple):
            leaves.append(part)
            structures.append(LEAF)
            continue
        below, structure = _flatten(part)
        leaves += below
        structures.append(structure)
    # 1 and True are one key to Python, but not to a function.
    return leaves, Structure(kind, keys, tuple(structures), tuple(map(type, keys)))


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
    """The leaves of ``given``, which must have the expected structure; dicts may be in another order.

    Raises:
        ArgumentError: If it has another one.
    """
    leaves: list[Any] = []
    if not _matches(given, expected, leaves):
        raise ArgumentError(f"{what}: has structure {flatten(given)[1]} where {expected} is expected")
    return leaves


def _matches(given: Any, expected: Structure, leaves: list[Any]) -> bool:
    """Whether the nest has this structure; its leaves are collected."""
    if expected.kind is None:
        leaves.append(given)
        return not isinstance(given, dict | list | tuple)
    if expected.kind is dict:
        if not isinstance(given, dict) or given.keys() != set(expected.keys):
            return False
        parts = [given[key] for key in expected.keys]
    elif type(given) is expected.kind and len(given) == len(expected.parts):
        parts = list(given)
    else:
        return False
    return all(_matches(part, below, leaves) for part, below in zip(parts, expected.parts, strict=True))
