"""FlexAttention programs, as they are written for torch, against dense NumPy and torch's own eager run."""

import inspect
import logging
import warnings

import numpy as np
import pytest

import attngraph as ag
from dense import attention as dense
from dense import causal_mask, tolerance

B, H, L, S, D, DV = 2, 4, 6, 9, 8, 5
RNG = np.random.default_rng(30)
Q, K, V = (RNG.standard_normal(shape).astype("float32") for shape in ((B, H, L, D), (B, H, S, D), (B, H, S, DV)))
SLOPES = np.exp2(-np.arange(1, H + 1) * 8.0 / H).astype("float32")
TABLE = RNG.standard_normal((H, L + S)).astype("float32")
DOCUMENTS = np.sort(RNG.integers(0, 3, (B, S)), axis=1)
LENGTHS = np.array([5, 9])
PREFIX = np.array([[1, 2, 3, 0], [4, 0, 9, 2]])
PLACES = (  # b, h, q_idx, kv_idx of a dense score
    np.arange(B).reshape(B, 1, 1, 1),
    np.arange(H).reshape(1, H, 1, 1),
    np.arange(L).reshape(1, 1, L, 1),
    np.arange(S).reshape(1, 1, 1, S),
)


# Score functions. `xp` is the module whose functions they call: attngraph, torch or NumPy; `array`
# makes what they capture. The text is the same for all three.


def softcap(xp, array):
    return lambda score, b, h, q_idx, kv_idx: 5.0 * xp.tanh(score / 5.0)


def alibi(xp, array):
    slopes = array(SLOPES)
    return lambda score, b, h, q_idx, kv_idx: score + slopes[h] * (kv_idx - q_idx)


def alibi_inline(xp, array):
    def score_mod(score, b, h, q_idx, kv_idx):
        bias = xp.exp2(-((h + 1) * 8.0 / H)) * (q_idx - kv_idx)
        return score + bias

    return score_mod


def relative_table(xp, array):
    table = array(TABLE)
    return lambda score, b, h, q_idx, kv_idx: score + table[h, q_idx - kv_idx + S]


def wrapping_table(xp, array):
    table = array(TABLE)
    return lambda score, b, h, q_idx, kv_idx: score + table[h, q_idx - kv_idx]


def table_of_a_table(xp, array):
    table, kinds = array(TABLE), array(DOCUMENTS)
    return lambda score, b, h, q_idx, kv_idx: score + table[h, kinds[b, kv_idx]]


def causal(xp, array):
    return lambda score, b, h, q_idx, kv_idx: xp.where(q_idx >= kv_idx, score, -float("inf"))


def sliding_window(xp, array):
    def score_mod(score, b, h, q_idx, kv_idx):
        return xp.where((q_idx >= kv_idx) & (q_idx - kv_idx <= 2), score, -float("inf"))

    return score_mod


def documents(xp, array):
    ids = array(DOCUMENTS)
    return lambda score, b, h, q_idx, kv_idx: xp.where(ids[b, q_idx] == ids[b, kv_idx], score, -float("inf"))


def padding(xp, array):
    lengths = array(LENGTHS)
    return lambda score, b, h, q_idx, kv_idx: xp.where(kv_idx < lengths[b], score, -float("inf"))


def temperature(xp, array):
    return lambda score, b, h, q_idx, kv_idx: score * (1.0 + h) / xp.sqrt(1.0 + q_idx)


def cosine_positions(xp, array):
    return lambda score, b, h, q_idx, kv_idx: score + xp.cos(0.3 * (q_idx - kv_idx)) + (h % 2)


