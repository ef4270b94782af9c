"""Quantization: numbers of 8 or 4 bits, with the scale and the zero point by which they stand for floats.

``x`` is stored as ``data = round(x / scale) + zero_point`` and read as ``(data - zero_point) * scale``, which is the
affine quantization of Jacob 2018, arXiv:1712.05877. Keys and values are mostly quantized per token or, keys, per
channel: Liu 2024, arXiv:2402.02750. Reading is a lazy expression: a kernel widens what it reads, and no float array is
made.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..engine.careful import Careful, Court
from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.ir import Node, Values
from ..engine.labels import Axes
from ..engine.leaves import Constant
from ..engine.types import BOOL, FLOAT32, FLOAT64, Shape, TensorType, is_float
from .arithmetic import maximum, minimum
from .array import Array, ArrayLike, lift
from .kinds import flag
from .logic import bitwise_and, bitwise_left_shift, bitwise_or
from .reduction import max as largest
from .reduction import min as least
from .registry import public
from .rounding import floor
from .rounding import round as rounded
from .selection import where
from .shape import broadcast_to

_INT8, _UINT8, _INT32 = np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int32)
# The least and the largest number of a type, by its name.
_LIMITS = {"int8": (-128, 127), "int4": (-8, 7)}


class Quantized(NamedTuple):
    """Numbers of few bits, and what they stand for: ``(data - zero_point) * scale``.

    Attributes:
        data: int8, or, of int4, uint8 with two numbers in a byte along the last axis, the first one in the low bits.
        scale: Float, of as many axes as ``data``; along each its length is 1, or divides that of the numbers.
        zero_point: int8, in the scale's shape; None for 0.
        dtype: ``"int8"`` or ``"int4"``.
    """

    data: Any
    scale: Any
    zero_point: Any = None
    dtype: str = "int8"

    @property
    def shape(self) -> Shape:
        """The shape of the numbers."""
        *outer, width = self.data.shape
        return (*outer, width * (2 if self.dtype == "int4" else 1))

    @property
    def nbytes(self) -> int:
        """Bytes of all three arrays."""
        return sum(math.prod(each.shape) * each.dtype.itemsize for each in self[:3] if each is not None)

    def compute(self) -> "Quantized":
        """The same with NumPy arrays for lazy ones."""
        data, scale, zero_point = map(_computed, self[:3])
        return Quantized(data, scale, zero_point, self.dtype)


class UnpackInt4(Node):
    """Two numbers from -8 to 7 in each byte of the last axis, the first one in the low bits."""

    role: ClassVar[str] = "rearrangement"

    operand: Node

    def infer(self) -> TensorType:
        """The last axis twice as long."""
        if self.operand.dtype != _UINT8:
            raise DTypeError(f"unpack_int4: takes a uint8 array, two numbers in a byte, not {self.operand.type}")
        if not self.operand.shape:
            raise ShapeError(f"unpack_int4: numbers lie along the last axis, and {self.operand.type} has none")
        return TensorType((*self.operand.shape[:-1], 2 * self.operand.shape[-1]), _INT8)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """All but the last."""
        return (*operands[0][:-1], None)

    def gradient(self, upstream: Any) -> Sequence[Any]:
        """Whole numbers have none."""
        return (None,)

    def reference(self, x: Values) -> Values:
        """The bits, as two's complement."""
        both = np.stack([x & np.uint8(15), x >> np.uint8(4)], axis=-1).astype(np.int8)
        signed: Values = (both ^ np.int8(8)) - np.int8(8)
        return signed.reshape(*x.shape[:-1], 2 * x.shape[-1])

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Never: whole numbers are numbers."""
        return False

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Both numbers of a byte are hidden with it, and to blame for what it is."""
        (byte,) = operands
        hidden = None if byte.hidden is None else np.repeat(byte.full_hidden(), 2, axis=-1)
        return Careful(value, hidden, None if byte.blame is None else np.repeat(byte.full_blame(), 2, axis=-1))

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """Bit arithmetic on the byte."""
        *outer, place = at
        two = kernel.constant(2)
        half = kernel.apply("floor_divide", place.dtype, place, two)
        odd = kernel.apply("remainder", place.dtype, place, two)
        byte = kernel.apply("astype", _INT32, kernel.element(self.operand, [*outer, half]))
        upper = kernel.apply("bitwise_right_shift", _INT32, byte, kernel.constant(4, _INT32))
        is_lower = kernel.apply("equal", BOOL, odd, kernel.constant(0))
        four = kernel.apply("where", _INT32, is_lower, byte, upper)
        # Two's complement of four bits: what is known of it step by step says that it is small.
        eight, all_bits = kernel.constant(8, _INT32), kernel.constant(15, _INT32)
        turned = kernel.apply("bitwise_and", _INT32, kernel.add(four, eight), all_bits)
        return kernel.apply("astype", _INT8, kernel.subtract(turned, eight))


@public()
def unpack_int4(x: ArrayLike, /) -> Array:
    """Numbers from -8 to 7, two in each byte along the last axis, the first one in the low bits.

    Args:
        x: uint8, shape (…, n).

    Returns:
        int8, shape (…, 2 n).

    Raises:
        DTypeError: If ``x`` is not uint8.
        ShapeError: If it has no axis.
    """
    return Array(UnpackInt4(lift(x, "unpack_int4")))


