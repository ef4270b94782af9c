"""Step E: weights added at places of a result, for every arrangement of places, beside the interpreter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.codegen.interpreter import interpret_sweep
from attngraph.engine.passes.fused import Fused
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

TARGETS = ("native", "x86-64-v2", "x86-64-v3", "x86-64-v4")
MASKS = {
    "full": lambda i, j: True,
    "causal": lambda i, j: i >= j,
    "window": lambda i, j: (i >= j) & (i - j < 20),
    "holes": lambda i, j: (i + j) % 3 != 0,
    "nothing in row 3": lambda i, j: i != 3,
}


def buckets(i, j):
    return ag.minimum(ag.abs(i - j) // 4, 7)


def documents(place):
    return ag.asarray(np.random.default_rng(5).integers(0, 4, 200))[place]


# Of a score's bias: the shape of its table for (heads, rows, columns), and how it is read.
BIASES = {
    "by distance": (lambda h, n, m: (h, n + m), lambda t, h, i, j, m: t[h, i - j + m]),
    "by distance the other way": (lambda h, n, m: (h, n + m), lambda t, h, i, j, m: t[h, j - i - m]),
    "by distance, for all heads": (lambda h, n, m: (n + m,), lambda t, h, i, j, m: t[i - j + m]),
    "by pair of heads": (lambda h, n, m: ((h + 1) // 2, n + m), lambda t, h, i, j, m: t[h // 2, i - j + m]),
    "by sum": (lambda h, n, m: (h, n + m), lambda t, h, i, j, m: t[h, i + j]),
    "by bucket": (lambda h, n, m: (h, 8), lambda t, h, i, j, m: t[h, buckets(i, j)]),
    "by document": (lambda h, n, m: (h, 4, 4), lambda t, h, i, j, m: t[h, documents(i), documents(j)]),
    "by half the distance": (lambda h, n, m: (h, n + m), lambda t, h, i, j, m: t[h, (i - j + m) // 2]),
    "dense": (lambda h, n, m: (h, n, m), lambda t, h, i, j, m: t[h, i, j]),
    "dense, for all heads": (lambda h, n, m: (n, m), lambda t, h, i, j, m: t[i, j]),
    "dense, transposed": (lambda h, n, m: (h, m, n), lambda t, h, i, j, m: t[h, j, i]),
    "dense, backwards": (lambda h, n, m: (h, n, m), lambda t, h, i, j, m: t[h, i, m - 1 - j]),
    "row by row": (lambda h, n, m: (h, n), lambda t, h, i, j, m: t[h, i] * (j / 16)),
}


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def arrays(bias, rows, columns, width=16, batch=2, heads=3, seed=0):
    rng = np.random.default_rng(seed)
    lengths = (rows, columns, columns)
    qkv = [rng.standard_normal((batch, heads, length, width), dtype="float32") for length in lengths]
    table = rng.standard_normal(BIASES[bias][0](heads, rows, columns), dtype="float32")
    return [*qkv, table, rng.standard_normal((batch, heads, rows, width), dtype="float32")]


def pulled(bias, mask, given, wrt=(0, 1, 2, 3)):
    *inputs, upstream = map(ag.asarray, given)
    rows, columns = given[0].shape[-2], given[1].shape[-2]

    def attend(q, k, v, table):
        def score(s, b, h, i, j):
            return s + BIASES[bias][1](table, h, i, j, columns)

        visible = ag.create_block_mask(lambda b, h, i, j: MASKS[mask](i, j) | (i < 0), None, None, rows, columns)
        return ag.flex_attention(q, k, v, score_mod=score, block_mask=visible)

    _, pullback = ag.vjp(attend, *inputs)
    found = pullback(upstream)
    return [found[place] for place in wrt]


def planned(found):
    return Program(optimize([each.node for each in found])).plan


def check(found, tolerance=2e-5):
    results = ag.compute(*found) if len(found) > 1 else [ag.compute(*found)]
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*found) if len(found) > 1 else [ag.compute(*found)]
    for result, right in zip(results, wanted, strict=True):
        size = max(1.0, np.abs(right).max(initial=0))
        np.testing.assert_allclose(result, right, rtol=tolerance, atol=tolerance * size)
    return results


@pytest.mark.parametrize("bias", BIASES)
def test_the_gradient_of_a_table_is_a_result_of_the_same_pass(bias):
    plan = planned(pulled(bias, "causal", arrays(bias, 70, 70)))
    backward = [sweep for sweep in plan.sweeps if sweep.totals_of_columns]
    assert len(backward) == 1
    assert len(plan.sweeps) == 2
    assert len(backward[0].outputs) == 4
    assert bool(backward[0].of_pairs) == (bias != "row by row")


@pytest.mark.parametrize("bias", BIASES)
@given(
    mask=st.sampled_from(sorted(MASKS)),
    rows=st.sampled_from([16, 17, 31, 64, 65, 130]),
    columns=st.sampled_from([16, 17, 33, 63, 129]),
    batch=st.sampled_from([1, 2]),
    heads=st.sampled_from([1, 3]),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 1000),
)
@settings(max_examples=6)
def test_gradients_of_tables(bias, mask, rows, columns, batch, heads, target, seed):
    with ag.config.set(target=target):
        check(pulled(bias, mask, arrays(bias, rows, columns, batch=batch, heads=heads, seed=seed)))


@pytest.mark.parametrize("bias", ["by distance", "dense, for all heads", "by bucket"])
def test_a_table_alone(bias):
    found = pulled(bias, "causal", arrays(bias, 90, 70), wrt=(3,))
    plan = planned(found)
    (pairs,) = [sweep for sweep in plan.sweeps if sweep.of_pairs]
    assert len(pairs.outputs) == 1
    check(found)


@pytest.mark.parametrize(
    "bias", ["by distance", "by distance, for all heads", "by pair of heads", "dense", "dense, for all heads"]
)
def test_long_sweeps_and_any_number_of_threads(bias):
    given = arrays(bias, 1100, 1090, 32, 1, 4)
    with ag.config.set(threads=1):
        one = check(pulled(bias, "causal", given), 4e-5)
    for threads in (2, 3):
        with ag.config.set(threads=threads):
            for result, wanted in zip(ag.compute(*pulled(bias, "causal", given)), one, strict=True):
                np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("bias", ["by distance", "dense", "by document", "dense, for all heads"])
def test_sweeps_interpreted_are_the_graph_interpreted(bias):
    found = pulled(bias, "causal", arrays(bias, 40, 36))
    plan = planned(found)
    (step,) = [step for step in plan.steps if isinstance(step, Fused) and step.sweep.of_pairs]
    with ag.config.set(target="reference64"):
        made = dict(zip(step.inputs, evaluated(step.inputs), strict=True))
        wanted = evaluated(step.nodes)
    for result, right in zip(interpret_sweep(step.sweep, made), wanted, strict=True):
        np.testing.assert_allclose(result, right, rtol=1e-9, atol=1e-9)


def evaluated(nodes):
    return ag.compute(*map(ag.Array, nodes))


def test_what_overflows_on_the_way_is_as_the_interpreter_has_it():
    given = arrays("by distance", 40, 50)
    given[0][0, 0, 5] = 1e19
    given[1][0, 0, 4] *= 1e20
    found = pulled("by distance", "causal", given)
    results = ag.compute(*found)
    with ag.config.set(target="reference"):
        for result, wanted in zip(results, ag.compute(*found), strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_an_index_out_of_range_is_an_error_where_it_counts():
    given = arrays("by distance", 40, 40)
    given[3] = given[3][:, :60]

    def gradient(mask):
        return ag.compute(*pulled("by distance", mask, given))

    with pytest.raises(ag.IndexOutOfRangeError):
        gradient("full")
    assert np.isfinite(gradient("window")[3]).all()  # what the window shows lies inside


# --- heads that share keys: gradients are summed over the group within a task


def grouped(mask, groups, shared, rows=70, columns=50, width=16, batch=2, wrt=(0, 1, 2)):
    rng = np.random.default_rng(1)
    q, upstream = (rng.standard_normal((batch, groups * shared, rows, width), dtype="float32") for _ in range(2))
    k, v = (rng.standard_normal((batch, shared, columns, width), dtype="float32") for _ in range(2))

    def attend(q, k, v):
        visible = ag.create_block_mask(lambda b, h, i, j: MASKS[mask](i, j) | (i < 0), None, None, rows, columns)
        return ag.flex_attention(q, k, v, block_mask=visible, enable_gqa=True)

    _, pullback = ag.vjp(attend, *map(ag.asarray, (q, k, v)))
    found = pullback(ag.asarray(upstream))
    return [found[place] for place in wrt]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("groups", "shared"), [(3, 2), (4, 1), (1, 3)])
def test_groups_of_heads_are_summed_where_they_are_computed(mask, groups, shared):
    found = grouped(mask, groups, shared)
    (backward,) = [sweep for sweep in planned(found).sweeps if sweep.totals_of_columns]
    assert len(backward.outputs) == 3
    assert len(backward.streamed) == (1 if groups > 1 else 0)
    check(found)


@pytest.mark.parametrize("wrt", [(0,), (1,), (2,), (0, 1), (1, 2)])
@pytest.mark.parametrize("target", TARGETS)
def test_some_gradients_of_groups(wrt, target):
    found = grouped("causal", 3, 2, 130, 130, wrt=wrt)
    with ag.config.set(target=target):
        check(found)
    assert not any(node.role == "contraction" for node, _ in planned(found).not_fused)


def test_shared_keys_by_shape():
    rng = np.random.default_rng(2)
    q = rng.standard_normal((2, 4, 80, 16), dtype="float32")
    k, v = (rng.standard_normal((2, 1, 80, 16), dtype="float32") for _ in range(2))
    _, pullback = ag.vjp(lambda q, k, v: ag.softmax(q @ k.mT / 4, axis=-1) @ v, *map(ag.asarray, (q, k, v)))
    found = pullback(ag.asarray(q))
    (backward,) = [sweep for sweep in planned(found).sweeps if sweep.totals_of_columns]
    assert len(backward.outputs) == 3
    check(found)


def test_a_stretch_of_rows_has_a_table_of_its_own_unless_rows_do():
    found = pulled("dense", "causal", arrays("dense", 300, 300, 16, 1, 1))
    (fused,) = [step for step in planned(found).steps if isinstance(step, Fused) and step.sweep.of_pairs]
    kernel = kernels.SweepKernel(fused)
    sizes = kernels.sizes_of(fused.sweep, 16, int)
    assert sizes["blocks"] > 1
    (output,) = fused.sweep.of_pairs
    assert kernel._parts(output, sizes, output.node.shape).shape[0] == 1
