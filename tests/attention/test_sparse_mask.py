"""What sparse masks say of themselves, against arrays of all pairs; and what is no mask."""

import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import attngraph as ag
from attngraph.attention.patterns import counts_in, indices, states_of

SparseMask = ag.SparseMask
SHAPES = [(1, 1), (40, 60), (97, 33), (1, 50), (50, 1)]


def distance(rows, columns):
    return np.arange(rows)[:, None] - np.arange(columns)[None, :]


def window(size, tokens):
    def dense(rows, columns):
        i, j = np.ogrid[:rows, :columns]
        return (np.abs(distance(rows, columns)) <= size) | (i < tokens) | (j < tokens)

    return (lambda shape: SparseMask.windowed(size, tokens, shape)), dense


def strided(stride, size):
    def dense(rows, columns):
        d = distance(rows, columns)
        return (np.abs(d) <= size) | (d % stride == 0)

    return (lambda shape: SparseMask.strided(stride, size, shape)), dense


def dilated(size, dilation):
    def dense(rows, columns):
        d = distance(rows, columns)
        return (np.abs(d) <= size * dilation) & (d % dilation == 0)

    return (lambda shape: SparseMask.dilated(size, dilation, shape)), dense


POSITIONS = {
    **{f"window {args}": window(*args) for args in [(5, 0), (3, 2), (0, 0), (10**6, 0), (2, 10**6)]},
    **{f"strides {args}": strided(*args) for args in [(7, 2), (1, 2), (1000, 0), (5, 30)]},
    **{f"dilated {args}": dilated(*args) for args in [(3, 4), (0, 4), (3, 1000), (1000, 3)]},
}


