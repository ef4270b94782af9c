"""Programs that are one native step, and loops that round as NumPy does."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.loop import Loop
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.single import rounds_as_numpy, single_step

A, B = ag.placeholder((40, 50)), ag.placeholder((40, 50))


def planned(*expressions):
    return Program(optimize([each.node for each in expressions]), repeated=True)


def single(*expressions):
    program = planned(*expressions)
    return single_step(program.plan.steps, program.roots)


@pytest.mark.parametrize(
    ("expressions", "places"),
    [
        ([(A * B).sum(axis=-1)], (0,)),
        ([(A * B).sum(axis=-1, keepdims=True).reshape(40)], (0,)),
        ([(A * B).sum(axis=-1)[None, :, None]], (0,)),
        ([(A * B).sum(axis=-1).reshape(8, 5)], (0,)),
    ],
)
def test_one_step(expressions, places):
    found = single(*expressions)
    assert isinstance(found.step, Loop)
    assert found.places == places


@pytest.mark.parametrize(
    "expressions",
    [
        [A],
        [ag.sort(A * B)],
        [ag.sort(A) * B],
        [(A * B).sum(axis=-1), (A * B).sum(axis=-1)],
        [(A * B).sum(axis=-1), (A * B).sum(axis=-1).reshape(40, 1)],
        [(A * B).sum(axis=-1).reshape(8, 5).mT],  # in another order
        [(A * B).sum(axis=-1), ag.sort(A)],
    ],
)
def test_more_than_one_step(expressions):
    assert single(*expressions) is None


def test_results_that_are_several_outputs():
    total, largest = (A * B).sum(axis=-1), (A * B).max(axis=-1)
    found = single(largest, total)
    assert sorted(found.places) == [0, 1]
    assert [found.step.nodes[place] for place in found.places] == list(planned(largest, total).roots)


@pytest.mark.parametrize(
    ("expression", "alike"),
    [
        (abs(A * B), True),
        ((A * B).sum(axis=-1), True),
        (ag.sqrt(abs(A - B).max(axis=-1)), True),
        (ag.where(A < B, A * 2, -B), True),
        (A * B + 1, False),
        (A - ag.square(B), False),
        (A + ag.where(A < B, A * 2, B), False),
        (ag.exp(A) * 2, False),
        (ag.softmax(A), False),
        (A.astype("float64") * 2, False),
    ],
)
def test_what_rounds_as_numpy(monkeypatch, expression, alike):
    monkeypatch.setattr("attngraph.engine.program.LEAST_ELEMENTS", 1)
    program = Program(optimize([expression.node]))
    loops = [step for step in program.plan.steps if isinstance(step, Loop)]
    assert [rounds_as_numpy(loop) for loop in loops] == [alike]


def test_repeated_programs_are_loops_for_little_work():
    assert any(isinstance(step, Loop) for step in planned((A[0] * B[0]).sum()).plan.steps)
    program = Program(optimize([(A[0] * B[0]).sum().node]))
    assert not any(isinstance(step, Loop) for step in program.plan.steps)


def test_floats_of_a_call_keep_their_digits_in_long_loops():
    x = np.ones(50_000)
    compiled = ag.compile(lambda x, scale: x * scale + 1)
    for _ in range(3):
        np.testing.assert_array_equal(compiled(x, 0.1), x * 0.1 + 1)
