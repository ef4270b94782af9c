"""Sweeps whose results add up, in parts, against the undivided run to the last bit."""

import pickle

import numpy as np
import pytest
from cut import cut_whatever_the_work, on_target, runs, same_bits, summed_in_parts, taken
from gradients import GRADIENTS, gradients
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels
from attngraph.engine.config import config
from attngraph.engine.errors import ArgumentError
from attngraph.engine.parts import Parts


@pytest.fixture(autouse=True)
def small(monkeypatch):
    cut_whatever_the_work(monkeypatch)


def backward(monkeypatch, name):
    """The sweeps of some gradients whose results add up, with their arrays and results."""
    found, _ = runs(monkeypatch, *gradients(name))
    return [each for each in found if each[0].sweep.adds_up]


@pytest.mark.parametrize("name", GRADIENTS)
def test_places_and_stretches(monkeypatch, name):
    found, _ = runs(monkeypatch, *gradients(name))
    assert any(kernel.sweep.adds_up for kernel, _, _ in found)
    for kernel, arrays, whole in found:
        assert same_bits(summed_in_parts(kernel, arrays, places=True)[0], whole)
        for places in (False, True):
            each = range(1, 20)
            again, _ = summed_in_parts(kernel, arrays, places, each, order=lambda sums: sums[::-1])
            assert same_bits(again, whole)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "scalar"])
@pytest.mark.parametrize("name", ["is_causal", "documents", "relative", "bias of heads", "grouped"])
def test_targets(monkeypatch, target, name):
    with on_target(monkeypatch, target):
        for kernel, arrays, whole in backward(monkeypatch, name):
            assert same_bits(summed_in_parts(kernel, arrays, places=True)[0], whole)
            assert same_bits(summed_in_parts(kernel, arrays, stretches=range(20))[0], whole)


@pytest.mark.parametrize("name", ["is_causal", "relative"])
def test_same_bits_for_any_number_of_threads(monkeypatch, name):
    monkeypatch.setattr(kernels, "LEAST_SHARED", 0)
    found = []
    for threads in (1, 2):
        with ag.config.set(threads=threads):
            for kernel, arrays, whole in backward(monkeypatch, name):
                found.append(b"".join(each.tobytes() for each in whole))
                results, _ = summed_in_parts(kernel, arrays, places=True, stretches=[1])
                found.append(b"".join(each.tobytes() for each in results))
    assert len(set(found)) == 1


@pytest.fixture(scope="module")
def one_sweep():
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut_whatever_the_work(monkeypatch)
        (found,) = backward(monkeypatch, "relative")
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(data=st.data())
def test_any_stretches_in_any_order(one_sweep, data):
    kernel, arrays, whole = one_sweep
    cuts = data.draw(st.lists(st.integers(0, 10), max_size=5))
    order = data.draw(st.randoms(use_true_random=False))
    found, _ = summed_in_parts(
        kernel, arrays, data.draw(st.booleans()), cuts, order=lambda each: order.sample(each, len(each))
    )
    assert same_bits(found, whole)


@pytest.mark.parametrize(
    ("name", "apart"),
    [
        ("is_causal", (True, True)),
        ("grouped", (True, True, False)),
        ("relative", (False, True)),
        ("bias of none", (False, False)),
    ],
)
def test_axes_that_results_sum_over_are_whole(monkeypatch, name, apart):
    ((kernel, arrays, _),) = backward(monkeypatch, name)
    parts = Parts(kernel, config.settings())
    assert parts.division is None
    assert parts.stretches.apart == apart
    whole = parts.whole
    given = taken(parts, arrays, parts.needed_whole(whole))
    for number, cut in enumerate(apart):
        batch = [(0, 1) if n == number else each for n, each in enumerate(whole.batch)]
        part = whole._replace(batch=tuple(batch))
        if cut:
            assert parts.needed_whole(part) != parts.needed_whole(whole)
        else:
            with pytest.raises(ArgumentError, match="results sum over"):
                parts.run_whole(given, part)


def test_a_part_reads_its_slices_alone(monkeypatch):
    ((kernel, _, _),) = backward(monkeypatch, "plain")
    parts = Parts(kernel, config.settings())
    for node, box in zip(parts.inputs, parts.needed_whole(parts.whole._replace(batch=((1, 2), (2, 4)))), strict=True):
        assert box[:2] == (slice(1, 2), slice(2, 4))
        assert [each.stop - each.start for each in box[2:]] == list(node.shape[2:])


def test_sums_pickle_and_say_what_is_wrong(monkeypatch):
    ((kernel, arrays, whole),) = backward(monkeypatch, "bias of none")
    parts = Parts(kernel, config.settings())
    unit = parts.stretches.row_unit
    some = [parts.whole._replace(rows=each) for each in ((0, unit), (unit, parts.stretches.rows))]
    one, other = (
        pickle.loads(pickle.dumps(parts.run_sums(taken(parts, arrays, parts.needed_whole(each)), each)))
        for each in some
    )
    assert one.nbytes > 0
    assert same_bits(parts.add_up([other, one]).results, whole)
    for some in ([one], [one, one, other], [other]):
        with pytest.raises(ArgumentError, match="not all rows"):
            parts.add_up(some)
    given_ = taken(parts, arrays, parts.needed_whole(parts.whole))
    for part, reason in (
        (parts.whole._replace(rows=(0, unit - 1)), "multiples"),
        (parts.whole._replace(rows=(0, 10**6)), "an axis of"),
        (parts.whole._replace(batch=()), "ranges of places"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            parts.run_whole(given_, part)
    (forward,) = (each for each, _, _ in runs(monkeypatch, ag.attention(*arrays_of_attention()))[0])
    with pytest.raises(ArgumentError, match="no results of this sweep add up"):
        Parts(forward, config.settings()).run_sums([], parts.whole)


def arrays_of_attention():
    return GRADIENTS["plain"][1]()


def test_what_overflows_on_the_way_is_settled(monkeypatch):
    q, k, v = (np.array(each.compute()) for each in arrays_of_attention())
    q[0, 0, 5] = 1e19
    k[0, 0, 4] *= 1e20
    out, pullback = ag.vjp(ag.attention, *map(ag.asarray, (q, k, v)))
    found = [each for each in runs(monkeypatch, *pullback(out))[0] if each[0].sweep.adds_up]
    for kernel, arrays, whole in found:
        assert kernel.fused.alone
        results, doubted = summed_in_parts(kernel, arrays, places=True)
        assert doubted
        for result, wanted in zip(results, whole, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


def test_places_in_doubt_that_cannot_be_settled(monkeypatch):
    ((kernel, arrays, _),) = backward(monkeypatch, "relative")
    parts = Parts(kernel, config.settings())
    found = parts.run_whole(taken(parts, arrays, parts.needed_whole(parts.whole)), parts.whole)
    assert not parts.settle(parts.whole, found, arrays)
