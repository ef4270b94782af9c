"""What a sweep's code depends on: sweeps with one signature run the same code.

Lengths, strides and most numbers are operands; only small axes, the order of things, and whole numbers
that index arithmetic multiplies by are part of the code.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..lengths import pin
from ..passes.skip import Skip
from ..scalar import Axis, Scalar, below
from ..sweep import Sweep
from ..types import is_integer
from .layout import Layout, divisors, number_name


def signature(
    sweep: Sweep,
    skip: Skip,
    expressions: Sequence[Scalar],
    layout: Layout,
    is_unit: Callable[[Scalar, int], bool],
) -> str:
    """A text that two sweeps share exactly if their code is the same.

    Args:
        sweep: The sweep.
        skip: What is known of its tiles.
        expressions: All scalars that are written, numbers collected in ``layout``.
        layout: Where its operands are.
        is_unit: Whether an array's axis has a stride of one element.
    """
    axes: dict[Axis, Any] = {sweep.rows: "rows", sweep.columns: "columns"}
    axes |= {axis: f"batch{number}" for number, axis in enumerate(sweep.batch)}
    axes |= {axis: axis.name for axis in skip.corners}
    inputs = {node: number for number, node in enumerate(layout.inputs)}
    baked = set(divisors(expressions)) | {
        argument
        for scalar in below(expressions)
        if scalar.op == "load" or (scalar.op == "multiply" and is_integer(scalar.dtype))
        for argument in scalar.args
        if argument.is_constant
    }
    numbers: dict[Scalar, int] = {}

    def axis_name(axis: Axis) -> Any:
        if axis not in axes:  # a small one, whose length is part of the code
            axes[axis] = ("small", len(axes), int(axis.length))
        return axes[axis]

    def attribute(scalar: Scalar) -> Any:
        if scalar.op == "constant":
            name = number_name(scalar)
            return scalar.attribute if name is None or scalar in baked else ("slot", layout.place(name))
        if scalar.op == "axis":
            return axis_name(scalar.attribute)
        if scalar.op == "length":
            return layout.place(("length", scalar, "extent"))
        if scalar.op == "listed":
            return [inputs[node] for node in scalar.attribute]
        if scalar.op == "load":
            return inputs[scalar.attribute], [is_unit(scalar, axis) for axis in range(len(scalar.args))]
        if scalar.op == "reduce":
            return scalar.attribute[0], axis_name(scalar.attribute[1])
        if scalar.op == "accumulator":
            return sweep.accumulators.index(scalar.attribute)
        if scalar.op == "maximum_of":
            return sweep.groups.index(scalar.attribute)
        pin(scalar.attribute)
        return scalar.attribute

    rows: list[Any] = []
    # Numbers first, for when one of them was made says nothing of the code.
    everything = below(expressions)
    constants = [each for each in everything if each.is_constant]
    ordered = sorted(constants, key=lambda each: repr((each.dtype.name, attribute(each))))
    for scalar in (*ordered, *(each for each in everything if not each.is_constant)):
        numbers[scalar] = len(numbers)
        rows.append((scalar.op, scalar.dtype.name, [numbers[each] for each in scalar.args], attribute(scalar)))
    rows += [("expressions", [numbers[each] for each in expressions]), ("slots", layout.shape), len(sweep.groups)]
    rows += [
        (
            each.group is not None and sweep.groups.index(each.group),
            each.small is not None and axis_name(each.small),
            each.of_columns,
            each.of_pairs,
            each.selects and each.small is not None and int(each.small.length),
        )
        for each in sweep.accumulators
    ]
    # What is decided of a condition that is written another way, its scale in the rows, changes no code.
    written = [numbers[each] for each in skip.roots if each in numbers]
    rows.append(("tiles", written, len(skip.least), len(skip.most), skip.is_bounded))
    if skip.listed is not None:
        rows.append(("lists", [axis_name(axis) for axis in skip.listed.batch]))
    for output in sweep.outputs:
        small = None if output.small is None else axis_name(output.small)
        rounded = None if output.rounded is None else output.rounded.name
        rows.append(("output", output.node.dtype.name, rounded, [axis_name(axis) for axis in output.axes], small))
        rows.append([numbers[each] for each in output.places])
    return repr(rows)
