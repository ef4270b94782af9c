"""Products of manifolds. Sources: Gu 2019, "Learning Mixed-Curvature Representations"; geoopt's documentation."""

from collections.abc import Callable, Iterator
from typing import Any

from ..engine.errors import ArgumentError, ShapeError
from .array import Array, ArrayLike
from .joining import concat
from .manifold_base import Manifold, Taken, chosen_form
from .manifold_math import part, safe_root


class Product(Manifold):
    """Several manifolds side by side: a point's coordinates are those of its points in each, in order.

    Args:
        parts: Pairs of a manifold and the number of its coordinates: ``Product((Lorentz(), 17),
            (Euclidean(), 16))``. Products may be parts.

    Raises:
        ArgumentError: For no parts, or what is no such pair.
    """

    __slots__ = ("parts",)
    parts: tuple[tuple[Manifold, int], ...]

    def __init__(self, *parts: tuple[Manifold, int]) -> None:
        if not parts:
            raise ArgumentError("Product: takes pairs of a manifold and a width, and there are none")
        object.__setattr__(self, "parts", tuple(_pair(each) for each in parts))

    @property
    def width(self) -> int:
        """The number of a point's coordinates."""
        return sum(width for _, width in self.parts)

    def dist(
        self, x: ArrayLike, y: ArrayLike, *, dim: int = -1, keepdim: bool = False, form: str | None = None
    ) -> Array:
        """``√(Σ d_i²)`` of the distances in the parts; see `Manifold.dist`."""
        taken = self._take("dist", dim, x, y)
        form = chosen_form("Product.dist", form)
        return self._together(
            taken, lambda manifold, *points: manifold.dist(*points, dim=taken.axis, keepdim=keepdim, form=form)
        )

    def dist0(self, x: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``√(Σ d_i²)`` of the distances in the parts."""
        taken = self._take("dist0", dim, x)
        return self._together(taken, lambda manifold, x: manifold.dist0(x, dim=taken.axis, keepdim=keepdim))

    def inner(
        self, x: ArrayLike, u: ArrayLike, v: ArrayLike | None = None, *, dim: int = -1, keepdim: bool = False
    ) -> Array:
        """``Σ ⟨u_i, v_i⟩`` of the products in the parts; v None is u."""
        taken = self._take("inner", dim, x, u, u if v is None else v)
        products = [
            manifold.inner(*vectors, dim=taken.axis, keepdim=keepdim) for manifold, vectors in self._split(taken)
        ]
        return taken.rounded(_total(products))

    def norm(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """``√(Σ |u_i|²)`` of the lengths in the parts."""
        taken = self._take("norm", dim, x, u)
        return self._together(taken, lambda manifold, x, u: manifold.norm(x, u, dim=taken.axis, keepdim=keepdim))

    def expmap(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """``exp_{x_i}(u_i)``, part by part."""
        return self._by_parts("expmap", dim, x, u)

    def logmap(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``log_{x_i}(y_i)``, part by part."""
        return self._by_parts("logmap", dim, x, y)

    def expmap0(self, u: ArrayLike, *, dim: int = -1) -> Array:
        """``exp_0(u_i)``, part by part."""
        return self._by_parts("expmap0", dim, u)

    def logmap0(self, y: ArrayLike, *, dim: int = -1) -> Array:
        """``log_0(y_i)``, part by part."""
        return self._by_parts("logmap0", dim, y)

    def projx(self, x: ArrayLike, *, dim: int = -1) -> Array:
        """The projections of ``x_i``, part by part."""
        return self._by_parts("projx", dim, x)

    def proju(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """The projections of ``u_i`` at ``x_i``, part by part."""
        return self._by_parts("proju", dim, x, u)

    def transp(self, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, dim: int = -1) -> Array:
        """``v_i`` moved from ``x_i`` to ``y_i``, part by part."""
        return self._by_parts("transp", dim, x, y, v)

    def mobius_add(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """``x_i ⊕ y_i``, part by part.

        Raises:
            ArgumentError: If a part has no such addition.
        """
        for manifold, _ in self.parts:
            if not hasattr(manifold, "mobius_add"):
                raise ArgumentError(f"Product.mobius_add: {manifold!r} has no Möbius addition")
        return self._by_parts("mobius_add", dim, x, y)

    def origin(self, *size: Any, dtype: Any = "float32") -> Array:
        """The origins of the parts."""
        *batch, _ = self._shape(size)
        return concat([manifold.origin(*batch, width, dtype=dtype) for manifold, width in self.parts], axis=-1)

    def _check_width(self, operation: str, width: int, sides: str) -> None:
        if width != self.width:
            widths = " + ".join(str(width) for _, width in self.parts)
            raise ShapeError(f"{operation}: the parts' widths {widths} = {self.width} are not that of {sides}")

    def _split(self, taken: Taken) -> Iterator[tuple[Manifold, list[Array]]]:
        """Each part with its coordinates of the operands."""
        start = 0
        for manifold, width in self.parts:
            yield manifold, [part(array, taken.axis, start, start + width) for array in taken.arrays]
            start += width

    def _together(self, taken: Taken, length: Callable[..., Array]) -> Array:
        """The root of the sum of squares of a length in each part."""
        lengths = [length(manifold, *points) for manifold, points in self._split(taken)]
        return taken.rounded(lengths[0] if len(lengths) == 1 else safe_root(_total([each * each for each in lengths])))

    def _by_parts(self, method: str, dim: int, *given: ArrayLike) -> Array:
        """A method of each part, the results side by side."""
        taken = self._take(method, dim, *given)
        results = [getattr(manifold, method)(*points, dim=taken.axis) for manifold, points in self._split(taken)]
        return taken.rounded(concat(results, axis=taken.axis))

    def _arguments(self) -> tuple[Any, ...]:
        return self.parts

    def _key(self) -> tuple[Any, ...]:
        return self.parts

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.parts))})"


def _pair(given: Any) -> tuple[Manifold, int]:
    """A manifold and its width, checked."""
    try:
        manifold, width = given
        count = int(width.__index__())
    except (AttributeError, TypeError, ValueError):
        count = 0
    if count < 1 or not isinstance(manifold, Manifold):
        raise ArgumentError(f"Product: takes pairs of a manifold and a width of 1 or more, not {given!r}")
    return manifold, count


def _total(terms: list[Array]) -> Array:
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result
