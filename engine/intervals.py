"""Intervals: between which values an integer expression lies, by arithmetic on the bounds of its arguments."""

from collections.abc import Callable

from .lengths import longest, shortest
from .scalar import Interval, Scalar, below
from .types import BOOL, DType, is_float, is_integer


def interval(scalar: Scalar) -> Interval | None:
    """The least and the largest value that an integer expression can have, or None if nothing is known."""
    if isinstance(scalar.interval, bool):
        scalar.interval = held(scalar, bounded(scalar, interval, lambda length: length))
    return scalar.interval


def bounds_inside(index: Scalar, length: int) -> Interval | None:
    """The bounds of an index if they prove it to lie inside its axis: for every length, or else for these."""
    for bounds_of, least_of in ((widest_interval, shortest), (interval, int)):
        bounds = bounds_of(index)
        if bounds is None:  # nothing is known at any length: to look at this one would pin it
            continue
        least = least_of(length)
        if bounds[0] >= -least and bounds[1] < least:
            return bounds
    return None


def widest_interval(scalar: Scalar) -> Interval | None:
    """The same for every value that its free lengths may have; none of them is pinned."""
    found: dict[Scalar, Interval | None] = {}
    for each in below([scalar]):
        found[each] = held(each, bounded(each, found.__getitem__, longest))
    return found[scalar]


def held(scalar: Scalar, bounds: Interval | None) -> Interval | None:
    """Bounds of a result, made known by those of whole numbers: beyond its type's it wraps around to anything."""
    if bounds is None or not is_integer(scalar.dtype):
        return bounds
    least, most = limits(scalar.dtype)
    if least <= bounds[0] and bounds[1] <= most:
        return bounds
    return None if scalar.dtype.itemsize == 8 else (least, most)


def limits(dtype: DType) -> Interval:
    """The least and the largest integer of a type."""
    bits = 8 * dtype.itemsize
    return (0, (1 << bits) - 1) if dtype.kind == "u" else (-1 << (bits - 1), (1 << (bits - 1)) - 1)


def bounded(
    scalar: Scalar, of: Callable[[Scalar], Interval | None], length_of: Callable[[int], int]
) -> Interval | None:
    """The bounds of an integer from those of its arguments, as if it never wrapped around.

    Args:
        scalar: The integer.
        of: The bounds of an argument.
        length_of: What the length of an axis counts as.
    """
    if scalar.op == "constant":
        return None if is_float(scalar.dtype) else (int(scalar.attribute), int(scalar.attribute))
    if scalar.op == "axis":
        return 0, length_of(scalar.attribute.length) - 1
    if scalar.op == "length":
        return 0, length_of(scalar.attribute[0])
    if scalar.op == "load" and is_integer(scalar.dtype) and scalar.dtype.itemsize < 4:
        return limits(scalar.dtype)  # whatever the array holds
    if scalar.op == "load" or not is_integer(scalar.dtype):
        return None
    if scalar.op == "astype" and scalar.args[0].dtype == BOOL:
        return 0, 1
    sides = [of(each) for each in scalar.args]
    if scalar.op == "where":
        sides = sides[1:]
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return _partly_known(scalar, sides)
    rule = _RULES.get(scalar.op)
    return None if rule is None else rule(*known)


def _partly_known(scalar: Scalar, sides: list[Interval | None]) -> Interval | None:
    """A remainder is bounded by its divisor alone."""
    if scalar.op == "remainder" and sides[1] is not None and sides[1][0] > 0:
        return 0, sides[1][1] - 1
    if scalar.op == "inside" and sides[1] is not None:
        return 0, max(sides[1][1] - 1, 0)
    return None


def _product(a: Interval, b: Interval) -> Interval:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _quotient(a: Interval, b: Interval) -> Interval | None:
    if b[0] <= 0:
        return None
    corners = [x // y for x in a for y in b]
    return min(corners), max(corners)


def _remainder(a: Interval, b: Interval) -> Interval | None:
    if b[0] <= 0:
        return None
    if a[0] >= 0 and a[1] < b[0]:
        return a
    return 0, b[1] - 1


def _magnitude(a: Interval) -> Interval:
    low = 0 if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))
    return low, max(abs(a[0]), abs(a[1]))


def _shifted_right(a: Interval, b: Interval) -> Interval | None:
    if b[0] < 0:
        return None
    corners = [x >> min(y, 63) for x in a for y in b]
    return min(corners), max(corners)


def _bits_of_both(a: Interval, b: Interval) -> Interval | None:
    """What is not negative on one side holds no more bits afterwards."""
    largest = [side[1] for side in (a, b) if side[0] >= 0]
    return (0, min(largest)) if largest else None


def _signum(a: Interval) -> Interval:
    return (a[0] > 0) - (a[0] < 0), (a[1] > 0) - (a[1] < 0)


_RULES: dict[str, Callable[..., Interval | None]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "subtract": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "multiply": _product,
    "negative": lambda a: (-a[1], -a[0]),
    "abs": _magnitude,
    "minimum": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "maximum": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "where": lambda a, b: (min(a[0], b[0]), max(a[1], b[1])),
    "floor_divide": _quotient,
    "remainder": _remainder,
    "astype": lambda a: a,
    "inside": lambda a, b: (0, max(b[1] - 1, 0)),
    "sign": _signum,
    "bitwise_and": _bits_of_both,
    "bitwise_right_shift": _shifted_right,
}
