"""What a sweep of few rows returns: vectors along an output's small axis, stored as they are."""

import math
from typing import TYPE_CHECKING

from ..scalar import Scalar, below
from ..sweep import Output
from .few_rows_lanes import Lanes
from .llvm import Value

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter

_LN2 = math.log(2)


def write_output(writer: "FewRowsWriter", output: Output, row: Value) -> None:
    """Write one row of a result."""
    f, ops = writer.f, writer.operands
    place = writer.row_place(row)
    pointer = ops.slot(("out", output.node, "pointer"))
    stride = f.constant(4, "i64")
    for axis, each in enumerate(output.axes):
        step = ops.slot(("out", output.node, axis))
        if each in place:
            pointer = f.offset(pointer, f.mul(place[each], step))
        elif each is output.small and axis < len(output.axes) - 1:
            stride = step
    known = _row_results(writer, row)
    scalars = writer.row_scalars(row)
    if output.small is None:
        value = Lanes(writer, None, f.constant(0, "i64"), place, known=known, scalars=scalars)(output.value)
        f.store(value, pointer)
        return
    small = output.small
    wide = {each: f.splat(value, writer.lanes) for each, value in known.items()}

    def chunk(first: Value, valid: Value | None) -> None:
        totals = {
            each: f.load(writer.sums.totals[each.attribute].at(row, first), writer.vector, aligned=True)
            for each in below([output.value])
            if each.op == "accumulator" and each.attribute.small is not None
        }
        lanes = Lanes(writer, small, first, place, known={**wide, **totals}, scalars=dict(scalars), valid=valid)
        _store(writer, lanes(output.value), f.offset(pointer, f.mul(first, stride)), stride, valid)

    writer.in_chunks(small.length, chunk)


def _store(writer: "FewRowsWriter", value: Value, pointer: Value, stride: Value, valid: Value | None) -> None:
    f = writer.f
    if stride.constant != 4:
        offsets = f.mul(f.iota(writer.lanes, "i64"), f.splat(stride, writer.lanes))
        f.scatter(value, f.offset(pointer, offsets), valid)
    elif valid is None:
        f.store(value, pointer)
    else:
        f.store_masked(value, pointer, valid)


def _row_results(writer: "FewRowsWriter", row: Value) -> dict[Scalar, Value]:
    """Maxima and plain sums of a row; the flag of a row without any weight is set."""
    f, empty = writer.f, writer.layout.place("empty")
    results = dict(writer.state.results(row))
    known: dict[Scalar, Value] = {}
    for group in writer.groups:
        results[group] = largest = f.mul(results[group], _LN2)
        none = f.compare("==", largest, -math.inf)
        f.when(none, lambda: f.store(f.constant(1, "i64"), f.offset(f["descriptor"], empty)))
    for output in writer.sweep.outputs:
        for each in below([output.value]):
            if each.op in ("accumulator", "maximum_of") and each.attribute in results:
                known[each] = results[each.attribute]
    return known
