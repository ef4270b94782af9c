"""What overflows inside a sweep and comes back into range is not trusted, whatever hides it."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.config import config
from attngraph.engine.magnitudes import largest
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

N, WIDTH = 40, 16


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def points(size=1.0):
    rng = np.random.default_rng(0)
    return [ag.asarray(rng.standard_normal((N, WIDTH)).astype("float32") * np.float32(size)) for _ in range(2)]


def scores_that_hide(x, y, w):
    squares = ((x[:, None] - y[None]) ** 2).sum(-1)
    products = x @ y.mT
    return {
        "rsqrt": ag.rsqrt(squares),
        "divisor": products / (1 + w**2),
        "tanh": ag.tanh(products / 20),
        "sigmoid": ag.sigmoid(products),
        "clip": ag.clip(products, -3, 3),
        "comparison": ag.where(products > squares, 1.0, 0.0),
    }


NAMES = sorted(scores_that_hide(*points(), 1.0))


def run(expression):
    made = Program(optimize([expression.node]))
    assert len(made.plan.sweeps) == 1, made.plan.not_fused
    return made.run({}, config.settings(), check_finite=False)


@pytest.mark.parametrize("name", NAMES)
def test_ordinary_values_are_trusted(name):
    x, y = points()
    assert run(ag.softmax(scores_that_hide(x, y, ag.asarray(np.ones((1, N), "float32")))[name], -1) @ y) is not None


@pytest.mark.parametrize("name", NAMES)
def test_huge_values_are_computed_again(name):
    x, y = points(1e20)
    weights = ag.asarray(np.full((1, N), 1e20, "float32"))
    out = ag.softmax(scores_that_hide(x, y, weights)[name], -1) @ ag.asarray(np.ones((N, 4), "float32"))
    with ag.config.set(target="reference64"):
        truth = out.compute()
    np.testing.assert_allclose(run(out)[0], truth, rtol=1e-5)
    np.testing.assert_allclose(out.compute(), truth, rtol=1e-5)
    np.testing.assert_allclose(ag.compile(lambda: out)(), truth, rtol=1e-5)


def test_plain_scores_are_not_looked_at():
    x, y = points()
    made = Program(optimize([(ag.softmax(x @ y.mT, -1) @ y).node]))
    (kernel,) = made.kernels.values()
    assert not kernel.magnitudes.are_watched


@pytest.mark.parametrize("name", ["clip", "sigmoid", "tanh"])
def test_inputs_are_not_looked_at_for_what_is_bounded_of_a_product(name):
    x, y = points()
    scores = scores_that_hide(x, y, ag.asarray(np.ones((1, N), "float32")))[name]
    made = Program(optimize([(ag.softmax(scores, -1) @ y).node]))
    (kernel,) = made.kernels.values()
    assert not kernel.magnitudes.are_watched


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_largest_of_what_is_finite(bad):
    array = np.array([[1, -7, bad], [2, 3, 4]], "float32")
    assert largest(array) == 7
    assert largest(array[:, ::-1]) == 7
    assert largest(array[:0]) == 0
    assert largest(np.full(3, bad)) == 0
