"""Loops over segments against the interpreter: layers, ragged graphs, sizes, types, targets, threads, trouble."""

import numpy as np
import pytest
from graphs import LAYERS, Problem, compare, gat, gatv2, largest, loops_of, moments, planned, problems
from hypothesis import HealthCheck, given, settings

import attngraph as ag
from attngraph.engine import program, segment_kernels
from attngraph.engine.config import config


@pytest.fixture(autouse=True)
def everything_is_worth_a_loop(monkeypatch):
    monkeypatch.setattr(program, "LEAST_ELEMENTS", 0)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=max(8, settings.default.max_examples // 5),
)
@given(problem=problems)
def test_layers_and_their_gradients_are_right_on_any_graph(problem):
    compare([problem.out, problem.edge])
    compare([problem.out, *problem.gradients()])


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_every_layer_runs_as_loops_over_segments(layer):
    problem = Problem(layer)
    assert len(loops_of(compare([problem.out]))) == 1
    made = compare([problem.out, *problem.gradients()])
    assert 2 <= len(loops_of(made)) <= 3
    every = {node for step in made.plan.steps if not step_is_leaf(step) for node in nodes_of(step)}
    assert not any(len(node.shape) == 3 and node.shape[0] == 60 for node in every)


@pytest.mark.parametrize("shape", [(11, 6), (11, 1, 6), (11, 3, 2), (11, 6, 1), (11, 2, 3)], ids=str)
def test_heads_side_by_side_are_right(shape):
    problem = Problem(gat)
    bias = ag.asarray(np.arange(6.0, dtype="float32").reshape(shape[1:]))
    compare([problem.out.reshape(shape) * bias + bias])
    compare([problem.out.reshape(shape) + bias, problem.out, problem.edge])


def step_is_leaf(step):
    return not nodes_of(step)[0].operands


def nodes_of(step):
    return getattr(step, "nodes", None) or (step,)


@pytest.mark.parametrize(("heads", "features"), [(1, 64), (1, 100), (8, 8), (2, 65), (1, 1)])
def test_sizes_that_fill_no_register(heads, features):
    compare([Problem(gat, heads=heads, features=features).out])


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_every_instruction_set(target):
    with ag.config.set(target=target):
        for layer in (gat, gatv2, largest):
            problem = Problem(layer, features=5)
            compare([problem.out, *problem.gradients()], settings=config.settings())


