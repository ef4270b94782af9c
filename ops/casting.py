"""Changing the data type: casts, and the promotion of operands to a common one."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.errors import DTypeError
from ..engine.ir import Node, Values
from ..engine.leaves import Constant
from ..engine.types import BOOL, INT64, DType, TensorType, category, is_float, is_integer, promote
from .kinds import Elementwise


class Cast(Elementwise):
    """``x`` as ``target``. Floats become integers by truncation, saturating, NaN as 0.

    (C leaves what does not fit undefined; this is LLVM's ``fptosi.sat``.)
    """

    operand: Node
    target: DType
    weak: bool
    name: ClassVar[str] = "astype"
    rounds: ClassVar[bool] = True

    def infer(self) -> TensorType:
        """The operand's shape."""
        return TensorType(self.operand.shape, self.target, self.weak)

    def gradient(self, upstream: Any) -> Sequence[Any]:
        """The upstream, in the operand's type."""
        return (upstream,)

    def reference(self, x: Values) -> Values:
        """Saturating where the target is an integer."""
        if self.target == BOOL:
            return np.asarray(x != 0)
        if is_integer(self.target) and x.dtype.kind == "f":
            return saturate(x, self.target)
        return x.astype(self.target) if is_integer(self.target) else x

    def simplify(self) -> Node | None:
        """No cast to the same type; constants are cast now; widening twice is widening once."""
        operand = self.operand
        if operand.type == self.type:
            return operand
        if isinstance(operand, Constant):
            return rounded(_cast_constant(operand, self.target, self.weak))
        if isinstance(operand, Cast) and _widens(operand) and _widens(self):
            return Cast(operand.operand, self.target, self.weak)
        return None


def _widens(node: Cast) -> bool:
    """Whether the cast keeps every value."""
    source, target = node.operand.dtype, node.target
    if source == target or node.operand.type.weak:
        return False
    return is_float(source) and is_float(target) and bool(np.can_cast(source, target, "safe"))


def saturate(x: Values, target: DType) -> Values:
    """Floats truncated into an integer type: the nearest that fits, NaN as 0."""
    limits = np.iinfo(target)
    # Limits of 64-bit integers are not floats: compare with the powers of two next to them.
    low, high = float(limits.min), float(limits.max) + 1.0 if limits.bits < 64 else 2.0 ** (64 - (limits.min < 0))
    wide = np.trunc(np.asarray(x, np.float64))
    inside = (wide >= low) & (wide < high)
    result = np.where(inside, wide, 0.0).astype(target)
    result = np.where(wide >= high, limits.max, result)
    return np.where(wide < low, limits.min, result).astype(target)


def cast(node: Node, dtype: DType, weak: bool = False) -> Node:
    """``node`` in ``dtype``: itself if it has it, a constant as a constant."""
    if node.dtype == dtype and node.type.weak == weak:
        return node
    if isinstance(node, Constant):
        return _cast_constant(node, dtype, weak)
    return Cast(node, dtype, weak)


def _cast_constant(node: Constant, dtype: DType, weak: bool) -> Constant:
    value: Any = node.value
    if is_float(dtype):
        value = float(value)
    elif dtype == BOOL:
        value = bool(value)
    elif isinstance(value, float):
        value = int(saturate(np.asarray(value), dtype))
    else:
        value = int(np.asarray(value).astype(dtype))
    return Constant(value, dtype, weak)


def promoted(operation: str, *nodes: Node, comparing: bool = False) -> list[Node]:
    """The operands in their common data type.

    Raises:
        DTypeError: If there is none, or a Python integer does not fit it. A comparison widens
            instead: every int8 is less than 300, and that is no error.
    """
    try:
        dtype, weak = promote([node.type for node in nodes])
    except DTypeError as error:
        raise DTypeError(f"{operation}: {str(error).splitlines()[0]}") from None
    if is_integer(dtype):
        misfit = next((node for node in nodes if _misfits(node, dtype)), None)
        if misfit is not None and comparing:
            dtype, weak = INT64, False
            misfit = next((node for node in nodes if _misfits(node, dtype) or node.dtype.name == "uint64"), None)
        if misfit is not None:
            sides = " and ".join(str(n.value) if isinstance(n, Constant) else str(n.type) for n in nodes)
            raise DTypeError(f"{operation}: an integer does not fit {dtype}: {sides}; cast one with astype")
    return [cast(node, dtype, weak) for node in nodes]


def rounded(node: Node) -> Node:
    """A constant without the digits that its data type does not hold; any other node as it is."""
    if not isinstance(node, Constant) or node.weak or not is_float(node.dtype):
        return node
    with np.errstate(all="ignore"):
        return Constant(float(np.asarray(node.value).astype(node.dtype)), node.dtype, node.weak)


def comparable(node: Node) -> Node:
    """A constant as what it is compared with stores it, unless that is too small a type for it."""
    near = rounded(node)
    return node if isinstance(near, Constant) and np.isinf(near.value) else near


def _misfits(node: Node, dtype: DType) -> bool:
    if not isinstance(node, Constant) or category(node.dtype) != 1:
        return False
    limits = np.iinfo(dtype)
    return not limits.min <= int(node.value) <= limits.max
