import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine.interpreter import interpret
from attngraph.engine.ir import walk
from attngraph.ops.arithmetic import Add
from attngraph.ops.joining import Concat, adjoined
from attngraph.ops.shape import Spread
from checks import DTYPES, check, check_raises, data
from strategies import LAYOUTS, laid_out

CASES = [
    ((2, 3), lambda xp, x: xp.concat([x, x], axis=0)),
    ((2, 3), lambda xp, x: xp.concat([x, x[:, :1], x[:, :0]], axis=-1)),
    ((2, 3), lambda xp, x: xp.concat((x, x[0]), axis=None)),
    ((), lambda xp, x: xp.concat((x, x), axis=None)),
    ((3,), lambda xp, x: xp.concat([x])),
    ((0, 3), lambda xp, x: xp.concat([x, x], axis=0)),
    ((2, 3), lambda xp, x: xp.stack([x, x + x], axis=0)),
    ((2, 3), lambda xp, x: xp.stack([x, x + x], axis=1)),
    ((2, 3), lambda xp, x: xp.stack((x,), axis=-1)),
    ((), lambda xp, x: xp.stack([x, x])),
    ((2, 3), lambda xp, x: xp.roll(x, 1)),
    ((2, 3), lambda xp, x: xp.roll(x, -4, axis=1)),
    ((2, 3), lambda xp, x: xp.roll(x, (1, 2), axis=(0, 1))),
    ((2, 3), lambda xp, x: xp.roll(x, 1, axis=(0, 1))),
    ((2, 3), lambda xp, x: xp.roll(x, (1, 1), axis=(1, 1))),
    ((2, 3), lambda xp, x: xp.roll(x, np.int64(10**12), axis=0)),
    ((0, 3), lambda xp, x: xp.roll(x, 5, axis=0)),
    ((), lambda xp, x: xp.roll(x, 5)),
    ((2, 3), lambda xp, x: xp.repeat(x, 2)),
    ((2, 3), lambda xp, x: xp.repeat(x, 0, axis=0)),
    ((2, 3), lambda xp, x: xp.repeat(x, [1, 0, 3], axis=1)),
    ((2, 3), lambda xp, x: xp.repeat(x, [2], axis=-1)),
    ((2, 3), lambda xp, x: xp.repeat(x, np.uint64(2) if xp is ag else 2, axis=-1)),
    ((0, 3), lambda xp, x: xp.repeat(x, 3, axis=0)),
    ((), lambda xp, x: xp.repeat(x, 3)),
    ((2, 3), lambda xp, x: xp.tile(x, 2)),
    ((2, 3), lambda xp, x: xp.tile(x, (2, 1, 3))),
    ((2, 3), lambda xp, x: xp.tile(x, ())),
    ((2, 3), lambda xp, x: xp.tile(x, (0, 2))),
    ((2, 3), lambda xp, x: xp.tile(x, np.array([2, 2]))),
    ((), lambda xp, x: xp.tile(x, (2, 3))),
    ((0,), lambda xp, x: xp.tile(x, 3)),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_joins_equal_numpy_in_every_type_and_layout(number):
    shape, join = CASES[number]
    for dtype, layout in [("float32", layout) for layout in LAYOUTS] + [(dtype, "plain") for dtype in DTYPES]:
        x = laid_out(data(shape, dtype), layout)
        check(join(ag, ag.asarray(x)), join(np, x))


@pytest.mark.parametrize("sections", [1, 3, 6, [2], [0, 6], [2, 4], [4, 2], [-1], [-4, -2], [9], [], np.array([1, 5])])
@pytest.mark.parametrize("axis", [0, -1])
def test_split_equals_numpy(sections, axis):
    x = data((6, 2, 6))
    parts = ag.split(ag.asarray(x), sections, axis=axis)
    expected = np.split(x, sections, axis=axis)
    assert len(parts) == len(expected)
    for part, array in zip(parts, expected, strict=True):
        check(part, array)


@pytest.mark.parametrize(("shape", "axis"), [((3, 2), 0), ((3, 2), -1), ((0, 2), 0), ((4,), 0)])
def test_unstack_undoes_stack(shape, axis):
    x = data(shape)
    parts = ag.unstack(x, axis=axis)
    assert len(parts) == shape[axis]
    for number, part in enumerate(parts):
        check(part, np.take(x, number, axis))
    if parts:
        check(ag.stack(parts, axis=axis), x)


@given(
    cuts=st.lists(st.integers(-8, 8), max_size=4),
    shifts=st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 1)), max_size=3),
)
def test_split_concat_and_roll_together(cuts, shifts):
    x = np.arange(35).reshape(5, 7)
    lazy = ag.concat(ag.split(x, cuts, axis=1), axis=1)
    expected = np.concatenate(np.split(x, cuts, axis=1), axis=1)
    for shift, axis in shifts:
        lazy, expected = ag.roll(lazy, shift, axis=axis), np.roll(expected, shift, axis)
    check(lazy, expected)


@pytest.mark.parametrize(
    ("parts", "dtype"),
    [
        (["int8", "int32"], "int32"),
        (["bool", "int8"], "int8"),
        (["int64", "float16"], "float16"),
        (["float16", "bfloat16"], "float32"),
        (["float32", "float64", "bool"], "float64"),
        (["uint8", "int8"], "int16"),
    ],
)
@pytest.mark.parametrize("join", [ag.concat, ag.stack])
def test_types_are_promoted(parts, dtype, join):
    arrays = [data((2,), part) for part in parts]
    expected = (np.concatenate if join is ag.concat else np.stack)([array.astype(float) for array in arrays])
    check(join(arrays), expected.astype(ag.asarray(0).astype(dtype).dtype))


