import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, TARGETS, check, check_raises, data, evaluations, wide
from strategies import LAYOUTS, laid_out

PAIRS = [
    ((3, 4), (4, 5)),
    ((1, 4), (4, 1)),
    ((1, 1), (1, 1)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((3, 4), (4, 0)),
    ((0, 0), (0, 0)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((0,), (0,)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((2, 3, 0), (0, 5)),
    ((0, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((1, 3, 4), (6, 4, 2)),
    ((2, 0, 3, 4), (4, 2)),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_matmul_equals_numpy(dtype):
    for left, right in PAIRS:
        x, y = data(left, dtype), data(right, dtype, 1)
        expected = wide(x) @ wide(y)
        roundings, scale = (8, 4) if dtype in FLOATS else (0, 0)
        check(ag.matmul(x, y), expected, dtype=dtype, roundings=roundings, scale=scale)
        check(x @ ag.asarray(y), expected, dtype=dtype, roundings=roundings, scale=scale)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    x, y = laid_out(data((2, 3, 4)), layout), laid_out(data((4, 5)), layout)
    check(ag.asarray(x) @ y, wide(x) @ wide(y), dtype="float32", roundings=8, scale=4)
    check(
        ag.asarray(y).mT @ ag.asarray(x).mT,
        wide(y).T @ np.swapaxes(wide(x), -1, -2),
        dtype="float32",
        roundings=8,
        scale=4,
    )


@pytest.mark.parametrize(
    ("left", "right", "dtype"),
    [
        ("float32", "int64", "float32"),
        ("bool", "int8", "int8"),
        ("float16", "float32", "float32"),
        ("int8", "uint8", "int16"),
    ],
)
def test_types_are_promoted(left, right, dtype):
    x, y = data((3, 4), left), data((4, 2), right)
    check(ag.matmul(x, y), wide(x) @ wide(y), dtype=dtype, roundings=8, scale=4)


def test_integers_wrap_and_booleans_ask_for_any():
    x = np.int8([[100, 100]])
    check(ag.matmul(x, x.T), x @ x.T)
    check(ag.asarray([[True, False]]) @ [[True], [True]], [[True]])
    large = np.int64([[2**62, 2**62, 3]])
    check(ag.matmul(large, np.ones((3, 1), int)), np.int64([[-(2**63) + 3]]))
    assert (ag.asarray(np.int64([[2**53 + 1]])) @ np.int64([[1]])).compute() == 2**53 + 1


@pytest.mark.parametrize("axis", [-1, 0, 1, -2])
def test_vecdot_equals_numpy(axis):
    x, y = data((3, 4)), data((3, 4), seed=1)
    check(ag.vecdot(x, y, axis=axis), (wide(x) * y).sum(axis), dtype="float32", roundings=4, scale=1)
    integers = data((3, 4), "int8")
    check(ag.vecdot(integers, integers, axis=axis), np.vecdot(integers, integers, axis=axis))


def test_vecdot_broadcasts_and_takes_any_type():
    x, y = data((2, 1, 4)), data((3, 4), seed=1)
    check(ag.vecdot(x, y), (wide(x) * y).sum(-1), dtype="float32", roundings=4, scale=1)
    check(ag.vecdot(np.zeros((3, 0)), np.zeros(0)), np.zeros(3))
    check(ag.vecdot(np.int8([100, 100]), np.int8([1, 1])), np.int8(-56))
    check(ag.vecdot([True, False], [True, True]), True)


@pytest.mark.parametrize(
    ("left", "right", "axes"),
    [
        ((2, 3, 4), (3, 4, 5), 2),
        ((2, 3), (4, 5), 0),
        ((2, 3), (3,), 1),
        ((2, 3, 4), (4, 3), ([1, 2], [1, 0])),
        ((2, 3, 4), (4, 2), (-1, 0)),
        ((2, 3, 4), (5, 3), (1, 1)),
        ((2, 3), (2, 3), ((0, 1), (0, 1))),
        ((2, 0), (0, 3), 1),
        ((), (), 0),
        ((), (2,), 0),
    ],
)
def test_tensordot_equals_numpy(left, right, axes):
    x, y = data(left, "int64"), data(right, "int64", 1)
    check(ag.tensordot(x, y, axes=axes), np.tensordot(x, y, axes))
    check(np.tensordot(ag.asarray(x), y, axes), np.tensordot(x, y, axes))


# What a mask hides. The weights of the last column are 0 by a mask in all of these, and by nothing else.
N = 5
SEEN = ag.arange(N) < N - 1
CAUSAL = ag.arange(N)[:, None] >= ag.arange(N)
FEW = SEEN & (ag.arange(N)[:, None] > 0)  # the first row has nothing to attend to
S = ag.asarray(data((2, N, N)))
W = ag.asarray(np.abs(data((2, N, N), seed=1)) + np.float32(0.1))


def by_hand(scores: ag.Array) -> ag.Array:
    weights = ag.exp(scores - ag.max(scores, -1, keepdims=True))
    return weights / ag.sum(weights, -1, keepdims=True)


WEIGHTS = {
    "where": lambda m: ag.where(m, W, 0),
    "where, the other way": lambda m: ag.where(~m, 0.0, W),
    "where, minus 0": lambda m: ag.where(m, W, -0.0),
    "where, zeros": lambda m: ag.where(m, W, ag.zeros_like(W)),
    "0 and 1": lambda m: ag.where(m, 1.0, 0) * W,
    "scaled": lambda m: -0.5 * ag.where(m, W, 0) / 3.0,
    "scaled by rows": lambda m: ag.where(m, W, 0) * W[..., :1],
    "normalised": lambda m: ag.where(m, W, 0) / ag.sum(ag.where(m, W, 0), -1, keepdims=True),
    "another type": lambda m: ag.where(m, W, 0).astype("float64").astype("float32"),
    "a function of 0": lambda m: ag.tanh(ag.where(m, S, 0)),
    "square": lambda m: ag.square(ag.where(m, W, 0)),
    "power": lambda m: ag.where(m, W, 0) ** 2,
    "another power": lambda m: ag.where(m, W, 0) ** 3,
    "relu": lambda m: ag.relu(ag.where(m, S, 0)),
    "relu of -inf": lambda m: ag.relu(ag.where(m, S, -ag.inf)) ** 2,
    "clip": lambda m: ag.clip(ag.where(m, S, 0), -1, 1),
    "sigmoid": lambda m: ag.sigmoid(ag.where(m, S, -ag.inf)),
    "exp": lambda m: ag.exp(ag.where(m, S, -ag.inf)),
    "exp2": lambda m: ag.exp2(ag.where(m, S, -ag.inf)),
    "power of 2": lambda m: 2.0 ** ag.where(m, S, -ag.inf),
    "softmax": lambda m: ag.softmax(ag.where(m, S, -ag.inf)),
    "softmax of a bias": lambda m: ag.softmax(S + ag.where(m, 0.0, -ag.inf)),
    "exp of log_softmax": lambda m: ag.exp(ag.log_softmax(ag.where(m, S, -ag.inf))),
    "softmax by hand": lambda m: by_hand(ag.where(m, S, -ag.inf)),
    "softmax by logsumexp": lambda m: ag.exp(
        ag.where(m, S, -ag.inf) - ag.logsumexp(ag.where(m, S, -ag.inf), -1, keepdims=True)
    ),
    "softmax with a sink": lambda m: (
        ag.exp(ag.where(m, S, -ag.inf)) / (1 + ag.sum(ag.exp(ag.where(m, S, -ag.inf)), -1, keepdims=True))
    ),
    "difference": lambda m: ag.softmax(ag.where(m, S, -ag.inf)) - 0.3 * ag.softmax(ag.where(m, W, -ag.inf)),
    "difference by hand": lambda m: by_hand(ag.where(m, S, -ag.inf)) - 0.3 * by_hand(ag.where(m, W, -ag.inf)),
    "difference, normalised": lambda m: ag.rms_norm(
        ag.softmax(ag.where(m, S, -ag.inf)) - 0.3 * ag.softmax(ag.where(m, W, -ag.inf))
    ),
    "masked twice": lambda m: ag.where(CAUSAL | m, ag.softmax(ag.where(m, S, -ag.inf)), 0),
    "moved": lambda m: ag.flip(ag.flip(ag.where(m, W, 0), axis=-1).mT.mT, axis=-1)[:, ::-1][:, ::-1],
    "joined": lambda m: ag.concat([ag.where(m, W, 0)[:1], ag.where(m, W, 0)[1:]]),
    "gathered": lambda m: ag.where(m, W, 0)[[0, 1]],
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("mask", ["column", "rows too"])
def test_what_a_mask_hides_may_hold_anything(name, mask):
    """The answer is that of values where nothing is wrong, in every form of a product, under every target."""
    weights = WEIGHTS[name]({"column": SEEN, "rows too": FEW}[mask])
    good = data((N, 4), seed=3)
    bad = good.copy()
    bad[-1] = np.nan, np.inf, -np.inf, np.finfo(np.float32).max
    # Alone, so that passes may take the product apart, and then all of them sharing the weights.
    forms = [
        lambda v: weights @ v,
        lambda v: ag.sum(weights * v[:, 0], -1),
        lambda v: [
            v.mT @ weights.mT,
            (weights @ v[:, 1]) * 0.5,
            weights @ ag.stack([v, 2 * v]),
            ag.vecdot(weights, v[:, 2]),
            ag.einsum("bij,jd->bid", weights, v),
        ],
    ]
    for product in forms:
        right, wrong = product(ag.asarray(good)), product(ag.asarray(bad))
        for target in TARGETS:
            with ag.config.set(target=target):
                expected, results = (
                    ag.compute(*each) if type(each) is list else [each.compute()] for each in (right, wrong)
                )
            for known, result in zip(expected, results, strict=True):
                assert np.isfinite(known).all()  # a row with nothing to attend to gives zeros
                np.testing.assert_allclose(result, known, rtol=2e-5, atol=1e-6, err_msg=target)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_each_row_hides_its_own(bad):
    values = data((N, 3))
    values[2] = bad
    weights = ag.where(CAUSAL, ag.asarray(data((N, N), seed=1)), 0)
    finite = wide(values).copy()
    finite[2] = 0
    expected = np.tril(data((N, N), seed=1)).astype(float) @ finite
    expected[2:] = bad if np.isnan(bad) else np.sign(data((N, N), seed=1)[2:, 2:3]) * bad
    check(weights @ values, expected, dtype="float32", roundings=8, scale=4)


def test_a_factor_of_rows_may_hide_them():
    factor = ag.where(ag.arange(3) > 0, 2.0, 0)[:, None]
    weights, values = data((3, 4)), np.full((4, 2), np.nan, np.float32)
    for product in ((factor * weights) @ values, values.T @ (factor * weights).mT, ag.sum(factor * values[:3], -1)):
        for target, result in evaluations(product).items():
            np.testing.assert_array_equal(np.isnan(result).sum(), 2 * (result.size // 3), err_msg=target)


def test_both_sides_hide():
    left = ag.where(ag.arange(4) < 2, np.float32([[1, 2, np.nan, np.inf]]), 0)
    right = ag.where(ag.arange(4)[:, None] > 0, np.float32([[np.nan], [3], [np.nan], [np.nan]]), 0)
    check(left @ right, np.float32([[6]]))


@pytest.mark.parametrize(
    "weights",
    [
        lambda: ag.asarray(np.float32([[1, 0]])),
        lambda: ag.asarray(np.float32([[1, 1]])) * np.float32([1, 0]),
        lambda: ag.where(ag.asarray([True, False]), 1.0, np.float32([0, 0]))[None],
        lambda: ag.softmax(np.float32([[1e4, -1e4]])),
        lambda: ag.softmax(ag.asarray(np.float32([[1, 0]])) + ag.where(ag.asarray([True, False]), 0, -1e30)),
        lambda: ag.where(ag.asarray([True, True]), np.float32([[1, 0]]), 0),
        lambda: ag.relu(ag.asarray(np.float32([[1, -1]]))),
        lambda: 1 - ag.where(ag.asarray([[True, False]]), 1.0, 0) - np.float32([[-1, 1]]),
    ],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_zero_that_no_mask_wrote_is_ieees(weights, bad):
    check(weights() @ np.float32([[1], [bad]]), np.float32([[np.nan]]))


def test_elementwise_products_are_ieees():
    weights = ag.where(ag.arange(3) < 2, 1.0, 0)
    check(weights * np.float32([1, np.nan, np.nan]), np.float32([1, np.nan, np.nan]))
    check(weights * np.float32([1, 2, np.inf]) + 0, np.float32([1, 2, np.nan]))
    check(ag.where(ag.arange(3) < 2, np.float32([1, 2, np.nan]), 0), np.float32([1, 2, 0]))


MOST = float(np.finfo(np.float32).max) / 2


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (lambda x: x @ x.mT / (4 * MOST), MOST),
        (lambda x: ag.sum(x * x, -1, keepdims=True) / MOST / 4, MOST),
        (lambda x: ag.sqrt(ag.sum(x * x, -1, keepdims=True)), 2 * MOST),
        (lambda x: (x + x + x) / 3, MOST),
        (lambda x: ag.exp(x / MOST * 100) / ag.exp(x / MOST * 99), np.e),
        (lambda x: x @ x.mT - x @ x.mT, 0),
        (lambda x: (x @ x.mT) * (1 / (x @ x.mT)), 1),
        (lambda x: ag.softmax(x @ x.mT), 0.5),
        (lambda x: x * x / x - x, 0),
        (lambda x: x @ x.mT, np.inf),
    ],
)
def test_what_overflows_on_the_way_is_float64s(expression, expected):
    result = expression(ag.asarray(np.full((2, 4), MOST, np.float32)))
    for target, values in evaluations(result).items():
        if target == "reference64" and expected == np.inf:
            continue
        np.testing.assert_allclose(values, np.full(values.shape, expected), rtol=3e-5, err_msg=target)


@given(st.data())
def test_native_and_reference_agree_on_random_masks(draw):
    rows, columns = draw.draw(st.integers(1, 4)), draw.draw(st.integers(1, 4))
    seed = draw.draw(st.integers(0, 99))
    mask = data((rows, columns), "bool", seed)
    values = data((columns, 2), seed=seed + 1)
    values[draw.draw(st.lists(st.integers(0, columns - 1), max_size=2))] = draw.draw(st.sampled_from((np.nan, np.inf)))
    scores = data((rows, columns), seed=seed + 2)
    forms = {
        "softmax": lambda: ag.softmax(ag.where(mask, scores, -ag.inf)),
        "softmax by hand": lambda: by_hand(ag.where(mask, scores, -ag.inf)),
        "where": lambda: ag.where(mask, scores, 0),
    }
    name = draw.draw(st.sampled_from(sorted(forms)))
    results = evaluations(forms[name]() @ values)
    for i in range(rows):
        kept = mask[i]
        seen = scores[i, kept].astype(float)
        if name != "where" and kept.any():
            seen = np.exp(seen - seen.max()) / np.exp(seen - seen.max()).sum()
        with np.errstate(invalid="ignore"):
            expected = seen @ values[kept] if kept.any() else np.zeros(2)
        for target, result in results.items():
            np.testing.assert_allclose(result[i], expected, rtol=1e-5, atol=1e-5, err_msg=target)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.ShapeError, r"float32\[2, 3\] and float32\[2, 3\] do not multiply: 3 against 2", lambda x: x @ x),
        (ag.ShapeError, "do not broadcast", lambda x: ag.matmul(np.ones((2, 1, 3)), np.ones((3, 3, 1)))),
        (
            ag.ShapeError,
            r"0-d operands do not multiply: float32\[2, 3\] and int64\[\]; use \*",
            lambda x: ag.matmul(x, 2),
        ),
        (ag.ShapeError, "0-d operands", lambda x: ag.matmul(2.0, x)),
        (ag.DTypeError, "uint64", lambda x: ag.matmul(data((1, 1), "uint64"), data((1, 1), "int8"))),
        (ag.ShapeError, "vecdot: .* differ along axis -1", lambda x: ag.vecdot(x, x[:, :2])),
        (ag.ShapeError, "vecdot: axis 2", lambda x: ag.vecdot(x, x, axis=2)),
        (ag.ShapeError, "counted from the front", lambda x: ag.vecdot(x, x[0:2, 0], axis=0)),
        (ag.ShapeError, "vecdot: 0-d", lambda x: ag.vecdot(x, 1.0)),
        (ag.ShapeError, "tensordot: 3 axes", lambda x: ag.tensordot(x, x, axes=3)),
        (ag.ShapeError, "tensordot: -1 axes", lambda x: ag.tensordot(x, x, axes=-1)),
        (ag.ShapeError, "do not pair up", lambda x: ag.tensordot(x, x, axes=([0], [0, 1]))),
        (ag.ShapeError, "do not pair up", lambda x: ag.tensordot(x, x, axes=(0,))),
        (ag.ShapeError, "differ", lambda x: ag.tensordot(x, x, axes=1)),
        (ag.ShapeError, "name an axis twice", lambda x: ag.tensordot(x, x, axes=([0, 0], [0, 1]))),
        (ag.ArgumentError, "axes is an integer", lambda x: ag.tensordot(x, x, axes=1.5)),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call, ag.asarray(data((2, 3))))


@pytest.mark.parametrize("shape", [(1, 7), (3, 1, 7), (2, 3, 1, 7)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_a_row_times_a_column(shape, dtype):
    """It is planned as a sum of products."""
    rng = np.random.default_rng(4)
    left, right = (rng.integers(-3, 4, size).astype(dtype) for size in (shape, (*shape[:-2], shape[-1], 1)))
    compiled = ag.compile(lambda a, b: a @ b)
    for _ in range(3):
        found = compiled(left, right)
        np.testing.assert_array_equal(found, left @ right)
        assert found.dtype == dtype


def test_a_row_times_a_column_broadcasts():
    rng = np.random.default_rng(5)
    left, right = rng.standard_normal((4, 1, 1, 9)), rng.standard_normal((3, 9, 1))
    np.testing.assert_allclose(ag.compile(lambda a, b: a @ b)(left, right), left @ right, rtol=1e-12)


def test_hidden_terms_of_a_row_times_a_column():
    """A weight that a mask hides adds nothing, whatever stands beside it."""
    scores, values = np.array([[0.0, -np.inf, 1.0]], "float32"), np.array([[1.0], [np.nan], [2.0]], "float32")
    weights = np.exp([0.0, 1.0])
    wanted = weights @ [1.0, 2.0] / weights.sum()
    compiled = ag.compile(lambda s, v: ag.softmax(ag.where(s > -9, s, -ag.inf), axis=-1) @ v)
    for _ in range(3):
        np.testing.assert_allclose(compiled(scores, values), [[wanted]], rtol=1e-6)
