"""Programs in slices of batch and heads against the undivided run, to the last bit."""

import numpy as np
import pytest
from cut import cut_whatever_the_work, program_in_parts, same_bits
from gradients import GRADIENTS, gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweeps import array

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.config import config
from attngraph.engine.errors import ArgumentError
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.program_parts import ProgramParts


@pytest.fixture(autouse=True)
def small(monkeypatch):
    cut_whatever_the_work(monkeypatch)
    monkeypatch.setattr(program, "LEAST_ELEMENTS", 1)


def made(expressions, *, check_finite=False):
    """A program in parts, and its results undivided."""
    planned = Program(optimize([each.node for each in expressions]))
    whole = planned.run({}, config.settings(), check_finite=check_finite)
    return ProgramParts(planned, config.settings(), check_finite=check_finite), whole


@pytest.mark.parametrize("name", GRADIENTS)
def test_slices_are_the_undivided_run(name):
    parts, whole = made(gradients(name))
    lengths = GRADIENTS[name][2]
    if lengths is not None:
        assert parts.lengths == lengths
    for count in (1, 2, 3, 100):
        assert same_bits(program_in_parts(parts, count), whole)


@pytest.mark.parametrize("name", GRADIENTS)
def test_what_numpy_adds_up_between_sweeps_is_computed_whole(monkeypatch, name):
    monkeypatch.setattr(program, "LEAST_ELEMENTS", 1 << 40)
    parts, whole = made(gradients(name))
    assert same_bits(program_in_parts(parts, 100), whole)


@pytest.mark.parametrize("name", ["is_causal", "grouped", "relative"])
def test_roots_are_ready_piece_by_piece(name):
    parts, _ = made(gradients(name))
    assert set(parts.exports) == set(parts.program.roots)
    assert all(node.role == "leaf" for node in parts.sources)


def test_a_slice_reads_slices_of_the_leaves():
    parts, _ = made(gradients("grouped"))
    piece = parts.piece(((1, 2), (0, 1)))
    for node, box in zip(parts.sources, piece.reads, strict=True):
        heads = node.shape[1] // 2
        assert box[:2] == (slice(1, 2), slice(0, heads))


def test_what_sums_over_slices_comes_after_them():
    parts, whole = made(gradients("alibi"))
    (slopes,) = (root for root in parts.program.roots if len(root.shape) == 1)
    assert slopes not in parts.exports
    assert same_bits(program_in_parts(parts, 8), whole)


def test_what_all_slices_need_comes_before_them():
    def attend(q, k, v):
        return ag.attention(q, k, v, bias=ag.tanh(array(5, 70).sum(axis=0)))

    out, pullback = ag.vjp(attend, *GRADIENTS["plain"][1]())
    parts, whole = made([out, *pullback(array(*out.shape))])
    assert any(node.role != "leaf" for node in parts.sources)
    assert same_bits(program_in_parts(parts, 8), whole)


def test_forward_alone():
    for build in (GRADIENTS["grouped"], GRADIENTS["window"]):
        parts, whole = made([build[0](*build[1]())])
        assert len(parts.pieces(100)) >= 4
        assert same_bits(program_in_parts(parts, 100), whole)


def test_without_a_sweep_there_is_nothing_to_cut():
    parts, _ = made([ag.tanh(array(4, 5)).sum(axis=0)])
    assert parts.lengths == parts.exports == ()
    assert parts.pieces(4) == []
    with pytest.raises(ArgumentError):
        parts.piece(((0, 1),))


@pytest.fixture(scope="module")
def grouped():
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut_whatever_the_work(monkeypatch)
        monkeypatch.setattr(program, "LEAST_ELEMENTS", 1)
        return made(gradients("grouped"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(data=st.data())
def test_any_slice(grouped, data):
    parts, whole = grouped
    places = []
    for length in parts.lengths:
        first = data.draw(st.integers(0, length - 1))
        places.append((first, data.draw(st.integers(first + 1, length))))
    piece = parts.piece(tuple(places))
    sources = parts.before({})
    given_ = [sources[node][box] for node, box in zip(parts.sources, piece.reads, strict=True)]
    results = dict(zip(parts.program.roots, whole, strict=True))
    found = parts.run(piece.places, given_)
    assert same_bits(found, [results[node][box] for node, box in zip(parts.exports, piece.results, strict=True)])


def test_programs_planned_twice_agree():
    (one, whole), (other, _) = made(gradients("relative")), made(gradients("relative"))
    sources = one.before({})
    pieces = zip(one.pieces(3), other.pieces(3), strict=True)
    results = dict(zip(one.program.roots, whole, strict=True))
    for mine, theirs in pieces:
        assert mine == theirs
        found = other.run(mine.places, [sources[node][box] for node, box in zip(one.sources, mine.reads, strict=True)])
        assert same_bits(found, [results[node][box] for node, box in zip(one.exports, mine.results, strict=True)])


def test_two_threads():
    found = []
    for threads in (1, 2):
        with ag.config.set(threads=threads):
            parts, whole = made(gradients("alibi"))
            found += [whole, program_in_parts(parts, 3)]
    assert all(same_bits(each, found[0]) for each in found)


def test_what_overflows_on_the_way_is_settled_within_a_slice():
    q, k, v = (np.array(each.compute()) for each in GRADIENTS["plain"][1]())
    q[0, 0, 5] = 1e19
    k[0, 0, 4] *= 1e20
    out, pullback = ag.vjp(ag.attention, *map(ag.asarray, (q, k, v)))
    parts, whole = made([out, *pullback(array(*out.shape))])
    found = program_in_parts(parts, 8)
    for result, wanted in zip(found or [], whole or [], strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


def test_what_is_not_finite_and_counts_is_left_to_the_interpreter():
    q, k, v = (np.array(each.compute()) for each in GRADIENTS["plain"][1]())
    k[1, 2, 3] = np.nan
    parts, whole = made([ag.attention(q, k, v)], check_finite=True)
    assert whole is None
    assert program_in_parts(parts, 8) is None


def test_a_slice_says_what_is_wrong_with_it():
    parts, _ = made(gradients("plain"))
    sources = parts.before({})
    whole = [sources[node] for node in parts.sources]
    with pytest.raises(ArgumentError, match="an axis of 4"):
        parts.run(((0, 1), (0, 5)), whole)
    with pytest.raises(ArgumentError, match="ranges of places"):
        parts.run(((0, 1),), whole)
    with pytest.raises(ArgumentError, match="is needed"):
        parts.run(((0, 1), (0, 1)), whole)
