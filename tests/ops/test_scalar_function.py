import gc
import math
import pickle
import subprocess
import sys
import threading
import weakref

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from planned import check_plan

import attngraph as ag
from attngraph.engine.program import LEAST_WORK
from checks import check, check_raises, data
from scalar_programs import programs

TARGETS = ("native", "x86-64-v2", "x86-64-v3")


@ag.scalar_function
def branches(s, q, k):
    far = q - k
    if far < 0:
        far = -far
    if s > 0.5:
        return s - far * 0.01
    if s < -1:
        return math.tanh(s)
    return s / (far + 1)


@ag.scalar_function
def visible(q, k):
    return q >= k and (k % 3 == 0 or q // (k - 5) > 1)


@ag.scalar_function
def polynomial(s):
    total = 0.0
    for i in range(6):
        total = total * s * 0.1 + 1.0 / (i + 1)
    return total


@ag.scalar_function
def halvings(s):
    count = 0
    while s > 1e-3 and count < 40:
        s *= 0.5
        count += 1
    return count


def double(x):
    return x * 2 if x > 0 else x


def twice(x):
    return 2.0


@numba.njit
def compiled(x):
    return x * 3 if x > 0 else -x


def math_gamma(x):
    return math.gamma(abs(x) + 1)


def inputs(rows=70, columns=None):
    """Queries, keys and values of so many positions that a kernel is worth it."""
    columns = columns or LEAST_WORK // (2 * rows) + 3
    return data((1, 2, rows, 16), seed=0), data((1, 2, columns, 16), seed=1), data((1, 2, columns, 16), seed=2)


SCORES = {
    "branches": lambda s, b, h, q, k: branches(s, q, k),
    "polynomial": lambda s, b, h, q, k: polynomial(s),
    "mask": lambda s, b, h, q, k: ag.where(visible(q, k), s, -ag.inf),
    "hidden": lambda s, b, h, q, k: ag.where(q >= k, branches(s, q, k), -ag.inf),
    "varying loop": lambda s, b, h, q, k: halvings(s) * 0.1,
    "of positions": lambda s, b, h, q, k: s + branches(1.5, q, k),
}


@pytest.mark.parametrize("rows", [3, 70, 130])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SCORES)
def test_scores(name, target, rows):
    q, k, v = inputs(rows)
    attended = ag.flex_attention(q, k, v, score_mod=SCORES[name])
    with ag.config.set(target="reference"):
        expected = attended.compute()
    with ag.config.set(target=target):
        assert_allclose(attended.compute(), expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["branches", "polynomial", "mask", "varying loop"])
def test_scores_are_part_of_the_kernel(name):
    attended = ag.flex_attention(*inputs(), score_mod=SCORES[name])
    explained = ag.explain(attended)
    assert len(explained.kernels) == 1
    assert not explained.not_fused


def test_the_plan_is_interpreted_too():
    rng = np.random.default_rng(0)
    q, k, v = (ag.asarray(rng.standard_normal((2, 40, 8), dtype="float32")) for _ in range(3))
    i, j = ag.arange(40)[:, None], ag.arange(40)[None, :]
    check_plan(ag.softmax(branches(q @ k.mT, i, j)) @ v)


