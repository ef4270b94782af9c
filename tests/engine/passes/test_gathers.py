"""Gathers by indices that nobody has proven: clamped in the kernel, and an error where the interpreter has one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.config import config
from attngraph.engine.passes.gathers import any_outside, deciding_gathers, unseen_gathers
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.scalar import below

INF = np.inf
TARGETS = ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4"]


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def outcome(expression, target):
    """The values under a target, or the error."""
    with ag.config.set(target=target):
        try:
            return expression.compute()
        except ag.AttnGraphError as error:
            return type(error), str(error), error.line


def check(expression, targets=("native",)):
    """Every target gives what the interpreter does."""
    wanted = outcome(expression, "reference")
    for target in targets:
        found = outcome(expression, target)
        if isinstance(wanted, tuple):
            assert found == wanted
        else:
            assert not isinstance(found, tuple), found
            np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-4)
    return wanted


def planned(expression):
    return Program(optimize([expression.node])).plan


def outside_of(length, dtype):
    """Indices that are none of an axis, also of the least and the largest of a type."""
    limits = np.iinfo(dtype)
    values = (length, length + 1, -length - 1, limits.min, limits.max)
    return [each for each in values if limits.min <= each <= limits.max]


def arrays(rows, columns, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((2, n, 8)).astype("float32") for n in (rows, columns, columns))


FORMS = {
    "bias of pairs": (lambda i, t, r, c: (r, c), lambda i, t, s, m, q, k, v: (hidden(m, s + t[:, 0][i]), v)),
    "columns": (lambda i, t, r, c: (c,), lambda i, t, s, m, q, k, v: (hidden(m, q @ t[i].mT), v)),
    "values": (lambda i, t, r, c: (c,), lambda i, t, s, m, q, k, v: (hidden(m, s), t[i])),
    "rows": (lambda i, t, r, c: (r,), lambda i, t, s, m, q, k, v: (hidden(m, t[i] @ k.mT), v)),
    "bias of columns": (lambda i, t, r, c: (c,), lambda i, t, s, m, q, k, v: (hidden(m, s + t[:, 0][i]), v)),
    "mask of columns": (
        lambda i, t, r, c: (c,),
        lambda i, t, s, m, q, k, v: (hidden((t[:, 1] > 0)[i][None] & m, s), v),
    ),
    "mask of pairs": (lambda i, t, r, c: (r, c), lambda i, t, s, m, q, k, v: (hidden((t[:, 1] > 0)[i] & m, s), v)),
    "mask under a mask": (
        lambda i, t, r, c: (r, c),
        lambda i, t, s, m, q, k, v: (hidden(m, hidden((t[:, 1] > 0)[i], s)), v),
    ),
}


def hidden(mask, scores):
    return ag.where(mask, scores, -INF)


@pytest.mark.parametrize("name", FORMS)
@given(
    rows=st.sampled_from([1, 3, 8, 20, 37]),
    columns=st.sampled_from([17, 40, 150]),
    length=st.sampled_from([0, 5, 60]),
    seen=st.sampled_from([0.0, 0.1, 0.9]),
    dtype=st.sampled_from(["int8", "int16", "int32", "int64", "uint32", "uint64"]),
    wrong=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 4), st.booleans()), max_size=3),
    seed=st.integers(0, 2**32 - 1),
    target=st.sampled_from(TARGETS),
)
@settings(max_examples=12, deadline=None)
def test_as_the_interpreter(name, rows, columns, length, seen, dtype, wrong, seed, target):
    rng = np.random.default_rng(seed)
    shape_of, form = FORMS[name]
    q, k, v = map(ag.asarray, arrays(rows, columns, seed))
    mask = rng.random((rows, columns)) < seen
    shape = shape_of(None, None, rows, columns)
    least = 0 if dtype.startswith("u") else -length
    index = rng.integers(least, max(length, 1), shape).astype(dtype)
    for place, which, hide in wrong:
        where = np.unravel_index(place % index.size, shape)
        values = outside_of(length, dtype)
        index[where] = values[which % len(values)]
        if hide:  # what a mask hides may be any index
            mask[where if len(shape) == 2 else (slice(None), where[0]) if shape == (columns,) else where] = False
    table = rng.standard_normal((length, 8)).astype("float32")
    index, table, mask = map(ag.asarray, (index, table, mask))
    scores, values = form(index, table, q @ k.mT / 3, mask, q, k, v)
    check(ag.softmax(scores, -1) @ values, [target])


@pytest.mark.parametrize("rows", [3, 60])
@pytest.mark.parametrize("length", [0, 20, 59, 60, 119])
@pytest.mark.parametrize("shift", [0, 59])
def test_relative_tables_of_any_length(rows, length, shift):
    q, k, v = map(ag.asarray, arrays(rows, 60, 0))
    i, j = ag.arange(rows)[:, None], ag.arange(60)[None, :]
    table = ag.asarray(np.linspace(0, 1, 2 * length, dtype="float32").reshape(2, length))
    for mask in (i >= j, i < j, j < 60):
        expression = ag.softmax(hidden(mask, q @ k.mT + table[:, i - j + shift]), -1) @ v
        check(expression)
        assert len(planned(expression).sweeps) == 1


def test_a_gather_that_is_not_proven_is_part_of_the_kernel():
    q, k, v = map(ag.asarray, arrays(20, 40, 0))
    index = ag.asarray(np.random.default_rng(0).integers(0, 40, (20, 40)))
    for expression in (
        ag.softmax(q @ k[:, index[0]].mT, -1) @ v,
        ag.softmax(q @ k.mT, -1) @ v[:, index[0]],
        ag.softmax(q @ k.mT + ag.arange(40, dtype="float32")[index], -1) @ v,
    ):
        plan = planned(expression)
        assert len(plan.sweeps) == 1
        assert any(each.op == "inside" for each in below(plan.sweeps[0].expressions()))
        assert not any("outside its axis" in reason for _, reason in plan.not_fused)


def test_a_proven_gather_is_not_looked_at():
    q, k, v = map(ag.asarray, arrays(20, 40, 0))
    i, j = ag.arange(20)[:, None], ag.arange(40)[None, :]
    table = ag.asarray(np.ones(59, "float32"))
    (sweep,) = planned(ag.softmax(q @ k.mT + table[i - j + 39], -1) @ v).sweeps
    assert not any(each.op in ("inside", "length") for each in below(sweep.expressions()))
    assert unseen_gathers(sweep) == set()
    assert deciding_gathers(sweep) == []


def test_indices_of_masks_are_looked_at_before():
    q, k, v = map(ag.asarray, arrays(20, 40, 0))
    documents = ag.asarray(np.zeros(7, "int64"))
    places = np.zeros(40, "int64")
    mine = documents[ag.asarray(places[:20])][:, None] == documents[ag.asarray(places)][None, :]
    expression = ag.softmax(hidden(mine, q @ k.mT), -1) @ v
    (step,) = (each for each in planned(expression).steps if hasattr(each, "sweep"))
    deciding = deciding_gathers(step.sweep)
    assert len(deciding) == 2
    data = {node: node.source for node in step.inputs}
    assert not any_outside(deciding, data, lambda length: length)
    check(expression)
    places[30] = 7
    assert any_outside(deciding, data, lambda length: length)
    assert check(expression)[0] is ag.IndexOutOfRangeError


def test_a_sound_index_is_not_doubted(monkeypatch):
    asked = []
    monkeypatch.setattr(kernels, "settle", lambda *given: asked.append(given))
    q, k, v = map(ag.asarray, arrays(20, 40, 0))
    index = np.arange(-20, 20)
    index[30:] = 10**9
    seen = ag.arange(40)[None, :] < 30
    expression = ag.softmax(hidden(seen, q @ k[:, ag.asarray(index)].mT), -1) @ v
    (found,) = Program(optimize([expression.node])).run({}, config.settings(), check_finite=True)
    np.testing.assert_allclose(found, outcome(expression, "reference"), rtol=1e-4, atol=1e-5)
    assert not asked


def test_tables_of_other_lengths_run_the_same_plan():
    q, k, v = arrays(20, 40, 0)
    attend = ag.compile(lambda q, k, v, table, index: ag.softmax(q @ k.mT + table[index][None, None, :], -1) @ v)
    for length in (50, 55, 61):
        table = np.linspace(0, 1, length).astype("float32")
        for wrong in (False, True):
            index = np.arange(40) - 20
            index[7] = length if wrong else length - 1
            if wrong:
                with pytest.raises(ag.IndexOutOfRangeError, match=f"index {length} is out of range"):
                    attend(q, k, v, table, index)
            else:
                scores = q @ k.swapaxes(1, 2) + table[index]
                weights = np.exp(scores - scores.max(-1, keepdims=True))
                wanted = weights / weights.sum(-1, keepdims=True) @ v
                np.testing.assert_allclose(attend(q, k, v, table, index), wanted, rtol=1e-4, atol=1e-5)
