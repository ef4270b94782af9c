"""What rows bring into a contraction, computed on the way: by vectors where elements are neighbours, or one by one."""

import numpy as np
import pytest
from cut import on_target, runs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import program
from strategies import LAYOUTS, laid_out

# What a row's element is made of: the array, a number of each row, one of each place along the contracted axis.
BROUGHT = {
    "load": lambda q, row, along: q,
    "times a number": lambda q, row, along: q * 0.25,
    "exponential": lambda q, row, along: ag.exp(q - row),
    "along": lambda q, row, along: ag.exp(q + along - row) * 0.5,
    "normalised": lambda q, row, along: (q - row) / (1 + ag.abs(along)),
    "of two loads": lambda q, row, along: ag.tanh(q) * q + along,
    "of its place": lambda q, row, along: q * ag.cos(ag.arange(q.shape[-1]) * 0.1),
    "chosen": lambda q, row, along: ag.where(q > row, q, along),
    "turned": lambda q, row, along: q * along - ag.flip(q, axis=-1) * row,
}
TARGETS = ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4", "scalar"]
# A sum of some 60 products of numbers around 1, of functions that keep 7 digits.
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def expression(name, q, row, along, k, v, causal):
    rows, columns = q.shape[-2], k.shape[-2]
    brought = BROUGHT[name](*map(ag.asarray, (q, row, along)))
    weights = brought @ ag.asarray(k).mT
    if causal:
        weights = ag.where(ag.arange(rows)[:, None] >= ag.arange(columns), weights, 0.0)
    return weights @ v


@pytest.mark.parametrize("name", BROUGHT)
@given(
    rows=st.sampled_from([9, 16, 17, 63, 64, 65, 130]),
    columns=st.sampled_from([16, 17, 33, 64]),
    width=st.sampled_from([1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 64]),
    batch=st.sampled_from([(), (1,), (3,), (2, 2)]),
    layout=st.sampled_from(LAYOUTS),
    causal=st.booleans(),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 1000),
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_against_the_interpreter(monkeypatch, name, rows, columns, width, batch, layout, causal, target, seed):
    rng = np.random.default_rng(seed)
    shapes = (*batch, rows, width), (*batch, rows, 1), (width,), (*batch, columns, width), (*batch, columns, 5)
    q, row, along, k, v = (rng.standard_normal(shape).astype("float32") for shape in shapes)
    lazy = expression(name, laid_out(q, layout), row, along, k, v, causal)
    with ag.config.set(target="reference64"):
        wanted = lazy.compute()
    with on_target(monkeypatch, target):
        found, results = runs(monkeypatch, lazy)
    assert found, "no sweep"
    assert results is not None
    np.testing.assert_allclose(results[0], wanted, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max())))


def test_rows_at_the_end_of_memory():
    """A block of rows ends beyond the array: what lies there is not read."""
    room = np.full(70 * 16 + 64, np.nan, "float32")
    q = room[: 70 * 16].reshape(70, 16)
    q[:] = np.random.default_rng(0).standard_normal((70, 16))
    k, v = np.ones((20, 16), "float32"), np.ones((20, 5), "float32")
    found = ag.compile(lambda q, k, v: (ag.exp(q) @ k.mT) @ v)(q, k, v)
    wanted = np.exp(q.astype(float)).sum(-1, keepdims=True) * np.full(5, 20.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
