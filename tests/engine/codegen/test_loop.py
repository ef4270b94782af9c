"""The code of loops: what it depends on, passes over a row, tasks, and how arrays fit it."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.codegen.loop import LoopWriter
from attngraph.engine.codegen.loop_layout import HEAD, LoopLayout, loop_signature, numbers_of
from attngraph.engine.codegen.loop_passes import passes_of
from attngraph.engine.codegen.target import host_target
from attngraph.engine.loop_binding import Fit, plain_strides, sizes
from attngraph.engine.passes.lower_loop import Views, lower_loop
from attngraph.engine.pipeline import optimize
from attngraph.engine.types import carrier


def loop_of(*results):
    roots = optimize([each.node for each in results])
    inside = list(roots)
    for node in inside:
        inside += [each for each in node.operands if each.role != "leaf" and each not in inside]
    *lead, inner = roots[0].shape
    return lower_loop(tuple(length for length in lead if length != 1), inner, roots, inside, Views())


def fit_of(loop, **strides):
    plain = [(plain_strides(node.shape, carrier(node.type)), carrier(node.type)) for node in loop.inputs]
    return Fit(loop, [axis.length for axis in (*loop.lead, loop.inner)], tuple(plain))


def x(*shape, dtype="float32"):
    return ag.placeholder(shape, dtype)


def test_axes_one_behind_the_other_are_one():
    assert fit_of(loop_of(ag.exp(x(4, 5, 6)) * 2)).lengths == [120]
    assert fit_of(loop_of(ag.exp(x(4, 5, 6)) * x(6))).lengths == [20, 6]
    assert fit_of(loop_of(ag.exp(x(4, 5, 6)) * x(5, 1))).lengths == [4, 5, 6]
    assert fit_of(loop_of(ag.rms_norm(x(4, 5, 6)))).lengths == [20, 6]
    assert fit_of(loop_of(x(4, 5, 6) * ag.arange(6))).lengths == [20, 6]
    assert fit_of(loop_of(x(4, 5, 6)[:, :, ::2] * 2)).lengths == [60]


def test_neighbours_are_told_from_what_lies_apart():
    reaches = [reach for _, reach in fit_of(loop_of(x(4, 6) * x(6, 4).mT + x(4, 1) * x(6))).form.operands]
    assert sorted(reaches) == ["apart", "none", "unit", "unit"]


def test_types_in_memory():
    loop = loop_of(ag.where(x(50, dtype="bool"), x(50).astype("float64"), x(50, dtype="int8") * 1.0))
    assert sorted(element for element, _ in fit_of(loop).form.operands) == ["float", "i8", "i8"]


@pytest.mark.parametrize("lengths", [[1000], [7, 13], [1, 10**7], [10**6, 3], [3, 0], [0, 3]])
@pytest.mark.parametrize("reduces", [False, True])
def test_tasks_cover_every_element_once(lengths, reduces):
    found = sizes(lengths, 10, reduces)
    rows, length = int(np.prod(lengths[:-1])), lengths[-1]
    task_blocks = found["blocks"] or 1
    covered = -(-found["tasks"] // task_blocks) * found["task_rows"]
    assert covered >= rows or length == 0
    assert found["blocks"] * found["chunk"] >= length
    assert found["chunk"] == length or not reduces
    if rows * length > 10**6 and (rows > 1 or not reduces):
        assert found["tasks"] > 8


def test_one_pass_for_each_level_of_reductions():
    passes = passes_of(loop_of(ag.layer_norm(x(20, 30))), True)
    assert [(len(each.reductions), len(each.stored)) for each in passes] == [(1, 0), (1, 0), (0, 1)]
    assert not any(each.fills for each in passes)  # a difference is not worth keeping


def test_what_is_dear_is_kept_from_pass_to_pass():
    loop = loop_of(ag.softmax(x(20, 30), axis=-1))
    kept = [[each.op for each in one.fills] for one in passes_of(loop, True)]
    assert kept == [[], ["exp"], []]
    assert not any(each.fills for each in passes_of(loop, False))
    writer = LoopWriter(loop, fit_of(loop).form, host_target())
    assert writer.scratch_bytes(30) >= (30 + writer.lanes) * 4


def test_lengths_and_numbers_are_slots():
    texts = set()
    for length, number in ((30, 0.3), (31, 0.7), (1000, 0.9)):
        loop = loop_of(ag.tanh(x(20, length) * number) + 5 * x(length))
        form = fit_of(loop).form
        assert (
            set(LoopLayout(loop, form).values) == {("float", number), ("float", 5.0)} == set(numbers_of(loop.scalars))
        )
        texts.add((loop_signature(loop), LoopWriter(loop, form, host_target()).write()))
    assert len(texts) == 1


def test_other_code_has_another_signature():
    shapes = (20, 30)
    several = [
        ag.exp(x(*shapes)) + x(*shapes),
        ag.exp(x(*shapes)) + x(30),
        ag.exp(x(*shapes)) + 1.0,
        ag.exp(x(*shapes)) - x(*shapes),
        ag.exp(x(*shapes, dtype="float64")) + x(*shapes, dtype="float64"),
        ag.minimum(ag.exp(x(*shapes)), x(*shapes)),
    ]
    assert len({loop_signature(loop_of(each)) for each in several}) == len(several)


def test_a_loop_looks_for_trouble_at_its_end():
    loop = loop_of(ag.exp(x(20, 30)) + 1)
    text = LoopWriter(loop, fit_of(loop).form, host_target()).write()
    assert text.count("store i64 1") == 1
    assert f"i64 {8 * HEAD.index('trouble')}" in text


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("length", [2, 4, 8, 16, 7])
def test_rows_that_are_one_vector(length, target):
    shape = 5, 3, 7, length
    form = fit_of(loop_of(ag.sum(x(*shape) * x(3, 1, length), axis=-1, keepdims=True) + x(*shape))).form
    assert form.short == (0 if length == 7 else length)
    rng = np.random.default_rng(length)
    one, other = (
        rng.standard_normal((400, *shape[1:]), dtype="float32"),
        rng.standard_normal((3, 1, length), dtype="float32"),
    )

    def of(a, b):
        a, b = ag.asarray(a), ag.asarray(b)
        return [ag.sum(a * b, axis=-1), ag.max(a * b, axis=-1), a - ag.sum(a * b, axis=-1, keepdims=True)]

    with ag.config.set(target=target):
        found = ag.compute(*of(one, other))
    due = ag.compute(*of(one.astype("float64"), other.astype("float64")))
    for mine, exact in zip(found, due, strict=True):
        np.testing.assert_allclose(mine, exact, rtol=2e-6, atol=2e-6)
