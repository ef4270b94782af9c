"""Attention under sparse masks against the same under arrays of all pairs, in float64; forward and backward."""

import contextlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import attngraph as ag
from attngraph.attention import pair_attention
from attngraph.engine import program, splits

SparseMask = ag.SparseMask
TARGETS = ["native", "x86-64-v2", "x86-64-v3"]


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def arrays(heads, length, columns, width=8, groups=1, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(batch, heads * groups, length, width), *[(batch, heads, columns, width)] * 2]
    q, k, v = (rng.standard_normal(shape).astype("float32") for shape in shapes)
    return q, k, v, rng.standard_normal(q.shape).astype("float32")


def step(mask, **options):
    """Attention, its sums, and the gradients of both."""

    def attend(q, k, v, upstream):
        def loss(q, k, v):
            out, sums = ag.attention(q, k, v, mask=mask, return_lse=True, **options)
            return (out * upstream).sum() + ag.where(sums == -ag.inf, 0.0, sums).sum()

        out, sums = ag.attention(q, k, v, mask=mask, return_lse=True, **options)
        return out, sums, *ag.grad(loss, argnums=(0, 1, 2))(q, k, v)

    return ag.compile(attend)


def check(mask, given, tolerance=2e-5, **options):
    found = step(mask, **options)(*given)
    with ag.config.set(target="reference64"):
        expected = step(mask.to_dense(), **options)(*given)
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape
        finite = np.abs(other[np.isfinite(other)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance * scale)
    return found


def blocks(length, columns, size, heads=None, density=0.3, seed=0):
    grid = [-(-n // s) for n, s in zip((length, columns), np.broadcast_to(size, 2), strict=True)]
    table = np.random.default_rng(seed).random((*([] if heads is None else [heads]), *grid)) < density
    return SparseMask.blocks(table, tuple(map(int, np.broadcast_to(size, 2))), (length, columns))


SIZES = [1, 5, 16, 32, 64, 100, 128, (16, 7), (7, 100), (300, 300)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_blocks_of_every_size(size):
    check(blocks(203, 131, size), arrays(2, 203, 131))


@pytest.mark.parametrize("target", TARGETS)
def test_instruction_sets(target):
    with contextlib.suppress(ag.CompileError), ag.config.set(target=target):
        check(blocks(203, 131, 20, heads=2), arrays(2, 203, 131))


@pytest.mark.parametrize("length", [9, 16, 17, 63, 64, 65])
@pytest.mark.parametrize("columns", [15, 16, 17, 127, 129])
def test_ragged_lengths(length, columns):
    check(blocks(length, columns, 8), arrays(1, length, columns))


@pytest.mark.parametrize("length", [1, 2, 8])
@pytest.mark.parametrize("size", [(4, 32), (3, 100), 5], ids=str)
def test_few_rows(length, size):
    check(blocks(length, 700, size, heads=2), arrays(2, length, 700))


@pytest.mark.parametrize("length", [1, 5])
def test_few_rows_beside_masks_of_data(length):
    """Runs of lists, in which whole blocks are tested for other conditions."""
    listed, given = blocks(length, 1500, (2, 100), density=0.5), arrays(1, length, 1500)
    documents = np.sort(np.random.default_rng(3).integers(0, 3, 1500))

    def attend(mask):
        same = ag.asarray(documents)[None, :] == 1
        return step(ag.asarray(mask.predicate("a test", (length, 1500))) & same, is_causal="lower_right")(*given)

    found = attend(listed)
    with ag.config.set(target="reference64"):
        expected = attend(SparseMask.dense(listed.to_dense()))
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-5, atol=5e-5)


def test_heads_of_their_own_and_groups():
    mask = blocks(150, 170, 16, heads=6)
    check(mask, arrays(2, 150, 170, groups=3, batch=2), enable_gqa=True)
    check(blocks(150, 170, 16), arrays(2, 150, 170, groups=3, batch=2), enable_gqa=True)


@pytest.mark.parametrize("causal", [True, "lower_right"])
@pytest.mark.parametrize("size", [16, 20])
def test_blocks_and_causal(size, causal):
    mask, given = blocks(203, 231, size), arrays(1, 203, 231)
    found = step(mask, is_causal=causal)(*given)
    offset = 231 - 203 if causal == "lower_right" else 0
    dense = mask.to_dense() & (np.arange(203)[:, None] + offset >= np.arange(231))
    with ag.config.set(target="reference64"):
        expected = step(dense)(*given)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-5, atol=5e-5)


def test_blocks_beside_masks_of_data():
    """Runs of lists, within which strips are tested for other conditions."""
    listed = blocks(256, 300, 50, density=0.6)
    documents = np.sort(np.random.default_rng(3).integers(0, 5, 300))
    given = arrays(1, 256, 300)

    def attend(mask):
        same = ag.asarray(documents)[:256, None] == ag.asarray(documents)[None, :]
        return step(ag.asarray(mask.predicate("a test", (256, 300))) & same)(*given)

    found = attend(listed)
    with ag.config.set(target="reference64"):
        expected = attend(SparseMask.dense(listed.to_dense()))
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-5, atol=5e-5)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_no_blocks_and_all(density):
    out, sums, *gradients = check(blocks(100, 120, 16, density=density), arrays(1, 100, 120))
    if density == 0:
        assert not out.any()
        assert (sums == -np.inf).all()
        assert not any(each.any() for each in gradients)


def test_long_rows_are_split(monkeypatch):
    monkeypatch.setattr(splits, "_LEAST_OPERATIONS", 0)
    for length in (40, 3):
        check(blocks(length, 2 * splits.UNIT + 33, (16, 100), density=0.1), arrays(1, length, 2 * splits.UNIT + 33))


def test_the_same_bits_for_any_number_of_threads():
    mask, given = blocks(900, 900, 48), arrays(4, 900, 900, width=16)
    results = []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            results.append(step(mask)(*given))
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


def test_what_is_hidden_may_hold_anything():
    mask = blocks(100, 128, 16, density=0.4)
    q, k, v, _ = arrays(1, 100, 128)
    unseen = ~mask.to_dense().any(0)
    unseen[:16] = True
    mask = mask & SparseMask.dense(np.broadcast_to(~unseen, (100, 128)))
    expected = ag.attention(q, k, v, mask=mask).compute()
    k[..., unseen, :] = np.nan
    v[..., unseen, :] = np.nan
    # Computed again with care: equal but for the rounding.
    np.testing.assert_allclose(ag.attention(q, k, v, mask=mask).compute(), expected, atol=1e-6)


def test_infinity_where_it_counts_is_found():
    q, k, v, _ = arrays(1, 100, 128)
    mask = blocks(100, 128, 16, density=0.5)
    q[0, 0, 20] = 3e38
    assert mask.to_dense()[20].any()
    with ag.config.set(target="reference64"):
        expected = ag.attention(q, k, v, mask=mask.to_dense()).compute()
    np.testing.assert_allclose(ag.attention(q, k, v, mask=mask).compute(), expected, atol=1e-5)
    q[0, 0, 20] = np.inf
    with pytest.raises(ag.NonFiniteError):
        ag.attention(q, k, v, mask=mask).compute()


def test_every_attention_takes_them():
    q, k, v, _ = arrays(2, 90, 110)
    mask = blocks(90, 110, 16)
    expected = ag.attention(q, k, v, mask=mask.to_dense()).compute()
    for found in (
        ag.attention(q, k, v, mask=mask),
        ag.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        ag.flex_attention(q, k, v, block_mask=mask),
    ):
        np.testing.assert_allclose(found.compute(), expected, atol=2e-6)


def test_tasks_of_dask():
    pytest.importorskip("dask")
    q, k, v, _ = arrays(2, 700, 600)
    x = ag.attention(q, k, v, mask=blocks(700, 600, 40, density=0.1))
    np.testing.assert_array_equal(x.to_dask((1, 1, 256, -1)).compute(scheduler="sync"), x.compute())


@pytest.mark.parametrize("length", [5, 64])
@pytest.mark.parametrize("size", [64, (50, 300)], ids=str)
def test_keys_cut_by_dask(length, size):
    """Pieces of runs end where blocks of columns do: the bits are the same wherever keys are cut."""
    pytest.importorskip("dask")
    columns = 3 * splits.UNIT + 77
    q, k, v, _ = arrays(2, length, columns)
    x = ag.attention(q, k, v, mask=blocks(length, columns, size, density=0.2))
    expected = x.compute()
    for keys in (splits.UNIT, 2 * splits.UNIT):
        np.testing.assert_array_equal(x.to_dask(keys=keys).compute(scheduler="sync"), expected)


def test_shapes_that_do_not_fit():
    q, k, v, _ = arrays(2, 90, 110)
    for mask in (
        SparseMask.windowed(3, 0, (90, 111)),
        SparseMask.coo([0], [0], (91, 110)),
        blocks(90, 110, 16, heads=3),
        SparseMask.dense(np.ones((2, 1, 1, 90, 110), bool)),
    ):
        for attend in (
            lambda mask: ag.attention(q, k, v, mask=mask),
            lambda mask: ag.scaled_dot_product_attention(q, k, v, attn_mask=mask),
            lambda mask: ag.flex_attention(q, k, v, block_mask=mask),
        ):
            with pytest.raises(ag.ShapeError, match="a sparse mask of shape"):
                attend(mask)


def test_a_mask_is_traced_once():
    """Another call with the same mask compiles nothing, and finds its lists where they are."""
    mask = blocks(100, 120, 16)
    compiled = ag.compile(lambda q, k, v: ag.attention(q, k, v, mask=mask))
    first, second = arrays(1, 100, 120), arrays(1, 100, 120, seed=1)
    compiled(*first[:3])
    expected = ag.attention(*second[:3], mask=mask.to_dense()).compute()
    np.testing.assert_allclose(compiled(*second[:3]), expected, atol=2e-6)


@settings(max_examples=max(10, settings.default.max_examples // 5))
@given(data=st.data())
def test_random_blocks_and_lengths(data):
    length, columns = data.draw(st.integers(9, 90)), data.draw(st.integers(16, 150))
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70)))
    heads = data.draw(st.sampled_from([None, 2]))
    mask = blocks(
        length, columns, size, heads, data.draw(st.sampled_from([0.05, 0.3, 0.8])), data.draw(st.integers(0, 9))
    )
    given = arrays(2, length, columns)
    found = ag.attention(*given[:3], mask=mask).compute()
    with ag.config.set(target="reference64"):
        expected = ag.attention(*given[:3], mask=mask.to_dense()).compute()
    np.testing.assert_allclose(found, expected, atol=5e-6)


