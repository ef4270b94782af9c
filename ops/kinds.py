"""The kinds of operators: what all element-wise ones, rearrangements and reductions share."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import EMPTY, Careful, Court, adds_nothing, blame_of_any, clear, none_if_empty
from ..engine.errors import ArgumentError, DTypeError, LimitError, ShapeError, TraceError
from ..engine.ir import Node, UnfusableError, Values
from ..engine.labels import Axes, broadcast_axes, unlabelled
from ..engine.leaves import Constant
from ..engine.types import (
    BOOL,
    DEFAULT_FLOAT,
    DType,
    Shape,
    TensorType,
    broadcast,
    category,
    is_float,
)

KINDS = ("boolean", "integer", "float")


class Elementwise(Node):
    """One element out of one element of each operand, after broadcasting.

    Operands have one common data type when the node is made (the public functions promote).
    """

    role: ClassVar[str] = "pointwise"

    # Which kinds of operands the operator takes: 0 boolean, 1 integer, 2 float.
    takes: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def infer(self) -> TensorType:
        """Broadcast shapes; the operands' data type through `result_dtype`."""
        for operand in self.operands:
            self.check_kind(operand)
        first = self.operands[0]
        if all(operand.shape == first.shape for operand in self.operands):
            shape = first.shape
        else:
            shape = broadcast(self.name, *(operand.shape for operand in self.operands))
        weak = all(operand.type.weak for operand in self.operands)
        return TensorType(shape, self.result_dtype(self.value_operand().dtype), weak)

    def value_operand(self) -> Node:
        """The operand whose data type decides the result's."""
        return self.operands[0]

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """What the operands agree on, broadcast by position."""
        shapes = [operand.shape for operand in self.operands]
        return broadcast_axes(self.shape, list(zip(operands, shapes, strict=True)))

    def check_kind(self, operand: Node) -> None:
        """Raise DTypeError for an operand of a kind that the operator does not take."""
        if category(operand.dtype) not in self.takes:
            wanted = " or ".join(KINDS[kind] for kind in self.takes)
            sides = ", ".join(str(each.type) for each in self.operands)
            raise DTypeError(f"{self.name}: takes {wanted} arrays, not {sides}")

    def result_dtype(self, dtype: DType) -> DType:
        """The result's data type, from the operands' common one."""
        return dtype

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The function of the operands' elements, by this operator's name."""
        return kernel.apply(self.name, self.dtype, *(kernel.spread(operand, at) for operand in self.operands))

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """NaN, +inf, or a -inf that no operand brought."""
        if value.dtype.kind != "f" or np.isfinite(value).all():
            return False
        brought = np.zeros((), np.bool_)
        for operand in operands:
            if operand.dtype.kind == "f":
                brought = brought | np.isinf(operand)
        return not bool((np.isneginf(value) & brought | np.isfinite(value)).all())

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden positions stay hidden while they add nothing: ``maximum(-inf, 0)``, ``0 ** 2``."""
        hidden = None
        varying = [
            operand for operand, node in zip(operands, self.operands, strict=True) if constant_value(node) is None
        ]
        if varying and all(operand.hidden is not None for operand in varying):
            # What a mask's 0 became by meeting NaN is still that 0.
            of_zero = np.asarray(self.reference(*(operand.contribution() for operand in operands)))
            levels = np.full(value.shape, EMPTY)
            for operand in varying:
                np.minimum(levels, operand.full_hidden(), out=levels)
            hidden = none_if_empty(levels * adds_nothing(of_zero))
        return Careful(value, hidden, clear(blame_of_any(operands, value.shape), hidden))


class FloatFunction(Elementwise):
    """An element-wise function on floats; integers and booleans are taken as float32.

    NumPy's float32 loops differ in accuracy between machines, so the definition is computed in
    float64 and rounded once.
    """

    takes = (2,)
    wide = True


