"""Entries: what they answer, what they leave to the ordinary path, and that nothing is lost in either case."""

import ctypes
import functools
import gc
import os
import sys
import threading
import tracemalloc
import types

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import attngraph as ag
from attngraph.engine import entry, entry_layout, entry_table, kernels, loops, program, workers
from attngraph.engine.config import config
from attngraph.engine.entry import Argument, make_entry
from attngraph.engine.evaluate import prepare
from attngraph.engine.leaves import Placeholder
from attngraph.engine.passes.fused import Fused
from attngraph.engine.types import TensorType
from attngraph.engine.worker_board import worker_code
from strategies import LAYOUTS, laid_out

pytestmark = pytest.mark.skipif(not entry.is_supported(), reason="no entries on this interpreter")

RNG = np.random.default_rng(50)
Q, K, V = (RNG.standard_normal(shape).astype("float32") for shape in ((4, 8), (17, 8), (17, 5)))


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel; one thread, so that nothing is shared out."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    with ag.config.set(threads=1):
        yield


def attend(q, k, v):
    return ag.softmax(q @ k.mT, axis=-1) @ v


class Made:
    """A function, prepared and entered."""

    repeated = False

    def __init__(self, function, *arguments, check_finite=False):
        traced = [
            Placeholder.new(TensorType(np.shape(each), np.dtype("float32"), isinstance(each, float)))
            if isinstance(each, np.ndarray | float)
            else None
            for each in arguments
        ]
        stand_ins = [each if node is None else ag.Array(node) for node, each in zip(traced, arguments, strict=True)]
        found = function(*stand_ins)
        roots = [each.node for each in (found if isinstance(found, tuple) else (found,))]
        self.prepared = prepare(roots, config.settings(), repeated=self.repeated)
        self.counter = np.zeros(1, np.int64)
        self.nodes = traced
        pairs = list(map(Argument, traced, arguments))
        self.entry = make_entry(self.prepared, pairs, config.settings(), self.counter, check_finite=check_finite)

    def __call__(self, *arguments):
        assert self.entry is not None, self.prepared.program.plan.not_fused
        return self.entry.call(*arguments)

    def ordinary(self, *arguments):
        bindings = {node: np.asarray(each) for node, each in zip(self.nodes, arguments, strict=True) if node}
        return self.prepared.program.run(bindings, config.settings(), check_finite=False)


def test_bits_are_those_of_the_ordinary_path():
    made = Made(attend, Q, K, V)
    for _ in range(3):
        result = made(Q, K, V)
        assert type(result) is np.ndarray
        assert result.flags.owndata
        assert result.flags.writeable
        np.testing.assert_array_equal(result, made.ordinary(Q, K, V)[0])
    assert made.entry.calls == made.counter[0] == 3
    first, second = made(Q, K, V), made(Q, K, V)
    assert not np.shares_memory(first, second)


def test_arguments_are_read_at_every_call():
    made, q = Made(attend, Q, K, V), Q.copy()
    before = made(q, K, V)
    q *= 2
    np.testing.assert_array_equal(made(q, K, V), made.ordinary(q, K, V)[0])
    assert not np.array_equal(before, made(q, K, V))


def test_several_results():
    def both(q, k, v):
        scores = q @ k.mT
        return ag.softmax(scores, axis=-1) @ v, ag.logsumexp(scores, axis=-1)

    made = Made(both, Q, K, V)
    results = made(Q, K, V)
    assert made.entry.is_tuple
    for place, wanted in zip(made.entry.places, made.ordinary(Q, K, V), strict=True):
        np.testing.assert_array_equal(results[place], wanted)


def test_floats_and_static_arguments():
    made = Made(lambda q, k, v, scale, name: attend(q * scale, k, v), Q, K, V, 0.25, "name")
    np.testing.assert_array_equal(made(Q, K, V, 0.25, "name"), made.ordinary(Q, K, V, 0.25, None)[0])
    np.testing.assert_array_equal(made(Q, K, V, -3.0, "name"), made.ordinary(Q, K, V, -3.0, None)[0])
    for scale in (1, True, np.float64(0.25), np.float32(0.25), None, np.zeros(()), "0.25"):
        assert made(Q, K, V, scale, "name") is NotImplemented
    for name in ("other", None, 0, Q):
        assert made(Q, K, V, 0.25, name) is NotImplemented