POSITIONS = [
    SparseMask.windowed(20, 0, (203, 181)),
    SparseMask.windowed(20, 5, (203, 181)),
    SparseMask.strided(50, 10, (203, 181)),
    SparseMask.dilated(4, 5, (203, 181)),
    SparseMask.bigbird(16, (203, 181)),
    SparseMask.dense(np.random.default_rng(0).random((2, 203, 181)) < 0.1),
    SparseMask.windowed(20, 0, (203, 181)) | blocks(203, 181, 16, density=0.1),
    SparseMask.strided(30, 20, (203, 181)) & blocks(203, 181, 16),
]


@pytest.mark.parametrize("mask", POSITIONS, ids=repr)
def test_positions(mask):
    check(mask, arrays(2, 203, 181))


# --- pairs


def pairs(length, columns, count, seed=0):
    rng = np.random.default_rng(seed)
    return SparseMask.coo(rng.integers(0, length, count), rng.integers(0, columns, count), (length, columns))


@pytest.fixture(params=[True, False], ids=["one by one", "tiles"])
def takes_pairs(request, monkeypatch):
    """Both ways to compute them."""
    monkeypatch.setattr(pair_attention, "_LARGEST_SHARE", 1.0 if request.param else -1.0)


@pytest.mark.usefixtures("takes_pairs")
@pytest.mark.parametrize("count", [0, 1, 500])
def test_pairs(count):
    check(pairs(60, 50, count), arrays(2, 60, 50, batch=2))
    check(pairs(60, 50, count), arrays(2, 60, 50, groups=2), enable_gqa=True)


