"""Random features: their kernel is the softmax's on average, their projections are orthogonal, the seed says which."""

import pickle

import numpy as np
import pytest

import attngraph as ag
from checks import check_raises


def vectors(count=12, width=8, seed=0):
    return 0.5 * np.random.default_rng(seed).standard_normal((2, count, width))


@pytest.mark.parametrize("orthogonal", [True, False])
def test_the_estimate_has_no_bias(orthogonal):
    """The mean over seeds is off by no more than five times its own standard error."""
    x, y = vectors()
    estimates = []
    for seed in range(200):
        features = ag.random_features(16, orthogonal=orthogonal, seed=seed)
        one, other = ag.compute(features(x), features(y))
        estimates.append((one * other).sum(-1))
    mean, error = np.mean(estimates, axis=0), np.std(estimates, axis=0) / np.sqrt(200)
    assert (np.abs(mean - np.exp((x * y).sum(-1))) < 5 * error).all()


def test_orthogonal_projections_vary_less():
    x, y = vectors(100)

    def spread(**options):
        maps = [ag.random_features(8, seed=seed, **options) for seed in range(60)]
        found = [ag.compute(each(x), each(y)) for each in maps]
        return np.mean(np.std([(one * other).sum(-1) for one, other in found], axis=0))

    independent = spread(orthogonal=False)
    assert spread() < 0.97 * independent
    assert spread(norms="sqrt") < 0.97 * independent


@pytest.mark.parametrize(("count", "width"), [(1, 1), (3, 8), (8, 8), (20, 8), (5, 1)])
def test_projections(count, width):
    blocks = range(0, count, width)
    for norms in ("chi", "sqrt"):
        rows = ag.random_features(count, norms=norms, seed=4).projection(width)
        assert rows.shape == (count, width)
        for start in blocks:
            block = rows[start : start + width]
            products = block @ block.T
            np.testing.assert_allclose(products, np.diag(np.diagonal(products)), atol=1e-12 * width)
        if norms == "sqrt":
            np.testing.assert_allclose((rows * rows).sum(-1), width)
    independent = ag.random_features(count, orthogonal=False, norms="sqrt").projection(width)
    np.testing.assert_allclose((independent * independent).sum(-1), width)


def test_lengths_are_those_of_gaussian_vectors():
    lengths = np.concatenate([(ag.random_features(64, seed=s).projection(16) ** 2).sum(-1) for s in range(50)])
    assert lengths.mean() == pytest.approx(16, abs=5 * np.sqrt(2 * 16 / len(lengths)))
    assert lengths.var() == pytest.approx(32, rel=0.15)


def test_the_seed_says_which():
    first, same, other = (ag.random_features(8, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert hash(first) == hash(same)
    assert pickle.loads(pickle.dumps(first)) == first
    np.testing.assert_array_equal(first.projection(4), same.projection(4))
    assert (first.projection(4) != other.projection(4)).any()


def test_no_width():
    features = ag.random_features(3)
    assert features.projection(0).shape == (3, 0)
    np.testing.assert_allclose(features(np.zeros((2, 0), "float32")).compute(), 3**-0.5, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_features_have_the_type_of_what_they_are_of(dtype):
    x = vectors()[0].astype(dtype)
    features = ag.random_features(5, seed=1)
    found = features(x)
    assert found.dtype == dtype
    projection = features.projection(8)
    wanted = np.exp(x @ projection.T - (x.astype(float) ** 2).sum(-1, keepdims=True) / 2) / np.sqrt(5)
    np.testing.assert_allclose(found.compute(), wanted, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_elu_plus_one_keeps_its_digits():
    """``expm1(x) + 1`` would have none left at -20."""
    q = np.full((1, 1, 1), -20.0, "float32")
    _, state = ag.linear_attention(q, q, np.ones_like(q), return_state=True)
    np.testing.assert_allclose(state.normalizer.compute(), np.exp(-20.0), rtol=1e-6)


def test_more_features_are_nearer():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 2, 200, 16), dtype="float32") for _ in range(3))
    q, k = 0.7 * q, 0.7 * k
    errors = []
    for count in (16, 64, 256, 1024):
        found = [
            ag.attention_error(
                ag.linear_attention(q, k, v, ag.random_features(count, seed=seed), causal), q, k, v, is_causal=causal
            )
            for seed in range(4)
            for causal in (False, True)
        ]
        errors.append(np.mean([each.relative for each in found]))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_errors():
    for count in (0, -3):
        check_raises(ag.ArgumentError, "count is one or more", ag.random_features, count)
    check_raises(ag.ArgumentError, "count is an integer", ag.random_features, 2.5)
    check_raises(ag.ArgumentError, "seed is not negative", ag.random_features, 2, seed=-1)
    check_raises(ag.ArgumentError, "seed is an integer", ag.random_features, 2, seed=None)
    check_raises(ag.ArgumentError, 'norms are "chi" or "sqrt"', ag.random_features, 2, norms="unit")
    check_raises(ag.ArgumentError, "orthogonal is True or False", ag.random_features, 2, orthogonal=1)
    check_raises(ag.DTypeError, "of float arrays", ag.random_features(2), np.ones((2, 2), int))
    check_raises(ag.ShapeError, "no axis of features", ag.random_features(2), 1.0)