class Sub(np.ndarray):
    pass


OTHERS = {
    "length": lambda x: x[:-1],
    "longer": lambda x: np.concatenate([x, x]),
    "axes": lambda x: x[None],
    "no axes": lambda x: x[0, 0],
    "float64": lambda x: x.astype("float64"),
    "float16": lambda x: x.astype("float16"),
    "int32": lambda x: x.astype("int32"),
    "byte-swapped": lambda x: laid_out(x, "byte-swapped"),
    "misaligned": lambda x: laid_out(x, "misaligned"),
    "fortran": np.asfortranarray,
    "strided": lambda x: laid_out(x, "strided"),
    "subclass": lambda x: x.view(Sub),
    "masked": np.ma.array,
    "objects": lambda x: x.astype(object),
    "records": lambda x: x.view([("a", "f4")]),
    "complex": lambda x: x.astype("complex64"),
    "bfloat16": lambda x: x.astype(ag.engine.types.BFLOAT16),
    "list": lambda x: x.tolist(),
    "memoryview": memoryview,
    "bytes": lambda x: x.tobytes(),
    "None": lambda x: None,
    "lazy": ag.asarray,
    "number": lambda x: 1.0,
    "type": lambda x: np.ndarray,
}


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("name", OTHERS)
def test_other_arguments_are_left_to_the_ordinary_path(name, place):
    made, arguments = Made(attend, Q, K, V), [Q, K, V]
    arguments[place] = OTHERS[name](arguments[place])
    mine = [each for each in arguments if isinstance(each, np.ndarray)]
    counts = [sys.getrefcount(each) for each in mine]
    for _ in range(5):
        assert made(*arguments) is NotImplemented
    assert [sys.getrefcount(each) for each in mine] == counts
    assert made.entry.calls == 0
    assert not made.entry.is_doubtful
    assert made(Q, K, V) is not NotImplemented


@pytest.mark.parametrize("count", [0, 1, 2, 4, 9])
def test_another_number_of_arguments(count):
    assert Made(attend, Q, K, V)(*[Q] * count) is NotImplemented


def test_keywords_are_not_taken():
    with pytest.raises(TypeError, match="keyword"):
        Made(attend, Q, K, V).entry.call(Q, K, v=V)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    q, k, v = (laid_out(each, layout) for each in (Q, K, V))
    made = Made(attend, q, k, v)
    if layout in ("misaligned", "byte-swapped"):
        assert made.entry is None
        return
    np.testing.assert_array_equal(made(q, k, v), made.ordinary(q, k, v)[0])
    plain = made(Q, K, V)
    assert plain is NotImplemented or np.array_equal(plain, made.ordinary(Q, K, V)[0])


def test_strides_that_do_not_matter():
    """NumPy gives axes of length 1 any stride."""
    made = Made(attend, Q[None], K[None], V[None])
    odd = np.lib.stride_tricks.as_strided(Q[None], (1, 4, 8), (12345 * 4, 32, 4))
    np.testing.assert_array_equal(made(odd, K[None], V[None]), made.ordinary(Q[None], K[None], V[None])[0])


def test_not_finite_results_are_left_to_the_ordinary_path():
    made = Made(attend, Q, K, V)
    for bad in (np.nan, np.inf, np.finfo("float32").max):
        q = Q.copy()
        q[1, 2] = bad
        assert made(q, K, V) is NotImplemented
    v = V.copy()
    v[-1, -1] = np.inf
    assert made(Q, K, v) is NotImplemented
    assert not made.entry.is_doubtful
    for _ in range(20):
        made(Q, K, v)
    assert made.entry.is_doubtful


