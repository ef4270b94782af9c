"""Manifolds: distances, maps and transports as lazy expressions. Names and meaning: geoopt's.

Each is a composition of element-wise functions and sums, so a distance inside an attention fuses like
any other score. Distances are computed from differences unless the form ``gram`` is asked for.
"""

from .manifold_base import Manifold
from .manifold_euclidean import Euclidean
from .manifold_lorentz import Lorentz
from .manifold_poincare import PoincareBall
from .manifold_product import Product
from .manifold_sphere import Sphere

__all__ = ["Euclidean", "Lorentz", "Manifold", "PoincareBall", "Product", "Sphere"]
