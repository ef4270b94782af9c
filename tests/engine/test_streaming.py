"""Sweeps that read keys and values block by block: the bits of the run in memory, within a declared limit."""

import gc
import re

import dask.array
import ml_dtypes
import numpy as np
import pytest
import zarr
from cut import UNIT, Stored, cut_whatever_the_work, same_bits
from sweeps import attend, inputs, scores

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.errors import LimitError, NonFiniteError, ShapeError
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.streaming import StreamingRun
from attngraph.ops.array import Array
from attngraph.ops.guard import Guard

LONG = 3 * UNIT + 7


@pytest.fixture(autouse=True)
def small(monkeypatch):
    cut_whatever_the_work(monkeypatch)
    gc.collect()


def arrays(rows=5, columns=LONG, width=8):
    return [np.array(each) for each in inputs(rows=rows, columns=columns, width=width, value_width=20)]


def least_limit(expression):
    with ag.config.set(memory_limit=1000), pytest.raises(LimitError) as raised:
        expression().compute()
    return int(re.search("smallest possible is ([0-9]+)", str(raised.value))[1])


def hidden(q, k, v):
    i, j = ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]
    return attend(ag.where(j < 300 * i + 100, scores(q, k), -ag.inf), v)


def windowed(q, k, v):
    i, j = ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]
    return attend(ag.where((j >= 37 * i) & (j < 37 * i + 900), scores(q, k), -ag.inf), v)


def in_documents(q, k, v):
    ids = np.arange(k.shape[-2]) // 700
    return attend(
        ag.where(ag.asarray(ids[: q.shape[-2]] * 3)[:, None] == ag.asarray(ids)[None, :], scores(q, k), -ag.inf), v
    )


BUILDERS = {
    "plain": ag.attention,
    "causal": lambda q, k, v: ag.attention(q, k, v, is_causal="lower_right"),
    "hidden": hidden,
    "window": windowed,
    "documents": in_documents,
    "sigmoid": lambda q, k, v: ag.sigmoid(scores(q, k)) @ v,
    "distance": lambda q, k, v: attend(-((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1), v),
}


@pytest.mark.parametrize("rows", [1, 5, 70])
@pytest.mark.parametrize("name", BUILDERS)
def test_the_limit_changes_no_bits(name, rows):
    q, k, v = arrays(rows)
    build = BUILDERS[name]

    def truth():
        return build(*map(ag.asarray, (q, k, v))).compute()

    wanted = truth()
    found = set()
    for step in (1, 100, 1024):
        stored = Stored(k, step), Stored(v, step)

        def expression(stored=stored):
            return build(ag.asarray(q), *map(ag.asarray, stored))

        least = least_limit(expression)
        assert not stored[0].reads
        for limit in (least, 2 * least, None):
            for each in stored:
                each.reads.clear()
            before = Stored.peak = Stored.live
            with ag.config.set(memory_limit=limit):
                result = expression().compute()
            np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-5)
            assert all(each.is_read_once for each in stored)
            assert limit is None or Stored.peak - before + result.nbytes <= limit
            found.add(result.tobytes())
    assert len(found) == 1
    if name in ("plain", "causal", "hidden", "sigmoid"):
        assert found == {wanted.tobytes()}


def test_many_rows_have_one_split_and_are_streamed():
    q, k, v = arrays(rows=800)
    wanted = ag.attention(q, k, v).compute()
    for limit in (None, 8_000_000):
        with ag.config.set(memory_limit=limit):
            stored = Stored(k, 512), Stored(v, 512)
            assert same_bits([ag.attention(q, *stored).compute()], [wanted])
            assert all(each.is_read_once for each in stored)
    assert len(stored[0].reads) > 1


def test_a_limit_that_is_too_small_says_the_smallest():
    q, k, v = arrays()
    stored = Stored(k), Stored(v)
    least = least_limit(lambda: ag.attention(q, *stored))
    assert least < k.nbytes
    with ag.config.set(memory_limit=least - 1), pytest.raises(LimitError, match=f"smallest possible is {least}"):
        ag.attention(q, *stored).compute()
    with ag.config.set(memory_limit=least):
        ag.attention(q, *stored).compute()


