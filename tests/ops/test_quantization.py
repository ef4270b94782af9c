"""Numbers of 8 and 4 bits: what they stand for, what kernels make of them, and what is no such number."""

import ctypes
import mmap
import pickle

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from cut import on_target
from hypothesis import given

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.config import config
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from checks import TARGETS
from strategies import LAYOUTS, laid_out

# Of float32: what attention of exact numbers may differ by, relative to the largest result.
TOLERANCE = 2e-5
DTYPES, SETS = ("int8", "int4"), ("native", "x86-64-v2", "x86-64-v3", "x86-64-v4", "scalar")


@pytest.fixture(autouse=True)
def kernels_whatever_the_work(monkeypatch):
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def numbers(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype("float32")


def read(found):
    """What quantized arrays stand for, exactly."""
    data = np.asarray(found.data)
    if found.dtype == "int4":
        data = np.stack([data & 15, data >> 4], -1).astype(np.int64).reshape(found.shape)
        data = np.where(data > 7, data - 16, data)
    parameters = [np.asarray(0 if each is None else each, np.float64) for each in (found.scale, found.zero_point)]
    for axis, length in enumerate(data.shape):
        parameters = [
            np.repeat(each, length // each.shape[axis], axis) if each.ndim and each.shape[axis] else each
            for each in parameters
        ]
    return (data - parameters[1]) * parameters[0]


def exact(q, k, v, scale=None):
    """Attention in float64."""
    scores = np.asarray(q, np.float64) @ np.swapaxes(k, -1, -2) * (scale or q.shape[-1] ** -0.5)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def close(found, wanted, tolerance=TOLERANCE):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1e-3, np.abs(wanted).max(initial=0)))


def sweeps_alone(*expressions):
    """The kernels of a program that makes nothing else: no array of what is read is made on the way."""
    made = Program(optimize([each.node for each in expressions]))
    others = [step for step in made.plan.steps if not isinstance(step, ag.Node) or step.operands]
    assert [type(each).__name__ for each in others] == ["Fused"] * len(others), others
    return made


# --- packing


@pytest.mark.parametrize("target", TARGETS)
def test_every_byte_holds_two_numbers(target):
    every = np.arange(256, dtype=np.uint8).reshape(2, 128)
    with ag.config.set(target=target):
        found = ag.unpack_int4(every).compute()
        again = ag.pack_int4(found).compute()
    assert found.dtype == np.int8
    assert found.shape == (2, 256)
    assert found.min() == -8
    assert found.max() == 7
    assert found[0, 0x31 * 2] == 1
    assert found[0, 0x31 * 2 + 1] == 3
    assert again.dtype == np.uint8
    assert np.array_equal(again, every)
    halves = np.stack([every & 15, every >> 4], -1).reshape(2, 256).astype(int)
    assert np.array_equal(found, np.where(halves > 7, halves - 16, halves))


def test_nothing_packs_to_nothing():
    assert ag.unpack_int4(np.zeros((3, 0), np.uint8)).compute().shape == (3, 0)
    assert ag.pack_int4(np.zeros((0, 4), np.int8)).compute().shape == (0, 2)


