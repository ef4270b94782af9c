import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, FLOATS, INTEGERS, TARGETS, check, check_raises, data, evaluations, wide
from strategies import LAYOUTS, laid_out

IDS = np.array([2, 0, 2, 5, 0, 2, 5, 0])  # not sorted; segments 1, 3 and 4 are empty
COUNT = 6


def by_rows(name: str, values: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """What each operation says of itself, one segment after the other."""
    floats = values.dtype.kind == "f"
    result = []
    for segment in range(count):
        rows = values[ids == segment]
        if name == "segment_sum":
            result.append(rows.sum(0))
        elif name == "segment_mean":
            result.append(rows.sum(0) / max(len(rows), 1))
        else:
            least = -np.inf if floats else False if values.dtype.kind == "b" else np.iinfo(values.dtype).min
            result.append(rows.max(0, initial=least))
    return np.array(result).reshape(count, *values.shape[1:])


def softmax_by_rows(values: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    result = np.zeros(values.shape)
    for segment in range(count):
        rows = values[ids == segment].astype(float)
        if len(rows):
            largest = rows.max(0)
            weights = np.exp(rows - np.where(np.isneginf(largest), 0, largest))
            total = weights.sum(0)
            result[ids == segment] = weights / np.where(total == 0, 1, total)
    return result


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_mean"])
def test_reductions_by_rows(name, dtype):
    for tail in ((), (3,), (2, 1), (0,)):
        values = data((len(IDS), *tail), dtype)
        due = dtype
        if dtype not in FLOATS and name != "segment_max":
            due = "float32" if name == "segment_mean" else "uint64" if dtype.startswith("u") else "int64"
        expected = by_rows(name, wide(values), IDS, COUNT)
        expected = expected.astype(float) if due in FLOATS else expected.astype(due)
        check(getattr(ag, name)(ag.asarray(values), IDS, COUNT), expected, dtype=due, roundings=2, scale=1)


@pytest.mark.parametrize("dtype", ["bool", "int32", *FLOATS])
def test_softmax_by_rows(dtype):
    for tail in ((), (3,)):
        values = data((len(IDS), *tail), dtype)
        expected = softmax_by_rows(wide(values).astype(float), IDS, COUNT)
        due = dtype if dtype in FLOATS else "float32"
        check(ag.segment_softmax(values, ag.asarray(IDS), COUNT), expected, dtype=due, roundings=6)


@given(
    ids=st.lists(st.integers(0, 3), max_size=12),
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(("int8", "int32", "int64")),
)
def test_any_ids_in_any_layout(ids, layout, dtype):
    ids = laid_out(np.array(ids, dtype), layout)
    values = laid_out(data((len(ids), 2)), layout)
    for name in ("segment_sum", "segment_max", "segment_mean"):
        check(
            getattr(ag, name)(values, ids, 4),
            by_rows(name, wide(values), ids, 4),
            dtype="float32",
            roundings=2,
            scale=4,
        )
    check(ag.segment_softmax(values, ids, 4), softmax_by_rows(wide(values), ids, 4), dtype="float32", roundings=6)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("count", [3, 200, 70_000])
def test_there_may_be_more_segments_than_the_ids_type_counts(dtype, count):
    ids = np.array([0, 2, 1, 2], dtype)
    expected = np.zeros(count)
    np.add.at(expected, ids.astype(int), np.arange(4.0))
    check(ag.segment_sum(np.arange(4.0), ids, count), expected)


def test_nothing_at_all():
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, int)
    check(ag.segment_sum(*nothing, 3), np.zeros((3, 2), np.float32))
    check(ag.segment_max(*nothing, 3), np.full((3, 2), -np.inf, np.float32))
    check(ag.segment_mean(*nothing, 3), np.zeros((3, 2), np.float32))
    check(ag.segment_softmax(*nothing, 3), np.zeros((0, 2), np.float32))
    check(ag.segment_sum(*nothing, 0), np.zeros((0, 2), np.float32))


def test_small_integers_do_not_wrap_and_floats_are_rounded_once():
    check(ag.segment_sum(np.full(3, 100, np.int8), [0, 0, 0], 1), [300])
    check(ag.segment_sum([True, True, False], [0, 0, 1], 2), [2, 0])
    check(ag.segment_sum(np.float32([2**25, 1, -(2**25)]), [0, 0, 0], 1), np.float32([1]))
    most = np.finfo(np.float32).max / 2
    check(ag.segment_mean(np.float32([most] * 5), [0] * 5, 1), np.float32([most]))


def test_minus_infinity_alone_gives_zeros():
    scores = np.float32([-np.inf, -np.inf, 1, -np.inf])
    check(ag.segment_softmax(scores, [0, 0, 1, 1], 3), np.float32([0, 0, 1, 0]))


def test_huge_scores():
    scores = np.float32([1e38, 1e38, -1e38, 3e38])
    check(ag.segment_softmax(scores, [0, 0, 0, 1], 2), np.float32([0.5, 0.5, 0, 1]))


def test_nan_stays_in_its_segment():
    values = np.float32([1, np.nan, 2, 3])
    check(ag.segment_sum(values, [0, 0, 1, 1], 2), np.float32([np.nan, 5]))
    check(ag.segment_max(values, [0, 0, 1, 1], 2), np.float32([np.nan, 3]))
    check(ag.segment_softmax(values, [0, 0, 1, 1], 2)[:2], np.float32([np.nan, np.nan]))


EDGES = np.array([0, 1, 0, 1])


def test_what_a_mask_hides_adds_nothing():
    seen = ag.asarray(np.array([True, True, True, False]))
    values = np.float32([1, 2, 3, np.nan])
    check(ag.segment_sum(ag.where(seen, 1.0, 0) * values, EDGES, 3), np.float32([4, 2, 0]))
    check(ag.segment_mean(ag.where(seen, 1.0, 0) * values, EDGES, 2), np.float32([2, 1]))
    weights = ag.segment_softmax(ag.where(seen, 0.0, -ag.inf), EDGES, 2)
    check(weights, np.float32([0.5, 1, 0.5, 0]))
    check(ag.segment_sum(weights * values, EDGES, 2), np.float32([2, 2]))
    check(ag.segment_sum(ag.asarray(np.float32([1, 1, 1, 0])) * values, EDGES, 2), np.float32([4, np.nan]))
    check(ag.segment_max(ag.where(seen, values, -ag.inf), EDGES, 3), np.float32([3, 2, -np.inf]))


SEEN = ag.arange(4) < 3
FEATURES = data((4, 2))
HARMLESS = {
    "sum": lambda ids: ag.segment_sum(ag.where(SEEN[:, None], FEATURES, 0), ids, 3),
    "max": lambda ids: ag.segment_max(ag.where(SEEN[:, None], FEATURES, -ag.inf), ids, 3),
    "softmax": lambda ids: ag.segment_softmax(ag.where(SEEN, FEATURES[:, 0], -ag.inf), ids, 3),
    "message": lambda ids: ag.segment_sum(
        ag.segment_softmax(ag.where(SEEN[:, None], FEATURES, -ag.inf), ids, 3) * FEATURES, ids, 3
    ),
}


@pytest.mark.parametrize("wrong", [3, 9, -1, -4, 2**40])
@pytest.mark.parametrize("name", HARMLESS)
def test_ids_out_of_range_where_all_is_hidden_are_no_error(wrong, name):
    good = evaluations(HARMLESS[name](np.array([0, 2, 0, 1])))
    for target, result in evaluations(HARMLESS[name](np.array([0, 2, 0, wrong]))).items():
        rows = slice(0, 3) if name == "softmax" else slice(None)
        np.testing.assert_allclose(result[rows], good[target][rows], rtol=1e-6, err_msg=target)
    lookup = ag.asarray(np.array([0, 2, 1]))[np.array([0, 1, 0, wrong])]
    for target, result in evaluations(HARMLESS[name](lookup)).items():
        rows = slice(0, 3) if name == "softmax" else slice(None)
        np.testing.assert_allclose(result[rows], good[target][rows], rtol=1e-6, err_msg=target)


@pytest.mark.parametrize("wrong", [3, -1, -4, 2**40])
@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_mean", "segment_softmax"])
@pytest.mark.parametrize("target", TARGETS)
def test_ids_out_of_range_are_an_error(wrong, name, target):
    ids = np.array([0, wrong, 1, 2])
    with (
        ag.config.set(target=target),
        pytest.raises(ag.IndexOutOfRangeError, match=f"{name}: segment id {wrong} is out of range") as caught,
    ):
        getattr(ag, name)(FEATURES, ids, 3).compute()
    assert __file__ in str(caught.value)
    # One row is seen in part.
    partly = ag.where(np.array([[True, True], [True, False], [True, True], [True, True]]), FEATURES, 0)
    with ag.config.set(target=target), pytest.raises(ag.IndexOutOfRangeError):
        getattr(ag, name)(partly, ids, 3).compute()


def test_ids_of_an_unsigned_type_out_of_range():
    with pytest.raises(ag.IndexOutOfRangeError, match="18446744073709551615 is out of range for 3"):
        ag.segment_sum(np.ones(1), np.array([2**64 - 1], np.uint64), 3).compute()


@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_mean", "segment_softmax"])
@pytest.mark.parametrize(
    ("error", "words", "values", "ids", "count"),
    [
        (ag.DTypeError, "segment_ids are integers", np.ones(3), np.ones(3), 2),
        (ag.DTypeError, "segment_ids are integers", np.ones(3), np.ones(3, bool), 2),
        (ag.ShapeError, "segment_ids have one axis", np.ones((3, 1)), np.ones((3, 1), int), 2),
        (ag.ShapeError, "segment_ids have one axis", np.ones(3), 1, 2),
        (ag.ShapeError, "has not one row for each", np.ones(3), np.ones(2, int), 2),
        (ag.ShapeError, "has not one row for each", np.float32(1), np.ones(1, int), 2),
        (ag.ShapeError, "num_segments is -1", np.ones(3), np.ones(3, int), -1),
        (ag.DTypeError, "num_segments is an integer", np.ones(3), np.ones(3, int), 2.0),
        (ag.DTypeError, "num_segments is an integer", np.ones(3), np.ones(3, int), None),
    ],
)
def test_errors(name, error, words, values, ids, count):
    check_raises(error, words, getattr(ag, name), values, ids, count)
