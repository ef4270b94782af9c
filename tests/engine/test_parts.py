"""Sweeps in parts against the undivided run, to the last bit, and against the reference in float64."""

import pickle

import numpy as np
import pytest
from cut import UNIT, cut_whatever_the_work, in_parts, on_target, runs, same_bits, taken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweeps import VARIANTS, attend, inputs, scores

import attngraph as ag
from attngraph.engine import splits
from attngraph.engine.config import config
from attngraph.engine.errors import ArgumentError, NonFiniteError
from attngraph.engine.parts import Parts

LONG = 2 * UNIT + 93


@pytest.fixture(autouse=True)
def small(monkeypatch):
    cut_whatever_the_work(monkeypatch)


def window(q, k, v):
    i, j = ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]
    return attend(ag.where((j >= 50 * i + 300) & (j < 50 * i + 6000), scores(q, k), -ag.inf), v)


def documents_of_data(q, k, v):
    rng = np.random.default_rng(3)
    mine = ag.asarray(np.sort(rng.integers(0, 9, q.shape[-2])))
    theirs = ag.asarray(np.sort(rng.integers(0, 9, k.shape[-2])))
    return attend(ag.where(mine[:, None] == theirs[None, :], scores(q, k), -ag.inf), v)


def some_rows_hidden(q, k, v):
    i = ag.arange(q.shape[-2])[:, None]
    j = ag.arange(k.shape[-2])[None, :]
    s = ag.where((i % 3 > 0) & (j > 5000), scores(q, k), -ag.inf)
    return attend(s, v), ag.logsumexp(s, axis=-1)


# What has columns that many rows cannot see is long enough as it is; a dense table for pairs takes some memory.
BUILDERS = {
    **{name: build for name, (build, _) in VARIANTS.items()},
    "window": window,
    "documents of data": documents_of_data,
    "hidden rows": some_rows_hidden,
}


def built(name, **sizes):
    made = BUILDERS[name](*inputs(**sizes))
    return made if isinstance(made, tuple) else (made,)


def truth(expressions):
    with ag.config.set(target="reference64"):
        return [each.compute() for each in expressions]


def check_as_good(monkeypatch, expressions, results):
    """Split results are as near to the truth as undivided ones: where exponents are large, both are further off."""
    with monkeypatch.context() as patched:
        patched.setattr(splits, "_ENOUGH", 0)
        _, undivided = runs(patched, *expressions)
    for result, whole, wanted in zip(results, undivided, truth(expressions), strict=True):
        is_number = np.isfinite(wanted)
        np.testing.assert_array_equal(result[~is_number], wanted[~is_number])
        scale = np.abs(wanted[is_number]).max(initial=1)
        errors = [np.abs(each[is_number] - wanted[is_number]).max(initial=0) / scale for each in (result, whole)]
        assert errors[0] <= 2e-5 + 2 * errors[1], errors


@pytest.mark.parametrize("rows", [3, 37])
@pytest.mark.parametrize("name", BUILDERS)
def test_one_split_is_the_undivided_run(monkeypatch, name, rows):
    found, _ = runs(monkeypatch, *built(name, rows=rows, columns=700))
    for kernel, arrays, results in found:
        if results is not None and not kernel.sweep.adds_up:
            assert same_bits(in_parts(kernel, arrays, places=True)[0], results)


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("name", BUILDERS)
def test_splits_together_and_apart(monkeypatch, name, rows):
    expressions = built(name, rows=rows, columns=LONG)
    found, results = runs(monkeypatch, *expressions)
    assert results is not None
    check_as_good(monkeypatch, expressions, results)
    for kernel, arrays, whole in found:
        division = Parts(kernel, config.settings()).division
        if division is not None:
            assert division.splits.count == (2 if division.splits.columns == LONG else 1)
            cuts = list(range(division.splits.count + 1))
            assert same_bits(in_parts(kernel, arrays, cuts, places=True, order=lambda each: each[::-1])[0], whole)


