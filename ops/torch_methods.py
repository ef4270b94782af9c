"""Torch's methods of `Array`: each is the function of its name in `torch_protocol`, with torch's meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .registry import FUNCTIONS

if TYPE_CHECKING:
    from .array import Array


def _torch(name: str, doc: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return FUNCTIONS["torch_call"](name, (self, *args), kwargs)

    method.__doc__ = f"{doc}; torch's."
    return method


# Element-wise functions that torch's tensors have as methods, too, under all their names.
_ALSO = """
    absolute acos acosh addcdiv addcmul arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2
    atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor copysign cosh
    deg2rad dist divide erfc fix float_power fmod frac greater greater_equal heaviside hypot isclose isneginf
    isposinf lerp less less_equal log10 logaddexp logit multiply nan_to_num negative not_equal positive rad2deg
    signbit sinc sinh subtract tan true_divide xlogy
"""


class TorchMethods:
    """What torch's tensors have and NumPy's arrays have not, or have not so."""

    __slots__ = ()

    t = _torch("t", "The two axes of a matrix exchanged; fewer axes stay")
    swapdims = _torch("swapdims", "Two axes exchanged")
    movedim = _torch("movedim", "Axes moved to other places")
    chunk = _torch("chunk", "``(chunks, dim=0)``: at most so many parts of one size, but for the last")
    split = _torch("split", "``(size, dim=0)``: parts of this size (NumPy's takes their number), or of these sizes")
    unbind = _torch("unbind", "``(dim=0)``: the slices along an axis, without it")
    narrow = _torch("narrow", "``(dim, start, length)``: some elements of an axis")
    expand = _torch("expand", "``(*sizes)``: repeated along new axes and those of length 1, -1 for a length that stays")
    unflatten = _torch("unflatten", "``(dim, sizes)``: one axis as several")
    tril = _torch("tril", "``(diagonal=0)``: the lower triangle of the last two axes")
    triu = _torch("triu", "``(diagonal=0)``: the upper triangle of the last two axes")
    roll = _torch("roll", "``(shifts, dims=None)``: shifted around")
    flip = _torch("flip", "``(*dims)``: reversed along these axes")
    gather = _torch("gather", "``(dim, index)``: elements at places along an axis")
    index_select = _torch("index_select", "``(dim, index)``: slices at places of an axis")
    topk = _torch("topk", "``(k, dim=-1, largest=True)``: the largest and their places, a named tuple")
    argsort = _torch("argsort", "``(dim=-1, descending=False)``: places in order, under ``axis=`` as well; stable")
    norm = _torch("norm", '``(p="fro", dim=None, keepdim=False)``: the p-norm of vectors, or of all elements')
    repeat_interleave = _torch("repeat_interleave", "``(repeats, dim=None)``: NumPy's repeat")

    def sort(self, *args: Any, **kwargs: Any) -> Any:
        """Torch's ``(dim=-1, descending=False)``: elements and places, a named tuple; stable.

        Under ``axis=`` the elements alone, as `attngraph.sort`. Never in place, as NumPy's method is.
        """
        if "axis" in kwargs:
            return FUNCTIONS["sort"](self, *args, **kwargs)
        return FUNCTIONS["torch_call"]("sort", (self, *args), kwargs)

    def repeat(self, *sizes: Any, **kwargs: Any) -> Array:
        """Torch's: the whole array again and again, so often along each axis, as `attngraph.tile`.

        Under ``axis=`` it is NumPy's, each element again and again: see `attngraph.repeat`.
        """
        if "axis" in kwargs or "repeats" in kwargs:
            counts = (kwargs.pop("repeats"),) if "repeats" in kwargs else ()
            result: Array = FUNCTIONS["repeat"](self, *counts, *sizes, **kwargs)
            return result
        tiled: Array = FUNCTIONS["torch_call"]("repeat", (self, *sizes), kwargs)
        return tiled

    def flatten(self, start_dim: Any = 0, end_dim: Any = -1) -> Array:
        """The axes from ``start_dim`` to ``end_dim`` as one: all by default, rows first."""
        start = 0 if isinstance(start_dim, str) and start_dim == "C" else start_dim  # NumPy's order
        result: Array = FUNCTIONS["torch_call"]("flatten", (self, start, end_dim), {})
        return result

    def where(self, condition: Any, other: Any) -> Array:
        """Itself where the condition holds, else ``other``; torch's."""
        result: Array = FUNCTIONS["where"](condition, self, other)
        return result

    def expand_as(self, other: Any) -> Array:
        """In the shape of another array, repeated; torch's."""
        result: Array = FUNCTIONS["broadcast_to"](self, FUNCTIONS["asarray"](other).shape)
        return result

    def view_as(self, other: Any) -> Array:
        """The same elements in the shape of another array; torch's."""
        result: Array = FUNCTIONS["reshape"](self, FUNCTIONS["asarray"](other).shape)
        return result

    reshape_as = view_as

    def type(self, dtype: Any, **ignored: Any) -> Array:
        """In another data type; torch's name for `astype`."""
        result: Array = FUNCTIONS["torch_call"]("to", (self, dtype), {})
        return result

    def bfloat16(self) -> Array:
        """As bfloat16."""
        return self.type("bfloat16")

    def short(self) -> Array:
        """As int16."""
        return self.type("int16")

    def byte(self) -> Array:
        """As uint8."""
        return self.type("uint8")

    def new_tensor(self, data: Any, dtype: Any = None, **ignored: Any) -> Array:
        """An array of this data type (or another) with these numbers."""
        wanted = self.dtype if dtype is None else dtype  # type: ignore[attr-defined]
        result: Array = FUNCTIONS["asarray"](data).astype(wanted)
        return result

    def dim(self) -> int:
        """Torch's name for `ndim`."""
        return int(self.ndim)  # type: ignore[attr-defined]


for _name in _ALSO.split():
    setattr(TorchMethods, _name, _torch(_name, "Element-wise"))
