"""Masks in kernels against the reference: whatever is left out, or computed without a mask, is as predicates say."""

import threading

import hypothesis.strategies as st
import numpy as np
import pytest
from flex_programs import MASKS, functions, in_attngraph
from hard_masks import HARD, LENGTH
from hypothesis import HealthCheck, given, note, settings

import attngraph as ag
from attngraph.engine import program, summaries
from attngraph.engine.codegen.target import named_target
from attngraph.engine.errors import CompileError
from attngraph.engine.pipeline import optimize
from attngraph.engine.printing import listing
from attngraph.engine.program import Program
from strategies import mask_mods

HEADS = (2, 3)
WIDTH = 8
TOLERANCE = 5e-5


def _has(target):
    try:
        named_target(target)
    except CompileError:
        return False
    return True


TARGETS = [target for target in ("native", "x86-64-v2", "x86-64-v3", "x86-64-v4") if _has(target)]


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def inputs(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((*HEADS, rows, WIDTH), (*HEADS, columns, WIDTH), (*HEADS, columns, WIDTH))
    return [rng.standard_normal(shape).astype("float32") for shape in shapes]


def masked(mask_mod, q, k, v):
    block = ag.create_block_mask(mask_mod, *HEADS, q.shape[2], k.shape[2])
    return ag.flex_attention(q, k, v, block_mask=block)


def predicate_of(mask_mod, rows, columns):
    block = ag.create_block_mask(mask_mod, *HEADS, rows, columns)
    return block.predicate("a test", block.shape)


def visible(mask_mod, rows, columns):
    with ag.config.set(target="reference64"):
        return predicate_of(mask_mod, rows, columns).compute()


def dense(mask, q, k, v):
    """Attention in float64 to what is visible."""
    q, k, v = (each.astype(np.float64) for each in (q, k, v))
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(WIDTH), -np.inf)
    largest = scores.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isneginf(largest), 0, largest))
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total == 0, 1, total) @ v


def check(mask_mod, rows, columns, target="native", spoilt=False):
    """Kernel against the dense result; with ``spoilt``, columns that nobody sees hold NaN."""
    q, k, v = inputs(rows, columns)
    mask = visible(mask_mod, rows, columns)
    wanted = dense(mask, q, k, v)
    if spoilt:
        hidden = ~mask.any(2)
        k[hidden] = v[hidden] = np.nan
    with ag.config.set(target=target):
        found = masked(mask_mod, q, k, v).compute()
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


LENGTHS = st.one_of(st.integers(1, 400), st.sampled_from((1, 2, 15, 16, 17, 127, 128, 129, 256, 257)))


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    rows=LENGTHS,
    columns=LENGTHS,
    target=st.sampled_from(TARGETS),
    spoilt=st.sampled_from((False, True)),
)
def test_random_predicates(data, rows, columns, target, spoilt):
    mask_mod = data.draw(mask_mods(HEADS, max(rows, columns)))
    note(listing([predicate_of(mask_mod, rows, columns).node]))
    check(mask_mod, rows, columns, target, spoilt)


@pytest.mark.parametrize("name", HARD)
def test_hard_predicates(name):
    check(HARD[name], LENGTH, LENGTH)


@pytest.mark.parametrize("name", ["hashes", "near in time", "windows of heads", "bytes wrap below 0", "words wrap"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 90), (3, 90), (90, 1), (90, 17), (33, 90)])
def test_hard_predicates_of_few_rows_or_columns(name, target, rows, columns):
    check(HARD[name], rows, columns, target, spoilt=True)


@pytest.mark.parametrize("form", MASKS, ids=lambda form: form.name)
def test_programs_over_ragged_ends(form):
    _, mask_mod = functions(form, 324, 3, in_attngraph())
    check(mask_mod, 324, 324, spoilt=True)