@pytest.mark.parametrize("shape", [(4, 0), (0, 4), (0, 0), (3, 4, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per", ["token", "channel"])
def test_nothing_is_quantized_to_nothing(shape, dtype, per):
    found = ag.quantize(np.zeros(shape, "float32"), dtype, per=per)
    assert found.shape == shape
    assert ag.dequantize(found).compute().shape == shape
    assert found.compute().data.size == 0


def test_whole_numbers_have_no_gradient():
    x = ag.asarray(np.zeros((2, 3), np.uint8))
    loss = lambda y: ag.sum(ag.unpack_int4(x).astype("float32") * y)  # noqa: E731
    assert np.array_equal(ag.grad(loss)(ag.ones((2, 6))).compute(), np.zeros((2, 6)))


# --- quantizing


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("per", ["token", "channel"])
@pytest.mark.parametrize("group_size", [None, 4, 1])
@pytest.mark.parametrize("symmetric", [False, True])
def test_numbers_lie_within_half_a_step(dtype, per, group_size, symmetric):
    x = numbers(2, 12, 16, seed=1)
    x[0, 0] = 0
    x[1, 1] = 3.5
    found = ag.quantize(x, dtype, per=per, group_size=group_size, symmetric=symmetric).compute()
    assert found.shape == x.shape
    assert (found.zero_point is None) == symmetric
    groups = 1 if group_size is None else (16 if per == "token" else 12) // group_size
    assert found.scale.shape == ((2, 12, groups) if per == "token" else (2, groups, 16))
    steps = np.repeat(found.scale, x.shape[2 if per == "token" else 1] // groups, 2 if per == "token" else 1)
    # Half a step by rounding a number, half by rounding the zero point, and float32's own.
    assert (np.abs(read(found) - x) <= steps * (0.5 if symmetric else 1.0) + 1e-5).all()
    assert np.array_equal(read(found)[0, 0], x[0, 0]) or per == "channel"
    found_again = ag.dequantize(found).compute()
    assert found_again.dtype == np.float32
    close(found_again, read(found), 1e-6)


def test_the_largest_numbers_have_a_scale():
    x = np.array([[3e38, -3e38], [1e-44, 0]], np.float32)
    found = ag.quantize(x).compute()
    assert np.isfinite(found.scale).all()
    assert np.abs(read(found)[0] - x[0]).max() <= found.scale[0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_the_largest_numbers_come_back(dtype, symmetric, kind):
    rng, largest = np.random.default_rng(5), float(np.finfo(kind).max)
    x = rng.uniform(-largest / 2, largest / 2, (400, 8)) * 2
    x[:, 0] = rng.choice([-largest, largest], 400) * rng.uniform(0.9, 1, 400)
    x[0], x[1, ::2], x[1, 1::2] = -largest, largest, -largest
    x = x.astype(kind)
    found = ag.quantize(x, dtype, symmetric=symmetric).compute()
    back = ag.dequantize(found).compute()
    assert np.isfinite(back).all()
    assert (np.abs(back / found.scale - x / found.scale) <= 0.5001).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_that(bad):
    x = numbers(3, 8)
    x[1, 2] = bad
    with ag.config.set(check_finite=False):
        back = ag.dequantize(ag.quantize(x)).compute()
    assert not np.isfinite(back[1]).any()
    assert np.isfinite(back[[0, 2]]).all()


def test_half_floats_are_quantized_too():
    x = numbers(5, 8).astype(ml_dtypes.bfloat16)
    found = ag.quantize(x).compute()
    assert found.scale.dtype == np.float32
    assert np.abs(read(found) - x.astype(np.float64)).max() <= found.scale.max()


def test_quantized_arrays_travel():
    found = ag.quantize(numbers(4, 8), "int4", group_size=4).compute()
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(ag.dequantize(again).compute(), ag.dequantize(found).compute())
    assert found.nbytes == 4 * 4 + 4 * 2 * 5


# --- attention


def quantized(shape, dtype, per, group_size, symmetric, seed):
    return ag.quantize(numbers(*shape, seed=seed), dtype, per=per, group_size=group_size, symmetric=symmetric).compute()


@pytest.mark.parametrize("target", SETS)
@pytest.mark.parametrize("rows", [1, 3, 21])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("per", "group_size", "symmetric"), [("token", None, False), ("channel", 3, True), ("token", 8, True)]
)
def test_kernels_widen_what_they_read(monkeypatch, target, rows, dtype, per, group_size, symmetric):
    length, width = 51, 24
    k, v = (quantized((2, length, width), dtype, per, group_size, symmetric, seed) for seed in (1, 2))
    q = numbers(2, rows, width)
    with on_target(monkeypatch, target):
        out = ag.attention(q, ag.dequantize(k), ag.dequantize(v))
        sweeps_alone(out)
        close(out.compute(), exact(q, read(k), read(v)))


@st.composite
def problems(draw):
    dtype = draw(st.sampled_from(DTYPES))
    per, symmetric = draw(st.sampled_from(("token", "channel"))), draw(st.booleans())
    length, width = draw(st.sampled_from((1, 2, 16, 17, 31, 130))), 2 * draw(st.integers(1, 33))
    along = width if per == "token" else length
    group = draw(st.sampled_from([None, *(size for size in (1, 2, 3, 5, 16, 32) if along % size == 0)]))
    heads, times = draw(st.sampled_from((1, 2))), draw(st.sampled_from((1, 4)))
    rows = draw(st.sampled_from((1, 2, 7, 8, 9, 17, 40)))
    layout = draw(st.sampled_from(LAYOUTS))
    seed = draw(st.integers(0, 99))
    k, v = (quantized((heads, length, width), dtype, per, group, symmetric, seed + n) for n in (0, 1))
    parts = [
        ag.Quantized(*(each if each is None else laid_out(each, layout) for each in one[:3]), dtype) for one in (k, v)
    ]
    return numbers(heads * times, rows, width, seed=seed), *parts, times


@given(problems())
def test_any_sizes_and_layouts(problem):
    q, k, v, times = problem
    found = ag.attention(q, ag.dequantize(k), ag.dequantize(v), enable_gqa=True).compute()
    close(found, exact(q, *(np.repeat(read(each), times, axis=0) for each in (k, v))))


def test_a_mask_hides_what_any_scale_makes(monkeypatch):
    k, v = (quantized((2, 40, 16), "int8", "token", None, False, seed) for seed in (1, 2))
    q = numbers(2, 3, 16)
    wanted = exact(q, read(k)[:, :30], read(v)[:, :30])
    k.scale[:, 30:], v.scale[:, 30:] = np.nan, np.inf
    out = ag.attention(q, ag.dequantize(k), ag.dequantize(v), mask=ag.arange(40) < 30).compute()
    close(out, wanted)


def test_many_rows_make_no_array_of_floats():
    k, v = (quantized((2, 600, 32), "int8", "token", None, False, seed) for seed in (1, 2))
    q = numbers(2, 300, 32)
    out = ag.attention(q, ag.dequantize(k), ag.dequantize(v), is_causal=True)
    program = sweeps_alone(out)
    assert program.memory(config.settings()).peak_bytes == out.size * 4


def test_one_scale_for_all():
    data = np.random.default_rng(0).integers(-128, 128, (2, 40, 16)).astype(np.int8)
    found = ag.dequantize(data, 0.25, 3).compute()
    assert np.array_equal(found, (data.astype(np.float32) - 3) * np.float32(0.25))


# --- gradients


@pytest.mark.parametrize("rows", [2, 20])
def test_gradients_by_queries_and_scales(rows):
    k, v = (quantized((2, 33, 16), "int8", "token", 8, False, seed) for seed in (1, 2))

    def attend(q, key_scale, value_scale):
        keys = ag.dequantize(k.data, key_scale, k.zero_point)
        return ag.attention(q, keys, ag.dequantize(v.data, value_scale, v.zero_point))

    primals = numbers(2, rows, 16), k.scale, v.scale
    value, pullback = ag.vjp(attend, *map(ag.asarray, primals))
    lazy = (value, *pullback(numbers(*value.shape, seed=5)))
    found = ag.compute(*lazy)
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    for one, other in zip(found, wanted, strict=True):
        close(one, other, 1e-4)
    # Along the gradient the value grows as it says.
    step, at = 1e-7, [np.asarray(each, np.float64) for each in primals]
    with ag.config.set(target="reference64"):
        seed = numbers(*value.shape, seed=5)
        sums = [
            float((attend(at[0], at[1] + sign * step * wanted[2], at[2]).compute() * seed).sum()) for sign in (1, -1)
        ]
    assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(float((wanted[2] ** 2).sum()), rel=1e-3)


# --- bad input

DATA, PACKED = np.zeros((4, 6), np.int8), np.zeros((4, 3), np.uint8)
SCALE = np.ones((4, 1), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ag.unpack_int4(DATA), ag.DTypeError, "takes a uint8 array"),
        (lambda: ag.unpack_int4(np.uint8(3)), ag.ShapeError, "has none"),
        (lambda: ag.pack_int4(PACKED), ag.DTypeError, "takes an int8 array"),
        (lambda: ag.pack_int4(DATA[:, :5]), ag.ShapeError, "is odd"),
        (lambda: ag.quantize(DATA), ag.DTypeError, "takes a float array"),
        (lambda: ag.quantize(SCALE, "int3"), ag.DTypeError, '"int8" or "int4"'),
        (lambda: ag.quantize(SCALE, "int4"), ag.ShapeError, "is odd"),
        (lambda: ag.quantize(SCALE[0]), ag.ShapeError, "length, dim"),
        (lambda: ag.quantize(SCALE, per="head"), ag.ArgumentError, '"token" or "channel"'),
        (lambda: ag.quantize(SCALE, per="channel", group_size=3), ag.ShapeError, "groups of 3 do not divide the 4"),
        (lambda: ag.quantize(SCALE, group_size=0), ag.ArgumentError, "positive integer"),
        (lambda: ag.quantize(SCALE, group_size=1.5), ag.ArgumentError, "positive integer"),
        (lambda: ag.quantize(SCALE, symmetric=1), ag.ArgumentError, "True or False"),
        (lambda: ag.dequantize(DATA), ag.ArgumentError, "scale is missing"),
        (lambda: ag.dequantize(DATA.astype(np.int16), SCALE), ag.DTypeError, "stored as int8"),
        (lambda: ag.dequantize(DATA, SCALE, dtype="int4"), ag.DTypeError, "stored as uint8"),
        (lambda: ag.dequantize(PACKED, SCALE, dtype="int8"), ag.DTypeError, "stored as int8"),
        (lambda: ag.dequantize(DATA, SCALE.astype(int)), ag.DTypeError, "scale is float"),
        (lambda: ag.dequantize(DATA, SCALE[:, 0]), ag.ShapeError, "other axes"),
        (lambda: ag.dequantize(DATA, np.ones((4, 4), np.float32)), ag.ShapeError, "4 groups along axis 1"),
        (lambda: ag.dequantize(DATA, np.ones((3, 1), np.float32)), ag.ShapeError, "3 groups along axis 0"),
        (lambda: ag.dequantize(DATA, np.ones((8, 1), np.float32)), ag.ShapeError, "8 groups along axis 0"),
        (lambda: ag.dequantize(DATA, np.ones((4, 0), np.float32)), ag.ShapeError, "0 groups along axis 1"),
        (lambda: ag.dequantize(DATA, SCALE, 128), ag.ArgumentError, "from -128 to 127, not 128"),
        (lambda: ag.dequantize(PACKED, SCALE, -9), ag.ArgumentError, "from -8 to 7, not -9"),
        (lambda: ag.dequantize(DATA, SCALE, 0.5), ag.ArgumentError, "is an integer"),
        (lambda: ag.dequantize(DATA, SCALE, SCALE), ag.DTypeError, "zero_point is int8"),
        (lambda: ag.dequantize(DATA, SCALE, np.zeros((4, 4), np.int8)), ag.ShapeError, "zero_point"),
        (lambda: ag.dequantize(ag.Quantized(DATA, SCALE), SCALE), ag.ArgumentError, "of its own"),
        (lambda: ag.dequantize(object(), SCALE), ag.AttnGraphError, "dequantize"),
    ],
)
def test_what_is_no_quantized_array(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.fixture(scope="module")
def edge():
    """Memory behind whose end nothing may be touched."""
    size = 4 * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, size + mmap.PAGESIZE), np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(pages.ctypes.data + size), ctypes.c_size_t(mmap.PAGESIZE), 0):
        pytest.skip("the page cannot be protected")
    return pages[:size]


@pytest.mark.parametrize("target", SETS)
@pytest.mark.parametrize(("rows", "length", "width"), [(1, 16, 10), (2, 19, 34), (20, 37, 6)])
def test_nothing_is_read_beyond_an_array(monkeypatch, edge, target, rows, length, width):
    q, scale = numbers(rows, width), np.full((length, 1), 0.1, np.float32)
    for stored, dtype in ((width, np.int8), (width // 2, np.uint8)):
        last = edge[edge.size - length * stored :].view(dtype)
        last[:] = np.random.default_rng(0).integers(-8, 8, last.size).astype(dtype)
        beside = ag.Quantized(last.reshape(length, stored).copy(), scale, None, "int8" if dtype is np.int8 else "int4")
        at_edge = beside._replace(data=last.reshape(length, stored))
        for k, v in ((at_edge, beside), (beside, at_edge)):
            with on_target(monkeypatch, target):
                close(ag.attention(q, ag.dequantize(k), ag.dequantize(v)).compute(), exact(q, read(k), read(v)))
