"""Which pieces of its arrays a part of a sweep reads, and which pieces of its results it writes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .boxes import Box, shape_of
from .codegen.state import Stage
from .errors import ArgumentError
from .ir import Node, Values
from .part_runs import Block, Part, Range, wanted_loads
from .scalar import Axis, Scalar, below
from .summaries import evaluate

if TYPE_CHECKING:
    from .kernels import SweepKernel


class Boxes:
    """What parts of a sweep read and write.

    Args:
        kernel: The sweep's.
        of: What its lengths are, if they are free.
    """

    def __init__(self, kernel: "SweepKernel", of: Callable[[Any], Any]) -> None:
        self.kernel, self.sweep, self.inputs, self.of = kernel, kernel.sweep, kernel.fused.inputs, of

    def read(self, part: Part, columns: Range, stage: Stage) -> list[Box | None]:
        """What of each input a stage reads; None for nothing."""
        ranges = {**self._ranges(part), self.sweep.columns: columns}
        found: dict[Node, list[Range]] = {}
        for load in wanted_loads(self.kernel, stage):
            shape = self.of(load.attribute.shape)
            here = [
                range_of(index, ranges, int(length), self.sweep.batch, self.of)
                for index, length in zip(load.args, shape, strict=True)
            ]
            if load.attribute in self.kernel.at_once and stage is not Stage.FINISH:
                here = [(0, int(length)) for length in shape]
            before = found.get(load.attribute, here)
            found[load.attribute] = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(before, here, strict=True)]
        if stage is not Stage.FINISH:
            found |= {node: [(0, int(length)) for length in self.of(node.shape)] for node in self.kernel.at_once}
        return [tuple(slice(*each) for each in found[node]) if node in found else None for node in self.inputs]

    def _ranges(self, part: Part) -> dict[Axis, Range]:
        return {**dict(zip(self.sweep.batch, part.batch, strict=True)), self.sweep.rows: part.rows}

    def written(self, number: int, part: Part) -> Box:
        """Where the part's results lie in a result of the sweep."""
        output, ranges = self.sweep.outputs[number], self._ranges(part)
        axes: Sequence[Axis | None] = output.axes
        if output.of_pairs is not None:
            axes = [place.attribute if place.op == "axis" else None for place in output.places]
        shape = self.of(output.node.shape)
        whole = [(0, int(length)) for length in shape]
        return tuple(
            slice(*each) if axis is None else slice(*ranges.get(axis, each))
            for axis, each in zip(axes, whole, strict=True)
        )

    def blocks(self, arrays: Sequence[Values | None], boxes: Sequence[Box | None]) -> dict[Node, Block]:
        """Pieces of the inputs, by their nodes.

        Args:
            arrays: For each input the piece of its box; what is not needed is not looked at.
            boxes: The boxes.

        Raises:
            ArgumentError: If a piece has another shape than its box.
        """
        found = {}
        for number, (node, array, box) in enumerate(zip(self.inputs, arrays, boxes, strict=True)):
            if box is None:
                continue
            wanted = shape_of(box)
            if array is None or array.shape != wanted:
                given = "nothing" if array is None else list(array.shape)
                raise ArgumentError(f"parts: input {number} is given {given} where the part needs {list(wanted)}")
            values = np.asarray(array, node.dtype.newbyteorder("="))
            found[node] = Block.placed(values if values.flags.aligned else values.copy(), box)
        return found


def range_of(
    index: Scalar,
    ranges: Mapping[Axis, Range],
    length: int,
    places: Sequence[Axis],
    of: Callable[[Any], Any] = int,
) -> Range:
    """Places along an axis of an array, between the first and the last that an index takes.

    Args:
        index: The index.
        ranges: Those of axes; of others any place may be taken.
        length: The array's, along the axis.
        places: Axes so short that an index made of them alone is looked at, at all of their places.
        of: What lengths are, if they are free.
    """
    if index.is_constant:
        return int(index.attribute), int(index.attribute) + 1
    if index.op == "axis":
        return ranges.get(index.attribute, (0, length))
    # Heads that share keys: an index made of places alone is looked at; of any other, all may be needed.
    known = index.axes and index.axes <= set(places)
    if not known or any(each.op in ("load", "inside") for each in below([index])):
        return 0, length
    axes = sorted(index.axes, key=repr)
    grid = np.ix_(*(np.arange(*ranges[axis]) for axis in axes))
    (values,) = evaluate([index], {}, dict(zip(axes, grid, strict=True)), of)
    return (int(values.min()), int(values.max()) + 1) if values.size else (0, 0)
