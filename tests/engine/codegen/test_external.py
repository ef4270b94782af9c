import math
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from attngraph.engine.codegen.external import apply_foreign, nearest_float, number_of
from attngraph.engine.codegen.llvm import Function, Module
from attngraph.engine.codegen.values import vector_of
from attngraph.engine.errors import CompileError
from attngraph.engine.kernel import Elements
from attngraph.engine.scalar_code import ScalarCode
from attngraph.engine.types import BOOL, FLOAT32, FLOAT64, INT64
from scalar_programs import programs

TYPES = {"float64": ("double", FLOAT64), "int64": ("i64", INT64), "float32": ("float", FLOAT32)}
LANES = 16
EXTREMES = [0, 1, -1, 2, 3, -7, 2**62, -(2**63), 2**63 - 1, 100, 5, -3, 8, 64, -64, 12]
SPECIAL = [0.0, -0.0, 1.0, -1.5, 0.1, np.inf, -np.inf, np.nan, 1e300, 3.0, 1e-3, -0.1, 2.5, 1e30, 5e-324, -2.0]


def vectors(code, kinds, target, native, lanes=LANES, width="float64"):
    """A function of arrays that runs the code's vectors, and its module."""
    elements = Elements(lambda node: False)
    due = {"float64": TYPES[width][1], "int64": INT64, "boolean": BOOL}[code.result]
    types = [TYPES[width if kind == "float64" else kind] for kind in kinds]
    loads = [elements.constant(number, dtype) for number, (_, dtype) in enumerate(types)]
    scalar = elements.make("call", tuple(loads), due, code)
    module = Module(target)
    f = Function(module, "run", {f"a{n}": "ptr" for n in range(len(kinds))} | {"out": "ptr", "count": "i64"})

    def body(index, _):
        args = []
        for number, (element, _) in enumerate(types):
            place = f.offset(f[f"a{number}"], f.mul(index, 4 if element == "float" else 8))
            args.append(f.load(place, vector_of(element, lanes)))
        result = apply_foreign(f, code.foreign, scalar, args, f.constant(1, vector_of("i1", lanes)))
        result = f.convert(result, "i8") if result.element == "i1" else result
        size = {"i8": 1, "float": 4}.get(result.element, 8)
        f.store(result, f.offset(f["out"], f.mul(index, size)))

    f.loop(0, f["count"], lanes, [], body)
    f.ret()
    compiled = native(module)

    def run(*arrays):
        out = np.empty(arrays[0].size, np.bool_ if code.result == "boolean" else due)
        compiled("run", *arrays, out, arrays[0].size)
        return out

    return run, compiled


