"""The order in which graphs are walked."""

from collections.abc import Callable, Container, Hashable, Iterable, Sequence
from typing import TypeVar

_Item = TypeVar("_Item", bound=Hashable)


def postorder(
    roots: Iterable[_Item], inside: Callable[[_Item], Sequence[_Item]], without: Container[_Item] = ()
) -> list[_Item]:
    """All that lies below ``roots``, each once, what is inside of it first. Chains of any length.

    Args:
        roots: Where to begin.
        inside: What an item is made of.
        without: What is left out, with all that only it is made of.
    """
    order: list[_Item] = []
    seen: set[_Item] = set()
    for root in roots:
        stack: list[tuple[_Item, bool]] = [(root, False)]
        while stack:
            item, done = stack.pop()
            if done:
                order.append(item)
            elif item not in seen and item not in without:
                seen.add(item)
                stack.append((item, True))
                stack.extend((each, False) for each in reversed(inside(item)) if each not in seen)
    return order
