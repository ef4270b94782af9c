"""Torch's functions, where their arguments or their meaning are not ours."""

import itertools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..engine.errors import ArgumentError, ShapeError
from ..engine.types import BFLOAT16, INT64, UINT64, is_integer
from .answers import no_lazy_form, typed
from .array import Array, lift
from .casting import promoted
from .exponential import sqrt
from .function import lifted_float
from .indexing import Gather, along_axis
from .kinds import is_sequence, normalize_axis, whole
from .registry import FUNCTIONS
from .shape import broadcast_to, matrix_transpose, reshape, swapaxes


class TorchGather(Gather):
    """Torch's gather."""

    called: ClassVar[str] = "gather"


class Selected(NamedTuple):
    """What torch returns where it selects: the elements, and where they stood."""

    values: Array
    indices: Array


def torch_extremum(name: str) -> Callable[..., Any]:
    """Torch's max and min: of all, along an axis with the places, or of two arrays."""

    def extremum(x: Any, other: Any = None, keepdims: bool = False, *, axis: Any = None) -> Any:
        along = other if axis is None else axis
        if along is None:
            return FUNCTIONS[name](x, keepdims=keepdims)
        if not hasattr(along, "__index__") or isinstance(along, Array | np.ndarray):
            if axis is not None or is_sequence(along):
                raise ArgumentError(f"{name}: dim is one axis, not {along!r}; a{name} takes several")
            return FUNCTIONS[f"{name}imum"](x, along)
        return Selected(*(FUNCTIONS[each](x, along, keepdims=keepdims) for each in (name, f"arg{name}")))

    return extremum


def torch_sort(x: Any, axis: int = -1, descending: bool = False, stable: Any = None) -> Selected:
    """Elements and places in order."""
    return Selected(*(FUNCTIONS[name](x, axis=axis, descending=descending) for name in ("sort", "argsort")))


def torch_spread(name: str) -> Callable[..., Array]:
    """Torch's var and std: divided by n - 1 by default; its third argument may be a boolean."""

    def spread(x: Any, axis: Any = None, correction: Any = 1, keepdims: bool = False) -> Array:
        if isinstance(axis, bool):
            axis, correction = None, axis
        if is_sequence(axis) and not len(axis):
            axis = None
        if isinstance(correction, bool):  # "unbiased"
            correction = int(correction)
        result: Array = FUNCTIONS[name](x, axis, correction=correction, keepdims=keepdims)
        return result

    return spread


def torch_split(x: Any, sizes: Any, axis: int = 0) -> tuple[Array, ...]:
    """By the size of the parts, where NumPy has their number."""
    array = Array(lift(x, "split"))
    length = array.shape[normalize_axis("split", axis, array.ndim)]
    if is_sequence(sizes):
        parts = [whole("split", "a size", each) for each in sizes]
    else:
        size = whole("split", "the size", sizes)
        parts = [min(size, length - start) for start in range(0, length, size)] or [0] if size > 0 else [size]
    ends = list(itertools.accumulate(parts))
    if any(part < 0 for part in parts) or ends[-1:] != [length]:
        raise ShapeError(f"split: an axis of {length} into parts of {sizes}")
    return tuple(FUNCTIONS["split"](x, ends[:-1], axis=axis))


def torch_gather(x: Any, axis: int, index: Any) -> Array:
    """The other axes are matched one by one, as far as the index goes."""
    array, picks = Array(lift(x, "gather")), Array(lift(index, "gather"))
    if array.ndim != picks.ndim:
        raise ShapeError(f"gather: {array.node.type} and index {picks.node.type} differ in axes")
    place = normalize_axis("gather", axis, array.ndim)
    lengths = list(picks.shape)
    lengths[place] = array.shape[place]
    return along_axis(TorchGather, array[tuple(map(slice, lengths))], picks, place)


def torch_truncated(x: Any, y: Any) -> Array:
    """Division that rounds to 0; of integers an integer."""
    left, right = (Array(node) for node in promoted("div", lift(x, "div"), lift(y, "div")))
    if not is_integer(left.dtype):
        result: Array = FUNCTIONS["trunc"](left / right)
        return result
    return left // right + ((left % right != 0) & ((left < 0) != (right < 0)))


def torch_softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """Beyond the threshold x itself."""
    array = Array(lifted_float(x, "softplus"))
    smooth: Array = FUNCTIONS["softplus"](array, beta)
    return smooth if threshold >= 20 else FUNCTIONS["where"](array * beta > threshold, array, smooth)