def test_a_dense_bias_beside_tiles_that_are_left_out():
    q, k, v = inputs(203, 309)
    bias = np.random.default_rng(1).standard_normal((203, 309)).astype("float32")
    ids = np.sort(np.random.default_rng(2).integers(0, 6, 309))
    mask = ids[:203, None] == ids
    bias[~mask] = np.nan
    table = ag.asarray(ids)
    block = ag.create_block_mask(lambda b, h, i, j: table[i] == table[j], None, None, 203, 309)
    dense_bias = ag.asarray(bias)
    found = ag.flex_attention(q, k, v, lambda s, b, h, i, j: s + dense_bias[i, j], block).compute()
    scores = np.where(mask, q.astype(float) @ k.swapaxes(-1, -2) / np.sqrt(WIDTH) + np.where(mask, bias, 0), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    np.testing.assert_allclose(found, weights / weights.sum(-1, keepdims=True) @ v, rtol=TOLERANCE, atol=TOLERANCE)


# --- what changes between calls


def documents(table):
    return lambda b, h, i, j: (table[i] == table[j]) & (i >= j)


def of_documents(ids):
    return (ids[:, None] == ids) & np.tri(len(ids), dtype=bool)


def changed_in_place(ids):
    yield ids
    for step in (7, 50, 111):
        ids[:] = np.roll(np.sort(ids), step)
        yield ids


@pytest.mark.parametrize("seen_as", ["writable", "read-only, through an older view"])
def test_changes_in_place_are_seen(seen_as):
    ids = np.sort(np.random.default_rng(0).integers(0, 9, 200))
    given = ids if seen_as == "writable" else ids.view()
    if seen_as != "writable":
        owner = ids
        ids = owner[:]
        owner.flags.writeable = False
        given = owner
    table = ag.asarray(given)
    compiled = ag.compile(lambda q, k, v: masked(documents(table), q, k, v))
    q, k, v = inputs(200, 200)
    for now in changed_in_place(ids):
        np.testing.assert_allclose(compiled(q, k, v), dense(of_documents(now), q, k, v), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("make", "most"), [(ag.constant, 0), (ag.asarray, 1)], ids=["constant", "asarray"])
def test_summaries_of_constants_are_kept(make, most, monkeypatch):
    counted = []
    monkeypatch.setattr(summaries, "summarize", lambda *args, old=summaries.summarize: counted.append(0) or old(*args))
    table = make(np.arange(200) // 17)
    compiled = ag.compile(lambda q, k, v: masked(documents(table), q, k, v))
    q, k, v = inputs(200, 200)
    first = compiled(q, k, v)
    assert counted
    counted.clear()
    np.testing.assert_array_equal(compiled(q, k, v), first)
    assert min(len(counted), 1) == most


def test_tables_that_grow_too_large_for_bounds():
    positions = np.arange(200)
    table = ag.asarray(positions)
    compiled = ag.compile(
        lambda q, k, v: masked(lambda b, h, i, j: (table[i] - table[j] < 20) & (i + table[j] >= j), q, k, v)
    )
    q, k, v = inputs(200, 200)
    for scale in (1, 2**56, 1, 2**62, 3):
        positions[:] = np.arange(200) * scale
        near = (positions[:, None] - positions < 20) & (np.arange(200)[:, None] + positions >= np.arange(200))
        np.testing.assert_allclose(compiled(q, k, v), dense(near, q, k, v), rtol=TOLERANCE, atol=TOLERANCE)


def test_tables_of_arguments_at_any_length_and_from_many_threads():
    compiled = ag.compile(lambda q, k, v, ids: masked(documents(ids), q, k, v))
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for length in rng.integers(1, 300, 12):
            ids = np.sort(rng.integers(0, 9, length))
            ids.flags.writeable = bool(seed % 2)
            q, k, v = inputs(length, length, seed)
            for _ in range(2):  # the second call of a length may go another way
                found = compiled(q, k, v, ids)
                if not np.allclose(found, dense(of_documents(ids), q, k, v), rtol=TOLERANCE, atol=TOLERANCE):
                    failures.append((seed, length))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures


def test_one_short_call_again_and_again():
    """Which the native half of a compiled function would answer alone, were there no table to look at before."""
    compiled = ag.compile(lambda q, k, v, ids: masked(documents(ids), q, k, v))
    q, k, v = inputs(40, 40)
    for step in range(8):
        ids = np.roll(np.sort(np.arange(40) % 5), step)
        np.testing.assert_allclose(
            compiled(q, k, v, ids), dense(of_documents(ids), q, k, v), rtol=TOLERANCE, atol=TOLERANCE
        )


def test_columns_that_a_mask_leaves_out_are_never_read():
    made = Program(optimize([masked(lambda b, h, i, j: (j >= 64) & (j < 128), *inputs(64, 256)).node]))
    (kernel,) = made.kernels.values()
    q, k, v = inputs(64, 256)
    k[:, :, :64] = v[:, :, 128:] = np.nan
    found = masked(lambda b, h, i, j: (j >= 64) & (j < 128), q, k, v).compute()
    assert np.isfinite(found).all()
    assert kernel.kind == "sweep"
