"""Functions of mathematics: accuracy against extended precision, special values, no library."""

import itertools
from functools import cache

import numpy as np
import pytest
from scipy.special import erf

from attngraph.engine.codegen import math
from attngraph.engine.codegen.llvm import Function, Module
from attngraph.engine.codegen.target import named_target
from attngraph.engine.codegen.values import vector_of

if np.finfo(np.longdouble).nmant < 63:
    pytest.skip("the truth needs numbers of 64 digits", allow_module_level=True)

ELEMENTS = {"float32": "float", "float64": "double"}
SIZE = 6000

# The truth; the ranges where a function happens; and the most units in the last place it is wrong by: what was
# measured on millions of arguments on the worst target, which is the one without FMA, plus a tenth or so.
# Double's erf is compared with SciPy's, which is wrong by 2 itself.
ONE = {
    "exp2": (np.exp2, (-1100, 1030), 1.2),
    "exp2_nonpositive": (np.exp2, (-1100, 0), 1.2),
    "exp": (np.exp, (-750, 715), 1.3),
    "exp_nonpositive": (np.exp, (-750, 0), 1.3),
    "expm1": (np.expm1, (-40, 20), 2.2),
    "log": (np.log, (0, 4), 1.1),
    "log2": (np.log2, (0, 4), 2.9),
    "log10": (np.log10, (0, 4), 1.9),
    "log1p": (np.log1p, (-1, 4), 1.1),
    "tanh": (np.tanh, (-12, 12), 2.7),
    "tanh_in_log2": (lambda x: np.tanh(x * (np.log(np.longdouble(2)) / 2)), (-35, 35), 3.2),
    "tanh_quick": (np.tanh, (-12, 12), 6.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), (-40, 40), 2.3),
    "erf": (lambda x: erf(x.astype("float64")).astype(np.longdouble), (-6, 6), 3.2),
    "sin": (np.sin, (-100, 100), 2.5),
    "cos": (np.cos, (-100, 100), 2.5),
    "tan": (np.tan, (-100, 100), 3.9),
    "asin": (np.arcsin, (-1, 1), 2.5),
    "acos": (np.arccos, (-1, 1), 1.3),
    "atan": (np.arctan, (-10, 10), 2.4),
    "sinh": (np.sinh, (-20, 20), 2.6),
    "cosh": (np.cosh, (-20, 20), 1.8),
    "asinh": (np.arcsinh, (-20, 20), 2.0),
    "acosh": (np.arccosh, (1, 20), 2.7),
    "atanh": (np.arctanh, (-1, 1), 2.2),
    "sqrt": (np.sqrt, (0, 10), 0.51),
    "rsqrt": (lambda x: 1 / np.sqrt(x), (0, 10), 1.6),
    "floor": (np.floor, (-10, 10), 0),
    "ceil": (np.ceil, (-10, 10), 0),
    "trunc": (np.trunc, (-10, 10), 0),
    "rint": (np.rint, (-10, 10), 0),
}
TWO = {
    "pow": (np.power, (-8, 8), 1.2),
    "atan2": (np.arctan2, (-8, 8), 2.8),
    "logaddexp": (np.logaddexp, (-30, 30), 2.0),
}
ALL = {**ONE, **TWO}

