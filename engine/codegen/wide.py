"""Values wider than a register. LLVM writes each function of one out register by register, side by side.

So instructions that wait for each other stand apart. One chain after the other would fill the
processor's window with what waits.
"""

from collections.abc import Sequence

from .llvm import Function, Value


def join(f: Function, parts: Sequence[Value]) -> Value:
    """The lanes of all parts, which are as many as a power of two."""
    values = list(parts)
    while len(values) > 1:
        values = [f.concat(left, right) for left, right in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def repeat(f: Function, value: Value, times: int) -> Value:
    """The lanes so many times."""
    return value if times == 1 else f.shuffle(value, [*range(value.lanes)] * times, "repeat")


def split(f: Function, value: Value, parts: int) -> list[Value]:
    """As many values of as many lanes each, one after the other."""
    lanes = value.lanes // parts
    if parts == 1:
        return [value]
    return [f.shuffle(value, range(lanes * part, lanes * (part + 1)), "part") for part in range(parts)]
