import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, INTEGERS, TARGETS, check, check_raises, data, evaluations
from strategies import LAYOUTS, laid_out

LENGTHS = (0, 1, 2, 3, 5)


def index_arrays(length: int, ahead: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Indices into an axis, of a shape that broadcasts to ``ahead``."""

    @st.composite
    def arrays(draw: st.DrawFn) -> np.ndarray:
        kept = draw(st.integers(0, len(ahead)))
        shape = tuple(draw(st.sampled_from((each, 1))) for each in ahead[len(ahead) - kept :])
        dtype = draw(st.sampled_from(INTEGERS))
        least = 0 if dtype.startswith("u") else -length
        seed = draw(st.integers(0, 99))
        if not length and 0 not in shape:
            shape = (0,)
        return np.random.default_rng(seed).integers(least, max(length, least + 1), shape).astype(dtype)

    return arrays()


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """A NumPy index for an array of this shape, and the same with some of its arrays lazy or as lists."""
    ahead = draw(st.sampled_from(((), (2,), (1,), (3, 2), (0,))))
    ours: list[Any] = []
    numpys: list[Any] = []

    def put(item: Any, lazy: Any = None) -> None:
        numpys.append(item)
        ours.append(item if lazy is None else lazy)

    axis, dotted = 0, False
    stop = draw(st.integers(0, len(shape)))
    while axis < stop:
        length = shape[axis]
        kind = draw(st.sampled_from(("slice", "integer", "array", "lazy", "list", "mask", "none", "dots")))
        if kind == "none":
            put(None)
            continue
        if kind == "dots":
            if not dotted:
                dotted = True
                axis += draw(st.integers(0, len(shape) - stop))
                put(Ellipsis)
            continue
        if kind == "slice":
            bound = st.none() | st.integers(-7, 7)
            put(slice(draw(bound), draw(bound), draw(st.none() | st.sampled_from((1, 2, 3, -1, -2, -7)))))
        elif kind == "integer" and length:
            put(draw(st.sampled_from((int, np.int64)))(draw(st.integers(-length, length - 1))))
        elif kind == "mask":
            spanned = draw(st.integers(1, len(shape) - axis))
            mask = data(shape[axis : axis + spanned], "bool", draw(st.integers(0, 99)))
            assume(mask.size)  # NumPy takes one without elements for an array of integers
            put(mask, mask.tolist() if draw(st.booleans()) else None)
            axis += spanned - 1
        else:
            indices = draw(index_arrays(length, ahead))
            as_list = kind == "list" and indices.ndim and indices.size
            put(indices, indices.tolist() if as_list else ag.asarray(indices) if kind == "lazy" else None)
        axis += 1
    if not dotted and draw(st.booleans()):
        put(Ellipsis)
    if len(numpys) == 1 and draw(st.booleans()):
        return numpys[0], ours[0]
    return tuple(numpys), tuple(ours)


@given(st.data())
def test_indexing_is_numpys(draw):
    shape = tuple(draw.draw(st.lists(st.sampled_from(LENGTHS), max_size=4)))
    x = laid_out(
        np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape), draw.draw(st.sampled_from(LAYOUTS))
    )
    theirs, ours = draw.draw(keys(shape))
    try:
        expected = x[theirs]
    except IndexError:
        with pytest.raises((ag.ShapeError, ag.IndexOutOfRangeError)):
            assume(ag.asarray(x)[ours].compute().size)  # of a result without elements none is out of range
        return
    check(ag.asarray(x)[ours], expected)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[0, :, [1, 2]],
        np.s_[:, 0, [1, 2]],
        np.s_[[0, 1], :, 1],
        np.s_[:, [0, 1], 1],
        np.s_[0, None, [1, 2]],
        np.s_[:, 0, ..., [1, 2]],
        np.s_[[0, 1], None, [1, 2]],
        np.s_[..., [[0], [1]], [1, 2]],
        np.s_[:, :, [[0, 1]]],
        np.s_[:, [[0], [1]], :],
        np.s_[np.array(1), :, [1, 2]],
        np.s_[[True, False, True], :, 0],
        np.s_[np.ones((3, 4), bool), -1],
        np.s_[..., np.array([True, False] * 2 + [True])],
    ],
    ids=str,
)
def test_new_axes_stand_where_numpy_puts_them(key):
    x = data((3, 4, 5))
    check(ag.asarray(x)[key], x[key])
    wider = data((2, 3, 4, 5))
    check(ag.asarray(wider)[:, *key] if key[0] is not Ellipsis else ag.asarray(wider)[key], wider[:, *key])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gathers_keep_every_type(dtype):
    x = data((4, 3), dtype)
    places = np.array([[3, -4], [0, 1]])
    check(ag.asarray(x)[places], x[places])
    check(ag.asarray(x)[::-2, 1], x[::-2, 1])


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("length", [1, 100, 128, 300, 40_000])
def test_an_axis_may_be_longer_than_the_indices_type(dtype, length):
    limits = np.iinfo(dtype)
    places = np.array([0, min(limits.max, length - 1), max(limits.min, -length)]).astype(dtype)
    x = np.arange(length)
    check(ag.asarray(x)[places], x[places])
    check(ag.asarray(x)[ag.asarray(places)], x[places])


LINE = np.arange(5, dtype=np.float32)
BAD = np.array([0, 1, 2, 9])
COUNTS = ag.arange(4) < 3  # where an index of BAD is right


@pytest.mark.parametrize("place", [5, -6, 2**40, -(2**70), np.int8(-6), np.uint64(2**63)])
def test_plain_integers_out_of_range_raise_at_once(place):
    check_raises(ag.IndexOutOfRangeError, "is out of range for axis 0 of float32", lambda: ag.asarray(LINE)[place])
    check_raises(ag.IndexOutOfRangeError, "for axis 1", lambda: ag.asarray(LINE)[None][:, place])
    if isinstance(place, int):
        check_raises(IndexError, "out of range", lambda: ag.take(LINE, place))


@pytest.mark.parametrize(
    ("indices", "named"),
    [
        (np.array([0, 9]), 9),
        (np.array([0, -6]), -6),
        (np.array([5], np.uint8), 5),
        (np.array([2**63 + 1], np.uint64), 2**63 + 1),
        (np.array([-128, 1], np.int8), -128),
        (np.array(7), 7),
        (np.array([np.iinfo(np.int64).min]), np.iinfo(np.int64).min),
        ([[1, 2], [3, 5]], 5),
    ],
    ids=str,
)
@pytest.mark.parametrize("target", TARGETS)
def test_arrays_out_of_range_raise_at_evaluation_and_name_the_line(indices, named, target):
    table = ag.asarray(LINE)
    # Two on one line, and a third that is made of them.
    result, line = ag.exp(table[indices]) + 1, sys._getframe().f_lineno
    with ag.config.set(target=target), pytest.raises(ag.IndexOutOfRangeError) as caught:
        result.compute()
    assert f"index {named} is out of range for axis 0 of float32[5], of length 5" in str(caught.value)
    assert f"{__file__}:{line}" in str(caught.value)


def gathered() -> ag.Array:
    return ag.asarray(LINE)[BAD]


ROWS = data((4, 2))
SCORES = data((4, 4), seed=1)
I, J = ag.arange(4)[:, None], ag.arange(4)[None, :]

# Each with the values that the index out of range could have, as if it were in range.
HARMLESS = {
    "where": lambda g: ag.where(COUNTS, g, 7),
    "where, another array": lambda g: ag.where(COUNTS, g, ROWS[:, 0]),
    "where, reversed": lambda g: ag.where(~COUNTS, 0, g),
    "where of where": lambda g: ag.where(COUNTS, ag.where(COUNTS, g, 0) * 2, 1),
    "after arithmetic": lambda g: ag.where(COUNTS, ag.exp(g) * 3 - g, 0),
    "times a mask's 0": lambda g: ag.where(COUNTS, 1.0, 0) * g,
    "sum": lambda g: ag.sum(ag.where(COUNTS, g, 0)),
    "mean": lambda g: ag.mean(ag.where(COUNTS, g, 0)),
    "max": lambda g: ag.max(ag.where(COUNTS, g, -ag.inf)),
    "argmax": lambda g: ag.argmax(ag.where(COUNTS, g, -ag.inf)),
    "topk": lambda g: ag.topk(ag.where(COUNTS, g, -ag.inf), 2)[0],
    "sort": lambda g: ag.sort(ag.where(COUNTS, g, -ag.inf)),
    "logsumexp": lambda g: ag.logsumexp(ag.where(COUNTS, g, -ag.inf)),
    "slice": lambda g: g[:3],
    "slice of a join": lambda g: ag.concat([g, g])[4:7],
    "running sum before it": lambda g: ag.cumulative_sum(g)[:3],
    "segments without it": lambda g: ag.segment_sum(g, np.array([0, 1, 1, 2]), 3)[:2],
    "scores": lambda g: ag.softmax(ag.where(COUNTS, SCORES + g, -ag.inf)) @ ROWS,
    "scores, by hand": lambda g: ag.exp(ag.where(COUNTS, SCORES + g, -ag.inf)) @ ROWS,
    "keys": lambda g: ag.softmax(ag.where(COUNTS, SCORES * g[None, :], -ag.inf)) @ ROWS,
    "values": lambda g: ag.softmax(ag.where(COUNTS, SCORES, -ag.inf)) @ (ROWS * g[:, None]),
    "values, plain weights": lambda g: ag.where(COUNTS, SCORES, 0) @ g,
    "values, from the right": lambda g: g @ ag.where(COUNTS, SCORES, 0).mT,
    "integers": lambda g: ag.where(COUNTS, I + J, 0) @ g.astype("int64"),
    "booleans": lambda g: ag.where(COUNTS, I < J, False) @ (g > 1),
    "einsum": lambda g: ag.einsum("ij,j,jd->id", ag.where(COUNTS, SCORES, 0), g, ROWS),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_an_index_out_of_range_where_it_does_not_count_is_no_error(name):
    expected = evaluations(HARMLESS[name](ag.asarray(LINE)[np.where(BAD > 4, 0, BAD)]))
    for target, result in evaluations(HARMLESS[name](gathered())).items():
        np.testing.assert_allclose(result, expected[target], rtol=1e-5, err_msg=target)


GUILTY = {
    "sum": ag.sum,
    "a sum that hides too little": lambda g: ag.sum(ag.where(ag.arange(4) > 0, g, 0)),
    "times a plain 0": lambda g: ag.asarray(np.float32([1, 1, 1, 0])) * g,
    "condition": lambda g: ag.where(g > 1, 1, 2),
    "comparison": lambda g: g > 1,
    "argmax": ag.argmax,
    "sort, and any part of it": lambda g: ag.sort(g)[:1],
    "running sum": lambda g: ag.cumulative_sum(g)[3:],
    "scores": lambda g: ag.softmax(SCORES + g) @ ROWS,
    "hidden too late": lambda g: ag.where(COUNTS, ag.softmax(SCORES + g), 0),
    "values": lambda g: ag.softmax(ag.asarray(SCORES)) @ (ROWS * g[:, None]),
    "a row that is seen": lambda g: ag.where(I <= J, SCORES, 0) @ g,
    "segments": lambda g: ag.segment_max(g, np.array([0, 0, 1, 1]), 2),
    "an index of an index": lambda g: ag.asarray(LINE)[g.astype("int32")],
}


@pytest.mark.parametrize("name", GUILTY)
@pytest.mark.parametrize("target", TARGETS)
def test_an_index_out_of_range_where_it_counts_is_an_error(name, target):
    with ag.config.set(target=target), pytest.raises(ag.IndexOutOfRangeError, match="index 9 is out of range"):
        GUILTY[name](gathered()).compute()


def test_relative_tables_are_looked_up_where_the_mask_lets_through():
    table = data((4,))
    lookup = ag.asarray(table)[I - J]
    check(ag.where(I >= J, lookup, 0), np.tril(table[(np.arange(4)[:, None] - np.arange(4)) % 4]))
    with pytest.raises(ag.IndexOutOfRangeError):
        ag.where(I >= J - 1, ag.asarray(table)[I - J + 3], 0).compute()


def test_an_empty_axis_has_nothing_to_give():
    empty = ag.asarray(np.zeros((0, 2)))
    check(empty[np.zeros(0, int)], np.zeros((0, 2)))
    check(empty[np.zeros((3, 0), int)], np.zeros((3, 0, 2)))
    check(ag.where(ag.asarray([[False], [False]]), empty[np.array([0, 1])], 5), np.full((2, 2), 5.0))
    with pytest.raises(ag.IndexOutOfRangeError, match="of length 0"):
        empty[np.array([0])].compute()
    with pytest.raises(ag.IndexOutOfRangeError, match="of length 0"):
        empty[0]


def test_indices_are_read_at_evaluation():
    places = np.array([0, 1])
    lazy = ag.asarray(LINE)[places]
    places[:] = 4, 3
    check(lazy, LINE[[4, 3]])
    places[:] = 5
    with pytest.raises(ag.IndexOutOfRangeError):
        lazy.compute()


def test_lists_may_hold_lazy_indices():
    x = data((4, 3))
    check(ag.asarray(x)[[ag.asarray(1), 3]], x[[1, 3]])


@pytest.mark.parametrize(
    ("shape", "indices", "axis"),
    [((4, 3), [2, -1], 0), ((4, 3), [[0, 1], [2, 0]], 1), ((4, 3), 1, 1), ((4, 3), -1, 0), ((5,), [4, 0], None)],
)
def test_take_equals_numpy(shape, indices, axis):
    x = data(shape)
    check(ag.take(x, indices, axis=axis), np.take(x, indices, axis=axis))
    check(ag.take(ag.asarray(x), ag.asarray(indices), axis=axis), np.take(x, indices, axis=axis))
    check(np.take(ag.asarray(x), np.array(indices), axis), np.take(x, indices, axis=axis))


@pytest.mark.parametrize(
    ("shape", "places", "axis"),
    [
        ((4, 3), (4, 2), -1),
        ((4, 3), (2, 3), 0),
        ((4, 3), (1, 5), 1),
        ((1, 3), (4, 2), 1),
        ((2, 4, 3), (2, 1, 3), 1),
        ((3,), (7,), 0),
        ((0, 3), (0, 2), 1),
    ],
)
def test_take_along_axis_equals_numpy(shape, places, axis):
    x = data(shape)
    indices = np.random.default_rng(0).integers(-shape[axis], shape[axis], places)
    check(ag.take_along_axis(x, indices, axis=axis), np.take_along_axis(x, indices, axis))
    check(
        ag.take_along_axis(x, ag.asarray(indices), axis=axis % len(shape) - len(shape)),
        np.take_along_axis(x, indices, axis),
    )


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.ShapeError, r"3 indices for float32\[3, 4\] with 2 axes", lambda x: x[0, 0, 0]),
        (ag.ShapeError, "more than one ellipsis", lambda x: x[..., ...]),
        (ag.ShapeError, "step 0", lambda x: x[::0]),
        (ag.ShapeError, "do not broadcast", lambda x: x[[0, 1], [0, 1, 2]]),
        (ag.ShapeError, r"mask of shape \(2,\) on axes of shape \(3,\)", lambda x: x[[True, False]]),
        (ag.ShapeError, r"mask of shape \(3,\) on axes of shape \(4,\)", lambda x: x[..., np.ones(3, bool)]),
        (ag.ShapeError, "3 indices", lambda x: x[:, np.ones((3, 4), bool)]),
        (ag.ShapeError, "mask of shape", lambda x: x[np.ones((4, 3), bool)]),
        (ag.ShapeError, "ragged", lambda x: x[[[0], [1, 2]]]),
        (ag.DTypeError, "boolean scalar", lambda x: x[True]),
        (ag.DTypeError, "boolean scalar", lambda x: x[np.array(True)]),
        (ag.DTypeError, "depends on the lazy mask", lambda x: x[x > 0]),
        (ag.DTypeError, "an array of integers, not", lambda x: x[1.0]),
        (ag.DTypeError, "an array of integers, not", lambda x: x[np.array([0.0])]),
        (ag.DTypeError, "getitem", lambda x: x["a"]),
        (ag.DTypeError, "bounds are integers", lambda x: x[0.5:]),
        (ag.TraceError, "bounds are integers now", lambda x: x[ag.asarray(1) :]),
        (ag.TraceError, "cannot be written to", lambda x: x.__setitem__(0, 1)),
        (ag.ShapeError, "say along which", lambda x: ag.take(x, [0])),
        (ag.ShapeError, "axis 2", lambda x: ag.take(x, [0], axis=2)),
        (ag.ShapeError, "differ in axes", lambda x: ag.take_along_axis(x, [0])),
        (ag.ShapeError, "do not match along axis 0", lambda x: ag.take_along_axis(x, np.zeros((2, 2), int), axis=1)),
        (ag.ShapeError, "axis 0 of an array with 0 axes", lambda x: ag.take_along_axis(1.0, 0, axis=0)),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call, ag.asarray(data((3, 4))))