def torch_normalize(x: Any, p: float = 2.0, axis: Any = 1, eps: float = 1e-12) -> Array:
    """By the 2-norm."""
    if p != 2:
        raise no_lazy_form(f"torch.normalize with p={p}")
    result: Array = FUNCTIONS["l2_normalize"](x, axis=axis, eps=eps)
    return result


def torch_rms_norm(x: Any, shape: Any, weight: Any = None, eps: Any = None) -> Array:
    """Over the last axes; eps is the type's by default."""
    node = lifted_float(x, "rms_norm")
    if eps is None:
        eps = 2.0**-7 if node.dtype == BFLOAT16 else float(np.finfo(node.dtype).eps)
    result: Array = FUNCTIONS["rms_norm"](Array(node), weight, axis=tuple(range(-len(shape), 0)), eps=eps)
    return result


def one_or_many(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    return tuple(given[0]) if len(given) == 1 and is_sequence(given[0]) else given


def torch_transpose(x: Any, dim0: Any, dim1: Any) -> Array:
    """Two axes exchanged."""
    result: Array = swapaxes(x, dim0, dim1)
    return result


def torch_t(x: Any) -> Array:
    """The two axes of a matrix exchanged; fewer stay."""
    array = Array(lift(x, "t"))
    if array.ndim > 2:
        raise ShapeError(f"t: {array.node.type} has more than two axes")
    return matrix_transpose(array) if array.ndim == 2 else array


def torch_reduction(name: str, *, none_is_all: bool) -> Callable[..., Array]:
    """Torch's arguments by place. Over no axis means over all for some; unsigned sums are int64."""

    def reduction(x: Any, axis: Any = None, keepdims: Any = False, *, dtype: Any = None) -> Array:
        if none_is_all and is_sequence(axis) and not len(axis):
            axis = None
        options = {} if dtype is None else {"dtype": dtype}
        array = Array(lift(x, name))
        result: Array = FUNCTIONS[name](array, axis, keepdims=keepdims, **options)
        return _as_summed(name, array, result) if dtype is None else result

    return reduction


def _as_summed(name: str, array: Array, result: Array) -> Array:
    """Torch has no unsigned sums."""
    unsigned = array.dtype.kind == "u" and array.dtype != UINT64
    return result.astype(INT64) if unsigned and name in ("sum", "prod", "cumulative_sum") else result


def torch_cumsum(x: Any, axis: Any, dtype: Any = None) -> Array:
    """Running sums."""
    array = Array(lift(x, "cumsum"))
    result: Array = FUNCTIONS["cumulative_sum"](array, axis, dtype=dtype)
    return _as_summed("cumulative_sum", array, result) if dtype is None else result


def torch_softmax(name: str) -> Callable[..., Array]:
    """The function has the type in third place, that of ``nn.functional`` in fourth."""

    def softmax(x: Any, axis: Any, third: Any = None, dtype: Any = None, *, _stacklevel: int = 3) -> Array:
        if not isinstance(third, int | None):
            dtype = third
        result: Array = FUNCTIONS[name](typed(Array(lift(x, name)), dtype), axis)
        return result

    return softmax


def torch_squeeze(x: Any, axis: Any = None) -> Array:
    """Axes that are named and longer stay."""
    array = Array(lift(x, "squeeze"))
    if axis is not None:
        given = tuple(axis) if is_sequence(axis) else (axis,)
        places = {normalize_axis("squeeze", each, max(array.ndim, 1)) for each in given}
        axis = tuple(place for place in sorted(places) if place < array.ndim and array.shape[place] == 1)
    result: Array = FUNCTIONS["squeeze"](array, axis)
    return result


def torch_flatten(x: Any, start_dim: Any = 0, end_dim: Any = -1) -> Array:
    """Some neighbouring axes as one."""
    array = Array(lift(x, "flatten"))
    first, last = (normalize_axis("flatten", each, max(array.ndim, 1)) for each in (start_dim, end_dim))
    if first > last:
        raise ShapeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} of {array.node.type}")
    between = math.prod(array.shape[first : last + 1])
    return reshape(array, (*array.shape[:first], between, *array.shape[last + 1 :]))