@pytest.mark.usefixtures("takes_pairs")
@pytest.mark.parametrize("shape", [(60, 50), (4, 60, 1), (2, 1, 1, 50), (1, 1), (2, 4, 60, 50)], ids=str)
def test_pairs_with_a_bias(shape):
    mask = pairs(60, 50, 300)
    bias = np.random.default_rng(0).standard_normal(shape).astype("float32")
    q, k, v, upstream = arrays(2, 60, 50, groups=2, batch=2)

    def gradients(mask):
        def loss(q, k, v, bias):
            return (ag.attention(q, k, v, mask=mask, bias=bias, enable_gqa=True) * upstream).sum()

        return ag.compute(*ag.grad(loss, argnums=(0, 1, 2, 3))(q, k, v, bias))

    found = gradients(mask)
    with ag.config.set(target="reference64"):
        expected = gradients(mask.to_dense())
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("takes_pairs")
@pytest.mark.parametrize("causal", [True, "lower_right"])
def test_pairs_and_causal(causal):
    mask, given = pairs(40, 60, 400), arrays(2, 40, 60)
    found = step(mask, is_causal=causal)(*given)
    offset = 20 if causal == "lower_right" else 0
    with ag.config.set(target="reference64"):
        expected = step(mask.to_dense() & (np.arange(40)[:, None] + offset >= np.arange(60)))(*given)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("takes_pairs")
