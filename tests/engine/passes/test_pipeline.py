"""The pipeline as a whole: interpreting before equals interpreting after, on random expressions."""

import numpy as np
import pytest
from hypothesis import given

import attngraph as ag
from attngraph.engine.check import check_hoisted, check_simplified, check_thoroughly
from attngraph.engine.interpreter import interpret
from attngraph.engine.pipeline import PASSES, optimize, optimize_reported
from strategies import assert_same, expressions, programs


@pytest.mark.parametrize("each", dict.fromkeys(PASSES), ids=lambda each: each.__name__)
@given(results=programs())
def test_a_pass_keeps_every_value(each, results):
    before = [result.node for result in results]
    after = each(before, None)
    check_thoroughly(after)
    for old, new in zip(interpret(before, {}, all64=True), interpret(after, {}, all64=True), strict=True):
        assert_same(old, new)


@given(expression=expressions(depth=5))
def test_the_pipeline_keeps_the_value(expression):
    before, after = [expression.node], optimize([expression.node])
    check_thoroughly(after)
    check_simplified(after)
    check_hoisted(after)
    assert_same(interpret(before, {}, all64=True)[0], interpret(after, {}, all64=True)[0])


@given(expression=expressions(depth=4))
def test_compiling_keeps_the_value(expression):
    with ag.config.set(target="reference64"):
        truth = expression.compute()
    assert_same(ag.compile(lambda: expression)().astype(np.float64), truth.astype(np.float64), 2e-4)


@given(expression=expressions(depth=3))
def test_optimizing_twice_changes_nothing(expression):
    once = optimize([expression.node])
    assert optimize(once) == once


def test_reports_name_every_pass():
    x = ag.asarray(np.ones((3, 4), "float32"))
    reports = optimize_reported([(x * 1 + 0).node])
    assert [report.name for report in reports] == [each.__name__ for each in PASSES]
    assert reports[0].changes
    assert reports[-1].roots == (x.node,)