def test_masks_as_predicates():
    q, k, v = inputs(128, 256)
    block_mask = ag.create_block_mask(lambda b, h, i, j: visible(i, j), None, None, 128, 256)
    i, j = np.arange(128)[:, None], np.arange(256)[None, :]
    with np.errstate(all="ignore"):
        seen = (i >= j) & ((j % 3 == 0) | (np.where(j == 5, 0, i // np.where(j == 5, 1, j - 5)) > 1))
    assert_array_equal(block_mask.mask_mod(0, 0, ag.asarray(i), ag.asarray(j)).compute(), seen)
    found = ag.flex_attention(q, k, v, block_mask=block_mask).compute()
    assert_allclose(found, ag.attention(q, k, v, mask=seen).compute(), rtol=2e-5, atol=2e-6)


def test_infinity_as_a_mask():
    @ag.scalar_function
    def causal(s, q, k):
        return s if q >= k else -np.inf

    q, k, v = inputs()
    found = ag.flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: causal(s, i, j)).compute()
    assert_allclose(found, ag.attention(q, k, v, is_causal=True).compute(), rtol=2e-5, atol=2e-6)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(source=programs(), seed=st.integers(0, 9))
def test_random_programs_on_arrays(source, seed):
    names = {"np": np, "math": math}
    exec(source, names)
    rng = np.random.default_rng(seed)
    x, y = ag.asarray(rng.choice([0.0, -1.0, np.nan, np.inf, 0.1, 2.5, 1e200], (300, 40))), rng.standard_normal(40)
    n, m = rng.integers(-(2**63), 2**63 - 1, (300, 1)), rng.integers(-4, 5, 40)
    try:
        lazy = ag.scalar_function(names["program"])(x, y, n, m)
    except ag.CompileError:  # numba finds a variable that is never set, or LLVM a division by zero
        return
    with ag.config.set(target="reference"):
        expected = lazy.compute()
    for target in TARGETS:
        with ag.config.set(target=target):
            assert_array_equal(lazy.compute(), expected, source)


FLOAT_TYPES = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_floats_keep_their_type(dtype):
    x = data((4, 5), dtype)
    wide = x.astype(np.float64)
    check(ag.scalar_function(double)(ag.asarray(x)), np.where(wide > 0, wide * 2, wide).astype(x.dtype))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32", "bool"])
def test_integers_and_booleans(dtype):
    x = data((4, 5), dtype)
    check(ag.scalar_function(lambda n: n * 3 - 1 if n else 7)(x), np.where(x != 0, x.astype(np.int64) * 3 - 1, 7))
    check(ag.scalar_function(lambda n: n > 1)(x), x > 1)
    check(ag.scalar_function(lambda n: n * 0.5)(x), (x * 0.5).astype(np.float32))


def test_python_numbers_do_not_widen():
    x = data((3, 4))
    scaled = ag.scalar_function(lambda a, b, c=2.0: a * b + c)
    assert scaled(x, 0.5).dtype == np.float32
    assert scaled(x, 0.5, c=3).dtype == np.float32
    assert scaled(x.astype(np.float16), np.float64(0.5)).dtype == np.float16
    assert scaled(x, np.ones((4, 1, 1), np.float64)).shape == (4, 3, 4)
    check(scaled(x, 2, c=1), x * 2 + 1)


def test_division_cannot_trap():
    quotient = ag.scalar_function(lambda a, b: a // b if b > -5 else a % b)
    a = np.array([-(2**63), 7, 0, -7] * 500)
    b = np.array([-1, 0, -6, 3] * 500)
    lazy = quotient(ag.asarray(a), ag.asarray(b))
    for target in ("reference", *TARGETS):
        with ag.config.set(target=target):
            # what does not fit is 0, as numba has it
            assert_array_equal(lazy.compute()[:4], [0, 0, 0, -3])


def test_nan_and_zero():
    x = np.array([np.nan, 0.0, -0.0, np.inf] * 300, np.float32)
    lazy = ag.scalar_function(lambda x: 1 / x if x == x else 5.0)(ag.asarray(x))
    for target in ("reference", *TARGETS):
        with ag.config.set(target=target):
            assert_array_equal(lazy.compute()[:4], [5, np.inf, -np.inf, 0])


def test_functions_without_vectors_run_element_by_element():
    x = data((100, 30))
    check(ag.scalar_function(lambda x: x % 0.25)(x), (x.astype(np.float64) % 0.25).astype(np.float32))
    gamma = ag.scalar_function(math_gamma)(x)
    expected = np.vectorize(math.gamma)(np.abs(x.astype(np.float64)) + 1)
    check(gamma, expected.astype(np.float32))
    attended = ag.flex_attention(*inputs(), score_mod=lambda s, *_: ag.scalar_function(math_gamma)(s))
    assert "a call of numba_gamma" in str(ag.explain(attended).not_fused)


@ag.scalar_function
def root(x):
    """Newton's iteration, which has no end at 0."""
    guess = 1.0
    while abs(guess * guess - x) > 1e-9 * x:
        guess = 0.5 * (guess + x / guess)
    return guess


@pytest.mark.parametrize("rows", [3, 17, 70])
def test_lanes_that_do_not_count_do_not_run(rows):
    q, k, v = (ag.asarray(np.abs(each) + 0.1) for each in inputs(rows))
    places = {
        "scores": ag.softmax(root(q @ k.mT)) @ v,
        "rows": ag.softmax(q @ k.mT * root(q.sum(-1, keepdims=True)) * 0.1) @ v,
        "elements": root(k) * 2 + 1,
    }
    for name, lazy in places.items():
        with ag.config.set(target="reference"):
            expected = lazy.compute()
        for target in TARGETS:
            with ag.config.set(target=target):
                assert_allclose(lazy.compute(), expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_equal_calls_are_one_node():
    x = ag.asarray(data((3, 4)))
    assert ag.scalar_function(double)(x).node is ag.scalar_function(double)(x).node
    assert ag.scalar_function(double) is ag.scalar_function(double)
    assert ag.scalar_function(ag.scalar_function(double)) is ag.scalar_function(double)
    assert ag.scalar_function(lambda x: x) is not ag.scalar_function(lambda x: x)
    assert "double" in repr(ag.scalar_function(double))


def test_functions_are_forgotten():
    function = ag.scalar_function(lambda x: x)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None


def test_functions_of_numba():
    @numba.njit
    def helper(x):
        return x + 1 if x > 0 else x - 1

    x = data((3, 4))
    check(ag.scalar_function(compiled)(x), np.where(x > 0, x * 3, -x))
    check(ag.scalar_function(lambda x: helper(x) * 2)(x), np.where(x > 0, x + 1, x - 1) * np.float32(2), roundings=1)


def test_in_compiled_functions():
    attend = ag.compile(lambda q, k, v: ag.flex_attention(q, k, v, score_mod=SCORES["branches"]))
    for rows in (70, 90):
        q, k, v = inputs(rows)
        expected = ag.flex_attention(q, k, v, score_mod=SCORES["branches"])
        with ag.config.set(target="reference"):
            assert_allclose(attend(q, k, v), expected.compute(), rtol=2e-5, atol=2e-6)


# --- what is refused


def raises(x):
    if x > 0:
        raise ValueError("no")
    return x


def prints(x):
    print(x)  # noqa: T201
    return x


def allocates(x):
    return np.full(3, x).sum()


TABLE = np.arange(5.0)

REFUSED = [
    (raises, ag.CompileError, "may raise an exception"),
    (prints, ag.CompileError, "may only compute with its arguments"),
    (allocates, ag.CompileError, "an allocation"),
    (lambda x: x * np.random.rand(), ag.CompileError, "random numbers"),  # noqa: NPY002
    (lambda x: x.upper(), ag.CompileError, "numba cannot compile it for float64"),
    (lambda x: x + TABLE[1], ag.ArgumentError, "'TABLE' from outside.*pass it as an argument"),
    (lambda x: x + branches(x, 1, 2), ag.ArgumentError, "'branches' from outside.*numba.njit"),
    (lambda x: (x, x), ag.ArgumentError, "returns a tuple"),
    (lambda x: None, ag.ArgumentError, "returns none"),
    (lambda x: x + 1j, ag.ArgumentError, "returns complex128"),
    (lambda x: x if x > 0 else None, ag.ArgumentError, "returns OptionalType"),
    (lambda x: "text", ag.ArgumentError, "returns unicode_type"),
    (lambda x, y: x, ag.ArgumentError, "missing a required argument: 'y'"),
    (lambda: 1.0, ag.ArgumentError, "too many positional arguments|fixed number"),
]


@pytest.mark.parametrize(("function", "error", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_refused(function, error, words):
    check_raises(error, words, lambda: ag.scalar_function(function)(ag.asarray(data((2, 3)))))


@pytest.mark.parametrize("given", [math.tanh, 3, "text", lambda *x: x, lambda *, x: x, lambda: 1.0])
def test_no_functions_of_scalars(given):
    check_raises(ag.ArgumentError, "scalar_function", ag.scalar_function, given)


def test_bad_arguments():
    function = ag.scalar_function(double)
    check_raises(ag.DTypeError, "uint64", lambda: function(ag.asarray(np.ones(3, np.uint64))))
    check_raises(ag.DTypeError, "str", lambda: function("text"))
    check_raises(ag.ShapeError, "scalar_function", lambda: branches(data((3,)), data((4,)), 1))


# --- gradients


def test_gradients_are_checked():
    x, n = ag.asarray(data((2, 3))), ag.arange(3)
    both = ag.scalar_function(lambda x, y: x * y, gradient=lambda x, y: (y, x))
    assert both(x, x).shape == (2, 3)
    assert both.gradient is not None
    assert ag.scalar_function(lambda x, n: x * n, gradient=lambda x, n: 1.0 * n)(x, n).shape == (2, 3)
    check_raises(ag.ArgumentError, "takes 2 arguments, its gradient 1", ag.scalar_function, lambda x, y: x, double)
    one = ag.scalar_function(lambda x, y: x * y, gradient=lambda x, y: x)
    check_raises(ag.ArgumentError, "not one derivative for each of 2 float", lambda: one(x, x))
    check_raises(ag.ArgumentError, "gradient: takes a Python function", ag.scalar_function, double, 3)
    assert ag.scalar_function(double, gradient=twice) is not ag.scalar_function(double)


# --- pickles, processes, threads


def test_pickles():
    x = data((3, 4))
    for function in (branches, ag.scalar_function(double, gradient=twice), ag.scalar_function(compiled)):
        assert pickle.loads(pickle.dumps(function)) is function
    lazy = ag.scalar_function(lambda x: x * 2)(ag.asarray(x))
    assert_array_equal(pickle.loads(pickle.dumps(lazy)).compute(), x * 2)

    lock = threading.Lock()
    check_raises(
        ag.ArgumentError, "cannot be pickled", pickle.dumps, ag.scalar_function(lambda x: x if lock is None else -x)
    )


def test_numba_is_loaded_when_it_is_used():
    program = "import sys, attngraph as ag; ag.scalar_function(lambda x: x); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_threads_share_a_function():
    function = ag.scalar_function(lambda x: x * 2 if x > 0 else x)
    x = data((20, 30))
    found = []
    threads = [threading.Thread(target=lambda: found.append(function(x).compute())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for each in found:
        assert_array_equal(each, np.where(x > 0, x * 2, x))


@ag.scalar_function
def tamed(x):
    if x < 0:
        return -x * 0.5
    return min(x, 2.0)


@pytest.mark.parametrize("rows", [3, 70])
@pytest.mark.parametrize("target", TARGETS)
def test_at_every_place_of_a_sweep(target, rows):
    q, k, v = (ag.asarray(each) for each in inputs(rows))
    length = ag.sqrt((q * q).sum(-1, keepdims=True))
    scores = q @ k.mT / (1 + tamed(length - 4.0))
    places = {
        "of rows": ag.softmax(scores) @ v,
        "of columns": ag.softmax(q @ k.mT * 0.25 + tamed(k[..., 0])[..., None, :]) @ v,
        "of operands": ag.softmax(tamed(q) @ tamed(k).mT) @ tamed(v),
        "of results": tamed(ag.softmax(q @ k.mT * 0.25) @ v),
        "of weights": tamed(q @ k.mT - 1.0) @ v,
        "of heads": ag.softmax(branches(q @ k.mT * 0.25, ag.arange(2)[:, None, None], 1)) @ v,
    }
    for name, lazy in places.items():
        with ag.config.set(target="reference"):
            expected = lazy.compute()
        with ag.config.set(target=target):
            assert_allclose(lazy.compute(), expected, rtol=1e-4, atol=3e-5 * np.abs(expected).max(), err_msg=name)


def test_an_overflow_inside_is_computed_again():
    @ag.scalar_function
    def logistic(s):
        return math.log(1.0 + math.exp(s)) if s > -5 else 0.0

    q, k, v = inputs()
    attended = ag.flex_attention(q * 100, k, v, score_mod=lambda s, *_: logistic(s))
    with ag.config.set(target="reference"):
        expected = attended.compute()
    assert_allclose(attended.compute(), expected, rtol=1e-3, atol=1e-4)
