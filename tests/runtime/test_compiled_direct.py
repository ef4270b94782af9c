"""Compiled functions that are called again and again: what is entered directly keeps every promise."""

import contextvars
import gc
import sys
import threading
import tracemalloc
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import entry, program
from attngraph.engine.config import config

pytestmark = pytest.mark.skipif(not entry.is_supported(), reason="no entries on this interpreter")

RNG = np.random.default_rng(60)
Q, K, V = (RNG.standard_normal(shape).astype("float32") for shape in ((4, 8), (40, 8), (40, 5)))
Pair = namedtuple("Pair", ["first", "second"])


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel; one thread, so that nothing is shared out."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    before = config.threads
    ag.config.set(threads=1)
    yield
    ag.config.set(threads=before)


def attend(q, k, v):
    return ag.softmax(q @ k.mT, axis=-1) @ v


def entered(compiled, *arguments):
    """The function after two calls, which its entries have answered none of."""
    wanted = compiled(*arguments)
    compiled(*arguments)
    assert compiled._direct_hits[0] == 0
    assert len(compiled._direct) == 1
    return wanted


def test_the_third_call_is_direct():
    compiled = ag.compile(attend)
    wanted = entered(compiled, Q, K, V)
    for number in range(5):
        np.testing.assert_array_equal(compiled(Q, K, V), wanted)
        assert compiled._direct_hits[0] == number + 1
    assert compiled.cache_info() == (6, 1, 1, 256)
    assert compiled.last_trace() is compiled.trace(Q, K, V)


@pytest.mark.parametrize(
    "shape",
    [
        lambda one, other: (one, other),
        lambda one, other: (other, one),
        lambda one, other: [one, None, {"b": other}],
        Pair,
        lambda one, other: {"only": one},
        lambda one, other: (None, (other,)),
        lambda one, other: other,
    ],
)
def test_structures(shape):
    def function(q, k, v):
        scores = q @ k.mT
        return shape(ag.softmax(scores, axis=-1) @ v, ag.logsumexp(scores, axis=-1))

    compiled = ag.compile(function)
    first, _, third = (compiled(Q, K, V) for _ in range(3))
    assert compiled._direct_hits[0] == 1
    assert type(third) is type(first)
    np.testing.assert_equal(third, first)


def test_shapes_take_turns():
    compiled = ag.compile(attend)
    lengths = [19, 21, 23, 25]
    wanted = {n: compiled(Q, K[:n], V[:n]) for n in lengths}
    for _ in range(4):
        for n in lengths:
            np.testing.assert_array_equal(compiled(Q, K[:n], V[:n]), wanted[n])
    assert compiled._direct_hits[0] == 3 * 4
    assert len(compiled._direct) == 4
    compiled(Q, K, V), compiled(Q, K, V)
    assert len(compiled._direct) == 4
    assert compiled.cache_info() == (4 * 4 + 1, 5, 5, 256)
    np.testing.assert_array_equal(compiled(Q, K[:19], V[:19]), wanted[19])


def test_another_layout_comes_to_stay():
    compiled = ag.compile(attend)
    wanted = entered(compiled, Q, K, V)
    turned = np.asfortranarray(K)
    for _ in range(3):
        np.testing.assert_allclose(compiled(Q, turned, V), wanted, rtol=1e-5, atol=1e-5)
    assert compiled._direct_hits[0] == 2
    assert compiled.cache_info().misses == 1


def test_settings_are_respected_at_once():
    compiled = ag.compile(attend)
    entered(compiled, Q, K, V)
    compiled(Q, K, V)
    with ag.config.set(target="reference64"):
        assert compiled(Q, K, V).dtype == np.float64
    with ag.config.set(memory_limit=1), pytest.raises(ag.LimitError):
        compiled(Q, K, V)
    assert contextvars.Context().run(lambda: compiled(Q, K, V)).dtype == np.float32
    ag.config.set(memory_limit=1)
    try:
        with pytest.raises(ag.LimitError):
            compiled(Q, K, V)
    finally:
        ag.config.set(memory_limit=None)
    before = int(compiled._direct_hits[0])
    compiled(Q, K, V)
    assert compiled._direct_hits[0] == before + 1


