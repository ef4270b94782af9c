import numpy as np
import pytest
from cut import UNIT, Stored, cut_whatever_the_work

import attngraph as ag
from attngraph.runtime import arguments

LENGTH = 3 * UNIT
RNG = np.random.default_rng(0)
Q, K, V = (RNG.standard_normal((2, rows, 8), dtype="float32") for rows in (5, LENGTH, LENGTH))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    cut_whatever_the_work(monkeypatch)
    monkeypatch.setattr(arguments, "_LEAST_STREAMED", K.nbytes)


def attend():
    return ag.compile(ag.attention)


def test_large_arguments_are_read_block_by_block():
    compiled, wanted = attend(), attend()(Q, K, V)
    stored = Stored(K, 512), Stored(V, 512)
    with ag.config.set(memory_limit=2_000_000):
        for q in (Q, 2 * Q, Q):
            found = compiled(q, *stored)
    assert found.tobytes() == wanted.tobytes()
    assert len(stored[0].reads) > 3
    assert compiled.cache_info()[:3] == (2, 1, 1)
    out = np.empty_like(found)
    compiled(Q, *stored, out=out)
    assert np.array_equal(out, wanted)


def test_small_ones_are_read_at_once_and_share_a_trace():
    compiled = attend()
    for _ in range(3):
        stored = Stored(K[:, :500], 100), Stored(V[:, :500], 100)
        compiled(Q, *stored)
        assert len(stored[0].reads) == 1
    assert compiled.cache_info().size == 1


def test_few_traces_of_streamed_arguments_are_kept():
    compiled = attend()
    for _ in range(12):
        compiled(Q, Stored(K, 512), Stored(V, 512))
    assert compiled.cache_info().size == 8
    compiled(Q, K, V)
    assert compiled.cache_info().size == 9
