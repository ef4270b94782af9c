"""Hidden positions and blame. What they mean for products is tested in tests/ops/test_linear_algebra.py."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.careful import (
    EMPTY,
    HIDDEN,
    Careful,
    Court,
    adds_nothing,
    blame_of_any,
    clear,
    none_if_empty,
)
from attngraph.engine.interpreter import interpret
from checks import TARGETS, check, data, evaluations

INF = np.inf
NODE = (ag.asarray(np.float32([1, 2])) + 1).node


def levels(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def blames(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_nothing_hidden_is_zeros_in_the_values_shape():
    plain = Careful(np.ones((2, 3)))
    assert plain.full_hidden().shape == plain.full_blame().shape == (2, 3)
    assert not plain.full_hidden().any()
    assert not plain.full_blame().any()
    assert plain.contribution() is plain.value


def test_levels_and_blame_broadcast():
    value = Careful(np.zeros((2, 3)), levels(0, 1, 2), blames(0, 4, 0))
    assert value.full_hidden().tolist() == [[0, 1, 2]] * 2
    assert value.full_blame().tolist() == [[0, 4, 0]] * 2


def test_zeros_and_infinities_are_told_apart():
    value = Careful(np.array([0, -INF, np.nan, INF, 5, -INF]), levels(1, 1, 2, 1, 0, 0))
    assert value.hidden_zeros().tolist() == [HIDDEN, 0, EMPTY, HIDDEN, 0, 0]
    assert value.hidden_infinities().tolist() == [0, HIDDEN, 0, 0, 0, 0]
    np.testing.assert_array_equal(value.contribution(), [0, -INF, 0, 0, 5, -INF])


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool"])
def test_integers_have_no_infinities(dtype):
    value = Careful(np.ones(2, dtype), levels(0, 1))
    assert value.hidden_infinities().tolist() == [0, 0]
    assert value.contribution().tolist() == [1, 0]


def test_what_a_mask_writes_adds_nothing():
    assert adds_nothing(np.array([0.0, -0.0, -INF, INF, np.nan, 1])).tolist() == [True, True, True, False, False, False]
    assert adds_nothing(np.array([0, 1])).tolist() == [True, False]


def test_empty_levels_are_none():
    assert none_if_empty(levels(0, 0)) is None
    assert none_if_empty(None) is None
    assert none_if_empty(np.zeros(0, np.uint8)) is None
    assert none_if_empty(levels(0, 1)).tolist() == [0, 1]


def test_blame_of_any_and_its_clearing():
    values = [
        Careful(np.zeros((2, 1)), None, blames(1, 0)[:, None]),
        Careful(np.zeros(2)),
        Careful(np.zeros(2), None, blames(0, 2)),
    ]
    assert blame_of_any(values, (2, 2)).tolist() == [[1, 2], [0, 2]]
    assert blame_of_any(values[1:2], (2,)) is None
    assert clear(blames(1, 2), levels(1, 0)).tolist() == [0, 2]
    assert clear(blames(1, 2), None).tolist() == [1, 2]
    assert clear(None, levels(1, 0)) is None


def test_the_court_raises_the_first_accusation_that_a_result_depends_on():
    court = Court(check_finite=False)
    numbers = [
        court.accuse(NODE, error, text) for error, text in ((ag.IndexOutOfRangeError, "a"), (ag.NonFiniteError, "b"))
    ]
    assert numbers == [1, 2]
    court.judge([])
    court.judge([Careful(np.zeros(2)), Careful(np.zeros(2), None, blames(0, 0)), Careful(np.zeros(0), None, blames())])
    with pytest.raises(ag.NonFiniteError, match="b") as caught:
        court.judge([Careful(np.zeros(2), None, blames(0, 2))])
    assert caught.value.line == NODE.lines[0]
    with pytest.raises(ag.IndexOutOfRangeError, match="a"):
        court.judge([Careful(np.zeros(2), None, blames(0, 2)), Careful(np.zeros(2), None, blames(1, 0))])


X = ag.asarray(np.float32([np.nan, 2, 3]))
SEEN = ag.asarray(np.array([False, True, True]))
TABLE = ag.asarray(np.arange(3, dtype=np.float32))
BAD = TABLE[np.array([7, 1, 2])]

# Each adds up, with weights of 1 and values of 2 and 3 where the mask lets through, to the same 5.
FIVES = {
    "where of values": lambda: ag.sum(ag.where(SEEN, X, 0)),
    "where of weights": lambda: ag.sum(ag.where(SEEN, 1.0, 0) * X),
    "weights from the right": lambda: ag.sum(X * ag.where(SEEN, 1.0, 0)),
    "negative, twice": lambda: -ag.sum(-ag.where(SEEN, 1.0, 0) * X),
    "quotient": lambda: ag.sum(ag.where(SEEN, X, 0) / ag.where(SEEN, X, 0) * X),
    "quotient of hidden": lambda: ag.sum(ag.where(SEEN, 2.0, 0) / 2 * X),
    "sum of hidden": lambda: ag.sum((ag.where(SEEN, 0.5, 0) + ag.where(SEEN, 0.5, 0)) * X),
    "difference of hidden": lambda: ag.sum((ag.where(SEEN, 1.5, 0) - ag.where(SEEN, 0.5, 0)) * X),
    "exp of -inf": lambda: ag.sum(ag.exp(ag.where(SEEN, 0.0, -INF)) * X),
    "exp of -inf, shifted": lambda: ag.sum(ag.exp(ag.where(SEEN, 1.0, -INF) - 1) * X),
    "exp of -inf, scaled": lambda: ag.sum(ag.exp(ag.where(SEEN, 0.0, -INF) * 3) * X),
    "exp of -inf plus what is not finite": lambda: ag.sum(
        ag.exp(ag.where(SEEN, 0.0, -INF) + ag.where(SEEN, 0.0, X)) * X
    ),
    "power": lambda: ag.sum(ag.where(SEEN, 1.0, 0) ** 3 * X),
    "maximum": lambda: ag.sum(ag.maximum(ag.where(SEEN, 1.0, -INF), 0) * X),
    "minimum": lambda: ag.sum(ag.minimum(0, ag.where(SEEN, -1.0, 0)) * -X),
    "comparison": lambda: ag.sum((ag.where(SEEN, 1.0, 0) > 0.5) * X),
    "abs, sqrt, square": lambda: ag.sum(ag.sqrt(ag.square(ag.abs(ag.where(SEEN, -1.0, 0)))) * X),
    "cast": lambda: ag.sum(ag.where(SEEN, 1, 0).astype("float16").astype("float32") * X),
    "of both hidden sides": lambda: ag.sum(ag.maximum(ag.where(SEEN, 1.0, 0), ag.where(SEEN, 0.5, 0)) * X),
    "moved": lambda: ag.sum(ag.flip(ag.roll(ag.where(SEEN, 1.0, 0) * X, 1)).reshape(3, 1).mT),
    "a running sum": lambda: ag.cumulative_sum(ag.where(SEEN, 1.0, 0) * X)[-1],
    "a mean": lambda: ag.mean(ag.where(SEEN, 3.0, 0) * X),
    "a maximum": lambda: ag.max(ag.where(SEEN, X, -INF)) + 2,
    "an index": lambda: ag.sum(ag.where(SEEN, BAD, 0)) + 2,
    "an index, from a weight": lambda: ag.sum(ag.where(SEEN, 1.0, 0) * BAD) + 2,
}


@pytest.mark.parametrize("name", FIVES)
def test_what_is_hidden_adds_nothing(name):
    check(FIVES[name](), np.float32(5))


# The zero here is not, or not only, what a mask wrote.
NANS = {
    "a plain 0": lambda: ag.sum(ag.asarray(np.float32([0, 1, 1])) * X),
    "a cast mask": lambda: ag.sum(SEEN * X),
    "a 0 among the values": lambda: ag.sum(ag.where(SEEN, 1.0, np.zeros(3, np.float32)) * X),
    "the other branch": lambda: ag.sum(ag.where(SEEN, 0.0, 1.0) * X),
    "cos of 0": lambda: ag.sum(ag.cos(ag.where(SEEN, 1.0, 0)) * X),
    "1 - 1": lambda: ag.sum((1 - ag.where(SEEN, 0.0, 1.0)) * X),
    "0 + 0": lambda: ag.sum((ag.where(SEEN, 1.0, 0) + np.zeros(3, np.float32)) * X),
    "a maximum with a visible 0": lambda: ag.sum(ag.maximum(ag.where(SEEN, 1.0, 0), np.zeros(3, np.float32)) * X),
    "exp that vanishes": lambda: ag.sum(ag.exp(ag.where(SEEN, 0.0, -1e9)) * X),
    "a sum of NaN": lambda: ag.sum(X),
    "plus NaN": lambda: ag.sum(ag.where(SEEN, 1.0, 0) * X + X),
}


@pytest.mark.parametrize("name", NANS)
def test_a_zero_that_counts_is_ieees(name):
    check(NANS[name](), np.float32(np.nan))


NONE = ag.zeros((2, 3), dtype=bool)
ROW = data((2, 3))


@pytest.mark.parametrize(
    "expression",
    [
        lambda s: ag.sum(ag.where(NONE, s, 0), 1) / ag.sum(ag.where(NONE, 1.0, 0), 1),
        lambda s: ag.sum(ag.exp(ag.where(NONE, s, -INF)) * s, 1) / ag.sum(ag.exp(ag.where(NONE, s, -INF)), 1),
        lambda s: (ag.where(NONE, s, 0) @ s[0]) * np.float32(INF),
        lambda s: (ag.where(NONE, s, 0) @ s[0]) / 0.0,
        lambda s: ag.softmax(ag.where(NONE, s, -INF)) @ s[0],
        lambda s: ag.sum(ag.softmax(ag.where(NONE, s, -INF)), 1),
        lambda s: ag.exp(ag.logsumexp(ag.where(NONE, s, -INF), 1)),
        lambda s: ag.exp(ag.max(ag.where(NONE, s, -INF), 1)),
    ],
)
@pytest.mark.parametrize("bad", [1, np.nan, INF])
def test_rows_with_nothing_to_attend_to_give_zeros(expression, bad):
    check(expression(ag.asarray(ROW * np.float32(bad))), np.zeros(2, np.float32))


def test_the_careful_path_changes_nothing_that_needs_no_care():
    x, y = data((4, 5)), data((4, 5), seed=1)
    alone = ag.exp(ag.asarray(x) @ y.T) / 3
    values = alone.compute()
    beside, _ = ag.compute(alone, ag.log(ag.asarray(np.float32([-1]))))
    np.testing.assert_allclose(beside, values, rtol=1e-5)


def test_explicit_casts_round_in_the_careful_path_too():
    x = ag.asarray(np.float32([0.1, 1e5, np.nan]))
    for target in ("native", "reference"):
        with ag.config.set(target=target):
            result = x.astype("float16").astype("float32").compute()
        np.testing.assert_array_equal(result, np.float32([np.float16(0.1), np.inf, np.nan]))
    with ag.config.set(target="reference64"):
        np.testing.assert_array_equal(x.astype("float16").compute(), np.float32([0.1, 1e5, np.nan]).astype(float))


def test_check_finite_is_asked_of_the_court():
    query = ag.asarray(np.float32([[1, np.nan]]))
    lazy = ag.scaled_dot_product_attention(query, query, query)
    with pytest.raises(ag.NonFiniteError, match="query"):
        interpret([lazy.node], {}, check_finite=True)
    assert np.isnan(interpret([lazy.node], {}, check_finite=False)[0]).any()


def test_one_of_several_results_is_to_blame():
    good, bad = ag.sum(TABLE), ag.sum(BAD)
    for target in TARGETS:
        with ag.config.set(target=target):
            with pytest.raises(ag.IndexOutOfRangeError):
                ag.compute(good, bad)
            assert ag.compute(good, ag.where(False, bad, 1))[1] == 1


def test_targets_agree_where_scores_are_lost_in_a_bias():
    least = np.finfo(np.float32).min
    scores = ag.asarray(data((3, 4))) + ag.where(ag.arange(4) < 2, 0.0, least)
    for result in evaluations(ag.softmax(scores + scores)).values():
        np.testing.assert_allclose(result.sum(1), 1, rtol=1e-6)
        assert (result[:, 2:] == 0).all()
