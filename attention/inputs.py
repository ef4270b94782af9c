"""What every attention function checks of its query, key and value, and how heads are grouped."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..engine.config import config
from ..engine.errors import ArgumentError, DTypeError, LimitError, ShapeError, SignatureError
from ..engine.ir import Node
from ..engine.types import FLOAT32, broadcast, is_float
from ..ops.array import Array, ArrayLike, lift
from ..ops.guard import Guard
from ..ops.joining import repeat
from ..ops.logic import logical_and
from ..ops.selection import where
from ..ops.shape import broadcast_to
from ..ops.softmax import logsumexp, softmax
from ..ops.visible_pages import visible_pages, visible_rows


class Inputs(NamedTuple):
    """Checked arguments: lazy arrays in the type that scores are computed in.

    Attributes:
        visible: Where keys and values that lie in pages are there, in the axes of the scores; None for others.
    """

    query: Array
    key: Array
    value: Array
    groups: int
    dtype: Any
    function: str
    visible: Array | None = None

    @property
    def scores_shape(self) -> tuple[int, ...]:
        """``(…, heads, queries, keys)``."""
        batch = broadcast(self.function, self.query.shape[:-2], self.grouped_batch(self.key))
        return (*batch, self.query.shape[-2], self.key.shape[-2])

    def grouped_batch(self, array: Array) -> tuple[int, ...]:
        """The batch axes of key or value, heads repeated for their group of query heads."""
        if self.groups == 1:
            return array.shape[:-2]
        return (*array.shape[:-3], array.shape[-3] * self.groups)


def checked_inputs(function: str, query: ArrayLike, key: ArrayLike, value: ArrayLike, enable_gqa: Any) -> Inputs:
    """Shapes, data types and lengths of ``(…, heads, length, dim)`` arrays.

    Raises:
        ShapeError: If axes are missing, widths or lengths differ, or heads do not go together.
        DTypeError: If the three are not of one floating type.
        LimitError: If a sequence is longer than ``config.max_length``.
        ArgumentError: If ``enable_gqa`` is neither True nor False.
    """
    given = {"query": query, "key": key, "value": value}
    arrays = {name: lift(x, f"{function}: {name}") for name, x in given.items()}
    sides = ", ".join(f"{name} {node.type}" for name, node in arrays.items())
    for name, node in arrays.items():
        if not is_float(node.dtype):
            raise DTypeError(f"{function}: {name} is a float array, not {node.type}")
        if len(node.shape) < 2:
            raise ShapeError(f"{function}: {name} is (…, heads, length, dim), not {node.type}")
    q, k, v = arrays.values()
    if not q.dtype == k.dtype == v.dtype:
        raise DTypeError(f"{function}: one data type for all: {sides}; cast with astype")
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(f"{function}: query and key differ in width, {q.shape[-1]} against {k.shape[-1]}: {sides}")
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"{function}: key and value differ in length, {k.shape[-2]} against {v.shape[-2]}: {sides}")
    longest, limit = max(q.shape[-2], k.shape[-2]), config.settings().max_length
    if limit is not None and longest > limit:
        raise LimitError(f"{function}: a sequence of {longest} is longer than config.max_length={limit}: {sides}")
    groups = _groups(function, sides, q.shape, k.shape, v.shape, checked_flag(function, "enable_gqa", enable_gqa))
    guarded = [Array(Guard(visible_pages(node)[0], function, name)) for name, node in arrays.items()]
    # Half floats are storage: scores are computed in float32.
    computing = [array if array.dtype.itemsize >= 4 else array.astype(FLOAT32) for array in guarded]
    inputs = Inputs(computing[0], computing[1], computing[2], groups, q.dtype, function, _visible(k, v, groups))
    _check_batches(inputs, sides)
    return inputs


def _visible(key: Node, value: Node, groups: int) -> Array | None:
    """Where keys and values are there, if they lie in pages: (batch, 1 or heads, 1, keys)."""
    found = dict.fromkeys(each.node for each in (visible_rows(key), visible_rows(value)) if each is not None)
    both = [Array(each).mT for each in found]
    if not both:
        return None
    visible = functools.reduce(logical_and, both)
    is_of_heads = groups > 1 and len(visible.shape) > 2 and visible.shape[-3] > 1
    return repeat(visible, groups, axis=-3) if is_of_heads else visible


def _groups(function: str, sides: str, q: Any, k: Any, v: Any, enable_gqa: bool) -> int:
    if not enable_gqa:
        if len(q) >= 3 and len(k) >= 3 and q[-3] != k[-3] and 1 not in (q[-3], k[-3]):
            hint = "; enable_gqa=True lets them share" if k[-3] and q[-3] % k[-3] == 0 else ""
            raise ShapeError(f"{function}: {q[-3]} query heads and {k[-3]} key heads{hint}: {sides}")
        return 1
    if min(len(q), len(k), len(v)) < 3:
        raise ShapeError(f"{function}: enable_gqa needs a heads axis: {sides}")
    if k[-3] != v[-3]:
        raise ShapeError(f"{function}: {k[-3]} key heads and {v[-3]} value heads: {sides}")
    if not q[-3] and not k[-3]:
        return 1
    if not k[-3] or q[-3] % k[-3]:
        raise ShapeError(f"{function}: {q[-3]} query heads do not divide into groups over {k[-3]} key heads: {sides}")
    return int(q[-3] // k[-3])


def _check_batches(inputs: Inputs, sides: str) -> None:
    try:
        broadcast(inputs.function, inputs.scores_shape[:-2], inputs.grouped_batch(inputs.value))
    except ShapeError as error:
        raise ShapeError(f"{str(error).splitlines()[0]}: {sides}") from None


def check_signature(function: str, what: str, given: Callable[..., Any], wanted: str) -> None:
    """Raise SignatureError unless a function of the user's can be called with these arguments.

    Args:
        function: For the error message.
        what: What the function is for.
        given: The function.
        wanted: The names of the arguments, as in ``"b, h, q_idx, kv_idx"``.
    """
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # of some built-in functions nothing is known
        return
    try:
        signature.bind(*wanted.split(", "))
    except TypeError as error:
        name = getattr(given, "__name__", str(given))
        raise SignatureError(
            f"{function}: {what} is called as {what}({wanted}), which {name}{signature} does not take: {error}"
        ) from None


def checked_scale(function: str, scale: Any, width: int) -> Any:
    """``scale``, or 1/sqrt(width) for None.

    Raises:
        ArgumentError: If it is neither a number nor a 0-d array.
    """
    if scale is None:
        return 1.0 / math.sqrt(width) if width else 1.0
    if isinstance(scale, bool | np.bool_) or lift(scale, f"{function}: scale").shape:
        raise ArgumentError(f"{function}: scale is a number, not {scale!r}")
    return scale


def causal_offset(function: str, is_causal: Any, queries: int, keys: int) -> int | None:
    """What is added to a query's position to find the last key that it sees; None where it sees all.

    Raises:
        ArgumentError: If ``is_causal`` is neither a boolean nor ``"lower_right"``.
    """
    if isinstance(is_causal, bool | np.bool_):
        return 0 if is_causal else None
    if not isinstance(is_causal, str) or is_causal != "lower_right":
        raise ArgumentError(f'{function}: is_causal is True, False or "lower_right", not {is_causal!r}')
    return keys - queries


def checked_flag(function: str, name: str, value: Any) -> bool:
    """A switch given as an option.

    Raises:
        ArgumentError: If it is neither True nor False.
    """
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{function}: {name} is True or False, not {value!r}")
    return bool(value)


def scores_of(inputs: Inputs, scale: Any) -> Array:
    """``query @ keyᵀ * scale`` in ``scores_shape``; grouped heads share their key without a copy."""
    shape = inputs.scores_shape
    if inputs.groups == 1:
        return broadcast_to((inputs.query @ inputs.key.mT) * scale, shape)
    heads = inputs.key.shape[-3]
    query = inputs.query.reshape((*inputs.query.shape[:-3], heads, inputs.groups, *inputs.query.shape[-2:]))
    key = inputs.key[..., :, None, :, :]
    scores: Array = (query @ key.mT) * scale
    return scores.reshape(shape)


def weighted_values(inputs: Inputs, scores: Array) -> Array:
    """``softmax(scores) @ value``, in the query's data type."""
    scores = shown(inputs, scores)
    if inputs.groups == 1:
        return (softmax(scores, -1) @ inputs.value).astype(inputs.dtype)
    result = softmax(_grouped(inputs, scores), -1) @ inputs.value[..., :, None, :, :]
    heads = scores.shape[-3]
    return result.reshape((*result.shape[:-4], heads, *result.shape[-2:])).astype(inputs.dtype)


def log_sums(inputs: Inputs, scores: Array) -> Array:
    """``logsumexp(scores)``, its heads in the groups of `weighted_values`: one sweep then makes both."""
    return logsumexp(_grouped(inputs, shown(inputs, scores)), -1).reshape(scores.shape[:-1])


def shown(inputs: Inputs, scores: Array) -> Array:
    """The scores, -inf where no page holds a key: whatever else was made of them there."""
    return scores if inputs.visible is None else where(inputs.visible, scores, -float("inf"))


def _grouped(inputs: Inputs, scores: Array) -> Array:
    """Heads that share keys side by side, on an axis of their own."""
    if inputs.groups == 1:
        return scores
    return scores.reshape((*scores.shape[:-3], inputs.key.shape[-3], inputs.groups, *scores.shape[-2:]))