def test_python_scalars_take_the_type_of_what_they_join():
    assert ag.stack([ag.asarray(np.float16(2).reshape(())), 1]).dtype == np.float16
    check(ag.stack([1, 2.5, True]), np.float32([1, 2.5, 1]))


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.ArgumentError, "sequence of one array or more", lambda x: ag.concat([])),
        (ag.ArgumentError, "sequence of one array or more", lambda x: ag.stack(None)),
        (ag.ShapeError, "differ beside axis 0", lambda x: ag.concat([x, x[:, :2]])),
        (ag.ShapeError, "differ beside axis 0", lambda x: ag.concat([x, x[0]])),
        (ag.ShapeError, "0-d array", lambda x: ag.concat([1.0, 2.0])),
        (ag.ShapeError, "axis 2", lambda x: ag.concat([x, x], axis=2)),
        (ag.DTypeError, "uint64", lambda x: ag.concat([data(2, "uint64"), data(2, "int8")])),
        (ag.ShapeError, "stack: shapes", lambda x: ag.stack([x, x[0]])),
        (ag.ShapeError, "axis 3", lambda x: ag.stack([x, x], axis=3)),
        (ag.ShapeError, "does not divide into 4", lambda x: ag.split(x, 4, axis=1)),
        (ag.ShapeError, "does not divide into 0", lambda x: ag.split(x, 0)),
        (ag.ArgumentError, "the number of parts is an integer", lambda x: ag.split(x, 1.5)),
        (ag.ArgumentError, "a place is an integer", lambda x: ag.split(x, [0.5])),
        (ag.ShapeError, "unstack|moveaxis", lambda x: ag.unstack(1.0)),
        (ag.ShapeError, "2 shifts for 1 axes", lambda x: ag.roll(x, (1, 2), axis=0)),
        (ag.ArgumentError, "a shift is an integer", lambda x: ag.roll(x, 0.5)),
        (ag.TraceError, "compute", lambda x: ag.roll(x, ag.asarray(1))),
        (ag.ShapeError, "2 counts for 3 elements", lambda x: ag.repeat(x, [1, 2], axis=1)),
        (ag.DTypeError, "not below 0", lambda x: ag.repeat(x, -1)),
        (ag.DTypeError, "counts are integers", lambda x: ag.repeat(x, 1.5)),
        (ag.DTypeError, "counts are numbers now", lambda x: ag.repeat(x, ag.asarray([1, 2, 3]))),
        (ag.ShapeError, "ragged", lambda x: ag.repeat(x, [[1], [1, 2]])),
        (ag.ShapeError, "below 0", lambda x: ag.tile(x, -1)),
        (ag.ArgumentError, "a count is an integer", lambda x: ag.tile(x, (1.5, 2))),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call, ag.asarray(data((2, 3))))


def value_of(roots, bindings):
    return interpret(roots, bindings, all64=False, check_finite=True)


def spread(x, start, length=10, step=1):
    """An array along the last of two axes, among zeros."""
    return Spread(x.node, (0, start), (1, step), (x.shape[0], length))


def test_what_follows_on_each_other_among_zeros_is_one_array_among_zeros():
    one, other, third = (ag.asarray(np.full((2, length), float(length), "float32")) for length in (3, 4, 2))
    both = adjoined(spread(other, 4), spread(one, 1))
    assert isinstance(both, Spread)
    assert both.starts == (0, 1)
    expected = Add(spread(one, 1), spread(other, 4))
    np.testing.assert_array_equal(*(value_of([each], {})[0] for each in (both, expected)))
    three = adjoined(both, spread(third, 8))
    assert isinstance(three.operand, Concat)
    assert len(three.operand.parts) == 3
    np.testing.assert_array_equal(value_of([three], {})[0][0], [0, 3, 3, 3, 4, 4, 4, 4, 2, 2])


def test_pieces_that_are_all_of_an_array_are_its_pieces_in_a_row():
    halves = [ag.asarray(np.full((2, 5), value, "float32")) for value in (1.0, 2.0)]
    assert isinstance(adjoined(spread(halves[0], 0), spread(halves[1], 5)), Concat)


@pytest.mark.parametrize(
    ("start", "length", "step"), [(2, 10, 1), (5, 10, 1), (4, 12, 1), (4, 10, 2), (1, 10, 1)], ids=str
)
def test_what_does_not_follow_on_is_added(start, length, step):
    one, other = (ag.asarray(np.ones((2, width), "float32")) for width in (3, 3))
    assert adjoined(spread(one, 1), spread(other, start, length, step)) is None


def test_a_gradient_by_what_was_cut_is_in_one_piece():
    x = ag.placeholder((3, 12), "float32")
    pieces = [x[:, start : start + 4] for start in range(0, 12, 4)]
    (found,) = ag.gradients(sum(((each * number) ** 2).sum() for number, each in enumerate(pieces)), [x])
    assert not any(isinstance(node, Spread) for node in walk([found.node]))
    (overlapping,) = ag.gradients(x[:, :7].sum() + (x[:, 5:] * 2).sum(), [x])
    values = np.arange(36, dtype="float32").reshape(3, 12)
    np.testing.assert_array_equal(
        value_of([found.node], {x.node: values})[0],
        values * 2 * np.repeat([0, 1, 4], 4),
    )
    expected = [1] * 5 + [3] * 2 + [2] * 5
    np.testing.assert_array_equal(value_of([overlapping.node], {x.node: values})[0], [expected] * 3)
