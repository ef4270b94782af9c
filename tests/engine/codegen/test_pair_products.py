"""Products of bfloat16 pairs, and the same widened where there is no such instruction."""

import dataclasses

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from cut import on_target
from hypothesis import given

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.codegen.target import Target, host_target, named_target
from attngraph.engine.config import config
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from strategies import LAYOUTS, laid_out

torch = pytest.importorskip("torch")

# A result is off by its own rounding, 2**-9 of it, and its weights by as much each: no more than twice torch's error.
TIMES = 2.0
NEEDS_INSTRUCTION = pytest.mark.skipif(host_target().pair_product is None, reason="no bfloat16 instruction here")


@pytest.fixture(autouse=True)
def kernels_whatever_the_work(monkeypatch):
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def arrays(batch, rows, columns, width, value_width=None, dtype=ml_dtypes.bfloat16, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (batch, rows, width), (batch, columns, width), (batch, columns, value_width or width)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def exact(q, k, v, visible=None):
    q, k, v = (np.asarray(each, np.float64) for each in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if visible is not None:
        scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def torch_error(q, k, v, wanted, causal=False):
    tensors = [torch.from_numpy(np.ascontiguousarray(each, np.float32)).bfloat16() for each in (q, k, v)]
    found = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal)
    return np.abs(found.float().numpy() - wanted).max()


def check(q, k, v, *, causal=False):
    visible = np.tri(q.shape[-2], k.shape[-2], dtype=bool) if causal else None
    wanted = exact(q, k, v, visible)
    found = ag.scaled_dot_product_attention(q, k, v, is_causal=causal).compute()
    assert found.dtype == ml_dtypes.bfloat16
    # Torch may be lucky where there is little: half a unit in the last place is due to anybody.
    due = max(TIMES * torch_error(q, k, v, wanted, causal), np.abs(wanted).max() * 2**-8)
    assert np.abs(found.astype(np.float64) - wanted).max() <= due


def written(*expressions):
    """The text of the one kernel of some expressions."""
    made = Program(optimize([each.node for each in expressions]))
    (kernel,) = made.kernels.values()
    return kernel.for_plain_arrays(config.settings()).ir


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("target", ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4", "scalar"])
@pytest.mark.parametrize(
    ("rows", "columns", "width", "value_width"),
    [(1, 40, 16, 16), (5, 33, 64, 64), (16, 16, 2, 1), (17, 31, 34, 18), (70, 129, 33, 32), (70, 300, 64, 17)],
)
def test_errors_are_within_twice_those_of_torch(monkeypatch, target, rows, columns, width, value_width, causal):
    with on_target(monkeypatch, target):
        check(*arrays(3, rows, columns, width, value_width), causal=causal)


@pytest.mark.parametrize("columns", [128, 255, 257])
def test_long_sweeps(columns):
    """Blocks of several vectors of rows, of which the last is not full."""
    check(*arrays(64, 1027, columns, 32))


@st.composite
def problems(draw):
    sizes = [draw(st.integers(1, 40)), draw(st.integers(16, 150)), draw(st.integers(1, 40)), draw(st.integers(1, 40))]
    given = arrays(draw(st.integers(1, 3)), *sizes, seed=draw(st.integers(0, 99)))
    return [laid_out(each, draw(st.sampled_from(LAYOUTS))) for each in given], draw(st.booleans())


@given(problems())
def test_any_sizes_and_layouts(problem):
    given, causal = problem
    check(*given, causal=causal)


@NEEDS_INSTRUCTION
def test_the_instruction_is_used_for_both_products():
    q, k, v = arrays(2, 64, 64, 32)
    text = written(ag.scaled_dot_product_attention(q, k, v))
    assert "dpbf16ps" in text
    assert "fpext" not in text


@NEEDS_INSTRUCTION
def test_weights_keep_their_digits_where_the_result_does(monkeypatch):
    """Values stored as bfloat16, of a result in float32, cost no digits of weights."""
    q, k, v = arrays(2, 40, 90, 32)
    scores = q.astype("float32") @ ag.asarray(k).astype("float32").mT / np.float32(np.sqrt(32))
    out = ag.softmax(scores, axis=-1) @ ag.asarray(v).astype("float32")
    wanted = exact(q, k, v)
    assert np.abs(out.compute() - wanted).max() <= 2e-6 * np.abs(wanted).max()
    both = ag.compute(out, out.astype(ml_dtypes.bfloat16))
    assert np.array_equal(both[0], out.compute())
    assert np.array_equal(both[1], both[0].astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("layout", ["plain", "strided", "transposed", "misaligned"])
def test_float16_is_read_as_it_is_stored(layout):
    q, k, v = (laid_out(each, layout) for each in arrays(2, 33, 70, 24, dtype=np.float16))
    out = ag.attention(q, k, v)
    made = Program(optimize([out.node]))
    (kernel,) = made.kernels.values()
    assert {node.dtype for node in kernel.fused.inputs} == {np.dtype(np.float16)}
    wanted = exact(q, k, v)
    assert np.abs(out.compute() - wanted).max() <= np.abs(wanted).max() * 2**-10


def test_another_user_takes_them_widened():
    q, k, v = arrays(2, 33, 70, 24)
    out, total = ag.attention(q, k, v), ag.sum(ag.asarray(k).astype("float32") * 2, axis=-1)
    found = ag.compute(out, total)
    np.testing.assert_allclose(found[1], 2 * k.astype(np.float64).sum(-1), rtol=1e-5, atol=1e-5)
    assert np.array_equal(found[0], out.compute())


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(place, bad):
    given = arrays(1, 20, 40, 16)
    given[place][0, 5, 3] = bad
    with pytest.raises(ag.NonFiniteError, match=["query", "key", "value"][place]):
        ag.attention(*given).compute()


def test_what_a_mask_hides_may_be_anything():
    q, k, v = arrays(2, 20, 40, 16)
    wanted = exact(q, k[:, :30], v[:, :30])
    k[:, 30:], v[:, 30:] = np.nan, np.inf
    found = ag.attention(q, k, v, mask=ag.arange(40) < 30).compute().astype(np.float64)
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() * 2**-7


def test_gradients_of_bfloat16():
    given = arrays(2, 33, 40, 16)
    value, pullback = ag.vjp(ag.attention, *map(ag.asarray, given))
    lazy = (value, *pullback(np.ones(value.shape, ml_dtypes.bfloat16)))
    found = ag.compute(*lazy)
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == ml_dtypes.bfloat16
        assert np.abs(one.astype(np.float64) - other).max() <= 2**-6 * max(1e-2, np.abs(other).max())


def test_same_bits_for_any_number_of_threads():
    given = arrays(4, 200, 300, 32)
    results = []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            results.append(ag.attention(*given).compute())
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_targets_say_whether_they_have_it():
    assert named_target("x86-64-v4").pair_product is None
    fields = {field.name: getattr(host_target(), field.name) for field in dataclasses.fields(Target)}
    assert Target(**{**fields, "has_bf16": True, "vector_bytes": 32}).pair_product is None
    assert Target(**{**fields, "has_bf16": True, "vector_bytes": 64}).pair_product is not None
    assert kernels.FEW_ROWS >= 1
