"""Native sweeps against the reference in float64: every variant, ragged sizes, strides, targets, threads."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from sweeps import VARIANTS, causal, inputs, scores

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.codegen.schedule import Schedule
from attngraph.engine.codegen.target import named_target, scalar_target
from attngraph.engine.config import config
from attngraph.engine.errors import CompileError
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from strategies import LAYOUTS, attentions, laid_out

TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def natively(*expressions, check_finite=True, sweeps=None):
    """The results through kernels; None where the interpreter has to decide."""
    made = Program(optimize([each.node for each in expressions]))
    if sweeps is not None:
        assert len(made.plan.sweeps) == sweeps, made.plan.not_fused
    results = made.run({}, config.settings(), check_finite=check_finite)
    rejected = [reason for node, reason in made.plan.not_fused if node.role == "contraction"]
    assert made.plan.sweeps, rejected
    return results


def truth(*expressions):
    with ag.config.set(target="reference64"):
        return ag.compute(*expressions) if len(expressions) > 1 else (ag.compute(*expressions),)


def check(*expressions, sweeps=None, tolerance=TOLERANCE):
    found = natively(*expressions, sweeps=sweeps)
    assert found is not None
    for result, wanted, expression in zip(found, truth(*expressions), expressions, strict=True):
        assert result.dtype == expression.dtype
        np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    build, sweeps = VARIANTS[name]
    check(build(*inputs()), sweeps=sweeps)


@pytest.mark.parametrize("rows", [2, 15, 16, 17, 63, 65])
@pytest.mark.parametrize("columns", [16, 17, 31, 127, 128, 129, 257])
def test_ragged_sizes(rows, columns):
    q, k, v = inputs(rows=rows, columns=columns)
    check(ag.attention(q, k, v), sweeps=1)
    check(ag.attention(q, k, v, is_causal=True), sweeps=1)


@pytest.mark.parametrize(("width", "value_width"), [(1, 1), (3, 5), (16, 16), (17, 33), (64, 48), (128, 64)])
def test_widths(width, value_width):
    q, k, v = inputs(width=width, value_width=value_width)
    out, lse = ag.attention(q, k, v, return_lse=True)
    check(out, lse, sweeps=1)


@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each != "plain"])
def test_layouts(layout):
    arrays = [laid_out(np.asarray(each), layout) for each in inputs(width=16)]
    check(ag.attention(*map(ag.asarray, arrays)), sweeps=1)


def test_swapped_axes_need_no_copy():
    q, k, v = inputs(width=16)
    swapped = [ag.asarray(np.swapaxes(np.swapaxes(np.asarray(each), 1, 2).copy(), 1, 2)) for each in (q, k, v)]
    check(ag.attention(*swapped), sweeps=1)
    q, k, v = (ag.asarray(np.asarray(each).transpose(0, 1, 3, 2).copy()).mT for each in (q, k, v))
    check(ag.attention(q, k, v), sweeps=1)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", ["is_causal", "relative table", "bias (H, S, S)", "gated", "poincare"])
def test_targets(target, name):
    try:
        named_target(target)
    except CompileError as reason:
        pytest.skip(str(reason))
    build, _ = VARIANTS[name]
    with ag.config.set(target=target):
        check(build(*inputs(width=20)))


def test_groups_share_their_key():
    q, _, _ = inputs()
    _, k, v = inputs(seed=3)
    check(ag.attention(q, k[:, :1], v[:, :1], enable_gqa=True), sweeps=1)


def test_same_bits_for_any_number_of_threads():
    expression = ag.attention(*inputs(rows=200, columns=300, width=16), is_causal=True)
    results = []
    for threads in (1, 2, 5):
        with ag.config.set(threads=threads):
            results.append(natively(expression)[0].tobytes())
    assert len(set(results)) == 1


def test_eight_threads_in_one_compiled_function():
    compiled = ag.compile(lambda q, k, v: ag.attention(q, k, v, is_causal=True))
    given = [[np.asarray(each) for each in inputs(seed=seed, rows=100, columns=100)] for seed in range(8)]
    wanted = [compiled(*arrays) for arrays in given]
    found = [None] * 8

    def work(number):
        for _ in range(5):
            found[number] = compiled(*given[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(result, expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(expression=attentions())
def test_random_attentions(expression):
    made = Program(optimize([expression.node]))
    results = made.run({}, config.settings(), check_finite=False)
    wanted = truth(expression)[0]
    if results is None:  # the interpreter has to decide, and it does
        results = [expression.compute()]
    scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)))
    np.testing.assert_allclose(results[0], wanted, rtol=3e-4, atol=3e-4 * scale)


def test_hidden_rows_are_zero_and_need_no_interpreter():
    q, k, v = inputs()
    mask = np.ones((37, 41), bool)
    mask[5] = False
    out, lse = ag.attention(q, k, v, mask=mask, return_lse=True)
    results = natively(out, lse)
    assert results is not None
    assert (results[0][:, :, 5] == 0).all()
    assert np.isneginf(results[1][:, :, 5]).all()
    assert np.isfinite(np.delete(results[1], 5, axis=2)).all()


def test_what_overflows_is_computed_again():
    most = np.full((1, 1, 20, 8), np.finfo(np.float32).max / 2, np.float32)
    v = np.asarray(inputs(rows=20, columns=20)[2])[:1, :1]
    for q in (most, -most):
        expression = ag.attention(q, most, v)
        np.testing.assert_allclose(natively(expression)[0], truth(expression)[0], rtol=1e-6)
        np.testing.assert_allclose(expression.compute(), truth(expression)[0], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_hidden_values_may_be_anything(value):
    q, k, v = (np.asarray(each).copy() for each in inputs(columns=37))
    k[:, :, -1] = v[:, :, -1] = value
    expression = ag.attention(q, k, v, is_causal=True)[:, :, :-1]
    np.testing.assert_allclose(expression.compute(), truth(expression)[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ag.NonFiniteError, match="key"):
        ag.attention(q, k, v).compute()


def test_a_mask_in_any_form():
    q, k, v = inputs(columns=37)
    i, j = ag.arange(37)[:, None], ag.arange(37)[None, :]
    s = scores(q, k)
    for condition in (
        i >= j,
        ~(j > i),
        (j - i <= 0) & (j >= 0),
        (i + 3 >= j) & (i - j < 7),
        (j < 9) | (i >= j),
        i % 5 == j % 5,
    ):
        check(ag.softmax(ag.where(condition, s, -ag.inf), axis=-1) @ v, sweeps=1)
    check(ag.where(i >= j, ag.sigmoid(s), 0.0) @ v, sweeps=1)


def test_windows_and_lengths_beyond_a_block():
    q, k, v = inputs(rows=400, columns=400)
    i, j = ag.arange(400)[:, None], ag.arange(400)[None, :]
    s = causal(scores(q, k), q, k)
    check(ag.softmax(ag.where(i - j < 50, s, -ag.inf), axis=-1) @ v, sweeps=1)
    check(ag.softmax(ag.where(i >= 0, s, -ag.inf), axis=-1) @ v, sweeps=1)


def test_chains_of_attention():
    q, k, v = inputs(columns=37)
    x = ag.attention(q, k, v, is_causal=True)
    check(ag.attention(x, k, ag.rms_norm(x)) * 2 + 1, sweeps=2)


def test_numbers_are_no_part_of_the_code():
    from attngraph.engine import jit

    q, k, v = inputs()
    natively(ag.attention(q, k, v, scale=0.3))
    before = len(jit._loaded._held) if hasattr(jit._loaded, "_held") else None
    natively(ag.attention(q, k, v, scale=0.7))
    natively(ag.attention(*inputs(rows=50, columns=60), scale=0.9))
    if before is not None:
        assert len(jit._loaded._held) == before


def test_interrupting_a_long_call_leaves_the_library_working():
    code = """
