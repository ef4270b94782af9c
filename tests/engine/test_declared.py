"""What is read is looked at: an array that computes something else than it declared is an error that says so."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.declared import as_declared, read_dask

BOX = (slice(4, 6), slice(0, 3))
FLOAT32, INT32 = np.dtype("float32"), np.dtype("int32")


def declared_as(da, function, dtype="float32"):
    """An array of three blocks that says of itself what it would be without the function."""
    base = da.ones((300, 4), chunks=(100, 4), dtype=dtype)
    return da.map_blocks(function, base, dtype=dtype, chunks=base.chunks, meta=np.ones((0, 0), dtype))


def evaluations(x):
    """Read block by block, and whole."""
    query, keys = np.zeros((1, 4), "float32"), np.zeros((300, 4), "float32")
    return [ag.attention(query, x, keys).compute, (ag.asarray(x) + 1).compute]


@pytest.mark.parametrize(
    ("function", "came"),
    [
        (lambda block: block[:50], r"float32\[50, 4\]"),
        (lambda block: block[:1], r"float32\[1, 4\]"),
        (lambda block: block[0], r"float32\[4\]"),
        (lambda block: block[:, :, None], r"float32\[100, 4, 1\]"),
        (lambda block: np.repeat(block, 2, 0), r"float32\[200, 4\]"),
        (lambda block: None, r"object\[\]"),
    ],
)
@pytest.mark.parametrize("way", [0, 1])
def test_blocks_of_another_shape(function, came, way):
    x = declared_as(pytest.importorskip("dask.array"), function)
    expected = rf"block \(\d, 0\) of the dask array {x.name}, \[\d+:\d+, 0:4\], is {came} where float32\[100, 4\]"
    with pytest.raises(ag.ShapeError, match=expected):
        evaluations(x)[way]()


@pytest.mark.parametrize("kind", ["complex64", "U5", "object"])
@pytest.mark.parametrize("way", [0, 1])
def test_blocks_of_another_type(kind, way):
    x = declared_as(pytest.importorskip("dask.array"), lambda block: block.astype(kind))
    with pytest.raises(ag.DTypeError, match=r"\[100, 4\] where float32\[100, 4\] was declared, .* float32 cannot"):
        evaluations(x)[way]()


@pytest.mark.parametrize("kind", ["float64", "float16", "int64", ">f4"])
@pytest.mark.parametrize("way", [0, 1])
def test_blocks_of_a_type_that_can_be_cast(kind, way):
    x = declared_as(pytest.importorskip("dask.array"), lambda block: block.astype(kind))
    assert evaluations(x)[way]().dtype == np.float32


def test_what_the_function_raises_is_its_own():
    x = declared_as(pytest.importorskip("dask.array"), lambda block: 1 // 0)
    for evaluate in evaluations(x):
        with pytest.raises(ZeroDivisionError):
            evaluate()


def test_blocks_of_wrong_lengths_that_add_up():
    da = pytest.importorskip("dask.array")
    lengths = iter(range(50, 350, 50))
    x = declared_as(da, lambda block: np.ones((100 + 50 * (next(lengths) // 50 - 2), 4), "float32"))
    with pytest.raises(ag.ShapeError, match="block"):
        (ag.asarray(x) + 1).compute()


def test_xarray_over_dask():
    xr, da = pytest.importorskip("xarray"), pytest.importorskip("dask.array")
    x = xr.DataArray(declared_as(da, lambda block: block[:50]), dims=("a", "b"))
    for evaluate in evaluations(x):
        with pytest.raises(ag.ShapeError, match="block"):
            evaluate()


def test_every_piece_of_a_dask_array():
    da = pytest.importorskip("dask.array")
    values = np.random.default_rng(0).standard_normal((37, 11))
    x = da.from_array(values, chunks=((5, 0, 10, 22), (4, 7)))
    for start in range(0, 37, 4):
        for stop in range(start, 38):
            box = slice(start, stop), slice(3, 9)
            np.testing.assert_array_equal(read_dask(x, box), values[box])
    assert read_dask(x.sum(), ()).shape == ()


class Blocks:
    """An array of a class of its own, whose pieces are what a function makes of them."""

    shape, dtype, steps = (300, 4), FLOAT32, (100, 4)

    def __init__(self, made):
        self.made = made

    def __attngraph_blocks__(self):
        return self

    def read(self, box):
        return self.made(np.ones(self.shape, self.dtype)[box])


@pytest.mark.parametrize("way", [0, 1])
def test_classes_that_read_themselves(way):
    with pytest.raises(ag.ShapeError, match=r"the .* Blocks, .* where float32"):
        evaluations(Blocks(lambda piece: piece[:-1]))[way]()
    with pytest.raises(ag.DTypeError, match="complex128"):
        evaluations(Blocks(lambda piece: piece.astype(complex)))[way]()


def test_numbers_that_the_type_has_not():
    assert as_declared(np.ones((2, 3), "int64"), BOX, INT32, "it").dtype == INT32
    with pytest.raises(ag.DTypeError, match="int64"):
        as_declared(np.full((2, 3), 2**40), BOX, INT32, "it")
    with pytest.raises(ag.DTypeError, match="float64"):
        as_declared(np.ones((2, 3)), BOX, INT32, "it")
    with pytest.raises(ag.DTypeError, match="float64"):
        as_declared(np.full((2, 3), 1e300), BOX, FLOAT32, "it")
    assert np.isinf(as_declared(np.full((2, 3), np.inf), BOX, FLOAT32, "it")).all()
    with pytest.raises(ag.DTypeError, match="int64"):
        as_declared(np.ones((2, 3), "int64"), BOX, np.dtype(bool), "it")
