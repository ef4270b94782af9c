"""Where results lie along a sweep's axes: axes of length 1 in between are no obstacle."""

from collections.abc import Sequence

from ..kernel import Elements
from ..scalar import Axis
from ..sweep import Sweep
from ..types import Shape


def placed(shape: Shape, sweep: Sweep, own: Axis, elements: Elements) -> tuple[tuple[Axis, ...], Axis | None] | None:
    """The axes of a result's indices, and the small one among them; None if it has no place in the sweep.

    Args:
        shape: The result's: ``(*batch, own)`` or ``(*batch, own, small)``, with axes of length 1 anywhere.
        sweep: The sweep.
        own: Its axis of rows, for a result of rows; that of columns for one of columns.
        elements: Makes the axes that the sweep has not.
    """
    axes = _matched(shape, (*sweep.batch, own), elements)
    if axes is not None:
        return axes, None
    length = next((length for length in reversed(shape) if length != 1), None)
    if length is None:
        return None
    # Results along one axis share what they are made of.
    known = (output.small for output in sweep.outputs if output.small is not None)
    small = next((axis for axis in known if axis.length == length), None) or elements.new_axis("o", length)
    axes = _matched(shape, (*sweep.batch, own, small), elements)
    return None if axes is None else (axes, small)


def in_order(axes: Sequence[Axis], batch: Sequence[Axis]) -> bool:
    """Whether the axes of a batch come in its order, whatever of length 1 is between."""
    return [axis for axis in axes if axis in batch and axis.length != 1] == [each for each in batch if each.length != 1]


def _matched(shape: Shape, axes: Sequence[Axis], elements: Elements) -> tuple[Axis, ...] | None:
    """An axis for each length, in order; axes of length 1 may be missing or there without being asked for."""
    found: list[Axis] = []
    rest = list(axes)
    for length in shape:
        while rest and rest[0].length == 1 and length != 1:
            rest.pop(0)
        if rest and rest[0].length == length:
            found.append(rest.pop(0))
        elif length == 1:
            found.append(elements.new_axis("o", 1))
        else:
            return None
    return tuple(found) if all(axis.length == 1 for axis in rest) else None
