"""Block masks against dense masks, cut into blocks by brute force."""

import functools
import pickle

import numpy as np
import pytest

import attngraph as ag

LENGTHS = [0, 1, 127, 128, 129]
FULL, PARTIAL, EMPTY = "██", "░░", "  "
MASKS = {
    "causal": lambda b, h, q_idx, kv_idx: q_idx >= kv_idx,
    "window": lambda b, h, q_idx, kv_idx: abs(q_idx - kv_idx) <= 2,
    "prefix": lambda b, h, q_idx, kv_idx: kv_idx < 100,
    "nothing": lambda b, h, q_idx, kv_idx: kv_idx < 0,
    "everything": lambda b, h, q_idx, kv_idx: kv_idx >= 0,
    "by batch and head": lambda b, h, q_idx, kv_idx: (q_idx + 40 * b) >= (kv_idx - 30 * h),
    "far corner": lambda b, h, q_idx, kv_idx: (q_idx == 128) & (kv_idx == 128),
    "columns": lambda b, h, q_idx, kv_idx: kv_idx % 2 == 0,
}


def dense_mask(mask_mod, shape):
    places = (
        np.arange(length).reshape([-1 if axis == place else 1 for axis in range(4)])
        for place, length in enumerate(shape)
    )
    return np.broadcast_to(mask_mod(*places), shape)


