"""What the manifolds share: the base class, checked operands, parameters."""

import math
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..engine.config import DISTANCE_FORMS, config
from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.types import FLOAT32, FLOAT64, DType, Shape, broadcast
from .array import Array, ArrayLike, lift
from .casting import cast, promoted
from .creation import as_shape
from .function import as_taken
from .kinds import normalize_axis
from .manifold_math import Parameter
from .shape import broadcast_to


class Taken(NamedTuple):
    """Operands of one data type, float32 or wider; the axis of their coordinates, from the end; the result's type."""

    arrays: tuple[Array, ...]
    axis: int
    dtype: DType

    @property
    def shape(self) -> Shape:
        """What the operands broadcast to."""
        return broadcast("broadcast_to", *(array.shape for array in self.arrays))

    def spread(self, reduced: Array, keepdim: bool) -> Array:
        """A reduction of some of the operands in the shape that one of all of them has."""
        shape = self.shape
        place = len(shape) + self.axis
        return broadcast_to(reduced, (*shape[:place], *((1,) if keepdim else ()), *shape[place + 1 :]))

    def rounded(self, result: Array) -> Array:
        """A result in the data type that the operands came in."""
        return Array(cast(result.node, self.dtype))


class Manifold:
    """A space whose points and tangent vectors are the vectors along one axis of an array.

    Methods take anything that can become an array and give lazy arrays. The other axes broadcast:
    ``dist(x[..., :, None, :], y[..., None, :, :])`` is the distance of every pair. Integers count as
    float32. Names and meaning are geoopt's (https://geoopt.readthedocs.io).

    A manifold is frozen and compares by its parameters, so it can be a static argument of a
    compiled function.
    """

    __slots__ = ()
    # The parameters, as they stand in the constructor.
    _names: ClassVar[tuple[str, ...]] = ()
    _least_width: ClassVar[int] = 0

    def dist(
        self, x: ArrayLike, y: ArrayLike, *, dim: int = -1, keepdim: bool = False, form: str | None = None
    ) -> Array:
        """The length of the shortest way from x to y.

        Args:
            x: Points.
            y: Points.
            dim: The axis of the coordinates.
            keepdim: Keep that axis, with length 1.
            form: ``"direct"`` (from differences, exact for near points) or ``"gram"`` (through
                products of x and y); None for ``ag.config.distance_form``.

        Raises:
            ShapeError: If widths differ or the other axes do not broadcast.
            ArgumentError: For another form.
        """
        raise NotImplementedError

    def dist0(self, x: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """The distance from the origin."""
        raise NotImplementedError

    def inner(
        self, x: ArrayLike, u: ArrayLike, v: ArrayLike | None = None, *, dim: int = -1, keepdim: bool = False
    ) -> Array:
        """The product of tangent vectors u and v at x; v None is u."""
        raise NotImplementedError

    def norm(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1, keepdim: bool = False) -> Array:
        """The length of the tangent vector u at x."""
        raise NotImplementedError

    def expmap(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """The point that u leads to from x."""
        raise NotImplementedError

    def logmap(self, x: ArrayLike, y: ArrayLike, *, dim: int = -1) -> Array:
        """The tangent vector at x that leads to y."""
        raise NotImplementedError

    def expmap0(self, u: ArrayLike, *, dim: int = -1) -> Array:
        """The point that u leads to from the origin."""
        raise NotImplementedError

    def logmap0(self, y: ArrayLike, *, dim: int = -1) -> Array:
        """The tangent vector at the origin that leads to y."""
        raise NotImplementedError

    def projx(self, x: ArrayLike, *, dim: int = -1) -> Array:
        """A point of the manifold near x."""
        raise NotImplementedError

    def proju(self, x: ArrayLike, u: ArrayLike, *, dim: int = -1) -> Array:
        """The tangent vector at x nearest to u."""
        raise NotImplementedError

    def transp(self, x: ArrayLike, y: ArrayLike, v: ArrayLike, *, dim: int = -1) -> Array:
        """The tangent vector v at x, moved in parallel to y along the shortest way."""
        raise NotImplementedError

    def origin(self, *size: Any, dtype: Any = "float32") -> Array:
        """The origin, in an array of shape ``size`` whose last axis holds coordinates."""
        raise NotImplementedError

    def _take(self, method: str, dim: int, *given: ArrayLike) -> Taken:
        """The operands of a method, checked."""
        operation = f"{type(self).__name__}.{method}"
        nodes = [as_taken(node, (2,)) for node in promoted(operation, *(lift(each, operation) for each in given))]
        ndim = max(len(node.shape) for node in nodes)
        axis = normalize_axis(operation, dim, ndim) - ndim
        sides = " and ".join(str(node.type) for node in nodes)
        if any(len(node.shape) < -axis for node in nodes) or len({node.shape[axis] for node in nodes}) > 1:
            raise ShapeError(f"{operation}: widths differ along dim {dim}: {sides}")
        self._check_width(operation, nodes[0].shape[axis], sides)
        broadcast(operation, *(node.shape for node in nodes))
        dtype = nodes[0].dtype
        wide = FLOAT64 if dtype == FLOAT64 else FLOAT32
        return Taken(tuple(Array(cast(node, wide)) for node in nodes), axis, dtype)

    def _check_width(self, operation: str, width: int, sides: str) -> None:
        if width < self._least_width:
            raise ShapeError(f"{operation}: points have {self._least_width} coordinates or more, not {sides}")

    def _shape(self, size: tuple[Any, ...]) -> Shape:
        """The shape given to `origin`, as integers or as one tuple."""
        operation = f"{type(self).__name__}.origin"
        shape = as_shape(operation, size[0] if len(size) == 1 else size)
        if not shape:
            raise ShapeError(f"{operation}: a point has an axis of coordinates; the size is ()")
        self._check_width(operation, shape[-1], f"size {shape}")
        return shape

    def _arguments(self) -> tuple[Any, ...]:
        """What the constructor was given."""
        return tuple(getattr(self, name) for name in self._names)

    def _key(self) -> tuple[Any, ...]:
        """What equal manifolds share; lazy parameters are equal if they are the same node."""
        return tuple(each.node if isinstance(each, Array) else each for each in self._arguments())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifold) and type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in zip(self._names, self._arguments(), strict=True))
        return f"{type(self).__name__}({given})"

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), self._arguments()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")


