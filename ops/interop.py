"""NumPy's and torch's functions on lazy arrays: they stay lazy, or say what has no lazy form."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.errors import ArgumentError, TraceError
from ..engine.types import promote
from .arithmetic import maximum, minimum, multiply
from .array import Array, lift
from .exponential import sqrt
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
    given = {name: value for name, value in kwargs.items() if value is not None}
    dtype = given.pop("dtype", None)
    if "out" in given:
        raise ArgumentError(f"np.{ufunc.__name__}: a lazy result cannot be written into out=; call .compute(out)")
    name = ufunc.__name__ if method == "__call__" else _REDUCTIONS.get(ufunc.__name__, "")
    if method == "reduce":
        given = {"axis": 0, **given}
    elif method != "__call__":
        name = ""
    if name not in FUNCTIONS or not given.keys() <= {"axis", "keepdims"}:
        raise _no_lazy_form(f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}"))
    result = FUNCTIONS[name](*inputs, **given)
    return result if dtype is None else result.astype(dtype)


def _no_lazy_form(name: str) -> TraceError:
    return TraceError(f"{name}: has no lazy form in attngraph with these arguments; call .compute() on the array first")


def _keywords(function: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """NumPy's keywords, without those that say nothing."""
    nothing = (None, np._NoValue)
    kept = {name: value for name, value in kwargs.items() if not any(value is each for each in nothing)}
    if "out" in kept:
        raise ArgumentError(f"np.{function}: a lazy result cannot be written into out=")
    for default, value in (("subok", False), ("order", "K"), ("casting", "same_kind"), ("optimize", False)):
        if kept.get(default) in (value, "C", True, False):
            kept.pop(default, None)
    if "ddof" in kept:
        kept["correction"] = kept.pop("ddof")
    return kept


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    if ord not in (None, 2, "fro") or (ord is not None and axis is None):
        raise _no_lazy_form(f"norm with ord={ord}")
    return sqrt(sum(multiply(x, x), axis, keepdims=keepdims))


def _dot(x: Any, y: Any) -> Array:
    left, right = lift(x, "dot"), lift(y, "dot")
    if not left.shape or not right.shape:
        return multiply(x, y)
    if len(right.shape) > 2:
        return FUNCTIONS["tensordot"](x, y, axes=([len(left.shape) - 1], [len(right.shape) - 2]))  # type: ignore[no-any-return]
    return FUNCTIONS["matmul"](x, y)  # type: ignore[no-any-return]


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
    "einsum": lambda *args, **kwargs: FUNCTIONS["einsum"](*args),
    "round": lambda a, decimals=0: FUNCTIONS["round"](a, decimals),
    "around": lambda a, decimals=0: FUNCTIONS["round"](a, decimals),
    "norm": _norm,
    "dot": _dot,
    "outer": _outer,
    "inner": lambda a, b: FUNCTIONS["vecdot"](a, b) if lift(a).shape and lift(b).shape else multiply(a, b),
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
    ours = _NUMPY.get(name) or (FUNCTIONS.get(name) if hasattr(np, name) else None)
    if ours is None:
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
    "softplus": lambda x, beta=1.0, threshold=20.0: FUNCTIONS["softplus"](x, beta),
    "softmax": lambda x, axis=-1, _stacklevel=3, dtype=None: FUNCTIONS["softmax"](_typed(x, dtype), axis),
    "log_softmax": lambda x, axis=-1, _stacklevel=3, dtype=None: FUNCTIONS["log_softmax"](_typed(x, dtype), axis),
    "gather": lambda x, axis, index: FUNCTIONS["take_along_axis"](x, index, axis=axis),
    "index_select": lambda x, axis, index: FUNCTIONS["take"](x, index, axis=axis),
    "layer_norm": lambda x, shape, weight=None, bias=None, eps=1e-5: FUNCTIONS["layer_norm"](
        x, weight, bias, axis=tuple(range(-len(shape), 0)), eps=eps
    ),
    "to": lambda x, *args, **kwargs: Array(lift(x)).to(*args, **kwargs),
}
_TORCH_WORDS = {"dim": "axis", "keepdim": "keepdims", "other": "x2", "unbiased": "correction"}


@public()
def torch_protocol(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Torch's protocol: its functions given a lazy array, or a tensor and a lazy array."""
    name = getattr(function, "__name__", str(function))
    plain = name.strip("_").removesuffix("_") if name.startswith("__") else name
    reflected = name.startswith("__r") and plain[1:] in FUNCTIONS and plain not in FUNCTIONS
    ours = _TORCH.get(plain) or FUNCTIONS.get(plain[1:] if reflected else plain)
    if ours is None:
        raise _no_lazy_form(f"torch.{name}")
    words = {_TORCH_WORDS.get(word, word): value for word, value in kwargs.items() if value is not None}
    words.pop("out", None)
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
        ours = FUNCTIONS["floor_divide"] if mode == "floor" else lambda x, y: FUNCTIONS["trunc"](x / y)
    if reflected:
        positional.reverse()
    if plain in ("max", "min") and len(positional) == 2:
        ours = FUNCTIONS["maximum" if plain == "max" else "minimum"]
    return _called(ours, f"torch.{name}", positional, words)
