"""What a node is a tensor of: shape, data type, and how types combine.

Promotion is PyTorch's: a float beats an integer beats a boolean, and what has no axes (a Python
scalar, a NumPy scalar, a 0-d array) never widens an operand of its own kind.
Source: https://pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from .errors import DTypeError, ShapeError
from .lengths import estimate

Shape = tuple[int, ...]
DType = np.dtype[Any]

BOOL: DType = np.dtype(np.bool_)
INT64: DType = np.dtype(np.int64)
UINT64: DType = np.dtype(np.uint64)
FLOAT16: DType = np.dtype(np.float16)
BFLOAT16: DType = np.dtype(ml_dtypes.bfloat16)
FLOAT32: DType = np.dtype(np.float32)
FLOAT64: DType = np.dtype(np.float64)
DEFAULT_FLOAT = FLOAT32

FLOATS = (FLOAT16, BFLOAT16, FLOAT32, FLOAT64)
HALVES = (FLOAT16, BFLOAT16)
INTEGERS = tuple(np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
SUPPORTED = (BOOL, *INTEGERS, *FLOATS)
_BY_NAME = {dtype.name: dtype for dtype in SUPPORTED}
_SAME = {dtype: dtype for dtype in SUPPORTED}  # a name takes NumPy microseconds


class TensorType(NamedTuple):
    """Shape and data type of a value.

    ``weak`` marks what came from Python or NumPy scalars alone: it takes the type of what it meets.
    """

    shape: Shape
    dtype: DType
    weak: bool = False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements; on free lengths an estimate, which pins none."""
        return math.prod(map(estimate, self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of a stored value of this type."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


def is_float(dtype: DType) -> bool:
    """Whether ``dtype`` is one of the floating types, bfloat16 among them."""
    return dtype in FLOATS


def is_integer(dtype: DType) -> bool:
    """Whether ``dtype`` is a signed or unsigned integer (not boolean)."""
    return dtype.kind in "iu"


def category(dtype: DType) -> int:
    """0 for booleans, 1 for integers, 2 for floats."""
    return 2 if is_float(dtype) else int(is_integer(dtype))


def as_dtype(given: Any) -> DType:
    """The supported dtype that ``given`` names: a NumPy dtype, its name, a Python or a torch type.

    Raises:
        DTypeError: If attngraph does not compute with it.
    """
    if isinstance(given, np.dtype) and given in _SAME:
        return _SAME[given]
    if given is float:
        return DEFAULT_FLOAT
    if type(given).__module__ == "torch":  # torch.float32 prints as its name
        given = str(given).removeprefix("torch.")
    try:
        dtype = np.dtype(given)
    except (TypeError, ValueError):
        raise DTypeError(f"{given!r} is no data type") from None
    found = _BY_NAME.get(dtype.name)
    if found is None:
        raise DTypeError(f"dtype {dtype} is not supported; supported are {', '.join(_BY_NAME)}")
    return found


def carrier(kind: TensorType, *, all64: bool = False) -> DType:
    """The type that the interpreter computes a value in.

    Half floats are stored narrow and computed in float32; weak scalars keep Python's precision;
    under ``reference64`` every float is float64.
    """
    if not is_float(kind.dtype):
        return kind.dtype
    if all64 or kind.weak or kind.dtype == FLOAT64:
        return FLOAT64
    return FLOAT32


def widen(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Floats of NumPy's own types as float64, all else as it is."""
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _same_level(dtypes: Iterable[DType]) -> DType | None:
    """The type that holds all of these; None for none of them."""
    given = list(dtypes)
    highest = max(map(category, given), default=0)
    result: DType | None = None
    for dtype in given:  # what is of a lower kind does not count
        if category(dtype) == highest:
            result = dtype if result is None else _pair(result, dtype)
    return result


def _pair(left: DType, right: DType) -> DType:
    if left == right:
        return left
    if is_float(left):
        return FLOAT32 if left.itemsize == right.itemsize else max(left, right, key=lambda d: d.itemsize)
    promoted = np.promote_types(left, right)
    if not is_integer(promoted):
        raise DTypeError(f"no integer type holds both {left} and {right}; cast one with astype")
    return promoted


def _combine(higher: DType | None, lower: DType | None) -> DType | None:
    """PyTorch's combine_categories: the lower level counts only through its kind."""
    if higher is None or lower is None:
        return lower if higher is None else higher
    return lower if category(lower) > category(higher) else higher


def promote(kinds: Sequence[TensorType]) -> tuple[DType, bool]:
    """The common data type of operands, and whether it is weak (all of them are).

    Raises:
        DTypeError: If no type holds both sides (uint64 with a signed integer).
    """
    first = kinds[0]
    if not first.weak and all(kind.dtype == first.dtype and not kind.weak for kind in kinds):
        return first.dtype, False
    axes = _same_level(kind.dtype for kind in kinds if kind.shape and not kind.weak)
    scalars = _same_level(kind.dtype for kind in kinds if not kind.shape and not kind.weak)
    weak = _same_level(kind.dtype for kind in kinds if kind.weak)
    strong = _combine(axes, scalars)
    if strong is None:
        assert weak is not None, "promotion of nothing"
        return weak, True
    if weak is not None and category(weak) > category(strong):
        return (DEFAULT_FLOAT if is_float(weak) else weak), False
    return strong, False


def broadcast(operation: str, *shapes: Shape) -> Shape:
    """The shape that operands broadcast to.

    Raises:
        ShapeError: If they do not, naming ``operation`` and both sides.
    """
    result: Shape = ()
    for shape in shapes:
        result = _broadcast_pair(operation, result, shape)
    return result


def _broadcast_pair(operation: str, left: Shape, right: Shape) -> Shape:
    if left == right or not right:
        return left
    if not left:
        return right
    size = max(len(left), len(right))
    padded_left, padded_right = (1,) * (size - len(left)) + left, (1,) * (size - len(right)) + right
    axes = []
    for first, second in zip(padded_left, padded_right, strict=True):
        if first != second and first != 1 and second != 1:
            raise ShapeError(f"{operation}: shapes {left} and {right} do not broadcast: {first} against {second}")
        axes.append(second if first == 1 else first)
    return tuple(axes)
