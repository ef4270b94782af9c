"""Plans that are found again: what runs at another length gives what a plan of its own gives."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweeps import VARIANTS

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.config import config
from attngraph.engine.forms import form_of
from attngraph.engine.ir import walk
from attngraph.engine.leaves import Data
from attngraph.engine.pipeline import optimize
from attngraph.engine.plans import Plans
from attngraph.engine.program import Program


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    monkeypatch.setattr(program, "LEAST_ELEMENTS", 0)


def arrays(rows, columns, batch=2):
    rng = np.random.default_rng(rows + columns)
    return [rng.standard_normal((batch, 3, n, 8)).astype("float32") for n in (rows, columns, columns)]


def bound_in(plans, *roots):
    nodes = [root.node for root in roots]
    return plans.bound(form_of(nodes), nodes)


def found(plans, *roots):
    bound = bound_in(plans, *roots)
    return None if bound is None else bound.run({}, config.settings(), check_finite=False)


def own(*roots):
    return Program(optimize([root.node for root in roots])).run({}, config.settings(), check_finite=False)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_at_other_lengths(name):
    build, _ = VARIANTS[name]
    plans = Plans()
    for rows, columns in ((40, 70), (41, 71), (63, 127), (32, 65), (32, 64), (50, 50), (51, 51), (40, 70)):
        root = build(*map(ag.asarray, arrays(rows, columns)))
        results = found(plans, root)
        if results is not None:
            (wanted,) = own(root)
            assert results[0].shape == root.shape
            np.testing.assert_array_equal(results[0], wanted)


def attention(rows, columns, batch=2):
    q, k, v = map(ag.asarray, arrays(rows, columns, batch))
    return ag.attention(q, k, v, is_causal=True)


def test_the_first_is_planned_alone_the_second_for_all():
    plans = Plans()
    assert found(plans, attention(40, 70)) is None
    second = bound_in(plans, attention(41, 71))
    third = bound_in(plans, attention(42, 72))
    assert second.program is third.program
    assert bound_in(plans, attention(3, 72)) is None  # few rows: a form of its own


@pytest.mark.parametrize("name", ["plain", "causal", "manual softmax", "sink", "differential", "alibi"])
def test_steps_share_a_plan_too(name):
    build, _ = VARIANTS[name]

    def step(length):
        q, k, v = (ag.asarray(np.concatenate([each, each], axis=-1)) for each in arrays(length, length))
        out, pullback = ag.vjp(build, q, k, v)
        return out, *pullback(q)

    plans = Plans()
    assert found(plans, *step(40)) is None
    second, third = (bound_in(plans, *step(length)) for length in (41, 42))
    assert second.program is third.program


def test_batches_share_a_plan_too():
    plans = Plans()
    bound_in(plans, attention(40, 70, 20))
    programs = {id(bound_in(plans, attention(40, 70, batch)).program) for batch in (21, 25, 30)}
    assert len(programs) == 1
    np.testing.assert_array_equal(found(plans, attention(45, 71, 23))[0], own(attention(45, 71, 23))[0])


def test_a_length_that_matters_is_kept_apart():
    """Indices are proved for one length of the table."""
    plans = Plans()

    def relative(n):
        q, k, v = map(ag.asarray, arrays(n, n))
        table = ag.asarray(np.random.default_rng(n).standard_normal((3, 2 * n)).astype("float32"))
        return ag.flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s + table[h, i - j + n])

    for n in (40, 41, 42, 43, 42):
        results = found(plans, relative(n))
        if results is not None:
            np.testing.assert_array_equal(results[0], own(relative(n))[0])


def test_means_know_their_length():
    plans = Plans()
    for n in (40, 41, 42, 43):
        x = ag.asarray(arrays(n, n)[0])
        root = (x - x.mean(axis=-2, keepdims=True)) / (1 + ag.var(x, axis=-2, keepdims=True))
        results = found(plans, root)
        if results is not None:
            np.testing.assert_array_equal(results[0], own(root)[0])


def test_plans_hold_no_arrays():
    plans = Plans()
    for n in (40, 41):
        bound_in(plans, attention(n, n))
    bound = bound_in(plans, attention(42, 42))
    assert not any(isinstance(node, Data) for node in walk(bound.program.roots))


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_what_is_not_finite_is_computed_again_at_the_lengths_of_the_call(bad):
    plans = Plans()
    assert found(plans, ag.attention(*map(ag.asarray, arrays(40, 40)))) is None
    for n in (40, 41, 42):
        q, k, v = arrays(n, n)
        v[0, 0, 1, 1] = bad
        q[0, 1, n - 1] = 1e38
        expression = ag.attention(*map(ag.asarray, (q, k, v)))
        (result,) = found(plans, expression)
        with ag.config.set(target="reference", check_finite=False):
            np.testing.assert_allclose(result, expression.compute(), rtol=1e-4, atol=1e-5)


def test_a_thousand_lengths_leave_a_bounded_cache():
    compiled = ag.compile(ag.attention)
    rng = np.random.default_rng(0)
    for n in range(20, 1020):
        q = rng.standard_normal((1, 1, n, 4)).astype("float32")
        assert compiled(q, q, q).shape == (1, 1, n, 4)
    assert compiled.cache_info().size <= compiled.cache_info().most
    assert compiled.cache_info().misses == 1000


def test_threads_share_a_plan():
    compiled = ag.compile(lambda q, k, v: ag.attention(q, k, v, is_causal=True))
    wrong = []

    def work(seed):
        for n in range(40 + seed, 100 + seed):
            q, k, v = arrays(n, n)
            if not np.array_equal(compiled(q, k, v), own(ag.attention(*map(ag.asarray, (q, k, v)), is_causal=True))[0]):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(VARIANTS)),
    st.lists(st.tuples(st.integers(16, 70), st.integers(16, 140)), min_size=3, max_size=6),
)
def test_random_lengths(name, lengths):
    build, _ = VARIANTS[name]
    plans = Plans()
    for rows, columns in lengths:
        root = build(*map(ag.asarray, arrays(rows, columns)))
        results = found(plans, root)
        if results is not None:
            np.testing.assert_array_equal(results[0], own(root)[0])
