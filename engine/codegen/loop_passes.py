"""In how many passes a loop goes over a row, and what one pass keeps for the next."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..loop import Loop, cost
from ..order import postorder
from ..scalar import Axis, Scalar, below

# What takes as long as this many additions is kept rather than computed again.
WORTH_KEEPING = 6


@dataclass
class Pass:
    """One pass over a row.

    Attributes:
        reductions: What it reduces.
        stored: Places of the outputs that it writes.
        kept: What it takes from buffers that earlier passes filled.
        scalars: What it computes for every element, arguments first.
        fills: What it leaves in buffers.
        before: What it needs of the row, arguments first.
    """

    reductions: list[Scalar]
    stored: list[int]
    kept: set[Scalar] = field(default_factory=set)
    scalars: list[Scalar] = field(default_factory=list)
    fills: list[Scalar] = field(default_factory=list)
    before: list[Scalar] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """What one element takes, in additions."""
        return sum(map(cost, self.scalars)) + 2 * len(self.reductions)


def passes_of(loop: Loop, keeps_rows: bool) -> list[Pass]:
    """The passes: one for every level of reductions, and one that stores, if anything varies along the row."""
    levels: dict[Scalar, int] = {}
    for reduction in loop.reductions:
        inner = [levels[each] for each in below(reduction.args) if each.op == "reduce"]
        levels[reduction] = 1 + max(inner, default=-1)
    count = 1 + max(levels.values(), default=-1)
    passes = [Pass([each for each, level in levels.items() if level == number], []) for number in range(count)]
    along = [number for number, output in enumerate(loop.outputs) if loop.inner in output.axes]
    if along:
        passes.append(Pass([], along))
    done: set[Scalar] = set()
    for each in passes:
        roots = [reduction.args[0] for reduction in each.reductions]
        roots += [loop.outputs[number].value for number in each.stored]
        each.kept, each.scalars = _needed(roots, loop.inner, done if keeps_rows else set())
        inside = set(each.scalars)
        arguments = [arg for scalar in each.scalars if scalar.op != "load" for arg in scalar.args]
        each.before = row_scalars([one for one in (*arguments, *roots) if one not in inside and one not in each.kept])
        done.update(each.scalars)
    fill_for_later(passes)
    return passes


def fill_for_later(passes: Sequence[Pass]) -> None:
    """Say of each pass what it leaves in buffers: what later ones take from there."""
    for number, each in enumerate(passes):
        wanted = {scalar for later in passes[number + 1 :] for scalar in later.kept}
        each.fills = [scalar for scalar in each.scalars if scalar in wanted]


def row_scalars(roots: Sequence[Scalar]) -> list[Scalar]:
    """What the values of a row take: not what lies in a reduction, nor the indices of a load."""
    return postorder(roots, lambda scalar: () if scalar.op in ("reduce", "load") else scalar.args)


def _needed(roots: Sequence[Scalar], inner: Axis, done: set[Scalar]) -> tuple[set[Scalar], list[Scalar]]:
    """What roots take from earlier passes, and what is computed for them along the row."""
    kept: set[Scalar] = set()
    order: list[Scalar] = []
    seen: set[Scalar] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        scalar, finished = stack.pop()
        if finished:
            order.append(scalar)
        elif scalar not in seen and inner in scalar.axes:
            seen.add(scalar)
            if scalar in done and _total(scalar, inner) >= WORTH_KEEPING:
                kept.add(scalar)
                continue
            stack.append((scalar, True))
            if scalar.op != "load":
                stack.extend((each, False) for each in reversed(scalar.args))
    return kept, order


def _total(scalar: Scalar, inner: Axis) -> int:
    return sum(cost(each) for each in below([scalar]) if inner in each.axes)