def test_rows_without_weights_that_no_mask_explains_are_left_to_the_ordinary_path():
    bias = np.zeros((4, 17), "float32")
    made = Made(lambda q, k, v, b: ag.softmax(q @ k.mT + b, axis=-1) @ v, Q, K, V, bias)
    assert made(Q, K, V, bias) is not NotImplemented
    bias[2] = -np.inf
    assert (made(Q, K, V, bias)[..., 2, :] == 0).all()
    bias[2] = -3.4e38
    huge = Q.copy()
    huge[..., 2, :] = -1e38 * np.sign(K[..., :1, :]).max()
    keys = np.abs(K) + np.float32(1)
    assert made(huge, keys, V, bias) is NotImplemented


def test_captured_arrays_are_read_and_checked():
    table = RNG.standard_normal(17).astype("float32")
    made = Made(lambda q, k, v: ag.softmax(q @ k.mT + ag.asarray(table), axis=-1) @ v, Q, K, V)
    np.testing.assert_array_equal(made(Q, K, V), made.ordinary(Q, K, V)[0])
    table += RNG.standard_normal(17).astype("float32")
    np.testing.assert_array_equal(made(Q, K, V), made.ordinary(Q, K, V)[0])
    table.resize(5, refcheck=False)
    assert made(Q, K, V) is NotImplemented
    with pytest.raises(ag.ShapeError, match="when it was bound"):
        made.ordinary(Q, K, V)


def test_results_in_another_shape():
    q, k, v = (RNG.standard_normal(shape).astype("float32") for shape in ((1, 8, 1, 4), (1, 2, 40, 4), (1, 2, 40, 4)))
    grouped = Made(lambda q, k, v: ag.attention(q, k, v, enable_gqa=True), q, k, v)
    result = grouped(q, k, v)
    assert result.shape == (1, 8, 1, 4)
    np.testing.assert_array_equal(result, grouped.ordinary(q, k, v)[0])
    assert Made(lambda q, k, v: ag.attention(q, k, v, enable_gqa=True).mT, q, k, v).entry is not None
    # Elements in another order are another step.
    assert Made(lambda q, k, v: ag.attention(q, k, v, enable_gqa=True)[:, ::-1], q, k, v).entry is None


def test_what_has_no_entry():
    assert Made(lambda q, k, v: ag.sort(q), Q, K, V).entry is None
    assert Made(lambda q, k, v: (attend(q, k, v), q * 2), Q, K, V).entry is None
    assert Made(lambda q, k, v: (attend(q, k, v),) * 2, Q, K, V).entry is None
    assert Made(lambda q, k, v, s: attend(q, k, v), Q, K, V, (1, 2)).entry is None
    assert Made(ag.attention, Q, K, V, check_finite=True).entry is None
    with ag.config.set(target="reference"):
        assert Made(attend, Q, K, V).prepared.program is None
    with ag.config.set(memory_limit=1):
        assert Made(attend, Q, K, V).entry is None


@pytest.mark.parametrize("threads", [1, 2])
def test_long_work_is_not_for_entries(threads, monkeypatch):
    with ag.config.set(threads=threads):
        step = Made(attend, Q, K, V).prepared.program.plan.sweeps[0]
        moved = Q.nbytes + K.nbytes + V.nbytes + 4 * len(Q) * V.shape[1]
        monkeypatch.setattr(entry, "_MOST_UNBROKEN", entry_table.work(step) + moved)
        assert Made(attend, Q, K, V).entry is not None
        monkeypatch.setattr(entry, "_MOST_UNBROKEN", entry_table.work(step) + moved - 1)
        assert Made(attend, Q, K, V).entry is None


def test_the_lock_is_given_away_for_longer_work(monkeypatch):
    wanted = Made(attend, Q, K, V)(Q, K, V)
    monkeypatch.setattr(entry_table, "MOST_LOCKED", 0)
    made = Made(attend, Q, K, V)
    stop, seen = threading.Event(), []

    def count():
        while not stop.is_set():
            seen.append(np.array_equal(made(Q, K, V), wanted))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for each in threads:
        each.start()
    for _ in range(300):
        np.testing.assert_array_equal(made(Q, K, V), wanted)
    stop.set()
    for each in threads:
        each.join()
    assert all(seen)
    assert made.entry.calls == len(seen) + 300


# Shared with the workers. Eight heads are eight tiles at least.

