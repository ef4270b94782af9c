"""Attention over pieces of the keys, put together again: FlashInfer's ``merge_state`` (arXiv:2501.01005)."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.ir import Node
from ..engine.types import FLOAT32, is_float, promote
from ..ops.arithmetic import maximum
from ..ops.array import Array, ArrayLike, lift
from ..ops.exponential import exp, log
from ..ops.gradients import stop_gradient
from ..ops.registry import public
from ..ops.selection import where

_FUNCTION = "merge_states"
_INFINITY = float("inf")


class _State(NamedTuple):
    out: Node
    lse: Node


@public()
def merge_states(*states: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
    """Attention over all keys, from attention over disjoint parts of them.

    ``ag.attention(q, k, v, return_lse=True)`` is the merge of what it gives for pieces of ``k`` and ``v``, in any
    order and grouping, but for rounding. A state whose ``lse`` is -inf adds nothing, whatever its ``out`` holds.

    Args:
        states: Pairs ``(out, lse)``: attention (…, rows, width), and the natural logarithm of its sum of exponentials,
            (…, rows).

    Returns:
        ``(out, lse)`` of these shapes, lazily, in the states' data types. A row that no state has anything for has
        zeros and -inf.

    Raises:
        ArgumentError: For no state, or one that is no pair.
        ShapeError: If shapes differ between states, or an ``lse`` is not ``out`` without its last axis.
        DTypeError: For arrays that are not floats.
    """
    if not states:
        raise ArgumentError(f"{_FUNCTION}: takes at least one state (out, lse)")
    checked = [_checked(state, place) for place, state in enumerate(states)]
    for place, state in enumerate(checked):
        if state.out.shape != checked[0].out.shape:
            sides = f"out 0 {checked[0].out.type} and out {place} {state.out.type}"
            raise ShapeError(f"{_FUNCTION}: states differ in shape: {sides}")
    return _merged(checked)


def _checked(state: Any, place: int) -> _State:
    if not isinstance(state, tuple | list) or len(state) != 2:
        given = f"{len(state)} of them" if isinstance(state, tuple | list) else type(state).__name__
        raise ArgumentError(f"{_FUNCTION}: state {place} is a pair (out, lse), not {given}")
    out, lse = (lift(each, f"{_FUNCTION}: {name} {place}") for name, each in zip(("out", "lse"), state, strict=True))
    for name, node in (("out", out), ("lse", lse)):
        if not is_float(node.dtype):
            raise DTypeError(f"{_FUNCTION}: {name} {place} is a float array, not {node.type}")
    if not out.shape or lse.shape != out.shape[:-1]:
        sides = f"out {place} {out.type} and lse {place} {lse.type}"
        raise ShapeError(f"{_FUNCTION}: lse has the shape of out without its last axis: {sides}")
    return _State(out, lse)


def _merged(states: Sequence[_State]) -> tuple[Array, Array]:
    out_type = promote([state.out.type for state in states])[0]
    lse_type = promote([state.lse.type for state in states])[0]
    # Half floats are storage: sums are made in float32.
    computing = promote([state.lse.type for state in states] + [state.out.type for state in states])[0]
    computing = computing if computing.itemsize >= 4 else FLOAT32
    sums = [Array(state.lse).astype(computing) for state in states]
    outs = [Array(state.out).astype(computing) for state in states]
    # Any shift gives the same result: none has to be differentiated.
    largest = stop_gradient(reduce(maximum, sums))
    shift = where(largest == -_INFINITY, 0.0, largest)
    weights = [exp(each - shift) for each in sums]
    total = reduce(Array.__add__, weights)
    is_empty = total == 0
    total = where(is_empty, 1.0, total)
    shown = [
        where((each == -_INFINITY)[..., None], 0.0, out * (weight / total)[..., None])
        for each, out, weight in zip(sums, outs, weights, strict=True)
    ]
    merged: Array = reduce(Array.__add__, shown)
    return merged.astype(out_type), where(is_empty, -_INFINITY, log(total) + shift).astype(lse_type)
