"""What loops may hold: the element-wise functions by the kind of number that they are written for."""

from ..ir import UnfusableError
from ..loop import Loop
from ..scalar import Scalar
from ..types import BOOL, DType, is_float
from .apply import can_apply
from .layout import LARGEST_FLOAT

_OWN = frozenset({"constant", "axis", "load", "reduce", "astype", "call"})
_ANY = frozenset({"where", "equal", "not_equal"})
_BITS = frozenset({"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert"})
_LOGIC = frozenset({"logical_and", "logical_or", "logical_xor", "logical_not"})
# Without a sign only what has the same bits with one.
_UNSIGNED = _ANY | _BITS | {"add", "subtract", "multiply", "square", "positive"}
_ORDER = frozenset({"less", "less_equal", "greater", "greater_equal", "maximum", "minimum"})
_SHIFTS = frozenset({"bitwise_left_shift", "bitwise_right_shift"})
_SIGNED = _UNSIGNED | _ORDER | _SHIFTS | {"negative", "abs", "sign", "floor_divide", "remainder"}
_BOOLEAN = _ANY | _BITS | _LOGIC | {"add", "multiply", "maximum", "minimum"}


def check_loop(loop: Loop) -> None:
    """Raise UnfusableError, with the reason, for what no loop can hold."""
    for scalar in loop.scalars:
        check_loop_scalar(scalar)


def check_loop_scalar(scalar: Scalar) -> None:
    """Raise UnfusableError for a scalar that no instruction computes."""
    if scalar.is_constant and is_float(scalar.dtype) and scalar.dtype.itemsize < 8:
        if LARGEST_FLOAT < abs(scalar.attribute) < float("inf"):
            raise UnfusableError(f"{scalar.attribute} is no float32")
        return
    if scalar.op == "reduce" and not is_float(scalar.dtype):
        raise UnfusableError(f"a reduction of {scalar.dtype} has no kernel")
    if scalar.op == "call" and scalar.attribute.foreign.has_varying_loops:
        raise UnfusableError("a loop whose end depends on what a scalar function is given")
    if scalar.op in _OWN:
        return
    dtype = scalar.args[-1].dtype
    if not _exists(scalar, dtype):
        raise UnfusableError(f"{scalar.op} of {dtype} has no kernel")


def _exists(scalar: Scalar, dtype: DType) -> bool:
    if is_float(dtype):
        return can_apply(scalar) and scalar.op not in _BITS | _LOGIC | _SHIFTS
    if dtype == BOOL:
        return scalar.op in _BOOLEAN
    return scalar.op in (_UNSIGNED if dtype.kind == "u" else _SIGNED)