@pytest.mark.parametrize("columns", [16, 2 * UNIT - 1, 2 * UNIT, 2 * UNIT + 1, 3 * UNIT - 1, 3 * UNIT + 17])
@pytest.mark.parametrize("rows", [1, 3, 16, 65])
def test_ragged_lengths(monkeypatch, rows, columns):
    q, k, v = (each[:1, :1] for each in inputs(rows=rows, columns=columns, width=4))
    for causal in (False, True, "lower_right"):
        expressions = ag.attention(q, k, v, is_causal=causal, return_lse=True)
        ((kernel, arrays, whole),), results = runs(monkeypatch, *expressions)
        for result, wanted in zip(results, truth(expressions), strict=True):
            np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-5)
        count = Parts(kernel, config.settings()).splits.count
        assert same_bits(in_parts(kernel, arrays, list(range(count + 1)))[0], whole)


def test_no_columns():
    q, k, v = inputs(rows=3, columns=0)
    np.testing.assert_array_equal(ag.attention(q, k, v).compute(), 0)


@pytest.fixture(scope="module")
def long_run():
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut_whatever_the_work(monkeypatch)
        q, k, v = inputs(rows=70, columns=9 * UNIT + 7, width=4)
        found, _ = runs(
            monkeypatch, *ag.attention(q[:1, :1], k[:1, :1], v[:1, :1], is_causal="lower_right", return_lse=True)
        )
    return found[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(data=st.data())
def test_any_chunks_of_splits_and_rows(long_run, data):
    kernel, arrays, whole = long_run
    count = Parts(kernel, config.settings()).splits.count
    assert count > 4
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=4))})
    rows = data.draw(st.sampled_from([[0, 70], [0, 64, 70]]))
    order = data.draw(st.randoms(use_true_random=False))
    found, _ = in_parts(kernel, arrays, cuts, rows, order=lambda each: order.sample(each, len(each)))
    assert same_bits(found, whole)


@pytest.mark.parametrize("rows", [1, 20])
def test_same_bits_for_any_number_of_threads(monkeypatch, rows):
    expressions = ag.attention(*inputs(rows=rows, columns=4 * UNIT, width=4), return_lse=True)
    found = []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            found.append(b"".join(each.tobytes() for each in runs(monkeypatch, *expressions)[1]))
    assert len(set(found)) == 1


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "scalar"])
@pytest.mark.parametrize("name", ["is_causal", "window", "differential", "sigmoid", "bias (S, S)", "hidden rows"])
@pytest.mark.parametrize("rows", [1, 20])
def test_targets(monkeypatch, target, name, rows):
    with on_target(monkeypatch, target):
        expressions = built(name, rows=rows, columns=LONG)
        found, results = runs(monkeypatch, *expressions)
        for kernel, arrays, whole in found:
            assert same_bits(in_parts(kernel, arrays, [0, 1, 2])[0], whole)
        check_as_good(monkeypatch, expressions, results)


def test_hidden_rows_are_zeros():
    q, k, v = inputs(rows=20, columns=LONG, width=4)
    out, lse = ag.compute(*some_rows_hidden(q, k, v))
    assert (out[:, :, ::3] == 0).all()
    assert (lse[:, :, ::3] == -np.inf).all()
    assert np.isfinite(lse[:, :, 1::3]).all()


@pytest.mark.parametrize("rows", [1, 20])
def test_a_compiled_function_gives_the_same_bits(monkeypatch, rows):
    given = [np.array(each) for each in inputs(rows=rows, columns=LONG, width=4)]
    _, (wanted,) = runs(monkeypatch, ag.attention(*given))
    compiled = ag.compile(ag.attention)
    for _ in range(4):
        assert same_bits([compiled(*given)], [wanted])


def test_free_lengths(monkeypatch):
    compiled = ag.compile(ag.attention)
    for columns in (2 * UNIT + 5, 2 * UNIT + 900, 3 * UNIT, 700):
        given = [np.array(each) for each in inputs(rows=20, columns=columns, width=4)]
        assert same_bits([compiled(*given)], runs(monkeypatch, ag.attention(*given))[1])


# --- what is not finite


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_counts_and_is_not_finite_is_an_error(rows, bad):
    q, k, v = (np.array(each) for each in inputs(rows=rows, columns=LONG, width=4))
    k[0, 1, 6000, 2] = bad
    with pytest.raises(NonFiniteError, match="key"):
        ag.attention(q, k, v).compute()
    plain = ag.compile(ag.attention)(q, k, v)
    hidden = np.ones(LONG, bool)
    hidden[6000] = False
    assert np.isfinite(ag.attention(q, k, v, mask=hidden).compute()).all()
    np.testing.assert_array_equal(np.isfinite(plain[1]), True)