def torch_unflatten(x: Any, axis: Any, sizes: Any) -> Array:
    """One axis as several; one length may be -1."""
    array = Array(lift(x, "unflatten"))
    place = normalize_axis("unflatten", axis, array.ndim)
    lengths = [whole("unflatten", "a length", each) for each in (sizes if is_sequence(sizes) else (sizes,))]
    inner = reshape(np.empty(array.shape[place], np.bool_), tuple(lengths)).shape  # with -1 settled
    return reshape(array, (*array.shape[:place], *inner, *array.shape[place + 1 :]))


def torch_expand(x: Any, *sizes: Any) -> Array:
    """A length of -1 stays as it is."""
    array = Array(lift(x, "expand"))
    wanted = [whole("expand", "a length", each) for each in one_or_many(sizes)]
    missing = len(wanted) - array.ndim
    if missing < 0 or -1 in wanted[:missing]:
        raise ShapeError(f"expand: {array.node.type} to {tuple(wanted)}: fewer axes, or a new one of length -1")
    lengths = (1,) * missing + array.shape
    return broadcast_to(array, tuple(own if new == -1 else new for own, new in zip(lengths, wanted, strict=True)))


def torch_repeat(x: Any, *sizes: Any) -> Array:
    """The whole array again and again, as NumPy's tile."""
    array, counts = Array(lift(x, "repeat")), one_or_many(sizes)
    if len(counts) < array.ndim:
        raise ArgumentError(
            f"repeat: torch's repeat, the whole array again and again, takes a count for each axis of "
            f"{array.node.type}, not {counts}; with axis= it is NumPy's, each element again and again"
        )
    result: Array = FUNCTIONS["tile"](array, counts)
    return result


def torch_chunk(x: Any, chunks: Any, axis: Any = 0) -> tuple[Array, ...]:
    """Parts of one size but for the last; there may be fewer than asked for."""
    array, count = Array(lift(x, "chunk")), whole("chunk", "the number of parts", chunks)
    length = array.shape[normalize_axis("chunk", axis, array.ndim)]
    if count < 1:
        raise ShapeError(f"chunk: into {count} parts")
    return torch_split(array, -(-length // count) if length else [0] * count, axis)


def torch_unbind(x: Any, axis: Any = 0) -> tuple[Array, ...]:
    """The slices along an axis, without it."""
    result: tuple[Array, ...] = FUNCTIONS["unstack"](x, axis=axis)
    return result


def torch_narrow(x: Any, axis: Any, start: Any, length: Any) -> Array:
    """Some elements of an axis."""
    array = Array(lift(x, "narrow"))
    place = normalize_axis("narrow", axis, array.ndim)
    first, count, most = whole("narrow", "start", start), whole("narrow", "length", length), array.shape[place]
    first += most if first < 0 else 0
    if count < 0 or not 0 <= first <= first + count <= most:
        raise ShapeError(f"narrow: {count} elements from {start} on, of axis {place} of {array.node.type}")
    return array[(*(slice(None),) * place, slice(first, first + count))]


def torch_norm(x: Any, p: Any = "fro", axis: Any = None, keepdims: Any = False, *, dtype: Any = None) -> Array:
    """Of vectors, or Frobenius': that of all elements."""
    floats = Array(lifted_float(typed(Array(lift(x, "norm")), dtype), "norm"))
    if is_sequence(axis) and not len(axis):
        axis = None
    if p is None or isinstance(p, str):
        p = 2 if p in (None, "fro") else p
    if isinstance(p, bool | str) or not isinstance(p, int | float) or p == 0 or p != p:
        raise no_lazy_form(f"norm with p={p!r}")
    sizes = FUNCTIONS["abs"](floats)
    if abs(p) == float("inf"):
        return FUNCTIONS["max" if p > 0 else "min"](sizes, axis, keepdims=keepdims)  # type: ignore[no-any-return]
    if p == 2:
        return sqrt(FUNCTIONS["sum"](floats * floats, axis, keepdims=keepdims))
    return FUNCTIONS["sum"](sizes**p, axis, keepdims=keepdims) ** (1.0 / p)  # type: ignore[no-any-return]


def torch_linalg_norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False, *, dtype: Any = None) -> Array:
    """As `torch_norm`, of what is no matrix norm."""
    several = len(axis) > 1 if is_sequence(axis) else axis is None and Array(lift(x, "norm")).ndim > 1
    if several and ord not in (None, "fro"):
        raise no_lazy_form(f"torch.linalg.norm of matrices with ord={ord!r}")
    return torch_norm(x, 2 if ord is None else ord, axis, keepdims, dtype=dtype)