def check(mask, expected):
    """Each way to ask what a mask says gives the same."""
    assert mask.shape == expected.shape
    np.testing.assert_array_equal(mask.to_dense(), expected)
    scores = (1,) * (4 - expected.ndim) + expected.shape
    np.testing.assert_array_equal(np.broadcast_to(mask.predicate("a test", scores).compute(), expected.shape), expected)
    at = indices(mask.shape, range(mask.shape[-2]))
    np.testing.assert_array_equal(np.broadcast_to(mask.pattern.visible(at).compute(), expected.shape), expected)
    assert mask.num_active == expected.sum()
    assert mask.density == pytest.approx(expected.mean())
    rows, columns = expected.shape[-2:]
    block = -(-rows // 7), -(-columns // 5)
    states = states_of(counts_in(expected.reshape(-1, rows, columns), block), expected.shape, block)
    np.testing.assert_array_equal(mask.pattern.states(block), states)
    assert repr(mask).startswith(f"SparseMask(shape={expected.shape}, ")
    assert str(mask).startswith(f"{mask!r}, density={100 * expected.mean():.3g}%")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", POSITIONS)
def test_positions(name, shape):
    make, dense = POSITIONS[name]
    check(make(shape), dense(*shape))


def test_numbers_beyond_all_positions():
    assert SparseMask.windowed(10**30, 0, (3, 4)).density == 1
    assert SparseMask.windowed(0, 10**30, (3, 4)).density == 1
    assert SparseMask.dilated(10**30, 10**30, (3, 4)).num_active == 3
    assert SparseMask.strided(10**30, 0, (3, 4)).num_active == 3


@given(data=st.data(), shape=st.sampled_from(SHAPES))
def test_pairs(data, shape):
    pair = st.tuples(*(st.integers(0, length - 1) for length in shape))
    pairs = data.draw(st.lists(pair, max_size=30))
    expected = np.zeros(shape, bool)
    for pair in pairs:
        expected[pair] = True
    rows, columns = np.array(pairs, np.int32).reshape(-1, 2).T
    check(SparseMask.coo(rows, columns, shape), expected)


@given(data=st.data(), shape=st.sampled_from(SHAPES), block=st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_blocks(data, shape, block):
    grid = [-(-length // size) for length, size in zip(shape, block, strict=True)]
    heads = data.draw(st.sampled_from([(), (3,)]))
    table = np.random.default_rng(data.draw(st.integers(0, 99))).random((*heads, *grid)) < 0.3
    expected = np.repeat(np.repeat(table, block[0], -2), block[1], -1)[..., : shape[0], : shape[1]]
    check(SparseMask.blocks(table, block, shape), expected)
    if not heads:
        pairs = np.argwhere(table)
        check(SparseMask.blocks(pairs[::-1].tolist(), block, shape), expected)


def test_dense():
    mask = np.random.default_rng(0).random((2, 30, 20)) < 0.2
    check(SparseMask.dense(mask), mask)
    check(SparseMask.dense(ag.asarray(mask[0])), mask[0])


def test_random_blocks_are_those_of_their_seed():
    first, again, other = (SparseMask.random_blocks(3, 10, (95, 200), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.to_dense(), again.to_dense())
    assert (first.to_dense() != other.to_dense()).any()
    assert (first.to_dense()[::10, ::10].sum(1) == 3).all()
    assert SparseMask.random_blocks(50, 10, (95, 200)).density == 1
    assert SparseMask.random_blocks(0, 10, (95, 200)).density == 0


def test_bigbird_is_windows_global_and_random_blocks():
    dense = SparseMask.bigbird(8, (160, 160), window_blocks=3, global_blocks=2, random_blocks=1, seed=4).to_dense()
    blocks = dense[::8, ::8]
    near = np.abs(distance(20, 20)) <= 1
    assert blocks[:2].all()
    assert blocks[:, :2].all()
    assert blocks[near].all()
    outside = blocks & ~near
    assert (outside[2:, 2:].sum(1) == 1).all()
    plain = SparseMask.bigbird(8, (160, 160), window_blocks=0, global_blocks=0, random_blocks=2)
    assert (plain.to_dense()[::8, ::8].sum(1) == 2).all()


def test_both_and_either():
    shape = (40, 50)
    masks = [
        SparseMask.windowed(5, 1, shape),
        SparseMask.coo([0, 3, 39], [49, 2, 38], shape),
        SparseMask.random_blocks(1, 16, shape),
        SparseMask.dense(np.random.default_rng(0).random(shape) < 0.3),
        SparseMask.dense(np.random.default_rng(0).random((2, *shape)) < 0.3),
    ]
    for one in masks:
        for other in masks:
            check(one & other, one.to_dense() & other.to_dense())
            check(one | other, one.to_dense() | other.to_dense())
    assert "coo" in repr(masks[0] & masks[1])
    assert "pairs" in repr(masks[0] & masks[1])
    with pytest.raises(ag.ShapeError, match="no common one"):
        _ = masks[0] & SparseMask.windowed(5, 1, (40, 51))


def test_a_boolean_array_is_a_mask_too():
    mask, array = SparseMask.windowed(3, 1, (8, 9)), np.random.default_rng(0).random((8, 9)) < 0.5
    check(mask & array, mask.to_dense() & array)
    check(array & mask, mask.to_dense() & array)
    check(mask | array, mask.to_dense() | array)
    check(array | mask, mask.to_dense() | array)
    with pytest.raises(ag.DTypeError, match="boolean"):
        _ = mask & np.ones((8, 9))


BLOCK_MASK = ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, 8, 9)


@pytest.mark.parametrize("other", [3, None, BLOCK_MASK], ids=["3", "None", "block mask"])
def test_what_there_is_no_mask_of_says_what_to_write(other):
    mask = SparseMask.windowed(3, 1, (8, 9))
    for combined in (lambda: mask & other, lambda: mask | other, lambda: other & mask, lambda: mask ^ mask):
        with pytest.raises(TypeError, match=r"there is no such mask; .*(SparseMask\.dense|and_masks)"):
            combined()
    with pytest.raises(ag.DTypeError, match="~SparseMask: "):
        _ = ~mask


def test_pictures():
    lines = str(SparseMask.blocks([(0, 0), (1, 2)], 4, (8, 12))).splitlines()
    assert lines[2:] == ["██    ", "    ██"]
    lines = str(SparseMask.windowed(0, 0, (400, 400))).splitlines()
    assert lines[2] == "░░" + "  " * 39
    two = str(SparseMask.blocks(np.eye(2, dtype=bool)[None].repeat(2, 0), 4, (8, 8))).splitlines()
    assert two.count("(0,)") == two.count("(1,)") == 1


@pytest.mark.parametrize("mask", [make((30, 40)) for make, _ in list(POSITIONS.values())[::4]])
def test_they_travel(mask):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mask)).to_dense(), mask.to_dense())


def test_lists_travel():
    for mask in (SparseMask.bigbird(8, (30, 40)), SparseMask.coo([1, 2], [3, 4], (30, 40))):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(mask)).to_dense(), mask.to_dense())


