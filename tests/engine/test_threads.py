import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import attngraph as ag
from attngraph.engine import ir
from attngraph.engine.threads import limited, product
from checks import data, wide
from strategies import LAYOUTS, laid_out

SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 4), (4, 5)),
    ((1, 1), (1, 1)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((3, 4), (4, 0)),
    ((0, 0), (0, 0)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 0), (0, 5)),
    ((0, 3, 0), (0, 5)),
    ((0, 3, 4), (4, 5)),
    ((2, 0, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((2, 1, 3, 4), (1, 5, 4, 2)),
    ((3, 1, 1, 1), (0, 1, 1)),
    ((70, 5, 9, 4), (70, 1, 4, 3)),
    ((3, 200, 4), (3, 4, 2)),
    ((3, 513, 100), (3, 100, 57)),
]
LARGE = [
    ((600, 300), (300, 100)),
    ((4, 300, 128), (128, 130)),
    ((1, 2000), (2000, 1000)),
    ((5, 1, 1500), (1500, 200)),
    ((2, 3, 257, 64), (3, 64, 257)),
    ((300, 3000), (3000, 2)),
]


def by_threads(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The product, once it is sure that 1, 2 and 5 threads give the same bits."""
    results = []
    for threads in (1, 2, 5):
        with limited(threads):
            results.append(product(left, right))
    assert all(result.tobytes() == results[0].tobytes() for result in results)
    return results[0]


@pytest.mark.parametrize(("left", "right"), SHAPES + LARGE, ids=str)
def test_any_number_of_threads_gives_the_same_bits(left, right):
    for dtype in ("float32", "float64"):
        x, y = data(left, dtype), data(right, dtype, 1)
        result = by_threads(x, y)
        expected = wide(x) @ wide(y)
        assert (result.shape, result.dtype) == (expected.shape, dtype)
        error = np.finfo(dtype).eps * (left[-1] + 1) ** 0.5 * 8
        np.testing.assert_allclose(result, expected, rtol=error, atol=error * 4)


@pytest.mark.parametrize(("left", "right"), SHAPES, ids=str)
def test_integers_and_booleans_are_exact(left, right):
    for dtype in ("int8", "uint16", "int64", "bool"):
        x, y = data(left, dtype), data(right, dtype, 1)
        expected = x @ y
        result = by_threads(x, y)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


def test_integers_wrap_in_long_sums():
    x = np.full((2, 1100), 100, np.int8)
    np.testing.assert_array_equal(by_threads(x, x.T), x @ x.T)
    x = np.full((2, 1100), 2**62 + 1, np.int64)
    np.testing.assert_array_equal(by_threads(x, x.T), x @ x.T)


@given(
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    batch=st.sampled_from([(), (1,), (3,), (2, 3), (0,)]),
    sizes=st.tuples(*[st.sampled_from((0, 1, 2, 7, 300))] * 3),
)
def test_every_layout(layouts, batch, sizes):
    rows, depth, columns = sizes
    x = laid_out(data((*batch, rows, depth)), layouts[0])
    y = laid_out(data((*batch, depth, columns), seed=1), layouts[1])
    x, y = (each.astype(each.dtype.newbyteorder("="), copy=False) for each in (x, y))
    np.testing.assert_allclose(by_threads(x, y), wide(x) @ wide(y), rtol=1e-4, atol=1e-4)


def test_a_matrix_is_the_same_alone_and_in_any_batch():
    x, y = data((6, 40, 30)), data((6, 30, 20), seed=1)
    whole = by_threads(x, y)
    for number in range(6):
        assert by_threads(x[number], y[number]).tobytes() == whole[number].tobytes()
    assert by_threads(x[2:4], y[2:4]).tobytes() == whole[2:4].tobytes()


def test_blocks_of_rows_are_the_same_alone():
    x, y = data((700, 50)), data((50, 30), seed=1)
    assert by_threads(x[256:512], y).tobytes() == by_threads(x, y)[256:512].tobytes()


def test_operands_are_left_alone():
    x, y = data((300, 60)), data((60, 70), seed=1)
    x.flags.writeable = y.flags.writeable = False
    before = x.copy(), y.copy()
    result = by_threads(x, y)
    assert result.flags.writeable
    assert not np.shares_memory(result, x)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def attention() -> ag.Array:
    q, k, v = (ag.asarray(data((2, 300, 64), seed=seed)) for seed in range(3))
    return ag.softmax(ag.where(ag.tril(ag.ones((300, 300), dtype=bool)), q @ k.mT / 8, -ag.inf)) @ v


def test_a_whole_evaluation_gives_the_same_bits():
    results = []
    for threads in (1, 2, 5):
        with ag.config.set(threads=threads):
            results.append(attention().compute().tobytes())
    assert len(set(results)) == 1


def blas_threads() -> list[int]:
    # NumPy's own: others may have been loaded by other libraries since.
    mine = [each for each in threadpool_info() if each["user_api"] == "blas" and "numpy" in each["filepath"]]
    return [each["num_threads"] for each in mine]


def test_blas_is_given_back_its_threads():
    before = blas_threads()
    with limited(2):
        assert set(blas_threads()) <= {1}
        with limited(5):
            product(data((2, 2)), data((2, 2)))
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), limited(2):
        _ = 1 / 0
    assert blas_threads() == before
    with pytest.raises(ag.IndexOutOfRangeError):
        (ag.asarray(data((3, 3)))[np.array([5])] @ data((3, 3))).compute()
    assert blas_threads() == before


@pytest.mark.parametrize("threads", [2, 5])
def test_overflow_in_a_worker_is_no_warning(threads):
    most = np.full((1024, 256), 3e38, np.float32)
    with ag.config.set(threads=threads):
        assert (ag.asarray(most) @ most.T).compute()[0, 0] == np.inf


def test_eight_threads_at_once():
    def work(number: int, threads: int) -> bytes:
        with ag.config.set(threads=threads, target=("native", "reference")[number % 2]):
            return attention().compute().tobytes()

    expected = work(0, 1), work(1, 1)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(24), [1 + number % 4 for number in range(24)]))
    assert results == list(expected) * 12


@pytest.mark.skipif(not blas_threads(), reason="needs a BLAS")
def test_blas_is_given_back_its_threads_by_whoever_leaves_last():
    threadpool_limits(2)
    before = blas_threads()
    inside, leave, left, end = (threading.Event() for _ in range(4))

    def come_first() -> None:
        with limited(1):
            inside.set()
            leave.wait()
        left.set()
        end.wait()

    first = threading.Thread(target=come_first, daemon=True)  # no hanging where this fails
    first.start()
    inside.wait()
    with limited(1):
        leave.set()
        left.wait()
        assert set(blas_threads()) == {1}
    after = blas_threads()
    end.set()
    first.join()
    threadpool_limits(2)
    assert after == before


def in_a_fork(work: Callable[[], bool], seconds: int) -> int:
    """What a forked child exits with: 0 if the work gave True in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads in the parent
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@needs_fork
def test_a_forked_child_evaluates():
    with ag.config.set(threads=3):
        lazy = attention()
        expected = lazy.compute().tobytes()  # the pool and its threads exist
        assert in_a_fork(lambda: lazy.compute().tobytes() == expected, 20) == 0
        assert in_a_fork(lambda: attention().compute().tobytes() == expected, 20) == 0
        assert lazy.compute().tobytes() == expected


@needs_fork
def test_a_child_forked_while_another_thread_evaluates():
    expected = attention().compute().tobytes()
    stop = threading.Event()

    def work() -> None:
        lazy = attention()
        while not stop.is_set():
            with ag.config.set(threads=2):
                lazy.compute()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        lazy = attention()
        with ag.config.set(threads=2):
            assert in_a_fork(lambda: lazy.compute().tobytes() == expected, 20) == 0
    finally:
        stop.set()
        worker.join()


@needs_fork
def test_a_child_forked_while_another_thread_makes_nodes():
    held = threading.Event()

    def hold() -> None:
        with ir._lock:
            held.set()
            time.sleep(0.3)

    worker = threading.Thread(target=hold)
    worker.start()
    held.wait()
    try:
        assert in_a_fork(lambda: (ag.asarray(1) + 1).compute() == 2, 1) == 0
    finally:
        worker.join()
