"""Gradients on manifolds: right inside, finite where points meet, at the origin and at the boundary."""

import numpy as np
import pytest

import attngraph as ag
from tests.gradient_checks import check_gradients

MANIFOLDS = {
    "ball": ag.manifold.PoincareBall(c=1.0),
    "hyperboloid": ag.manifold.Lorentz(k=1.0),
    "sphere": ag.manifold.Sphere(radius=1.0),
    "plane": ag.manifold.Euclidean(),
}
ORIGIN = {"hyperboloid": [1.0, 0, 0, 0], "sphere": [1.0, 0, 0, 0]}


def points(manifold, dtype="float64", seed=0):
    spread = np.random.default_rng(seed).standard_normal((3, 4)) * 0.3
    return np.asarray(manifold.projx(ag.asarray(spread.astype(dtype))).compute())


def tangent(manifold, at, seed=1):
    free = np.random.default_rng(seed).standard_normal(at.shape) * 0.3
    return np.asarray(manifold.proju(ag.asarray(at), ag.asarray(free.astype(at.dtype))).compute())


@pytest.mark.parametrize("name", MANIFOLDS)
@pytest.mark.parametrize("operation", ["dist", "logmap", "expmap"])
def test_as_differences_have_it(name, operation):
    manifold = MANIFOLDS[name]
    x, y = points(manifold), points(manifold, seed=5)
    # What leaves the manifold is brought back, so that differences stay on it.
    if operation == "expmap":
        u = tangent(manifold, x)
        check_gradients(lambda x, u: manifold.expmap(manifold.projx(x), manifold.proju(manifold.projx(x), u)), x, u)
    else:
        called = getattr(manifold, operation)
        check_gradients(lambda x, y: called(manifold.projx(x), manifold.projx(y)), x, y, tolerance=1e-5)


def degenerate(manifold, name, dtype):
    x = points(manifold, dtype)
    origin = np.array([ORIGIN.get(name, [0.0] * 4)], dtype)
    yield manifold.dist, x, x
    yield manifold.dist, origin, origin
    yield manifold.dist0, origin
    yield manifold.logmap, x, x
    yield manifold.logmap0, origin
    yield manifold.expmap, x, np.zeros_like(x)
    yield manifold.expmap0, np.zeros_like(origin)
    yield manifold.norm, x, np.zeros_like(x)
    if name == "ball":
        boundary = np.array([[1.0, 0, 0, 0], [0.999999, 0, 0, 0], [2.0, 0, 0, 0]], dtype)
        yield manifold.dist, boundary, boundary[::-1].copy()
        for each in (manifold.projx, manifold.logmap0, manifold.dist0):
            yield each, boundary


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MANIFOLDS)
def test_finite_where_points_meet_and_at_the_boundary(name, dtype):
    for function, *given in degenerate(MANIFOLDS[name], name, dtype):
        value, pullback = ag.vjp(function, *given)
        for gradient in pullback(np.ones(value.shape, dtype)):
            assert np.isfinite(gradient.compute()).all(), function
