import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, check, check_raises, data, shapes_for, wide
from strategies import LAYOUTS, laid_out


def order(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """Stable, by definition: each element counted by what comes before it. NaN is the largest."""
    keys = np.moveaxis(wide(x), axis, -1)
    before, after = keys[..., :, None], keys[..., None, :]
    nan_before, nan_after = (np.isnan(each) if keys.dtype.kind == "f" else np.False_ for each in (before, after))
    less = (before > after) | (nan_before & ~nan_after) if descending else (before < after) | (~nan_before & nan_after)
    same = (before == after) | (nan_before & nan_after)
    length = keys.shape[-1]
    place = (less | (same & (np.arange(length)[:, None] < np.arange(length)))).sum(-2)
    result = np.zeros(keys.shape, np.int64)
    np.put_along_axis(result, place, np.broadcast_to(np.arange(length), keys.shape), -1)
    return np.moveaxis(result, -1, axis)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("descending", [False, True])
def test_orders_are_stable_in_every_type(dtype, descending):
    for shape in shapes_for(dtype)[1:]:
        x = data(shape, dtype)
        for axis in range(-len(shape), len(shape)):
            places = order(x, axis, descending)
            check(ag.argsort(ag.asarray(x), axis=axis, descending=descending), places)
            check(ag.sort(x, axis=axis, descending=descending), np.take_along_axis(x, places, axis))


VALUES = st.sampled_from((0.0, -0.0, 1.0, 2.0, -1.0, np.nan, np.inf, -np.inf))


@given(
    values=st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=6),
    layout=st.sampled_from(LAYOUTS),
    axis=st.sampled_from((0, 1)),
    descending=st.booleans(),
    share=st.floats(0, 1),
)
def test_ties_nan_and_infinities(values, layout, axis, descending, share):
    x = laid_out(np.float32(values).reshape(-1, 3), layout)
    places = order(x, axis, descending)
    check(ag.argsort(x, axis=axis, descending=descending), places)
    check(ag.sort(x, axis=axis, descending=descending), np.take_along_axis(x, places, axis))
    k = int(share * x.shape[axis])
    best, chosen = ag.topk(x, k, axis, largest=descending)
    check(chosen, np.take(places, range(k), axis))
    check(best, np.take_along_axis(x, np.take(places, range(k), axis), axis))


def test_nan_comes_last_as_numpys_and_minus_zero_stays_itself():
    x = np.float32([3, np.nan, -np.inf, 0, -0.0, np.nan, np.inf])
    check(ag.sort(x), np.sort(x))
    check(ag.sort(x)[-2:], np.float32([np.nan, np.nan]))
    check(ag.sort(x, descending=True)[:2], np.float32([np.nan, np.nan]))
    np.testing.assert_array_equal(np.signbit(ag.sort(x).compute()[1:3]), [False, True])


def test_ties_go_to_the_lower_place():
    x = np.int8([[1, 7, 7, 0, 7], [2, 2, 2, 2, 2]])
    check(ag.topk(x, 2)[1], [[1, 2], [0, 1]])
    check(ag.topk(x, 2, largest=False)[1], [[3, 0], [0, 1]])
    check(ag.argsort(x, descending=True), [[1, 2, 4, 0, 3], [0, 1, 2, 3, 4]])


def test_numpys_functions():
    x = data((3, 4))
    lazy = ag.asarray(x)
    check(np.sort(lazy), np.sort(x))
    check(np.sort(lazy, axis=0), np.sort(x, axis=0))
    check(np.sort(lazy, axis=None), np.sort(x, axis=None))
    check(np.argsort(lazy, axis=0), np.argsort(x, axis=0))


def test_against_torch():
    torch = pytest.importorskip("torch")
    x = data((4, 9))
    best, places = ag.topk(torch.from_numpy(x), 3)
    theirs = torch.topk(torch.from_numpy(x), 3)
    check(best, theirs.values.numpy())
    check(places, theirs.indices.numpy())


def test_topk_of_masked_scores_makes_a_sparse_attention():
    scores, values = data((4, 6)), data((6, 2), seed=1)
    values[4:] = np.nan
    masked = ag.where(ag.arange(6) < 4, scores, -ag.inf)
    best, places = ag.topk(masked, 2)
    weights = ag.softmax(best)
    expected = np.exp(np.sort(scores[:, :4].astype(float))[:, ::-1][:, :2])
    expected /= expected.sum(-1, keepdims=True)
    gathered = values[np.argsort(-scores[:, :4], axis=-1)[:, :2]]
    result = (weights[:, None, :] @ ag.asarray(values)[places])[:, 0]
    check(result, (expected[:, None] @ gathered)[:, 0], dtype="float32", roundings=8, scale=1)


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.LimitError, "k=4 of the 3 elements along axis 1", lambda x: ag.topk(x, 4)),
        (ag.LimitError, "k=3 of the 2 elements along axis 0", lambda x: ag.topk(x, 3, 0)),
        (ag.LimitError, "k=-1", lambda x: ag.topk(x, -1)),
        (ag.ArgumentError, "k is an integer, not 1.5", lambda x: ag.topk(x, 1.5)),
        (ag.TraceError, "compute", lambda x: ag.topk(x, ag.asarray(1))),
        (ag.ShapeError, "topk: axis 2", lambda x: ag.topk(x, 1, 2)),
        (ag.ShapeError, "0-d array has no axis", lambda x: ag.topk(1.0, 1)),
        (ag.ShapeError, "sort: axis -3", lambda x: ag.sort(x, axis=-3)),
        (ag.ShapeError, "0-d array has no axis", lambda x: ag.argsort(1.0)),
        (ag.ShapeError, "axis is an integer", lambda x: ag.sort(x, axis=None)),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call, ag.asarray(data((2, 3))))
