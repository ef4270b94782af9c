"""Euclidean space, and what it shares with the sphere. Source: geoopt's documentation."""

from typing import Any

from .array import Array, ArrayLike
from .creation import zeros
from .manifold_base import Manifold, chosen_form
from .manifold_math import safe_root, square_distance, square_norm
from .reduction import sum
from .shape import broadcast_to


class Flat(Manifold):
    """A manifold that takes the products of tangent vectors from the space around it."""

    __slots__ = ()

    def inner(
        self, x: ArrayLike, u: ArrayLike, v: ArrayLike | None = None, *, dim: int = -1, keepdim: bool = False
    ) -> Array:
        """``⟨u, v⟩ = Σ u v``, the same at every x; v None is u."""
        taken = self._take("inner", dim, x, u, u if v is None else v)
        _, u, v = taken.arrays
        return taken.rounded(taken.spread(sum(u * v, taken.axis, keepdims=keepdim), keepdim))

    def norm(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``|u|``."""
        taken = self._take("norm", dim, x, u)
        length = safe_root(square_norm(taken.arrays[1], taken.axis, keepdim))
        return taken.rounded(taken.spread(length, keepdim))


class Euclidean(Flat):
    """Flat space."""

    __slots__ = ()

    def dist(
        self, x: ArrayLike, y: ArrayLike, *, dim: int = -1, keepdim: bool = False, form: str | None = None
    ) -> Array:
        """``|x - y|``; see `Manifold.dist`."""
        taken = self._take("dist", dim, x, y)
        form = chosen_form("Euclidean.dist", form)
        x, y = taken.arrays
        return taken.rounded(safe_root(square_distance(x, y, taken.axis, keepdim, form)))

    def dist0(self, x: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``|x|``."""
        taken = self._take("dist0", dim, x)
        return taken.rounded(safe_root(square_norm(taken.arrays[0], taken.axis, keepdim)))

    def expmap(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``x + u``."""
        taken = self._take("expmap", dim, x, u)
        return taken.rounded(taken.arrays[0] + taken.arrays[1])

    def logmap(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``y - x``."""
        taken = self._take("logmap", dim, x, y)
        return taken.rounded(taken.arrays[1] - taken.arrays[0])

    def expmap0(self, u: ArrayLike, *, dim: int = -1) -> Array:
        """``u``."""
        taken = self._take("expmap0", dim, u)
        return taken.rounded(taken.arrays[0])

    def logmap0(self, y: ArrayLike, *, dim: int = -1) -> Array:
        """``y``."""
        taken = self._take("logmap0", dim, y)
        return taken.rounded(taken.arrays[0])

    def projx(self, x: ArrayLike, *, dim: int = -1) -> Array:
        """``x``."""
        taken = self._take("projx", dim, x)
        return taken.rounded(taken.arrays[0])

    def proju(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``u``."""
        taken = self._take("proju", dim, x, u)
        return taken.rounded(broadcast_to(taken.arrays[1], taken.shape))

    def transp(self, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, dim: int = -1) -> Array:
        """``v``."""
        taken = self._take("transp", dim, x, y, v)
        return taken.rounded(broadcast_to(taken.arrays[2], taken.shape))

    def mobius_add(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``x + y``: what the Poincaré ball's tends to as c tends to 0."""
        taken = self._take("mobius_add", dim, x, y)
        return taken.rounded(taken.arrays[0] + taken.arrays[1])

    def origin(self, *size: Any, dtype: Any = "float32") -> Array:
        """``0``."""
        return zeros(self._shape(size), dtype=dtype)
