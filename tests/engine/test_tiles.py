"""States of blocks against every position: whatever the predicate, an empty block is empty, and a full one full."""

import time
import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
from flex_programs import MASKS, functions, in_attngraph, visible
from hard_masks import HARD, LENGTH
from hypothesis import HealthCheck, given, note, settings

import attngraph as ag
from attngraph.engine import tiles
from attngraph.engine.block_states import EMPTY, FULL, PARTIAL, block_states
from attngraph.engine.printing import listing
from strategies import mask_mods

HEADS = (2, 3)
LONG = 131072


def dense_states(mask, block):
    """States from every position, one block at a time."""
    rows, columns = mask.shape[2:]
    states = np.empty((*mask.shape[:2], -(-rows // block[0]), -(-columns // block[1])), np.int8)
    for i, j in np.ndindex(*states.shape[2:]):
        part = mask[:, :, i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]]
        states[:, :, i, j] = np.where(part.all((2, 3)), FULL, np.where(part.any((2, 3)), PARTIAL, EMPTY))
    return states


def predicate_of(mask_mod, shape):
    return ag.create_block_mask(mask_mod, *shape).predicate("a test", shape)


def check(mask_mod, shape, block):
    predicate = predicate_of(mask_mod, shape)
    with ag.config.set(target="reference64"):
        mask = predicate.compute()
    states = block_states(predicate.node, block)
    assert states is not None
    np.testing.assert_array_equal(states, dense_states(mask, block))


@settings(
    max_examples=2 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data(), rows=st.integers(1, 60), columns=st.integers(1, 60))
def test_random_predicates(data, rows, columns):
    mask_mod = data.draw(mask_mods(HEADS, max(rows, columns)))
    block = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    note(listing([predicate_of(mask_mod, (*HEADS, rows, columns)).node]))
    check(mask_mod, (*HEADS, rows, columns), block)


@pytest.mark.parametrize("name", HARD)
def test_hard_predicates(name):
    check(HARD[name], (*HEADS, LENGTH, LENGTH), (16, 7))


@pytest.mark.parametrize("program", MASKS, ids=lambda program: program.name)
def test_programs(program):
    _, mask_mod = functions(program, 256, 2, in_attngraph())
    shape = (2, 2, 256, 256)
    block = ag.create_block_mask(mask_mod, *shape, BLOCK_SIZE=(32, 16))
    wanted = dense_states(np.broadcast_to(visible(program, shape), shape), (32, 16))
    np.testing.assert_array_equal(block.to_dense(), wanted != EMPTY)
    states = block_states(block.predicate("a test", shape).node, (32, 16))
    if program.name != "documents by offsets":  # which looks up what may lie outside
        np.testing.assert_array_equal(states, wanted)


@pytest.mark.parametrize(
    "shape", [(1, 1, 0, 5), (1, 1, 5, 0), (0, 2, 5, 5), (1, 1, 1, 1), (1, 1, 1, 50), (1, 1, 50, 1)]
)
def test_few_positions_or_none(shape):
    ids = ag.asarray(np.arange(50) // 7)
    check(lambda b, h, i, j: (ids[i] == ids[j]) & (i >= j), shape, (4, 4))


def test_what_numpy_does_not_have_is_left_to_the_interpreter():
    table = ag.asarray(np.linspace(-1, 1, 9, dtype="float32"))
    assert block_states(predicate_of(lambda b, h, i, j: ag.erf(table[j]) > 0, (1, 1, 9, 9)).node, (3, 3)) is None
    assert ag.create_block_mask(lambda b, h, i, j: ag.erf(table[j]) > 0, 1, 1, 9, 9, BLOCK_SIZE=5).to_dense().sum() == 2


def test_large_blocks_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr(tiles, "_MOST_POSITIONS", 100)
    for block in ((7, 300), (300, 7), (300, 300), (1, 1)):
        check(lambda b, h, i, j: (i * j) % 5 < 4, (*HEADS, 40, 230), block)


DOCUMENTS = ag.constant(np.sort(np.random.default_rng(0).integers(0, 200, LONG)) * 0x1234567890ABCD % (1 << 62))
LONG_MASKS = {
    "causal": lambda b, h, i, j: i >= j,
    "documents": lambda b, h, i, j: (DOCUMENTS[i] == DOCUMENTS[j]) & (i >= j),
}


@pytest.mark.parametrize("name", LONG_MASKS)
def test_long_masks_take_memory_for_blocks_not_for_positions(name):
    mask = ag.create_block_mask(LONG_MASKS[name], None, None, LONG, LONG)
    tracemalloc.start()
    try:
        began = time.perf_counter()
        sparsity = mask.sparsity()
        seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    blocks = (LONG // 128) ** 2
    assert 49 < sparsity < 100
    assert peak < 32 * blocks  # bytes: a block has 16384 positions
    assert seconds < 60
