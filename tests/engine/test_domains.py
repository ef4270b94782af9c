"""What is told of a kernel's domain against an array of all pairs, cut into tiles."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import domains, program
from attngraph.engine.domains import Tiles

LENGTH, COLUMNS, HEADS = 250, 330, 2
SHAPE = (LENGTH, COLUMNS)
MASKS = {
    "nothing hidden": None,
    "window": ag.SparseMask.windowed(20, 0, SHAPE),
    "window and tokens": ag.SparseMask.windowed(20, 3, SHAPE),
    "strides": ag.SparseMask.strided(50, 20, SHAPE),
    "blocks": ag.SparseMask.random_blocks(2, 64, SHAPE),
    "small blocks": ag.SparseMask.random_blocks(4, (10, 48), SHAPE),
    "blocks of heads": ag.SparseMask.blocks(np.random.default_rng(0).random((HEADS, 4, 6)) < 0.3, 64, SHAPE),
    "array": ag.SparseMask.dense(np.random.default_rng(1).random(SHAPE) < 0.05),
}
KINDS = {"nothing hidden": "dense range", "window": "bounds", "array": "tested tiles"} | dict.fromkeys(
    ("blocks", "small blocks", "blocks of heads"), "block list"
)


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def explained(mask, **options):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, HEADS, n, 16)).astype("float32") for n in (LENGTH, COLUMNS, COLUMNS))
    (kernel,) = ag.explain(ag.attention(q, k, v, mask=mask, **options)).kernels
    return kernel


def counted(visible, tile):
    """Tiles in which something is visible, and all of them, by brute force."""
    height, width = tile
    some = [
        visible[head, i : i + height, j : j + width].any()
        for head in range(len(visible))
        for i in range(0, LENGTH, height)
        for j in range(0, COLUMNS, width)
    ]
    return sum(some), len(some)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_counts_and_density(name, causal):
    mask = MASKS[name]
    dense = np.ones(SHAPE, bool) if mask is None else mask.to_dense()
    visible = np.broadcast_to(dense & np.tri(*SHAPE, dtype=bool) if causal else dense, (HEADS, *SHAPE))
    kernel = explained(mask, is_causal=causal)
    assert kernel.density == pytest.approx(visible.mean(), rel=1e-12)
    some, total = counted(visible, kernel._domain.tile)
    tiles = kernel.tiles
    assert tiles.run + tiles.skipped == total
    # Bounds of a remainder are not sharp: a tile may be run for nothing.
    assert some <= tiles.run <= 1.2 * some + 8
    assert tiles.masked <= tiles.run
    if name in KINDS and not causal:
        assert kernel.domain == KINDS[name]
    assert f"domain: {kernel.domain}" in str(kernel)
    assert f"{tiles.run:,} run ({tiles.masked:,} of them masked), {tiles.skipped:,} skipped" in str(kernel)


@pytest.mark.parametrize("length", [1, 7])
def test_few_rows_go_through_lists(length):
    mask = ag.SparseMask.random_blocks(1, (4, 100), (length, 2000), seed=1)
    q, k = np.ones((1, HEADS, length, 16), "float32"), np.ones((1, HEADS, 2000, 16), "float32")
    (kernel,) = ag.explain(ag.attention(q, k, k, mask=mask)).kernels
    assert kernel.domain == "block list"
    assert kernel.density == pytest.approx(mask.density, rel=1e-12)
    assert kernel.tiles.skipped > 0


def test_a_listing_names_lists_and_not_how_they_are_searched():
    assert "listed(floor_divide(" in explained(MASKS["blocks"]).ir
    assert "less_equal" not in explained(MASKS["blocks"]).ir


def test_full_tiles_need_no_mask():
    assert explained(None).tiles.masked == 0
    assert explained(MASKS["blocks"]).tiles.masked == 0
    array = explained(MASKS["array"]).tiles
    assert array.masked == array.run


def test_of_many_tiles_some_are_looked_at(monkeypatch):
    exact = explained(MASKS["window"])
    assert "about" not in str(exact)
    monkeypatch.setattr(domains, "_MOST_TILES", 120)
    some = explained(MASKS["window"])
    assert "about" in str(some)
    assert some.tiles.run == pytest.approx(exact.tiles.run, rel=0.35)
    assert some.density == pytest.approx(exact.density, rel=0.35)


def test_of_many_positions_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(domains, "_MOST_POSITIONS", 1 << 13)
    kernel = explained(MASKS["array"])
    assert "density about" in str(kernel)
    assert kernel.density == pytest.approx(0.05, abs=0.02)


def test_tables_that_are_arguments_are_not_known():
    rng = np.random.default_rng(0)
    q = rng.standard_normal((1, HEADS, LENGTH, 16)).astype("float32")
    documents = np.arange(LENGTH) // 50
    compiled = ag.compile(lambda q, d: ag.attention(q, q, q, mask=d[:, None] == d[None, :]))
    compiled(q, documents)
    (kernel,) = ag.explain(compiled).kernels
    assert kernel.tiles is None
    assert kernel.density is None
    assert "depends on arrays that are arguments" in str(kernel)


def test_lists_are_enough_where_further_conditions_are_not_known():
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((1, HEADS, n, 16)).astype("float32") for n in SHAPE)
    listed, documents = MASKS["blocks"].predicate("a test", SHAPE), np.arange(COLUMNS) // 50
    compiled = ag.compile(lambda q, k, d: ag.attention(q, k, k, mask=listed & (d[None, :] > 1)))
    compiled(q, k, documents)
    (kernel,) = ag.explain(compiled).kernels
    assert kernel.domain == "block list"
    assert kernel.density == pytest.approx(MASKS["blocks"].density, rel=1e-12)


def test_backward_skips_the_same_tiles():
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((1, HEADS, n, 16)).astype("float32") for n in SHAPE)
    mask = MASKS["blocks"]
    gradients = ag.grad(lambda q, k, w: (ag.attention(q, k, k, mask=mask) * w).sum(), argnums=(0, 1))(
        q, k, q[::-1].copy()
    )
    for kernel in ag.explain(gradients).kernels:
        if kernel.domain != "every element":
            assert kernel.domain == "block list"
            assert kernel.density == pytest.approx(mask.density, rel=1e-12)


def test_a_loop_goes_over_every_element():
    x = np.ones((300, 300), "float32")
    (kernel,) = ag.explain(ag.exp(ag.asarray(x)).sum(1)).kernels
    assert (kernel.domain, kernel.tiles, kernel.density) == ("every element", None, None)
    assert "domain: every element" in str(kernel)


def test_pairs_are_rows_of_a_list():
    rng = np.random.default_rng(0)
    pairs = ag.SparseMask.coo(rng.integers(0, LENGTH, 900), rng.integers(0, COLUMNS, 900), SHAPE)
    q, k = (rng.standard_normal((1, HEADS, n, 16)).astype("float32") for n in SHAPE)
    kernels = ag.explain(ag.attention(q, k, k, mask=pairs)).kernels
    assert "CSR rows" in [kernel.domain for kernel in kernels]
    for kernel in kernels:
        assert f"domain: {kernel.domain}" in str(kernel)


def test_nothing_at_all():
    q = np.zeros((1, 1, 0, 16), "float32")
    for kernel in ag.explain(
        ag.attention(q, np.zeros((1, 1, 50, 16), "float32"), np.zeros((1, 1, 50, 16), "float32"))
    ).kernels:
        assert kernel.tiles in (None, Tiles(0, 0, 0))
