"""Lengths that a plan holds for in general: whoever looks at the value of one pins it.

A graph is planned with its lengths as `Length` objects. They are integers, so shape rules, passes and
lowering work on them as on any; but arithmetic with one, or comparing it with anything that its being a
length does not settle, pins it: the plan is then good for this value alone. What is still free when the
plan is made never mattered to it, and the same plan runs at any other value.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

# Below this, an integer of a graph is an axis, a count or a small width: never a free length.
LEAST = 16
# Fewer columns than this are not worth a sweep.
FEWEST_COLUMNS = 16


class Length(int):
    """A length whose value may change between calls.

    Attributes:
        symbol: Its number among the lengths of its plan: equal lengths are one symbol.
        pinned: The symbols of the plan that somebody has looked at.
    """

    symbol: int
    pinned: set[int]

    def __new__(cls, value: int, symbol: int, pinned: set[int]) -> "Length":
        assert value >= LEAST
        self = super().__new__(cls, value)
        self.symbol, self.pinned = symbol, pinned
        return self

    def pin(self) -> None:
        """The plan depends on the value from here on."""
        self.pinned.add(self.symbol)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, Length) and other.pinned is self.pinned:
            return other.symbol == self.symbol  # equal values share a symbol, in this call and any other
        if type(other) is int and other < LEAST:
            return False
        self.pin()
        return int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return True

    __hash__ = int.__hash__


def _pinning(name: str) -> Callable[..., Any]:
    operation = getattr(int, name)

    def method(self: Length, *others: Any) -> Any:
        self.pin()
        for other in others:
            if isinstance(other, Length):
                other.pin()
        return operation(estimate(self), *map(estimate, others))

    method.__name__ = name
    return method


def _comparing(name: str, compare: Callable[[int, int], bool]) -> Callable[[Length, Any], Any]:
    pinning = _pinning(name)

    def method(self: Length, other: Any) -> Any:
        # Every length answers as the least of them does.
        if type(other) is int and compare(LEAST, other) == compare(2**62, other):
            return compare(LEAST, other)
        return pinning(self, other)

    method.__name__ = name
    return method


# fmt: off
_LOOKS = (
    "abs", "add", "and", "ceil", "divmod", "float", "floor", "floordiv", "index", "int", "invert", "lshift", "mod",
    "mul", "neg", "or", "pos", "pow", "radd", "rand", "rdivmod", "rfloordiv", "rlshift", "rmod", "rmul", "ror",
    "round", "rpow", "rrshift", "rshift", "rsub", "rtruediv", "rxor", "sub", "truediv", "trunc", "xor",
)
# fmt: on
for _name in _LOOKS:
    setattr(Length, f"__{_name}__", _pinning(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Length, f"__{_name}__", _comparing(f"__{_name}__", getattr(operator, _name)))


def estimate(length: Any) -> Any:
    """The value, for a decision that is right either way and only costs: which kernel, not what it computes."""
    return int.__add__(length, 0) if isinstance(length, Length) else length


def longest(length: int) -> int:
    """The largest value that a length may have in another call: those of one form have about as many digits."""
    return 2 ** (size_class(length) * 2 + 1) - 1 if isinstance(length, Length) else length


def shortest(length: int) -> int:
    """The smallest value that a length may have in another call."""
    return 2 ** (size_class(length) * 2 - 1) if isinstance(length, Length) else length


def size_class(length: int) -> int:
    """Graphs of one form have lengths of the same classes: a plan is for short ones, or for long ones."""
    return int.bit_length(length) // 2


def pin(value: Any) -> None:
    """Pin every length in nested tuples and lists."""
    if isinstance(value, Length):
        value.pin()
    elif isinstance(value, tuple | list):
        for each in value:
            pin(each)


class PinnedError(Exception):
    """A plan was found to depend on a length that this call has another value of."""


class Lengths:
    """The values that the free lengths of a plan have in one call.

    Args:
        values: By symbol.
        planned: The values that the plan was made with.
        pinned: The symbols that the plan depends on; it may grow while kernels are compiled.
    """

    def __init__(self, values: Sequence[int], planned: Sequence[int], pinned: set[int]) -> None:
        self._values, self._planned, self._pinned = values, planned, pinned

    @property
    def fit(self) -> bool:
        """Whether the plan holds for these values."""
        return all(self._values[symbol] == self._planned[symbol] for symbol in tuple(self._pinned))

    def check(self) -> None:
        """Raise PinnedError unless the plan holds for these values."""
        if not self.fit:
            raise PinnedError

    def of(self, value: Any) -> Any:
        """A length, or a tuple in which some are, with the values of this call."""
        if isinstance(value, Length):
            return self._values[value.symbol]
        if isinstance(value, tuple):
            return type(value)(*map(self.of, value)) if hasattr(value, "_fields") else tuple(map(self.of, value))
        return value


def is_free(value: Any) -> bool:
    """Whether there is a free length in nested tuples."""
    return isinstance(value, Length) or (isinstance(value, tuple) and any(map(is_free, value)))
