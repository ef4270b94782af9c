"""The emitter: what it writes is compiled, called, and compared with Python and NumPy."""

import ctypes
import itertools
import mmap
import operator
import re

import ml_dtypes
import numpy as np
import pytest

from attngraph.engine.codegen.builder import DEFAULT_FLAGS
from attngraph.engine.codegen.llvm import Function, Module, Value
from attngraph.engine.codegen.target import host_target
from attngraph.engine.codegen.transpose import transpose
from attngraph.engine.codegen.values import constant, vector_of, wrapped

POINTERS = {"x": "ptr", "y": "ptr", "z": "ptr"}
ELEMENTS = {"float32": "float", "float64": "double", "int32": "i32", "int64": "i64"}
EXTREMES = {
    "int32": [-(2**31), -(2**31) + 1, -65536, -7, -2, -1, 0, 1, 2, 3, 7, 8, 12345, 2**30, 2**31 - 2, 2**31 - 1],
    "int64": [-(2**63), -(2**63) + 1, -(2**33), -7, -2, -1, 0, 1, 2, 3, 7, 8, 12345, 2**53 + 1, 2**62, 2**63 - 1],
}


def write(target, write_body, arguments=POINTERS, returns=(), module=None):
    """A module with the function ``f``."""
    module = module or Module(target)
    f = Function(module, "f", arguments, returns)
    result = write_body(f)
    f.ret(*([result] if isinstance(result, Value) else result or []))
    return module


