"""What a sweep of few rows returns: vectors along an output's small axis, stored as they are."""

import functools
import math
from typing import TYPE_CHECKING

from ..scalar import Scalar, below
from ..sweep import Output
from .few_rows_lanes import Lanes
from .llvm import Value
from .watch import look_at_results

if TYPE_CHECKING:
    from .few_rows import FewRowsWriter


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
        look_at_results(writer, [value], functools.partial(_is_empty, writer, row, 1))
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
        value = lanes(output.value)
        seen = value if valid is None else f.select(valid, value, f.constant(0.0, value.type))
        look_at_results(writer, [seen], functools.partial(_is_empty, writer, row, value.lanes))
        _store(writer, value, f.offset(pointer, f.mul(first, stride)), stride, valid)

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


def _is_empty(writer: "FewRowsWriter", row: Value, lanes: int) -> Value | None:
    """Whether the row has no weight: it is a hidden one then."""
    f = writer.f
    empty = [f.compare("==", each, -math.inf) for each in writer.state.largest(row).values()]
    return f.splat(functools.reduce(f.or_, empty), lanes) if empty else None


def _row_results(writer: "FewRowsWriter", row: Value) -> dict[Scalar, Value]:
    """Maxima and plain sums of a row."""
    results = dict(writer.state.results(row))
    known: dict[Scalar, Value] = {}
    for output in writer.sweep.outputs:
        for each in below([output.value]):
            if each.op in ("accumulator", "maximum_of") and each.attribute in results:
                known[each] = results[each.attribute]
    return known
