"""Feature maps of linear attention: what stands in for ``exp(q·k)`` as a product of features of q and of k.

``elu(x) + 1``: Katharopoulos et al. 2020, arXiv:2006.16236. Positive orthogonal random features: Choromanski et al.
2020, "Rethinking attention with Performers", arXiv:2009.14794.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.types import DType, is_float
from ..ops.arithmetic import minimum
from ..ops.array import Array, constant, lift
from ..ops.exponential import exp
from ..ops.kinds import flag, whole
from ..ops.reduction import sum
from ..ops.registry import public
from ..ops.selection import where


class FeatureMap:
    """Features of queries and of keys, each (…, length, features) of (…, length, width).

    Attributes:
        is_exponential: Whether ``query`` and ``key`` give the logarithms of features: those can be shifted before they
            are exponentials, which then neither overflow nor vanish. Of a query they may lack a number of each row,
            for the normaliser takes it out again.
    """

    is_exponential: ClassVar[bool] = False

    @property
    def is_positive(self) -> bool:
        """Whether all features are above 0: weights that add up to 0 are then only too small for a type."""
        return self.is_exponential

    @property
    def is_of_rows(self) -> bool:
        """Whether features of a row are known to depend on that row alone, and not on its place."""
        return self.is_exponential

    def default_scale(self, width: int) -> float:
        """What scores are multiplied by, where nothing is said."""
        return 1.0

    def query(self, x: Array, root: Any) -> Array:
        """Features of queries times the scale's root, or their logarithms."""
        raise NotImplementedError

    def key(self, x: Array, root: Any) -> Array:
        """Features of keys times the scale's root, or their logarithms."""
        raise NotImplementedError


@dataclass(frozen=True)
class FunctionMap(FeatureMap):
    """A function of arrays, the same for queries and keys."""

    function: Callable[[Array], Any]
    is_own: bool = False

    @property
    def is_positive(self) -> bool:
        """Of a function of ours; of a user's nothing is known."""
        return self.is_own

    @property
    def is_of_rows(self) -> bool:
        """Of a function of ours."""
        return self.is_own

    def query(self, x: Array, root: Any) -> Array:
        """What the function makes of it."""
        return self._features(x, root)

    def key(self, x: Array, root: Any) -> Array:
        """What the function makes of it."""
        return self._features(x, root)

    def _features(self, x: Array, root: Any) -> Array:
        x = x if isinstance(root, float) and root == 1 else (x * root).astype(x.dtype)
        found = self.function(x)
        name = getattr(self.function, "__name__", str(self.function))
        if found is None:
            raise DTypeError(f"linear_attention: the feature map {name} returned None, not features")
        node = lift(found, f"linear_attention: what the feature map {name} returned")
        if not is_float(node.dtype):
            raise DTypeError(f"linear_attention: the feature map {name} returned {node.type}, not floats")
        if node.shape[:-1] != x.shape[:-1] or len(node.shape) != x.ndim:
            raise ShapeError(
                f"linear_attention: the feature map {name} made {node.type} of {x.node.type}; "
                "features are along the last axis, the others stay"
            )
        return Array(node).astype(x.dtype)


