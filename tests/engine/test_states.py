"""States merge to the same bits whatever is computed together."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attngraph.engine.codegen.state import Field, StateLayout
from attngraph.engine.states import aligned, empty_states, merged, merged_nodes, merged_run

# A tile's state: two groups of 16 rows, a plain sum, a wide one, and one without a group.
LAYOUT = StateLayout(
    largest=(Field(0, 16, 1, False), Field(16, 16, 1, False)),
    seen=(Field(32, 16, 1, False), Field(48, 16, 1, False)),
    sums=(Field(64, 16, 1, False, 0), Field(80, 16, 3, False, 1), Field(128, 16, 2, True)),
    floats=160,
)


def states(count, seed=0):
    rng = np.random.default_rng(seed)
    found = empty_states(LAYOUT, (count, 2, 3))
    found[...] = rng.standard_normal(found.shape)
    found[..., :32] *= 30
    found[..., :32][rng.random(found[..., :32].shape) < 0.2] = -np.inf
    found[..., 32:64] = rng.random(found[..., 32:64].shape) < 0.1
    return found


def test_an_empty_state_changes_nothing():
    state, nothing = states(1)[0], empty_states(LAYOUT, (2, 3))
    hidden = np.isneginf(state[..., :32])
    state[..., 64:80][hidden[..., :16]] = 0
    state[..., 80:128][np.tile(hidden[..., 16:], 3)] = 0
    np.testing.assert_array_equal(merged(LAYOUT, state, nothing), state)
    np.testing.assert_array_equal(merged(LAYOUT, nothing, state), state)


def test_sums_are_those_of_all():
    parts = states(9)
    (state,) = merged_run(LAYOUT, parts, 0, 9).values()
    wide = parts.astype(np.float64)
    largest = wide[..., :16].max(0)
    np.testing.assert_array_equal(state[..., :16], largest)
    scales = np.exp(wide[..., :16] - np.where(np.isneginf(largest), 0, largest))
    np.testing.assert_allclose(state[..., 64:80], (wide[..., 64:80] * scales).sum(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state[..., 128:160], wide[..., 128:160].sum(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(state[..., 32:64], parts[..., 32:64].max(0))


@given(st.data())
def test_any_chunks_in_any_order_give_the_same_bits(data):
    count = data.draw(st.integers(1, 40))
    parts = states(count, seed=count)
    (wanted,) = merged_run(LAYOUT, parts, 0, count).items()
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count)))})
    runs = [merged_run(LAYOUT, parts[a:b], a, count) for a, b in itertools.pairwise(cuts)]
    for run, (first, stop) in zip(runs, itertools.pairwise(cuts), strict=True):
        covered = sorted(n for level, k in run for n in range(k << level, min((k + 1) << level, count)))
        assert covered == list(range(first, stop))
        assert len(run) <= 2 * count.bit_length()
    found = {}
    for run in data.draw(st.permutations(runs)):
        found = merged_nodes(LAYOUT, {**found, **run}, count)
    ((place, state),) = found.items()
    assert place == wanted[0]
    assert state.tobytes() == wanted[1].tobytes()


def test_states_lie_where_kernels_read_them():
    shifted = np.zeros(161, np.float32)[1:].reshape(1, 160)
    for each in (shifted, states(3)[::2], empty_states(LAYOUT, (5,))):
        found = aligned(each)
        assert found.ctypes.data % 64 == 0
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, each)
