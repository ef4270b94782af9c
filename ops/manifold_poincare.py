"""The Poincaré ball: hyperbolic space inside a ball, where angles are Euclidean.

Sources: Ungar, Analytic Hyperbolic Geometry (2005); Nickel & Kiela 2017, arXiv:1705.08039; Ganea,
Bécigneul & Hofmann 2018, arXiv:1805.09112; geoopt's documentation. The formulas are theirs, rewritten
in differences ``y - x`` and in the shrinking ``f(x) = 1 - c|x|²``: what is left to cancel does so in
``f``, which is computed in float64.
"""

import math
from typing import Any

from ..engine.types import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from .arithmetic import maximum, minimum
from .array import Array, ArrayLike
from .creation import zeros
from .exponential import exp
from .manifold_base import Manifold, Taken, chosen_form, parameter
from .manifold_math import (
    Parameter,
    arc_cosh1p,
    arc_per_sinh,
    epsilon,
    per_self,
    root,
    safe_root,
    square_distance,
    square_norm,
    wide,
)
from .reduction import sum
from .shape import broadcast_to
from .trigonometry import atanh, tanh

# How far inside the ball projected points stay, relative to its radius: several roundings of a coordinate.
_MARGINS = {FLOAT16: 4e-3, BFLOAT16: 2e-2, FLOAT32: 1e-5, FLOAT64: 1e-10}