def parameter(manifold: str, name: str, given: Any) -> Parameter:
    """A positive number, or a 0-d array.

    Raises:
        ArgumentError: If it is neither.
    """
    try:
        found = _as_parameter(given, manifold)
    except (DTypeError, ShapeError, OverflowError, TypeError):
        found = None
    if found is None:
        raise ArgumentError(f"{manifold}: {name} is a finite number above 0 or a 0-d array, not {given!r}")
    return found


def _as_parameter(given: Any, manifold: str) -> Parameter | None:
    """None for what is none. The value of a NumPy array is checked as it is now."""
    if isinstance(given, bool | np.bool_ | str):
        return None
    is_array = isinstance(given, np.ndarray)
    if isinstance(given, int | float | np.number) or (is_array and not given.shape):
        number = float(given)
        if not 0 < number < math.inf:
            return None
        if not is_array:
            return number
    node = as_taken(lift(given, manifold), (2,))
    return None if node.shape else Array(node)


def chosen_form(operation: str, form: str | None) -> str:
    """How distances are computed here: as asked, else as configured.

    Raises:
        ArgumentError: For an unknown form.
    """
    chosen = config.settings().distance_form if form is None else form
    if chosen not in DISTANCE_FORMS:
        raise ArgumentError(f"{operation}: form is one of {', '.join(DISTANCE_FORMS)}, not {form!r}")
    return chosen
