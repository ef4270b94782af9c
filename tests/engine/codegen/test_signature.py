"""Signatures: equal exactly where the written code is."""

import itertools

import pytest
from sweeps import VARIANTS, causal, inputs, scores

import attngraph as ag
from attngraph.engine.codegen.target import host_target
from attngraph.engine.config import config
from attngraph.engine.kernels import SweepKernel
from attngraph.engine.passes.fuse import fuse
from attngraph.engine.passes.fused import Fused
from attngraph.engine.pipeline import optimize


def code(expression):
    """Signature, shape of slots and text of an expression's only sweep, as if compiled for plain arrays."""
    plan = fuse(optimize([expression.node]))
    (fused,) = [step for step in plan.steps if isinstance(step, Fused)]
    written = SweepKernel(fused).for_plain_arrays(config.settings())
    return written.key, written.ir


def windowed(q, k, v, window):
    i, j = ag.arange(q.shape[-2])[:, None], ag.arange(k.shape[-2])[None, :]
    return ag.softmax(ag.where(i - j < window, causal(scores(q, k), q, k), -ag.inf), -1) @ v


@pytest.fixture(scope="module")
def codes():
    found = []
    for rows, columns in ((37, 41), (50, 64)):
        q, k, v = inputs(rows=rows, columns=columns)
        found += [(name, *code(build(q, k, v))) for name, (build, _) in VARIANTS.items()]
        found += [(f"window {window}", *code(windowed(q, k, v, window))) for window in (5, 9)]
        found += [(f"scale {scale}", *code(ag.attention(q, k, v, scale=scale))) for scale in (0.3, 0.7)]
    return found


def test_equal_signatures_are_equal_code(codes):
    for (name, key, text), (other, other_key, other_text) in itertools.combinations(codes, 2):
        assert (key == other_key) == (text == other_text), (name, other)


def test_lengths_and_numbers_are_no_part_of_the_code(codes):
    first, second = codes[: len(codes) // 2], codes[len(codes) // 2 :]
    same = [name for (name, key, _), (_, other, _) in zip(first, second, strict=True) if key == other]
    assert {"plain", "causal", "alibi", "window 5", "window 9", "scale 0.3"} <= set(same)
    keys = {name: key for name, key, _ in codes}
    assert keys["window 5"] == keys["window 9"]
    assert keys["scale 0.3"] == keys["scale 0.7"]


def test_the_host_is_a_target():
    assert host_target().lanes("float32") >= 4
