"""Native loops against the interpreter: random expressions, ragged rows, strides, types, targets, threads, trouble."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.codegen.target import named_target
from attngraph.engine.config import config
from attngraph.engine.errors import CompileError
from attngraph.engine.execution import Execution
from attngraph.engine.interpreter import interpret
from attngraph.engine.ir import walk
from attngraph.engine.leaves import Data
from attngraph.engine.loop import Loop
from attngraph.engine.passes import loops as grouping
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from strategies import LAYOUTS, arrays, expressions, laid_out, programs

LENGTHS = (1, 2, 3, 16, 33, 70, 130)
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def everything_is_a_loop(monkeypatch):
    """Sizes of tests are below what is worth a loop."""
    monkeypatch.setattr(program, "LEAST_ELEMENTS", 0)
    monkeypatch.setattr(grouping, "_DEAR_ALONE", 0)


def array(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def planned(*results):
    return Program(optimize([each.node for each in results]))


def natively(*results, loops=None):
    """The results through loops, or None where the interpreter has to decide."""
    made = planned(*results)
    if loops is not None:
        computing = [step for step in made.plan.steps if not isinstance(step, Loop) and step.operands]
        assert (len(made.loops), computing) == (loops, []), made.plan.not_fused
    return made.run({}, config.settings(), check_finite=False)


def truth(*results):
    return interpret([each.node for each in results], {}, all64=True)


def check(*results, loops=1, tolerance=1e-6):
    found = natively(*results, loops=loops)
    assert found is not None
    compare(found, results, tolerance)


def compare(found, results, tolerance):
    for value, wanted, lazy in zip(found, truth(*results), results, strict=True):
        assert value.shape == wanted.shape
        assert value.dtype == lazy.dtype
        if value.dtype.kind == "f":
            error = tolerance if value.dtype == np.float32 else 1e-13
            scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
            np.testing.assert_allclose(value, wanted, rtol=error, atol=error * scale)
        else:
            np.testing.assert_array_equal(value, wanted)


@st.composite
def larger(draw, depth=4, kind="float"):
    """Random expressions over rows that fill vectors."""
    shape = draw(st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=2).map(tuple))
    shape = draw(st.sampled_from((shape, (2, *shape), (*shape, 2))))
    return draw(expressions(shape=shape, depth=depth, kind=kind))


def same(results, target="native"):
    """Loops and the interpreter agree, or the loops leave it to the interpreter."""
    with ag.config.set(target=target):
        found = natively(*results)
    if found is None:
        return
    wanted = interpret([each.node for each in results], {})
    for value, other in zip(found, wanted, strict=True):
        assert (value.shape, value.dtype) == (other.shape, other.dtype)
        if value.dtype.kind != "f":
            np.testing.assert_array_equal(value, other)
            continue
        error = 2e-5 if value.dtype == np.float32 else 1e-11
        scale = max(1.0, float(np.abs(other[np.isfinite(other)]).max(initial=0.0)))
        np.testing.assert_allclose(value, other, rtol=error, atol=error * scale)


@many
@given(expression=expressions(depth=4))
def test_random_expressions(expression):
    same([expression])


@many
@given(results=programs(depth=3))
def test_random_programs(results):
    same(results)


@many
@given(expression=larger())
def test_random_long_rows(expression):
    same([expression])


@many
@given(expression=larger(kind="integer"))
def test_random_integers(expression):
    same([expression])


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_random_expressions_on_every_target(target):
    try:
        named_target(target)
    except CompileError as reason:
        pytest.skip(str(reason))

    @many
    @given(expression=larger())
    def run(expression):
        same([expression], target)

    run()


NORMS = {
    "layer_norm": lambda x: ag.layer_norm(x, array(x.shape[-1], seed=1), array(x.shape[-1], seed=2)),
    "rms_norm": lambda x: ag.rms_norm(x, array(x.shape[-1], seed=1)),
    "l2_normalize": ag.l2_normalize,
    "softmax": lambda x: ag.softmax(x, axis=-1),
    "log_softmax": lambda x: ag.log_softmax(x, axis=-1),
    "logsumexp": lambda x: 2 * ag.logsumexp(x, axis=-1),
    "mean": lambda x: ag.mean(ag.square(x), axis=-1),
    "max": lambda x: x - ag.max(x, axis=-1, keepdims=True),
    "masked softmax": lambda x: ag.softmax(ag.where(ag.arange(x.shape[-1]) < 5, x * 0.5, -ag.inf) + 1, axis=-1),
    "row factors": lambda x: 2.0 / (1e3 - ag.square(x.astype("float64")).sum(-1)),
    "gelu": lambda x: ag.gelu(x + array(x.shape[-1], seed=3)),
    "gated": lambda x: x * ag.sigmoid(x) * x[::-1] + 1,
    "positions": lambda x: x * ag.arange(x.shape[-1]) + ag.arange(x.shape[0])[:, None],
}


@pytest.mark.parametrize("length", [2, 15, 16, 17, 63, 64, 65, 255, 1025, 5000])
@pytest.mark.parametrize("name", NORMS)
def test_ragged_rows(name, length):
    check(NORMS[name](ag.asarray(array(7, length))))


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("name", NORMS)
def test_targets(name, target):
    try:
        named_target(target)
    except CompileError as reason:
        pytest.skip(str(reason))
    with ag.config.set(target=target):
        check(NORMS[name](ag.asarray(array(5, 77))))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["layer_norm", "gated", "positions", "gelu"])
def test_layouts(name, layout):
    check(NORMS[name](ag.asarray(laid_out(array(9, 50), layout))))


def test_several_results_of_one_loop():
    x = ag.asarray(array(6, 100))
    y = ag.exp(x * 0.1)
    check(y, y / y.sum(-1, keepdims=True), y.sum(-1), x > 0, loops=1)


def test_many_axes_and_spread_operands():
    x, y = ag.asarray(array(3, 4, 5, 6, 20)), ag.asarray(array(4, 1, 6, 1, seed=1))
    check(ag.tanh(x * y) + y)
    check(ag.sum(ag.tanh(x * y), axis=-1) * 2)


def test_views_of_arrays_are_read_where_they_lie():
    x, y = ag.asarray(array(40, 30)), ag.asarray(array(30, 40))
    check(x.mT * y + 1)
    check(x[::2, 3:] * 2 + x[1::2, ::-1][:, :-3])
    check(x.reshape((4, 10, 30)) * y.mT.reshape((4, 10, 30))[::-1] + 1, loops=None)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_integers_divide_as_the_contract_says(dtype):
    limits = np.iinfo(dtype)
    values = np.array([limits.min, -7, -1, 0, 1, 2, 7, limits.max], dtype)
    x, y = ag.asarray(np.repeat(values, 8)), ag.asarray(np.tile(values, 8))
    for result in (x // y + y, x % y - x, ag.abs(x) * y, ag.maximum(x, y) - 1, ag.where(x < y, -x, y)):
        check(result)


@pytest.mark.parametrize(
    "target", ["int8", "uint8", "int32", "uint32", "int64", "bool", "float16", "bfloat16", "float64"]
)
def test_casts(target):
    values = np.concatenate([array(50) * 1e3, [0.0, -0.0, 0.4, -1e9, 1e9, 3e18]]).astype("float32")
    x = ag.asarray(values)
    cast = x.astype(target)
    same([cast, ag.where(x > 0, cast, cast)])
    same([cast.astype("float32") * 2])
    same([ag.asarray(array(50).astype("float16")) * 3 + x[:50]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1000, 100_003, 1_000_003])
def test_long_sums_are_as_exact_as_pairwise_ones(dtype, length):
    for values in (array(length, dtype=dtype), np.abs(array(length, dtype=dtype)), np.full(length, 0.1, dtype)):
        exact = np.sum(values.astype(np.longdouble))
        (found,) = natively(ag.sum(ag.asarray(values) * 1.0 + 0.0, axis=-1), loops=None)
        # Twice NumPy's error; or, where that happens to be small, some roundings of the largest partial sum.
        roundings = 4 * np.finfo(dtype).eps * np.abs(values).sum() / np.sqrt(length) + np.finfo(dtype).eps * abs(exact)
        assert abs(found - exact) <= max(2 * abs(np.sum(values) - exact), roundings)


def test_same_bits_for_any_number_of_threads():
    x, y = ag.asarray(array(700, 400)), ag.asarray(array(300_001))
    results = []
    for threads in (1, 2, 5):
        with ag.config.set(threads=threads):
            found = natively(NORMS["layer_norm"](x), ag.tanh(y) * y, loops=2)
            results.append([value.tobytes() for value in found])
    assert results[0] == results[1] == results[2]


def test_a_new_length_runs_the_same_code():
    codes = set()
    for length in (100, 101, 1000):
        made = planned(NORMS["layer_norm"](ag.asarray(array(20, length))))
        (kernel,) = made.loops.values()
        codes.add(kernel.for_plain_arrays(config.settings()).key)
    assert len(codes) == 1


def test_another_number_runs_the_same_code():
    x = ag.asarray(array(20, 30))
    kernels = [next(iter(planned(x * number + 0.7).loops.values())) for number in (0.3, 0.9)]
    assert len({kernel.for_plain_arrays(config.settings()).key for kernel in kernels}) == 1


# What a result hides, and the value that makes trouble on the way.
HIDDEN = {
    "comparison": (lambda x: (x * x > 1) & (x < 3), 1e30),
    "minimum": (lambda x: ag.minimum(x * x, 7.0) + 1, 1e30),
    "clip": (lambda x: ag.clip(x * x, 0.0, 1.0) * 2, 1e30),
    "tanh": (lambda x: ag.tanh(x * x) + 1, 1e30),
    "sigmoid": (lambda x: ag.sigmoid(x * x) + 1, 1e30),
    "exp": (lambda x: ag.exp(-(x * x)) + 1, 1e30),
    "erf": (lambda x: ag.erf(x * x) + 1, 1e30),
    "where": (lambda x: ag.where(x > 100, 0.0, ag.exp(x)) + 1, 1e3),
    "divisor": (lambda x: 1 / (x * x * 4 + 1), 1e30),
    "integer": (lambda x: (x * x).astype("int32") + 1, 1e30),
    "truth": (lambda x: (x * x).astype("bool") & (x > 0), 1e30),
    "maximum of a row": (lambda x: ag.max(-(x * x), axis=-1) * 2, 1e30),
    "softmax": (lambda x: ag.softmax(-(x * x), axis=-1) * 2, 1e30),
    "sum": (lambda x: ag.tanh(ag.sum(x * x, axis=-1)) * 2, 1e19),
    "logarithm": (lambda x: ag.tanh(ag.log(ag.abs(x))) + 1, 0.0),
    "nan": (lambda x: ag.minimum(x, 1.0) * 2, np.nan),
    "nan of a row": (lambda x: ag.max(x, axis=-1) * 2, np.nan),
    "infinity": (lambda x: x * 2 + 1, np.inf),
    "minus infinity": (lambda x: ag.exp(ag.log(ag.abs(x)) * 2) * 2, 0.0),
}


@pytest.mark.parametrize("place", [0, 15, 32, 69])
@pytest.mark.parametrize("name", HIDDEN)
def test_trouble_on_the_way_is_noticed(name, place):
    build, value = HIDDEN[name]
    values = array(3, 70)
    assert natively(build(ag.asarray(values)), loops=1) is not None
    values[1, place] = value
    x = ag.asarray(values)
    (result,) = (build(x),)
    found = natively(result)
    expected = interpret([result.node], {})[0]
    if found is not None:  # NumPy had a closer look and found nothing wrong
        np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    np.testing.assert_allclose(result.compute(), expected, rtol=1e-6)


def test_a_masks_infinity_is_no_trouble(monkeypatch):
    x = ag.asarray(array(20, 70))
    i, j = ag.arange(20)[:, None], ag.arange(70)
    masked = ag.where(i >= j, x * 0.5, -ag.inf)
    monkeypatch.setattr(Execution, "_one_by_one", None)  # the loop's own answer stands
    check(ag.softmax(masked + x, axis=-1), ag.exp(masked * 2) + 1)
    check(ag.maximum(masked, 0.0) * 2)


@pytest.mark.parametrize("name", ["minimum", "nan", "exp"])
def test_trouble_ends_in_the_interpreter(name):
    build, value = HIDDEN[name]
    x = array(3, 70)
    x[2, 3] = value
    made = planned(build(ag.asarray(x)))
    assert made.loops
    assert made.run({}, config.settings(), check_finite=False) is None


def test_numbers_that_a_type_cannot_hold_stay_out_of_loops():
    x = ag.asarray(array(50))
    result = x / 1e300 + 1
    np.testing.assert_array_equal(result.compute(), interpret([result.node], {})[0])
    assert not planned(x / 1e300).loops


def test_what_no_loop_computes_splits_it():
    x = ag.asarray(array(30, 40))
    result = ag.cumulative_sum(x * 2 + 1, axis=0) * 3 + x
    made = planned(result)
    assert len(made.loops) == 2
    compare(made.run({}, config.settings(), check_finite=False), [result], 1e-5)
    assert any("no kernel" in reason for _, reason in planned((x * 2) // x + 1).plan.not_fused)


def test_a_long_chain_is_several_loops():
    x = ag.asarray(array(100))
    y = x
    for _ in range(2000):
        y = ag.sin(y) + 1
    check(y, loops=None, tolerance=1e-5)


def test_arrays_changed_in_place_are_seen():
    values = array(40, 50)
    compiled = ag.compile(lambda: NORMS["rms_norm"](ag.asarray(values)))
    before = compiled()
    values *= -1
    np.testing.assert_allclose(compiled(), -before, rtol=1e-6)


@many
@given(data=st.data(), rows=st.integers(1, 5), length=st.sampled_from(LENGTHS))
def test_layouts_of_several_operands(data, rows, length):
    x, y, z = (ag.asarray(data.draw(arrays(shape, "float32"))) for shape in ((rows, length), (length,), (rows, 1)))
    same([ag.tanh(x * y) + z * x, ag.sum(x * z, axis=-1) + 1])


EXTREMES = (1e30, -1e30, np.inf, -np.inf, np.nan, 0.0, 3e38, -3e38, 1e-40)


@many
@given(data=st.data())
def test_no_trouble_is_overlooked(data):
    """Where NumPy, node by node, would leave it to the interpreter, so do loops; elsewhere the values agree."""
    expression = data.draw(larger(depth=5))
    places = data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(places)
    for node in walk([expression.node]):
        if isinstance(node, Data) and node.dtype.kind == "f" and node.source.flags.writeable and node.source.size > 1:
            flat = rng.integers(0, node.source.size, rng.integers(0, 3))
            node.source[np.unravel_index(flat, node.source.shape)] = rng.choice(EXTREMES, flat.size)
    made = planned(expression)
    found = made.run({}, config.settings(), check_finite=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "LEAST_ELEMENTS", 1 << 60)
        plain = planned(expression).run({}, config.settings(), check_finite=False)
    assert (found is None) == (plain is None)
    if found is not None and plain is not None:
        scale = max(1.0, float(np.abs(plain[0][np.isfinite(plain[0])]).max(initial=0.0)))
        np.testing.assert_allclose(found[0], plain[0], rtol=2e-5, atol=2e-5 * scale)


def test_new_lengths_of_a_compiled_function():
    compiled = ag.compile(lambda x, y: (NORMS["layer_norm"](x @ y), ag.softmax(x * 2 + x[:, ::-1], axis=-1)))
    for rows, length in ((40, 50), (41, 50), (60, 90), (61, 93), (62, 95)):
        x, y = array(rows, length, seed=rows), array(length, 64, seed=length)
        for found, wanted in zip(compiled(x, y), compiled(ag.asarray(x), ag.asarray(y)), strict=True):
            compare([found], [wanted], 1e-5)


def test_what_cannot_be_compiled_runs_on_numpy(monkeypatch):
    def refuse(*args, **kwargs):
        raise CompileError("compile: LLVM rejects a kernel:\n  something")

    monkeypatch.setattr("attngraph.engine.loop_codes.compile_text", refuse)
    x = ag.asarray(array(11, 23, seed=5))
    result = ag.exp(x * 1.7) - x
    made = planned(result)
    assert made.loops
    compare(made.run({}, config.settings(), check_finite=False), [result], 1e-6)
    assert not made.loops
    assert any(reason.startswith("compile: LLVM rejects") for _, reason in made.plan.not_fused)


@pytest.mark.parametrize("length", [2, 4, 8, 16])
@pytest.mark.parametrize("lead", [(37,), (5, 8), (5, 16), (7, 3), (3, 4, 8), (1000, 8)], ids=str)
def test_short_rows_that_are_only_reduced_are_right_and_the_same_alone(lead, length):
    for dtype in ("float32", "float64"):
        x, y = array(*lead, length, dtype=dtype), array(lead[-1], length, dtype=dtype, seed=1)

        def results(x, y):
            sums = ag.sum(x * y, axis=-1)
            return sums, ag.exp(ag.max(x + y, axis=-1)) * 2, ag.sum(x * x, axis=-1) / (1 + ag.abs(sums))

        given = ag.asarray(x), ag.asarray(y)
        check(*results(*given), tolerance=2e-6 if dtype == "float32" else 1e-14)
        whole = natively(*results(*given))
        places = (0,) * len(lead), tuple(each - 1 for each in lead), tuple(each // 2 for each in lead)
        for place in places:
            alone = natively(*results(given[0][place][None], given[1][place[-1]][None]))
            assert all(one.tobytes() == every[place].tobytes() for one, every in zip(alone, whole, strict=True))


@pytest.mark.parametrize("row", [0, 5, 63, 64])
def test_a_short_row_that_is_not_finite_is_noticed(row):
    x = array(65, 8)
    x[row, 3] = 3e38
    assert natively(ag.sum(ag.asarray(x) * 1e3, axis=-1)) is None
    x[row] = np.nan
    assert natively(ag.max(ag.asarray(x) * 2.0, axis=-1)) is None
