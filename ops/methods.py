"""Operators and methods of `Array`: each one calls the public function of its name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..engine.sources import library
from .registry import FUNCTIONS
from .torch_methods import TorchMethods

if TYPE_CHECKING:
    from .array import Array


def _call(name: str, *args: Any, **kwargs: Any) -> Array:
    result: Array = FUNCTIONS[name](*args, **kwargs)
    return result


def _named(method: Any, name: str, doc: str) -> Any:
    method.__name__ = name.rsplit(".")[-1]
    method.__doc__ = f"{doc}; see `attngraph.{name}`."
    return method


def _operator(name: str) -> Callable[[Any, Any], Array]:
    def method(self: Any, other: Any) -> Any:
        # A labelled array keeps its labels by taking the lead.
        return NotImplemented if library(other) == "xarray" else FUNCTIONS[name](self, other)

    return _named(method, name, "The operator")  # type: ignore[no-any-return]


def _reflected(name: str) -> Callable[[Any, Any], Array]:
    def method(self: Any, other: Any) -> Any:
        return NotImplemented if library(other) == "xarray" else FUNCTIONS[name](other, self)

    return _named(method, name, "The operator, from the right")  # type: ignore[no-any-return]


def _unary(name: str) -> Callable[[Any], Array]:
    def method(self: Any) -> Any:
        return FUNCTIONS[name](self)

    return _named(method, name, "Element-wise")  # type: ignore[no-any-return]


def _binary(name: str) -> Callable[[Any, Any], Array]:
    def method(self: Any, other: Any) -> Any:
        return FUNCTIONS[name](self, other)

    return _named(method, name, "Element-wise")  # type: ignore[no-any-return]


def _never(name: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        """Never: a lazy value is not a number. Raises TraceError, which says ``.compute()``."""
        raise self._refuse(name)

    return method


# Who says one of these means torch's function.
_TORCHS_WORDS = frozenset(("dim", "keepdim", "unbiased"))
_MISSING: Any = object()


def _along_axis(
    name: str, default: int | None = None, *, torch: str | None = None, differs: str = ""
) -> Callable[..., Array]:
    def method(self: Any, axis: Any = _MISSING, *more: Any, **options: Any) -> Any:
        if more or not _TORCHS_WORDS.isdisjoint(options):
            given = () if axis is _MISSING else (axis,)
            return FUNCTIONS["torch_call"](torch or name, (self, *given, *more), options)
        return FUNCTIONS[name](self, default if axis is _MISSING else axis, **options)

    note = f": {differs}" if differs else ""
    doc = (
        f"Along ``axis``; see `attngraph.{name}`.\n\n"
        f"Under torch's ``dim=`` or ``keepdim=``, or with a second argument by place, it is torch's{note}."
    )
    method.__doc__ = doc
    return method


_Class = TypeVar("_Class", bound=type)


def _each_by_its_own_name(cls: _Class) -> _Class:
    """Every method as a function of the name that it has here: errors say what was called."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if method.__code__.co_name not in (name, f"_{name}"):
            code = method.__code__.replace(co_name=name, co_qualname=f"{cls.__name__}.{name}")
            named = FunctionType(code, method.__globals__, name, method.__defaults__, method.__closure__)
            setattr(cls, name, functools.update_wrapper(named, method, ("__doc__", "__module__", "__kwdefaults__")))
    return cls