SPECIAL = [0.0, 1.0, 0.5, 2.0, 3.0, 1e-10, 1e-40, 9.0, 88.9, 104.0, 200.0, 710.0, 1.5, 1.0 + 2**-23, 3e38, np.inf]
CONFIGURATIONS = [
    (name, dtype, lanes)
    for name, width in (("x86-64-v2", 16), ("x86-64-v3", 32), ("x86-64-v4", 64))
    for dtype, size in (("float32", 4), ("float64", 8))
    for lanes in (1, width // size)
]


@cache
def arguments(name, dtype):
    """Arguments everywhere: in the function's range, near 0 and 1, and of every magnitude."""
    rng = np.random.default_rng(len(name))
    low, high = ALL[name][1]
    if dtype == "float32" and high - low > 1000:
        low, high = low / 7, high / 7
    bits = np.dtype(dtype.replace("float", "uint"))
    near = rng.standard_normal(SIZE) * 2.0 ** rng.uniform(-30, 3, SIZE)
    with np.errstate(all="ignore"):
        every = [
            rng.uniform(low, high, 2 * SIZE).astype(dtype),
            near.astype(dtype),
            (1 + near / 64).astype(dtype),
            rng.integers(0, np.iinfo(bits).max, SIZE, bits, endpoint=True).view(dtype),
        ]
    x = np.concatenate(every)
    return (x,) if name in ONE else (x, rng.permutation(x))


@cache
def special_arguments(name, dtype):
    tiny, most = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    values = [sign * each for each in [*SPECIAL, float(tiny), float(most)] for sign in (1, -1)]
    with np.errstate(over="ignore"):
        x = np.array([*values, np.nan]).astype(dtype)
    return (x,) if name in ONE else tuple(np.array(each) for each in zip(*itertools.product(x, repeat=2), strict=True))


@cache
def truth(name, dtype, *, special=False):
    xs = (special_arguments if special else arguments)(name, dtype)
    if name.endswith("nonpositive"):
        xs = tuple(-abs(x) for x in xs)
    with np.errstate(all="ignore"):
        return xs, ALL[name][0](*[x.astype(np.longdouble) for x in xs])


def write(module, name, dtype, lanes):
    """A function that applies the one of this name to arrays."""
    count, size = (1 if name in ONE else 2), np.dtype(dtype).itemsize
    f = Function(module, name, {"n": "i64", "x0": "ptr", "x1": "ptr", "y": "ptr"})

    def some(index, _):
        at = f.mul(index, size)
        values = [f.load(f.offset(f[f"x{each}"], at), vector_of(ELEMENTS[dtype], lanes)) for each in range(count)]
        f.store(getattr(math, name)(f, *values), f.offset(f["y"], at))

    f.loop(0, f["n"], lanes, [], some)
    f.ret()


@pytest.fixture(scope="module", params=CONFIGURATIONS, ids=lambda each: "-".join(map(str, each)))
def functions(request, native):
    """All functions for one target, type and width, compiled at once."""
    name, dtype, lanes = request.param
    try:
        module = Module(named_target(name))
    except Exception as error:
        pytest.skip(str(error))
    for each in ALL:
        write(module, each, dtype, lanes)
    compiled = native(module)

    def run(name, *xs):
        xs = [np.concatenate([x, np.ones(-x.size % lanes, dtype)]) for x in xs]
        found = np.zeros(xs[0].size, dtype)
        compiled(name, found.size, xs[0], xs[-1], found)
        return found

    run.dtype, run.target, run.compiled, run.lanes = dtype, module.target, compiled, lanes
    return run


def flushes(functions, name):
    """Whether results that would be denormal may be 0."""
    return not functions.target.has_avx512 and name in ("exp_nonpositive", "exp2_nonpositive", "sigmoid", "logaddexp")


def test_nothing_is_called(functions):
    assert functions.compiled.calls == set()


@pytest.mark.parametrize("name", ALL)
def test_accuracy(functions, name):
    dtype = functions.dtype
    xs, expected = truth(name, dtype)
    found = functions(name, *xs)[: expected.size]
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
        scale = np.abs(rounded)
        if name == "logaddexp":  # a sum that may cancel
            scale = np.maximum(np.maximum(*np.abs(xs)), 1)
        units = np.abs(found - expected) / np.spacing(np.where(np.isfinite(scale), scale, 1))
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    if flushes(functions, name):
        same |= (found == 0) & (np.abs(expected) < np.finfo(dtype).tiny)
    units = np.where(same, np.minimum(np.where(np.isfinite(units), units, 0), 0.5), units)
    worst = int(np.argmax(np.where(np.isnan(units), np.inf, units)))
    assert units[worst] <= max(ALL[name][2], 0.5), ([x[worst] for x in xs], found[worst], rounded[worst])


@pytest.mark.parametrize("name", ALL)
def test_special_values(functions, name):
    dtype = functions.dtype
    xs, expected = truth(name, dtype, special=True)
    found = functions(name, *xs)[: expected.size]
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
        if name == "erf":
            rounded = erf(xs[0])
        size = np.maximum(np.abs(rounded), 1) if name == "logaddexp" else np.abs(rounded)  # a sum that may cancel
        close = np.abs(found - rounded) <= 6 * np.spacing(size)
    special = ~np.isfinite(rounded) | (rounded == 0)
    same = (found == rounded) & ((np.signbit(found) == np.signbit(rounded)) | (name == "tanh_in_log2"))
    right = np.where(special, same, close) | (np.isnan(found) & np.isnan(rounded))
    if flushes(functions, name):
        right |= (found == 0) & (np.abs(rounded) < np.finfo(dtype).tiny)
    wrong = [(*(x[place] for x in xs), found[place], rounded[place]) for place in np.flatnonzero(~right)]
    assert not wrong


def test_a_hidden_score_weighs_nothing(functions):
    """Exactly 0, not a denormal number; and NaN passes whatever its bits are."""
    x = np.full(16, -np.inf, functions.dtype)
    assert not functions("exp2_nonpositive", x).any()
    assert not functions("exp_nonpositive", x).any()
    bits = x.view(x.dtype.str.replace("f", "u"))
    bits += 1 + np.arange(16, dtype=bits.dtype) * 12345
    for name in ("exp2_nonpositive", "exp2", "exp", "tanh", "sigmoid", "log", "log1p", "sin", "erf"):
        assert np.isnan(functions(name, x)).all(), name


def test_powers_of_two_are_exact(functions):
    powers = np.arange(-149, 128).astype(functions.dtype)
    with np.errstate(under="ignore"):
        exact = np.exp2(powers.astype("float64")).astype(functions.dtype)
    np.testing.assert_array_equal(functions("exp2", powers)[: powers.size], exact)
    np.testing.assert_array_equal(functions("log2", exact)[: powers.size], powers)
    normal = powers[abs(powers) < 127]
    np.testing.assert_array_equal(functions("exp2_nonpositive", -abs(normal))[: normal.size], np.exp2(-abs(normal)))


def test_large_arguments_of_sines(functions):
    """Which a few digits of pi do not reach: the nearest double to a multiple of pi/2 among them."""
    x = np.array([2.0**20, 2.0**20 - 0.5, 1e10, 1e22, 1e38, 6381956970095103 * 2.0**797, -1e300, 5e37])
    with np.errstate(over="ignore"):
        x = x.astype(functions.dtype)
    for name in ("sin", "cos", "tan"):
        with np.errstate(invalid="ignore"):
            expected = ALL[name][0](x.astype(np.longdouble)).astype(functions.dtype)
        np.testing.assert_allclose(functions(name, x)[: x.size], expected, rtol=4 * np.finfo(functions.dtype).eps)


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_width_gives_the_same_bits(native, level, dtype):
    """So that no result depends on where a vector ends."""
    target = named_target(level)
    widths = [lanes for lanes in (1, 2, 4, 8, 16, 32) if lanes * np.dtype(dtype).itemsize <= 2 * target.vector_bytes]
    names = ("exp2", "exp2_nonpositive", "exp", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "pow")
    results = []
    for lanes in widths:
        module = Module(target)
        for name in names:
            write(module, name, dtype, lanes)
        compiled = native(module)
        for name in names:
            xs = [x[:2048] for x in truth(name, dtype)[0]]
            found = np.zeros(2048, dtype)
            compiled(name, 2048, xs[0], xs[-1], found)
            results.append(np.where(np.isnan(found), np.nan, found).tobytes())
    for place, name in enumerate(names):
        assert len(set(results[place :: len(names)])) == 1, name


def test_flags_around_do_not_reach_the_inside(target):
    """`reassoc` would turn ``(x + magic) - magic`` into x."""

    def text(flags):
        f = Function(Module(target), "f", {"x": "<4 x float>"})
        with f.flags(flags):
            for name in ("exp2", "exp", "exp2_nonpositive", "log", "sin", "tanh", "erf"):
                getattr(math, name)(f, f["x"])
        return f.text()

    assert text("reassoc contract nsz arcp afn") == text("")
    assert "reassoc" not in text("reassoc")


def test_sine_and_cosine_together(native, target):
    x = np.linspace(-50, 50, 64).astype("float32")
    found, module = np.zeros((2, 64), "float32"), Module(target)
    f = Function(module, "f", {"x": "ptr", "y": "ptr"})

    def some(index, _):
        both = math.sin_cos(f, f.load(f.offset(f["x"], f.shl(index, 2)), "<8 x float>"))
        for place, value in enumerate(both):
            f.store(value, f.offset(f["y"], f.add(f.shl(index, 2), 256 * place)))

    f.loop(0, 64, 8, [], some)
    f.ret()
    native(module)("f", x, found)
    np.testing.assert_allclose(found, [np.sin(x), np.cos(x)], rtol=1e-6)


def test_functions_can_be_called_instead_of_written_out(native, target):
    x, y = np.linspace(0.1, 5, 8).astype("float32"), np.linspace(-3, 3, 8).astype("float32")
    found, module = np.zeros((3, 8), "float32"), Module(target)
    f = Function(module, "f", {"x": "ptr", "y": "ptr", "z": "ptr"})
    a, b = f.load(f["x"], "<8 x float>"), f.load(f["y"], "<8 x float>")
    results = [math.call(f, "tanh", a), math.call(f, "tanh", b), math.call(f, "pow", a, b)]
    for place, value in enumerate(results):
        f.store(value, f.offset(f["z"], 32 * place))
    f.ret()
    assert module.text().count("define internal") == 2
    native(module)("f", x, y, found)
    np.testing.assert_allclose(found, [np.tanh(x), np.tanh(y), x**y], rtol=1e-6)
