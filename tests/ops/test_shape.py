import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attngraph as ag
from checks import DTYPES, SHAPES, check, check_raises, data
from strategies import LAYOUTS, laid_out, shapes

MOVES = [
    ((2, 3, 4), lambda xp, x: xp.reshape(x, (4, 6))),
    ((2, 3, 4), lambda xp, x: xp.reshape(x, (-1,))),
    ((2, 3, 4), lambda xp, x: xp.reshape(x, (2, -1, 2))),
    ((2, 3, 4), lambda xp, x: xp.reshape(x, np.array([3, 8]))),
    ((0, 3), lambda xp, x: xp.reshape(x, (-1, 3))),
    ((0, 3), lambda xp, x: xp.reshape(x, (5, 0, 2))),
    ((1, 1), lambda xp, x: xp.reshape(x, ())),
    ((), lambda xp, x: xp.reshape(x, (1, 1))),
    ((), lambda xp, x: xp.permute_dims(x, ())),
    ((2, 3, 4), lambda xp, x: xp.permute_dims(x, (2, 0, 1))),
    ((2, 3, 4), lambda xp, x: xp.permute_dims(x, (-1, 0, -2))),
    ((2, 0, 4), lambda xp, x: xp.permute_dims(x, (1, 2, 0))),
    ((2, 3, 4), lambda xp, x: xp.permute_dims(x, None)),
    ((2, 3, 4), lambda xp, x: xp.matrix_transpose(x)),
    ((1, 0), lambda xp, x: xp.matrix_transpose(x)),
    ((2, 3, 4), lambda xp, x: np.swapaxes(x, 0, -1)),
    ((2, 3, 4), lambda xp, x: xp.moveaxis(x, 0, -1)),
    ((2, 3, 4), lambda xp, x: xp.moveaxis(x, (0, 2), (1, 0))),
    ((2, 3, 4), lambda xp, x: xp.moveaxis(x, (-1, 0), (0, -1))),
    ((2, 3), lambda xp, x: xp.expand_dims(x, axis=0)),
    ((2, 3), lambda xp, x: xp.expand_dims(x, axis=-1)),
    ((2, 3), lambda xp, x: xp.expand_dims(x, axis=(0, 2, -1))),
    ((), lambda xp, x: xp.expand_dims(x, axis=(0, 1))),
    ((1, 3, 1), lambda xp, x: xp.squeeze(x)),
    ((1, 3, 1), lambda xp, x: xp.squeeze(x, axis=-1)),
    ((1, 3, 1), lambda xp, x: xp.squeeze(x, axis=(0, 2))),
    ((1, 0, 1), lambda xp, x: xp.squeeze(x)),
    ((3, 1), lambda xp, x: xp.broadcast_to(x, (2, 3, 4))),
    ((1,), lambda xp, x: xp.broadcast_to(x, (0,))),
    ((), lambda xp, x: xp.broadcast_to(x, (2, 2))),
    ((), lambda xp, x: xp.broadcast_to(x, ())),
    ((3,), lambda xp, x: xp.broadcast_to(x, 3)),
    ((2, 3, 4), lambda xp, x: xp.flip(x)),
    ((2, 3, 4), lambda xp, x: xp.flip(x, axis=1)),
    ((2, 3, 4), lambda xp, x: xp.flip(x, axis=(0, -1))),
    ((0, 2), lambda xp, x: xp.flip(x, axis=0)),
    ((), lambda xp, x: xp.flip(x)),
]


@pytest.mark.parametrize("number", range(len(MOVES)))
def test_moves_equal_numpy_in_every_type_and_layout(number):
    shape, move = MOVES[number]
    for dtype, layout in [("float32", layout) for layout in LAYOUTS] + [(dtype, "plain") for dtype in DTYPES]:
        x = laid_out(data(shape, dtype), layout)
        check(move(ag, ag.asarray(x)), move(np, x))


@given(st.data())
def test_chains_of_moves_equal_numpy(draw):
    x = np.arange(720).reshape(draw.draw(st.permutations((1, 2, 3, 4, 5, 6))))
    lazy = ag.asarray(x)
    for _ in range(draw.draw(st.integers(1, 5))):
        axes = draw.draw(st.permutations(range(x.ndim)))
        some = tuple(axes[: draw.draw(st.integers(0, x.ndim))])
        shape = draw.draw(st.sampled_from([(720,), (-1, 20), (6, 2, 5, 12), x.shape[::-1], (1, *x.shape)]))
        move = draw.draw(
            st.sampled_from(
                [
                    lambda xp, x, axes=axes: xp.permute_dims(x, axes),
                    lambda xp, x, some=some: xp.flip(x, axis=some),
                    lambda xp, x, shape=shape: xp.reshape(x, shape),
                    lambda xp, x: xp.squeeze(x),
                    lambda xp, x: xp.broadcast_to(x, x.shape),
                    lambda xp, x: x[..., ::-1],
                ]
            )
        )
        x, lazy = move(np, x), move(ag, lazy)
    check(lazy, x)