def test_pairs_of_arrays_that_broadcast():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(shape).astype("float32") for shape in ((40, 8), (3, 2, 50, 8), (5, 1, 2, 50, 6)))
    mask = pairs(40, 50, 100)
    found = ag.compute(*ag.attention(q, k, v, mask=mask, return_lse=True))
    expected = ag.compute(*ag.attention(q, k, v, mask=mask.to_dense(), return_lse=True))
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


def test_few_pairs_are_never_an_array_of_all():
    mask, many = pairs(500, 500, 1000), pairs(500, 500, 100_000)
    assert pair_attention.takes_pairs(mask.pattern)
    assert not pair_attention.takes_pairs(many.pattern)
    q, k, v, _ = arrays(1, 500, 500)
    sizes = [node.type for node in _nodes(ag.attention(q, k, v, mask=mask))]
    assert not any(kind.shape[-2:] == (500, 500) for kind in sizes)


def _nodes(x):
    from attngraph.engine.ir import walk

    return walk([x.node])


@pytest.mark.parametrize(("rows", "page", "block"), [(1, 16, 20), (4, 16, 7), (3, 8, 100), (8, 32, 13)])
def test_lists_of_blocks_over_keys_in_pages(rows, page, block):
    """Blocks begin anywhere in a page; columns are read together where they lie in one."""
    rng = np.random.default_rng(0)
    pools = [rng.standard_normal((512 // page, 2, page, 16), dtype="float32") for _ in range(2)]
    table, lengths = rng.permutation(512 // page).reshape(2, -1), np.array([256, 131])
    q = rng.standard_normal((2, 4, rows, 16), dtype="float32")
    mask = ag.SparseMask.blocks([(0, n) for n in range(0, -(-256 // block), 2)], (rows, block), (rows, 256))
    keys, values = (ag.pages(pool, table, lengths) for pool in pools)
    expression = ag.attention(q, keys, values, mask=mask, enable_gqa=True)
    with ag.config.set(target="reference64"):
        exact = expression.compute()
    np.testing.assert_allclose(expression.compute(), exact, rtol=2e-5, atol=2e-6)
