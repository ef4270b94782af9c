"""Manifolds, and points and tangent vectors on them, for the tests of manifolds."""

import numpy as np
import pytest

from attngraph.manifold import Euclidean, Lorentz, Manifold, PoincareBall, Product, Sphere

SPACES = [
    Euclidean(),
    PoincareBall(),
    PoincareBall(0.3),
    Lorentz(),
    Lorentz(2.5),
    Sphere(),
    Sphere(2.0),
    Product((PoincareBall(0.5), 2), (Lorentz(), 3), (Sphere(), 3)),
]
WIDTH = 8
FORMS = ("direct", "gram")
# Methods by how many operands they take; those of the second row reduce the coordinates.
MAPS = {"expmap0": 1, "logmap0": 1, "projx": 1, "expmap": 2, "logmap": 2, "proju": 2, "transp": 3}
LENGTHS = {"dist0": 1, "dist": 2, "norm": 2, "inner": 3}

each_space = pytest.mark.parametrize("space", SPACES, ids=str)


def tangents(space: Manifold, x: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    u = space.proju(x, rng.standard_normal(x.shape).astype(x.dtype)).compute()
    return (u * (length / space.norm(x, u, keepdim=True).compute())).astype(x.dtype)


def points(space: Manifold, count: int, radius: float, rng: np.random.Generator, dtype="float64") -> np.ndarray:
    """At this distance from the origin."""
    origin = space.origin(count, WIDTH, dtype="float64").compute()
    return space.expmap(origin, tangents(space, origin, radius, rng)).compute().astype(dtype)


def directions(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    u = rng.standard_normal((count, width))
    return u / np.linalg.norm(u, axis=-1, keepdims=True)