import os, signal, threading, time
import attngraph as ag, numpy as np
q, k, v = (np.random.default_rng(n).standard_normal((1, 16, 16384, 64), dtype="float32") for n in range(3))
small = [x[:, :1, :256] for x in (q, k, v)]
before = ag.attention(*small).compute()
ag.attention(q[:, :1, :512], k[:, :1, :512], v[:, :1, :512]).compute()
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
start = time.perf_counter()
try:
    ag.attention(q, k, v).compute()
except KeyboardInterrupt:
    print("interrupted", time.perf_counter() - start < 3.0)
print("works", (ag.attention(*small).compute() == before).all())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout.split() == ["interrupted", "True", "works", "True"], result.stderr


def compiled_of(expression):
    made = Program(optimize([expression.node]))
    (kernel,) = made.kernels.values()
    return kernel, kernel.for_plain_arrays(config.settings())


def test_few_rows_have_a_kernel_of_their_own():
    codes = {}
    for rows in (1, 2, 5, 8, 9, 37):
        kernel, compiled = compiled_of(ag.attention(*inputs(rows=rows)))
        assert kernel.kind == ("few-row sweep" if rows <= 8 else "sweep")
        codes.setdefault(compiled.key, []).append(rows)
    assert sorted(codes.values()) == [[1], [2, 5, 8], [9, 37]]
    _, longer = compiled_of(ag.attention(*inputs(rows=3, columns=5000)))
    assert longer.key in codes