@dataclass(frozen=True)
class RandomFeatures(FeatureMap):
    """Positive random features of the softmax kernel; made by `random_features`. Called, it gives an array's features.

    Attributes:
        count: How many.
        orthogonal: Whether the projections of each block of as many as the width are orthogonal.
        norms: Lengths of the projections: ``"chi"`` as those of Gaussian vectors, ``"sqrt"`` all the width's root.
        seed: Of the projections.
    """

    is_exponential: ClassVar[bool] = True

    count: int
    orthogonal: bool = True
    norms: str = "chi"
    seed: int = 0

    def __call__(self, x: Any) -> Array:
        """``exp(w·x - |x|²/2) / sqrt(count)`` along the last axis: on average ``φ(x)·φ(y)`` is ``exp(x·y)``.

        Raises:
            DTypeError: For an array that is no float.
            ShapeError: For one without an axis.
        """
        node = lift(x, "random_features")
        if not is_float(node.dtype):
            raise DTypeError(f"random_features: features are of float arrays, not of {node.type}")
        if not node.shape:
            raise ShapeError(f"random_features: {node.type} has no axis of features")
        return exp(self.key(Array(node), 1.0)) * (1 / math.sqrt(self.count))

    def default_scale(self, width: int) -> float:
        """The softmax kernel's: ``1/sqrt(width)``."""
        return 1 / math.sqrt(width) if width else 1.0

    def query(self, x: Array, root: Any) -> Array:
        """``w·x``: ``|x|²/2`` is a number of each row."""
        projection: Array = (_projection(self, x.shape[-1], x.dtype) * root).astype(x.dtype)
        return x @ projection.mT

    def key(self, x: Array, root: Any) -> Array:
        """``w·x - |x|²/2``."""
        norms: Array = (sum(x * x, axis=-1, keepdims=True) * (root * root * 0.5)).astype(x.dtype)
        return self.query(x, root) - norms

    def projection(self, width: int) -> np.ndarray[Any, Any]:
        """The projections, (count, width) in float64; the same for the same seed."""
        rng = np.random.default_rng(self.seed)
        if not self.orthogonal or not width:
            rows = rng.standard_normal((self.count, width))
            if self.norms == "sqrt":
                lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
                rows = rows * (math.sqrt(width) / np.where(lengths == 0, 1.0, lengths))
            return rows
        blocks = [_orthogonal(rng, width) for _ in range(0, self.count, width)]
        directions = np.concatenate(blocks)[: self.count]
        if self.norms == "sqrt":
            return np.asarray(directions * math.sqrt(width))
        lengths = np.linalg.norm(rng.standard_normal((self.count, width)), axis=-1, keepdims=True)
        return np.asarray(directions * lengths)


def _orthogonal(rng: "np.random.Generator", width: int) -> np.ndarray[Any, Any]:
    """A rotation or reflection, every one as likely as any other: the signs make QR's factors unique."""
    q, r = np.linalg.qr(rng.standard_normal((width, width)))
    return np.asarray((q * np.sign(np.diagonal(r))).T)


@functools.lru_cache(maxsize=64)
def _projection(features: RandomFeatures, width: int, dtype: DType) -> Array:
    return constant(features.projection(width).astype(dtype))


@public()
def random_features(count: int, *, orthogonal: bool = True, norms: str = "chi", seed: int = 0) -> RandomFeatures:
    """Positive random features of the softmax kernel, for `linear_attention` (Performer, arXiv:2009.14794).

    ``φ(x) = exp(w·x - |x|²/2) / sqrt(count)``: then ``φ(q)·φ(k)`` is ``exp(q·k)`` on average over seeds, and positive.
    Its variance falls with ``count`` and, for orthogonal projections, faster.

    Args:
        count: How many features; one to two times the width is usual.
        orthogonal: Whether projections are orthogonal in blocks of as many as the width.
        norms: ``"chi"``: lengths of projections as Gaussian vectors have them (without bias); ``"sqrt"``: all the
            square root of the width (a smaller variance, and a bias).
        seed: Of the projections: the same for the same seed.

    Raises:
        ArgumentError: For fewer than one feature, a negative seed, or other ``norms``.
    """
    number, start = whole("random_features", "count", count), whole("random_features", "seed", seed)
    if number < 1:
        raise ArgumentError(f"random_features: count is one or more, not {count!r}")
    if start < 0:
        raise ArgumentError(f"random_features: seed is not negative: {seed!r}")
    if str(norms) not in ("chi", "sqrt"):
        raise ArgumentError(f'random_features: norms are "chi" or "sqrt", not {norms!r}')
    return RandomFeatures(number, flag("random_features", "orthogonal", orthogonal), norms, start)


def elu_plus_one(x: Array) -> Array:
    """``elu(x) + 1``, which is positive: ``exp(x)`` below 0, in all its digits, ``x + 1`` from there on."""
    return where(x >= 0, x + 1, exp(minimum(x, 0)))


_NAMED = {"elu+1": FunctionMap(elu_plus_one, is_own=True)}


def feature_map_of(given: Any) -> FeatureMap:
    """The map of a name, a function of arrays, or random features.

    Raises:
        ArgumentError: For anything else.
    """
    if isinstance(given, FeatureMap):
        return given
    if isinstance(given, str) and given in _NAMED:
        return _NAMED[given]
    if callable(given) and not isinstance(given, type):
        return FunctionMap(given)
    names = ", ".join(f'"{name}"' for name in _NAMED)
    raise ArgumentError(
        f"linear_attention: feature_map is {names}, ag.random_features(...) or a function of arrays, not {given!r}"
    )
