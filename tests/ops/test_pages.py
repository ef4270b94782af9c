"""Paged arrays: what the table says and no more, in attention and elsewhere; gradients; errors."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels, program
from checks import check_raises

TOLERANCE = 2e-5
TARGETS = ("x86-64-v2", "x86-64-v3", "native")
JUNK = np.array([-1, -(2**62), 2**62, 77777])


@pytest.fixture(autouse=True)
def worth_a_kernel(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


class Cache:
    """Pools whose pages in use hold sequences of given lengths; all else is NaN, and unused entries are junk."""

    def __init__(self, lengths, page=16, heads=2, width=8, most=None, layout="HND", seed=0):
        rng = np.random.default_rng(seed)
        self.lengths, self.layout = np.asarray(lengths), layout
        used = -(-self.lengths // page)
        most = max(1, int(used.max(initial=0))) if most is None else most
        count = int(used.sum()) + 3
        free = iter(rng.permutation(count))
        self.table = rng.choice(JUNK, (len(lengths), most))
        shape = (len(lengths), heads, most * page, width)
        self.keys, self.values = (rng.standard_normal(shape, dtype="float32") for _ in range(2))
        self.pools = [np.full((count, heads, page, width), np.nan, np.float32) for _ in range(2)]
        for row, length in enumerate(self.lengths):
            for number in range(int(used[row])):
                self.table[row, number] = next(free)
                part = slice(number * page, min((number + 1) * page, int(length)))
                for pool, array in zip(self.pools, (self.keys, self.values), strict=True):
                    pool[self.table[row, number], :, : part.stop - part.start] = array[row, :, part]
        if layout == "NHD":
            self.pools = [np.ascontiguousarray(pool.swapaxes(1, 2)) for pool in self.pools]

    @property
    def visible(self):
        return np.arange(self.keys.shape[2]) < self.lengths[:, None, None, None]

    def paged(self, pool):
        return ag.pages(pool, self.table, self.lengths, layout=self.layout)

    def attend(self, query, **options):
        return ag.attention(query, *map(self.paged, self.pools), enable_gqa=True, **options)

    def query(self, rows, groups=1, seed=1):
        batch, heads, _, width = self.keys.shape
        return np.random.default_rng(seed).standard_normal((batch, heads * groups, rows, width), dtype="float32")


def exact(query, cache, visible=True):
    group = query.shape[1] // cache.keys.shape[1]
    k, v = (each.astype(np.float64).repeat(group, 1) for each in (cache.keys, cache.values))
    scores = query.astype(np.float64) @ k.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    scores = np.where(cache.visible & visible, scores, -np.inf)
    largest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isneginf(largest), 0, largest))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    page=st.sampled_from((1, 3, 8, 16, 24, 32, 128)),
    rows=st.sampled_from((1, 1, 2, 5, 20)),
    groups=st.sampled_from((1, 3, 4)),
    width=st.sampled_from((8, 20, 64)),
    layout=st.sampled_from(("HND", "NHD")),
    target=st.sampled_from(TARGETS),
    causal=st.booleans(),
    seed=st.integers(0, 99),
)
def test_attention_against_float64(lengths, page, rows, groups, width, layout, target, causal, seed):
    cache = Cache(lengths, page, width=width, layout=layout, seed=seed)
    query = cache.query(rows, groups)
    options, visible = ({"is_causal": True}, np.tri(rows, cache.keys.shape[2], dtype=bool)) if causal else ({}, True)
    with ag.config.set(target=target):
        close(cache.attend(query, **options).compute(), exact(query, cache, visible))


@pytest.mark.parametrize("layout", ["HND", "NHD"])
@pytest.mark.parametrize("target", ["native", "reference"])
def test_elements(layout, target):
    cache = Cache([5, 40, 0], layout=layout, heads=3)
    found = cache.paged(cache.pools[0])
    assert found.shape == (3, 3, 48, 8)
    with ag.config.set(target=target):
        np.testing.assert_array_equal(found.compute(), np.where(cache.visible.swapaxes(-1, -2), cache.keys, 0))


@pytest.mark.parametrize("rows", [1, 20])
def test_one_kernel_that_copies_nothing(rows):
    pool, table, lengths = (
        ag.placeholder((4096, 8, 16, 64)),
        ag.placeholder((4, 64), "int32"),
        ag.placeholder((4,), "int32"),
    )
    query = ag.placeholder((4, 32, rows, 64))
    paged = ag.pages(pool, table, lengths)
    report = ag.explain(ag.attention(query, paged, paged, enable_gqa=True))
    assert len(report.kernels) == 1
    assert not report.not_fused
    assert report.memory.peak_bytes < 4 * 4 * 32 * rows * 64 * 4


def test_other_attention_functions_and_masks():
    cache = Cache([33, 60])
    query = cache.query(3)
    k, v = map(cache.paged, cache.pools)
    close(ag.scaled_dot_product_attention(query, k, v).compute(), exact(query, cache))
    close(ag.flex_attention(query, k, v, lambda s, b, h, i, j: s * 1).compute(), exact(query, cache))
    visible = np.random.default_rng(3).random((3, 64)) < 0.5
    close(ag.attention(query, k, v, mask=visible).compute(), exact(query, cache, visible))
    out, lse = ag.attention(query, k, v, return_lse=True)
    assert np.isfinite(lse.compute()).all()
    assert np.isfinite(out.compute()).all()
    close(ag.topk_attention(query, k, v, 64).compute(), exact(query, cache))


def test_lengths_that_grow_read_what_is_new():
    cache = Cache([16, 3], most=3)
    step = ag.compile(
        lambda q, k, v, table, lengths: ag.attention(q, ag.pages(k, table, lengths), ag.pages(v, table, lengths))
    )
    for lengths in ([16, 3], [7, 3], [16, 0]):
        cache.lengths = np.array(lengths)
        query = cache.query(1)
        close(step(query, *cache.pools, cache.table, cache.lengths), exact(query, cache))


def test_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(kernels, "LEAST_SHARED", 0)
    cache = Cache([700, 33, 0, 512])
    results = set()
    for threads in (1, 2, 5):
        with ag.config.set(threads=threads):
            results.add(cache.attend(cache.query(1, 4)).compute().tobytes())
    assert len(results) == 1


def test_gradients_are_added_up_in_the_pool():
    cache = Cache([20, 7], page=8)
    query = cache.query(3)
    weights = np.random.default_rng(5).standard_normal(query.shape).astype("float32")
    pools = [np.nan_to_num(pool) for pool in cache.pools]
    arrays = cache.keys, cache.values

    def of_pools(k, v):
        return (ag.attention(query, cache.paged(k), cache.paged(v)) * weights).sum()

    def of_arrays(k, v):
        return (ag.attention(query, k, v, mask=cache.visible) * weights).sum()

    found = ag.compute(*ag.grad(of_pools, (0, 1))(*pools))
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*ag.grad(of_arrays, (0, 1))(*arrays))
    for pool, array in zip(found, wanted, strict=True):
        back = np.zeros(array.shape)
        for row, length in enumerate(cache.lengths):
            for number in range(-(-int(length) // 8)):
                back[row, :, number * 8 : number * 8 + 8] = pool[cache.table[row, number]]
        close(back, array)


# --- errors


@pytest.mark.parametrize("entry", [-1, 7, 10**12])
@pytest.mark.parametrize("rows", [1, 20])
def test_pages_in_use_that_the_pool_does_not_have(entry, rows):
    cache = Cache([20, 37])
    assert len(cache.pools[0]) == 8
    cache.table[1, 2] = entry if entry != 7 else 8
    expression = cache.attend(cache.query(rows))
    for target in ("native", "reference"):
        with ag.config.set(target=target):
            check_raises(ag.IndexOutOfRangeError, "page 2 of sequence 1 .* which has 8", expression.compute)


@pytest.mark.parametrize("length", [-1, 49, 2**40])
def test_lengths_outside_of_the_table(length):
    cache = Cache([20, 37])
    cache.lengths = np.array([20, length])
    for expression in (cache.attend(cache.query(1)), cache.paged(cache.pools[0])):
        check_raises(ag.IndexOutOfRangeError, "sequence 1 is outside of 0 to 48", expression.compute)


def test_what_is_no_table():
    pool, table, lengths = np.zeros((4, 2, 16, 8), "float32"), np.zeros((3, 2), int), np.zeros(3, int)
    for arguments in (
        (pool[0], table, lengths),
        (pool, table[0], lengths),
        (pool, table, lengths[:2]),
        (pool, table, 3),
    ):
        check_raises(ag.ShapeError, "pages: ", ag.pages, *arguments)
    check_raises(ag.ShapeError, "at least one position", ag.pages, pool[:, :, :0], table, lengths)
    check_raises(ag.DTypeError, "table holds integers", ag.pages, pool, table * 1.0, lengths)
    check_raises(ag.DTypeError, "lengths holds integers", ag.pages, pool, table, lengths > 0)
    for layout in ("DNH", None, 3):
        check_raises(ag.ArgumentError, "layout is", ag.pages, pool, table, lengths, layout=layout)


def test_empty_pools_and_batches():
    pool, query = np.zeros((0, 2, 16, 8), "float32"), np.ones((3, 2, 1, 8), "float32")
    nothing = ag.pages(pool, np.full((3, 2), 9), np.zeros(3, int))
    assert not ag.attention(query, nothing, nothing).compute().any()
    used = ag.pages(pool, np.zeros((3, 2), int), np.ones(3, int))
    check_raises(ag.IndexOutOfRangeError, "out of range|which has 0", ag.attention(query, used, used).compute)
    none = ag.pages(pool, np.zeros((0, 2), int), np.zeros(0, int))
    assert ag.attention(query[:0], none, none).compute().shape == (0, 2, 1, 8)
    no_pages = ag.pages(pool, np.zeros((3, 0), int), np.zeros(3, int))
    assert not ag.attention(query, no_pages, no_pages).compute().any()


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data(), rows=st.sampled_from((1, 20)))
def test_any_table_is_read_or_refused(data, rows):
    """Whatever tables and lengths hold: the answer is that of the reference, or both refuse."""
    numbers = st.one_of(st.integers(-2, 6), st.sampled_from((2**31, -(2**31), 2**63 - 1, -(2**63))))
    table = np.array(data.draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=2)))
    lengths = np.array(data.draw(st.lists(st.one_of(st.integers(-1, 49), numbers), min_size=2, max_size=2)))
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((5, 2, 16, 8), dtype="float32")
    query = rng.standard_normal((2, 2, rows, 8), dtype="float32")
    paged = ag.pages(pool, table, lengths)
    expression, results = ag.attention(query, paged, paged), []
    for target in ("native", "reference"):
        with ag.config.set(target=target):
            try:
                results.append(expression.compute())
            except ag.IndexOutOfRangeError as error:
                results.append(str(error))
    used = np.arange(3) * 16 < lengths[:, None]
    is_bad = ((lengths < 0) | (lengths > 48)).any() or (used & ((table < 0) | (table >= 5))).any()
    assert isinstance(results[0], str) == isinstance(results[1], str) == bool(is_bad)
    if not is_bad:
        close(results[0], results[1])