def test_a_list_of_a_long_sequence_is_small():
    blocks = np.random.default_rng(0).integers(0, 2**20 // 64, (1000, 2))
    mask = SparseMask.blocks(np.unique(blocks, axis=0), 64, (2**20, 2**20))
    assert mask.density < 1e-4
    assert mask.num_active == len(np.unique(blocks, axis=0)) * 64 * 64


# --- what is no mask

SHAPE = (40, 50)
NO_SHAPES = [None, 40, (40,), (40, 50, 60), (0, 50), (-1, 50), (40.0, 50), (True, 50), "ab", (2**31, 5)]


@pytest.mark.parametrize("shape", NO_SHAPES, ids=repr)
def test_shapes(shape):
    made = [
        lambda: SparseMask.coo([0], [0], shape),
        lambda: SparseMask.blocks([(0, 0)], 4, shape),
        lambda: SparseMask.windowed(1, 0, shape),
        lambda: SparseMask.strided(2, 0, shape),
        lambda: SparseMask.dilated(2, 1, shape),
        lambda: SparseMask.random_blocks(1, 4, shape),
        lambda: SparseMask.bigbird(4, shape),
    ]
    for make in made:
        with pytest.raises(ag.ShapeError, match=r"SparseMask\.\w+: shape is \(queries, keys\), two positive integers"):
            make()


@pytest.mark.parametrize("number", [-1, 1.5, True, None, "3", np.float32(2)], ids=repr)
def test_counts(number):
    made = [
        lambda: SparseMask.windowed(number, 0, SHAPE),
        lambda: SparseMask.windowed(0, number, SHAPE),
        lambda: SparseMask.strided(number, 0, SHAPE),
        lambda: SparseMask.strided(2, number, SHAPE),
        lambda: SparseMask.dilated(number, 1, SHAPE),
        lambda: SparseMask.dilated(1, number, SHAPE),
        lambda: SparseMask.random_blocks(number, 4, SHAPE),
        lambda: SparseMask.random_blocks(1, number, SHAPE),
        lambda: SparseMask.random_blocks(1, 4, SHAPE, seed=number),
        lambda: SparseMask.bigbird(4, SHAPE, window_blocks=number),
        lambda: SparseMask.bigbird(4, SHAPE, global_blocks=number),
        lambda: SparseMask.blocks([(0, 0)], (4, number), SHAPE),
    ]
    for make in made:
        with pytest.raises(ag.ArgumentError, match="is a whole number of at least"):
            make()


def test_zero_is_no_step():
    for make in (
        lambda: SparseMask.strided(0, 0, SHAPE),
        lambda: SparseMask.dilated(1, 0, SHAPE),
        lambda: SparseMask.blocks([(0, 0)], 0, SHAPE),
    ):
        with pytest.raises(ag.ArgumentError, match="at least 1"):
            make()
    with pytest.raises(ag.ArgumentError, match="odd number"):
        SparseMask.bigbird(4, SHAPE, window_blocks=2)
    with pytest.raises(ag.ArgumentError, match="one size or two"):
        SparseMask.blocks([(0, 0)], (4, 4, 4), SHAPE)


BAD_BLOCKS = [
    ([(0, 13)], ag.IndexOutOfRangeError, "blocks of columns has 13, which is out of range for 13"),
    ([(10, 0)], ag.IndexOutOfRangeError, "blocks of rows has 10"),
    ([(-1, 0)], ag.IndexOutOfRangeError, "has -1"),
    ([(2**62, 0)], ag.IndexOutOfRangeError, "out of range"),
    ([(2**63, 0)], ag.DTypeError, "are integers"),  # which NumPy makes floats of
    ([(0, 0), (1, 1), (0, 0)], ag.ArgumentError, r"block \(0, 0\) is given 2 times"),
    ([(0.0, 1.0)], ag.DTypeError, "are integers, not float64"),
    ([("a", "b")], ag.DTypeError, "are integers"),
    ([(0, 0, 0)], ag.ShapeError, r"pairs, \(n, 2\)"),
    ([0, 1], ag.ShapeError, r"pairs, \(n, 2\)"),
    ([(0, 0), (1,)], ag.ShapeError, "is no array"),
    (np.zeros((10, 12), bool), ag.ShapeError, "booleans of shape"),
    (np.zeros((13, 10), bool), ag.ShapeError, "booleans of shape"),
    (np.zeros((1, 1, 10, 13), bool), ag.ShapeError, "booleans of shape"),
]


@pytest.mark.parametrize(("blocks", "error", "message"), BAD_BLOCKS)
def test_bad_blocks(blocks, error, message):
    with pytest.raises(error, match=message):
        SparseMask.blocks(blocks, 4, SHAPE)


BAD_PAIRS = [
    ([40], [0], ag.IndexOutOfRangeError, "rows has 40, which is out of range for 40"),
    ([0], [50], ag.IndexOutOfRangeError, "cols has 50"),
    ([-1], [0], ag.IndexOutOfRangeError, "rows has -1"),
    (np.array([2**63], np.uint64), [0], ag.IndexOutOfRangeError, "out of range"),
    ([0.5], [0], ag.DTypeError, "rows are integers, not float64"),
    ([True], [0], ag.DTypeError, "rows are integers, not bool"),
    ([2**70], [0], ag.DTypeError, "rows are integers, not object"),
    ([0, 1], [0], ag.ShapeError, "2 rows and 1 cols"),
    ([[0]], [[0]], ag.ShapeError, "one axis"),
    (0, 0, ag.ShapeError, "one axis"),
    (None, [0], ag.DTypeError, "rows are integers"),
]


@pytest.mark.parametrize(("rows", "columns", "error", "message"), BAD_PAIRS)
def test_bad_pairs(rows, columns, error, message):
    with pytest.raises(error, match=message):
        SparseMask.coo(rows, columns, SHAPE)


def test_bad_arrays():
    with pytest.raises(ag.DTypeError, match="a mask is boolean"):
        SparseMask.dense(np.zeros((3, 3)))
    with pytest.raises(ag.ShapeError, match="queries, keys"):
        SparseMask.dense(np.zeros(3, bool))


def test_too_many_lists():
    with pytest.raises(ag.LimitError, match="larger blocks need fewer"):
        SparseMask.coo([0], [0], (2**30, 4))
    with pytest.raises(ag.LimitError, match="larger blocks need fewer"):
        SparseMask.random_blocks(1, 1, (2**30, 4))


numbers = st.one_of(st.integers(-3, 60), st.floats(-2, 2), st.booleans(), st.none(), st.integers(2**62, 2**65))
lists = st.one_of(
    st.lists(numbers, max_size=5),
    st.lists(st.tuples(numbers, numbers), max_size=5),
    st.lists(st.integers(-1, 50), max_size=5),
    st.lists(st.tuples(st.integers(-1, 13), st.integers(-1, 13)), max_size=5),
    numbers,
)


@given(rows=lists, columns=lists, size=st.one_of(numbers, st.tuples(numbers, numbers)), pairs=st.booleans())
def test_junk_is_a_typed_error_or_a_mask(rows, columns, size, pairs):
    try:
        mask = SparseMask.coo(rows, columns, SHAPE) if pairs else SparseMask.blocks(rows, size, SHAPE)
    except ag.AttnGraphError:
        return
    assert mask.to_dense().shape == SHAPE
    assert mask.num_active == mask.to_dense().sum()


def test_more_booleans_than_there_is_memory_for():
    mask = ag.SparseMask.windowed(10, 0, (10**9, 10**9))
    with pytest.raises(ag.LimitError, match=r"windowed.*no memory for 1,000,000,000,000,000,000 booleans"):
        mask.to_dense()
