"""Intervals: between which values an integer expression lies, by arithmetic on the bounds of its arguments."""

from collections.abc import Callable

from .lengths import longest, shortest
from .scalar import Interval, Scalar
from .types import is_integer


def interval(scalar: Scalar) -> Interval | None:
    """The least and the largest value that an integer expression can have, or None if nothing is known."""
    if isinstance(scalar.interval, bool):
        scalar.interval = bounded(scalar, interval, lambda length: length)
    return scalar.interval


def bounds_inside(index: Scalar, length: int) -> Interval | None:
    """The bounds of an index if they prove it to lie inside its axis: for every length, or else for these."""
    for bounds_of, least_of in ((widest_interval, shortest), (interval, int)):
        bounds, least = bounds_of(index), least_of(length)
        if bounds is not None and bounds[0] >= -least and bounds[1] < least:
            return bounds
    return None


def widest_interval(scalar: Scalar) -> Interval | None:
    """The same for every value that its free lengths may have; none of them is pinned."""
    return bounded(scalar, widest_interval, longest)


def bounded(
    scalar: Scalar, of: Callable[[Scalar], Interval | None], length_of: Callable[[int], int]
) -> Interval | None:
    """The bounds of an integer from those of its arguments.

    Args:
        scalar: The integer.
        of: The bounds of an argument.
        length_of: What the length of an axis counts as.
    """
    if scalar.op == "constant":
        return int(scalar.attribute), int(scalar.attribute)
    if scalar.op == "axis":
        return 0, length_of(scalar.attribute.length) - 1
    if scalar.op == "load" or not is_integer(scalar.dtype):
        return None
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
}