@pytest.mark.parametrize("chunk", [100, 1000, 4096, LONG])
def test_libraries(chunk):
    q, k, v = arrays()
    wanted = ag.attention(q, k, v).compute()
    of_zarr = [zarr.array(each, chunks=(1, 1, chunk, each.shape[-1])) for each in (k, v)]
    of_dask = [dask.array.from_array(each, chunks=(1, 1, chunk, -1)) for each in (k, v)]
    for pair in (of_zarr, of_dask, [of_zarr[0], v], [k, of_dask[1]]):
        with ag.config.set(memory_limit=30_000_000):
            assert same_bits([ag.attention(q, *pair).compute()], [wanted])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_small_types_are_widened_block_by_block(dtype):
    q, k, v = (each.astype(dtype) for each in arrays())
    wanted = ag.attention(q, k, v).compute()
    stored = Stored(k, 512), Stored(v, 512)
    with ag.config.set(memory_limit=3_000_000):
        found = ag.attention(q, *stored).compute()
    assert found.dtype == wanted.dtype
    assert same_bits([found], [wanted])
    assert len(stored[0].reads) > 2
    assert all(each.is_read_once for each in stored)


def test_an_array_that_is_keys_and_values_is_read_once():
    q, k, _ = arrays()
    stored = Stored(k, 512)
    assert same_bits([ag.attention(q, stored, stored).compute()], [ag.attention(q, k, k).compute()])
    assert stored.is_read_once


def test_heads_that_share_keys():
    q, k, v = arrays()
    many = np.concatenate([q, q], axis=1)
    wanted = ag.attention(many, k, v, enable_gqa=True).compute()
    assert same_bits([ag.attention(many, Stored(k), Stored(v), enable_gqa=True).compute()], [wanted])


def test_what_something_else_needs_is_read_as_a_whole():
    q, k, v = arrays()
    stored = Stored(k, 512), Stored(v, 512)
    expression = ag.attention(q, *stored) + ag.asarray(stored[0]).sum()
    wanted = ag.attention(q, k, v) + ag.asarray(k).sum()
    np.testing.assert_allclose(expression.compute(), wanted.compute(), rtol=1e-5)
    assert stored[0].reads == [(0, LONG)]
    assert least_limit(lambda: expression) > k.nbytes


def test_queries_may_be_lazy():
    q, k, v = arrays(rows=70)
    assert same_bits([ag.attention(Stored(q), Stored(k), Stored(v)).compute()], [ag.attention(q, k, v).compute()])


# --- what is not finite


@pytest.mark.parametrize("rows", [1, 70])
@pytest.mark.parametrize("which", [1, 2])
def test_what_counts_and_is_not_finite_is_an_error(rows, which):
    given = arrays(rows)
    given[which][1, 2, 6000, 3] = np.nan
    q, k, v = given
    with pytest.raises(NonFiniteError, match=("query", "key", "value")[which]):
        ag.attention(q, Stored(k), Stored(v)).compute()
    with ag.config.set(memory_limit=8_000_000), pytest.raises(NonFiniteError, match="at a position that counts"):
        ag.attention(q, Stored(k, 512), Stored(v, 512)).compute()
    mask = np.ones(LONG, bool)
    mask[6000] = False
    found = ag.attention(q, Stored(k, 512), Stored(v, 512), mask=mask).compute()
    np.testing.assert_allclose(found, ag.attention(q, k, v, mask=mask).compute(), rtol=2e-5, atol=2e-5)


def test_overflow_on_the_way_is_settled_block_by_block():
    q, k, v = arrays(rows=70)
    q[0, 0, 0], k[0, 0, 7000] = 1e30, 1e30
    stored = Stored(k, 512), Stored(v, 512)
    least = least_limit(lambda: ag.attention(q, *stored))
    with ag.config.set(memory_limit=least):
        found = ag.attention(q, *stored).compute()
    with ag.config.set(target="reference64"):
        np.testing.assert_allclose(found, ag.attention(q, k, v).compute(), rtol=2e-5, atol=2e-5)
    assert max(stop - first for first, stop in stored[0].reads) < LONG // 2


def test_an_array_that_was_resized_is_an_error():
    q, k, v = arrays()
    stored = Stored(k), Stored(v)
    expression = ag.attention(q, *stored)
    stored[0].shape = (*k.shape[:2], 17, k.shape[3])
    with pytest.raises(ShapeError, match="when it was bound"):
        expression.compute()


# --- rows and places


def test_parts_of_rows_and_places_are_those_of_the_whole():
    q, k, v = arrays(rows=200)
    stored = Stored(k, 512), Stored(v, 512)
    made = Program(optimize([ag.attention(q, *stored).node]))
    (stream,) = made.streams.steps.values()
    (query,) = [node for node in stream.kernel.fused.inputs if node not in stream.nodes]
    (whole,) = StreamingRun(stream, config.settings()).results({query: q})
    assert same_bits([whole], [ag.attention(q, k, v).compute()])
    found = np.empty_like(whole)
    for place in range(k.shape[0]):
        for rows in ((0, 64), (64, 192), (192, 200)):
            run = StreamingRun(stream, config.settings(), 4_000_000)
            part = run.parts.whole
            part = part._replace(batch=((place, place + 1), *part.batch[1:]), rows=rows)
            box = run.parts.result_box(0, part)
            (found[box],) = run.results({query: q}, part=part)
    assert same_bits([found], [whole])


