"""NumPy's and torch's functions on lazy arrays: they stay lazy, or say what has no lazy form."""

import itertools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..engine.errors import ArgumentError, ShapeError, TraceError
from ..engine.types import BFLOAT16, as_dtype, is_integer, promote
from .arithmetic import maximum, minimum, multiply
from .array import Array, lift
from .casting import cast, promoted
from .exponential import sqrt
from .function import lifted_float
from .reduction import sum
from .registry import FUNCTIONS, public
from .shape import expand_dims, matrix_transpose, permute_dims, reshape, squeeze, swapaxes

# ufunc.reduce by ufunc.
_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
    "logaddexp": "logsumexp",
}


@public()
def ufunc_protocol(ufunc: np.ufunc, method: str, inputs: Any, kwargs: Any) -> Any:
    """NumPy's protocol for its element-wise functions (NEP 13)."""
    called = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    given = {name: value for name, value in kwargs.items() if value is not None or name == "axis"}
    dtype = given.pop("dtype", None)
    if "out" in given:
        raise ArgumentError(f"{called}: a lazy result cannot be written into out=; compute it first")
    name = ufunc.__name__ if method == "__call__" else _REDUCTIONS.get(ufunc.__name__, "")
    if method == "reduce":
        given = {"axis": 0, **given}
    elif method != "__call__":
        name = ""
    if name not in FUNCTIONS or not given.keys() <= {"axis", "keepdims"} or not _is_known(ufunc):
        raise _no_lazy_form(called)
    if dtype is None:
        return _called(FUNCTIONS[name], called, inputs, given)
    # NumPy computes in dtype: the operands are cast, not the result.
    wanted = as_dtype(dtype)
    nodes = [lift(each, called) for each in inputs]
    if not all(node.type.weak or np.can_cast(node.dtype, wanted, "same_kind") for node in nodes):
        raise _no_lazy_form(called)
    result = _called(FUNCTIONS[name], called, [Array(cast(node, wanted)) for node in nodes], given)
    if result.dtype != wanted and method == "__call__":
        raise _no_lazy_form(called)
    return result.astype(wanted)


def _is_known(ufunc: np.ufunc) -> bool:
    """Whether it is NumPy's or SciPy's: anybody can call a function of his own ``add``."""
    homes = np, sys.modules.get("scipy.special")
    return any(getattr(home, ufunc.__name__, None) is ufunc for home in homes)


def _no_lazy_form(name: str) -> TraceError:
    return TraceError(f"{name}: has no lazy form in attngraph with these arguments; call .compute() on the array first")


def _einsum(subscripts: Any, *operands: Any, optimize: Any = False) -> Array:
    result: Array = FUNCTIONS["einsum"](subscripts, *operands)
    return result


