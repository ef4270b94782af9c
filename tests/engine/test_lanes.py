"""Sweeps in lanes: what each lane is, and that neither their number nor their order changes any bits."""

import numpy as np
import pytest
from cut import UNIT, Stored, cut_whatever_the_work, same_bits
from sweeps import inputs

import attngraph as ag
from attngraph.engine import lane_runs
from attngraph.engine.config import config
from attngraph.engine.errors import StoreError
from attngraph.engine.lanes import lanes_of
from attngraph.engine.parts import Parts
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

LONG = 9 * UNIT + 7


class Near(Stored):
    """An array that the threads that compute read, in pieces of one place each, which says what was read of it."""

    is_near = True
    wrong = 1 << 40

    def pieces(self, box):
        heads = range(box[1].start, box[1].stop)
        return [(place, slice(head, head + 1), *box[2:]) for place in _single(box[0]) for head in heads]

    def read_into(self, box, out):
        if box[2].stop > self.wrong:
            raise StoreError("read: gone")
        self.reads.append((box[0].start, box[1].start, box[2].start, box[2].stop))
        out[...] = self.array[box]


def _single(side):
    return [slice(n, n + 1) for n in range(side.start, side.stop)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    cut_whatever_the_work(monkeypatch)


def arrays(rows=5, columns=LONG, heads=3):
    q, k, v = (np.array(each) for each in inputs(rows=rows, columns=columns, width=8, value_width=20))
    return [np.ascontiguousarray(np.concatenate([each] * heads, axis=1)[:, :heads]) for each in (q, k, v)]


def lanes(expression, threads, budget=None):
    made = Program(optimize([expression.node]))
    (stream,) = made.streams.steps.values()
    parts = Parts(stream.kernel, config.settings())
    return lanes_of(parts, stream.inputs, stream.sizes(config.settings()), parts.whole, threads, budget)


def stored(k, v, step=512):
    return Near(k, step), Near(v, step)


def test_places_that_read_other_pieces_are_lanes():
    q, k, v = arrays(heads=4)
    found = lanes(ag.attention(q, *stored(k, v)), 2)
    assert [each.part.batch for each in found] == [((b, b + 1), (h, h + 1)) for b in range(2) for h in range(4)]
    assert len({each.splits for each in found}) == 1


def test_heads_that_share_keys_are_one_lane():
    q, k, v = arrays(heads=2)
    many = np.concatenate([q] * 3, axis=1)
    found = lanes(ag.attention(many, *stored(k, v), enable_gqa=True), 2)
    places = {tuple(stop - first for first, stop in each.part.batch) for each in found}
    assert len(places) == 1
    assert np.prod(places.pop()) == 3
    wanted = ag.attention(many, k, v, enable_gqa=True).compute()
    with ag.config.set(threads=2):
        pair = stored(k, v)
        assert same_bits([ag.attention(many, *pair, enable_gqa=True).compute()], [wanted])
    assert len(set(pair[0].reads)) == len(pair[0].reads)


def test_where_places_are_few_splits_are_lanes():
    q, k, v = (each[:1, :1] for each in arrays())
    pair = stored(k, v)
    found = lanes(ag.attention(q, *pair), 2)
    assert len(found) >= 2
    assert [a.splits[1] for a in found[:-1]] == [b.splits[0] for b in found[1:]]
    with ag.config.set(threads=2):
        assert same_bits([ag.attention(q, *pair).compute()], [ag.attention(q, k, v).compute()])


def test_no_lanes_where_threads_would_wait():
    q, k, v = arrays(heads=4)
    assert not lanes(ag.attention(q, *stored(k, v)), 1)
    pair = stored(k, v)
    for each in pair:
        each.is_near = False  # reading waits for a network: it is done ahead
    assert not lanes(ag.attention(q, *pair), 2)
    many = [np.concatenate([each] * 20, axis=2)[:1, :3, :2000] for each in (q, k, v)]
    assert not lanes(ag.attention(many[0], *stored(*many[1:])), 2)  # three places, and a single split
    assert not lanes(ag.attention(q, *stored(k, v)), 2, budget=1000)


@pytest.mark.parametrize("rows", [1, 70])
@pytest.mark.parametrize("step", [1, 500, 512, 4096])
def test_any_number_of_threads_changes_no_bits(rows, step, monkeypatch):
    q, k, v = arrays(rows, heads=4)
    wanted = ag.attention(q, k, v).compute()
    ran = []
    states = lane_runs.LaneRun.states
    monkeypatch.setattr(lane_runs.LaneRun, "states", lambda *given: ran.append(given) or states(*given))
    for threads in (1, 2, 4):
        with ag.config.set(threads=threads, memory_limit=30_000_000):
            assert same_bits([ag.attention(q, *stored(k, v, step)).compute()], [wanted])
    assert len(ran) == 2


def test_what_cannot_be_read_ends_all_lanes():
    q, k, v = arrays(heads=4)
    pair = stored(k, v)
    pair[1].wrong = LONG // 2
    with ag.config.set(threads=2), pytest.raises(StoreError, match="gone"):
        ag.attention(q, *pair).compute()