class Viewed(Stored):
    """The same, of views: nothing is copied."""

    is_mapped = True

    def fetch(self, box):
        pass

    def read(self, box):
        self.reads.append((box[self.axis].start, box[self.axis].stop))
        return self.array[box]


class Divided(Stored):
    """The same, in pieces of one column of chunks each, by any thread."""

    def pieces(self, box):
        first, stop = box[self.axis].start, box[self.axis].stop
        step = self.steps[self.axis]
        cuts = [(at, min(at + step, stop)) for at in range(first, stop, step)]
        return [tuple(slice(*cut) if n == self.axis else side for n, side in enumerate(box)) for cut in cuts]

    def read_into(self, box, out):
        out[...] = self.array[box]


class Near(Divided):
    """The same, read by whoever computes with it."""

    is_near = True


@pytest.mark.parametrize("kind", [Viewed, Divided, Near])
@pytest.mark.parametrize("name", ["plain", "causal", "hidden", "sigmoid"])
def test_views_and_pieces_change_no_bits(name, kind):
    q, k, v = arrays(5)
    build = BUILDERS[name]
    wanted = build(*map(ag.asarray, (q, k, v))).compute()
    for step in (1, 500, 512):
        stored = kind(k, step), kind(v, step)
        for limit in (None, 3_000_000):
            with ag.config.set(memory_limit=limit, threads=2):
                found = build(ag.asarray(q), *map(ag.asarray, stored)).compute()
            assert found.tobytes() == wanted.tobytes()


def test_views_count_for_nothing_in_the_limit():
    q, k, v = arrays()
    plain = least_limit(lambda: ag.attention(q, Stored(k), Stored(v)))
    assert least_limit(lambda: ag.attention(q, Viewed(k), Viewed(v))) < plain / 2


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", [Stored, Viewed, Divided, Near])
def test_narrow_floats_are_widened_block_by_block(dtype, kind):
    q, k, v = arrays()
    k, v = (each.astype(dtype) for each in (k, v))
    wanted = ag.attention(q, *(each.astype("float32") for each in (k, v))).compute()
    with ag.config.set(memory_limit=3_000_000, threads=2):
        stored = (ag.astype(ag.asarray(kind(each, 512)), ag.float32) for each in (k, v))
        assert ag.attention(q, *stored).compute().tobytes() == wanted.tobytes()


@pytest.mark.parametrize("limit", [None, 3_000_000])
@pytest.mark.parametrize("kind", [Stored, Viewed, Divided, Near])
@pytest.mark.parametrize("argument", ["k", "v"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_whatever_is_not_finite_is_found_where_it_counts(wrong, argument, kind, limit):
    q, k, v = arrays()
    q = np.abs(q) + 1
    side = k if argument == "k" else v
    side[:, :, -3] = wrong  # all of its scores are -inf, or all weights of its value are numbers

    def attended(**options):
        return ag.attention(q, kind(k, 512), kind(v, 512), **options)

    with ag.config.set(memory_limit=limit, threads=2):
        with pytest.raises(NonFiniteError, match=r"holds NaN or infinity|key|value"):
            attended().compute()
        with ag.config.set(check_finite=False):
            expected = ag.attention(q, k, v).compute()
            assert np.array_equal(attended().compute(), expected, equal_nan=True)
        # Where no row sees it, it is nobody's.
        visible = np.arange(k.shape[-2]) < k.shape[-2] - 3
        found = ag.attention(q, kind(k, 512), kind(v, 512), mask=ag.asarray(visible)[None, :]).compute()
    cut = k.shape[-2] - 3
    np.testing.assert_allclose(found, ag.attention(q, k[:, :, :cut], v[:, :, :cut]).compute(), rtol=1e-5, atol=1e-5)


def test_scores_that_hide_infinity_are_looked_at():
    q, k, v = arrays()
    k[:, :, 100] = np.inf

    def hiding(q, k, v):
        q, k, v = (Array(Guard(each.node, "hiding", "key")) for each in (q, k, v))
        return attend(-ag.tanh((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1), v)

    with pytest.raises(NonFiniteError):
        hiding(ag.asarray(q), ag.asarray(Stored(k, 512)), ag.asarray(Stored(v, 512))).compute()