class Comparison(Elementwise):
    """Two sides of one type to a boolean."""

    def result_dtype(self, dtype: DType) -> DType:
        """Boolean."""
        return BOOL


class Rearrangement(Node):
    """Moves, repeats or selects elements without computing on them."""

    role: ClassVar[str] = "rearrangement"
    # Whether there are zeros beside the operand's elements.
    adds_zeros: ClassVar[bool] = False

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Never: nothing is computed."""
        return False

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Hidden and blame move with the elements."""
        hidden = blame = None
        if any(operand.hidden is not None for operand in operands):
            hidden = np.asarray(self.reference(*(operand.full_hidden() for operand in operands)))
        if any(operand.blame is not None for operand in operands):
            blame = np.asarray(self.reference(*(operand.full_blame() for operand in operands)))
        return Careful(value, none_if_empty(hidden), blame)


class Reduction(Node):
    """Many elements along some axes into one. ``axes`` are sorted and not negative."""

    role: ClassVar[str] = "reduction"

    operand: Node
    axes: tuple[int, ...]
    keepdims: bool

    def infer(self) -> TensorType:
        """The axes become 1, or vanish."""
        shape = reduced_shape(self.operand.shape, self.axes, self.keepdims)
        return TensorType(shape, self.result_dtype(self.operand.dtype))

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Those that stay."""
        kept = [None if axis in self.axes else name for axis, name in enumerate(operands[0])]
        return tuple(kept if self.keepdims else [name for axis, name in enumerate(kept) if axis not in self.axes])

    def result_dtype(self, dtype: DType) -> DType:
        """The result's data type."""
        return dtype

    # What a kernel calls the reduction; None if it has none.
    kernel_kind: ClassVar[str | None] = None
    # Whether the kernel reduces what is negated, and negates that.
    kernel_negates: ClassVar[bool] = False

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """A reduction over new axes, the last one inside."""
        if self.kernel_kind is None or not is_float(self.dtype):
            raise UnfusableError(f"{self.name} of {self.dtype} has no kernel")
        kept = iter(at)
        new = {axis: kernel.new_axis("r", self.operand.shape[axis]) for axis in self.axes}
        inside = []
        for axis in range(len(self.operand.shape)):
            if axis in new:
                inside.append(kernel.index(new[axis]))
                if self.keepdims:
                    next(kept)
            else:
                inside.append(next(kept))
        body = kernel.element(self.operand, inside)
        if self.kernel_negates:
            body = kernel.apply("negative", self.dtype, body)
        for axis in reversed(self.axes):
            body = kernel.reduce(self.kernel_kind, new[axis], body)
        return kernel.apply("negative", self.dtype, body) if self.kernel_negates else body

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Empty where everything reduced was hidden; to blame for anything that was not."""
        (operand,) = operands
        hidden = blame = None
        if operand.hidden is not None:
            value = np.asarray(self.reference(operand.contribution())).astype(value.dtype)
            everything = (operand.full_hidden() > 0).all(axis=self.axes, keepdims=self.keepdims)
            hidden = none_if_empty(EMPTY * np.asarray(everything & adds_nothing(value)))
        if operand.blame is not None:
            blame = operand.full_blame().max(axis=self.axes, keepdims=self.keepdims, initial=0)
        return Careful(value, hidden, blame)


class AlongAxis(Node):
    """Every element of the result depends on a whole line of the operand along ``axis``."""

    operand: Node
    axis: int

    def infer(self) -> TensorType:
        """The operand's type, never weak."""
        return TensorType(self.operand.shape, self.result_dtype(self.operand.dtype))

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """The operand's, where the shape is."""
        return operands[0] if self.shape == self.operand.shape else unlabelled(self.shape)

    def result_dtype(self, dtype: DType) -> DType:
        """The result's data type."""
        return dtype

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A line blames whom any of its elements blames."""
        return Careful(value, None, line_blame(operands[0], self.axis, value))


def line_maximum(operand: Careful, axis: int) -> Values | None:
    """The blame of each whole line, that axis as 1."""
    return None if operand.blame is None else operand.full_blame().max(axis=axis, keepdims=True, initial=0)


def line_blame(operand: Careful, axis: int, value: Values) -> Values | None:
    """The blame of each whole line, in ``value``'s shape."""
    worst = line_maximum(operand, axis)
    return None if worst is None else np.broadcast_to(worst, value.shape)


