"""How a loop over segments finds its operands, in how many passes it goes over the edges of a row, and what is kept."""

from typing import Any, NamedTuple

from ..order import postorder
from ..scalar import Scalar, below
from ..segment_loop import SegmentLoop, arguments, edge_cost
from .layout import number_name
from .loop_layout import numbers_of
from .loop_passes import WORTH_KEEPING, Pass, fill_for_later

HEAD = ("tasks", "edges", "trouble")
POINTERS = ("bounds", "starts", "order")


class SegmentForm(NamedTuple):
    """What one call's code depends on, besides the loop.

    Attributes:
        types: Of every input its type in memory.
        is_sorted: Whether edges lie in the order of their rows.
        keeps_edges: Whether rows are short enough that values of one pass are kept for the next.
        asks_ahead: Whether arrays are so large that rows which edges point to are asked for ahead.
    """

    types: tuple[str, ...]
    is_sorted: bool
    keeps_edges: bool
    asks_ahead: bool = True


class SegmentLayout:
    """Names of slots, in order."""

    def __init__(self, loop: SegmentLoop) -> None:
        lengths = [each for each in loop.scalars if each.op == "length"]
        self.values = numbers_of(loop.scalars)
        names: list[Any] = [*HEAD, *((each, "pointer") for each in POINTERS)]
        names += [("in", number, "pointer") for number in range(len(loop.inputs))]
        names += [("out", number, "pointer") for number in range(len(loop.outputs))]
        # Slots of all addresses, in this order.
        self.pointers = slice(len(HEAD), len(names))
        names += [("length", number) for number in range(len(lengths))]
        names += list(self.values)
        self.places: dict[Any, int] = {name: number for number, name in enumerate(names)}
        self.lengths = {scalar: ("length", number) for number, scalar in enumerate(lengths)}


def passes_over_edges(loop: SegmentLoop, keeps_edges: bool) -> list[Pass]:
    """One for every level of reductions; what an edge stores is stored as soon as it is known."""
    levels: dict[Scalar, int] = {}
    for reduction in loop.reductions:
        levels[reduction] = _level(loop, reduction.args[0], levels)
    of_outputs = [_level(loop, output.value, levels) if output.extent == "edge" else -1 for output in loop.outputs]
    count = 1 + max([*levels.values(), *of_outputs], default=-1)
    passes = [
        Pass(
            [each for each, level in levels.items() if level == number],
            [place for place, level in enumerate(of_outputs) if level == number],
        )
        for number in range(count)
    ]
    done: set[Scalar] = set()
    for each in passes:
        _fill(loop, each, done if keeps_edges else set())
        done.update(each.scalars)
    fill_for_later(passes)
    return passes


def _level(loop: SegmentLoop, scalar: Scalar, levels: dict[Scalar, int]) -> int:
    """The first pass in which it can be computed."""
    return 1 + max([levels[each] for each in below([scalar]) if loop.is_over_edges(each)], default=-1)


def row_values(loop: SegmentLoop, roots: list[Scalar]) -> list[Scalar]:
    """What the values of a row take: not what lies in a reduction over its edges."""
    return postorder(roots, lambda scalar: () if loop.is_over_edges(scalar) else arguments(scalar))


def _fill(loop: SegmentLoop, each: Pass, done: set[Scalar]) -> None:
    """What a pass computes, what it keeps from before, and what it needs of the row."""
    roots = [reduction.args[0] for reduction in each.reductions]
    roots += [loop.outputs[number].value for number in each.stored]
    totals: dict[Scalar, int] = {}

    def total(scalar: Scalar) -> int:
        if scalar not in totals:
            inside = [one for one in postorder([scalar], arguments) if loop.edge in one.axes]
            totals[scalar] = sum(edge_cost(loop, one) for one in inside)
        return totals[scalar]

    def inside(scalar: Scalar) -> tuple[Scalar, ...]:
        if loop.edge not in scalar.axes:
            return ()
        if scalar in done and scalar.op != "load" and total(scalar) >= WORTH_KEEPING * -(-loop.lanes(scalar) // 8):
            each.kept.add(scalar)
            return ()
        return arguments(scalar)

    order = postorder(roots, inside)
    each.scalars = [scalar for scalar in order if loop.edge in scalar.axes and scalar not in each.kept]
    of_row = [scalar for scalar in order if loop.edge not in scalar.axes]
    each.before = row_values(loop, of_row)


def segment_signature(loop: SegmentLoop) -> str:
    """A text that two loops share exactly if their code is the same, but for their forms."""
    axes = {loop.row: "row", loop.edge: "edge"}
    for scalar in loop.scalars:
        for axis in loop.small_axes(scalar):
            axes.setdefault(axis, f"{len(axes)}:{int(axis.length)}")
    inputs = {node: number for number, node in enumerate(loop.inputs)}
    slots = {name: number for number, name in enumerate(numbers_of(loop.scalars))}
    numbers: dict[Scalar, int] = {}

    def attribute(scalar: Scalar) -> Any:
        if scalar.is_constant:
            name = number_name(scalar)
            # Integers are a part of the code where they are indices.
            return scalar.attribute if name is None or name[0] == "integer" else ("slot", slots[name])
        if scalar.op == "axis":
            return axes[scalar.attribute]
        if scalar.op == "load":
            return inputs[scalar.attribute], [int(length) for length in scalar.attribute.shape[1:]]
        if scalar.op == "reduce":
            return scalar.attribute[0], axes[scalar.attribute[1]]
        return None if scalar.op == "length" else scalar.attribute

    rows: list[Any] = []
    for scalar in below(loop.scalars):
        numbers[scalar] = len(numbers)
        args = [numbers[one] for one in scalar.args]
        lanes = [axes[axis] for axis in loop.small_axes(scalar) if axis in axes]
        rows.append((scalar.op, scalar.dtype.name, args, attribute(scalar), lanes))
    outputs = [
        (output.node.dtype.name, output.extent, [axis and axes.get(axis, int(axis.length)) for axis in output.small])
        for output in loop.outputs
    ]
    values = [numbers[output.value] for output in loop.outputs]
    return repr((rows, outputs, values, [(numbers[each], kind) for each, kind in loop.watches.items()]))
