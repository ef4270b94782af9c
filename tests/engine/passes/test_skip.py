"""How sharp the classification of tiles is: what a kernel computes against what has anything visible in it."""

import numpy as np
import pytest
from flex_programs import MASKS, functions, in_attngraph, visible

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.immediate import evaluate_now
from attngraph.engine.passes.skip import Skip
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.summaries import evaluate, hold, summarize

LENGTH, HEADS, TILE = 1024, 4, 16


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


class Tiles:
    """What is known of the tiles of an attention under a mask: (batch, heads, blocks of rows, strips of columns)."""

    def __init__(self, mask_mod, length=LENGTH, tile=TILE):
        q = np.zeros((2, HEADS, length, 4), np.float32)
        block = ag.create_block_mask(mask_mod, 2, HEADS, length, length)
        made = Program(optimize([ag.flex_attention(q, q, q, block_mask=block).node]))
        (kernel,) = made.kernels.values()
        self.skip = skip = Skip(kernel.sweep, kernel.fused.elements)
        arrays = dict(zip(kernel.fused.inputs, evaluate_now(list(kernel.fused.inputs)), strict=True))
        assert hold(skip, arrays)
        for each in skip.summaries:
            arrays[each.low], arrays[each.high] = summarize(each, arrays, [tile], int)
        batch = [axis.length for axis in kernel.sweep.batch]
        self.shape = (*batch, -(-length // tile), -(-length // tile))
        starts = np.arange(0, length, tile)
        sides = ((starts, np.minimum(starts + tile, length) - 1, np.arange(len(starts))) for _ in range(2))
        places = {axis: self._along(np.arange(axis.length), number) for number, axis in enumerate(kernel.sweep.batch)}
        for side, values in enumerate(sides):
            corners = skip.corners[3 * side : 3 * side + 3]
            places |= {axis: self._along(each, len(batch) + side) for axis, each in zip(corners, values, strict=True)}
        self._arrays, self._places = arrays, places
        self.full, self.empty = self._of(skip.full), self._of(skip.empty)
        self.outside = np.zeros(self.shape, bool)
        for bound in skip.most:
            self.outside |= self._of(bound, np.int64) < places[skip.corners.column_first]
        for bound in skip.least:
            self.outside |= self._of(bound, np.int64) > places[skip.corners.column_last]

    def _along(self, values, place):
        return values.reshape([-1 if each == place else 1 for each in range(len(self.shape))])

    def _of(self, scalar, dtype=bool):
        (found,) = evaluate([scalar], self._arrays, self._places)
        return np.broadcast_to(found.astype(dtype), self.shape)

    @property
    def computed(self):
        """Those that the kernel cannot leave out."""
        return ~(self.outside if self.skip.is_bounded else self.outside | self.empty)


def tiles_of(mask, shape, tile=TILE):
    """Whether anything, and whether everything, is visible in each tile."""
    mask = np.broadcast_to(mask, (2, HEADS, *mask.shape[2:]))
    parts = mask.reshape(2, HEADS, mask.shape[2] // tile, tile, mask.shape[3] // tile, tile)
    some, every = parts.any((3, 5)), parts.all((3, 5))
    batch = len(shape) - 2  # a sweep may have folded batch and heads
    return (each.reshape(*shape[:batch], *each.shape[2:]) for each in (some, every))


# The share of the full tiles that is found full. Of what is empty, everything is found.
FOUND_FULL = {
    "causal": 1.0,
    "sliding window": 1.0,
    "dilated window": 1.0,
    "strided": 1.0,
    "prefix LM": 1.0,
    "global and window": 1.0,
    "sinks and window": 1.0,
    "documents": 1.0,
    "documents of a batch": 1.0,
    "neighbourhood": 1.0,
    "tiled neighbourhood": 1.0,
    "shared prefix": 0.99,
    "block diffusion": 0.5,  # a tile in which two of its conditions share what is visible
    "vision intervals": 1.0,
    "padding": 1.0,
    "windows of heads": 1.0,
    "chunked and window": 1.0,
}
PROGRAMS = {each.name: each for each in MASKS}


@pytest.mark.parametrize("name", FOUND_FULL)
def test_only_strips_with_something_visible_are_computed(name):
    _, mask_mod = functions(PROGRAMS[name], LENGTH, HEADS, in_attngraph())
    tiles = Tiles(mask_mod)
    some, every = tiles_of(visible(PROGRAMS[name], (2, HEADS, LENGTH, LENGTH)), tiles.shape)
    np.testing.assert_array_equal(tiles.computed, some)
    full = tiles.full & tiles.computed
    assert not (full & ~every).any()
    assert full.sum() >= FOUND_FULL[name] * every.sum()


BOUNDED = {
    "causal": lambda b, h, i, j: i >= j,
    "causal, the other way round": lambda b, h, i, j: ~(i < j),
    "anticausal": lambda b, h, i, j: j > i,
    "diagonal": lambda b, h, i, j: i == j + 5,
    "window": lambda b, h, i, j: (i >= j) & (i - j < 100),
    "window on both sides": lambda b, h, i, j: abs(i - j) <= 60,
    "prefix of keys": lambda b, h, i, j: j < 300,
    "suffix of keys": lambda b, h, i, j: j >= 300,
    "windows of heads": lambda b, h, i, j: (i - j < 50 * (h + 1)) & (i >= j),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_of_columns_say_all(name):
    tiles = Tiles(BOUNDED[name])
    mask = ag.create_block_mask(BOUNDED[name], 2, HEADS, LENGTH, LENGTH, BLOCK_SIZE=TILE)
    assert tiles.skip.is_bounded
    assert not tiles.skip.summaries
    np.testing.assert_array_equal(*np.broadcast_arrays(tiles.computed, mask.to_dense().reshape(tiles.shape) > 0))


def test_lengths_of_a_batch_bound_the_columns():
    lengths = ag.asarray(np.array([100, 1000]))
    tiles = Tiles(lambda b, h, i, j: j < lengths[b])
    assert tiles.skip.is_bounded
    assert tiles.computed.reshape(2, -1, LENGTH // TILE).sum(-1).min(1).tolist() == [7, 63]


NEVER_BOUNDS = {
    "beyond the least": lambda b, h, i, j: i - j > -(2**63),
    "below the largest": lambda b, h, i, j: j <= 2**63 - 1,
    "every third": lambda b, h, i, j: i >= 3 * j,
    "NaN is neither": lambda b, h, i, j: ~(i * 0.5 < j * 0.5),
}


@pytest.mark.parametrize("name", NEVER_BOUNDS)
def test_what_might_wrap_or_does_not_move_by_one_gives_no_bound(name):
    skip = Tiles(NEVER_BOUNDS[name]).skip
    assert not skip.least
    assert not skip.most
    assert not skip.is_bounded


def test_tables_that_may_not_be_looked_at_decide_nothing():
    table = ag.asarray(np.arange(LENGTH))
    skip = Tiles(lambda b, h, i, j: (i + table[j] >= j + table[j]) & (i >= j)).skip
    unread = Skip(skip.sweep, skip.elements, reads=False)
    assert not unread.summaries
    assert not unread.guarded
    assert len(skip.most) == 2
    assert len(unread.most) == 1


def test_long_chains_and_shared_conditions_are_taken_apart_once():
    def doubled(b, h, i, j):
        condition = i >= j
        for number in range(60):
            condition = condition & (condition & (i + number >= j))
        return condition

    assert len(Tiles(doubled, 64).skip.roots) >= 20
