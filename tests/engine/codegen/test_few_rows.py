"""Kernels for few rows against the reference in float64: every variant, sizes, strides, targets, threads."""

import ctypes
import mmap
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from sweeps import VARIANTS, attend, inputs, scores

import attngraph as ag
from attngraph.engine import kernels, program
from attngraph.engine.codegen.few_rows import FewRows, few_rows_for
from attngraph.engine.codegen.few_rows_contract import sum_lanes
from attngraph.engine.codegen.few_rows_lanes import slope
from attngraph.engine.codegen.few_rows_sums import RowSum
from attngraph.engine.codegen.llvm import Function, Module
from attngraph.engine.codegen.target import host_target, named_target
from attngraph.engine.config import config
from attngraph.engine.errors import CompileError
from attngraph.engine.kernel import Elements
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from strategies import LAYOUTS, attentions, laid_out

TOLERANCE = 2e-5


@pytest.fixture(autouse=True)
def always_few(monkeypatch):
    """Every sweep is written for few rows, whatever its size."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    monkeypatch.setattr(kernels, "MOST_FEW_ROWS", 1 << 40)


def array(*shape, seed=0):
    return ag.asarray(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def natively(*expressions, sweeps=1, check_finite=True):
    made = Program(optimize([each.node for each in expressions]))
    assert len(made.plan.sweeps) == sweeps, made.plan.not_fused
    assert all(kernel.kind == "few-row sweep" for kernel in made.kernels.values())
    return made.run({}, config.settings(), check_finite=check_finite)


def check(*expressions, sweeps=1, tolerance=TOLERANCE):
    found = natively(*expressions, sweeps=sweeps)
    assert found is not None
    with ag.config.set(target="reference64"):
        truth = [each.compute() for each in expressions]
    for result, wanted in zip(found, truth, strict=True):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max()))


def can_run(target):
    try:
        return named_target(target)
    except CompileError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name):
    build, sweeps = VARIANTS[name]
    check(build(*inputs()), sweeps=sweeps)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_one_row(name):
    build, sweeps = VARIANTS[name]
    check(build(*inputs(rows=1)), sweeps=sweeps)


@pytest.mark.parametrize("width", range(1, 13))
def test_sums_of_any_number_of_vectors(width):
    """Register by register, on vectors of four: what 16 lanes do at 4 to 192 elements."""
    can_run("x86-64-v2")
    with ag.config.set(target="x86-64-v2"):
        for rows in (1, 2, 3):
            check(ag.attention(*inputs(rows=rows, columns=37, value_width=4 * width)))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", ["is_causal", "relative table", "bias (H, S, S)", "gated", "poincare", "additive"])
def test_targets(target, name):
    can_run(target)
    build, sweeps = VARIANTS[name]
    with ag.config.set(target=target):
        check(build(*inputs()), sweeps=sweeps)
        check(build(*inputs(rows=1)), sweeps=sweeps)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 9, 13])
@pytest.mark.parametrize("columns", [16, 17, 31, 64, 127, 511, 512, 513, 1031])
def test_ragged_sizes(rows, columns):
    q, k, v = inputs(rows=rows, columns=columns)
    check(ag.attention(q, k, v))
    check(ag.attention(q, k, v, is_causal="lower_right"))
    check(ag.attention(q, k, v, is_causal=True))


@pytest.mark.parametrize(
    ("width", "value_width"),
    [(1, 1), (3, 5), (4, 3), (16, 16), (17, 33), (64, 48), (128, 64), (80, 80), (24, 112), (200, 250)],
)
@pytest.mark.parametrize("rows", [1, 5])
def test_widths(width, value_width, rows):
    out, lse = ag.attention(*inputs(rows=rows, width=width, value_width=value_width), return_lse=True)
    check(out, lse)


@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each != "plain"])
@pytest.mark.parametrize("rows", [1, 5])
def test_layouts(layout, rows):
    arrays = [laid_out(np.asarray(each), layout) for each in inputs(rows=rows, width=16)]
    check(ag.attention(*map(ag.asarray, arrays)))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("rows", [1, 5])
def test_columns_that_are_neighbours(target, rows):
    """Keys or values that lie with their columns side by side, or with neither axis so."""
    can_run(target)
    q, k, v = inputs(rows=rows, width=20, columns=43)
    turned = [ag.asarray(np.swapaxes(np.asarray(each), -1, -2).copy()).mT for each in (k, v)]
    sparse = [ag.asarray(np.repeat(np.asarray(each), 2, axis=-1)[..., ::2]) for each in (k, v)]
    with ag.config.set(target=target):
        for keys in (k, turned[0], sparse[0]):
            for values in (v, turned[1], sparse[1]):
                check(ag.attention(q, keys, values))


def test_shapes_with_one_row():
    q, k, v, heads = array(64), array(200, 64, seed=1), array(200, 48, seed=2), array(3, 200, 64, seed=3)
    check(attend(k @ q / 8, v))
    check(attend(q @ k.mT / 8, v))
    check(attend(q[None] @ k.mT / 8, v))
    check(attend(heads @ q / 8, v))
    check(ag.logsumexp(heads @ q, axis=-1))
    check(ag.sigmoid(k @ q) @ v)
    check(ag.relu(q @ array(64, 128, seed=4)) @ array(128, 30, seed=5))
    check(*ag.attention(array(8, 1, 64), array(8, 200, 64), array(8, 200, 64), return_lse=True))


def test_heads_that_share_keys_are_rows():
    q, k, v = array(2, 8, 1, 32), array(2, 2, 100, 32, seed=1), array(2, 2, 100, 32, seed=2)
    expression = ag.attention(q, k, v, enable_gqa=True)
    (sweep,) = Program(optimize([expression.node])).plan.sweeps
    assert sweep.rows.length == 4
    check(expression)
    check(ag.attention(array(2, 8, 3, 32), k, v, enable_gqa=True, is_causal="lower_right"))


def test_windows_and_lengths_beyond_a_block():
    q, k, v = inputs(rows=3, columns=1500)
    i, j = ag.arange(3)[:, None] + 1200, ag.arange(1500)[None, :]
    s = scores(q, k)
    check(attend(ag.where((i >= j) & (i - j < 70), s, -ag.inf), v))
    check(attend(ag.where((j < 9) | (j % 5 == 2), s, -ag.inf), v))
    check(ag.where(i >= j, ag.sigmoid(s), 0.0) @ v)


def test_a_block_of_columns_fits_what_it_brings():
    def block(rows, width):
        (sweep,) = Program(optimize([ag.attention(*inputs(rows=rows, width=width)).node])).plan.sweeps
        return few_rows_for(sweep)

    assert block(1, 128) == FewRows(512, single=True)
    assert [block(4, width).block for width in (8, 64, 128, 256)] == [512, 512, 256, 128]


@pytest.mark.parametrize("rows", [1, 13])
def test_same_bits_for_any_number_of_threads(rows, monkeypatch):
    monkeypatch.setattr(kernels, "LEAST_SHARED", 0)
    expression = ag.attention(*inputs(rows=rows, columns=700, width=16))
    results = []
    for threads in (1, 2, 5):
        with ag.config.set(threads=threads):
            results.append(natively(expression)[0].tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("width", [32, 128])
def test_rows_do_not_depend_on_their_neighbours(width):
    q, k, v = (np.asarray(each) for each in inputs(rows=8, columns=203, width=width))
    (whole,) = natively(ag.attention(q, k, v))
    (some,) = natively(ag.attention(q[:, :, :3], k, v))
    np.testing.assert_array_equal(whole[:, :, :3], some)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(expression=attentions())
def test_random_attentions(expression):
    made = Program(optimize([expression.node]))
    results = made.run({}, config.settings(), check_finite=False)
    with ag.config.set(target="reference64"):
        wanted = expression.compute()
    if results is None:  # the interpreter has to decide, and it does
        results = [expression.compute()]
    scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)))
    np.testing.assert_allclose(results[0], wanted, rtol=3e-4, atol=3e-4 * scale)


@pytest.mark.parametrize("rows", [1, 5])
def test_hidden_rows_are_zero_and_need_no_interpreter(rows):
    q, k, v = inputs(rows=rows)
    mask = np.ones((rows, 41), bool)
    mask[rows - 1] = False
    out, lse = natively(*ag.attention(q, k, v, mask=mask, return_lse=True))
    assert (out[:, :, -1] == 0).all()
    assert np.isneginf(lse[:, :, -1]).all()
    assert np.isfinite(lse[:, :, :-1]).all()


def test_what_overflows_is_computed_again():
    most = np.full((1, 1, 3, 8), np.finfo(np.float32).max / 2, np.float32)
    keys, v = np.resize(most, (1, 1, 20, 8)), np.asarray(inputs(columns=20)[2])[:1, :1]
    for q in (most, -most, most[:, :, :1]):
        expression = ag.attention(q, keys, v)
        with ag.config.set(target="reference64"):
            truth = expression.compute()
        np.testing.assert_allclose(natively(expression)[0], truth, rtol=1e-6)
        np.testing.assert_allclose(expression.compute(), truth, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_hidden_values_may_be_anything(value):
    q, k, v = (np.asarray(each).copy() for each in inputs(rows=3, columns=40))
    k[:, :, -5:] = v[:, :, -5:] = value
    expression = ag.attention(q, k, v, mask=np.arange(40) < 35)
    with ag.config.set(target="reference64"):
        truth = expression.compute()
    assert np.isfinite(truth).all()
    np.testing.assert_allclose(expression.compute(), truth, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def edge():
    """Memory behind whose end nothing may be touched."""
    size = 16 * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(pages.ctypes.data + size), ctypes.c_size_t(mmap.PAGESIZE), 0):
        pytest.skip("the page cannot be protected")
    return pages[:size]


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("width", [3, 8, 17, 32])
def test_nothing_is_read_beyond_an_array(edge, target, width):
    can_run(target)
    for columns in (16, 19, 37):
        used = edge[edge.size - 4 * columns * width :].view(np.float32)
        used[:] = np.random.default_rng(columns).standard_normal(used.size)
        for last in (used.reshape(columns, width), used.reshape(width, columns).T):
            other = np.random.default_rng(1).standard_normal((columns, width)).astype("float32")
            q = other[:2].copy()
            with ag.config.set(target=target):
                for keys, values in ((last, other), (other, last)):
                    check(attend(ag.asarray(q) @ ag.asarray(keys).mT, ag.asarray(values)))


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_sums_of_lanes(native, lanes):
    module = Module(host_target())
    f = Function(module, "f", {"x": "ptr", "y": "ptr"})
    type_ = "float" if lanes == 1 else f"<{lanes} x float>"
    vectors = [f.load(f.offset(f["x"], 4 * lanes * number), type_) for number in range(lanes)]
    f.store(sum_lanes(f, vectors), f["y"])
    f.ret()
    x, y = np.random.default_rng(0).standard_normal((lanes, lanes)).astype("float32"), np.zeros(lanes, "float32")
    native(module)("f", x, y)
    np.testing.assert_allclose(y, x.sum(axis=1), rtol=1e-5, atol=1e-6)


def test_slopes_of_indices():
    elements = Elements(lambda _: True)
    axis, other = elements.new_axis("j", 9), elements.new_axis("i", 9)
    j, i = elements.index(axis), elements.index(other)
    assert slope(i, axis) == 0
    assert slope(elements.subtract(i, j), axis) == -1
    assert slope(elements.add(elements.subtract(j, i), elements.constant(4)), axis) == 1
    assert slope(elements.multiply(j, j), axis) is None


@pytest.mark.parametrize(
    ("op", "width", "rows"),
    [("load", 16, 4), ("load", 32, 2), ("load", 64, 2), ("load", 128, 2), ("load", 256, 4), ("multiply", 128, 4)],
)
def test_sums_take_so_few_rows_that_a_column_is_read_as_a_whole(op, width, rows):
    part = RowSum.__new__(RowSum)
    part.writer, part.column = SimpleNamespace(sizes=FewRows(block=64, together=4)), SimpleNamespace(op=op)
    part.registers, part.chunks = 16, width // 16
    part.spread = min(4, max(1, 8 // part.chunks))
    assert part._rows_together() == rows


def test_narrow_columns_are_asked_for_once_a_line():
    def asked(dtype):
        q, k, v = ag.placeholder((1, 8, 1, 128)), *(ag.placeholder((1, 2, 64, 128), dtype) for _ in range(2))
        keys, values = ag.astype(k, "float32"), ag.astype(v, "float32")
        (kernel,) = ag.explain(ag.attention(q, keys, values, enable_gqa=True)).kernels
        return kernel.llvm.count("call void @llvm.prefetch")

    assert 0 < 3 * asked("int8") < asked("float32")