def blocks_of(mask, height, width):
    """For every block the visible positions and all positions, counted one block at a time."""
    batch, heads, rows, columns = mask.shape
    counts = np.zeros((batch, heads, -(-rows // height), -(-columns // width)), int)
    sizes = np.zeros_like(counts)
    for i, j in np.ndindex(*counts.shape[2:]):
        block = mask[:, :, i * height : (i + 1) * height, j * width : (j + 1) * width]
        counts[:, :, i, j] = block.sum((2, 3))
        sizes[:, :, i, j] = block.shape[2] * block.shape[3]
    return counts, sizes


def check(block, mask):
    counts, sizes = blocks_of(mask, *block.block_size)
    dense = block.to_dense()
    assert dense.dtype == np.int32
    np.testing.assert_array_equal(dense, counts > 0)
    expected = 100.0 * (counts == 0).mean() if counts.size else 0.0
    assert block.sparsity() == pytest.approx(expected, rel=1e-15)
    lines = str(block).splitlines()
    assert lines[0] == f"BlockMask(shape={mask.shape}, block_size={block.block_size}, sparsity={expected:.2f}%)"
    pictures = []
    for place in list(np.ndindex(*counts.shape[:2]))[:4]:
        pictures += ["", str(place)]
        if counts.size:
            pictures += ["".join(map(_drawn, *row)) for row in zip(counts[place], sizes[place], strict=True)]
    assert lines[1:] == pictures


def _drawn(count, size):
    return EMPTY if count == 0 else FULL if count == size else PARTIAL


@pytest.mark.parametrize("rows", LENGTHS)
@pytest.mark.parametrize("columns", LENGTHS)
@pytest.mark.parametrize("name", ["causal", "far corner", "everything", "nothing"])
def test_ragged_edges(rows, columns, name):
    block = ag.create_block_mask(MASKS[name], None, None, rows, columns)
    assert block.shape == (1, 1, rows, columns)
    assert block.block_size == (128, 128)
    check(block, dense_mask(MASKS[name], block.shape))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("size", [1, 7, (2, 5), [16, 3], 128, (130, 1), 2**62, np.int32(8)], ids=str)
def test_block_sizes(name, size):
    shape = (2, 3, 17, 23)
    block = ag.create_block_mask(MASKS[name], *shape, BLOCK_SIZE=size)
    assert block.block_size == (tuple(size) if isinstance(size, tuple | list) else (size, size))
    check(block, dense_mask(MASKS[name], shape))


@pytest.mark.parametrize(
    ("batch", "heads"), [(None, None), (None, 3), (2, None), (2, 3), (1, 1), (0, 3), (np.int64(2), 1)]
)
def test_batch_and_heads(batch, heads):
    shape = (1 if batch is None else batch, 1 if heads is None else heads, 129, 200)
    block = ag.create_block_mask(MASKS["by batch and head"], batch, heads, 129, 200)
    assert block.shape == shape
    assert all(type(length) is int for length in block.shape)
    check(block, dense_mask(MASKS["by batch and head"], shape))


def test_a_picture_stays_small():
    mask_mod = MASKS["causal"]
    text = str(ag.create_block_mask(mask_mod, None, None, 100, 90, BLOCK_SIZE=1))
    # 100 x 90 blocks as 34 x 30: three by three share a character.
    counts, sizes = blocks_of(dense_mask(mask_mod, (1, 1, 100, 90)), 3, 3)
    drawn = ["".join(map(_drawn, *row)) for row in zip(counts[0, 0], sizes[0, 0], strict=True)]
    assert text.splitlines()[3:] == drawn
    assert len(drawn) == 34
    assert str(ag.create_block_mask(mask_mod, 3, 3, 4, 4)).count("\n\n(") == 4


def test_long_masks_are_counted_in_strips():
    block = ag.create_block_mask(MASKS["causal"], None, None, 4096, 4096)
    with ag.config.set(memory_limit=8 * 2**20):  # less than the mask
        assert block.sparsity() == 100 * (32 * 31 / 2) / 32**2
    assert "sparsity=48.44%" in str(block)


def test_the_repr_computes_nothing():
    calls = []

    def counted(b, h, q_idx, kv_idx):
        calls.append(q_idx.shape)
        return q_idx >= kv_idx

    block = ag.create_block_mask(counted, None, None, 5, 9)
    assert repr(block) == "BlockMask(shape=(1, 1, 5, 9), block_size=(128, 128), mask_mod=counted)"
    assert len(calls) == 1
    assert block.mask_mod is counted
    assert "and_masks(counted, noop_mask)" in repr(
        ag.create_block_mask(ag.and_masks(counted, ag.noop_mask), None, None, 5, 9)
    )


def test_captured_arrays_are_read_when_the_mask_is_used():
    kept = np.array([True, False, True])
    table = ag.asarray(kept)
    block = ag.create_block_mask(lambda b, h, q_idx, kv_idx: table[kv_idx], None, None, 2, 3, BLOCK_SIZE=1)
    assert block.to_dense()[0, 0].tolist() == [[1, 0, 1]] * 2
    kept[1] = True
    assert block.to_dense()[0, 0].tolist() == [[1, 1, 1]] * 2


def keeps_all_but_one(b, h, q_idx, kv_idx):
    return kv_idx != 1


def test_pickling():
    block = pickle.loads(pickle.dumps(ag.create_block_mask(keeps_all_but_one, None, 2, 4, 3, BLOCK_SIZE=1)))
    check(block, dense_mask(keeps_all_but_one, (1, 2, 4, 3)))


SHAPES = {
    "queries": ((1, 1, 5, 7), (2, 3, 4, 7)),
    "keys": ((1, 1, 5, 7), (2, 3, 5, 8)),
    "swapped": ((1, 1, 5, 7), (2, 3, 7, 5)),
    "one query is no broadcast": ((1, 1, 1, 7), (2, 3, 5, 7)),
    "one key is no broadcast": ((1, 1, 5, 1), (2, 3, 5, 7)),
    "heads": ((1, 2, 5, 7), (2, 3, 5, 7)),
    "batch": ((3, 1, 5, 7), (2, 3, 5, 7)),
    "more heads than the scores": ((1, 3, 5, 7), (2, 1, 5, 7)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("function", ["attention", "scaled_dot_product_attention", "flex_attention"])
def test_a_mask_for_other_lengths(name, function):
    made, used = SHAPES[name]
    block = ag.create_block_mask(MASKS["causal"], *made)
    q, k = ag.zeros((*used[:3], 4)), ag.zeros((*used[:2], used[3], 4))
    word = {"attention": "mask", "scaled_dot_product_attention": "attn_mask", "flex_attention": "block_mask"}[function]
    with pytest.raises(ag.ShapeError) as caught:
        getattr(ag, function)(q, k, k, **{word: block})
    for part in (function, f"block mask of shape {made}", f"scores of shape {used}", "test_block_mask.py"):
        assert part in str(caught.value)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)], ids=lambda lead: f"{len(lead) + 2}-d")
def test_masks_of_fewer_axes(lead):
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((*lead, length, 4)).astype("float32") for length in (5, 7))
    block = ag.create_block_mask(MASKS["causal"], None, None, 5, 7)
    masked = ag.attention(q, k, k, mask=block).compute()
    np.testing.assert_array_equal(masked, ag.attention(q, k, k, is_causal=True).compute())


def test_a_mask_has_four_axes_at_most():
    q = ag.zeros((1, 1, 1, 5, 4))
    with pytest.raises(ag.ShapeError, match=r"block mask of shape .* scores of shape \(1, 1, 1, 5, 5\)"):
        ag.attention(q, q, q, mask=ag.create_block_mask(MASKS["causal"], None, None, 5, 5))


def test_a_mask_inside_and_beside_a_compiled_function():
    rng = np.random.default_rng(0)
    q = rng.standard_normal((2, 3, 5, 4)).astype("float32")
    documents = np.array([0, 0, 1, 1, 1])
    block = ag.create_block_mask(MASKS["causal"], None, None, 5, 5)
    want = ag.attention(q, q, q, is_causal=True).compute()
    beside = ag.compile(lambda q, mask: ag.attention(q, q, q, mask=mask))
    np.testing.assert_array_equal(beside(q, block), want)
    beside(q, block)
    assert beside.cache_info()[:2] == (1, 1)

    def within(q, ids):  # document masks, of an argument
        mask = ag.create_block_mask(lambda b, h, i, j: (i >= j) & (ids[i] == ids[j]), None, None, 5, 5)
        return ag.attention(q, q, q, mask=mask)

    compiled = ag.compile(within)
    mask = (documents[:, None] == documents) & np.tri(5, dtype=bool)
    np.testing.assert_array_equal(compiled(q, documents), ag.attention(q, q, q, mask=mask).compute())
    np.testing.assert_array_equal(compiled(q, np.zeros(5, int)), want)


BAD_SIZES = {
    "batch": ({"B": -1}, "B is a whole number of at least 0, not -1"),
    "float": ({"B": 2.0}, "B is a whole number of at least 0, not 2.0"),
    "boolean": ({"H": True}, "H is a whole number of at least 0, not True"),
    "text": ({"H": "4"}, "H is a whole number of at least 0, not '4'"),
    "no length": ({"Q_LEN": None}, "Q_LEN is a whole number of at least 0, not None"),
    "negative length": ({"KV_LEN": -3}, "KV_LEN is a whole number of at least 0, not -3"),
    "too long": ({"KV_LEN": 2**63}, "KV_LEN is a whole number"),
    "lazy length": ({"Q_LEN": ag.full((), 3)}, "Q_LEN is a whole number"),
    "empty blocks": ({"BLOCK_SIZE": 0}, "BLOCK_SIZE is a whole number of at least 1, not 0"),
    "three": ({"BLOCK_SIZE": (1, 2, 3)}, "BLOCK_SIZE is one size or two"),
    "half a block": ({"BLOCK_SIZE": (1, 2.5)}, "BLOCK_SIZE is a whole number of at least 1, not 2.5"),
    "no function": ({"mask_mod": None}, "mask_mod is a function, not None"),
    "an array": ({"mask_mod": np.ones((4, 4), bool)}, "mask_mod is a function"),
}


@pytest.mark.parametrize("name", BAD_SIZES)
def test_sizes_are_checked(name):
    changed, said = BAD_SIZES[name]
    given = {"mask_mod": MASKS["causal"], "B": 1, "H": 1, "Q_LEN": 4, "KV_LEN": 4, **changed}
    with pytest.raises(ag.ArgumentError) as caught:
        ag.create_block_mask(**given)
    assert f"create_block_mask: {said}" in str(caught.value)
    assert caught.value.line[0] == __file__


def test_zero_heads():
    block = ag.create_block_mask(MASKS["causal"], 1, 0, 4, 4)
    assert block.shape == (1, 0, 4, 4)
    assert block.to_dense().shape == (1, 0, 1, 1)
    assert block.sparsity() == 0
    nothing = np.ones((1, 0, 4, 3), np.float32)
    assert ag.flex_attention(nothing, nothing, nothing, block_mask=block).compute().shape == nothing.shape


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("create_block_mask", lambda: ag.create_block_mask(lambda i, j: i >= j, 1, 1, 4, 4)),
        ("create_block_mask", lambda: ag.create_block_mask(lambda b, h, i, j, k: i >= j, 1, 1, 4, 4)),
        ("and_masks", lambda: ag.and_masks(MASKS["causal"], lambda b, h: b == h)),
        ("or_masks", lambda: ag.or_masks(len)),
    ],
)
def test_a_mask_function_of_other_arguments(name, call):
    for kind in (ag.ArgumentError, TypeError):
        with pytest.raises(kind, match=rf"{name}: mask_mod is called as mask_mod\(b, h, q_idx, kv_idx\)"):
            call()