class PoincareBall(Manifold):
    """The ball ``|x| < 1/√c`` with the metric ``λ(x)²⟨u, v⟩``, ``λ(x) = 2 / (1 - c|x|²)``: curvature -c.

    On the edge and outside, ``1 - c|x|²`` counts as what it is a rounding inside, so all is finite.

    Args:
        c: Above 0: a number, or a 0-d array, which may be lazy (a learned curvature).

    Raises:
        ArgumentError: For another ``c``.
    """

    __slots__ = ("c",)
    _names = ("c",)
    c: Parameter

    def __init__(self, c: Any = 1.0) -> None:
        object.__setattr__(self, "c", parameter("PoincareBall", "c", c))

    def dist(
        self, x: ArrayLike, y: ArrayLike, *, dim: int = -1, keepdim: bool = False, form: str | None = None
    ) -> Array:
        """``acosh(1 + z) / √c``, ``z = 2c|x - y|² / ((1 - c|x|²)(1 - c|y|²))`` (Nickel & Kiela 2017).

        Of a point on the edge or outside, ``1 - c|x|²`` counts as a rounding of the type (2⁻²³ of float32, 2⁻⁵² of
        float64), and ``|x - y|²`` as it is: a finite number, but no distance of the manifold. `projx` brings points
        inside.

        See `Manifold.dist`.
        """
        taken = self._take("dist", dim, x, y)
        form = chosen_form("PoincareBall.dist", form)
        x, y = taken.arrays
        square = square_distance(x, y, taken.axis, keepdim, form)
        return taken.rounded(self._length(self._z(taken, square, keepdim)))

    def dist0(self, x: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``2/√c · atanh(√c|x|)``."""
        taken = self._take("dist0", dim, x)
        square = wide(self.c) * square_norm(taken.arrays[0].astype(FLOAT64), taken.axis, keepdim)
        inside = minimum(square, 1.0 - epsilon(taken.dtype))
        return taken.rounded(self._length(2.0 * inside / (1.0 - inside)))

    def inner(
        self, x: ArrayLike, u: ArrayLike, v: ArrayLike | None = None, *, dim: int = -1, keepdim: bool = False
    ) -> Array:
        """``λ(x)²⟨u, v⟩``; v None is u."""
        taken = self._take("inner", dim, x, u, u if v is None else v)
        _, u, v = taken.arrays
        half = self._inverse(taken, 0, keepdim)
        return taken.rounded(sum(u * v, taken.axis, keepdims=keepdim) * (4.0 * half * half))

    def norm(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``λ(x)|u|``."""
        taken = self._take("norm", dim, x, u)
        length = safe_root(square_norm(taken.arrays[1], taken.axis, keepdim))
        return taken.rounded(length * (2.0 * self._inverse(taken, 0, keepdim)))

    def mobius_add(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``x ⊕ y = ((1 + 2c⟨x,y⟩ + c|y|²) x + (1 - c|x|²) y) / (1 + 2c⟨x,y⟩ + c²|x|²|y|²)`` (Ungar 2005).

        With ``s = x + y`` that is ``(f(x) s + c|s|² x) / (f(x) f(y) + c|s|²)``. The result is projected.
        """
        taken = self._take("mobius_add", dim, x, y)
        shrunk = self._shrinking(taken, 1).astype(taken.arrays[1].dtype)
        return taken.rounded(self._inside(taken, self._sum(taken, taken.arrays[1], shrunk)))

    def expmap(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``x ⊕ (tanh(√c λ(x)|u| / 2) u / (√c|u|))``, projected (Ganea 2018)."""
        taken = self._take("expmap", dim, x, u)
        u = taken.arrays[1]
        inverse = self._inverse(taken, 0)
        half = safe_root(square_norm(u, taken.axis, True)) * inverse * root(self.c)
        y = u * (per_self(tanh, half) * inverse)
        # 1 - tanh², which does not cancel; at the edge it is 0, and x ⊕ y must not be 0/0.
        small = exp(-2.0 * half)
        shrunk = maximum(4.0 * small / ((1.0 + small) * (1.0 + small)), epsilon(y.dtype) ** 2)
        return taken.rounded(self._inside(taken, self._sum(taken, y, shrunk)))

    def expmap0(self, u: ArrayLike, *, dim: int = -1) -> Array:
        """``tanh(√c|u|) u / (√c|u|)``, projected."""
        taken = self._take("expmap0", dim, u)
        (u,) = taken.arrays
        length = safe_root(square_norm(u, taken.axis, True)) * root(self.c)
        return taken.rounded(self._inside(taken, u * per_self(tanh, length)))

    def logmap(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``2/(√c λ(x)) · atanh(√c|w|) w/|w|``, ``w = (-x) ⊕ y`` (Ganea 2018).

        With ``δ = y - x`` and z of `dist` that is ``acosh(1 + z) / √(z(z + 2)) · (f(x) δ - c|δ|² x) / f(y)``.
        """
        taken = self._take("logmap", dim, x, y)
        x, y = taken.arrays
        delta = y - x
        square = square_norm(delta, taken.axis, True)
        scale = arc_per_sinh(self._z(taken, square, True)) * self._inverse(taken, 1)
        shrunk = self._shrinking(taken, 0).astype(x.dtype)
        return taken.rounded((shrunk * delta - self.c * square * x) * scale)

    def logmap0(self, y: ArrayLike, *, dim: int = -1) -> Array:
        """``atanh(√c|y|) y / (√c|y|)``."""
        taken = self._take("logmap0", dim, y)
        (y,) = taken.arrays
        most = math.sqrt(1.0 - epsilon(taken.dtype))
        length = safe_root(square_norm(y.astype(FLOAT64), taken.axis, True)) * root(wide(self.c))
        scale = per_self(atanh, minimum(length, most)) * (most / maximum(length, most))
        return taken.rounded(y * scale.astype(y.dtype))

    def projx(self, x: ArrayLike, *, dim: int = -1) -> Array:
        """``x`` where it lies well inside the ball, else ``(1 - margin) x / (√c|x|)``.

        The margin depends on the data type: 1e-5 for float32, 1e-10 for float64.
        """
        taken = self._take("projx", dim, x)
        return taken.rounded(self._inside(taken, taken.arrays[0]))

    def proju(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``u``: every vector is tangent."""
        taken = self._take("proju", dim, x, u)
        return taken.rounded(broadcast_to(taken.arrays[1], taken.shape))

    def transp(self, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, dim: int = -1) -> Array:
        """``λ(x)/λ(y) · gyr[y, -x] v`` (Ungar 2005; Ganea 2018), ``gyr[a, b] v = ⊖(a ⊕ b) ⊕ (a ⊕ (b ⊕ v))``.

        With ``δ = y - x``, ``q = c|δ|²`` the gyration is ``v + 2c (A δ + B x) / (f(x) f(y) + q)``, where
        ``A = (2c⟨x,δ⟩ - f(x))⟨x,v⟩ - c|x|²⟨δ,v⟩`` and ``B = f(x)⟨δ,v⟩ - q⟨x,v⟩``.
        """
        taken = self._take("transp", dim, x, y, v)
        x, y, v = taken.arrays
        axis, delta = taken.axis, y - x
        at_x, at_y = (self._shrinking(taken, place).astype(x.dtype) for place in (0, 1))
        q = self.c * square_norm(delta, axis, True)
        along, across = sum(x * v, axis, keepdims=True), sum(delta * v, axis, keepdims=True)
        turn = 2.0 * self.c * sum(x * delta, axis, keepdims=True) - at_x
        first = turn * along - self.c * square_norm(x, axis, True) * across
        second = at_x * across - q * along
        gyration = v + (first * delta + second * x) * (2.0 * self.c / (at_x * at_y + q))
        return taken.rounded(gyration * (at_y * self._inverse(taken, 0)))

    def origin(self, *size: Any, dtype: Any = "float32") -> Array:
        """``0``."""
        return zeros(self._shape(size), dtype=dtype)

    def _shrinking(self, taken: Taken, place: int, keepdim: bool = True) -> Array:
        """``f(x) = 1 - c|x|²``, in float64, of one of the operands; on the edge and outside what it is just inside."""
        square = square_norm(taken.arrays[place].astype(FLOAT64), taken.axis, keepdim)
        return maximum(1.0 - wide(self.c) * square, epsilon(taken.dtype))

    def _inverse(self, taken: Taken, place: int, keepdim: bool = True) -> Array:
        """``λ(x)/2 = 1 / f(x)``."""
        return (1.0 / self._shrinking(taken, place, keepdim)).astype(taken.arrays[place].dtype)

    def _z(self, taken: Taken, square: Array, keepdim: bool) -> Array:
        """``z`` of `dist`, from ``|x - y|²``."""
        scale = (2.0 * wide(self.c) / self._shrinking(taken, 1, keepdim)).astype(square.dtype)
        return square * self._inverse(taken, 0, keepdim) * scale

    def _length(self, z: Array) -> Array:
        return arc_cosh1p(z) * (1.0 / root(self.c))

    def _sum(self, taken: Taken, y: Array, shrunk: Array) -> Array:
        """``x ⊕ y``, given ``f(y)``."""
        x = taken.arrays[0]
        at_x = self._shrinking(taken, 0).astype(x.dtype)
        both = x + y
        q = self.c * square_norm(both, taken.axis, True)
        total = at_x * shrunk + q
        return both * (at_x / total) + x * (q / total)

    def _inside(self, taken: Taken, x: Array) -> Array:
        """As `projx`."""
        most = (1.0 - _MARGINS[taken.dtype]) / root(self.c)
        return x * (most / maximum(safe_root(square_norm(x, taken.axis, True)), most))