@pytest.mark.parametrize("rows", [1, 20])
def test_overflow_on_the_way_is_settled(monkeypatch, rows):
    q, k, v = (np.array(each) for each in inputs(rows=rows, columns=LONG, width=4))
    q[0, 0, 0], k[0, 0, 7000] = 1e30, 1e30
    expression = ag.attention(q, k, v)
    ((kernel, arrays, whole),), results = runs(monkeypatch, expression)
    np.testing.assert_allclose(results[0], truth([expression])[0], rtol=2e-5, atol=2e-5)
    found, doubted = in_parts(kernel, arrays, [0, 1, 2], places=True)
    assert doubted
    np.testing.assert_allclose(found[0], whole[0], rtol=2e-5, atol=2e-5)


# --- states


def test_states_pickle(monkeypatch):
    ((kernel, arrays, whole),), _ = runs(monkeypatch, ag.attention(*inputs(rows=5, columns=LONG, width=4)))
    parts = Parts(kernel, config.settings())
    part = parts.whole
    states = [parts.run(taken(parts, arrays, parts.needed(part, each)), part, each) for each in ((0, 1), (1, 2))]
    sent = [pickle.loads(pickle.dumps(each)) for each in states]
    assert not sent[0].is_complete
    assert sent[0].nbytes > 0
    merged = parts.merge(sent)
    assert merged.is_complete
    end = taken(parts, arrays, parts.needed_at_end(part))
    assert same_bits(parts.finish(merged, end).results, whole)
    out = [np.empty(np.shape(each), np.float32) for each in whole]
    assert parts.finish(merged, end, out).results[0] is out[0]
    assert same_bits(out, whole)
    with pytest.raises(ArgumentError, match="not those of all splits"):
        parts.finish(sent[0], end)
    with pytest.raises(ArgumentError, match="same splits"):
        parts.merge([sent[0], sent[0]])
    other = part._replace(batch=((0, 1), *part.batch[1:]))
    with pytest.raises(ArgumentError, match="different parts"):
        parts.merge([sent[0], parts.run(taken(parts, arrays, parts.needed(other, (1, 2))), other, (1, 2))])


def test_a_part_says_what_is_wrong_with_it(monkeypatch):
    ((kernel, arrays, _),), _ = runs(monkeypatch, ag.attention(*inputs(rows=100, columns=LONG, width=4)))
    parts = Parts(kernel, config.settings())
    whole = parts.whole
    given = taken(parts, arrays, parts.needed(whole, (0, 1)))
    for part, some, reason in (
        (whole._replace(rows=(0, 30)), (0, 1), "multiples of 64"),
        (whole._replace(rows=(0, 101)), (0, 1), "an axis of 100"),
        (whole._replace(batch=whole.batch[1:]), (0, 1), "ranges of places"),
        (whole, (1, 3), "of 2"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            parts.run(given, part, some)
    with pytest.raises(ArgumentError, match="input 1 is given"):
        parts.run(given, whole, (1, 2))
    q, k, v = inputs(rows=100, columns=100)
    _, pullback = ag.vjp(lambda k: ag.attention(q, k, v), k)
    for kernel, _, _ in runs(monkeypatch, *pullback(q))[0]:
        assert (Parts(kernel, config.settings()).division is None) == kernel.sweep.adds_up


def test_heads_that_share_keys_need_them_once(monkeypatch):
    q, k, v = inputs(rows=9, columns=LONG, width=4)
    q = ag.concat([q, q], axis=1)
    ((kernel, arrays, whole),), _ = runs(monkeypatch, ag.attention(ag.asarray(q.compute()), k, v, enable_gqa=True))
    parts = Parts(kernel, config.settings())
    batch = tuple((0, 1) for _ in parts.division.batch)
    boxes = parts.needed(parts.whole._replace(batch=batch), (1, 2))
    lengths = [[each.stop - each.start for each in box] for box in boxes]
    assert [1, 1, LONG - UNIT, 4] in lengths
    assert same_bits(in_parts(kernel, arrays, [0, 1, 2], places=True)[0], whole)