def _keywords(function: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """NumPy's keywords, without those that say nothing."""
    kept = {
        name: value
        for name, value in kwargs.items()
        if value is not np._NoValue and (value is not None or name == "axis")
    }
    if "out" in kept:
        raise ArgumentError(f"np.{function}: a lazy result cannot be written into out=")
    for default, value in (("subok", False), ("order", "K"), ("casting", "same_kind")):
        if kept.get(default) in (value, "C", True, False):
            kept.pop(default, None)
    if "ddof" in kept:
        kept["correction"] = kept.pop("ddof")
    return kept


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    pair = isinstance(axis, tuple | list) and len(axis) == 2
    if ord not in (None, 2, "fro") or (ord is not None and axis is None) or (ord == 2 and pair):
        raise _no_lazy_form(f"norm with ord={ord}")
    floats = Array(lifted_float(x, "norm"))
    return sqrt(sum(multiply(floats, floats), axis, keepdims=keepdims))


@public()
def dot(x: Any, y: Any, /) -> Array:
    """NumPy's dot: the last axis of ``x`` against the last but one of ``y``; products with scalars."""
    left, right = lift(x, "dot"), lift(y, "dot")
    if not left.shape or not right.shape:
        return multiply(x, y)
    if len(right.shape) > 2:
        return FUNCTIONS["tensordot"](x, y, axes=([len(left.shape) - 1], [len(right.shape) - 2]))  # type: ignore[no-any-return]
    return FUNCTIONS["matmul"](x, y)  # type: ignore[no-any-return]


def _inner(x: Any, y: Any) -> Array:
    if not lift(x, "inner").shape or not lift(y, "inner").shape:
        return multiply(x, y)
    result: Array = FUNCTIONS["tensordot"](x, y, axes=([-1], [-1]))
    return result


def _outer(x: Any, y: Any) -> Array:
    return multiply(reshape(x, (-1, 1)), reshape(y, (1, -1)))


def _transpose(x: Any, *axes: Any) -> Array:
    order = axes[0] if len(axes) == 1 else axes
    return permute_dims(x, None if order in ((), None) else order)


# NumPy functions whose arguments differ from ours; all others go by name.
_NUMPY: dict[str, Callable[..., Any]] = {
    "transpose": _transpose,
    "shape": lambda x: x.shape,
    "ndim": lambda x: x.ndim,
    "size": lambda x, axis=None: x.size if axis is None else x.shape[axis],
    "expand_dims": lambda a, axis: expand_dims(a, axis=axis),
    "squeeze": lambda a, axis=None: squeeze(a, axis),
    "flip": lambda m, axis=None: FUNCTIONS["flip"](m, axis=axis),
    "roll": lambda a, shift, axis=None: FUNCTIONS["roll"](a, shift, axis=axis),
    "repeat": lambda a, repeats, axis=None: FUNCTIONS["repeat"](a, repeats, axis=axis),
    "take": lambda a, indices, axis=None: FUNCTIONS["take"](
        a if axis is not None else reshape(a, (-1,)), indices, axis=axis
    ),
    "take_along_axis": lambda arr, indices, axis=-1: FUNCTIONS["take_along_axis"](arr, indices, axis=axis),
    "split": lambda a, parts, axis=0: FUNCTIONS["split"](a, parts, axis=axis),
    "concatenate": lambda arrays, axis=0, dtype=None: _typed(FUNCTIONS["concat"](arrays, axis=axis), dtype),
    "stack": lambda arrays, axis=0, dtype=None: _typed(FUNCTIONS["stack"](arrays, axis=axis), dtype),
    "sort": lambda a, axis=-1, kind=None, stable=None: FUNCTIONS["sort"](
        a if axis is not None else reshape(a, (-1,)), axis=-1 if axis is None else axis
    ),
    "argsort": lambda a, axis=-1, kind=None, stable=None: FUNCTIONS["argsort"](
        a if axis is not None else reshape(a, (-1,)), axis=-1 if axis is None else axis
    ),
    "cumsum": lambda a, axis=None, dtype=None: FUNCTIONS["cumulative_sum"](
        a if axis is not None else reshape(a, (-1,)), 0 if axis is None else axis, dtype=dtype
    ),
    "tril": lambda m, k=0: FUNCTIONS["tril"](m, k=k),
    "triu": lambda m, k=0: FUNCTIONS["triu"](m, k=k),
    "tensordot": lambda a, b, axes=2: FUNCTIONS["tensordot"](a, b, axes=axes),
    "einsum": _einsum,
    "clip": lambda a, a_min=None, a_max=None, *, min=None, max=None: FUNCTIONS["clip"](
        a, min if a_min is None else a_min, max if a_max is None else a_max
    ),
    "round": lambda a, decimals=0: FUNCTIONS["round"](a, decimals),
    "around": lambda a, decimals=0: FUNCTIONS["round"](a, decimals),
    "norm": _norm,
    "dot": dot,
    "outer": _outer,
    "inner": _inner,
    "ravel": lambda a: reshape(a, (-1,)),
    "copy": lambda a: Array(lift(a)),
    "full_like": lambda a, fill_value, dtype=None: FUNCTIONS["full_like"](a, fill_value, dtype=dtype),
    "zeros_like": lambda a, dtype=None: FUNCTIONS["zeros_like"](a, dtype=dtype),
    "ones_like": lambda a, dtype=None: FUNCTIONS["ones_like"](a, dtype=dtype),
    "empty_like": lambda a, dtype=None: FUNCTIONS["zeros_like"](a, dtype=dtype),
    "result_type": lambda *given: promote([lift(each).type for each in given])[0],
}


def _typed(array: Array, dtype: Any) -> Array:
    return array if dtype is None else array.astype(dtype)


@public()
def function_protocol(function: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's protocol for all its other functions (NEP 18)."""
    name = function.__name__
    ours = _NUMPY.get(name) or FUNCTIONS.get(name)
    # np.emath.sqrt is called sqrt too, and is another function.
    if ours is None or not any(getattr(home, name, None) is function for home in (np, np.linalg)):
        raise _no_lazy_form(f"np.{name}")
    return _called(ours, f"np.{name}", args, _keywords(name, kwargs))


def _called(function: Callable[..., Any], name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        # Our own errors are TypeErrors too where they concern types; a foreign one is a bad call.
        if type(error) is TypeError:
            raise _no_lazy_form(name) from error
        raise


class Selected(NamedTuple):
    """What torch returns where it selects: the elements, and where they stood."""

    values: Array
    indices: Array


def _torch_extremum(name: str) -> Callable[..., Any]:
    def extremum(x: Any, other: Any = None, keepdims: bool = False, *, axis: Any = None) -> Any:
        along = other if axis is None else axis
        if along is None:
            return FUNCTIONS[name](x)
        if not isinstance(along, int):
            return FUNCTIONS[f"{name}imum"](x, along)
        return Selected(*(FUNCTIONS[each](x, along, keepdims=keepdims) for each in (name, f"arg{name}")))

    return extremum


def _torch_sort(x: Any, axis: int = -1, descending: bool = False, stable: Any = None) -> Selected:
    return Selected(*(FUNCTIONS[name](x, axis=axis, descending=descending) for name in ("sort", "argsort")))


def _torch_spread(name: str) -> Callable[..., Array]:
    """Torch's var and std: divided by n - 1 by default; its third argument may be a boolean."""

    def spread(x: Any, axis: Any = None, correction: Any = 1, keepdims: bool = False) -> Array:
        if isinstance(axis, bool):
            axis, correction = None, axis
        result: Array = FUNCTIONS[name](x, axis, correction=correction, keepdims=keepdims)
        return result

    return spread


def _torch_split(x: Any, sizes: Any, axis: int = 0) -> tuple[Array, ...]:
    """By the size of the parts, where NumPy has their number."""
    length = Array(lift(x, "split")).shape[axis]
    if isinstance(sizes, int) and sizes > 0:
        parts = [min(sizes, length - start) for start in range(0, length, sizes)] or [0]
    else:
        parts = list(sizes) if isinstance(sizes, tuple | list) else [sizes]
    ends = list(itertools.accumulate(parts))
    if any(part < 0 for part in parts) or ends[-1:] != [length]:
        raise ShapeError(f"split: an axis of {length} into parts of {sizes}")
    return tuple(FUNCTIONS["split"](x, ends[:-1], axis=axis))


def _torch_gather(x: Any, axis: int, index: Any) -> Array:
    """The other axes are matched one by one, as far as the index goes."""
    array, picks = Array(lift(x, "gather")), Array(lift(index, "gather"))
    lengths = list(picks.shape)
    lengths[axis] = array.shape[axis]
    result: Array = FUNCTIONS["take_along_axis"](array[tuple(map(slice, lengths))], picks, axis=axis)
    return result


def _torch_truncated(x: Any, y: Any) -> Array:
    """Division that rounds to 0; of integers an integer."""
    left, right = (Array(node) for node in promoted("div", lift(x, "div"), lift(y, "div")))
    if not is_integer(left.dtype):
        result: Array = FUNCTIONS["trunc"](left / right)
        return result
    return left // right + ((left % right != 0) & ((left < 0) != (right < 0)))


def _torch_softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Array:
    array = Array(lifted_float(x, "softplus"))
    smooth: Array = FUNCTIONS["softplus"](array, beta)
    return smooth if threshold >= 20 else FUNCTIONS["where"](array * beta > threshold, array, smooth)


def _torch_normalize(x: Any, p: float = 2.0, axis: Any = 1, eps: float = 1e-12) -> Array:
    if p != 2:
        raise _no_lazy_form(f"torch.normalize with p={p}")
    result: Array = FUNCTIONS["l2_normalize"](x, axis=axis, eps=eps)
    return result


def _torch_rms_norm(x: Any, shape: Any, weight: Any = None, eps: Any = None) -> Array:
    node = lifted_float(x, "rms_norm")
    if eps is None:
        eps = 2.0**-7 if node.dtype == BFLOAT16 else float(np.finfo(node.dtype).eps)
    result: Array = FUNCTIONS["rms_norm"](Array(node), weight, axis=tuple(range(-len(shape), 0)), eps=eps)
    return result


# torch functions whose arguments differ from ours; all others go by name.
_TORCH: dict[str, Callable[..., Any]] = {
    "transpose": swapaxes,
    "permute": _transpose,
    "t": matrix_transpose,
    "rsub": lambda x, other: FUNCTIONS["subtract"](other, x),
    "clamp_min": maximum,
    "clamp_max": minimum,
    "reshape": lambda x, *shape: reshape(x, shape[0] if isinstance(shape[0], tuple | list) else shape),
    "unsqueeze": lambda x, axis: expand_dims(x, axis=axis),
    "cat": lambda arrays, axis=0: FUNCTIONS["concat"](arrays, axis=axis),
    "concat": lambda arrays, axis=0: FUNCTIONS["concat"](arrays, axis=axis),
    "stack": lambda arrays, axis=0: FUNCTIONS["stack"](arrays, axis=axis),
    "flip": lambda x, axis: FUNCTIONS["flip"](x, axis=axis),
    "cumsum": lambda x, axis, dtype=None: FUNCTIONS["cumulative_sum"](x, axis, dtype=dtype),
    "tril": lambda x, diagonal=0: FUNCTIONS["tril"](x, k=diagonal),
    "triu": lambda x, diagonal=0: FUNCTIONS["triu"](x, k=diagonal),
    "relu": lambda x, inplace=False: FUNCTIONS["relu"](x),
    "silu": lambda x, inplace=False: FUNCTIONS["silu"](x),
    "elu": lambda x, alpha=1.0, inplace=False: FUNCTIONS["elu"](x, alpha),
    "leaky_relu": lambda x, negative_slope=0.01, inplace=False: FUNCTIONS["leaky_relu"](x, negative_slope),
    "softplus": _torch_softplus,
    "softmax": lambda x, axis, _stacklevel=3, dtype=None: FUNCTIONS["softmax"](_typed(x, dtype), axis),
    "log_softmax": lambda x, axis, _stacklevel=3, dtype=None: FUNCTIONS["log_softmax"](_typed(x, dtype), axis),
    "gather": _torch_gather,
    "max": _torch_extremum("max"),
    "min": _torch_extremum("min"),
    "sort": _torch_sort,
    "argsort": lambda x, axis=-1, descending=False, stable=None: FUNCTIONS["argsort"](
        x, axis=axis, descending=descending
    ),
    "topk": lambda x, k, axis=-1, largest=True, sorted=True: Selected(*FUNCTIONS["topk"](x, k, axis, largest=largest)),
    "var": _torch_spread("var"),
    "std": _torch_spread("std"),
    "split": _torch_split,
    "normalize": _torch_normalize,
    "rms_norm": _torch_rms_norm,
    "index_select": lambda x, axis, index: FUNCTIONS["take"](x, index, axis=axis),
    "layer_norm": lambda x, shape, weight=None, bias=None, eps=1e-5: FUNCTIONS["layer_norm"](
        x, weight, bias, axis=tuple(range(-len(shape), 0)), eps=eps
    ),
    "masked_fill": lambda x, mask, value: FUNCTIONS["where"](mask, value, x),
    "type_as": lambda x, other: FUNCTIONS["astype"](x, other.dtype),
    "logsigmoid": lambda x: -FUNCTIONS["softplus"](-x),
    "to": lambda x, *args, **kwargs: Array(lift(x)).to(*args, **kwargs),
}
_TORCH_WORDS = {"dim": "axis", "keepdim": "keepdims", "other": "x2", "unbiased": "correction"}


@public()
def torch_protocol(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Torch's protocol: its functions given a lazy array, or a tensor and a lazy array."""
    name = getattr(function, "__name__", str(function))
    plain = name.strip("_").removesuffix("_") if name.startswith("__") else name
    reflected = name.startswith("__r") and plain[1:] in FUNCTIONS and not (plain in FUNCTIONS or plain in _TORCH)
    ours = _TORCH.get(plain) or FUNCTIONS.get(plain[1:] if reflected else plain)
    if ours is None or plain == "equal":  # torch.equal is one boolean
        raise _no_lazy_form(f"torch.{name}")
    words = {_TORCH_WORDS.get(word, word): value for word, value in kwargs.items() if value is not None}
    if "out" in words or words.pop("inplace", False):
        raise ArgumentError(f"torch.{name}: a lazy result cannot be written into out= or in place")
    positional = list(args)
    for first in ("input", "self", "tensors"):
        if first in words:
            positional.insert(0, words.pop(first))
    if "x2" in words:
        positional.append(words.pop("x2"))
    if "alpha" in words and plain in ("add", "sub", "subtract"):
        positional[1] = multiply(positional[1], words.pop("alpha"))
    if "rounding_mode" in words:
        mode = words.pop("rounding_mode")
        ours = FUNCTIONS["floor_divide"] if mode == "floor" else _torch_truncated
    if reflected:
        positional.reverse()
    if plain == "where" and type(function).__name__ == "method_descriptor":  # tensor.where(condition, other)
        positional[:2] = reversed(positional[:2])
    return _called(ours, f"torch.{name}", positional, words)
