import numpy as np
import pytest

import attngraph as ag
from checks import DTYPES, check, check_raises, data
from strategies import LAYOUTS, laid_out


@pytest.mark.parametrize("name", ["tril", "triu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_triangles_equal_numpy(name, dtype):
    for shape in ((4, 4), (3, 5), (5, 3), (2, 3, 4), (0, 3), (3, 0), (1, 1)):
        x = data(shape, dtype)
        for k in (-9, -2, -1, 0, 1, 3, 9):
            check(getattr(ag, name)(ag.asarray(x), k=k), getattr(np, name)(x, k))
    check(getattr(np, name)(ag.asarray(x), 1), getattr(np, name)(x, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    x = laid_out(data((3, 4)), layout)
    check(ag.tril(x), np.tril(x))


def test_what_lies_outside_may_be_anything():
    x = np.full((3, 3), np.nan, np.float32)
    x[np.tril_indices(3)] = 1
    check(ag.tril(x), np.tril(np.ones((3, 3), np.float32)))
    check(ag.tril(x) @ np.float32([[1], [1], [np.nan]]), np.float32([[1], [2], [np.nan]]))


@pytest.mark.parametrize("rows", [0, 1, 4])
@pytest.mark.parametrize("columns", [None, 0, 3, 5])
def test_eye_equals_numpy(rows, columns):
    for k in (-5, -1, 0, 2, 5):
        check(ag.eye(rows, columns, k=k), np.eye(rows, columns, k, np.float32))
    for dtype in DTYPES[:9]:
        check(ag.eye(rows, columns, dtype=dtype), np.eye(rows, columns, dtype=dtype))


def test_errors():
    check_raises(ag.ShapeError, "tril: .* fewer than two axes", ag.tril, np.ones(3))
    check_raises(ag.ShapeError, "triu: .* fewer than two axes", ag.triu, 1.0)
    check_raises(ag.ArgumentError, "k is an integer, not 0.5", ag.tril, np.ones((2, 2)), k=0.5)
    check_raises(ag.ArgumentError, "k is an integer", ag.eye, 2, k="one")
    check_raises(ag.TraceError, "compute", ag.triu, np.ones((2, 2)), k=ag.asarray(1))
    check_raises(ag.ShapeError, "negative length", ag.eye, -1)
    check_raises(ag.ShapeError, "made of integers", ag.eye, 2.0)
    check_raises(ag.DTypeError, "not supported", ag.eye, 2, dtype="complex64")
