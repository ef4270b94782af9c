"""Torch's protocol: its functions given a lazy array; what `Array` has of torch's methods is the same."""

from collections.abc import Callable, Sequence
from typing import Any

from ..engine.errors import ArgumentError
from ..engine.tracing import scalars_are_traced
from .answers import answered, no_lazy_form
from .arithmetic import maximum, minimum, multiply
from .array import Array, lift
from .kinds import is_sequence
from .registry import FUNCTIONS, public
from .shape import expand_dims, moveaxis, permute_dims, reshape
from .torch_functions import (
    Selected,
    one_or_many,
    torch_chunk,
    torch_cumsum,
    torch_expand,
    torch_extremum,
    torch_flatten,
    torch_gather,
    torch_linalg_norm,
    torch_narrow,
    torch_norm,
    torch_normalize,
    torch_reduction,
    torch_repeat,
    torch_rms_norm,
    torch_softmax,
    torch_softplus,
    torch_sort,
    torch_split,
    torch_spread,
    torch_squeeze,
    torch_t,
    torch_transpose,
    torch_truncated,
    torch_unbind,
    torch_unflatten,
)
from .torch_pointwise import LISTED, POINTWISE

_OTHER_REDUCTIONS = ("prod", "any", "all", "argmax", "argmin", "logsumexp")

# torch functions whose arguments differ from ours; all others go by name.
TORCH: dict[str, Callable[..., Any]] = {
    "transpose": torch_transpose,
    "swapdims": torch_transpose,
    "permute": lambda x, *axes, axis=None: permute_dims(x, one_or_many(axes) if axis is None else axis),
    "t": torch_t,
    "movedim": moveaxis,
    "rsub": lambda x, other: FUNCTIONS["subtract"](other, x),
    "clamp_min": maximum,
    "clamp_max": minimum,
    "reshape": lambda x, *shape: reshape(x, shape[0] if isinstance(shape[0], tuple | list) else shape),
    "unsqueeze": lambda x, axis: expand_dims(x, axis=axis),
    "cat": lambda arrays, axis=0: FUNCTIONS["concat"](arrays, axis=axis),
    "concat": lambda arrays, axis=0: FUNCTIONS["concat"](arrays, axis=axis),
    "stack": lambda arrays, axis=0: FUNCTIONS["stacked_per_position" if scalars_are_traced() else "stack"](
        arrays, axis=axis
    ),
    "flip": lambda x, *axes, axis=None: FUNCTIONS["flip"](x, axis=one_or_many(axes) if axis is None else axis),
    "roll": lambda x, shifts, axis=None: FUNCTIONS["roll"](x, shifts, axis=axis or None if is_sequence(axis) else axis),
    "cumsum": torch_cumsum,
    **{name: torch_reduction(name, none_is_all=True) for name in ("sum", "mean")},
    **{f"a{name}": torch_reduction(name, none_is_all=True) for name in ("max", "min")},
    **{name: torch_reduction(name, none_is_all=False) for name in _OTHER_REDUCTIONS},
    "tril": lambda x, diagonal=0: FUNCTIONS["tril"](x, k=diagonal),
    "triu": lambda x, diagonal=0: FUNCTIONS["triu"](x, k=diagonal),
    "relu": lambda x, inplace=False: FUNCTIONS["relu"](x),
    "silu": lambda x, inplace=False: FUNCTIONS["silu"](x),
    "elu": lambda x, alpha=1.0, inplace=False: FUNCTIONS["elu"](x, alpha),
    "leaky_relu": lambda x, negative_slope=0.01, inplace=False: FUNCTIONS["leaky_relu"](x, negative_slope),
    "softplus": torch_softplus,
    "softmax": torch_softmax("softmax"),
    "log_softmax": torch_softmax("log_softmax"),
    "gather": torch_gather,
    "max": torch_extremum("max"),
    "min": torch_extremum("min"),
    "sort": torch_sort,
    "argsort": lambda x, axis=-1, descending=False, stable=None: FUNCTIONS["argsort"](
        x, axis=axis, descending=descending
    ),
    "topk": lambda x, k, axis=-1, largest=True, sorted=True: Selected(*FUNCTIONS["topk"](x, k, axis, largest=largest)),
    "var": torch_spread("var"),
    "std": torch_spread("std"),
    "split": torch_split,
    "chunk": torch_chunk,
    "unbind": torch_unbind,
    "narrow": torch_narrow,
    "squeeze": torch_squeeze,
    "flatten": torch_flatten,
    "unflatten": torch_unflatten,
    "expand": torch_expand,
    "repeat": torch_repeat,
    "repeat_interleave": lambda x, repeats, axis=None: FUNCTIONS["repeat"](x, repeats, axis=axis),
    "norm": torch_norm,
    "linalg_norm": torch_linalg_norm,
    "linalg_vector_norm": lambda x, ord=2, *given, **options: torch_norm(x, ord, *given, **options),
    "normalize": torch_normalize,
    "rms_norm": torch_rms_norm,
    "index_select": lambda x, axis, index: FUNCTIONS["take"](x, index, axis=axis),
    "layer_norm": lambda x, shape, weight=None, bias=None, eps=1e-5: FUNCTIONS["layer_norm"](
        x, weight, bias, axis=tuple(range(-len(shape), 0)), eps=eps
    ),
    "masked_fill": lambda x, mask, value: FUNCTIONS["where"](mask, value, x),
    "type_as": lambda x, other: FUNCTIONS["astype"](x, other.dtype),
    **{name: lambda x: -FUNCTIONS["softplus"](-x) for name in ("logsigmoid", "log_sigmoid")},
    "to": lambda x, *args, **kwargs: Array(lift(x)).to(*args, **kwargs),
}
TORCH |= POINTWISE | LISTED
_WORDS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "other": "x2", "unbiased": "correction"}


