"""Manifolds against the axioms of geometry."""

import hypothesis.strategies as st
import numpy as np
import pytest
from geometry import FORMS, LENGTHS, MAPS, WIDTH, directions, each_space, points, tangents
from hypothesis import given

import attngraph as ag
from attngraph.engine.ir import walk
from attngraph.manifold import Euclidean, Lorentz, PoincareBall, Product, Sphere


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@each_space
@pytest.mark.parametrize("length", [1e-3, 0.5, 2.0])
def test_the_logarithm_undoes_the_exponential(space, length, rng):
    for dtype, tolerance in (("float32", 3e-3), ("float64", 1e-11)):
        x = points(space, 50, 1.0, rng, dtype)
        u = tangents(space, x, length, rng)
        y = space.expmap(x, u).compute()
        # Near points know their difference only to a rounding of their coordinates.
        allowed = tolerance * max(length, 1e-3 / length)
        np.testing.assert_allclose(space.logmap(x, y).compute(), u, atol=allowed * length)
        np.testing.assert_allclose(space.dist(x, y).compute(), length, rtol=allowed)
        np.testing.assert_allclose(space.norm(x, space.logmap(x, y)).compute(), length, rtol=allowed)
        np.testing.assert_allclose(space.projx(y).compute(), y, rtol=1e-5, atol=1e-6)