def test_settings_of_a_context_are_entered_too():
    compiled = ag.compile(attend)
    for _ in range(5):
        with ag.config.set(memory_limit=10**6):
            compiled(Q, K, V)
    assert compiled._direct_hits[0] == 3


def test_check_finite_is_respected():
    with_nan = np.full_like(Q, np.nan)
    compiled = ag.compile(ag.attention, check_finite=None)
    for _ in range(3):
        compiled(Q, K, V)
    with ag.config.set(check_finite=True), pytest.raises(ag.NonFiniteError, match="query"):
        compiled(with_nan, K, V)
    assert np.isnan(compiled(with_nan, K, V)).all()
    checked = ag.compile(ag.attention, check_finite=True)
    for _ in range(3):
        checked(Q, K, V)
    with pytest.raises(ag.NonFiniteError, match="query"):
        checked(with_nan, K, V)


def test_check_finite_of_the_function_may_be_changed():
    with_nan = np.full_like(Q, np.nan)
    compiled = ag.compile(ag.attention)
    for check in (False, True, False, None):
        compiled.check_finite = check
        for _ in range(4):
            compiled(Q, K, V)
        if check:
            with pytest.raises(ag.NonFiniteError, match="query"):
                compiled(with_nan, K, V)
        else:
            assert np.isnan(compiled(with_nan, K, V)).all()


def test_results_that_overflow_are_computed_with_care():
    compiled = ag.compile(attend)
    entered(compiled, Q, K, V)
    large = np.float32(5e37)
    with ag.config.set(target="reference64"):
        wanted = attend(ag.asarray(Q * large), ag.asarray(K), ag.asarray(V)).compute()
    for _ in range(30):
        np.testing.assert_allclose(compiled(Q * large, K, V), wanted, rtol=1e-5)
    assert compiled._direct == ()  # asking first was a waste
    np.testing.assert_array_equal(compiled(Q, K, V), ag.compile(attend)(Q, K, V))


def test_floats_and_static_arguments():
    calls = []

    def function(q, k, v, scale, name):
        calls.append(name)
        return attend(q * scale, k, v)

    compiled = ag.compile(function)
    for scale in (0.5, 0.25, 3.0, 4.0):
        found = compiled(Q, K, V, scale, "name")
        np.testing.assert_allclose(
            found, ag.compute(attend(Q * np.float32(scale), ag.asarray(K), V)), rtol=1e-5, atol=1e-6
        )
    assert compiled._direct_hits[0] == 2
    compiled(Q, K, V, 0.5, "other")
    assert calls == ["name", "other"]
    compiled(Q, K, V, True, "name"), compiled(Q, K, V, 1, "name")
    assert len(calls) == 4


def test_a_float_scales_as_an_array_does():
    """It is kept with Python's digits, and reaches kernels as float32."""
    compiled = ag.compile(lambda q, k, v, scale: attend(q * scale, k, v))
    for scale in (0.1, -1e-3, 7.0):
        wanted = ag.compute(attend(ag.asarray(Q * np.float32(scale)), ag.asarray(K), ag.asarray(V)))
        for _ in range(3):
            np.testing.assert_allclose(compiled(Q, K, V, scale), wanted, rtol=1e-5, atol=1e-6)


