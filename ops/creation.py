"""Arrays out of nothing: ranges, constants, placeholders."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.ir import Values
from ..engine.leaves import Constant, Leaf, Placeholder
from ..engine.types import DEFAULT_FLOAT, INT64, DType, Shape, TensorType, as_dtype, is_float, is_integer
from .array import Array, ArrayLike, lift
from .casting import cast
from .kinds import countable
from .registry import public
from .shape import BroadcastTo

inf = float("inf")
nan = float("nan")
pi = 3.141592653589793
newaxis = None


class Arange(Leaf):
    """``start, start + step, …``: a range that is computed, never stored."""

    # Computed from its index, not stored.
    role: ClassVar[str] = "pointwise"

    start: int | float
    step: int | float
    length: int
    element_type: DType

    def infer(self) -> TensorType:
        """One axis."""
        return TensorType((self.length,), self.element_type)

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """``start + step * index``."""
        (index,) = at
        if is_float(self.element_type):
            index = kernel.apply("astype", self.element_type, index)
        scaled = kernel.multiply(index, kernel.constant(self.step, self.element_type))
        return kernel.add(scaled, kernel.constant(self.start, self.element_type))

    def reference(self) -> Values:
        """Start plus whole multiples of the step."""
        counts: Values = np.arange(self.length, dtype=np.float64 if is_float(self.element_type) else np.int64)
        return np.asarray(self.start + self.step * counts)


def as_shape(operation: str, shape: Any) -> Shape:
    """A shape given as an integer or a sequence of them.

    Raises:
        ShapeError: If a length is negative or no integer.
    """
    given = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    lengths = []
    for length in given:
        try:
            lengths.append(int(length.__index__()))
        except (AttributeError, TypeError):
            raise ShapeError(f"{operation}: a shape is made of integers, not {length!r}") from None
        if lengths[-1] < 0:
            raise ShapeError(f"{operation}: shape {given} has a negative length")
    return countable(operation, lengths)


@public()
def arange(start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None) -> Array:
    """Numbers from ``start`` (0 if alone) up to ``stop``, which is left out.

    int64 for integers, float32 for floats, unless ``dtype`` says otherwise.

    Raises:
        ArgumentError: For a step of 0 or bounds that are no finite numbers.
    """
    if stop is None:
        start, stop = 0, start
    bounds: list[int | float] = [_number(value) for value in (start, stop, step)]
    if bounds[2] == 0:
        raise ArgumentError(f"arange: from {start} to {stop} in steps of 0")
    if all(isinstance(value, int) for value in bounds):
        length = int(max(0, -((bounds[0] - bounds[1]) // bounds[2])))
        default = INT64
    else:
        count = (bounds[1] - bounds[0]) / bounds[2]
        length = max(0, math.ceil(count)) if math.isfinite(count) else 2**63
        default = DEFAULT_FLOAT
    if length >= 2**63 or any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in bounds):
        raise ArgumentError(f"arange: from {start} to {stop} in steps of {step} does not fit 64-bit integers")
    target = default if dtype is None else as_dtype(dtype)
    if is_integer(target) and length and all(isinstance(value, int) for value in bounds):
        limits, ends = np.iinfo(target), (bounds[0], bounds[0] + bounds[2] * (length - 1))
        if min(ends) < limits.min or max(ends) > limits.max:
            raise DTypeError(f"arange: from {start} to {stop} does not fit {target}")
    return Array(Arange(bounds[0], bounds[2], length, target))


def _number(value: Any) -> int | float:
    if isinstance(value, Array):
        raise ArgumentError(f"arange: bounds are numbers now, not a lazy {value.node.type}")
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError("arange: bounds are numbers, not a masked value")
    try:
        return int(value.__index__())
    except (AttributeError, TypeError):
        pass
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"arange: bounds are numbers, not {value!r}") from None
    if not math.isfinite(found):
        raise ArgumentError(f"arange: bounds are finite, not {found}")
    return found


@public()
def full(shape: Any, fill_value: ArrayLike, *, dtype: Any = None) -> Array:
    """``fill_value`` (a scalar or a 0-d array) everywhere; nothing is stored.

    Raises:
        ShapeError: For a bad shape, or a value with axes.
    """
    node = lift(fill_value, "full")
    if node.shape:
        raise ShapeError(f"full: the value is a scalar, not {node.type}")
    target = node.dtype if dtype is None else as_dtype(dtype)
    if isinstance(node, Constant) and is_integer(node.dtype) and is_integer(target):
        limits = np.iinfo(target)
        if not limits.min <= node.value <= limits.max:
            raise DTypeError(f"full: {node.value} does not fit {target}")
    node = cast(node, target)
    lengths = as_shape("full", shape)
    return Array(node if lengths == () else BroadcastTo(node, lengths))


@public()
def zeros(shape: Any, *, dtype: Any = None) -> Array:
    """0 everywhere; float32 by default."""
    return full(shape, 0, dtype=DEFAULT_FLOAT if dtype is None else dtype)


@public()
def ones(shape: Any, *, dtype: Any = None) -> Array:
    """1 everywhere; float32 by default."""
    return full(shape, 1, dtype=DEFAULT_FLOAT if dtype is None else dtype)


@public()
def full_like(x: ArrayLike, /, fill_value: ArrayLike, *, dtype: Any = None) -> Array:
    """``fill_value`` in the shape and type of ``x``."""
    node = lift(x, "full_like")
    return full(node.shape, fill_value, dtype=node.dtype if dtype is None else dtype)


@public()
def zeros_like(x: ArrayLike, /, *, dtype: Any = None) -> Array:
    """0 in the shape and type of ``x``."""
    return full_like(x, 0, dtype=dtype)


@public()
def ones_like(x: ArrayLike, /, *, dtype: Any = None) -> Array:
    """1 in the shape and type of ``x``."""
    return full_like(x, 1, dtype=dtype)


@public()
def placeholder(shape: Any, dtype: Any = "float32", name: str | None = None) -> Array:
    """A leaf without data; every one is distinct, ``name`` is only shown.

    Raises:
        ShapeError: For a bad shape.
        DTypeError: For a type that is not supported.
    """
    if name is not None and not isinstance(name, str):
        raise DTypeError(f"placeholder: name is a string, not {name!r}")
    return Array(Placeholder.new(TensorType(as_shape("placeholder", shape), as_dtype(dtype)), name))
