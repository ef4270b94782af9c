"""NumPy's functions on lazy arrays: they stay lazy, or say what has no lazy form."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.errors import ArgumentError
from ..engine.types import as_dtype, promote
from .answers import answered, no_lazy_form, typed
from .arithmetic import multiply
from .array import Array, lift
from .casting import cast
from .exponential import sqrt
from .function import lifted_float
from .namespace import pad
from .reduction import sum
from .registry import FUNCTIONS, public
from .shape import expand_dims, permute_dims, reshape, squeeze

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
        raise no_lazy_form(called)
    if dtype is None:
        return answered(FUNCTIONS[name], called, inputs, given)
    # NumPy computes in dtype: the operands are cast, not the result.
    wanted = as_dtype(dtype)
    nodes = [lift(each, called) for each in inputs]
    if not all(node.type.weak or np.can_cast(node.dtype, wanted, "same_kind") for node in nodes):
        raise no_lazy_form(called)
    result = answered(FUNCTIONS[name], called, [Array(cast(node, wanted)) for node in nodes], given)
    if result.dtype != wanted and method == "__call__":
        raise no_lazy_form(called)
    return result.astype(wanted)


def _is_known(ufunc: np.ufunc) -> bool:
    """Whether it is NumPy's or SciPy's: anybody can call a function of his own ``add``."""
    homes = np, sys.modules.get("scipy.special")
    return any(getattr(home, ufunc.__name__, None) is ufunc for home in homes)


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
        raise no_lazy_form(f"norm with ord={ord}")
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
    "concatenate": lambda arrays, axis=0, dtype=None: typed(FUNCTIONS["concat"](arrays, axis=axis), dtype),
    "stack": lambda arrays, axis=0, dtype=None: typed(FUNCTIONS["stack"](arrays, axis=axis), dtype),
    "sort": lambda a, axis=-1, kind=None, stable=None: FUNCTIONS["sort"](
        a if axis is not None else reshape(a, (-1,)), axis=-1 if axis is None else axis
    ),
    "argsort": lambda a, axis=-1, kind=None, stable=None: FUNCTIONS["argsort"](
        a if axis is not None else reshape(a, (-1,)), axis=-1 if axis is None else axis
    ),
    "cumsum": lambda a, axis=None, dtype=None: FUNCTIONS["cumulative_sum"](
        a if axis is not None else reshape(a, (-1,)), 0 if axis is None else axis, dtype=dtype
    ),
    "nancumsum": lambda a, axis=None, dtype=None: FUNCTIONS["nancumsum"](a, axis, dtype=dtype),
    "pad": lambda array, pad_width, mode="constant", constant_values=0: pad(
        array, pad_width, mode, constant_values=constant_values
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


@public()
def function_protocol(function: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's protocol for all its other functions (NEP 18)."""
    name = function.__name__
    ours = _NUMPY.get(name) or FUNCTIONS.get(name)
    # np.emath.sqrt is called sqrt too, and is another function.
    if ours is None or not any(getattr(home, name, None) is function for home in (np, np.linalg)):
        raise no_lazy_form(f"np.{name}")
    return answered(ours, f"np.{name}", args, _keywords(name, kwargs))
