"""Normalizations over the last axis (or others), as compositions."""

from typing import Any

from .arithmetic import maximum
from .array import Array, ArrayLike
from .exponential import rsqrt
from .function import lifted_float
from .kinds import number
from .reduction import sum
from .registry import public
from .statistics import mean


def _scaled(x: Array, weight: ArrayLike | None, bias: ArrayLike | None) -> Array:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


@public()
def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    axis: Any = -1,
    eps: float = 1e-5,
) -> Array:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over ``axis`` (Ba 2016, arXiv:1607.06450).

    Args:
        x: (…, n).
        weight: Broadcast against ``x``, usually (n,); 1 if None.
        bias: The same; 0 if None.
        axis: One axis or several.
        eps: Added to the variance.

    Raises:
        ShapeError: If there is no such axis, or weight and bias do not broadcast.
    """
    array = Array(lifted_float(x, "layer_norm"))
    centred = array - mean(array, axis, keepdims=True)
    variance = mean(centred * centred, axis, keepdims=True)
    return _scaled(centred * rsqrt(variance + eps), weight, bias)


@public()
def rms_norm(x: ArrayLike, weight: ArrayLike | None = None, *, axis: Any = -1, eps: float = 1e-6) -> Array:
    """``x / sqrt(mean(x²) + eps) * weight`` over ``axis`` (Zhang 2019, arXiv:1910.07467).

    Raises:
        ShapeError: If there is no such axis, or the weight does not broadcast.
    """
    array = Array(lifted_float(x, "rms_norm"))
    return _scaled(array * rsqrt(mean(array * array, axis, keepdims=True) + eps), weight, None)


@public("normalize")
def l2_normalize(x: ArrayLike, *, axis: Any = -1, eps: float = 1e-12) -> Array:
    """``x / max(|x|, eps)`` over ``axis``; zeros stay zeros.

    Raises:
        ShapeError: If there is no such axis.
    """
    array = Array(lifted_float(x, "l2_normalize"))
    squares = sum(array * array, axis, keepdims=True)
    return array * rsqrt(maximum(squares, _square(number("l2_normalize", "eps", eps))))


def _square(value: float) -> float:
    return value * value  # infinity for what ** would call an error