@given(shapes=st.lists(shapes(most=3, lengths=(0, 1, 2)), min_size=1, max_size=3))
def test_broadcast_arrays_equals_numpy(shapes):
    arrays = [data(shape, seed=number) for number, shape in enumerate(shapes)]
    try:
        expected = np.broadcast_arrays(*arrays)
    except ValueError:
        check_raises(ag.ShapeError, "broadcast_arrays: .* do not broadcast", ag.broadcast_arrays, *arrays)
        return
    for lazy, array in zip(ag.broadcast_arrays(*arrays), expected, strict=True):
        check(lazy, array)


@pytest.mark.parametrize("shape", SHAPES)
def test_results_are_no_views_of_the_input(shape):
    x = data(shape)
    lazy = ag.asarray(x)
    for moved in (
        lazy.reshape(-1),
        lazy.T,
        ag.flip(lazy),
        ag.expand_dims(lazy),
        lazy[...],
        ag.broadcast_to(lazy, shape),
    ):
        result = moved.compute()
        assert not np.may_share_memory(result, x) or not result.size
        assert result.flags.writeable
        assert result.flags.c_contiguous


def test_python_scalars_lose_nothing_but_their_weakness():
    moved = ag.reshape(0.1, (1,))
    assert moved.dtype == np.float32
    assert (moved * np.ones(1)).compute() == np.float64(np.float32(0.1))
    assert (moved * np.ones(1, np.float16)).dtype == np.float32


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ag.ShapeError, r"reshape: float32\[2, 3\] with 6 elements", lambda x: ag.reshape(x, (4, 2))),
        (ag.ShapeError, "reshape", lambda x: ag.reshape(x, (-1, -1))),
        (ag.ShapeError, "reshape", lambda x: ag.reshape(x, (-1, 4))),
        (ag.ShapeError, "reshape", lambda x: ag.reshape(x, (-2, -3))),
        (ag.ShapeError, "reshape", lambda x: ag.reshape(ag.zeros((0, 3)), (-1, 0))),
        (ag.ArgumentError, "reshape: a length is an integer, not 2.0", lambda x: ag.reshape(x, (2.0, 3))),
        (ag.ArgumentError, "reshape", lambda x: ag.reshape(x, "ab")),
        (ag.TraceError, "compute", lambda x: ag.reshape(x, (ag.asarray(2), 3))),
        (ag.ShapeError, "permutation", lambda x: ag.permute_dims(x, (0, 0))),
        (ag.ShapeError, "permutation", lambda x: ag.permute_dims(x, (0,))),
        (ag.ShapeError, "permutation", lambda x: ag.permute_dims(x, 0)),
        (ag.ShapeError, "axis 2 of an array with 2 axes", lambda x: ag.permute_dims(x, (0, 2))),
        (ag.ShapeError, "fewer than two axes", lambda x: ag.matrix_transpose(x[0])),
        (ag.ShapeError, "named twice", lambda x: ag.moveaxis(x, (0, 0), (0, 1))),
        (ag.ShapeError, "counts differ", lambda x: ag.moveaxis(x, 0, (0, 1))),
        (ag.ShapeError, "name an axis twice", lambda x: ag.expand_dims(x, axis=(0, 0))),
        (ag.ShapeError, "axis 4", lambda x: ag.expand_dims(x, axis=4)),
        (ag.ShapeError, "axis is an integer", lambda x: ag.expand_dims(x, axis=0.5)),
        (ag.ShapeError, "not all of length 1", lambda x: ag.squeeze(x, axis=0)),
        (ag.ShapeError, "do not broadcast", lambda x: ag.broadcast_to(x, (2,))),
        (ag.ShapeError, "does not broadcast", lambda x: ag.broadcast_to(x, (1, 3))),
        (ag.ShapeError, "do not broadcast", lambda x: ag.broadcast_to(x, (3, 2))),
        (ag.ShapeError, "not below 0", lambda x: ag.broadcast_to(x, (-1, 3))),
        (ag.ShapeError, "name an axis twice", lambda x: ag.flip(x, axis=(0, -2))),
    ],
)
def test_errors(error, words, call):
    check_raises(error, words, call, ag.asarray(data((2, 3))))
