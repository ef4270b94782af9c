"""Distances against definitions in extended precision, and what happens where formulas end."""

import ml_dtypes
import numpy as np
import pytest
from geometry import FORMS, LENGTHS, MAPS, WIDTH, directions, each_space, points, tangents

import attngraph as ag
from attngraph.manifold import Euclidean, Lorentz, PoincareBall, Sphere

LONG = np.longdouble
EPS = 2.0**-23  # of float32


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def acosh1p(z: np.ndarray) -> np.ndarray:
    return np.log1p(z + np.sqrt(z * (z + 2)))


def poincare_reference(x: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    x, y, c = x.astype(LONG), y.astype(LONG), LONG(c)
    shrunk = (1 - c * (x * x).sum(-1)) * (1 - c * (y * y).sum(-1))
    return acosh1p(2 * c * ((x - y) ** 2).sum(-1) / shrunk) / np.sqrt(c)


def lorentz_reference(x: np.ndarray, y: np.ndarray, k: float) -> np.ndarray:
    """Of the points with these space coordinates."""
    x, y, k = x[..., 1:].astype(LONG), y[..., 1:].astype(LONG), LONG(k)
    times = [np.sqrt(k + (each * each).sum(-1)) for each in (x, y)]
    apart = ((x - y) * (x + y)).sum(-1) / (times[0] + times[1])
    return np.sqrt(k) * acosh1p((((x - y) ** 2).sum(-1) - apart**2) / (2 * k))


@pytest.mark.parametrize("c", [1.0, 0.3])
@pytest.mark.parametrize("radius", [1e-3, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("apart", [1e-4, 1.0])
def test_poincare_distance(c, radius, apart, rng):
    x = (radius / np.sqrt(c) * directions(500, 16, rng)).astype("float32")
    y = (x + apart * (1 - radius) * 0.2 * rng.standard_normal(x.shape)).astype("float32")
    y *= np.float32(radius) / np.maximum(np.sqrt(c) * np.linalg.norm(y, axis=-1, keepdims=True), radius)
    ball, reference = PoincareBall(c), poincare_reference(x, y, c)
    # Some twenty roundings, each at most doubled on its way; the design's bound at 0.99 is 5e-6.
    np.testing.assert_allclose(ball.dist(x, y).compute(), reference, rtol=5e-6)
    if apart == 1.0 and radius <= 0.5:
        np.testing.assert_allclose(ball.dist(x, y, form="gram").compute(), reference, rtol=1e-4)


def test_the_gram_form_is_what_the_direct_form_is_not(rng):
    x = (0.99 * directions(500, 16, rng)).astype("float32")
    y = (x + 1e-6 * rng.standard_normal(x.shape)).astype("float32")
    reference = poincare_reference(x, y, 1.0)
    error = {form: np.abs(PoincareBall().dist(x, y, form=form).compute() - reference).max() for form in FORMS}
    assert error["direct"] < 1e-8 < 1e-3 < error["gram"]


@pytest.mark.parametrize("k", [1.0, 2.5])
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("apart", [1e-4, 1e-2, 1.0, 3.0])
def test_lorentz_distance(k, radius, apart, rng):
    space = Lorentz(k)
    x = points(space, 500, radius * np.sqrt(k), rng)
    y = space.expmap(x, tangents(space, x, apart * np.sqrt(k), rng)).compute()
    x, y = x.astype("float32"), y.astype("float32")
    reference = lorentz_reference(x, y, k)
    # As good as moving the points by a rounding of their coordinates, which are as large as cosh(r).
    bound = 2 * EPS * np.sqrt(k) * np.cosh(radius + apart)
    np.testing.assert_allclose(space.dist(x, y).compute(), reference, rtol=4 * EPS, atol=bound)
    if radius <= 1 and apart >= 1:
        np.testing.assert_allclose(space.dist(x, y, form="gram").compute(), reference, rtol=1e-4)


@pytest.mark.parametrize("radius", [1.0, 2.0])
@pytest.mark.parametrize("angle", [1e-5, 1e-2, 1.0, 3.0, np.pi - 1e-4])
def test_sphere_distance(radius, angle, rng):
    x = directions(200, 8, rng)
    u = directions(200, 8, rng)
    u -= (u * x).sum(-1, keepdims=True) * x
    y = np.cos(angle) * x + np.sin(angle) * u / np.linalg.norm(u, axis=-1, keepdims=True)
    x, y = (radius * x).astype("float32"), (radius * y).astype("float32")
    wide = x.astype(LONG), y.astype(LONG)
    difference, both = (np.sqrt((each**2).sum(-1)) for each in (wide[0] - wide[1], wide[0] + wide[1]))
    reference = 2 * radius * np.arctan2(difference, both)
    np.testing.assert_allclose(Sphere(radius).dist(x, y).compute(), reference, rtol=4 * EPS)
    if angle == 1.0:
        np.testing.assert_allclose(Sphere(radius).dist(x, y, form="gram").compute(), reference, rtol=1e-5)


def test_the_models_of_hyperbolic_space_agree(rng):
    ball, sheet = PoincareBall(0.4), Lorentz(2.5)
    p, q = (0.9 / np.sqrt(0.4) * rng.uniform(size=(50, 1)) * directions(50, 5, rng) for _ in range(2))

    def lifted(x):
        square = 0.4 * (x * x).sum(-1, keepdims=True)
        return np.concatenate([np.sqrt(2.5) * (1 + square), 2 * x], -1) / (1 - square)

    for form in FORMS:
        expected = sheet.dist(lifted(p), lifted(q), form=form).compute()
        np.testing.assert_allclose(ball.dist(p, q, form=form).compute(), expected, rtol=1e-10)


@each_space
def test_the_configured_form_is_the_default(space, rng):
    x, y = points(space, 3, 0.5, rng), points(space, 3, 0.7, rng)
    with ag.config.set(distance_form="gram"):
        gram, direct = space.dist(x, y), space.dist(x, y, form="direct")
    np.testing.assert_array_equal(gram.compute(), space.dist(x, y, form="gram").compute())
    np.testing.assert_array_equal(direct.compute(), space.dist(x, y).compute())
    np.testing.assert_allclose(gram.compute(), direct.compute(), rtol=1e-9)


@each_space
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_coincident_points(space, dtype, rng):
    x = points(space, 20, 0.8, rng, dtype)
    assert (space.dist(x, x).compute() == 0).all()
    assert (space.logmap(x, x).compute() == 0).all()
    # From products the squared distance is off by a rounding of 1, the distance by its root.
    assert np.abs(space.dist(x, x, form="gram").compute()).max() < 40 * np.sqrt(np.finfo(dtype).eps)
    v = tangents(space, x, 1.0, rng)
    np.testing.assert_allclose(space.transp(x, x, v).compute(), v, atol=8 * np.finfo(dtype).eps)
    zero = np.zeros_like(x)
    assert (space.norm(x, zero).compute() == 0).all()
    np.testing.assert_allclose(space.expmap(x, zero).compute(), x, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(space.dist0(space.origin(3, WIDTH)).compute(), 0)
    np.testing.assert_array_equal(space.expmap0(zero).compute(), space.origin(20, WIDTH, dtype=dtype).compute())


def test_points_where_formulas_end():
    edge = np.array([1, 0, 0], "float32")
    inside = np.nextafter(edge, np.float32(0))
    strange = np.stack([edge, -edge, inside, 1.5 * edge, 1e10 * edge, 1e-30 * edge, 0 * edge])
    pairs = strange[:, None], strange[None, :]
    for space in (PoincareBall(), Sphere(), Lorentz(), Euclidean()):
        for form in FORMS:
            assert np.isfinite(space.dist(*pairs, form=form).compute()).all()
        assert np.isfinite(space.transp(*pairs, edge).compute()).all()
        for method in ("expmap", "logmap"):
            assert np.isfinite(getattr(space, method)(strange[:4, None], strange[None, :4]).compute()).all()
        for method in ("dist0", "logmap0", "projx"):
            assert np.isfinite(getattr(space, method)(strange).compute()).all()
    ball = PoincareBall()
    assert (np.linalg.norm(ball.projx(strange).compute(), axis=-1) < 1).all()
    assert (np.linalg.norm(ball.mobius_add(*pairs).compute(), axis=-1) < 1).all()
    assert (np.linalg.norm(ball.expmap0(1e6 * strange).compute(), axis=-1) < 1).all()
    np.testing.assert_array_equal(ball.projx(0.5 * strange[:3]).compute(), 0.5 * strange[:3])


@each_space
def test_nan_stays_nan(space, rng):
    x = points(space, 2, 0.5, rng, "float32")
    x[0, -1] = np.nan
    for result in (space.dist(x, x[1]), space.dist(x, x[1], form="gram"), space.dist0(x)):
        np.testing.assert_array_equal(np.isnan(result.compute()), [True, False])


@each_space
def test_data_types(space, rng):
    x = points(space, 4, 0.5, rng, "float32")
    for dtype in ("float16", ml_dtypes.bfloat16, "float64"):
        narrow = x.astype(dtype)
        lazy = [getattr(space, method)(*[narrow] * count) for method, count in {**MAPS, **LENGTHS}.items()]
        for result, computed in zip(lazy, ag.compute(*lazy), strict=True):
            assert result.dtype == computed.dtype == dtype
            assert np.isfinite(computed.astype("float64")).all()
        assert space.origin(2, WIDTH, dtype=dtype).dtype == dtype
    assert space.dist(x, x.astype("float64")).dtype == np.float64
    assert space.dist0(np.ones((3, WIDTH), "int64")).dtype == np.float32
    assert isinstance(space.dist(x.tolist(), ag.asarray(x)), ag.Array)
    assert space.origin(2, WIDTH).dtype == np.float32
