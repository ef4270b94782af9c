"""Explanations: the parts, what is measured, and errors."""

import numpy as np
import pytest

import attngraph as ag


def attention(length=256):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 4, length, 32)).astype("float32") for _ in range(3))
    return ag.attention(q, k, v, is_causal=True)


def test_the_report_shows_every_part():
    text = str(ag.explain(attention()))
    for part in ("graph as written", "passes", "graph after all passes", "kernels", "memory: peak", "1 native kernels"):
        assert part in text
    assert "test_explanation.py:" in text
    assert repr(ag.explain(attention())) == str(ag.explain(attention()))


@pytest.mark.parametrize("level", ["graph", "passes", "optimized", "kernels", "memory"])
def test_one_part_alone(level):
    whole, part = str(ag.explain(attention())), str(ag.explain(attention(), level=level))
    assert part in whole or level == "kernels"
    assert len(part) < len(whole)


def test_a_kernel_shows_its_code():
    (kernel,) = ag.explain(attention()).kernels
    assert kernel.name == "sweep of matmul float32[2, 4, 256, 32]"
    assert "sweep j1:256" in kernel.ir
    assert "define void @sweep" in kernel.llvm
    assert "fma" in kernel.assembly or "mul" in kernel.assembly
    assert kernel.flops > 2 * 4 * 256 * 256 * 4 * 32
    assert kernel.bytes == 4 * 2 * 4 * 256 * 32 * 4
    assert kernel.scratch_bytes > 128 * 16 * 4
    assert kernel.compile_seconds >= 0
    assert kernel.cached in ("memory", "disk", "no")


def test_memory_is_that_of_the_kernels():
    explained = ag.explain(attention(1024))
    assert explained.memory.peak_bytes == 2 * 4 * 1024 * 32 * 4  # the result, and no S x S array
    with ag.config.set(target="reference"):
        assert ag.explain(attention(1024)).memory.peak_bytes > 2 * 4 * 1024 * 1024 * 4


def test_what_is_not_fused_has_a_reason():
    x, w = ag.placeholder((64, 384)), ag.placeholder((384, 384))
    explained = ag.explain(ag.relu(x @ w) @ w)
    assert not explained.kernels
    assert explained.not_fused
    assert "not fused" in str(explained)
    assert "NumPy alone" in str(explained)


def test_compiled_functions_after_their_first_call():
    compiled = ag.compile(lambda x: ag.softmax(x * 2, axis=-1))
    with pytest.raises(ag.ArgumentError, match="not been called yet"):
        ag.explain(compiled)
    compiled(np.ones((3, 4), "float32"))
    explained = ag.explain(compiled)
    assert "compiled function <lambda>" in str(explained)
    assert "softmax" in explained.graph
    assert explained.passes[0].name == "simplify"


def test_several_expressions_at_once():
    x = ag.placeholder((3,), name="x")
    text = str(ag.explain([x + 1, x + 2]))
    assert text.count("placeholder 'x'") >= 1
    assert "return %1, %2" in text


@pytest.mark.parametrize(("options", "said"), [({"level": "deep"}, "level"), ({"format": "html"}, "format")])
def test_errors(options, said):
    with pytest.raises(ag.ArgumentError, match=said):
        ag.explain(ag.placeholder((2,)), **options)


def test_a_loop_is_a_kernel():
    rng = np.random.default_rng(0)
    x, scale = (ag.asarray(rng.standard_normal(shape).astype("float32")) for shape in ((64, 384), (384,)))
    explained = ag.explain(ag.rms_norm(ag.gelu(x), scale))
    (kernel,) = explained.kernels
    assert kernel.name == "loop of multiply float32[64, 384]"
    assert "along i1:384" in kernel.ir
    assert "define void @loop" in kernel.llvm
    assert "ret" in kernel.assembly
    assert kernel.flops > 64 * 384 * 8
    assert kernel.bytes == (2 * 64 * 384 + 384) * 4
    assert kernel.scratch_bytes >= 384 * 4  # what the first pass keeps for the second
    assert kernel.cached in ("memory", "disk", "no")
    assert explained.memory.peak_bytes == 64 * 384 * 4
    assert "1 native kernels" in str(explained)