def test_any_signature_that_takes_the_four_will_do():
    for function in (
        lambda *given: given[2] >= given[3],
        lambda b, h, i, j, extra=0: i >= j,
        functools.partial(lambda extra, b, h, i, j: i >= j, 0),
    ):
        assert ag.create_block_mask(function, None, None, 4, 4).shape == (1, 1, 4, 4)


TABLE = np.ones((9, 9), bool)
BAD_MASKS = {
    "none": (lambda b, h, i, j: None, ag.DTypeError, "bad returned None, not a boolean array"),
    "integers": (lambda b, h, i, j: i - j, ag.DTypeError, "bad returned int64[1, 1, 5, 7], not booleans"),
    "floats": (lambda b, h, i, j: (i - j) * 0.5, ag.DTypeError, "bad returned float32[1, 1, 5, 7], not booleans"),
    "text": (lambda b, h, i, j: "causal", ag.DTypeError, "what bad returned: cannot make an array of"),
    "a function": (lambda b, h, i, j: len, ag.DTypeError, "what bad returned: cannot make an array of"),
    "shorter": (
        lambda b, h, i, j: (i >= j)[..., :3],
        ag.ShapeError,
        "bad returned bool[1, 1, 5, 3] for indices of shape (1, 2, 5, 7)",
    ),
    "one axis more": (lambda b, h, i, j: (i >= j)[None], ag.ShapeError, "bad returned bool[1, 1, 1, 5, 7]"),
    "a branch": (lambda b, h, i, j: i if i >= j else j, ag.TraceError, "ag.where"),
    "and": (lambda b, h, i, j: i >= j and i > 2, ag.TraceError, "ag.where"),
    "a NumPy table": (lambda b, h, i, j: TABLE[i, j], ag.TraceError, "wrap the table in ag.asarray"),
    "a list": (lambda b, h, i, j: [True, False][h], ag.TraceError, "__index__"),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_mask_functions_are_checked_at_once(name):
    bad, error, said = BAD_MASKS[name]
    bad.__name__ = "bad"
    with pytest.raises(error) as caught:
        ag.create_block_mask(bad, None, 2, 5, 7)
    assert said in str(caught.value)
    assert caught.value.line[0] == __file__


@pytest.mark.parametrize("combine", [ag.and_masks, ag.or_masks], ids=lambda combine: combine.__name__)
@pytest.mark.parametrize("junk", [None, "causal", np.ones((4, 4), bool), 3], ids=str)
def test_combinators_take_functions(combine, junk):
    with pytest.raises(ag.ArgumentError, match=f"{combine.__name__}: takes mask functions, not"):
        combine(MASKS["causal"], junk)


def test_a_mask_of_one_value():
    for value in (True, np.True_, np.ones((5, 7), bool), ag.full((), True)):
        block = ag.create_block_mask(lambda b, h, i, j, value=value: value, None, None, 5, 7)
        assert block.sparsity() == 0
        assert block.to_dense().tolist() == [[[[1]]]]


def test_operators_say_what_to_write():
    block = ag.create_block_mask(MASKS["causal"], None, None, 5, 5)
    dense = np.ones((5, 5), bool)
    for combined in (lambda: block & block, lambda: block | dense, lambda: dense & block, lambda: block - block):
        with pytest.raises(ag.DTypeError, match="and_masks"):
            combined()
    with pytest.raises(ag.DTypeError, match="~BlockMask"):
        _ = ~block
