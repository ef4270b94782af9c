"""Native products against float64: sizes, types, layouts, instruction sets, threads."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attngraph.engine import product_kernels
from attngraph.engine.config import config
from attngraph.engine.product_kernels import ProductKernel
from checks import data, wide
from strategies import LAYOUTS, laid_out


def product(left, right, **changes):
    return ProductKernel()(left, right, dataclasses.replace(config.settings(), **changes))


def check(left, right, **changes):
    found, wanted = product(left, right, **changes), wide(left) @ wide(right)
    assert (found.shape, found.dtype) == (wanted.shape, left.dtype)
    error = np.finfo(left.dtype).eps * (left.shape[-1] + 1) ** 0.5 * 8
    np.testing.assert_allclose(found, wanted, rtol=error, atol=error * 4)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (5, 3, 2), (6, 1, 16), (7, 128, 15), (50, 129, 17), (13, 300, 20)], ids=str
)
def test_sizes_that_fill_no_vector(sizes, dtype):
    rows, depth, columns = sizes
    check(data((rows, depth), dtype), data((depth, columns), dtype, 1))


@pytest.mark.parametrize("columns", [1, 8, 16, 31, 32, 33, 48, 64, 65, 80, 100, 129])
def test_any_number_of_columns(columns):
    check(data((101, 20)), data((20, columns), seed=1))


@given(
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    batch=st.sampled_from([(), (1,), (3,), (2, 3)]),
    sizes=st.tuples(*[st.sampled_from((1, 2, 7, 70))] * 3),
)
def test_every_layout(layouts, batch, sizes):
    rows, depth, columns = sizes
    x, y = laid_out(data((*batch, rows, depth)), layouts[0]), laid_out(data((depth, columns), seed=1), layouts[1])
    x, y = (each.astype(each.dtype.newbyteorder("="), copy=False) for each in (x, y))
    check(x, y)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set(target):
    for dtype in ("float32", "float64"):
        for rows, depth, columns in ((60, 30, 50), (9, 140, 5)):
            check(data((rows, depth), dtype), data((depth, columns), dtype, 1), target=target)


def test_any_number_of_threads_gives_the_same_bits():
    x, y = data((3001, 64)), data((64, 40), seed=1)
    results = [check(x, y, threads=threads).tobytes() for threads in (1, 2, 5)]
    assert len(set(results)) == 1


def test_a_row_is_the_same_alone_and_among_others():
    x, y = data((700, 200)), data((200, 30), seed=1)
    whole = check(x, y)
    for rows in (slice(0, 1), slice(13, 14), slice(100, 300), slice(699, 700)):
        assert check(x[rows], y).tobytes() == whole[rows].tobytes()


def test_what_does_not_stay_in_a_cache_is_left_alone():
    assert product(data((10, 300)), data((300, 300))) is None
    assert product(data((10, 300)), data((300, 3), "float64")) is None
    assert product(data((10, 3), "int32"), data((3, 3), "int32")) is None


def test_an_element_that_is_not_finite_is_noticed():
    for value in (np.nan, np.inf, -np.inf):
        for place in ((0, 0), (99, 7), (50, 3)):
            x = data((100, 8))
            x[place] = value
            assert product(x, data((8, 70), seed=1)) is None
    assert product(np.full((100, 8), 1e38, "float32"), np.full((8, 9), 10, "float32")) is None


def test_shapes_come_and_go():
    kernel = ProductKernel()
    for rows in range(1, 3 * product_kernels._MOST_BINDINGS):
        x, y = data((rows, 4)), data((4, 9), seed=1)
        np.testing.assert_allclose(kernel(x, y, config.settings()), x @ y, rtol=1e-5, atol=1e-5)
    assert len(kernel._found) <= product_kernels._MOST_BINDINGS


def test_operands_are_left_alone():
    x, y = data((300, 60)), data((60, 70), seed=1)
    x.flags.writeable = y.flags.writeable = False
    before = x.copy(), y.copy()
    result = check(x, y)
    assert result.flags.writeable
    assert not np.shares_memory(result, x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
