"""Which nodes loops over segments compute: a rule that is lost shows as more steps."""

import numpy as np
import pytest
from graphs import Problem, gat, gatv2, loops_of, mean, moments, planned

import attngraph as ag
from attngraph.engine import program


@pytest.fixture(autouse=True)
def everything_is_worth_a_loop(monkeypatch):
    monkeypatch.setattr(program, "LEAST_ELEMENTS", 0)


def names(loop):
    return sorted(node.name for node in loop.nodes)


@pytest.mark.parametrize("layer", [gat, gatv2, mean, moments], ids=lambda layer: layer.__name__)
def test_a_layer_is_one_loop(layer):
    (loop,) = loops_of(planned([Problem(layer).out]))
    assert len(loop.outputs) == 1


@pytest.mark.parametrize("layer", [gat, gatv2], ids=lambda layer: layer.__name__)
def test_gradients_are_one_loop_by_targets_and_one_by_sources(layer):
    problem = Problem(layer)
    loss = ag.sum(problem.out * problem.seed)
    assert len(loops_of(planned([loss, *ag.gradients(loss, problem.inputs)]))) == 2


def test_what_is_divided_by_a_row_is_stored_once():
    problem = Problem(mean)
    (loop,) = loops_of(planned([problem.out]))
    assert names(loop) == ["multiply"]


@pytest.mark.parametrize("shape", [(11, 6), (11, 1, 6), (11, 3, 2), (11, 6, 1)], ids=str)
def test_what_is_added_to_heads_side_by_side_is_in_their_loop(shape):
    problem = Problem(gat)  # 2 heads of 3
    loops = loops_of(
        planned([problem.out.reshape(shape) + ag.asarray(np.arange(6.0, dtype="float32").reshape(shape[1:]))])
    )
    assert [len(loop.outputs) for loop in loops] == [1]
    if shape[1:] != (3, 2):  # which cuts heads in two
        assert names(loops[0]) == ["add"]
        assert {loops[0].lanes(each) for each in loops[0].scalars if each.op == "exp"} == {2}


def test_weights_that_somebody_needs_are_stored_by_the_same_loop():
    problem = Problem(gat)
    (loop,) = loops_of(planned([problem.out, problem.edge]))
    assert sorted(output.extent for output in loop.outputs) == ["edge", "row"]


def test_what_depends_on_a_result_is_another_loop():
    problem = Problem(gat)
    src, dst = ag.asarray(np.arange(60) % 11), ag.asarray(np.arange(60) // 6)
    first = ag.segment_sum(problem.h[src] * 2, dst, 11)
    second = ag.segment_sum(first[src] * problem.h[src], dst, 11)
    assert len(loops_of(planned([first, second]))) == 2


def test_a_sum_of_plain_rows_of_integers_has_no_loop():
    rows = ag.asarray(np.arange(12).reshape(6, 2))
    assert not loops_of(planned([ag.segment_sum(rows * 2, ag.asarray(np.arange(6) // 2), 3)]))


def test_small_graphs_are_not_worth_a_kernel(monkeypatch):
    monkeypatch.setattr(program, "LEAST_ELEMENTS", 1 << 13)
    assert not loops_of(planned([Problem(gat).out]))


def test_explain_names_the_loop_its_domain_and_what_it_keeps():
    problem = Problem(gat)
    told = ag.explain(problem.out)
    (kernel,) = [each for each in told.kernels if each.name.startswith("loop over segments")]
    assert "11 segments" in kernel.ir
    assert "60 edges" in kernel.ir
    assert kernel.flops > 60
    assert "@segments" in kernel.llvm
    assert told.memory.peak_bytes < 60 * 2 * 3 * 4
