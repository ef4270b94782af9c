"""Which nodes are products of a matrix with a small one, and when these run natively."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import product_kernels, products
from attngraph.engine.config import config
from attngraph.engine.errors import CompileError
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from checks import data, wide


@pytest.fixture
def calls(monkeypatch):
    """How often a native product gave a result."""
    made = []
    run = product_kernels.ProductKernel.__call__

    def counted(self, left, right, settings):
        found = run(self, left, right, settings)
        made.append(found is not None)
        return found

    monkeypatch.setattr(product_kernels.ProductKernel, "__call__", counted)
    return made


def test_what_a_product_is():
    x, w, batch = (ag.asarray(data(shape)) for shape in ((6, 5), (5, 4), (3, 6, 5)))
    for expression in (x @ w, batch @ w, x @ ag.asarray(data((4, 5))).mT, ag.asarray(data((6, 1))) @ ag.ones((1, 4))):
        assert products.is_product(expression.node)
    others = [x + x, x[:5] * w[:, :1], batch @ batch.mT, x[0] @ w, ag.sum(x, axis=0), ag.concat([x, x])]
    others += [each.astype("bfloat16") @ w.astype("bfloat16") for each in (x,)]
    others += [ag.asarray(data((6, 5), "int32")) @ ag.asarray(data((5, 4), "int32"))]
    assert not any(products.is_product(each.node) for each in others)


@pytest.mark.parametrize("shape", [(2000, 64), (20, 100, 64)], ids=str)
def test_a_large_one_is_native_and_right(calls, shape):
    x, w = data(shape), data((24, 64), seed=1)
    out = (ag.asarray(x) @ ag.asarray(w).mT).compute()
    assert calls == [True]
    np.testing.assert_allclose(out, wide(x) @ wide(w).T, rtol=1e-5, atol=1e-4)


def test_what_is_small_or_narrow_or_wide_is_numpys(calls):
    for rows, depth, columns in ((200, 16, 16), (200_000, 8, 1), (2000, 300, 300)):
        (ag.asarray(data((rows, depth))) @ ag.asarray(data((depth, columns)))).compute()
    assert not any(calls)


def test_compiled_or_not_the_bits_are_the_same(calls):
    x, w = data((2000, 64)), data((64, 24), seed=1)
    apart = np.zeros((2000, 100), "float32")[:, 10:74]
    apart[...] = x
    compiled = ag.compile(lambda x, w: x @ w)
    results = [compiled(x, w), compiled(apart, w), compiled(x, np.asfortranarray(w)), (ag.asarray(x) @ w).compute()]
    assert all(each.tobytes() == results[0].tobytes() for each in results)
    assert calls == [True] * 4


@pytest.mark.parametrize("place", [(0, 0), (1999, 63)])
def test_what_is_not_finite_is_decided_as_ever(calls, place):
    x, w = data((2000, 64)), data((64, 24), seed=1)
    x[place] = np.inf
    expression = ag.asarray(x) @ ag.asarray(w)
    with ag.config.set(target="reference"):
        wanted = expression.compute()
    found = expression.compute()
    assert calls == [False]
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
    x[place], w[place[1]] = 1e38, 1e3
    assert np.isinf(expression.compute()[place[0]]).all()


def test_sums_that_overflow_on_the_way_are_answered():
    x, w = np.zeros((2000, 64), "float32"), np.zeros((64, 24), "float32")
    x[5, :3], w[:3] = 3e38, [[1], [1], [-1]]
    np.testing.assert_allclose((ag.asarray(x) @ ag.asarray(w)).compute()[5], 3e38, rtol=1e-6)


def test_a_kernel_that_cannot_be_compiled_is_not_tried_again(monkeypatch):
    tried = []

    def fails(*_):
        tried.append(True)
        raise CompileError("no")

    monkeypatch.setattr(product_kernels, "_module", fails)
    x, w = ag.asarray(data((2000, 64))), ag.asarray(data((64, 24), seed=1))
    made = Program(optimize([(x @ w).node]))
    for _ in range(2):
        (out,) = made.run({}, config.settings(), check_finite=False)
        np.testing.assert_allclose(out, data((2000, 64)) @ data((64, 24), seed=1), rtol=1e-4, atol=1e-4)
    assert len(tried) == 1
