"""What kernels look at to know that their results can be trusted: which tile values, and under which conditions."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.codegen.watch import Watch
from attngraph.engine.config import config
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.scalar import show

ROWS, COLUMNS = 20, 40
RNG = np.random.default_rng(0)
Q, K, V, BIAS = (
    ag.asarray(RNG.standard_normal(shape).astype("float32"))
    for shape in ((ROWS, 8), (COLUMNS, 8), (COLUMNS, 5), (ROWS, COLUMNS))
)
LEAST = ag.asarray(np.full((ROWS, COLUMNS), np.finfo("float32").min))
SEEN = ag.asarray(RNG.random((ROWS, COLUMNS)) < 0.5)
PLACES = ag.asarray(np.arange(COLUMNS))
SCORES = Q @ K.mT


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def sweep_of(expression):
    (step,) = (each for each in Program(optimize([expression.node])).plan.steps if hasattr(each, "sweep"))
    return step


def watch_of(expression):
    step = sweep_of(expression)
    sweep = step.sweep
    weights = {each.weight: each.weight for each in sweep.accumulators}
    return Watch(sweep, step.elements, {each: each for each in sweep.groups}, weights)


def conditions(expression):
    """Under which conditions the one contraction counts."""
    (watched,) = watch_of(expression).contractions
    return [show(each, 1) for each in watched.conditions]


def shown(expression):
    """What an exponent is not -inf without."""
    (found,) = watch_of(expression).visible.values()
    return sorted(each.op for each in found)


def hidden(mask, scores):
    return ag.where(mask, scores, -ag.inf)


def attend(scores):
    return ag.softmax(scores, -1) @ V


def test_a_contraction_counts_where_no_mask_hides_it():
    assert conditions(attend(SCORES)) == []
    assert len(conditions(attend(hidden(SEEN, SCORES)))) == 1
    assert conditions(attend(ag.where(SEEN, -ag.inf, SCORES))) == conditions(attend(hidden(~SEEN, SCORES)))
    assert len(conditions(attend(hidden(SEEN, hidden(BIAS > 0, SCORES))))) == 2
    assert conditions(attend(ag.where(SEEN, SCORES, BIAS))) == []


def test_of_two_uses_the_weaker_condition_holds():
    assert conditions(attend(hidden(SEEN, SCORES) + ag.tanh(SCORES))) == []
    twice = hidden(SEEN, hidden(BIAS > 0, SCORES)) + hidden(SEEN, ag.tanh(SCORES))
    assert len(conditions(attend(twice))) == 1


def test_a_condition_of_contractions_is_none():
    assert conditions(attend(hidden(SCORES > 0, SCORES))) == []
    assert shown(attend(hidden(SCORES > 0, SCORES))) == []


def test_what_hides_an_exponent():
    assert shown(attend(SCORES)) == []
    assert shown(attend(hidden(SEEN, SCORES))) == ["load"]
    assert shown(attend(SCORES + BIAS)) == ["not_equal"]
    assert shown(attend(hidden(SEEN, SCORES / 3) + 2 * BIAS)) == ["load", "not_equal"]
    assert shown(attend(hidden(SEEN, SCORES) - BIAS)) == ["load"]
    # A 0 that is added hides nothing.
    assert shown(attend(SCORES + ag.where(SEEN, 1.0, 0))) == []


def test_indices_count_where_their_elements_do():
    picked = K[PLACES]
    (index,) = watch_of(attend(hidden(SEEN, Q @ picked.mT))).indices
    assert (index.scalar.op, [each.op for each in index.conditions]) == ("outside", ["load"])
    (index,) = watch_of(ag.softmax(hidden(SEEN, SCORES), -1) @ V[PLACES]).indices
    assert [each.op for each in index.conditions] == ["load"]
    (index,) = watch_of(attend(Q @ picked.mT)).indices
    assert index.conditions == ()
    assert watch_of(attend(SCORES)).indices == []


@pytest.mark.parametrize("rows", [1, 5, ROWS])
@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "native"])
@pytest.mark.parametrize(
    ("expression", "doubted"),
    [
        (lambda q: attend(hidden(SEEN[: len(q)], ag.asarray(q) @ K.mT)), False),
        (lambda q: attend(ag.asarray(q) @ K.mT + ag.where(BIAS[: len(q)] > -9, 0, -ag.inf)), False),
        (lambda q: attend(ag.asarray(q * np.float32(np.nan)) @ K.mT), True),
        (lambda q: attend(hidden(SEEN[: len(q)] & False, ag.asarray(q * np.float32(np.nan)) @ K.mT)), False),
        (lambda q: attend(ag.tanh(ag.asarray(q * np.float32(1e38)) @ (K * 1e3).mT)), True),
        (lambda q: attend(ag.asarray(q) @ K.mT + np.finfo("float32").min), False),
        (lambda q: attend(ag.asarray(q) @ K.mT + LEAST[: len(q)]), False),
    ],
)
def test_what_is_doubted(rows, target, expression, doubted, monkeypatch):
    asked = []

    def settle(problem, results, rows_of):
        asked.append(rows_of)
        return True

    monkeypatch.setattr("attngraph.engine.kernels.settle", settle)
    q = np.random.default_rng(1).standard_normal((rows, 8)).astype("float32")
    with ag.config.set(target=target):
        Program(optimize([expression(q).node])).run({}, config.settings(), check_finite=False)
    assert bool(asked) == doubted
