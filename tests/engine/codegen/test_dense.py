"""Dense tile operands: any dtype, strides and index that the rule covers or does not, at every ragged size."""

import ctypes
import mmap
import sys

import numpy as np
import pytest
from sweeps import attend, inputs, scores

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.codegen.schedule import Schedule
from attngraph.engine.config import config
from attngraph.engine.errors import CompileError
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from strategies import LAYOUTS, laid_out

ROWS, COLUMNS = 37, 41


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


@pytest.fixture(params=["native", "several vectors", "x86-64-v3", "x86-64-v2"])
def way(request, monkeypatch):
    """Ways to tile."""
    if request.param == "several vectors":
        monkeypatch.setattr(kernels, "schedule_for", lambda *_, **__: Schedule(4, 4, 4, together=1))
        yield
        return
    try:
        with ag.config.set(target=request.param):
            kernels.named_target(request.param)
            yield
    except CompileError as reason:
        pytest.skip(str(reason))


def check(expression):
    made = Program(optimize([expression.node]))
    (result,) = made.run({}, config.settings(), check_finite=False)
    assert len(made.plan.sweeps) == 1, made.plan.not_fused
    with ag.config.set(target="reference64"):
        wanted = expression.compute()
    np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-5)


def biased(bias, rows=ROWS, columns=COLUMNS):
    q, k, v = inputs(rows=rows, columns=columns)
    return attend(scores(q, k) + bias, v)


def numbers(*shape):
    return np.random.default_rng(7).standard_normal(shape).astype("float32")


@pytest.mark.parametrize(("rows", "columns"), [(9, 16), (16, 17), (65, 127), (37, 128), (64, 129), (130, 300)])
def test_ragged_sizes(way, rows, columns):
    check(biased(ag.asarray(numbers(rows, columns)), rows, columns))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(way, layout):
    check(biased(ag.asarray(laid_out(numbers(ROWS, COLUMNS), layout))))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
def test_integers(way, dtype):
    whole = np.random.default_rng(3).integers(0, 100, (ROWS, COLUMNS)).astype(dtype)
    check(biased(ag.asarray(whole) * np.float32(0.01)))


def test_booleans(way):
    mask = np.random.default_rng(3).random((ROWS, COLUMNS)) < 0.6
    q, k, v = inputs(rows=ROWS, columns=COLUMNS)
    check(attend(ag.where(ag.asarray(mask), scores(q, k), -ag.inf), v))


def test_heads_and_masks(way):
    q, k, v = inputs(rows=200, columns=300)
    i, j = ag.arange(200)[:, None], ag.arange(300)[None, :]
    bias = ag.asarray(numbers(3, 200, 300))
    check(attend(ag.where(i + 50 >= j, scores(q, k) + bias, -ag.inf), v))


def test_indices_of_rows_and_columns(way):
    i, j = ag.arange(ROWS)[:, None], ag.arange(COLUMNS)[None, :]
    table = ag.asarray(numbers(ROWS, 2 * COLUMNS + ROWS))
    order = ag.asarray(np.random.default_rng(5).permutation(ROWS).astype("int32"))
    check(biased(table[i, j + 5]))  # from another column on
    check(biased(table[i, COLUMNS - 1 - j]))  # against the columns
    check(biased(table[i, j - i + ROWS]))  # each row from another one on
    check(biased(table[i // 2, j + 1]))  # rows twice
    check(biased(table[order[i], j]))  # rows from a list
    check(biased(table[i, 2 * j]))  # every other column: no neighbours


@pytest.mark.skipif(sys.platform != "linux", reason="pages are protected as Linux does it")
@pytest.mark.parametrize("dtype", ["float32", "bool"])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_nothing_outside_the_array_is_read(way, at_the_end, dtype):
    rows, columns = 19, 149
    page, count = mmap.PAGESIZE, rows * columns * np.dtype(dtype).itemsize
    inner = -(-count // page) * page
    memory = mmap.mmap(-1, inner + 2 * page)
    base = np.frombuffer(memory, np.uint8)
    first = page + (inner - count if at_the_end else 0)
    bias = base[first : first + count].view(dtype).reshape(rows, columns)
    bias[:] = numbers(rows, columns) > 0 if dtype == "bool" else numbers(rows, columns)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    ends = [base.ctypes.data, base.ctypes.data + page + inner]
    for end in ends:
        assert protect(ctypes.c_void_p(end), ctypes.c_size_t(page), 0) == 0
    try:
        check(biased(ag.asarray(bias).astype("float32"), rows, columns))
    finally:
        for end in ends:
            protect(ctypes.c_void_p(end), ctypes.c_size_t(page), 3)


def test_no_lane_is_gathered():
    q, k, v = inputs(rows=ROWS, columns=COLUMNS)
    expression = attend(scores(q, k) + ag.asarray(numbers(ROWS, COLUMNS)), v)
    (kernel,) = ag.explain(expression).kernels
    assert "masked.gather" not in kernel.llvm
