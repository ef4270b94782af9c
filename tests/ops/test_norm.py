import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import FLOATS, check, check_raises, data, wide
from strategies import LAYOUTS, laid_out


def layer_norm(x, axis=-1, eps=1e-5):
    centred = x - x.mean(axis, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis, keepdims=True) + eps)


def rms_norm(x, axis=-1, eps=1e-6):
    return x / np.sqrt((x**2).mean(axis, keepdims=True) + eps)


def l2_normalize(x, axis=-1, eps=1e-12):
    return x / np.maximum(np.sqrt((x**2).sum(axis, keepdims=True)), eps)


NORMS = {norm.__name__: norm for norm in (layer_norm, rms_norm, l2_normalize)}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", *FLOATS])
def test_norms_equal_their_formulas(name, dtype):
    due = dtype if dtype in FLOATS else "float32"
    for shape, axis in [((5,), -1), ((3, 4), -1), ((3, 4), 0), ((2, 3, 4), (0, -1)), ((2, 1), -1), ((0, 3), 1)]:
        x = data(shape, dtype)
        expected = NORMS[name](wide(x).astype(float), axis)
        check(getattr(ag, name)(ag.asarray(x), axis=axis), expected, dtype=due, roundings=16, scale=1)


@given(layout=st.sampled_from(LAYOUTS), name=st.sampled_from(sorted(NORMS)), eps=st.sampled_from((1e-5, 0.5, 1e-12)))
def test_layouts_and_eps(layout, name, eps):
    x = laid_out(data((3, 4)), layout)
    check(getattr(ag, name)(x, eps=eps), NORMS[name](wide(x), eps=eps), dtype="float32", roundings=16, scale=1)


def test_weight_and_bias():
    x, weight, bias = data((2, 3, 4)), data((4,), seed=1), data((4,), seed=2)
    expected = layer_norm(wide(x)) * weight + bias
    check(ag.layer_norm(x, weight, bias), expected, dtype="float32", roundings=32, scale=1)
    check(ag.layer_norm(x, bias=bias), layer_norm(wide(x)) + bias, dtype="float32", roundings=32, scale=1)
    check(ag.rms_norm(x, ag.asarray(weight)), rms_norm(wide(x)) * weight, dtype="float32", roundings=16, scale=1)
    assert ag.rms_norm(x.astype(np.float16), weight).dtype == np.float32


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("size", [1e30, float(np.finfo(np.float32).max) / 2])
def test_large_values_overflow_only_on_the_way(name, size):
    x = (data((2, 8)) / 4).clip(-1, 1) * np.float32(size)
    check(getattr(ag, name)(x), NORMS[name](wide(x)), dtype="float32", roundings=8, scale=1)


def test_small_and_zero_rows():
    zeros = np.zeros((2, 3), np.float32)
    for name in NORMS:
        check(getattr(ag, name)(zeros), zeros)
    tiny = np.float32([[3e-20, 4e-20], [3e-13, 4e-13], [3e-9, 4e-9]])
    check(ag.l2_normalize(tiny), l2_normalize(wide(tiny)), dtype="float32", roundings=8)
    check(ag.layer_norm(np.full((2, 3), 7, np.float32)), zeros)


def test_a_large_mean_does_not_swallow_the_rest():
    x = np.float32(1e5) + np.arange(8, dtype=np.float32)
    check(ag.layer_norm(x), layer_norm(wide(x)), dtype="float32", roundings=8)


def test_nan_and_infinity_stay_in_their_row():
    x = np.float32([[1, 2, np.nan], [1, 2, 3], [1, np.inf, 2]])
    for name in NORMS:
        result = getattr(ag, name)(x).compute()
        assert np.isnan(result[0]).all()
        assert np.isfinite(result[1]).all()
        assert not np.isfinite(result[2]).all()


def test_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, weight, bias = (torch.from_numpy(data(shape, seed=n)) for n, shape in enumerate(((3, 8), (8,), (8,))))
    double = [each.double() for each in (x, weight, bias)]
    for ours, theirs in [
        (ag.layer_norm(x, weight, bias), functional.layer_norm(double[0], (8,), double[1], double[2])),
        (ag.rms_norm(x, weight), functional.rms_norm(double[0], (8,), double[1], eps=1e-6)),
        (ag.l2_normalize(x), functional.normalize(double[0], dim=-1)),
        (ag.l2_normalize(x, axis=0), functional.normalize(double[0], dim=0)),
        (functional.layer_norm(ag.asarray(x), (8,), weight, bias), functional.layer_norm(double[0], (8,), *double[1:])),
    ]:
        check(ours, theirs.numpy(), dtype="float32", roundings=16, scale=1)


def test_errors():
    x = data((2, 3))
    for name in NORMS:
        check_raises(ag.ShapeError, "axis 2 of an array with 2 axes", getattr(ag, name), x, axis=2)
        check_raises(ag.DTypeError, name, getattr(ag, name), "text")
    check_raises(ag.ShapeError, "do not broadcast", ag.layer_norm, x, np.ones(2))
    check_raises(ag.ShapeError, "do not broadcast", ag.layer_norm, x, None, np.ones(2))
    check_raises(ag.ShapeError, "do not broadcast", ag.rms_norm, x, np.ones(2))
