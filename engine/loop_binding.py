"""How a loop meets the arrays of a call: strides, axes that lie one behind the other, how rows are shared out.

Everything follows from shapes, strides and types; nothing looks at the arrays themselves.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .codegen.loop_layout import Form, Reach, positions_used
from .ir import Node
from .loop import Loop, LoopOutput
from .scalar import Axis, Scalar
from .types import DType, carrier

# Operations of a task: some ten microseconds.
_TASK_WORK = 1 << 18
_TASK_ELEMENTS = (1 << 11, 1 << 15)
# Bytes of a row whose values are kept from pass to pass: with its operands it stays in the second cache.
_LONGEST_KEPT = 1 << 17
# Rows that a vector holds as a whole, whose length is then part of the code.
_SHORT = (2, 4, 8, 16)

# Of each array that is read its strides and its type.
Strides = tuple[tuple[tuple[int, ...], DType], ...]


class Fit:
    """A loop over rows of certain lengths, on arrays of certain strides.

    Attributes:
        form: What the code depends on.
        lengths: Lengths of the axes of rows that are left, and of a row.
        steps: For each load, then for each output, the bytes from element to element along these axes.
        ahead: For each load, how many bytes into its array it begins.
        sources: For each load the number of its input.
    """

    def __init__(self, loop: Loop, lengths: Sequence[int], strides: Strides) -> None:
        axes = (*loop.lead, loop.inner)
        self.sources = [loop.inputs.index(load.attribute) for load in loop.accesses]
        given = [strides[source] for source in self.sources]
        self.ahead = [
            _along(strides_of, access.offsets)
            for (strides_of, _), access in zip(given, loop.accesses.values(), strict=True)
        ]
        steps = [
            [_along(strides_of, [step.get(axis, 0) for step in access.steps]) for axis in axes]
            for (strides_of, _), access in zip(given, loop.accesses.values(), strict=True)
        ]
        known = dict(zip(axes, lengths, strict=True))
        steps += [_output_steps(output, axes, known) for output in loop.outputs]
        groups = _merged(loop, lengths, steps)
        self.lengths = [math.prod(lengths[place] for place in group) for group in groups]
        self.steps = [[one[group[-1]] for group in groups] for one in steps]
        self.form = Form(
            tuple(
                (memory_type(dtype), _reach(loop, load, one[-1], dtype))
                for load, (_, dtype), one in zip(loop.accesses, given, self.steps, strict=False)
            ),
            len(groups) - 1,
            tuple((group[-1], place) for place, group in enumerate(groups[:-1])),
            lengths[-1] * 8 <= _LONGEST_KEPT,
            self.lengths[-1] if self.lengths[-1] in _SHORT else 0,
        )

    def slots(self, cost: int, reduces: bool) -> dict[Any, int]:
        """The descriptor's slots, but for addresses and numbers."""
        values = sizes(self.lengths, cost, reduces)
        values |= {("axis", place): length for place, length in enumerate(self.lengths[:-1])}
        for number, one in enumerate(self.steps):
            is_load = number < len(self.sources)
            kind, place = ("in", number) if is_load else ("out", number - len(self.sources))
            values |= {(kind, place, axis): step for axis, step in enumerate(one)}
        return values


def sizes(lengths: Sequence[int], cost: int, reduces: bool) -> dict[Any, int]:
    """How rows are shared out into tasks: by the shape alone."""
    rows, length = math.prod(lengths[:-1]), lengths[-1]
    least, most = _TASK_ELEMENTS
    elements = max(least, min(most, _TASK_WORK // cost))
    chunk = length if reduces or length <= 2 * elements else elements
    blocks = -(-length // max(chunk, 1))
    task_rows = max(1, elements // max(chunk, 1))
    head = {"tasks": -(-rows // task_rows) * blocks, "blocks": blocks, "rows": rows, "length": length}
    return {**head, "task_rows": task_rows, "chunk": chunk}


def reads_of(loop: Loop, ranges: Mapping[Axis, tuple[int, int]]) -> dict[Node, tuple[slice, ...]]:
    """What of its arrays a loop loads for ranges of some of its axes."""
    found: dict[Node, tuple[slice, ...]] = {}
    for load, access in loop.accesses.items():
        box = []
        for offset, steps in zip(access.offsets, access.steps, strict=True):
            ends = [(step, *ranges.get(axis, (0, axis.length))) for axis, step in steps.items()]
            sides = [sorted((step * first, step * (stop - 1))) for step, first, stop in ends]
            box.append(slice(offset + sum(low for low, _ in sides), offset + sum(high for _, high in sides) + 1))
        before = found.get(load.attribute, box)
        found[load.attribute] = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(before, box, strict=True)
        )
    return found


def plain_strides(shape: Sequence[int], dtype: DType) -> tuple[int, ...]:
    """Bytes from element to element of an array in rows-first order."""
    found = [dtype.itemsize]
    for length in reversed(shape[1:]):
        found.append(found[-1] * length)
    return tuple(reversed(found[: len(shape)]))


def memory_type(dtype: DType) -> str:
    """LLVM's type of an element in memory."""
    if dtype.kind == "f":
        return "double" if dtype.itemsize == 8 else "float"
    return f"i{8 * dtype.itemsize}"


def _along(strides: Sequence[int], steps: Sequence[int]) -> int:
    return sum(stride * step for stride, step in zip(strides, steps, strict=True))


def _output_steps(output: LoopOutput, axes: Sequence[Axis], lengths: dict[Axis, int]) -> list[int]:
    shape = [1 if axis is None else lengths[axis] for axis in output.axes]
    given = plain_strides(shape, carrier(output.node.type))
    found = {axis: stride for axis, stride in zip(output.axes, given, strict=True) if axis is not None}
    return [found.get(axis, 0) for axis in axes]


def _merged(loop: Loop, lengths: Sequence[int], steps: Sequence[Sequence[int]]) -> list[list[int]]:
    """The loop's axes, those in one list that lie one behind the other in every array; the last is along the row."""
    used = positions_used(loop)
    apart = {place for place, axis in enumerate((*loop.lead, loop.inner)) if axis in used}
    whole_rows = not loop.reductions and all(loop.inner in output.axes for output in loop.outputs)
    groups = [[0]]
    for place in range(1, len(lengths)):
        follows = all(one[place - 1] == one[place] * lengths[place] for one in steps)
        free = not apart & {place - 1, place} and (place < len(lengths) - 1 or whole_rows)
        if follows and free:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _reach(loop: Loop, load: Scalar, step: int, dtype: DType) -> Reach:
    if loop.inner not in load.axes:
        return "none"
    return "unit" if step == dtype.itemsize else "same" if step == 0 else "apart"
