"""Manifolds as values: parameters, errors, pickling."""

import pickle

import numpy as np
import pytest
from geometry import SPACES, WIDTH, each_space

import attngraph as ag
import attngraph.manifold
from attngraph.manifold import Euclidean, Lorentz, PoincareBall, Product, Sphere


def test_it_is_importable_by_its_public_name():
    assert attngraph.manifold is ag.manifold
    assert ag.manifold.PoincareBall is PoincareBall


def test_lorentz_norm_takes_geoopts_arguments_too():
    u = np.array([[1.0, 2.0, 2.0]])
    np.testing.assert_allclose(Lorentz().norm(u).compute(), np.sqrt(7))
    np.testing.assert_allclose(Lorentz().norm(u, u).compute(), np.sqrt(7))


@pytest.mark.parametrize(
    "wrong", [0, -1.0, np.nan, np.inf, True, "1", None, [1.0], np.ones(3), np.array(-1.0), 10**400]
)
def test_wrong_parameters(wrong):
    for kind, name in ((PoincareBall, "c"), (Lorentz, "k"), (Sphere, "radius")):
        with pytest.raises(ag.ArgumentError, match=f"{kind.__name__}: {name} "):
            kind(wrong)


@each_space
def test_wrong_operands(space):
    x = np.zeros((3, WIDTH), "float32")
    name = type(space).__name__
    with pytest.raises(ag.ShapeError, match=rf"{name}.dist: widths differ .*\[3, 8\] and float32\[3, 7\]"):
        space.dist(x, x[:, :7])
    with pytest.raises(ag.ShapeError, match=rf"{name}.transp: shapes \(3, 8\) and \(2, 8\) do not broadcast"):
        space.transp(x, x, x[:2])
    with pytest.raises(ag.ShapeError, match=rf"{name}.expmap: axis 2 of an array with 2 axes"):
        space.expmap(x, x, dim=2)
    with pytest.raises(ag.ShapeError, match="widths differ"):
        space.dist(x, 1.0)
    with pytest.raises(ag.ArgumentError, match=f"{name}.dist: form is one of direct, gram, not 'exact'"):
        space.dist(x, x, form="exact")
    with pytest.raises(ag.DTypeError, match=f"{name}.dist0"):
        space.dist0(object())
    with pytest.raises(ag.ShapeError, match=f"{name}.origin"):
        space.origin()


def test_wrong_widths_and_parts():
    space = Product((Lorentz(), 3), (Euclidean(), 2))
    with pytest.raises(ag.ShapeError, match=r"Product.dist: the parts' widths 3 \+ 2 = 5 are not that of float32\[4\]"):
        space.dist(np.zeros(4, "float32"), np.zeros(4, "float32"))
    with pytest.raises(ag.ShapeError, match=r"Product\.origin"):
        space.origin(2, 4)
    with pytest.raises(ag.ShapeError, match=r"Lorentz\.projx: points have 2 coordinates or more"):
        Lorentz().projx(np.zeros((4, 1)))
    with pytest.raises(ag.ArgumentError, match=r"Lorentz\(k=1.0\) has no Möbius addition"):
        space.mobius_add(np.zeros(5), np.zeros(5))
    for wrong in ((), (Lorentz(),), ((Lorentz(), 0),), ((Lorentz, 3),), ((Lorentz(), "3"),)):
        with pytest.raises(ag.ArgumentError, match="Product: takes pairs"):
            Product(*wrong)


@each_space
def test_manifolds_are_values(space):
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space
    assert hash(copy) == hash(space)
    assert eval(repr(space)) == space
    assert sum(space == other for other in SPACES) == 1
    with pytest.raises(AttributeError, match="frozen"):
        space.c = 2.0


def test_equal_manifolds_share_a_trace():
    run = ag.compile(lambda space, x: space.dist0(x))
    x = np.full((2, 3), 0.1)
    np.testing.assert_array_equal(run(PoincareBall(2), x), run(PoincareBall(2.0), x))
    assert run.cache_info().misses == 1
    assert not np.array_equal(run(PoincareBall(1.0), x), run(PoincareBall(2.0), x))
    c = ag.asarray(np.array(2.0))
    assert PoincareBall(c) == PoincareBall(c) != PoincareBall(2.0)
    revived = pickle.loads(pickle.dumps(PoincareBall(c)))
    np.testing.assert_array_equal(revived.dist0(x).compute(), PoincareBall(c).dist0(x).compute())