def test_what_is_not_entered():
    compiled = ag.compile(attend)
    wanted = entered(compiled, Q, K, V)
    out = np.empty_like(wanted)
    assert compiled(Q, K, V, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    np.testing.assert_array_equal(compiled(Q, K, v=V), wanted)
    assert isinstance(compiled(ag.asarray(Q), K, V), ag.Array)
    with pytest.raises(ag.DTypeError, match="MaskedArray"):
        compiled(np.ma.array(Q), K, V)
    with pytest.raises(TypeError):
        compiled(Q, K)
    assert compiled._direct_hits[0] == 0


def test_methods_have_entries_too():
    class Layer:
        @ag.compile
        def __call__(self, q, k, v):
            return attend(q, k, v)

    one, other = Layer(), Layer()
    for _ in range(3):
        np.testing.assert_array_equal(one(Q, K, V), other(Q, K, V))
    assert Layer.__dict__["__call__"]._direct_hits[0] == 2


class Mutable:
    """Equal and hashed by what it holds now."""

    def __init__(self, factor):
        self.factor = factor

    def __eq__(self, other):
        return self.factor == other.factor

    def __hash__(self):
        return hash(self.factor)


def test_objects_that_may_change_are_hashed_every_time():
    compiled = ag.compile(lambda q, k, v, options: attend(q * options.factor, k, v))
    options = Mutable(2)
    first, *_ = (compiled(Q, K, V, options) for _ in range(4))
    options.factor = 3
    assert not np.allclose(compiled(Q, K, V, options), first)


def test_many_threads_at_once():
    entry._definition.cache_clear()  # they make it at once, too
    compiled = ag.compile(attend)
    inputs = [(Q * np.float32(n + 1), K[: 19 + n % 3], V[: 19 + n % 3]) for n in range(8)]
    wanted = [ag.compile(attend)(*each) for each in inputs]

    def work(number):
        return all(np.array_equal(compiled(*inputs[number]), wanted[number]) for _ in range(500))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    hits, misses = compiled.cache_info()[:2]
    assert hits + misses == 8 * 500


def test_settings_change_while_threads_call():
    compiled = ag.compile(attend)
    entered(compiled, Q, K, V)
    stop, seen = threading.Event(), set()

    def call():
        while not stop.is_set():
            with ag.config.set(target="reference64"):
                seen.add(compiled(Q, K, V).dtype.name)

    thread = threading.Thread(target=call)
    thread.start()
    for _ in range(300):
        # The other thread's settings are the process's for a moment, until its `with` begins.
        with ag.config.set(target="native"):
            assert compiled(Q, K, V).dtype == np.float32
    stop.set()
    thread.join()
    assert seen == {"float64"}


def test_nothing_is_lost_in_many_calls():
    compiled = ag.compile(attend)
    arrays = Q.copy(), K.copy(), V.copy()
    for _ in range(100):
        compiled(*arrays)
    counts = [sys.getrefcount(each) for each in arrays]
    tracemalloc.start()
    try:
        compiled(*arrays)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100_000):
            compiled(*arrays)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4000
    assert [sys.getrefcount(each) for each in arrays] == counts


def test_a_compiled_function_is_freed():
    gc.collect()
    compiled = ag.compile(attend)
    for _ in range(4):
        compiled(Q, K, V)
    calls = compiled._direct[0].call
    del compiled
    gc.collect()
    assert sys.getrefcount(calls) == 2


def test_where_there_are_no_entries(monkeypatch):
    monkeypatch.setattr(entry, "is_supported", lambda: False)
    compiled = ag.compile(attend)
    results = [compiled(Q, K, V) for _ in range(4)]
    assert compiled._direct == ()
    assert compiled.cache_info() == (3, 1, 1, 256)
    assert all(np.array_equal(each, results[0]) for each in results)


def test_a_compiled_function_of_a_compiled_function_has_its_own_state():
    inner = ag.compile(ag.attention)
    outer = ag.compile(inner, check_finite=True)
    for _ in range(3):
        np.testing.assert_array_equal(inner(Q, K, V), outer(Q, K, V))
    assert inner.cache_info()[:2] == outer.cache_info()[:2] == (2, 1)
    with_nan = np.full_like(Q, np.nan)
    assert np.isnan(inner(with_nan, K, V)).all()
    with pytest.raises(ag.NonFiniteError):
        outer(with_nan, K, V)