@each_space
def test_maps_from_the_origin(space, rng):
    origin = space.origin(50, WIDTH, dtype="float64").compute()
    u = tangents(space, origin, 1.5, rng)
    y = space.expmap0(u).compute()
    np.testing.assert_allclose(y, space.expmap(origin, u).compute(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(space.logmap0(y).compute(), u, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(space.logmap0(y).compute(), space.logmap(origin, y).compute(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(space.dist0(y).compute(), space.dist(origin, y).compute(), rtol=1e-12)


@each_space
def test_transport_keeps_lengths_and_angles(space, rng):
    x, y = points(space, 50, 1.0, rng), points(space, 50, 1.3, rng)
    u, v = tangents(space, x, 1.0, rng), tangents(space, x, 2.0, rng)
    moved = [space.transp(x, y, each).compute() for each in (u, v)]
    np.testing.assert_allclose(space.inner(y, *moved).compute(), space.inner(x, u, v).compute(), atol=1e-12)
    np.testing.assert_allclose(space.norm(y, moved[0]).compute(), space.norm(x, u).compute(), rtol=1e-12)
    np.testing.assert_allclose(space.proju(y, moved[0]).compute(), moved[0], atol=1e-12)
    # A geodesic's own direction stays its direction.
    forth, back = space.logmap(x, y).compute(), space.logmap(y, x).compute()
    np.testing.assert_allclose(space.transp(x, y, forth).compute(), -back, atol=1e-11)
    np.testing.assert_allclose(space.inner(x, u).compute(), space.inner(x, u, u).compute(), rtol=1e-14)


def test_mobius_addition_is_ungars(rng):
    c = 0.7
    x, y, v = (rng.uniform(size=(50, 1)) * directions(50, 4, rng) for _ in range(3))
    product, square_x, square_y = ((a * b).sum(-1, keepdims=True) for a, b in ((x, y), (x, x), (y, y)))
    above = (1 + 2 * c * product + c * square_y) * x + (1 - c * square_x) * y
    ball = PoincareBall(c)

    def add(a, b):
        return ball.mobius_add(a, b).compute()

    np.testing.assert_allclose(add(x, y), above / (1 + 2 * c * product + c**2 * square_x * square_y), rtol=1e-11)
    np.testing.assert_allclose(add(-x, add(x, y)), y, rtol=1e-9, atol=1e-12)
    gyration = add(-add(y, -x), add(y, add(-x, v)))
    scale = (1 - c * square_y) / (1 - c * square_x)
    np.testing.assert_allclose(ball.transp(x, y, v).compute(), gyration * scale, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(Euclidean().mobius_add(x, y).compute(), x + y)
    np.testing.assert_allclose(PoincareBall(1e-14).mobius_add(x, y).compute(), x + y, rtol=1e-12, atol=1e-13)


coordinates = st.lists(st.floats(-1.25, 1.25, width=32), min_size=9, max_size=9)


@given(coordinates, st.sampled_from([Euclidean(), PoincareBall(), Lorentz(0.5), Sphere(0.8)]), st.sampled_from(FORMS))
def test_distances_are_distances(numbers, space, form):
    u = np.array(numbers).reshape(3, 3)
    if not isinstance(space, Euclidean | PoincareBall):
        u = np.concatenate([np.zeros((3, 1)), u], -1)
    x = space.expmap0(u).compute()
    d = space.dist(x[:, None], x[None, :], form=form).compute()
    # In float64; from products, near points are known to the root of a rounding.
    slack = 1e-6 if form == "gram" else 1e-12
    np.testing.assert_allclose(d, d.T, rtol=1e-13, atol=slack)
    assert (np.abs(np.diag(d)) <= (slack if form == "gram" else 0)).all()
    assert d[0, 2] <= d[0, 1] + d[1, 2] + slack
    assert ((d > 0) | (np.abs(x[:, None] - x[None, :]).max(-1) < 1e-7)).all()


@each_space
@pytest.mark.parametrize("method", [*MAPS, *LENGTHS])
def test_coordinates_along_another_axis(space, method, rng):
    dim = 0 if method in MAPS else -2
    count = {**MAPS, **LENGTHS}[method]
    given = [points(space, 6, 0.5, rng).reshape(2, 3, WIDTH) for _ in range(count)]
    expected = getattr(space, method)(*given).compute()
    moved = [np.moveaxis(each, -1, dim) for each in given]
    result = getattr(space, method)(*moved, dim=dim).compute()
    if method in LENGTHS:
        np.testing.assert_allclose(result, expected, rtol=1e-13)
        kept = getattr(space, method)(*moved, dim=dim, keepdim=True)
        assert kept.shape == np.expand_dims(expected, dim).shape
        np.testing.assert_array_equal(kept.compute().reshape(expected.shape), result)
    else:
        np.testing.assert_allclose(np.moveaxis(result, dim, -1), expected, rtol=1e-13, atol=1e-15)


@each_space
@pytest.mark.parametrize("method", [*MAPS, *LENGTHS])
def test_other_axes_broadcast(space, method, rng):
    count = {**MAPS, **LENGTHS}[method]
    given = [points(space, 3, 0.5, rng)[:, None], points(space, 4, 0.5, rng), points(space, 1, 0.5, rng)[0]][:count]
    full = np.broadcast_arrays(*given)
    result = getattr(space, method)(*given)
    assert result.shape == (full[0].shape[:-1] if method in LENGTHS else full[0].shape)
    np.testing.assert_allclose(result.compute(), getattr(space, method)(*full).compute(), rtol=1e-13, atol=1e-15)


@each_space
def test_graphs_do_not_grow_with_the_data(space):
    sizes = [len(walk([space.dist(ag.zeros((n, 1, WIDTH)), ag.zeros((n, WIDTH))).node])) for n in (3, 3000)]
    assert sizes[0] == sizes[1] < 200


@each_space
def test_optimized_graphs_mean_the_same(space, rng):
    x, y = points(space, 6, 1.0, rng)[:, None], points(space, 5, 0.5, rng)
    lazy = [space.dist(x, y), space.logmap(x, y), space.transp(x, y, y), space.expmap(x, y)]
    optimized = ag.compute(*lazy)
    with ag.config.set(target="reference"):
        for one, other in zip(optimized, ag.compute(*lazy), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [PoincareBall, Lorentz, Sphere])
def test_learned_curvature(kind, rng):
    number = kind(0.6)
    x, y = points(number, 4, 0.5, rng, "float32"), points(number, 4, 0.7, rng, "float32")

    @ag.compile
    def run(c, x, y):
        space = kind(c)
        u = space.logmap(x, y)
        return space.dist(x, y), space.expmap(x, u), space.transp(x, y, u), space.dist0(x), space.origin(4, WIDTH)

    turned = number.transp(x, y, number.logmap(x, y))
    expected = ag.compute(number.dist(x, y), y, turned, number.dist0(x), number.origin(4, WIDTH))
    for c in (0.6, np.float32(0.6), np.array(0.6), np.array(0.6, "float32")):
        results = run(c, x, y)
        assert all(result.dtype == np.float32 for result in results)
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)
    held = np.array(0.6, "float32")
    lazy = kind(held).dist(x, y)
    np.testing.assert_allclose(lazy.compute(), expected[0], rtol=1e-5)
    held[...] = 0.3
    np.testing.assert_array_equal(lazy.compute(), kind(held).dist(x, y).compute())


def test_products(rng):
    parts = (PoincareBall(0.5), 2), (Lorentz(), 3), (Sphere(), 3)
    space = Product(*parts)
    x, y, v = points(space, 5, 0.5, rng), points(space, 5, 0.9, rng), rng.standard_normal((5, WIDTH))
    assert space.width == WIDTH
    edges = [0, 2, 5, 8]
    each = [(manifold, *(a[:, edges[n] : edges[n + 1]] for a in (x, y, v))) for n, (manifold, _) in enumerate(parts)]
    squares = sum(manifold.dist(x, y).compute() ** 2 for manifold, x, y, _ in each)
    np.testing.assert_allclose(space.dist(x, y).compute(), np.sqrt(squares), rtol=1e-13)
    inner = sum(manifold.inner(x, v, y).compute() for manifold, x, y, v in each)
    np.testing.assert_allclose(space.inner(x, v, y).compute(), inner, rtol=1e-13)
    moved = np.concatenate([manifold.transp(x, y, v).compute() for manifold, x, y, v in each], -1)
    np.testing.assert_array_equal(space.transp(x, y, v).compute(), moved)
    np.testing.assert_array_equal(space.origin(WIDTH).compute(), [0, 0, 1, 0, 0, 1, 0, 0])
    nested = Product((Product(*parts[:2]), 5), parts[2])
    np.testing.assert_allclose(nested.dist(x, y).compute(), space.dist(x, y).compute(), rtol=1e-13)
    flat = Product((PoincareBall(), 2), (Euclidean(), 3))
    a, b = rng.uniform(-0.5, 0.5, (2, 5))
    np.testing.assert_allclose(flat.mobius_add(a, b).compute()[2:], (a + b)[2:])
