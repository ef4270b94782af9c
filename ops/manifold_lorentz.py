"""The Lorentz model: hyperbolic space as a sheet of a hyperboloid, the time coordinate first.

Sources: Nickel & Kiela 2018, arXiv:1806.03417; Law et al. 2019, "Lorentzian Distance Learning for
Hyperbolic Representations"; geoopt's documentation. A point is known by its space coordinates alone:
``x₀ = √(k + |x'|²)``, computed again in float64 where a rounded one would cost digits.
"""

from typing import Any

from ..engine.types import FLOAT64, DType
from .arithmetic import maximum
from .array import Array, ArrayLike
from .creation import full, zeros, zeros_like
from .exponential import sqrt
from .joining import concat
from .manifold_base import Manifold, chosen_form, parameter
from .manifold_math import (
    Parameter,
    arc_cosh1p,
    arc_per_sinh,
    first,
    part,
    per_self,
    root,
    safe_root,
    square_norm,
    wide,
)
from .reduction import sum
from .shape import squeeze
from .trigonometry import asinh, cosh, sinh


class Lorentz(Manifold):
    """The sheet ``⟨x, x⟩ = -k``, ``x₀ > 0``, with ``⟨u, v⟩ = -u₀v₀ + u₁v₁ + …``: curvature -1/k.

    Args:
        k: Above 0: a number, or a 0-d array, which may be lazy (a learned curvature).

    Raises:
        ArgumentError: For another ``k``.
    """

    __slots__ = ("k",)
    _names = ("k",)
    _least_width = 2
    k: Parameter

    def __init__(self, k: Any = 1.0) -> None:
        object.__setattr__(self, "k", parameter("Lorentz", "k", k))

    def dist(
        self, x: ArrayLike, y: ArrayLike, *, dim: int = -1, keepdim: bool = False, form: str | None = None
    ) -> Array:
        """``√k · acosh(1 + z)``, ``z = ⟨x - y, x - y⟩ / 2k = -⟨x, y⟩/k - 1`` (Nickel & Kiela 2018).

        That difference cancels far from the origin, so the direct form takes it in the Poincaré
        ball: ``z = ½ |p - q|² (1 + x₀/√k)(1 + y₀/√k)``, ``p = x' / (x₀ + √k)``. The form ``gram`` is
        through ``⟨x, y⟩``. See `Manifold.dist`.
        """
        taken = self._take("dist", dim, x, y)
        x, y = taken.arrays
        if chosen_form("Lorentz.dist", form) == "gram":
            z = maximum(self._product(x, y, taken.axis, keepdim) * (-1.0 / self.k) - 1.0, 0.0)
        else:
            z = self._z(x, y, taken.axis, keepdim)
        return taken.rounded(arc_cosh1p(z) * root(self.k))

    def dist0(self, x: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``√k · acosh(x₀/√k) = √k · asinh(|x'|/√k)``."""
        taken = self._take("dist0", dim, x)
        scale = root(wide(self.k))
        space = part(taken.arrays[0], taken.axis, 1, None).astype(FLOAT64)
        length = safe_root(square_norm(space, taken.axis, keepdim))
        return taken.rounded(asinh(length / scale) * scale)

    def inner(
        self, x: ArrayLike, u: ArrayLike, v: ArrayLike | None = None, *, dim: int = -1, keepdim: bool = False
    ) -> Array:
        """``⟨u, v⟩ = -u₀v₀ + u₁v₁ + …``, the same at every x; v None is u."""
        taken = self._take("inner", dim, x, u, u if v is None else v)
        _, u, v = taken.arrays
        return taken.rounded(taken.spread(self._product(u, v, taken.axis, keepdim), keepdim))

    def norm(self, x: ArrayLike, u: ArrayLike | None = None, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``√⟨u, u⟩``, 0 where rounding makes that negative; ``norm(u)``, as geoopt has it, is the same."""
        taken = self._take("norm", dim, x) if u is None else self._take("norm", dim, x, u)
        u = taken.arrays[-1].astype(FLOAT64)
        square = maximum(self._product(u, u, taken.axis, keepdim), 0.0)
        return taken.rounded(taken.spread(safe_root(square), keepdim))

    def expmap(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``cosh(n) x + √k sinh(n) u/|u|``, ``n = |u|/√k``.

        Time coordinates come from the others, that of u as ``⟨x', u'⟩ / x₀``: u has to be tangent.
        """
        taken = self._take("expmap", dim, x, u)
        xs, us = (part(each, taken.axis, 1, None) for each in taken.arrays)
        x64, u64 = xs.astype(FLOAT64), us.astype(FLOAT64)
        time = sum(x64 * u64, taken.axis, keepdims=True) / self._time(xs, taken.axis)
        square = maximum(square_norm(u64, taken.axis, True) - time * time, 0.0)
        length = (safe_root(square) / root(wide(self.k))).astype(xs.dtype)
        return taken.rounded(self._lifted(cosh(length) * xs + per_self(sinh, length) * us, taken.axis))

    def expmap0(self, u: ArrayLike, *, dim: int = -1) -> Array:
        """``(√k cosh(n), √k sinh(n) u'/|u'|)``, ``n = |u'|/√k``; tangent vectors there have ``u₀ = 0``."""
        taken = self._take("expmap0", dim, u)
        space = part(taken.arrays[0], taken.axis, 1, None)
        length = safe_root(square_norm(space, taken.axis, True)) / root(self.k)
        return taken.rounded(self._lifted(per_self(sinh, length) * space, taken.axis))

    def logmap(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``θ / sinh θ · (y - cosh(θ) x)``, ``θ = dist(x, y)/√k``: here ``θ / sinh θ · (y - x - z x)``.

        The time coordinate is ``⟨x', v'⟩ / x₀``, which makes the vector tangent.
        """
        taken = self._take("logmap", dim, x, y)
        axis, (x, y) = taken.axis, taken.arrays
        z = self._z(x, y, axis, True)
        xs, ys = (part(each, axis, 1, None) for each in (x, y))
        space = (ys - xs - z * xs) * arc_per_sinh(z)
        time = sum(xs * space, axis, keepdims=True) / self._time(xs, axis).astype(x.dtype)
        return taken.rounded(concat([time, space], axis=axis))

    def logmap0(self, y: ArrayLike, *, dim: int = -1) -> Array:
        """``(0, √k asinh(|y'|/√k) y'/|y'|)``."""
        taken = self._take("logmap0", dim, y)
        (y,) = taken.arrays
        space = part(y, taken.axis, 1, None)
        length = safe_root(square_norm(space.astype(FLOAT64), taken.axis, True)) / root(wide(self.k))
        scaled = space * per_self(asinh, length).astype(y.dtype)
        return taken.rounded(concat([zeros_like(first(y, taken.axis, True)), scaled], axis=taken.axis))

    def projx(self, x: ArrayLike, *, dim: int = -1) -> Array:
        """``(√(k + |x'|²), x')``: the space coordinates stay."""
        taken = self._take("projx", dim, x)
        return taken.rounded(self._lifted(part(taken.arrays[0], taken.axis, 1, None), taken.axis))

    def proju(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``u + ⟨x, u⟩/k · x``."""
        taken = self._take("proju", dim, x, u)
        x, u = (each.astype(FLOAT64) for each in taken.arrays)
        along = self._product(x, u, taken.axis, True) / wide(self.k)
        return taken.rounded(u + along * x)

    def transp(self, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, dim: int = -1) -> Array:
        """``v + ⟨y, v⟩ / (k - ⟨x, y⟩) · (x + y)``: here ``v + ⟨y - x, v⟩ / (k(2 + z)) · (x + y)``, z of `dist`."""
        taken = self._take("transp", dim, x, y, v)
        x, y, v = taken.arrays
        along = self._product(y - x, v, taken.axis, True)
        return taken.rounded(v + (x + y) * (along / (self.k * (2.0 + self._z(x, y, taken.axis, True)))))

    def origin(self, *size: Any, dtype: Any = "float32") -> Array:
        """``(√k, 0, …)``."""
        *batch, width = self._shape(size)
        return concat([full((*batch, 1), root(self.k), dtype=dtype), zeros((*batch, width - 1), dtype=dtype)], axis=-1)

    def _product(self, u: Array, v: Array, axis: int, keepdim: bool) -> Array:
        """``⟨u, v⟩``."""
        space = sum(part(u, axis, 1, None) * part(v, axis, 1, None), axis, keepdims=keepdim)
        return space - first(u, axis, keepdim) * first(v, axis, keepdim)

    def _time(self, space: Array, axis: int) -> Array:
        """``x₀``, in float64, from the space coordinates."""
        return sqrt(square_norm(space.astype(FLOAT64), axis, True) + wide(self.k))

    def _lifted(self, space: Array, axis: int) -> Array:
        """The point with these space coordinates."""
        return concat([self._time(space, axis).astype(space.dtype), space], axis=axis)

    def _z(self, x: Array, y: Array, axis: int, keepdim: bool) -> Array:
        """``z`` of `dist`, in the Poincaré ball."""
        (p, at_x), (q, at_y) = (self._in_ball(each, axis, keepdim, x.dtype) for each in (x, y))
        return square_norm(p - q, axis, keepdim) * at_x * (0.5 * at_y)

    def _in_ball(self, x: Array, axis: int, keepdim: bool, dtype: DType) -> tuple[Array, Array]:
        """``x' / (x₀ + √k)`` and ``1 + x₀/√k``."""
        space = part(x, axis, 1, None)
        scale = root(wide(self.k))
        height = self._time(space, axis) + scale
        factor = (height / scale).astype(dtype)
        return (space.astype(FLOAT64) / height).astype(dtype), factor if keepdim else squeeze(factor, axis)