def test_one_query_is_worth_a_kernel(monkeypatch):
    monkeypatch.undo()
    q, k, v = (np.asarray(each)[0, 0] for each in inputs(rows=1, columns=1000, width=64))
    for query in (q, q[0]):
        expression = ag.softmax(query @ ag.asarray(k).mT / 8, axis=-1) @ v
        check(expression, sweeps=1)
        assert str(ag.explain(expression).kernels[0]).startswith("few-row sweep of matmul")
    assert not Program(optimize([(ag.softmax(ag.asarray(q[0, :3]) @ k[:40, :3].T, axis=-1) @ v[:40]).node])).plan.sweeps


def test_little_work_wakes_no_other_thread(monkeypatch):
    asked = []
    run = kernels.workers.run

    def watched(address, descriptor, tiles, scratch, threads, **kept):
        asked.append(threads)
        run(address, descriptor, tiles, scratch, threads, **kept)

    monkeypatch.setattr(kernels.workers, "run", watched)
    with ag.config.set(threads=2):
        natively(ag.attention(*inputs(rows=1, columns=200)))
        natively(ag.attention(*inputs(rows=300, columns=400)))
    assert asked == [1, 2]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_way_to_tile(monkeypatch, name):
    build, sweeps = VARIANTS[name]
    expression = build(*inputs(rows=70, columns=150))
    # Blocks of several vectors, which long sweeps have; the same kernel of one lane.
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "schedule_for", lambda *_, **__: Schedule(4, 4, 4, together=1))
        check(expression, sweeps=sweeps)
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "named_target", lambda name: scalar_target())
        check(expression, sweeps=sweeps)


@pytest.mark.parametrize(("rows", "columns"), [(70, 150), (64, 17), (3, 128)])
def test_vectors_of_a_block_are_contracted_one_after_the_other(monkeypatch, rows, columns):
    """As those of differences are: beside products, under masks, with what is not finite watched."""
    q, k, v = inputs(rows=rows, columns=columns)
    distance = ag.sum((q[..., :, None, :] - k[..., None, :, :]) ** 2, axis=-1)
    causal = ag.arange(rows)[:, None] + 5 >= ag.arange(columns)
    monkeypatch.setattr(kernels, "schedule_for", lambda *_, **__: Schedule(4, 16, 4, together=1, at_once=1))
    for score in (-distance, ag.sqrt(1 + distance) + q @ k.mT, ag.where(causal, q @ k.mT - distance, -ag.inf)):
        check(ag.softmax(score, axis=-1) @ v, sweeps=1)


def test_long_sweeps_have_blocks_of_several_vectors():
    q, k, v = inputs(rows=1100, columns=70, width=16)
    check(ag.attention(q, k, v), sweeps=1)
    check(ag.attention(q, k, v, is_causal=True), sweeps=1)


@pytest.mark.parametrize("radius", [0.5, 0.9, 0.99])
def test_near_the_edge_of_the_ball(radius):
    """Weights of distances from differences, where ``1 - |x|²`` cancels and the largest lie 10 apart."""
    ball = ag.manifold.PoincareBall()
    q, k, v = (np.asarray(each) for each in inputs(rows=60, columns=70, width=16))
    q, k = (radius * x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    k[:, :, :30] = q[:, :, :30] + np.float32(1e-4)
    distance = ball.dist(ag.asarray(q)[..., :, None, :], ag.asarray(k)[..., None, :, :])
    for times in (1.0, 3.0):
        check(ag.softmax(-distance * times, axis=-1) @ v, ag.logsumexp(-distance * times, axis=-1), sweeps=1)


def test_a_logarithm_of_what_is_negative_is_nan():
    q, k, v = inputs()
    expression = ag.softmax(-ag.log(scores(q, k)), axis=-1) @ v
    assert np.isnan(expression.compute()).any()
    np.testing.assert_allclose(natively(expression)[0], truth(expression)[0], rtol=1e-5)