def log_distance(xp, array):
    return lambda score, b, h, q_idx, kv_idx: score - xp.log1p(xp.abs(q_idx - kv_idx) / (1 + h // 2))


def squared_distance(xp, array):
    return lambda score, b, h, q_idx, kv_idx: score - 0.01 * (q_idx - kv_idx) ** 2


def logic(xp, array):
    def score_mod(score, b, h, q_idx, kv_idx):
        near = xp.logical_or(q_idx == kv_idx, xp.logical_and(h > 1, ~(kv_idx > 3)))
        return xp.where(near, 2 * score, -score)

    return score_mod


def square_root_of_square(xp, array):
    return lambda score, b, h, q_idx, kv_idx: xp.sqrt(score * score + 1.0) - xp.maximum(score, xp.zeros_like(score))


def integers(xp, array):
    return lambda score, b, h, q_idx, kv_idx: score + (q_idx - kv_idx) // 2 + ((q_idx ^ kv_idx) & 1)


def distance_from_the_right(xp, array):
    return lambda score, b, h, q_idx, kv_idx: 1.0 - score + (S - kv_idx) / S


def identity(xp, array):
    return lambda score, b, h, q_idx, kv_idx: score


def learned_temperature(xp, array):
    temperatures = array(np.exp(TABLE[:, 0]))

    def score_mod(score, b, h, q_idx, kv_idx):
        return temperatures[h] * score

    return score_mod


SCORE_MODS = [
    softcap,
    alibi,
    alibi_inline,
    relative_table,
    wrapping_table,
    table_of_a_table,
    causal,
    sliding_window,
    documents,
    padding,
    temperature,
    cosine_positions,
    log_distance,
    squared_distance,
    logic,
    square_root_of_square,
    integers,
    distance_from_the_right,
    identity,
    learned_temperature,
]
# These use what only tensors have: methods, torch's names. The second is what they mean.
TORCH_ONLY = {
    "clamp and abs": (
        lambda xp: lambda s, b, h, i, j: s + (i - j).clamp(-3, 3).abs() * 0.1,
        lambda s, b, h, i, j: s + np.abs(np.clip(i - j, -3, 3)) * 0.1,
    ),
    "clamp by name": (
        lambda xp: lambda s, b, h, i, j: (s - (i - j).clamp(min=-2)).clamp(max=2.0),
        lambda s, b, h, i, j: np.minimum(s - np.maximum(i - j, -2), 2.0),
    ),
    "to and long": (
        lambda xp: lambda s, b, h, i, j: s * (i == j).long() + (i - j).to(s.dtype) / 4,
        lambda s, b, h, i, j: s * (i == j) + (i - j) / 4,
    ),
    "float and int": (
        lambda xp: lambda s, b, h, i, j: s + (i % 2 == j % 2).float() - (i - j).int().float().abs(),
        lambda s, b, h, i, j: s + (i % 2 == j % 2) - np.abs(i - j),
    ),
    "methods": (
        lambda xp: lambda s, b, h, i, j: s.tanh().mul(3.0).add(1.0).sub((0.1 * i).sin()),
        lambda s, b, h, i, j: np.tanh(s) * 3 + 1 - np.sin(0.1 * i),
    ),
    "methods that compare": (
        lambda xp: lambda s, b, h, i, j: s + i.ge(j).logical_and(j.ne(2)).float(),
        lambda s, b, h, i, j: s + ((i >= j) & (j != 2)),
    ),
}


def want(score_mod, visible=True, q=Q, k=K, v=V):
    places = (
        PLACES[0],
        PLACES[1],
        np.arange(q.shape[2]).reshape(1, 1, -1, 1),
        np.arange(k.shape[2]).reshape(1, 1, 1, -1),
    )
    change = None if score_mod is None else lambda scores: score_mod(scores, *places)
    return dense(q, k, v, visible=visible, change=change)


# A score function stretches errors of a score at most by the factors 1 to 5 that stand in the programs.
WITHIN = 5 * tolerance(Q, K, V)


def agree(got, expected):
    out, lse = ag.compute(*got)
    np.testing.assert_allclose(out, expected[0], rtol=0, atol=WITHIN)
    np.testing.assert_allclose(lse, expected[1], rtol=1e-6, atol=WITHIN)
    assert (out.dtype, lse.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("program", SCORE_MODS, ids=lambda program: program.__name__)
def test_score_functions(program):
    lazy = ag.flex_attention(Q, K, V, program(ag, ag.asarray), return_lse=True)
    agree(lazy, want(program(np, np.asarray)))


@pytest.mark.parametrize("program", SCORE_MODS, ids=lambda program: program.__name__)
def test_compiled_score_functions(program):
    score_mod = program(ag, ag.asarray)
    compiled = ag.compile(lambda q, k, v: ag.flex_attention(q, k, v, score_mod, return_lse=True))
    out, lse = compiled(Q, K, V)
    expected = want(program(np, np.asarray))
    np.testing.assert_allclose(out, expected[0], rtol=0, atol=WITHIN)
    np.testing.assert_allclose(lse, expected[1], rtol=1e-6, atol=WITHIN)


@pytest.mark.parametrize("name", TORCH_ONLY)
def test_methods_of_tensors(name):
    program, meaning = TORCH_ONLY[name]
    agree(ag.flex_attention(Q, K, V, program(ag), return_lse=True), want(meaning))


def torch_flex(torch, score_mod, block_mask=None, q=Q, k=K, v=V, **options):
    flex = torch.nn.attention.flex_attention
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        out = flex.flex_attention(
            *(torch.from_numpy(x) for x in (q, k, v)), score_mod=score_mod, block_mask=block_mask, **options
        )
    return out.numpy()


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    pytest.importorskip("torch.nn.attention.flex_attention")
    return module


# Torch takes a lazy array for a sequence where one stands alone between brackets, and says so.
ONE_INDEX = "ignore:Using a non-tuple sequence for multidimensional indexing"


@pytest.mark.filterwarnings(ONE_INDEX)
@pytest.mark.parametrize("program", SCORE_MODS, ids=lambda program: program.__name__)
def test_programs_written_for_torch_run_unchanged(program, torch):
    score_mod = program(torch, torch.from_numpy)
    out, lse = ag.compute(*ag.flex_attention(Q, K, V, score_mod, return_lse=True))
    expected = want(program(np, np.asarray))
    np.testing.assert_allclose(out, expected[0], atol=WITHIN)
    np.testing.assert_allclose(lse, expected[1], rtol=1e-6, atol=WITHIN)
    np.testing.assert_allclose(out, torch_flex(torch, score_mod), atol=2 * WITHIN)
    tensors = [torch.from_numpy(x) for x in (Q, K, V)]
    np.testing.assert_array_equal(
        ag.flex_attention(*tensors, score_mod).compute(), ag.flex_attention(Q, K, V, score_mod).compute()
    )


@pytest.mark.parametrize("name", TORCH_ONLY)
def test_methods_of_tensors_mean_what_they_mean_in_torch(name, torch):
    score_mod = TORCH_ONLY[name][0](torch)
    out = ag.flex_attention(Q, K, V, score_mod).compute()
    np.testing.assert_allclose(out, torch_flex(torch, score_mod), atol=2 * WITHIN)


def test_a_tensor_indexed_by_a_head_alone_gives_no_warning(torch):
    slopes = torch.from_numpy(SLOPES)
    ag.flex_attention(Q, K, V, lambda score, b, h, q_idx, kv_idx: score + slopes[h]).compute()


# Mask functions.


def prefix_lm(xp, array):
    return lambda b, h, q_idx, kv_idx: (kv_idx <= q_idx) | (kv_idx < 3)


def prefix_by_head(xp, array):
    prefix = array(PREFIX)
    return lambda b, h, q_idx, kv_idx: (kv_idx <= q_idx) | (kv_idx < prefix[b, h])


def causal_mask_mod(xp, array):
    return lambda b, h, q_idx, kv_idx: q_idx >= kv_idx


def window(xp, array):
    return lambda b, h, q_idx, kv_idx: xp.abs(q_idx - kv_idx) <= 2


def document_mask(xp, array):
    ids = array(DOCUMENTS)
    return lambda b, h, q_idx, kv_idx: ids[b, q_idx] == ids[b, kv_idx]


def dilated(xp, array):
    return lambda b, h, q_idx, kv_idx: (q_idx - kv_idx) % 3 == 0


def by_head(xp, array):
    return lambda b, h, q_idx, kv_idx: xp.where(h % 2 == 0, q_idx >= kv_idx, q_idx <= kv_idx)


def nothing_for_the_first_rows(xp, array):
    return lambda b, h, q_idx, kv_idx: (q_idx > 1) & (kv_idx > 2)


MASK_MODS = [
    prefix_lm,
    prefix_by_head,
    causal_mask_mod,
    window,
    document_mask,
    dilated,
    by_head,
    nothing_for_the_first_rows,
]
SIZES = [(None, None), (B, H)]


def dense_mask(program):
    return np.broadcast_to(program(np, np.asarray)(*PLACES), (B, H, L, S))


def sizes_for(program):
    return [(B, H)] if program in (prefix_by_head, document_mask, by_head) else SIZES


@pytest.mark.parametrize("program", MASK_MODS, ids=lambda program: program.__name__)
def test_mask_functions(program):
    visible = dense_mask(program)
    for batch, heads in sizes_for(program):
        block = ag.create_block_mask(program(ag, ag.asarray), batch, heads, L, S)
        agree(ag.flex_attention(Q, K, V, block_mask=block, return_lse=True), want(None, visible))
        agree(ag.attention(Q, K, V, mask=block, return_lse=True), want(None, visible))
        both = ag.flex_attention(Q, K, V, softcap(ag, None), block, return_lse=True)
        agree(both, want(softcap(np, None), visible))


@pytest.mark.filterwarnings(ONE_INDEX)
@pytest.mark.parametrize("program", MASK_MODS, ids=lambda program: program.__name__)
def test_masks_written_for_torch_run_unchanged(program, torch):
    flex = torch.nn.attention.flex_attention
    mask_mod = program(torch, torch.from_numpy)
    batch, heads = sizes_for(program)[-1]
    ours = ag.create_block_mask(mask_mod, batch, heads, L, S)
    theirs = flex.create_block_mask(mask_mod, batch, heads, L, S, device="cpu")
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.to_dense(), theirs.to_dense().numpy())
    out = ag.flex_attention(Q, K, V, block_mask=ours).compute()
    np.testing.assert_allclose(out, torch_flex(torch, None, theirs), atol=2 * WITHIN)
    with pytest.raises(ag.ArgumentError, match=r"ag.create_block_mask, not torch.*BlockMask"):
        ag.flex_attention(Q, K, V, block_mask=theirs)


@pytest.mark.parametrize(
    ("combined", "meaning"),
    [
        (lambda: ag.and_masks(causal_mask_mod(ag, 0), window(ag, 0)), lambda c, w, d: c & w),
        (lambda: ag.or_masks(causal_mask_mod(ag, 0), window(ag, 0)), lambda c, w, d: c | w),
        (
            lambda: ag.and_masks(ag.or_masks(causal_mask_mod(ag, 0), dilated(ag, 0)), window(ag, 0)),
            lambda c, w, d: (c | d) & w,
        ),
        (lambda: ag.and_masks(causal_mask_mod(ag, 0)), lambda c, w, d: c),
        (lambda: ag.and_masks(causal_mask_mod(ag, 0), ag.noop_mask), lambda c, w, d: c),
        (lambda: ag.or_masks(causal_mask_mod(ag, 0), ag.noop_mask), lambda c, w, d: c | True),
        (lambda: ag.noop_mask, lambda c, w, d: c | True),
        (ag.and_masks, lambda c, w, d: c | True),
        (ag.or_masks, lambda c, w, d: c & False),
    ],
)
def test_masks_combine(combined, meaning):
    visible = meaning(*(dense_mask(program) for program in (causal_mask_mod, window, dilated)))
    block = ag.create_block_mask(combined(), None, None, L, S)
    agree(ag.flex_attention(Q, K, V, block_mask=block, return_lse=True), want(None, visible))


@pytest.mark.filterwarnings(ONE_INDEX)
def test_torchs_combinators_take_our_functions_and_ours_theirs(torch):
    flex = torch.nn.attention.flex_attention
    masks = causal_mask_mod(torch, None), window(torch, None)
    visible = dense_mask(causal_mask_mod) & dense_mask(window)
    for combined in (ag.and_masks(*masks), flex.and_masks(*masks)):
        block = ag.create_block_mask(combined, None, None, L, S)
        agree(ag.flex_attention(Q, K, V, block_mask=block, return_lse=True), want(None, visible))


# The function itself.


@pytest.mark.parametrize("score_mod", [None, softcap(ag, None)], ids=["plain", "softcap"])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_grouped_heads(heads, score_mod):
    k, v = K[:, :heads], V[:, :heads]
    repeated = [np.repeat(x, H // heads, axis=1) for x in (k, v)]
    expected = want(None if score_mod is None else softcap(np, None), dense_mask(by_head), Q, *repeated)
    block = ag.create_block_mask(by_head(ag, None), None, H, L, S)
    agree(ag.flex_attention(Q, k, v, score_mod, block, enable_gqa=True, return_lse=True), expected)


def test_score_functions_count_query_heads(torch):
    k, v = K[:, :2], V[:, :2]
    score_mod = alibi_inline(torch, None)
    out = ag.flex_attention(Q, k, v, score_mod, enable_gqa=True).compute()
    np.testing.assert_allclose(out, torch_flex(torch, score_mod, k=k, v=v, enable_gqa=True), atol=2 * WITHIN)


def test_scale():
    out = ag.flex_attention(Q, K, V, softcap(ag, None), scale=0.1).compute()
    expected, _ = dense(Q, K, V, scale=0.1, change=lambda scores: 5 * np.tanh(scores / 5))
    np.testing.assert_allclose(out, expected, atol=WITHIN)


@pytest.mark.parametrize("shapes", [(0, 4, 6, 9), (2, 4, 0, 9), (2, 4, 6, 0), (1, 1, 1, 1)], ids=str)
def test_empty_and_smallest(shapes):
    batch, heads, rows, columns = shapes
    q, k, v = Q[:batch, :heads, :rows], K[:batch, :heads, :columns], V[:batch, :heads, :columns]
    block = ag.create_block_mask(causal_mask_mod(ag, None), None, heads, rows, columns)
    out, lse = ag.compute(*ag.flex_attention(q, k, v, alibi(ag, ag.asarray), block, return_lse=True))
    assert out.shape == (batch, heads, rows, DV)
    assert lse.shape == (batch, heads, rows)
    if not columns:
        assert not out.any()
        assert np.isneginf(lse).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_types(dtype):
    q, k, v = (ag.asarray(x).astype(dtype).compute() for x in (Q, K, V))
    seen = []

    def score_mod(score, b, h, q_idx, kv_idx):
        seen.append([score.dtype, *(index.dtype for index in (b, h, q_idx, kv_idx))])
        return score + ag.asarray(TABLE.astype("float64"))[h, q_idx - kv_idx + S]  # a wide table widens nothing

    out, lse = ag.compute(*ag.flex_attention(q, k, v, score_mod, return_lse=True))
    computed = np.dtype("float64" if dtype == "float64" else "float32")
    assert seen == [[computed] + [np.dtype("int64")] * 4]
    assert (out.dtype, lse.dtype) == (q.dtype, computed)
    expected, expected_lse = want(relative_table(np, np.asarray), True, q, k, v)
    rounding = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float64": 0.0}[dtype]
    np.testing.assert_allclose(out.astype(float), expected, rtol=rounding * 1.01, atol=WITHIN)
    np.testing.assert_allclose(lse, expected_lse, rtol=1e-6, atol=WITHIN)


def test_a_score_function_may_return_anything_that_broadcasts():
    q, k, v = Q[:, :1], K[:, :1], V[:, :1]
    mean = np.broadcast_to(v.mean(2, keepdims=True), (B, 1, L, DV))
    for result in (0.0, np.float32(1.5), np.zeros((L, S), "float32"), ag.zeros((B, 1, 1, 1)), ag.zeros(S)):
        out = ag.flex_attention(q, k, v, lambda score, b, h, i, j, result=result: result).compute()
        np.testing.assert_allclose(out, mean, atol=WITHIN)


def test_captured_arrays_are_read_at_every_evaluation():
    slopes = SLOPES.copy()
    lazy = ag.flex_attention(Q, K, V, lambda s, b, h, i, j: s + ag.asarray(slopes)[h] * (j - i), return_lse=True)
    agree(lazy, want(alibi(np, np.asarray)))
    slopes[:] = 0
    agree(lazy, want(None))


def test_a_hidden_position_may_have_any_index():
    """At a position that a mask hides no index is an error."""
    short = ag.asarray(np.zeros(4, "float32"))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score + short[kv_idx]

    with pytest.raises(ag.IndexOutOfRangeError, match="index 4 is out of range"):
        ag.flex_attention(Q, K, V, score_mod).compute()
    block = ag.create_block_mask(lambda b, h, q_idx, kv_idx: kv_idx < 4, None, None, L, S)
    visible = np.arange(S) < 4
    agree(ag.flex_attention(Q, K, V, score_mod, block, return_lse=True), want(None, visible))
    masked = lambda s, b, h, i, j: ag.where(j < 4, s + short[j], -ag.inf)  # noqa: E731
    agree(ag.flex_attention(Q, K, V, masked, return_lse=True), want(None, visible))


HIDING = {  # score functions that hide a column, and what they do to the scores
    "where": (lambda s, seen: ag.where(seen, s, -ag.inf), lambda s: s),
    "a sum": (lambda s, seen: s + ag.where(seen, 0.0, -ag.inf), lambda s: s),
    "a cap inside": (lambda s, seen: ag.where(seen, 5 * ag.tanh(s / 5), -ag.inf), lambda s: 5 * np.tanh(s / 5)),
    "a scale outside": (lambda s, seen: 2 * ag.where(seen, s, -ag.inf) + 1, lambda s: 2 * s + 1),
}


@pytest.mark.parametrize("name", HIDING)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_a_score_function_hides_may_hold_anything(name, bad):
    hide, change = HIDING[name]
    k, v = K.copy(), V.copy()
    k[:, :, 3] = v[:, :, 3] = bad
    got = ag.flex_attention(Q, k, v, lambda s, b, h, i, j: hide(s, j != 3), return_lse=True)
    agree(got, dense(Q, K, V, visible=np.arange(S) != 3, change=change))


def test_a_cap_outside_a_mask_shows_what_it_hid():
    out = ag.flex_attention(Q, K, V, lambda s, b, h, i, j: ag.tanh(ag.where(j != 3, s, -ag.inf)))
    hidden = np.where(np.arange(S) != 3, 0, -np.inf)
    expected, _ = dense(Q, K, V, change=lambda s: np.tanh(s + hidden))
    np.testing.assert_allclose(out.compute(), expected, atol=WITHIN)


def test_the_signature_is_torchs():
    names = ["query", "key", "value", "score_mod", "block_mask", "scale", "enable_gqa", "return_lse", "kernel_options"]
    assert list(inspect.signature(ag.flex_attention).parameters) == names
    mask_names = ["mask_mod", "B", "H", "Q_LEN", "KV_LEN", "device", "BLOCK_SIZE"]
    assert list(inspect.signature(ag.create_block_mask).parameters) == mask_names


def test_kernel_options_are_ignored_and_said_so(caplog):
    with caplog.at_level(logging.DEBUG, logger="attngraph"):
        out = ag.flex_attention(Q, K, V, kernel_options={"BLOCK_M": 64}).compute()
    assert "BLOCK_M" in caplog.text
    np.testing.assert_array_equal(out, ag.flex_attention(Q, K, V).compute())


def test_one_causal_mask_three_ways():
    scored = ag.flex_attention(Q, K, V, causal(ag, None)).compute()
    block = ag.create_block_mask(causal_mask_mod(ag, None), None, None, L, S)
    np.testing.assert_array_equal(scored, ag.flex_attention(Q, K, V, block_mask=block).compute())
    np.testing.assert_array_equal(scored, ag.attention(Q, K, V, is_causal=True).compute())
    np.testing.assert_allclose(scored, want(None, causal_mask(L, S))[0], atol=WITHIN)
