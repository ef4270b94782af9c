"""Data types, and what else libraries ask of an array namespace."""

import numpy as np
import pytest

import attngraph as ag
from checks import check_raises

X = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.mark.parametrize(
    "name", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
)
def test_data_types(name):
    dtype = getattr(ag, name)
    assert dtype == np.dtype(name)
    assert ag.zeros(2, dtype=dtype).dtype == dtype


def test_result_type():
    assert ag.result_type(X, 1) == np.float32
    assert ag.result_type(X, np.float64(1)) == np.float32
    assert ag.result_type("int32", "float32") == np.float32
    assert ag.result_type(np.float64, ag.asarray(X)) == np.float64
    assert ag.result_type(1, True) == np.int64
    check_raises(ag.ArgumentError, "takes one array or data type", ag.result_type)
    check_raises(ag.DTypeError, "uint64", ag.result_type, "uint64", "int64")
    check_raises(ag.DTypeError, "result_type: cannot make an array", ag.result_type, None)


def test_isdtype():
    kinds = ["bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"]
    for name in ("bool", "int8", "uint16", "float32", "float64"):
        for kind in kinds:
            assert ag.isdtype(np.dtype(name), kind) == np.isdtype(np.dtype(name), kind), (name, kind)
    assert ag.isdtype(ag.float32, ("integral", "real floating"))
    assert ag.isdtype(ag.float32, np.float32)
    assert not ag.isdtype(ag.float32, ())
    check_raises(ag.ArgumentError, "no kind of data type is called 'reel'", ag.isdtype, ag.float32, "reel")


@pytest.mark.parametrize("width", [1, (1, 2), ((0, 1), (2, 0)), 0])
def test_pad(width):
    wanted = np.pad(X, width, constant_values=7)
    np.testing.assert_array_equal(ag.pad(X, width, constant_values=7).compute(), wanted)
    np.testing.assert_array_equal(np.pad(ag.asarray(X), width, constant_values=7).compute(), wanted)
    np.testing.assert_array_equal(np.pad(ag.asarray(X), width).compute(), np.pad(X, width))


def test_bad_padding():
    check_raises(ag.ArgumentError, "only mode='constant' is lazy", ag.pad, X, 1, "edge")
    check_raises(ag.ArgumentError, "integers from 0 on", ag.pad, X, -1)
    check_raises(ag.ShapeError, "is not for the axes of float32", ag.pad, X, (1, 2, 3))


def test_transpose():
    np.testing.assert_array_equal(ag.transpose(X, (1, 0)).compute(), X.T)
    np.testing.assert_array_equal(ag.transpose(X).compute(), X.T)
