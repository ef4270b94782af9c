"""The sphere. Sources: geoopt's documentation; Kahan 2006, "How Futile are Mindless Assessments of Roundoff"."""

from typing import Any

from ..engine.types import FLOAT64
from .arithmetic import abs, maximum, minimum
from .array import Array, ArrayLike
from .creation import full, pi, zeros
from .exponential import sqrt
from .joining import concat
from .logic import equal, less_equal, logical_or
from .manifold_base import chosen_form, parameter
from .manifold_euclidean import Flat
from .manifold_math import Parameter, epsilon, per_self, safe_root, square_norm, wide
from .reduction import sum
from .selection import where
from .trigonometry import acos, atan2, cos, sin

# Stands for the length 0 where the angle of (0, 0) would have no slope; its square is a normal float32.
_TINY = 1e-15


class Sphere(Flat):
    """The sphere ``|x| = R`` around 0: curvature 1/R². Its origin is the pole ``(R, 0, …)``.

    From a point to its antipode there is no one shortest way: `logmap` is near 0 there, `transp` v.

    Args:
        radius: R, above 0: a number, or a 0-d array, which may be lazy (learned).

    Raises:
        ArgumentError: For another ``radius``.
    """

    __slots__ = ("radius",)
    _names = ("radius",)
    _least_width = 1
    radius: Parameter

    def __init__(self, radius: Any = 1.0) -> None:
        object.__setattr__(self, "radius", parameter("Sphere", "radius", radius))

    def dist(
        self, x: ArrayLike, y: ArrayLike, *, dim: int = -1, keepdim: bool = False, form: str | None = None
    ) -> Array:
        """``2R · atan2(|x - y|, |x + y|)`` (Kahan), in the form ``gram`` ``R · acos(⟨x, y⟩/R²)``.

        See `Manifold.dist`.
        """
        taken = self._take("dist", dim, x, y)
        x, y = taken.arrays
        if chosen_form("Sphere.dist", form) == "gram":
            cosine = sum(x * y, taken.axis, keepdims=keepdim) * (1.0 / (self.radius * self.radius))
            return taken.rounded(_clamped_acos(cosine) * self.radius)
        return taken.rounded(self._length(x, y, taken.axis, keepdim))

    def dist0(self, x: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """The distance from the pole, as `dist`."""
        taken = self._take("dist0", dim, x)
        (x,) = taken.arrays
        return taken.rounded(self._length(self._pole(x, taken.axis), x, taken.axis, keepdim))

    def expmap(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``cos(n) x + R sin(n) u/|u|``, ``n = |u|/R``."""
        taken = self._take("expmap", dim, x, u)
        x, u = taken.arrays
        return taken.rounded(self._exp(x, u, taken.axis))

    def expmap0(self, u: ArrayLike, *, dim: int = -1) -> Array:
        """As `expmap`, from the pole."""
        taken = self._take("expmap0", dim, u)
        (u,) = taken.arrays
        return taken.rounded(self._exp(self._pole(u, taken.axis), u, taken.axis))

    def logmap(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``θ / sin θ · (y - cos(θ) x)``, ``θ = dist(x, y)/R``; the vector is `proju` of ``y - x``, scaled."""
        taken = self._take("logmap", dim, x, y)
        x, y = taken.arrays
        return taken.rounded(self._log(x, y, taken.axis))

    def logmap0(self, y: ArrayLike, *, dim: int = -1) -> Array:
        """As `logmap`, from the pole."""
        taken = self._take("logmap0", dim, y)
        (y,) = taken.arrays
        return taken.rounded(self._log(self._pole(y, taken.axis), y, taken.axis))

    def projx(self, x: ArrayLike, *, dim: int = -1) -> Array:
        """``R x / |x|``; 0 stays 0, for no point is nearest."""
        taken = self._take("projx", dim, x)
        (x,) = taken.arrays
        square = square_norm(x.astype(FLOAT64), taken.axis, True)
        scale = wide(self.radius) / sqrt(where(equal(square, 0.0), 1.0, square))
        return taken.rounded((x * scale).astype(x.dtype))

    def proju(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``u - ⟨x, u⟩/R² · x``."""
        taken = self._take("proju", dim, x, u)
        x, u = taken.arrays
        return taken.rounded(self._tangent(x, u, taken.axis))

    def transp(self, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, dim: int = -1) -> Array:
        """``v - ⟨y, v⟩ / (R² + ⟨x, y⟩) · (x + y)``; the denominator is ``|x + y|²/2``, and v stays at an antipode."""
        taken = self._take("transp", dim, x, y, v)
        x, y, v = taken.arrays
        both = x + y
        square = square_norm(both, taken.axis, True)
        opposite = less_equal(square, epsilon(x.dtype) ** 2 * square_norm(x - y, taken.axis, True))
        along = sum(y * v, taken.axis, keepdims=True) / where(opposite, 1.0, square)
        return taken.rounded(v - both * (2.0 * along))

    def origin(self, *size: Any, dtype: Any = "float32") -> Array:
        """The pole ``(R, 0, …)``."""
        *batch, width = self._shape(size)
        rest = zeros((*batch, width - 1), dtype=dtype)
        return concat([full((*batch, 1), self.radius, dtype=dtype), rest], axis=-1)

    def _pole(self, x: Array, axis: int) -> Array:
        """The origin, to broadcast against x."""
        return self.origin(x.shape[axis], dtype=x.dtype).reshape((-1,) + (1,) * (-axis - 1))

    def _length(self, x: Array, y: Array, axis: int, keepdim: bool) -> Array:
        difference, both = (safe_root(square_norm(each, axis, keepdim)) for each in (x - y, x + y))
        return atan2(difference, maximum(both, _TINY)) * (2.0 * self.radius)

    def _tangent(self, x: Array, u: Array, axis: int) -> Array:
        return u - x * (sum(x * u, axis, keepdims=True) * (1.0 / (self.radius * self.radius)))

    def _exp(self, x: Array, u: Array, axis: int) -> Array:
        length = safe_root(square_norm(u, axis, True)) * (1.0 / self.radius)
        return x * cos(length) + u * per_self(sin, length)

    def _log(self, x: Array, y: Array, axis: int) -> Array:
        difference, both = square_norm(y - x, axis, True), square_norm(x + y, axis, True)
        lengths = safe_root(difference), safe_root(both)
        # Nearer to the antipode than a rounding there is no direction, only noise.
        opposite = less_equal(both, epsilon(x.dtype) ** 2 * difference)
        none = logical_or(equal(difference, 0.0), opposite)
        # θ / sin θ: the angle is twice that of (|x + y|, |y - x|).
        angle = atan2(lengths[0], where(none, 1.0, lengths[1]))
        scale = where(none, 1.0, angle * (difference + both) / where(none, 1.0, lengths[0] * lengths[1]))
        return self._tangent(x, y - x, axis) * scale


def _clamped_acos(cosine: Array) -> Array:
    """``acos`` of what rounding may push beyond 1, with finite slopes there."""
    clamped = minimum(maximum(cosine, -1.0), 1.0)
    edge = equal(abs(clamped), 1.0)
    return where(edge, (1.0 - clamped) * (pi / 2), acos(where(edge, 0.5, clamped)))