def lane_wise(native, target, operation, operands, result, lanes):
    """The operation of arrays, so many lanes at a time."""
    operands = [np.resize(each, -(-each.size // lanes) * lanes) for each in operands]
    found = np.zeros(operands[0].size, result)

    def body(f):
        def some(index, _):
            values = [
                f.load(f.offset(pointer, f.mul(index, each.itemsize)), vector_of(ELEMENTS[each.dtype.name], lanes))
                for pointer, each in zip((f["x"], f["y"]), operands, strict=False)
            ]
            value = operation(f, *values)
            if value.element == "i1":
                value = f.convert(value, "i8")
            f.store(value, f.offset(f["z"], f.mul(index, found.itemsize)))

        f.loop(0, found.size, lanes, [], some)

    module = write(target, body)
    compiled = native(module)
    compiled("f", operands[0], operands[-1], found)
    assert compiled.calls == set()
    return found, operands


# --- control flow ---------------------------------------------------------------------------------------


def number(native, write_body, **arguments):
    """What a function of integers returns."""
    module = write(host_target(), write_body, dict.fromkeys(arguments, "i64"), "i64")
    return native(module)("f", *arguments.values(), returns=ctypes.c_int64)


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(0, 10, 1), (3, 20, 4), (5, 5, 1), (9, 2, 3), (-7, 8, 5), (0, 1, 9)]
)
@pytest.mark.parametrize("known", [True, False])
def test_loops_run_as_ranges_do(native, start, stop, step, known):
    def body(f):
        bounds = (start, stop, step) if known else (f["start"], f["stop"], f["step"])
        total, count = f.loop(
            *bounds,
            [f.constant(0, "i64"), f.constant(100, "i64")],
            lambda index, carried: [f.add(f.mul(carried[0], 31), index), f.add(carried[1], 1)],
        )
        return f.add(f.mul(count, 10**12), total)

    total, count = 0, 100
    for index in range(start, stop, step):
        total, count = total * 31 + index, count + 1
    assert number(native, body, start=start, stop=stop, step=step) == wrapped(count * 10**12 + total, 64)


def test_loops_nest_and_carry_through_branches(native):
    def body(f):
        def outer(i, carried):
            def inner(j, carried):
                (total,) = f.if_else(
                    f.compare("<", j, i), lambda: [f.add(carried[0], f.mul(i, j))], lambda: [f.sub(carried[0], 1)]
                )
                return [total]

            return f.loop(0, f["n"], 1, carried, inner)

        return f.loop(0, f["n"], 1, [f.constant(5, "i64")], outer)

    expected = 5
    for i, j in itertools.product(range(13), repeat=2):
        expected += i * j if j < i else -1
    assert number(native, body, n=13) == expected


def test_tasks_are_taken_from_a_counter_until_none_is_left(native):
    counter, taken = np.array([2], "int64"), np.zeros(10, "int64")

    def body(f):
        def test(carried):
            task = f.atomic_add(f["x"], 1)
            return f.compare("<", task, 7), [task, *carried]

        def run(values):
            task, count = values
            f.store(f.add(count, 1), f.offset(f["y"], f.shl(task, 3)))
            return [f.add(count, 1)]

        _, count = f.repeat([f.constant(0, "i64")], test, run)
        f.store(count, f["z"])

    count = np.zeros(1, "int64")
    native(write(host_target(), body))("f", counter, taken, count)
    assert (counter[0], count[0]) == (8, 5)
    assert list(taken) == [0, 0, 1, 2, 3, 4, 5, 0, 0, 0]


def test_when(native):
    def body(f):
        for place in range(4):
            f.when(
                f.compare("==", f.and_(f["n"], 1 << place), 0),
                lambda place=place: f.store(f.constant(9, "i64"), f.offset(f["x"], 8 * place)),
            )

    module = write(host_target(), body, {"x": "ptr", "n": "i64"})
    compiled = native(module)
    for n in range(16):
        flags = np.zeros(4, "int64")
        compiled("f", flags, n)
        assert list(flags) == [0 if n >> place & 1 else 9 for place in range(4)]


def test_known_conditions_and_empty_loops_leave_no_trace():
    def body(f):
        f.when(f.constant(0, "i1"), lambda: pytest.fail("never"))
        (value,) = f.if_else(f.constant(1, "i1"), lambda: [f["x"]], lambda: pytest.fail("never"))
        (kept,) = f.loop(4, 4, 1, [value], lambda *_: pytest.fail("never"))
        (once,) = f.loop(4, 5, 1, [kept], lambda index, _: [f.offset(kept, f.sub(index, 4))])
        assert once is f["x"]

    assert "br " not in write(host_target(), body).text()


def test_mistakes_are_found_while_writing():
    f = Function(Module(host_target()), "f", {"x": "ptr", "n": "i64"}, "i64")
    one, wide = f.constant(1.0, "float"), f.constant(1.0, "<4 x float>")
    with pytest.raises(TypeError, match="two types"):
        f.add(one, wide)
    with pytest.raises(TypeError, match="has a type"):
        f.add(1, 2)
    with pytest.raises(TypeError, match=r"a loop carries .*, its body returns"):
        f.loop(0, f["n"], 1, [f["n"]], lambda *_: None)
    with pytest.raises(TypeError, match="one branch returns"):
        f.if_else(f.compare("<", f["n"], 0), lambda: [one], list)
    with pytest.raises(TypeError, match="returns"):
        f.ret(one)
    with pytest.raises(TypeError, match="takes"):
        f.call(f, one)
    with pytest.raises(TypeError, match="no rounding"):
        f.round(one, "up")
    with pytest.raises(TypeError, match="no square"):
        transpose(f, [wide])


def test_functions_call_each_other(native):
    module = Module(host_target())

    def define(name):
        inner = Function(module, name, {"a": "i64", "b": "i64"}, ("i64", "i64"), internal=True)
        inner.ret(inner.add(inner["a"], inner["b"]), inner.sub(inner["a"], inner["b"]))
        return inner

    def nothing(name):
        inner = Function(module, name, {}, internal=True)
        inner.ret()
        return inner

    def body(f):
        f.call(module.shared("nothing", nothing))
        total, difference = f.call(module.shared("both", define), f["a"], f["b"])
        again, _ = f.call(module.shared("both", define), total, difference)
        return again

    write(None, body, {"a": "i64", "b": "i64"}, "i64", module)
    assert module.text().count("define internal") == 2
    assert native(module)("f", 11, 5, returns=ctypes.c_int64) == 22


def test_tables_are_aligned_and_equal_ones_are_one(native):
    module = Module(host_target())
    first = module.table([1.5, -2.0, float("inf")], "float")
    assert module.table([1.5, -2.0, float("inf")], "float") == first
    assert module.table([1, 2, 3], "i64") != first

    def body(f):
        f.store(f.load(f.offset(first, 4), "<2 x float>"), f["x"])
        return f.and_(f.cast("ptrtoint", first, "i64"), 63)

    write(None, body, {"x": "ptr"}, "i64", module)
    found = np.zeros(2, "float32")
    assert native(module)("f", found, returns=ctypes.c_int64) == 0
    assert list(found) == [-2.0, np.inf]


# --- constants and flags ----------------------------------------------------------------------------------


def test_trivial_arithmetic_is_not_written():
    f = Function(Module(host_target()), "f", {"p": "ptr", "n": "i64", "x": "float", "m": "i1"})
    n, x, p = f["n"], f["x"], f["p"]
    assert f.offset(p, 0) is p
    assert f.add(n, 0) is f.add(0, n) is f.sub(n, 0) is f.mul(n, 1) is f.mul(1, n) is f.shl(n, 0) is n
    assert f.mul(x, 1.0) is f.div(x, 1.0) is x
    assert f.and_(n, -1) is f.or_(n, 0) is f.xor(n, 0) is n
    assert f.and_(f["m"], f.constant(1, "i1")) is f.or_(f.constant(0, "i1"), f["m"]) is f["m"]
    assert f.and_(f["m"], 0).constant == 0
    assert f.mul(n, 0).constant == f.and_(n, 0).constant == 0
    assert f.select(f.constant(1, "i1"), n, 5) is n
    assert f.select(f["m"], n, n) is n
    assert f.floor_divide(n, 1) is f.unsigned_divide(n, 1) is n
    assert f.convert(n, "i64") is n
    top = f.constant(2**31 - 1, "i32")
    assert f.add(top, 1).constant == -(2**31)
    assert f.mul(top, 2).constant == -2
    assert f.shl(f.constant(3, "i64"), 62).constant == -(2**62)
    assert f.convert(top, "i64").constant == 2**31 - 1
    assert f.add(x, 0.0) is not x  # -0 + 0 is 0
    assert f.text().count("\n") == 4


def test_constants_are_written_as_llvm_reads_them():
    assert constant(0.1, "float").text == "0x3FB99999A0000000"
    assert constant(0.1, "<2 x double>").text == "splat (double 0x3FB999999999999A)"
    assert constant(1e39, "float").constant == float("inf")
    assert constant(-0.0, "float") != constant(0.0, "float")
    assert constant(1, "float") == constant(1.0, "float") == constant(True, "float")
    assert constant(2**64 - 1, "i64").text == "-1"
    assert constant(5, "i1").text == "true"
    with pytest.raises(TypeError, match="no i32"):
        constant(1.5, "i32")
    with pytest.raises(TypeError, match="half"):
        constant(1.5, "half")


def test_flags_are_set_for_a_block():
    f = Function(Module(host_target()), "f", {"x": "float"})
    x = f["x"]
    f.add(x, x)
    with f.flags("reassoc nsz"):
        f.mul(x, x)
        with f.flags(""):
            f.sub(x, x)
        f.fma(x, x, x)
    f.div(x, x)
    f.add(f.convert(x, "i32"), 1)
    kept = re.findall(r"= (.*)", f.text())
    assert kept[0] == f"fadd {DEFAULT_FLAGS} float %x, %x"
    assert kept[1] == "fmul reassoc nsz float %x, %x"
    assert kept[2] == "fsub float %x, %x"
    assert "reassoc nsz float" in kept[3] or not f.target.has_fma
    assert kept[-3] == f"fdiv {DEFAULT_FLAGS} float %x, %x"
    assert "nnan" not in f.text()
    assert "ninf" not in f.text()


def test_reciprocals_are_no_estimates(native, target):
    """With `arcp`, LLVM would estimate 1/sqrt(x), which makes NaN of 0."""
    x = np.array([0.0, np.inf, 4.0, 3.0], "float32")
    found, _ = lane_wise(native, target, lambda f, x: f.div(1.0, f.sqrt(x)), [x], "float32", 4)
    assert list(found[:3]) == [np.inf, 0.0, 0.5]
    assert abs(found[3] / 3**-0.5 - 1) < 1e-7


# --- arithmetic ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
@pytest.mark.parametrize("name", ["floor_divide", "modulo"])
def test_division_of_integers_is_pythons(native, target, dtype, lanes, name):
    bits = int(dtype[3:])
    left, right = (np.array(each, dtype) for each in zip(*itertools.product(EXTREMES[dtype], repeat=2), strict=True))
    found, (left, right) = lane_wise(
        native, target, lambda f, a, b: getattr(f, name)(a, b), [left, right], dtype, lanes
    )
    python = {"floor_divide": operator.floordiv, "modulo": operator.mod}[name]
    for a, b, c in zip(left.tolist(), right.tolist(), found.tolist(), strict=True):
        assert c == (wrapped(python(a, b), bits) if b else 0), (a, b)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("lanes", [1, 4])
def test_division_by_a_known_integer(native, target, dtype, lanes):
    bits, left = int(dtype[3:]), np.array(EXTREMES[dtype], dtype)
    module = Module(target)
    divisors = [each for each in EXTREMES[dtype] if abs(each) < 20000 or each == left[0] or each == left[-1]]
    for place, divisor in enumerate(divisors):
        f = Function(module, f"f{place}", {"x": "ptr", "q": "ptr", "r": "ptr"})

        def some(index, _, f=f, divisor=divisor):
            at = f.mul(index, left.itemsize)
            value = f.load(f.offset(f["x"], at), vector_of(ELEMENTS[dtype], lanes))
            f.store(f.floor_divide(value, divisor), f.offset(f["q"], at))
            f.store(f.modulo(value, divisor), f.offset(f["r"], at))

        f.loop(0, left.size, lanes, [], some)
        f.ret()
    compiled = native(module)
    for place, divisor in enumerate(divisors):
        quotient, remainder = np.zeros_like(left), np.zeros_like(left)
        compiled(f"f{place}", left, quotient, remainder)
        for a, q, r in zip(left.tolist(), quotient.tolist(), remainder.tolist(), strict=True):
            assert (q, r) == ((wrapped(a // divisor, bits), a % divisor) if divisor else (0, 0)), (a, divisor)


def test_random_divisions(native, target):
    rng = np.random.default_rng(0)
    left, right = (rng.integers(-(2**31), 2**31, 4096).astype("int32") >> rng.integers(0, 31, 4096) for _ in range(2))
    left, right = left.astype("int32"), right.astype("int32")
    found, _ = lane_wise(native, target, lambda f, a, b: f.floor_divide(a, b), [left, right], "int32", 8)
    wide = np.where(right, left.astype("int64") // np.where(right, right, 1), 0)
    np.testing.assert_array_equal(found, wide.astype("int32"))


def test_unsigned_division(native):
    def body(f):
        return f.add(
            f.mul(f.unsigned_divide(f["a"], f["b"]), 10**6),
            f.add(f.unsigned_modulo(f["a"], f["b"]), f.add(f.unsigned_divide(f["a"], 8), f.unsigned_modulo(f["a"], 8))),
        )

    assert number(native, body, a=12345, b=7) == 12345 // 7 * 10**6 + 12345 % 7 + 12345 // 8 + 12345 % 8


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_maxima_and_nan(native, target, dtype, lanes):
    values = np.array([-np.inf, -1.5, 0.0, 2.0, np.inf, np.nan], dtype)
    left, right = (np.array(each) for each in zip(*itertools.product(values, repeat=2), strict=True))
    for name, python, propagates in [
        ("max", np.maximum, False),
        ("min", np.minimum, False),
        ("max_nan", np.maximum, True),
        ("min_nan", np.minimum, True),
    ]:
        found, (a, b) = lane_wise(
            native, target, lambda f, *both, name=name: getattr(f, name)(*both), [left, right], dtype, lanes
        )
        expected = python(a, b)
        if not propagates:
            expected = np.where(np.isnan(a) | np.isnan(b), b, expected)
        np.testing.assert_array_equal(found, expected, name)


@pytest.mark.parametrize("lanes", [1, 4])
def test_comparisons(native, target, lanes):
    values = np.array([-np.inf, -1.5, 0.0, -0.0, 2.0, np.nan], "float32")
    left, right = (np.array(each) for each in zip(*itertools.product(values, repeat=2), strict=True))
    python = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
    for relation, name in python.items():
        found, (a, b) = lane_wise(
            native, target, lambda f, a, b, relation=relation: f.compare(relation, a, b), [left, right], "int8", lanes
        )
        np.testing.assert_array_equal(found, getattr(operator, name)(a, b), relation)


def test_integers_compare_signed_unless_told(native):
    def body(f):
        signed = f.convert(f.compare("<", f["a"], f["b"]), "i64")
        return f.add(signed, f.mul(f.convert(f.compare("<", f["a"], f["b"], unsigned=True), "i64"), 2))

    assert number(native, body, a=-1, b=1) == 1
    assert number(native, body, a=1, b=-1) == 2


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_other_arithmetic(native, target, lanes):
    x = np.array([-3.75, -0.5, 0.5, 1.5, 2.5, 1e10, -0.0, 7.0], "float32")
    y = np.array([2.0, 3.0, -1.0, 0.25, 1e-3, -2.0, 5.0, 1.0], "float32")
    for write_it, expected in [
        (lambda f, x, y: f.fma(x, y, x), x * y + x),
        (lambda f, x, y: f.fnma(x, y, 2.0), 2 - x * y),
        (lambda f, x, y: f.fma(x, 3.0, y), x * 3 + y),
        (lambda f, x, y: f.neg(f.abs(x)), -np.abs(x)),
        (lambda f, x, y: f.copysign(x, y), np.copysign(x, y)),
        (lambda f, x, y: f.round(x), np.rint(x)),
        (lambda f, x, y: f.round(x, "floor"), np.floor(x)),
        (lambda f, x, y: f.round(x, "ceil"), np.ceil(x)),
        (lambda f, x, y: f.round(x, "trunc"), np.trunc(x)),
        (lambda f, x, y: f.select(f.not_(f.compare("<", x, y)), x, 0.0), np.where(x < y, 0, x)),
        (lambda f, x, y: f.from_bits(f.xor(f.bits(x), f.shl(f.constant(1, f.bits(x).type), 31)), "float"), -x),
    ]:
        found, _ = lane_wise(native, target, write_it, [x, y], "float32", lanes)
        np.testing.assert_allclose(found, expected, rtol=2e-7)


def test_without_fma_nothing_is_called(native, target):
    """LLVM's own fallback is a library's fmaf, 65 times slower."""
    found, _ = lane_wise(native, target, lambda f, x: f.fma(x, x, x), [np.arange(8, dtype="float32")], "float32", 4)
    np.testing.assert_array_equal(found, np.arange(8) ** 2 + np.arange(8))


# --- conversions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 8])
def test_conversions(native, target, lanes):
    integers = np.array([-(2**31), -129, -1, 0, 1, 77, 16777217, 2**31 - 1], "int64")
    floats = np.array([-2.9, -1.0, -0.5, 0.0, 0.5, 1.0, 99.9, 1e5], "float64")
    for source, element, expected in [
        (integers, "i32", integers.astype("int32")),
        (integers, "float", integers.astype("float32")),
        (integers, "double", integers.astype("float64")),
        (integers.astype("int32"), "i64", integers),
        (integers.astype("int32"), "float", integers.astype("float32")),
        (floats, "i32", floats.astype("int32")),
        (floats, "i64", floats.astype("int64")),
        (floats, "float", floats.astype("float32")),
        (floats.astype("float32"), "double", floats.astype("float32").astype("float64")),
        (floats, "i1", (floats != 0).astype("int8")),
    ]:
        found, _ = lane_wise(
            native, target, lambda f, x, element=element: f.convert(x, element), [source], expected.dtype, lanes
        )
        np.testing.assert_array_equal(found, expected, f"{source.dtype} to {element}")


def small_floats(native, target, element, lanes, found, numbers, back):
    def body(f):
        def some(index, _):
            wide, small = f.mul(index, numbers.itemsize), f.shl(index, 1)
            if back:
                value = f.load(f.offset(f["y"], wide), vector_of(ELEMENTS[numbers.dtype.name], lanes))
                f.store(f.convert(value, element), f.offset(f["x"], small))
            else:
                value = f.load(f.offset(f["x"], small), vector_of(element, lanes))
                f.store(f.convert(value, ELEMENTS[numbers.dtype.name]), f.offset(f["y"], wide))

        f.loop(0, found.size, lanes, [], some)

    compiled = native(write(target, body))
    assert compiled.calls == set()
    compiled("f", found, numbers, found)


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize(("dtype", "element"), [(np.float16, "half"), (ml_dtypes.bfloat16, "bfloat")])
def test_small_floats_convert_without_a_library(native, target, dtype, element, lanes):
    every = np.arange(2**16, dtype="uint16").view(dtype)
    for wide in ("float32", "float64"):
        found = np.zeros(every.size, wide)
        small_floats(native, target, element, lanes, every, found, back=False)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(found, every.astype(wide))
    # Every number of the small type, what lies between two of them, and more.
    bits = found.astype("float32").view("uint32")
    step = 1 << (13 if element == "half" else 16)
    numbers = np.concatenate([(bits + offset).view("float32") for offset in (0, 1, step // 2, step // 2 + 1, step - 1)])
    rng = np.random.default_rng(0)
    numbers = np.concatenate([numbers, rng.integers(0, 2**32, 2**16, dtype="uint32").view("float32")])
    found = np.zeros(numbers.size, dtype)
    small_floats(native, target, element, lanes, found, numbers, back=True)
    with np.errstate(all="ignore"):
        expected = numbers.astype(dtype)
    both_nan = np.isnan(numbers) & np.isnan(found)
    assert np.array_equal(found.view("uint16")[~both_nan], expected.view("uint16")[~both_nan])
    assert not np.isnan(found[~np.isnan(numbers)]).any()


# --- lanes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 2, 8, 16])
def test_lanes_are_moved(native, target, lanes):
    x = np.arange(2 * lanes, dtype="float32") + 1
    found = np.zeros(12 * lanes, "float32")

    def body(f):
        type_ = vector_of("float", lanes)
        first, second = f.load(f["x"], type_), f.load(f.offset(f["x"], 4 * lanes), type_)
        last = f.sub(f.constant(lanes, "i64"), f.load(f["z"], "i64"))
        both = f.concat(first, second)
        results = [
            f.splat(f.extract(first, lanes - 1), lanes),
            f.insert(first, f.constant(-5.0, "float"), 0),
            f.insert(second, f.extract(first, last), last),
            f.splat(f.constant(3.0, "float"), lanes),
            f.convert(f.iota(lanes, step=3), "float"),
            f.shuffle(first, range(lanes)[::-1]),
            *f.halves(both)[::-1],
            f.splat(f.reduce(f.add, first), lanes),
            f.splat(f.reduce(f.max, both), lanes),
        ]
        for place, value in enumerate(results):
            f.store(value, f.offset(f["y"], 4 * lanes * place))

    native(write(target, body))("f", x, found, np.array([1]))
    first, second = x[:lanes], x[lanes:]
    changed, moved = first.copy(), second.copy()
    changed[0], moved[-1] = -5, first[-1]
    constant_lanes = [np.full(lanes, each) for each in (first[-1], 3, first.sum(), x.max())]
    expected = [constant_lanes[0], changed, moved, constant_lanes[1], 3 * np.arange(lanes), first[::-1], second, first]
    np.testing.assert_array_equal(found[: 10 * lanes].reshape(10, lanes), [*expected, *constant_lanes[2:]])


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_masks_as_a_whole(native, target, lanes):
    def body(f):
        mask = f.compare("!=", f.load(f["x"], vector_of("i32", lanes)), 0)
        f.store(f.convert(f.any_lane(mask), "i8"), f["y"])
        f.store(f.convert(f.every_lane(mask), "i8"), f.offset(f["y"], 1))

    compiled = native(write(target, body))
    for chosen in ([], [0], [lanes - 1], range(lanes)):
        x, found = np.zeros(lanes, "int32"), np.zeros(2, "int8")
        x[list(chosen)] = 7
        compiled("f", x, found, found)
        assert list(found) == [x.any(), x.all()]


@pytest.mark.parametrize(
    ("element", "dtype"), [("float", "float32"), ("double", "float64"), ("i32", "int32"), ("i8", "int8")]
)
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_transposes(native, target, element, dtype, lanes):
    x = np.arange(lanes * lanes).reshape(lanes, lanes).astype(dtype)
    found, row = np.zeros_like(x), lanes * x.itemsize

    def body(f):
        rows = [f.load(f.offset(f["x"], row * place), vector_of(element, lanes)) for place in range(lanes)]
        for place, column in enumerate(transpose(f, rows)):
            f.store(column, f.offset(f["y"], row * place))

    native(write(target, body))("f", x, found, found)
    np.testing.assert_array_equal(found, x.T)


# --- memory -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edge():
    """The end of a page behind which nothing may be touched."""
    size = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * size)
    pages = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(pages.ctypes.data + size), ctypes.c_size_t(size), 0):
        pytest.skip("the page cannot be protected")
    return pages[:size]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_ragged_ends_touch_nothing_beyond(native, target, edge, dtype, lanes):
    element, size = ELEMENTS[dtype], np.dtype(dtype).itemsize

    def body(f):
        mask = f.first_lanes(f["n"], lanes)
        value = f.load_masked(f["x"], vector_of(element, lanes), mask, 9)
        f.store(value, f["y"])
        f.store_masked(f.add(value, 1), f["x"], mask)

    compiled = native(write(target, body, {"x": "ptr", "y": "ptr", "n": "i64"}))
    for count in range(lanes + 3):
        used = min(count, lanes)
        array = edge[edge.size - used * size :].view(dtype) if used else np.zeros(0, dtype)
        array[:] = np.arange(used)
        found = np.zeros(lanes, dtype)
        compiled("f", array, found, count)
        np.testing.assert_array_equal(found, [*range(used), *[9] * (lanes - used)])
        np.testing.assert_array_equal(array, np.arange(used) + 1)


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_known_masks(native, target, lanes):
    x, found = np.arange(lanes, dtype="float32") + 1, np.zeros(3 * lanes, "float32")

    def body(f):
        type_ = vector_of("float", lanes)
        for place, count in enumerate((0, 1, lanes)):
            mask = f.first_lanes(count, lanes)
            at = f.offset(f["y"], 4 * lanes * place)
            f.store_masked(f.load_masked(f["x"], type_, mask, f.constant(-1.0, type_)), at, mask)

    native(write(target, body))("f", x, found, found)
    expected = np.zeros((3, lanes))
    expected[1, 0], expected[2] = 1, x
    np.testing.assert_array_equal(found.reshape(3, lanes), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_gathers_and_scatters(native, target, dtype, lanes):
    element, size = ELEMENTS[dtype], np.dtype(dtype).itemsize
    table = np.arange(100).astype(dtype)
    index = np.array([(17 * lane + 3) % 100 for lane in range(lanes)], "int32")
    index[0] = -(10**8)  # outside the mask, so never read
    found = np.zeros(lanes, dtype)

    def body(f):
        places = f.load(f["z"], vector_of("i32", lanes))
        pointers = f.offset(f["x"], f.mul(f.convert(places, "i64"), size))
        mask = f.compare(">=", places, 0)
        value = f.gather(pointers, element, mask, -1)
        f.store(value, f["y"])
        f.scatter(f.add(value, 1), pointers, mask)
        safe = f.offset(f.splat(f["x"], lanes), f.iota(lanes, "i64", step=size))
        f.scatter(f.add(f.gather(safe, element), 0), safe)

    native(write(target, body))("f", table, found, index)
    expected = np.arange(100)
    np.testing.assert_array_equal(found, [-1, *expected[index[1:]]])
    expected[index[1:]] += 1
    np.testing.assert_array_equal(table, expected)


def test_other_accesses(native, target):
    x = np.zeros(64, "float32")
    start = -x.ctypes.data // 4 % 16  # where it is aligned to 64 bytes
    x[start : start + 16] = np.arange(16)

    def body(f):
        value = f.load(f["x"], "<16 x float>", aligned=True)
        f.store(f.add(value, f.load_splat(f.offset(f["x"], 12), "float", 16)), f["x"], aligned=True)
        f.prefetch(f.offset(f["x"], 1 << 40))
        f.prefetch(f["x"], level=2, write=True)
        f.comment("nothing to see")
        f.store(f.atomic_add(f["y"], f.constant(5, "i32")), f["z"])

    counter, before = np.array([7], "int32"), np.zeros(1, "int32")
    native(write(target, body))("f", x[start:], counter, before)
    np.testing.assert_array_equal(x[start : start + 16], np.arange(16) + 3)
    assert (counter[0], before[0]) == (12, 7)