MANY = [
    np.random.default_rng(51).standard_normal(shape).astype("float32")
    for shape in ((8, 40, 8), (8, 300, 8), (8, 300, 5))
]


@pytest.fixture
def shared(monkeypatch):
    """Whatever has two tiles is shared, by three threads."""
    monkeypatch.setattr(entry_table, "MOST_ALONE", 0)
    monkeypatch.setattr(kernels, "LEAST_SHARED", 0)
    monkeypatch.setattr(loops, "_WORTH_SHARING", 0)
    with ag.config.set(threads=3):
        yield


def step_of(made):
    return next(each for each in made.prepared.program.plan.steps if isinstance(each, Fused))


def helpers_of(made):
    return int(made.entry._table[entry_layout.TABLE["helpers"] // 8])


@pytest.fixture
def asked(monkeypatch):
    """How the workers were asked for: notes for each call of an entry that is made from now on."""
    notes = []

    def share(*arguments):
        notes.append(arguments)
        return worker_code().share(*arguments)

    word = ctypes.c_int64
    kind = ctypes.CFUNCTYPE(word, *[ctypes.c_void_p] * 4, word, word)
    function = kind(share)
    words = np.array([ctypes.cast(function, ctypes.c_void_p).value, 0])

    def team(helpers):
        words[1] = (word * 2).from_address(workers.team(helpers))[1]
        return words.ctypes.data

    monkeypatch.setattr(entry_table, "workers", types.SimpleNamespace(team=team))
    yield notes
    del function


@pytest.mark.usefixtures("shared")
def test_bits_of_a_shared_call_are_those_of_the_ordinary_path(asked):
    made = Made(attend, *MANY)
    assert helpers_of(made) == 2
    for _ in range(20):
        np.testing.assert_array_equal(made(*MANY), made.ordinary(*MANY)[0])
    assert made.entry.calls == len(asked) == 20
    with ag.config.set(threads=1):
        np.testing.assert_array_equal(made(*MANY), Made(attend, *MANY)(*MANY))


@pytest.mark.usefixtures("shared")
def test_scratch_of_threads_lies_apart(asked):
    made = Made(attend, *MANY)
    made(*MANY)
    ((_, _, _, scratch, stride, helpers),) = asked
    program = made.prepared.program
    kernel = program.kernels[program.plan.steps.index(step_of(made))]
    assert scratch % 64 == stride % 64 == 0
    assert helpers == 2
    assert stride >= kernel.for_plain_arrays(config.settings()).scratch_bytes


@pytest.mark.usefixtures("shared")
def test_a_loop_is_shared():
    a, b = (RNG.standard_normal((4096, 32)).astype("float32") for _ in range(2))
    made = Repeated(lambda a, b: (a * b).sum(axis=-1), a, b)
    assert helpers_of(made) > 0
    for _ in range(5):
        np.testing.assert_array_equal(made(a, b), made.ordinary(a, b)[0])


@pytest.mark.usefixtures("shared")
def test_one_tile_is_not_shared():
    assert helpers_of(Made(attend, Q, K, V)) == 0
    assert helpers_of(Made(attend, *(each[:2] for each in MANY))) > 0


@pytest.mark.usefixtures("shared")
def test_little_work_is_not_shared(monkeypatch):
    effort = entry_table.effort(step_of(Made(attend, *MANY)))
    monkeypatch.setattr(entry_table, "MOST_ALONE", effort - 1)
    assert helpers_of(Made(attend, *MANY)) == 2
    monkeypatch.setattr(entry_table, "MOST_ALONE", effort)
    assert helpers_of(Made(attend, *MANY)) == 0
    monkeypatch.setattr(entry_table, "MOST_ALONE", 0)
    monkeypatch.setattr(kernels, "LEAST_SHARED", 1 << 60)  # where the ordinary path shares nothing either
    assert helpers_of(Made(attend, *MANY)) == 0


@pytest.mark.usefixtures("shared")
def test_doubts_of_a_shared_call():
    made, bad = Made(attend, *MANY), MANY[2].copy()
    for place in range(8):
        bad[:] = MANY[2]
        bad[place, 7, 3] = np.nan
        assert made(*MANY[:2], bad) is NotImplemented
    assert made.entry.has_doubted()
    np.testing.assert_array_equal(made(*MANY), made.ordinary(*MANY)[0])


@pytest.mark.usefixtures("shared")
def test_shared_calls_at_once():
    made = Made(attend, *MANY)
    inputs = [[each * np.float32(1 + number) for each in MANY] for number in range(12)]  # more than kept slots
    wanted = [made.ordinary(*each)[0] for each in inputs]
    right = []

    def call(number):
        right.append(all(np.array_equal(made(*inputs[number]), wanted[number]) for _ in range(100)))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert right == [True] * 12
    assert made.entry.calls == 1200


@pytest.mark.usefixtures("shared")
def test_where_no_slot_is_free_a_call_runs_alone(monkeypatch):
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 4, ctypes.c_int64, ctypes.c_int64)(lambda *_: 0)
    words = np.array([ctypes.cast(function, ctypes.c_void_p).value, 0])
    monkeypatch.setattr(entry_table, "workers", types.SimpleNamespace(team=lambda helpers: words.ctypes.data))
    made = Made(attend, *MANY)
    np.testing.assert_array_equal(made(*MANY), made.ordinary(*MANY)[0])
    words[0] = 0  # nobody is hired
    assert made(*MANY) is NotImplemented
    assert made.entry.calls == 1
    assert not made.entry.has_doubted()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("shared")
def test_a_forked_child_shares_once_it_has_workers_of_its_own():
    made = Made(attend, *MANY)
    wanted = made(*MANY)
    child = os.fork()
    if child == 0:
        right = made(*MANY) is NotImplemented
        right &= np.array_equal(made.ordinary(*MANY)[0], wanted)
        right &= all(np.array_equal(made(*MANY), wanted) for _ in range(20))
        os._exit(0 if right and made.entry.calls == 21 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(made(*MANY), wanted)


def test_where_python_lacks_a_function(monkeypatch):
    entry.is_supported.cache_clear()
    monkeypatch.setitem(entry.FUNCTIONS, "PyNothing_OfThisName", ("void",))
    try:
        assert Made(attend, Q, K, V).entry is None
    finally:
        entry.is_supported.cache_clear()


def test_no_reference_is_lost_or_kept():
    made = Made(lambda q, k, v, s, n: attend(q * s, k, v), Q, K, V, 0.5, None)
    scale = 0.5
    infinite = V * np.float32(np.inf)
    held = [Q, K, V, infinite, scale, None, NotImplemented, np.ndarray, float, np.dtype("float32"), np.empty]
    result = made(Q, K, V, scale, None)
    assert sys.getrefcount(result) == 2

    def rounds(count):
        for _ in range(count):
            made(Q, K, V, scale, None)
            made(Q, K, infinite, scale, None)
            made(Q, K, K, scale, None)

    rounds(10)
    gc.collect()
    before = [sys.getrefcount(each) for each in held]
    rounds(1000)
    after = [sys.getrefcount(each) for each in held]
    assert all(abs(one - other) < 50 for one, other in zip(before, after, strict=True)), (before, after)


def test_no_memory_is_lost():
    made = Made(lambda q, k, v: (attend(q, k, v), ag.logsumexp(q @ k.mT, axis=-1)), Q, K, V)
    infinite = V * np.float32(np.inf)

    def rounds(count):
        for _ in range(count):
            made(Q, K, V)
            made(Q, K, infinite)
            made(Q, K, K)

    rounds(100)
    tracemalloc.start()
    try:
        rounds(10)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        rounds(35_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4000


def test_an_entry_lives_as_long_as_its_function():
    made = Made(attend, Q, K, V)
    call, wanted = made.entry.call, made(Q, K, V)
    del made
    gc.collect()
    np.testing.assert_array_equal(call(Q, K, V), wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_entries_work_in_a_forked_child():
    made = Made(attend, Q, K, V)
    wanted = made(Q, K, V)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(made(Q, K, V), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("rows", [1, 3, 16, 33])
@pytest.mark.parametrize("width", [1, 7, 8, 9, 40])
def test_sizes(rows, width):
    q, k, v = (RNG.standard_normal(shape).astype("float32") for shape in ((rows, 8), (21, 8), (21, width)))
    made = Made(attend, q, k, v)
    if made.entry is None:
        pytest.skip("no kernel for so few rows")
    np.testing.assert_array_equal(made(q, k, v), made.ordinary(q, k, v)[0])
    v[20, -1] = np.nan
    assert made(q, k, v) is NotImplemented


# Loops.

A, B = (RNG.standard_normal(96).astype("float32") for _ in range(2))


class Repeated(Made):
    """A function that is planned to be called again and again: then little work may be a loop."""

    repeated = True


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a * b).sum(),
        lambda a, b: a @ b,
        lambda a, b: ag.sqrt(((a - b) ** 2).sum()),
        lambda a, b: ag.maximum(a * 2, b / 3),
        lambda a, b: (a * b).mean(keepdims=True),
        lambda a, b: (a.reshape(4, 24) * b.reshape(4, 24)).sum(axis=-1),
    ],
)
def test_small_loops(function):
    made = Repeated(function, A, B)
    for _ in range(3):
        result = made(A, B)
        np.testing.assert_array_equal(result, made.ordinary(A, B)[0])
        # What NumPy would have given: compiling changes no bit of such little work.
        np.testing.assert_array_equal(result, function(ag.asarray(A), ag.asarray(B)).compute())
    bad = A.copy()
    bad[3] = np.inf
    assert made(bad, B) is NotImplemented
    assert made(A[:-1], B) is NotImplemented


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: ag.exp(a) * b,  # NumPy's is computed in float64
        lambda a, b: a * b + a,  # rounded twice
        lambda a, b: ag.softmax(a * b),
        lambda a, b: ag.sort(a * b),
    ],
)
def test_what_would_be_rounded_otherwise_is_left_to_numpy(function):
    assert Repeated(function, A, B).entry is None


