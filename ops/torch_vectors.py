"""Vectors at every position: what a score function of scalars makes when it indexes a table only partly.

Torch maps a score function over positions: b, h, q_idx and kv_idx are scalars, and ``table[h]`` is a vector. Here the
function runs once, for all positions: scalars are arrays of four axes, and a vector has its own axes behind
these. `Vectors` speak of their own axes alone, so ``(q_rope[b, h, q_idx] * k_rope[b, kv_idx]).sum()`` means what
it means there.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine.errors import ShapeError
from ..engine.tracing import traced_floats
from ..engine.types import Shape, broadcast, is_float
from .answers import no_lazy_form
from .array import Array, lift
from .creation import arange
from .indexing import Gather, indexed
from .kinds import is_sequence, normalize_axis
from .methods import Methods
from .registry import FUNCTIONS, public
from .shape import broadcast_to, reshape
from .torch_functions import Selected
from .torch_methods import TorchMethods
from .torch_pointwise import POINTWISE

# The axes of positions: b, h, q_idx and kv_idx.
_POSITIONS = 4


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTWISE = _names(
    "add radd sub rsub subtract mul rmul multiply truediv rtruediv true_divide div divide floordiv rfloordiv "
    "floor_divide mod rmod remainder pow rpow power and rand or ror xor rxor lshift rlshift rshift rrshift lt le gt ge "
    "eq ne less less_equal greater greater_equal equal not_equal neg negative pos positive abs absolute invert exp "
    "exp2 expm1 log log2 log1p sqrt rsqrt square sign tanh sigmoid sin cos floor ceil trunc round relu erf reciprocal "
    "isnan isinf isfinite logical_not logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor "
    "bitwise_not maximum minimum clamp clamp_min clamp_max clip masked_fill where silu gelu elu leaky_relu softplus "
    "to astype long int float double half bool type_as copy clone contiguous detach "
    "absolute arccos acos arccosh acosh arcsin asin arcsinh asinh arctan atan arctanh atanh cosh sinh tan log10 "
    "signbit fix atan2 arctan2 bitwise_left_shift bitwise_right_shift copysign hypot logaddexp float_power "
    "type bfloat16 short byte zeros_like ones_like full_like"
) | frozenset(POINTWISE)
_REDUCTIONS = _names("sum prod max min amax amin mean var std any all argmax argmin logsumexp norm")
_ALONG_AXIS = _names("softmax log_softmax cumsum")
_PRODUCTS = _names("dot vdot inner matmul rmatmul vecdot mv")
_SINGLE_AXIS = _names("argmax argmin")


class Vectors(Array):
    """A vector, matrix … at every position. `shape` is that of one of them."""

    __slots__ = ()

    @property
    def shape(self) -> Shape:
        """Lengths of the axes of one of the vectors."""
        return self.node.type.shape[_POSITIONS:]

    @property
    def size(self) -> int:
        """Number of elements of one of the vectors."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len: a 0-d array has no length")
        return self.shape[0]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise no_lazy_form(f"np.{ufunc.__name__}.{method} of vectors at every position")
        call = functools.partial(FUNCTIONS["ufunc_protocol"], ufunc, method)
        return _spoken(ufunc.__name__, lambda *args, **options: call(args, options), inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        call = functools.partial(FUNCTIONS["function_protocol"], function)
        return _spoken(function.__name__, lambda *args, **options: call(args, options), args, kwargs)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            return FUNCTIONS["torch_protocol"](function, args, options)

        return _spoken(getattr(function, "__name__", str(function)), call, args, kwargs or {})


def _said(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def said(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _spoken(name, method, (self, *args), kwargs)

    return functools.update_wrapper(said, method)


for _name in {*vars(Methods), *vars(TorchMethods)}:
    _method = getattr(Array, _name)
    if callable(_method) and _name not in vars(object) and _name not in ("__module__", "__doc__", "__dict__"):
        setattr(Vectors, _name, _said(_name, _method))
for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Vectors, _name, _said(_name, getattr(Array, _name)))
Vectors.__hash__ = object.__hash__  # type: ignore[assignment, method-assign]


def _spoken(name: str, call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a method or function gives at every position."""
    plain = name.strip("_")
    if plain == "getitem":
        return FUNCTIONS["getitem"](*args)
    if plain in _ELEMENTWISE:
        ranks = [_rank(each) for each in (*args, *kwargs.values())]
        own = max(ranks)
        aligned = {word: _aligned(each, own) for word, each in kwargs.items()}
        return wrapped(call(*(_aligned(each, own) for each in args), **aligned))
    if plain in _REDUCTIONS and len(args) and not any(isinstance(each, Array) for each in args[1:]):
        return _reduced(plain, call, args, kwargs)
    if plain in ("max", "min") and len(args) == 2:
        return _spoken(f"{plain}imum", Array.maximum if plain == "max" else Array.minimum, args, kwargs)
    if plain in _ALONG_AXIS:
        return _along(call, args, kwargs)
    if plain in _COMPOSED:
        return _COMPOSED[plain](*args, **kwargs)
    if plain in _PRODUCTS and len(args) == 2:
        return _product(*(reversed(args) if plain == "rmatmul" else args))
    raise no_lazy_form(f"{name} of a vector at every position of a score or mask function")


def _rank(given: Any) -> int:
    """How many axes of its own an operand has: what is no array has none."""
    if isinstance(given, Array):
        axes = len(given.node.shape)
        return axes - _POSITIONS if axes >= _POSITIONS else axes
    return len(given.shape) if hasattr(given, "shape") and hasattr(given, "dtype") else 0


def _is_mapped(given: Any) -> bool:
    return isinstance(given, Array) and len(given.node.shape) >= _POSITIONS


def _aligned(given: Any, rank: int) -> Any:
    """With axes of length 1 between those of positions and its own, until it has so many of its own."""
    if not _is_mapped(given):
        return given
    shape = given.node.shape
    own = shape[_POSITIONS:]
    if len(own) == rank:
        return Array(given.node)
    return reshape(Array(given.node), (*shape[:_POSITIONS], *(1,) * (rank - len(own)), *own))


def wrapped(result: Any) -> Any:
    """Vectors where axes are left behind those of positions; scalars are plain arrays."""
    if isinstance(result, Selected):
        return Selected(*map(wrapped, result))
    if not isinstance(result, Array) or len(result.node.shape) < _POSITIONS:
        return result
    return Array(result.node) if len(result.node.shape) == _POSITIONS else Vectors(result.node)


def _own_axis(name: str, axis: Any, rank: int) -> int:
    return _POSITIONS + normalize_axis(name, axis, rank)


def _reduced(name: str, call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A reduction over its own axes: all of them where none is named."""
    x, *more = args
    rank, options = _rank(x), dict(kwargs)
    if name == "norm" and more:  # torch's p comes first
        options["p"], *more = more
    word = next((each for each in ("axis", "dim") if each in options), "dim")
    axis = options.pop(word, None) if not more else more.pop(0)
    if axis is None or (is_sequence(axis) and not len(axis)):
        places = tuple(range(_POSITIONS, _POSITIONS + rank))
        options[word] = places[0] if len(places) == 1 else places
        if name in ("max", "min"):  # without an axis there are no places to go with the values
            return wrapped(FUNCTIONS[name](Array(x.node), places, **_ours(options, word)))
        if name in _SINGLE_AXIS and rank > 1:
            raise no_lazy_form(f"{name} of all of a matrix at every position")
    elif is_sequence(axis):
        options[word] = tuple(_own_axis(name, each, rank) for each in axis)
    else:
        options[word] = _own_axis(name, axis, rank)
    return wrapped(call(Array(x.node), *more, **options))


def _ours(options: dict[str, Any], word: str) -> dict[str, Any]:
    return {("keepdims" if name == "keepdim" else name): each for name, each in options.items() if name != word}


def _along(call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """A function along one of its own axes."""
    x, *more = args
    rank, options = _rank(x), dict(kwargs)
    word = next((each for each in ("axis", "dim") if each in options), "dim")
    axis = options.pop(word, -1) if not more else more.pop(0)
    options[word] = _own_axis("softmax", axis, rank)
    return wrapped(call(Array(x.node), *more, **options))


def _product(left: Any, right: Any) -> Any:
    """The matrix product, of vectors too."""
    left_rank, right_rank = _rank(left), _rank(right)
    if not left_rank or not right_rank:
        raise ShapeError("matmul: a scalar at every position; multiply with *")
    if left_rank == right_rank == 1:
        product = _spoken("mul", Array.__mul__, (_lifted(left), _lifted(right)), {})
        return _spoken("sum", Array.sum, (product,), {})
    sides = [_lifted(left), _lifted(right)]
    if left_rank == 1:
        sides[0] = reshape(sides[0], (*sides[0].shape[:-1], 1, sides[0].shape[-1]))
    if right_rank == 1:
        sides[1] = reshape(sides[1], (*sides[1].shape, 1))
    result: Array = FUNCTIONS["matmul"](*sides)
    kept = [
        length for place, length in enumerate(result.shape) if not _is_dropped(place, result, left_rank, right_rank)
    ]
    return wrapped(reshape(result, tuple(kept)))


def _is_dropped(place: int, result: Array, left_rank: int, right_rank: int) -> bool:
    behind = result.ndim - place
    return (behind == 2 and left_rank == 1) or (behind == 1 and right_rank == 1)


def _lifted(given: Any) -> Any:
    """A plain array, all of its axes seen."""
    return Array(lift(given, "matmul"))


def _distance(left: Any, right: Any, p: Any = 2) -> Any:
    return (left - right).norm(p=p)


def _norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    return x.norm(p=2 if ord is None else ord, dim=dim, keepdim=keepdim)


def _cosine(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    sizes = [each.norm(dim=dim).clamp(min=eps) for each in (x1, x2)]
    return (x1 * x2).sum(dim) / (sizes[0] * sizes[1])


def _einsum(subscripts: str, *operands: Any) -> Any:
    """With an ellipsis for the axes of positions."""
    if "->" not in subscripts or "." in subscripts:
        raise no_lazy_form(f"einsum({subscripts!r}) of vectors at every position")
    left, right = subscripts.split("->")
    terms = [
        f"...{term.strip()}" if _is_mapped(each) else term for term, each in zip(left.split(","), operands, strict=True)
    ]
    return wrapped(FUNCTIONS["einsum"](f"{','.join(terms)}->...{right.strip()}", *map(_lifted, operands)))


_COMPOSED: dict[str, Callable[..., Any]] = {
    "dist": _distance,
    "linalg_norm": _norm,
    "linalg_vector_norm": _norm,
    "cosine_similarity": _cosine,
    "einsum": _einsum,
}


@public()
def stacked_per_position(arrays: Any, /, axis: int = 0) -> Any:
    """``stack`` while a function of scalars is traced: scalars become a vector."""
    rank = max((_rank(each) for each in arrays), default=0)
    if not any(_is_mapped(each) for each in arrays):
        return FUNCTIONS["stack"](arrays, axis=axis)
    aligned = [_lifted(_aligned(each, rank)) for each in arrays]
    shape = broadcast("stack", *(each.shape for each in aligned))
    place = _POSITIONS + normalize_axis("stack", axis, rank + 1)
    return wrapped(FUNCTIONS["stack"]([broadcast_to(each, shape) for each in aligned], axis=place))


@public()
def gathered_per_position(x: Any, key: Any, /) -> Any:
    """``x[key]`` while a function of scalars is traced: every index array is a scalar at each position."""
    items = key if isinstance(key, tuple) else (key,)
    if isinstance(x, Vectors):
        items = (*_every_position(x, items), *items)
        return wrapped(indexed(Gather, Array(x.node), items, first=True))
    if any(_is_mapped(each) for each in items):
        return wrapped(indexed(Gather, _of_scores_type(x), key, first=True))
    return indexed(Gather, x, key)


def _of_scores_type(x: Any) -> Any:
    """A table of floats in the scores' data type: as a whole, before anything is picked from it."""
    array, wanted = Array(lift(x, "getitem")), traced_floats()
    return array if wanted is None or not is_float(array.dtype) else array.astype(wanted)


def _every_position(x: Vectors, items: Sequence[Any]) -> list[Any]:
    """The indices of positions, beside index arrays; else all of each axis."""
    if not any(isinstance(each, Array) for each in items):
        return [slice(None)] * _POSITIONS
    rank = max(_rank(each) for each in items)
    lengths = x.node.shape[:_POSITIONS]
    shapes = (tuple(-1 if place == each else 1 for each in range(_POSITIONS + rank)) for place in range(_POSITIONS))
    return [reshape(arange(length), shape) for length, shape in zip(lengths, shapes, strict=True)]
