"""Lengths of paged arrays go with their positions, through whatever is computed before they are keys and values."""

import numpy as np
import pytest

import attngraph as ag

PAGE, WIDTH = 4, 6
LENGTHS = np.array([5, 11, 0])
TABLE = np.array([[3, 1, -1], [0, 5, 2], [-7, 99, 4]])
TOLERANCE = 2e-6


@pytest.fixture
def cache():
    """A pool of two heads, which is NaN wherever no sequence lies, and the sequences: arrays of their own lengths."""
    rng = np.random.default_rng(0)
    pool = np.full((6, 2, PAGE, WIDTH), np.nan, np.float16)
    sequences = []
    for row, length in zip(TABLE, LENGTHS, strict=True):
        sequence = rng.standard_normal((2, length, WIDTH)).astype(np.float16)
        for start in range(0, length, PAGE):
            piece = sequence[:, start : start + PAGE]
            pool[row[start // PAGE], :, : piece.shape[1]] = piece
        sequences.append(sequence.astype(np.float64))
    return ag.pages(pool, TABLE, LENGTHS), sequences


@pytest.fixture
def query():
    return np.random.default_rng(1).standard_normal((3, 4, 3, WIDTH), dtype="float32")


WEIGHT = np.random.default_rng(2).standard_normal((WIDTH, WIDTH)).astype("float32")
NEW = np.random.default_rng(3).standard_normal((3, 2, 1, WIDTH)).astype("float32")


def rotated(x, xp):
    return xp.concatenate([-x[..., WIDTH // 2 :], x[..., : WIDTH // 2]], -1)


WAYS = {
    "cast": (lambda x: x, lambda x, b: x),
    "scaled": (lambda x: 2 * x - 1, lambda x, b: 2 * x - 1),
    "projected": (lambda x: x @ WEIGHT, lambda x, b: x @ WEIGHT.astype("float64")),
    "without gradient": (ag.stop_gradient, lambda x, b: x),
    "checkpointed": (ag.checkpoint(lambda x: 2 * x), lambda x, b: 2 * x),
    "normalised": (
        lambda x: x / ag.sqrt(ag.sum(x**2, axis=-1, keepdims=True) + 1),
        lambda x, b: x / np.sqrt((x**2).sum(-1, keepdims=True) + 1),
    ),
    "fewer positions": (lambda x: x[:, :, :9], lambda x, b: x[:, :9]),
    "later positions": (lambda x: x[:, :, 2:], lambda x, b: x[:, 2:]),
    "backwards": (lambda x: ag.flip(x, axis=2), lambda x, b: x[:, ::-1]),
    "picked": (
        lambda x: x[:, :, np.array([1, 4, 0, 7])],
        lambda x, b: x[:, [p for p in (1, 4, 0, 7) if p < x.shape[1]]],
    ),
    "joined": (lambda x: ag.concat([x, NEW], axis=2), lambda x, b: np.concatenate([x, NEW[b]], 1)),
    "rotated": (
        lambda x: ag.concat([-x[..., WIDTH // 2 :], x[..., : WIDTH // 2]], axis=-1),
        lambda x, b: rotated(x, np),
    ),
    "heads turned": (lambda x: x[:, ::-1], lambda x, b: x[::-1]),
    "turned twice": (lambda x: x.mT.mT, lambda x, b: x),
}


def attended(q, k, v):
    if not k.shape[-2]:
        return np.zeros((*q.shape[:-1], v.shape[-1]))
    scores = q.astype("float64") @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def repeated(x):
    return np.repeat(x, 2, axis=0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", WAYS)
def test_attention_sees_what_is_there(cache, query, name, compiled):
    paged, sequences = cache
    way, plain = WAYS[name]
    attend = lambda q: ag.attention(q, way(paged.astype("float32")), way(paged.astype("float32")), enable_gqa=True)  # noqa: E731
    found = ag.compile(attend)(query) if compiled else attend(query).compute()
    for place, sequence in enumerate(sequences):
        if name == "joined" or LENGTHS[place]:
            x = repeated(plain(sequence, place))
            np.testing.assert_allclose(found[place], attended(query[place], x, x), rtol=0, atol=TOLERANCE)


def test_one_of_both_is_enough(cache, query):
    paged, sequences = cache
    values = np.random.default_rng(4).standard_normal((3, 2, 12, WIDTH), dtype="float32")
    found = ag.attention(query, paged.astype("float32") * 1, values, enable_gqa=True).compute()
    for place, sequence in enumerate(sequences[:2]):
        wanted = attended(query[place], repeated(sequence), repeated(values[place, :, : LENGTHS[place]]))
        np.testing.assert_allclose(found[place], wanted, rtol=0, atol=TOLERANCE)


def test_pairs_of_a_sparse_mask_are_of_what_is_there(query):
    pool = np.full((3, 2, 64, WIDTH), np.nan, np.float32)
    pool[:, :, :40] = np.random.default_rng(7).standard_normal((3, 2, 40, WIDTH))
    paged = ag.pages(pool, np.arange(3)[:, None], np.full(3, 40))
    mask = ag.SparseMask.coo([0, 1, 1, 2], [39, 3, 40, 63], (3, 64))
    found = ag.attention(query, paged, paged, mask=mask, enable_gqa=True).compute()
    np.testing.assert_allclose(found[:, :, :2], pool.repeat(2, 1)[:, :, [39, 3]], rtol=0, atol=TOLERANCE)
    assert not found[:, :, 2].any()  # which sees nothing that is there


def test_quantized_pages(query):
    rng = np.random.default_rng(5)
    codes, scales = rng.integers(-128, 128, (6, 2, PAGE, WIDTH)).astype("int8"), rng.random((6, 2, PAGE, 1), "float32")
    data, scale = (ag.pages(each, TABLE, LENGTHS) for each in (codes, scales))
    x = ag.dequantize(data, scale) / 100
    found = ag.attention(query, x, x, enable_gqa=True).compute()
    for place, length in enumerate(LENGTHS[:2]):
        pages = TABLE[place, : -(-length // PAGE)]
        whole = np.concatenate([codes[page] * scales[page].astype("float64") / 100 for page in pages], 1)[:, :length]
        wanted = attended(query[place], repeated(whole), repeated(whole))
        np.testing.assert_allclose(found[place], wanted, rtol=0, atol=TOLERANCE)


def test_largest_scores_are_of_what_is_there(cache, query):
    paged, sequences = cache
    x = paged.astype("float32")
    found = ag.topk_attention(query, x, x, 5, enable_gqa=True).compute()
    wanted = attended(query[0], repeated(sequences[0]), repeated(sequences[0]))
    np.testing.assert_allclose(found[0], wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("features", ["elu+1", ag.random_features(16, seed=0)])
@pytest.mark.parametrize("is_cast", [False, True])
def test_linear_attention_sees_what_is_there(cache, query, features, is_cast):
    paged, sequences = cache
    q, x = (query, paged.astype("float32") * 1) if is_cast else (query.astype("float16"), paged)
    found = ag.linear_attention(q, x, x, feature_map=features, enable_gqa=True).compute()
    for place, sequence in enumerate(sequences[:2]):
        given = sequence[None].astype(q.dtype)
        wanted = ag.linear_attention(
            q[place : place + 1], given, given, feature_map=features, enable_gqa=True
        ).compute()
        np.testing.assert_allclose(found[place], wanted[0], rtol=0, atol=2e-6 if is_cast else 2e-3)
    assert not found[2].any()


def test_what_sums_positions_up_has_none(cache, query):
    paged, _ = cache
    mean = ag.mean(paged.astype("float32"), axis=2, keepdims=True)
    found = ag.attention(query, mean, mean, enable_gqa=True).compute()
    wanted = np.repeat(mean.compute(), 2, axis=1)
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), rtol=0, atol=TOLERANCE)


def test_gradients_are_of_what_is_there(query):
    pool = np.random.default_rng(6).standard_normal((6, 2, PAGE, WIDTH), dtype="float32")

    def total(pool):
        x = ag.pages(pool, TABLE.clip(0, 5), LENGTHS) * 2
        return ag.sum(ag.attention(query, x, x, enable_gqa=True) ** 2)

    gradient = ag.grad(total)(pool)
    gradient = np.asarray(gradient.compute() if isinstance(gradient, ag.Array) else gradient)
    assert not gradient[1, :, 1:].any()  # of the second page of the first sequence one position is there
    step = np.zeros_like(pool, np.float64)
    step[3, 1, 2, 4] = 1e-3
    with ag.config.set(target="reference64"):
        after, before = (float(ag.asarray(total(pool + sign * step.astype("float32"))).compute()) for sign in (1, -1))
    assert abs((after - before) / 2e-3 - gradient[3, 1, 2, 4]) < 1e-2
