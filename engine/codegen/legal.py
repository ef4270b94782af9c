"""What the code generator can write: checked before a sweep is taken for one."""

from ..ir import UnfusableError
from ..lengths import estimate
from ..passes.rows import FEW_ROWS
from ..scalar import Scalar, below
from ..sweep import Output, Sweep
from ..types import is_float
from .apply import can_apply
from .column_factors import factors_of
from .layout import LARGEST_FLOAT
from .outputs import elementwise

# Values that vary along a contracted axis where there are few rows: there they are written out for each column of a
# vector, several vectors long.
_MOST_OF_FEW_ROWS = 32

_OWN = frozenset({"constant", "axis", "length", "load", "accumulator", "maximum_of"})


def check_writable(sweep: Sweep) -> None:
    """Raise UnfusableError, with the reason, for what no kernel can hold."""
    tile = [*sweep.groups, *(each.weight for each in sweep.accumulators)]
    columns = [each.column for each in sweep.accumulators]
    places = [place for output in sweep.outputs for place in output.places]
    for scalar in below([*tile, *columns, *(output.value for output in sweep.outputs), *places]):
        _check_scalar(scalar)
    for scalar in below(tile):
        if scalar.op == "reduce":
            _check_contraction(sweep, scalar)
    for output in sweep.outputs:
        if output.of_pairs is not None:
            if output.value.op != "accumulator" and output.coefficient is None:
                raise UnfusableError("a result of pairs that is more than a multiple of their weights")
        elif output.total is None:
            _check_output(sweep, output)
        else:
            factors_of(output)


def _check_scalar(scalar: Scalar) -> None:
    if scalar.op == "constant" and is_float(scalar.dtype) and LARGEST_FLOAT < abs(scalar.attribute) < float("inf"):
        raise UnfusableError(f"{scalar.attribute} is no float32")
    if scalar.op not in _OWN and scalar.op != "reduce" and not can_apply(scalar):
        raise UnfusableError(f"{scalar.op} of {scalar.args[0].dtype} has no kernel")


def _check_contraction(sweep: Sweep, scalar: Scalar) -> None:
    kind, small = scalar.attribute
    if kind != "sum":
        raise UnfusableError(f"a {kind} over a small axis inside a tile")
    for each in below(scalar.args):
        if each.op == "reduce":
            raise UnfusableError("a reduction inside a contraction")
        if each.op == "load" and {sweep.rows, sweep.columns, small} <= each.axes:
            raise UnfusableError("a load that varies over rows, columns and a contracted axis")
    varying = sum(small in each.axes for each in below(scalar.args))
    if estimate(sweep.rows.length) <= FEW_ROWS and varying > _MOST_OF_FEW_ROWS:
        raise UnfusableError(f"a contraction of {varying} values, too long to write out for few rows")


def _check_output(sweep: Sweep, output: Output) -> None:
    rows, packed = {sweep.rows, *sweep.batch}, below(elementwise(output))
    for each in below([output.value]):
        if each.op == "reduce" and not each.axes <= rows:
            raise UnfusableError("a result that needs a reduce along a small axis")
        if each.op in ("load", "axis") and not each.axes <= rows and each not in packed:
            raise UnfusableError(f"a result that needs a {each.op} along a small axis")
