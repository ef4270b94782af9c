"""The error of an approximation: of nothing, of known differences, over chosen rows."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.attention import approximation
from checks import check_raises
from dense import attention as dense
from dense import causal_mask


def arrays(rows=20, columns=30, heads=(4, 2), seed=0):
    rng = np.random.default_rng(seed)
    shapes = (heads[0], rows, 8), (heads[1], columns, 8), (heads[1], columns, 5)
    return [rng.standard_normal((2, *shape)).astype("float32") for shape in shapes]


@pytest.mark.parametrize("causal", [False, True, "lower_right"])
@pytest.mark.parametrize("rows", [None, 1, 7, 500])
def test_against_known_differences(causal, rows, monkeypatch):
    monkeypatch.setattr(approximation, "_SCORES", 2000)  # several pieces
    q, k, v = arrays()
    visible = True if causal is False else causal_mask(20, 30, 10 if causal == "lower_right" else 0)
    exact = dense(q, k, v, visible=visible, scale=0.3)[0]
    off = 0.01 * np.random.default_rng(1).standard_normal(exact.shape)
    report = ag.attention_error(exact + off, q, k, v, is_causal=causal, scale=0.3, enable_gqa=True, rows=rows)
    chosen = np.unique(np.linspace(0, 19, min(rows or 20, 20)).round().astype(int))
    off, exact = off[..., chosen, :], exact[..., chosen, :]
    assert report.rows == len(chosen)
    assert report.relative == pytest.approx(np.linalg.norm(off) / np.linalg.norm(exact), rel=1e-9)
    assert report.largest == pytest.approx(np.abs(off).max(), rel=1e-9)
    wanted = np.linalg.norm(off, axis=(-2, -1)) / np.linalg.norm(exact, axis=(-2, -1))
    assert report.per_head.shape == (2, 4)
    np.testing.assert_allclose(report.per_head, wanted, rtol=1e-9)


def test_exact_attention_is_off_by_roundings():
    q, k, v = arrays(heads=(2, 2))
    report = ag.attention_error(ag.attention(q, k, v, is_causal=True), q, k, v, is_causal=True)
    assert 0 < report.relative < 1e-6


def test_a_lazy_array_and_half_floats():
    q, k, v = (each.astype("float16") for each in arrays(heads=(2, 2)))
    assert ag.attention_error(ag.attention(q, k, v), q, k, v).relative < 1e-3


def test_nothing():
    q, k, v = arrays(heads=(2, 2))
    empty = ag.attention_error(np.zeros((2, 2, 20, 5)), q, k[..., :0, :], v[..., :0, :])
    assert (empty.relative, empty.largest, empty.rows) == (0, 0, 20)
    off = ag.attention_error(np.ones((2, 2, 20, 5)), q, k[..., :0, :], v[..., :0, :])
    assert off.relative == np.inf
    no_rows = ag.attention_error(np.zeros((2, 2, 0, 5)), q[..., :0, :], k, v)
    assert (no_rows.relative, no_rows.rows) == (0, 0)
    flat = ag.attention_error(np.zeros((20, 5)), q[0, 0], k[0, 0], v[0, 0])
    assert flat.per_head.shape == ()


def test_errors():
    q, k, v = arrays(heads=(2, 2))
    out = np.zeros((2, 2, 20, 5))
    check_raises(ag.ShapeError, "not the shape of attention's result", ag.attention_error, out[0], q, k, v)
    check_raises(ag.DTypeError, "approximate is a float array", ag.attention_error, out.astype(int), q, k, v)
    check_raises(ag.ArgumentError, "rows is one or more", ag.attention_error, out, q, k, v, rows=0)
    check_raises(ag.ArgumentError, "rows is an integer", ag.attention_error, out, q, k, v, rows=0.5)
    check_raises(ag.ArgumentError, "is_causal is True", ag.attention_error, out, q, k, v, is_causal="left")
    check_raises(ag.ArgumentError, "scale is a number", ag.attention_error, out, q, k, v, scale=np.ones(2))
    check_raises(ag.ShapeError, "differ in width", ag.attention_error, out, q, k[..., :2], v)
    q[0, 0, 0, 0] = np.nan
    check_raises(ag.NonFiniteError, "query", ag.attention_error, out, q, k, v)