def reduced_shape(shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Shape:
    """``shape`` with ``axes`` as 1, or without them."""
    if keepdims:
        return tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    return tuple(length for axis, length in enumerate(shape) if axis not in axes)


def float_or_default(dtype: DType) -> DType:
    """``dtype`` if it is a float, else the default float."""
    return dtype if is_float(dtype) else DEFAULT_FLOAT


def whole(operation: str, name: str, value: Any) -> int:
    """An argument that is an integer, now.

    Raises:
        ArgumentError: If it is none.
        TraceError: If it is lazy.
    """
    try:
        return int(value.__index__())
    except TraceError:
        raise
    except (AttributeError, TypeError):
        raise ArgumentError(f"{operation}: {name} is an integer, not {value!r}") from None


def is_sequence(value: Any) -> bool:
    """Whether an argument is several numbers rather than one: a list, a tuple, an array with axes."""
    return isinstance(value, list | tuple | range) or (isinstance(value, np.ndarray) and value.ndim > 0)


def flag(operation: str, name: str, value: Any) -> bool:
    """An argument that is True or False, now.

    Raises:
        ArgumentError: If it is something else, a lazy boolean among them.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ArgumentError(f"{operation}: {name} is True or False, not {_shown(value)}")


def number(operation: str, name: str, value: Any) -> float:
    """An argument that is a plain number, now.

    Raises:
        ArgumentError: If it is none, or lazy.
    """
    if hasattr(value, "__array_namespace__") and not isinstance(value, np.ndarray | np.generic):
        return float(value)  # a lazy value says itself why it is none
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        try:
            return float(value)
        except (OverflowError, TypeError):
            pass
    raise ArgumentError(f"{operation}: {name} is a number, not {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def countable(operation: str, shape: Sequence[int]) -> Shape:
    """A shape whose bytes can be counted in 64 bits.

    Raises:
        LimitError: If no memory could hold such an array.
    """
    lengths = tuple(shape)
    # An empty array of absurd lengths has absurd strides all the same.
    if math.prod(max(length, 1) for length in lengths) >= 2**60:
        raise LimitError(f"{operation}: shape {lengths} is larger than any memory")
    return lengths


def normalize_axis(operation: str, axis: Any, ndim: int) -> int:
    """An axis counted from the front.

    Raises:
        ShapeError: If the array has no such axis.
    """
    try:
        number = axis.__index__()
    except (AttributeError, TypeError):
        raise ShapeError(f"{operation}: axis is an integer, not {axis!r}") from None
    if not -ndim <= number < ndim:
        raise ShapeError(f"{operation}: axis {number} of an array with {ndim} axes")
    return int(number % ndim)


def normalize_axes(operation: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """One axis, several, or None for all: sorted, counted from the front, each once."""
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    axes = tuple(normalize_axis(operation, each, ndim) for each in given)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{operation}: axes {given} name an axis twice")
    return tuple(sorted(axes))


def constant_value(node: Node) -> bool | int | float | None:
    """The scalar that a constant spreads over its whole shape, else None; not through what is differentiated by."""
    # A cast keeps 0 and -inf what they are.
    among_zeros = False
    while (isinstance(node, Rearrangement) or node.rounds) and len(node.operands) == 1 and not node.of_gradients:
        among_zeros = among_zeros or (isinstance(node, Rearrangement) and node.adds_zeros)
        node = node.operands[0]
    return node.value if isinstance(node, Constant) and (node.value == 0 or not among_zeros) else None