@_each_by_its_own_name
class Methods(TorchMethods):
    """What can be said of a lazy array with a dot or an operator."""

    __slots__ = ()

    __add__, __radd__ = _operator("add"), _reflected("add")
    __sub__, __rsub__ = _operator("subtract"), _reflected("subtract")
    __mul__, __rmul__ = _operator("multiply"), _reflected("multiply")
    __truediv__, __rtruediv__ = _operator("divide"), _reflected("divide")
    __floordiv__, __rfloordiv__ = _operator("floor_divide"), _reflected("floor_divide")
    __mod__, __rmod__ = _operator("remainder"), _reflected("remainder")
    __pow__, __rpow__ = _operator("pow"), _reflected("pow")
    __matmul__, __rmatmul__ = _operator("matmul"), _reflected("matmul")
    __and__, __rand__ = _operator("bitwise_and"), _reflected("bitwise_and")
    __or__, __ror__ = _operator("bitwise_or"), _reflected("bitwise_or")
    __xor__, __rxor__ = _operator("bitwise_xor"), _reflected("bitwise_xor")
    __lshift__, __rlshift__ = _operator("bitwise_left_shift"), _reflected("bitwise_left_shift")
    __rshift__, __rrshift__ = _operator("bitwise_right_shift"), _reflected("bitwise_right_shift")
    __lt__ = _operator("less")
    __le__ = _operator("less_equal")
    __gt__ = _operator("greater")
    __ge__ = _operator("greater_equal")
    __eq__ = _operator("equal")  # type: ignore[assignment]
    __ne__ = _operator("not_equal")  # type: ignore[assignment]
    __hash__ = object.__hash__
    __neg__ = _unary("negative")
    __pos__ = _unary("positive")
    __abs__ = _unary("abs")
    __invert__ = _unary("bitwise_invert")

    sum = _along_axis("sum", differs="over no axis, ``dim=()``, means over all, and unsigned sums are int64")
    prod = _along_axis("prod", differs="unsigned products are int64")
    max: Callable[..., Any] = _along_axis("max", differs="a named tuple of values and (first) indices along one axis")
    min: Callable[..., Any] = _along_axis("min", differs="a named tuple of values and (first) indices along one axis")
    amax = _along_axis("max", torch="amax", differs="over no axis, ``dim=()``, means over all")
    amin = _along_axis("min", torch="amin", differs="over no axis, ``dim=()``, means over all")
    mean = _along_axis("mean", differs="over no axis, ``dim=()``, means over all")
    var = _along_axis("var", differs="divided by the count - 1 unless ``correction`` or ``unbiased`` says otherwise")
    std = _along_axis("std", differs="divided by the count - 1 unless ``correction`` or ``unbiased`` says otherwise")
    any = _along_axis("any")
    all = _along_axis("all")
    argmax = _along_axis("argmax")
    argmin = _along_axis("argmin")
    logsumexp = _along_axis("logsumexp")
    softmax = _along_axis("softmax", -1)
    log_softmax = _along_axis("log_softmax", -1)
    cumsum = _along_axis("cumulative_sum", torch="cumsum", differs="unsigned sums are int64")

    exp = _unary("exp")
    exp2 = _unary("exp2")
    expm1 = _unary("expm1")
    log = _unary("log")
    log2 = _unary("log2")
    log1p = _unary("log1p")
    sqrt = _unary("sqrt")
    rsqrt = _unary("rsqrt")
    square = _unary("square")
    abs = _unary("abs")
    sign = _unary("sign")
    tanh = _unary("tanh")
    sigmoid = _unary("sigmoid")
    sin = _unary("sin")
    cos = _unary("cos")
    floor = _unary("floor")
    ceil = _unary("ceil")
    trunc = _unary("trunc")
    relu = _unary("relu")
    erf = _unary("erf")
    reciprocal = _unary("reciprocal")
    isnan = _unary("isnan")
    isinf = _unary("isinf")
    isfinite = _unary("isfinite")
    logical_not = _unary("logical_not")
    neg = _unary("negative")

    add = _binary("add")
    sub = _binary("subtract")
    mul = _binary("multiply")
    div = _binary("divide")
    pow = _binary("pow")
    matmul = _binary("matmul")
    dot = _binary("dot")
    maximum = _binary("maximum")
    minimum = _binary("minimum")
    remainder = _binary("remainder")
    floor_divide = _binary("floor_divide")
    eq = _binary("equal")
    ne = _binary("not_equal")
    lt = _binary("less")
    le = _binary("less_equal")
    gt = _binary("greater")
    ge = _binary("greater_equal")
    logical_and = _binary("logical_and")
    logical_or = _binary("logical_or")
    logical_xor = _binary("logical_xor")
    clamp_min = _binary("maximum")
    clamp_max = _binary("minimum")

    def __getitem__(self, key: Any) -> Array:
        return _call("getitem", self, key)

    @property
    def T(self) -> Array:
        """The axes in reverse order."""
        return _call("permute_dims", self)

    @property
    def mT(self) -> Array:
        """The last two axes exchanged."""
        return _call("matrix_transpose", self)

    def astype(self, dtype: Any, copy: bool = True) -> Array:
        """In another data type; see `attngraph.astype`."""
        return _call("astype", self, dtype)

    def to(self, target: Any = None, *args: Any, dtype: Any = None, **kwargs: Any) -> Array:
        """Torch's name for `astype`; the device "cpu" changes nothing, and there is no other."""
        result: Any = self
        for wanted in (target, *args, dtype, kwargs.get("device")):
            if wanted is None or isinstance(wanted, bool) or str(wanted) == "cpu":
                continue  # torch's non_blocking and copy are booleans
            result = result.astype(wanted if isinstance(wanted, type) else getattr(wanted, "dtype", wanted))
        return result  # type: ignore[no-any-return]

    def long(self) -> Array:
        """As int64."""
        return self.astype(np.int64)

    def int(self) -> Array:
        """As int32."""
        return self.astype(np.int32)

    def float(self) -> Array:
        """As float32."""
        return self.astype(np.float32)

    def double(self) -> Array:
        """As float64."""
        return self.astype(np.float64)

    def half(self) -> Array:
        """As float16."""
        return self.astype(np.float16)

    def bool(self) -> Array:
        """As boolean: what is not zero is True."""
        return self.astype(np.bool_)

    def reshape(self, *shape: Any) -> Array:
        """In another shape, rows first; one length may be -1."""
        return _call("reshape", self, _one_or_many(shape))

    view = reshape

    def transpose(self, *axes: Any, dim0: Any = None, dim1: Any = None) -> Array:
        """Two integers: torch's, these two axes exchanged. Else NumPy's: the axes in this order, or reversed.

        Of a matrix, ``transpose(0, 1)`` is torch's too; NumPy's order is the tuple ``transpose((0, 1))``.
        """
        pair = (*axes, *(each for each in (dim0, dim1) if each is not None))
        if len(pair) == 2:
            return _call("torch_call", "transpose", (self, *pair), {})
        return _call("permute_dims", self, _one_or_many(pair) if pair else None)

    def permute(self, *axes: Any, dims: Any = None) -> Array:
        """Torch's name for `permute_dims`."""
        return _call("permute_dims", self, _one_or_many(axes) if dims is None else dims)

    def swapaxes(self, axis1: Any, axis2: Any) -> Array:
        """Two axes exchanged."""
        return _call("swapaxes", self, axis1, axis2)

    def ravel(self) -> Array:
        """With one axis."""
        return _call("reshape", self, (-1,))

    def take(self, indices: Any, axis: Any = None) -> Array:
        """Elements at places along an axis, of the flattened array for None, as NumPy's."""
        return _call("take", self if axis is not None else self.ravel(), indices, axis=axis)

    def squeeze(self, axis: Any = None, *, dim: Any = None) -> Array:
        """Without axes of length 1: those named, or all. Under ``dim=`` those that are longer stay, as torch's."""
        if dim is not None:
            return _call("torch_call", "squeeze", (self, dim), {})
        return _call("squeeze", self, axis)

    def unsqueeze(self, dim: Any) -> Array:
        """Torch's name for `expand_dims`."""
        return _call("expand_dims", self, axis=dim)

    def clip(self, min: Any = None, max: Any = None) -> Array:
        """Within bounds; see `attngraph.clip`."""
        return _call("clip", self, min, max)

    clamp = clip

    def round(self, decimals: Any = 0) -> Array:
        """The nearest number with ``decimals`` decimal places; see `attngraph.round`."""
        return _call("round", self, decimals)

    def masked_fill(self, mask: Any, value: Any) -> Array:
        """``value`` where the mask is true, as torch's."""
        return _call("where", mask, value, self)

    def type_as(self, other: Any) -> Array:
        """In the data type of another array."""
        return self.astype(_call("asarray", other).dtype)

    def new_full(self, size: Any, fill_value: Any, dtype: Any = None, **ignored: Any) -> Array:
        """An array of this data type (or another) with one value, as torch's; device and the like change nothing."""
        wanted = self.dtype if dtype is None else dtype  # type: ignore[attr-defined]
        return _call("full", size, fill_value, dtype=wanted)

    def new_ones(self, *size: Any, dtype: Any = None, **ignored: Any) -> Array:
        """An array of ones, as torch's."""
        return self.new_full(_one_or_many(size), 1, dtype)

    def new_zeros(self, *size: Any, dtype: Any = None, **ignored: Any) -> Array:
        """An array of zeros, as torch's."""
        return self.new_full(_one_or_many(size), 0, dtype)

    def copy(self) -> Array:
        """Itself: a lazy array cannot change."""
        return self  # type: ignore[return-value]

    clone = contiguous = detach = copy

    item, tolist, numpy = _never("item"), _never("tolist"), _never("numpy")


def _one_or_many(given: tuple[Any, ...]) -> Any:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    return given[0] if len(given) == 1 and isinstance(given[0], tuple | list) else given
