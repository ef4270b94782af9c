"""Torch's element-wise functions that neither NumPy nor the array API has: each said by those that there are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.errors import ShapeError
from ..engine.types import is_float
from .answers import no_lazy_form
from .array import Array, lift
from .function import lifted_float
from .registry import FUNCTIONS
from .selection import where

# So many comparisons are written out one by one.
_MOST_COMPARED = 256


def _array(x: Any, name: str) -> Array:
    return Array(lift(x, name))


def _floats(x: Any, name: str) -> Array:
    return Array(lifted_float(x, name))


def fmod(x: Any, y: Any) -> Array:
    """The remainder with the sign of ``x``."""
    left = _array(x, "fmod")
    rest: Array = abs(left) % abs(_array(y, "fmod"))
    return where(left < 0, -rest, rest)


def frac(x: Any) -> Array:
    """What is behind the point."""
    array = _floats(x, "frac")
    result: Array = array - array.trunc()
    return result


def lerp(start: Any, end: Any, weight: Any) -> Array:
    """From ``start`` to ``end`` by the weight."""
    first = _array(start, "lerp")
    result: Array = first + weight * (_array(end, "lerp") - first)
    return result


def addcmul(x: Any, first: Any, second: Any, *, value: Any = 1) -> Array:
    """``x + value * first * second``."""
    result: Array = _array(x, "addcmul") + value * (_array(first, "addcmul") * second)
    return result


def addcdiv(x: Any, first: Any, second: Any, *, value: Any = 1) -> Array:
    """``x + value * first / second``."""
    result: Array = _array(x, "addcdiv") + value * (_array(first, "addcdiv") / second)
    return result


def nan_to_num(x: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Array:
    """Numbers for NaN and the infinities: 0 and the largest by default."""
    array = _array(x, "nan_to_num")
    if not is_float(array.dtype):
        return array
    largest = float(np.finfo(array.dtype if array.dtype.itemsize > 2 else np.float16).max)
    finite = where(array == math.inf, largest if posinf is None else posinf, array)
    finite = where(array == -math.inf, -largest if neginf is None else neginf, finite)
    return where(array.isnan(), 0.0 if nan is None else nan, finite)


def logit(x: Any, eps: Any = None) -> Array:
    """``log(x / (1 - x))``."""
    array = _floats(x, "logit")
    inside = array
    if eps is not None:
        inside = where(array < eps, eps, where(array > 1 - eps, 1 - eps, array))
    result: Array = (inside / (1 - inside)).log()
    return result


def xlogy(x: Any, y: Any) -> Array:
    """``x * log(y)``, 0 where x is 0."""
    left, right = _floats(x, "xlogy"), _floats(y, "xlogy")
    product = where(left == 0, 0.0, left * right.log())
    return where(right.isnan(), right, product)


def sinc(x: Any) -> Array:
    """``sin(πx) / (πx)``, 1 at 0."""
    angle = _floats(x, "sinc") * math.pi
    is_zero = angle == 0
    return where(is_zero, 1.0, angle.sin() / where(is_zero, 1.0, angle))


def heaviside(x: Any, values: Any) -> Array:
    """0 below 0 and 1 above, ``values`` at 0."""
    array = _array(x, "heaviside")
    return where(array == 0, values, (array > 0).astype(array.dtype))


def isclose(x: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """Whether two numbers are near each other."""
    left, right = _array(x, "isclose"), _array(other, "isclose")
    result: Array = (left == right) | (abs(left - right) <= atol + rtol * abs(right)) & right.isfinite()
    return result | (left.isnan() & right.isnan()) if equal_nan else result


def _each_of(values: Any, name: str) -> list[Any]:
    """Some numbers of one axis, one by one."""
    array = values if isinstance(values, int | float) else _array(values, name).reshape(-1)
    if not isinstance(array, Array):
        return [array]
    if array.size > _MOST_COMPARED:
        raise no_lazy_form(f"torch.{name} of {array.size} values")
    return [array[number] for number in range(array.size)]


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Array:
    """Whether each is among some numbers."""
    array = _array(elements, "isin")
    found: Array = FUNCTIONS["zeros_like"](array, dtype=np.bool_)
    for each in _each_of(test_elements, "isin"):
        found = found | (array == each)
    return ~found if invert else found


def bucketize(x: Any, boundaries: Any, *, right: bool = False, out_int32: bool = False) -> Array:
    """How many of the boundaries, which ascend, lie below each number; ``right`` counts those that equal it."""
    array = _array(x, "bucketize")
    if _array(boundaries, "bucketize").ndim != 1:
        raise ShapeError("bucketize: the boundaries have one axis")
    each = _each_of(boundaries, "bucketize")
    dtype = np.int32 if out_int32 else np.int64

    def place(start: int, end: int) -> Any:
        """The search by halves, written out: its result is one of few integers, as the bounds of indices need it."""
        if start == end:
            return FUNCTIONS["full"]((), start, dtype=dtype)
        middle = (start + end) // 2
        is_left = each[middle] > array if right else each[middle] >= array
        return where(is_left, place(start, middle), place(middle + 1, end))

    found: Array = FUNCTIONS["broadcast_to"](place(0, len(each)), array.shape)
    return found


def searchsorted(boundaries: Any, x: Any, *, right: bool = False, side: Any = None, out_int32: bool = False) -> Array:
    """As `bucketize`, its arguments the other way round."""
    return bucketize(x, boundaries, right=right or side == "right", out_int32=out_int32)


def threshold(x: Any, least: Any, value: Any, inplace: bool = False) -> Array:
    """``value`` for what is not above the least."""
    array = _array(x, "threshold")
    return where(array > least, array, value)


def hardtanh(x: Any, min_val: Any = -1.0, max_val: Any = 1.0, inplace: bool = False) -> Array:
    """Held between two numbers."""
    array = _array(x, "hardtanh")
    return array.clip(min_val, max_val).astype(array.dtype)


def hardsigmoid(x: Any, inplace: bool = False) -> Array:
    """A sigmoid of straight lines."""
    return (_floats(x, "hardsigmoid") / 6 + 0.5).clip(0, 1)


def softshrink(x: Any, lambd: float = 0.5) -> Array:
    """Nearer to 0 by ``lambd``."""
    array = _floats(x, "softshrink")
    return where(array > lambd, array - lambd, where(array < -lambd, array + lambd, array * 0))


def _selu(x: Any, inplace: bool = False) -> Array:
    elu: Array = FUNCTIONS["elu"](x, 1.6732632423543772)
    return elu * 1.0507009873554805


def _celu(x: Any, alpha: float = 1.0, inplace: bool = False) -> Array:
    array = _floats(x, "celu")
    return where(array > 0, array, alpha * (array / alpha).expm1())


def _mish(x: Any, inplace: bool = False) -> Array:
    array = _floats(x, "mish")
    return array * FUNCTIONS["tanh"](FUNCTIONS["softplus"](array))  # type: ignore[no-any-return]


# By torch's names: of arrays that are met element by element.
POINTWISE: dict[str, Callable[..., Any]] = {
    "fmod": fmod,
    "frac": frac,
    "lerp": lerp,
    "addcmul": addcmul,
    "addcdiv": addcdiv,
    "nan_to_num": nan_to_num,
    "logit": logit,
    "special_logit": logit,
    "special_expit": lambda x: _floats(x, "expit").sigmoid(),
    "xlogy": xlogy,
    "special_xlogy": xlogy,
    "sinc": sinc,
    "heaviside": heaviside,
    "isclose": isclose,
    "isposinf": lambda x: _array(x, "isposinf") == math.inf,
    "isneginf": lambda x: _array(x, "isneginf") == -math.inf,
    "deg2rad": lambda x: _floats(x, "deg2rad") * (math.pi / 180),
    "rad2deg": lambda x: _floats(x, "rad2deg") * (180 / math.pi),
    "erfc": lambda x: 1 - FUNCTIONS["erf"](x),
    "ldexp": lambda x, power: _array(x, "ldexp") * _floats(power, "ldexp").exp2(),
    "logaddexp2": lambda x, y: (
        FUNCTIONS["logaddexp"](_floats(x, "logaddexp2") * math.log(2), y * math.log(2)) / math.log(2)
    ),
    "threshold": threshold,
    "hardtanh": hardtanh,
    "relu6": lambda x, inplace=False: hardtanh(x, 0.0, 6.0),
    "hardsigmoid": hardsigmoid,
    "hardswish": lambda x, inplace=False: _array(x, "hardswish") * hardsigmoid(x),
    "softsign": lambda x: _floats(x, "softsign") / (1 + abs(_floats(x, "softsign"))),
    "tanhshrink": lambda x: _floats(x, "tanhshrink") - _floats(x, "tanhshrink").tanh(),
    "softshrink": softshrink,
    "hardshrink": lambda x, lambd=0.5: where(abs(_floats(x, "hardshrink")) > lambd, x, 0.0),
    "selu": _selu,
    "celu": _celu,
    "mish": _mish,
}

# The same, of arrays and a list of numbers.
LISTED: dict[str, Callable[..., Any]] = {"isin": isin, "bucketize": bucketize, "searchsorted": searchsorted}