@public()
def pack_int4(x: ArrayLike, /) -> Array:
    """What `unpack_int4` takes apart: of each number the lowest four bits, two in a byte.

    Args:
        x: int8 between -8 and 7, shape (…, 2 n).

    Returns:
        uint8, shape (…, n).

    Raises:
        DTypeError: If ``x`` is not int8.
        ShapeError: If its last axis is odd, or it has none.
    """
    node = lift(x, "pack_int4")
    if node.dtype != _INT8:
        raise DTypeError(f"pack_int4: takes an int8 array, not {node.type}")
    if not node.shape or node.shape[-1] % 2:
        raise ShapeError(f"pack_int4: two numbers share a byte, and the last axis of {node.type} is odd")
    low, high = (bitwise_and(Array(node)[..., first::2].astype(_UINT8), 15) for first in (0, 1))
    return bitwise_or(low, bitwise_left_shift(high, 4))


@public()
def quantize(
    x: ArrayLike,
    dtype: str = "int8",
    *,
    per: str = "token",
    group_size: int | None = None,
    symmetric: bool = False,
) -> Quantized:
    """Floats as numbers of 8 or 4 bits, each group by a scale and a zero point of its own.

    Args:
        x: Float, shape (…, length, dim).
        dtype: ``"int8"``, or ``"int4"``: two in a byte, ``dim`` even.
        per: ``"token"``: groups lie along ``dim``. ``"channel"``: along ``length``.
        group_size: Elements of a group, which divides that axis; None for all of the axis.
        symmetric: Whether 0 stands for 0: then there is no zero point.

    Returns:
        Lazy arrays: ``data`` as ``x``; ``scale`` and ``zero_point`` with an element for each group. A group of equal
        numbers is exact up to rounding of its scale; all others to half of their scale.

    Raises:
        DTypeError: If ``x`` is not float, or ``dtype`` another.
        ShapeError: If there are fewer than two axes, the groups do not divide theirs, or ``dim`` is odd for int4.
        ArgumentError: For another ``per`` or ``group_size``.
    """
    node = lift(x, "quantize")
    if not is_float(node.dtype):
        raise DTypeError(f"quantize: takes a float array, not {node.type}")
    dtype = _kind("quantize", dtype)
    low, high = _LIMITS[dtype]
    axis, size = _grouped_axis(node, per, group_size)
    if dtype == "int4" and node.shape[-1] % 2:
        raise ShapeError(f"quantize: two int4 share a byte, and the width of {node.type} is odd")
    array = Array(node) if node.dtype.itemsize >= 4 else Array(node).astype(FLOAT32)
    place = len(node.shape) + axis
    length = node.shape[place]
    groups = array.reshape((*node.shape[:place], length // size, size, *node.shape[place + 1 :]))
    within = place + 1
    is_symmetric = flag("quantize", "symmetric", symmetric)
    # 0 is always among what is covered, so that padding with it is exact.
    lowest = minimum(least(groups, axis=within, keepdims=True), 0.0)
    highest = maximum(largest(groups, axis=within, keepdims=True), 0.0)
    # The difference itself may overflow.
    parts = (maximum(highest, -lowest) / high, 0.0) if is_symmetric else (highest / (high - low), lowest / (high - low))
    scale = parts[0] - parts[1]
    scale = _within_reach(where(scale == 0.0, 1.0, scale), maximum(highest, -lowest))
    zero = None if is_symmetric else rounded(low - lowest / scale).clip(low, high)
    numbers = rounded(groups / scale)
    numbers = (numbers if zero is None else numbers + zero).clip(-high if is_symmetric else low, high)
    data = numbers.astype(_INT8).reshape(node.shape)
    shape = (*node.shape[:place], length // size, *node.shape[place + 1 :])
    zero_point = None if zero is None else zero.astype(_INT8).reshape(shape)
    return Quantized(data if dtype == "int8" else pack_int4(data), scale.reshape(shape), zero_point, dtype)


@public()
def dequantize(
    data: Any, scale: ArrayLike | None = None, zero_point: ArrayLike | None = None, *, dtype: str | None = None
) -> Array:
    """``(data - zero_point) * scale``, lazily: accepted wherever a key or a value is, and widened where it is read.

    Args:
        data: A `Quantized`; or int8, or uint8 with two int4 in a byte along the last axis.
        scale: Float, of as many axes; along each as long as the numbers, or 1, or a part of that: the number of groups.
            0-d for one of all.
        zero_point: int8, or a number, in a shape like the scale's; None for 0.
        dtype: ``"int8"`` or ``"int4"``; None for what ``data``'s type says.

    Returns:
        The scale's type, float32 where that is a number or a half float.

    Raises:
        ShapeError: If scale or zero point have other axes or groups that do not divide the numbers'.
        DTypeError: If a type is another.
        ArgumentError: If a scale is missing or given twice, or the zero point is a number beyond the type.
    """
    asked = None if dtype is None else _kind("dequantize", dtype)
    if isinstance(data, Quantized):
        if scale is not None or zero_point is not None or asked not in (None, data.dtype):
            raise ArgumentError("dequantize: a Quantized has a scale, a zero point and a type of its own")
        data, scale, zero_point, asked = data
    if scale is None:
        raise ArgumentError("dequantize: scale is missing")
    node = lift(data, "dequantize")
    kind = asked or ("int4" if node.dtype == _UINT8 else "int8")
    low, high = _LIMITS[kind]
    if node.dtype != (_UINT8 if kind == "int4" else _INT8):
        stored = "uint8, two in a byte" if kind == "int4" else "int8"
        raise DTypeError(f"dequantize: {kind} numbers are stored as {stored}, not as {node.type}")
    numbers = unpack_int4(data) if kind == "int4" else Array(node)
    factor = lift(scale, "dequantize: scale")
    if not is_float(factor.dtype):
        raise DTypeError(f"dequantize: scale is float, not {factor.type}")
    is_double = factor.dtype == FLOAT64 and not factor.type.weak
    computed = FLOAT64 if is_double else FLOAT32
    result = numbers.astype(computed)
    if zero_point is not None:
        zero = _checked_zero(zero_point, kind, low, high)
        result = result - _spread("zero_point", zero, numbers.shape).astype(computed)
    return result * _spread("scale", factor, numbers.shape).astype(computed)


def _within_reach(scale: Array, farthest: Array) -> Array:
    """The scale, where all that it is multiplied by stays finite; a larger one elsewhere.

    Near the largest float the multiple next to a number may lie beyond it. Then the number itself becomes the last
    multiple: a little less, so that rounding does not take it beyond.
    """
    limits = np.finfo(scale.dtype)
    bit = float(limits.eps)
    steps = farthest / scale
    is_beyond = rounded(steps) * (scale / float(limits.max)) > 1.0 - 4.0 * bit
    return where(is_beyond, farthest / maximum(floor(steps + 0.001), 1.0) * (1.0 - 2.0 * bit), scale)


def _computed(array: Any) -> Any:
    return array.compute() if isinstance(array, Array) else array


def _kind(function: str, dtype: Any) -> str:
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
    if name not in _LIMITS:
        raise DTypeError(f'{function}: dtype is "int8" or "int4", not {dtype!r}')
    return str(name)


def _grouped_axis(node: Node, per: Any, group_size: Any) -> tuple[int, int]:
    """The axis, counted from the end, along which groups lie, and how long they are."""
    if not isinstance(per, str) or per not in ("token", "channel"):
        raise ArgumentError(f'quantize: per is "token" or "channel", not {per!r}')
    if len(node.shape) < 2:
        raise ShapeError(f"quantize: takes (…, length, dim), not {node.type}")
    axis = -1 if per == "token" else -2
    length = node.shape[axis]
    if group_size is None:
        return axis, max(length, 1)  # of nothing there is no group
    if isinstance(group_size, bool) or not isinstance(group_size, int | np.integer) or group_size < 1:
        raise ArgumentError(f"quantize: group_size is a positive integer, not {group_size!r}")
    if length % group_size:
        raise ShapeError(
            f"quantize: groups of {group_size} do not divide the {length} of {node.type} along axis {axis}"
        )
    return axis, int(group_size)


def _checked_zero(zero_point: Any, kind: str, low: int, high: int) -> Node:
    node = lift(zero_point, "dequantize: zero_point")
    if isinstance(node, Constant) and node.type.weak:
        if isinstance(node.value, float) or not low <= node.value <= high:
            raise ArgumentError(
                f"dequantize: a zero point of {kind} is an integer from {low} to {high}, not {node.value}"
            )
    elif node.dtype != _INT8:
        raise DTypeError(f"dequantize: zero_point is int8, not {node.type}")
    return node


def _spread(name: str, node: Node, shape: Shape) -> Array:
    """A parameter with an element for each group, for every element."""
    if not node.shape:
        return Array(node)
    if len(node.shape) != len(shape):
        raise ShapeError(f"dequantize: {name} {node.type} has other axes than the numbers, {list(shape)}")
    split: list[int] = []
    spread: list[int] = []
    for length, (groups, size) in zip(shape, _groups(name, node, shape), strict=True):
        split += (groups,) if size is None else (groups, 1)
        spread += (length,) if size is None else (groups, size)
    if len(split) == len(shape):  # 1 or all of each axis: broadcasts as it is
        return Array(node)
    array = broadcast_to(Array(node).reshape(tuple(split)), tuple(spread))
    return array.reshape(shape)


def _groups(name: str, node: Node, shape: Shape) -> Iterator[tuple[int, int | None]]:
    """Of each axis how many groups there are, and how long they are: None where nothing is to be repeated."""
    for axis, (groups, length) in enumerate(zip(node.shape, shape, strict=True)):
        if groups in (1, length):
            yield groups, None
        elif groups == 0 or length % groups:
            raise ShapeError(
                f"dequantize: {name} {node.type} has {groups} groups along axis {axis}, "
                f"which do not divide the {length} of {list(shape)}"
            )
        else:
            yield groups, length // groups