@pytest.mark.parametrize("layer", [gat, moments], ids=lambda layer: layer.__name__)
def test_any_number_of_threads_gives_the_same_bits(layer):
    problem = Problem(layer, "hub", nodes=700, count=9000)
    made = planned([problem.out, *problem.gradients()])
    found = []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            found.append(made.run({}, config.settings(), check_finite=False))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_row_of_very_many_edges_loses_no_digits():
    values = np.random.default_rng(0).random((300_000, 2), dtype="float32")
    rows = np.zeros(300_000, np.int64)
    total = ag.segment_sum(ag.asarray(values) * 3, ag.asarray(rows), 4)
    compare([total], tolerance=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_one_block_of_edges_or_of_several(dtype):
    lengths = [0, 1, 63, 64, 65, 0, 127, 128, 129, 3, 700, 2]
    rows, rng = np.repeat(np.arange(len(lengths)), lengths), np.random.default_rng(0)
    values = ag.asarray(rng.standard_normal((len(rows), 3)).astype(dtype))
    shares = ag.segment_softmax(values * 2, ag.asarray(rows), len(lengths))
    total = ag.segment_sum(shares * values, ag.asarray(rows), len(lengths))
    made = compare([total, ag.segment_sum(values * values, ag.asarray(rows), len(lengths))], tolerance=1e-6)
    assert loops_of(made)


def test_a_sum_of_zeros_below_0_is_0():
    rows = np.repeat([0, 1], [3, 80])
    total = ag.segment_sum(ag.asarray(np.full((83, 2), -0.0, "float32")) * 1.5, ag.asarray(rows), 3)
    (found,) = planned([total]).run({}, config.settings(), check_finite=False)
    assert not np.signbit(found).any()


def test_rows_too_long_to_keep_are_computed_anew(monkeypatch):
    monkeypatch.setattr("attngraph.engine.segment_kernels._MOST_KEPT", 64)
    problem = Problem(gat, "hub", count=500)
    compare([problem.out, *problem.gradients()])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
def test_ids_of_every_type(dtype):
    ids = ag.asarray(np.array([3, 0, 3, 1, 1, 3], dtype))
    h = ag.asarray(np.arange(20, dtype="float32").reshape(5, 4))
    src = ag.asarray(np.array([4, 0, 1, 2, 3, 4], dtype))
    assert len(loops_of(compare([ag.segment_sum(h[src] * 2, ids, 4)]))) == 1


def test_what_is_out_of_range_is_an_error_as_ever():
    h = ag.asarray(np.ones((5, 4), "float32"))
    good = ag.asarray(np.array([0, 1, 2]))
    for src, dst in (([0, 1, 5], good), ([0, 1, -6], good), (good, [0, 1, 5]), (good, [0, 1, -1])):
        src, dst = (each if isinstance(each, ag.Array) else ag.asarray(np.array(each)) for each in (src, dst))
        total = ag.segment_sum(h[src] * h[good], dst, 5)
        assert loops_of(planned([total]))
        with pytest.raises(ag.IndexOutOfRangeError, match="out of range"):
            total.compute()


def test_ids_are_read_anew_in_each_call():
    ids, values = np.array([0, 1, 1, 2]), np.arange(8, dtype="float32").reshape(4, 2)
    total = ag.segment_sum(ag.asarray(values) * 2, ag.asarray(ids), 3)
    made = planned([total])
    for row in (2, 0):
        ids[:] = row
        (found,) = made.run({}, config.settings(), check_finite=False)
        np.testing.assert_array_equal(found[row], values.sum(0) * 2)


def test_no_edges_and_no_nodes():
    for nodes, count in ((4, 0), (1, 5)):
        problem = Problem(moments, nodes=nodes, count=count)
        for value in (problem.out, *problem.gradients()):
            assert np.isfinite(value.compute()).all()


def test_what_overflows_on_the_way_is_seen():
    big = ag.asarray(np.full((4, 3), 3e38, "float32"))
    ids = ag.asarray(np.array([0, 0, 1, 2]))
    with ag.config.set(check_finite=False):
        found = (1 / ag.segment_sum(big * big, ids, 3)).compute()
    assert np.isfinite(found).all()


def test_masked_edges_weigh_nothing():
    ids, scores = ag.asarray(np.array([0, 0, 1, 1, 2])), ag.asarray(np.ones((5, 2), "float32"))
    seen = ag.asarray(np.array([True, False, False, False, True]))
    weights = ag.segment_softmax(ag.where(seen[:, None], scores * 2, -ag.inf), ids, 3)
    total = ag.segment_sum(weights * scores, ids, 3)
    made = compare([total])
    assert loops_of(made)
    np.testing.assert_array_equal(total.compute(), [[1, 1], [0, 0], [1, 1]])


def test_second_derivatives_are_right():
    problem = Problem(gat, dtype="float64")
    (first,) = ag.gradients(ag.sum(problem.out**2), [problem.h])
    compare([ag.gradients(ag.sum(first * problem.seed), [problem.h])[0]])


def test_half_floats_are_widened():
    h = ag.asarray(np.random.default_rng(0).standard_normal((9, 4)).astype("float16"))
    src, dst = ag.asarray(np.arange(8)), ag.asarray(np.arange(8) // 3)
    total = ag.segment_sum(h[src] * 2, dst, 3)
    with ag.config.set(target="reference64"):
        wanted = total.compute()
    np.testing.assert_allclose(total.compute(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("least", [0, 1 << 30])
def test_rows_are_asked_for_ahead_or_not(least, monkeypatch):
    monkeypatch.setattr(segment_kernels, "_LEAST_AHEAD", least)
    problem = Problem(gat)
    made = compare([problem.out])
    (kernel,) = made.segments.values()
    (binding,) = kernel._bindings.values()
    assert ("prefetch" in binding.compiled.ir) == (least == 0)


def test_a_call_finds_the_descriptor_of_the_one_before():
    problem = Problem(gat)
    made = compare([problem.out])
    (kernel,) = made.segments.values()
    before = dict(kernel._bindings)
    made.run({}, config.settings(), check_finite=False)
    assert kernel._bindings == before