def test_views_inside_of_loops():
    wide = RNG.standard_normal((96, 3)).astype("float32")
    made = Repeated(lambda w, b: (w[::-1, 1] * b).sum(), wide, B)
    np.testing.assert_array_equal(made(wide, B), made.ordinary(wide, B)[0])
    np.testing.assert_allclose(made(wide, B), (wide[::-1, 1].astype("float64") * B).sum(), rtol=1e-6)
    assert made(np.asfortranarray(wide), B) is NotImplemented  # other strides are another descriptor
    turned = Repeated(lambda w, b: (w[::-1, 1] * b).sum(), np.asfortranarray(wide), B)
    np.testing.assert_array_equal(turned(np.asfortranarray(wide), B), made(wide, B))


def test_floats_of_loops():
    made = Repeated(lambda a, s: (a * s).sum(), A, 0.1)
    for scale in (0.1, -3.0, 1e-30):
        np.testing.assert_array_equal(made(A, scale), made.ordinary(A, scale)[0])
        np.testing.assert_allclose(made(A, scale), (A * np.float32(scale)).sum(), rtol=1e-4)
    assert made(A, 1) is NotImplemented


def test_integers_and_booleans_in_loops():
    mask, count = A > 0, np.arange(96)
    where = ag.compile(lambda a, m, n: ag.where(m, a, 0.0 * a).sum() + 0 * n[0])
    results = [where(A, mask, count) for _ in range(4)]
    assert all(np.array_equal(each, results[0]) for each in results)
    np.testing.assert_allclose(results[0], A[mask].sum(), rtol=1e-5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_arguments_never_crash(data):
    """Whatever comes, it is answered right or left to the ordinary path."""
    made = fuzzed()
    pool = [Q, K, V, A, Q.T, K[::-1], Q[:0], Q.astype("float64"), Q.view("int32"), None, 1.5, "q", [Q], np.float32(1)]
    arguments = [data.draw(st.sampled_from(pool)) for _ in range(data.draw(st.integers(0, 4)))]
    result = made(*arguments)
    if result is not NotImplemented:
        np.testing.assert_array_equal(result, made.ordinary(*arguments)[0])


@functools.cache
def fuzzed():
    return Made(attend, Q, K, V)
