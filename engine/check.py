"""What is legal after each stage. Cheap checks run always, the thorough ones in tests."""

from collections.abc import Sequence

from .ir import Node, users, walk


def check(before: Sequence[Node], after: Sequence[Node]) -> None:
    """A pass keeps the number of results, their shapes and data types."""
    assert len(before) == len(after), "a pass lost a result"
    for old, new in zip(before, after, strict=True):
        assert old.type[:2] == new.type[:2], f"a pass turned {old!r} into {new!r}"


def check_thoroughly(roots: Sequence[Node]) -> None:
    """The graph is interned and typed: every node is the one that its own fields make."""
    for node in walk(roots):
        assert node.with_operands(node.operands) is node, f"{node!r} is not interned"
        assert node.infer() == node.type, f"{node!r} has another type than its rule gives"


def check_simplified(roots: Sequence[Node]) -> None:
    """After simplification no rule finds anything."""
    for node in walk(roots):
        assert node.simplify() is None, f"{node!r} simplifies to {node.simplify()!r}"


def check_hoisted(roots: Sequence[Node]) -> None:
    """After hoisting and factoring no factor is left to move."""
    uses = users(roots)
    for node in walk(roots):
        assert node.hoist(uses) is None, f"{node!r} still holds a factor"