@public()
def torch_protocol(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Torch's protocol: its functions given a lazy array, or a tensor and a lazy array."""
    name = getattr(function, "__name__", str(function))
    plain = name.strip("_").removesuffix("_") if name.startswith("__") else name.removeprefix("_")  # _threshold
    reflected = name.startswith("__r") and plain[1:] in FUNCTIONS and not (plain in FUNCTIONS or plain in TORCH)
    if plain == "equal":  # torch.equal is one boolean
        raise no_lazy_form(f"torch.{name}")
    positional = list(args)
    if plain == "where" and type(function).__name__ == "method_descriptor":  # tensor.where(condition, other)
        positional[:2] = reversed(positional[:2])
    return _answer(plain[1:] if reflected else plain, f"torch.{name}", positional, kwargs, reflected=reflected)


@public()
def torch_call(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Torch's function or method of this name, with its arguments and its meaning."""
    return _answer(name, name, list(args), kwargs)


def _answer(plain: str, name: str, positional: list[Any], kwargs: dict[str, Any], *, reflected: bool = False) -> Any:
    ours = TORCH.get(plain) or FUNCTIONS.get(plain)
    if ours is None:
        raise no_lazy_form(name)
    words = {_WORDS.get(word, word): value for word, value in kwargs.items() if value is not None}
    if "out" in words or words.pop("inplace", False):
        raise ArgumentError(f"{name}: a lazy result cannot be written into out= or in place")
    for first in ("input", "self", "tensors"):
        if first in words:
            positional.insert(0, words.pop(first))
    if "x2" in words:
        positional.append(words.pop("x2"))
    if "alpha" in words and plain in ("add", "sub", "subtract"):
        positional[1] = multiply(positional[1], words.pop("alpha"))
    if "rounding_mode" in words:
        mode = words.pop("rounding_mode")
        ours = FUNCTIONS["floor_divide"] if mode == "floor" else torch_truncated
    if reflected:
        positional.reverse()
    return answered(ours, name, positional, words)