def random_arguments(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.choice(SPECIAL, 64), rng.standard_normal(64)
    n, m = rng.choice(EXTREMES, 64), rng.integers(-9, 10, 64)
    x[::2] = rng.standard_normal(32)
    return x, y, n.astype(np.int64), m


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(source=programs(), seed=st.integers(0, 9))
def test_random_programs_give_what_numba_gives(source, seed, targets, native):
    names = {"np": np, "math": math}
    exec(source, names)
    kinds = ("float64", "float64", "int64", "int64")
    try:
        code = ScalarCode(names["program"], kinds, "program")
    except CompileError as error:  # numba proves that a variable is never set, or that a program raises
        assume("numba cannot compile" in str(error) or "may raise" in str(error))
        raise
    assume(code.foreign is not None)
    arrays = random_arguments(seed)
    with np.errstate(all="ignore"):
        expected = code.evaluate(*arrays).astype(np.float64)  # once for all targets: it is what numba takes longest for
        for target in targets:
            found = vectors(code, kinds, target, native)[0](*arrays)
            assert_array_equal(found, expected, f"{target.name}:\n{source}")


def one_branch(x, n):
    if x > 0:
        return x * n
    return x / n


def chain(x, n):
    if n == 0:
        return x
    if n == 1:
        return x * 2
    if n == 2:
        return x - 5
    if n == 5:
        return -x
    return 0.5


def division(x, n):
    total = 0.0
    if n != 0:
        total += 100 // n + 100 % n
    return total + (-(2**62) * 2) // n + x


def long_loop(x, n):
    total = 0.0
    for i in range(1000):
        if i % 3 == 0:
            continue
        total = total * 0.5 + (x if i % 2 else -x)
    return total


def triangle(x, n):
    total = 0.0
    for i in range(30):
        for j in range(i):
            total += x * j
            if total > 100:
                total -= x * i
    return total


def early(x, n):
    for i in range(4):
        if x > i:
            return x * i
    return -x


def logic(x, n):
    return (x > 0.1 and n > 3) or not (n % 2 == 0 or x != x)


def whole(x, n):
    return max(n, 3) - min(abs(n), 5) * 2 + (n & 6) + (n << 2) + (n >> 1)


def varying(x, n):
    rounds = 0
    while abs(x) > 1e-3 and x == x and rounds < 300:
        x = x * 0.5 if x > 0 else -x / 3
        if rounds > n:
            for i in range(n, 9):
                if i * x > 1:
                    return x
                x += 0.001
        rounds += 1
    return x + rounds


FUNCTIONS = [varying, one_branch, chain, division, long_loop, triangle, early, logic, whole]


@pytest.mark.parametrize("lanes", [1, 8, 64])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functions_at_every_width(function, lanes, target, native):
    code = ScalarCode(function, ("float64", "int64"), function.__name__)
    assert code.foreign is not None, code.reason
    run, compiled = vectors(code, ("float64", "int64"), target, native, lanes)
    assert not compiled.calls
    x, _, n, m = random_arguments(0)
    with np.errstate(all="ignore"):
        for numbers in (n, m):
            assert_array_equal(run(x, numbers), code.evaluate(x, numbers))


def test_a_branch_is_a_choice_without_jumps(native, target):
    code = ScalarCode(one_branch, ("float64", "float64"), "one_branch")
    module = Module(target)
    f = Function(module, "one", {"x": "<8 x double>", "y": "<8 x double>"}, "<8 x double>")
    zero = Elements(lambda node: False).constant(0.0, FLOAT64)
    scalar = Elements(lambda node: False).make("call", (zero, zero), FLOAT64, code)
    f.ret(apply_foreign(f, code.foreign, scalar, [f["x"], f["y"]]))
    assert " br " not in f.text()
    assert "select" in f.text()


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sin", "atan2", "erf", "pow", "log1p", "expm1", "floor"])
def test_mathematics_is_written_not_called(name, target, native):
    two = name in ("atan2", "pow")
    names = {"math": math}
    exec(f"def function(x):\n    return math.{name}(x{', 1.5' if two else ''}) if x > 0.5 else x", names)
    code = ScalarCode(names["function"], ("float64",), name)
    run, compiled = vectors(code, ("float64",), target, native)
    assert not compiled.calls
    x = np.linspace(-2, 3, 64)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(run(x), code.evaluate(x), rtol=1e-14)


@given(threshold=st.floats(-1e38, 1e38, width=64), relation=st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_comparisons_of_float32_decide_as_float64_does(threshold, relation, native, targets):
    names = {}
    exec(f"def function(x):\n    return 1.0 if x {relation} {threshold!r} else 2.0", names)
    code = ScalarCode(names["function"], ("float64",), "function")
    near = np.float32(threshold)
    x = np.array([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, -np.float32(np.inf)), np.nan] * 4)
    x = x.astype(np.float32)
    with np.errstate(all="ignore"):
        expected = code.evaluate(x.astype(np.float64))
        for target in targets:
            run, _ = vectors(code, ("float64",), target, native, width="float32")
            assert_array_equal(run(x), expected, target.name)


def test_numbers():
    assert number_of("true") == 1
    assert number_of("-12") == -12
    assert number_of("5.000000e-01") == 0.5
    assert number_of("0x7FF0000000000000") == math.inf
    assert nearest_float(1e300) == math.inf
    assert nearest_float(0.1) == struct.unpack("f", struct.pack("f", 0.1))[0]
