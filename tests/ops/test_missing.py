"""Functions that pass over NaN, against NumPy's."""

import warnings

import numpy as np
import pytest

import attngraph as ag
from checks import data

X = data((4, 3, 5))
X[0, 0, 0] = X[1, :, 2] = X[3, 1] = np.nan
NAMES = "nansum nanprod nanmax nanmin nanmean nanvar nanstd"


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("target", ["native", "reference"])
def test_as_numpy(name, axis, keepdims, target):
    function = getattr(np, name)
    for x in (X, X.astype("float64"), np.arange(60).reshape(4, 3, 5) % 2 + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = np.asarray(function(x.astype("float64"), axis=axis, keepdims=keepdims))
        lazy = function(ag.asarray(x), axis=axis, keepdims=keepdims)
        assert isinstance(lazy, ag.Array)
        with ag.config.set(target=target):
            np.testing.assert_allclose(lazy.compute(), wanted, rtol=1e-5, atol=1e-5)


def test_degrees_of_freedom():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = np.nanstd(X, axis=1, ddof=2)
    np.testing.assert_allclose(np.nanstd(ag.asarray(X), axis=1, ddof=2).compute(), wanted, rtol=1e-5)


def test_places_and_sums_so_far():
    x = X[:3, :, :2]
    for name in ("nanargmax", "nanargmin"):
        np.testing.assert_array_equal(getattr(np, name)(ag.asarray(x), axis=1).compute(), getattr(np, name)(x, axis=1))
    for axis in (None, 0, -1):
        np.testing.assert_allclose(
            np.nancumsum(ag.asarray(X), axis=axis).compute(), np.nancumsum(X, axis=axis), rtol=1e-5, atol=1e-6
        )


def test_gradients_pass_over_it_too():
    lazy = ag.asarray(X)
    (gradient,) = ag.gradients(ag.sum(np.nanmean(lazy, axis=1) ** 2 * np.float32(0.5)), [lazy])
    assert gradient.shape == X.shape
