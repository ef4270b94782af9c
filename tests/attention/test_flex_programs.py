"""FlexAttention programs from papers: unchanged, right, and each in one sweep."""

import importlib.util
import warnings

import numpy as np
import pytest
from flex_programs import BATCH, PROGRAMS, Tensor, functions, in_attngraph, in_numpy, in_torch, places, visible
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import plan_of

import attngraph as ag
from dense import attention as dense
from dense import tolerance

HEADS, KEY_HEADS, WIDTH = 4, 2, 16
LENGTHS = (1, 17, 127, 129, 300)


def inputs(length, seed=0, key_heads=KEY_HEADS):
    rng = np.random.default_rng(seed)
    shapes = (HEADS, key_heads, key_heads)
    return [rng.standard_normal((BATCH, heads, length, WIDTH)).astype("float32") for heads in shapes]


def expected(program, q, k, v):
    shape = (BATCH, HEADS, q.shape[2], k.shape[2])
    score_mod, _ = functions(program, q.shape[2], HEADS, in_numpy())
    change = None
    if score_mod is not None:

        def change(scores):
            return np.asarray(score_mod(scores.view(Tensor), *places(shape)))

    return dense(q, k, v, visible=visible(program, shape), change=change)


def lazily(program, library, q, k, v):
    length = q.shape[2]
    score_mod, mask_mod = functions(program, length, HEADS, library)
    block = None
    if mask_mod is not None:
        sizes = BATCH if program.batch else None, HEADS if program.head else None
        block = ag.create_block_mask(mask_mod, *sizes, length, length)
    return ag.flex_attention(q, k, v, score_mod, block, enable_gqa=True, return_lse=True)


def agree(got, wanted, within):
    np.testing.assert_allclose(got[0], wanted[0], rtol=0, atol=within)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-6, atol=within)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_programs(program, length):
    q, k, v = inputs(length)
    got = ag.compute(*lazily(program, in_attngraph(), q, k, v))
    agree(got, expected(program, q, k, v), 8 * tolerance(q, k, v))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_one_sweep(program):
    lazy = lazily(program, in_attngraph(), *inputs(300))
    plan, _ = plan_of(*lazy)
    assert len(plan.sweeps) == 1
    explained = ag.explain(lazy)
    assert not explained.not_fused
    assert len(explained.kernels) == 1


@pytest.mark.parametrize("program", [each for each in PROGRAMS if each.kind != "score"], ids=lambda each: each.name)
def test_where_masks_show_a_position(program):
    length = 70
    _, mask_mod = functions(program, length, HEADS, in_attngraph())
    sizes = BATCH if program.batch else None, HEADS if program.head else None
    block = ag.create_block_mask(mask_mod, *sizes, length, length, BLOCK_SIZE=1)
    np.testing.assert_array_equal(block.to_dense(), visible(program, (BATCH, HEADS, length, length)))


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    pytest.importorskip("torch.nn.attention.flex_attention")
    return module


def torch_flex(torch, score_mod, mask_mod, sizes, q, k, v):
    flex = torch.nn.attention.flex_attention
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
        block = None
        if mask_mod is not None:
            block = flex.create_block_mask(mask_mod, *sizes, q.shape[2], k.shape[2], device="cpu")
        gqa = q.shape[1] != k.shape[1]
        return flex.flex_attention(*tensors, score_mod=score_mod, block_mask=block, enable_gqa=gqa).numpy()


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional indexing")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_programs_run_unchanged_in_torch(program, torch):
    q, k, v = inputs(129, seed=1)
    library = in_torch()
    got = ag.compute(*lazily(program, library, q, k, v))
    wanted = expected(program, q, k, v)
    within = 8 * tolerance(q, k, v)
    agree(got, wanted, within)
    sizes = BATCH if program.batch else None, HEADS if program.head else None
    theirs = torch_flex(torch, *functions(program, 129, HEADS, library), sizes, q, k, v)
    np.testing.assert_allclose(theirs, wanted[0], rtol=0, atol=within)


# Vectors at every position. The text serves NumPy, one position after the other, as torch's does.

_RNG = np.random.default_rng(5)
SHORT = 13
Q_PART, K_PART = (_RNG.standard_normal(shape) for shape in ((BATCH, HEADS, SHORT, 6), (BATCH, SHORT, 6)))
PLACES_3D, OF_HEADS = _RNG.standard_normal((SHORT, 3)), _RNG.standard_normal((HEADS, 2 * SHORT))
MATRIX, VECTOR = _RNG.standard_normal((6, 6)), _RNG.standard_normal(6)
VECTORS = {
    "products": lambda s, b, h, i, j, t: s + (t.q[b, h, i] * t.k[b, j]).sum(),
    "a matrix product": lambda s, b, h, i, j, t: s + t.q[b, h, i] @ t.k[b, j],
    "two matrix products": lambda s, b, h, i, j, t: s + 0.1 * (t.q[b, h, i] @ t.matrix) @ t.k[b, j],
    "from the right": lambda s, b, h, i, j, t: s + 0.1 * (t.matrix @ t.q[b, h, i]).sum() * t.k[b, j].max(),
    "a captured vector": lambda s, b, h, i, j, t: s + (t.vector * t.q[b, h, i] - t.k[b, j] * t.vector).mean(),
    "distances": lambda s, b, h, i, j, t: s - ((t.places[i] - t.places[j]) ** 2).sum(),
    "the largest difference": lambda s, b, h, i, j, t: s - abs(t.places[i] - t.places[j]).max(),
    "an index after an index": lambda s, b, h, i, j, t: s + t.heads[h][i - j + SHORT],
    "elements": lambda s, b, h, i, j, t: s + t.places[i][0] * t.places[j][-1] + t.places[i][h % 3],
    "slices": lambda s, b, h, i, j, t: s + (t.places[i][:2] * t.places[j][1:]).sum(),
    "a score in a vector": lambda s, b, h, i, j, t: s + 0.1 * (s * t.q[b, h, i]).min(),
    "truth": lambda s, b, h, i, j, t: s + 1.0 * (t.places[i] > t.places[j]).any() - (t.places[i] > 0).all(),
    "a network": lambda s, b, h, i, j, t: s + ((i - j) * t.q[b, h, i]).clip(0, None) @ t.vector * 0.1,
    "a length": lambda s, b, h, i, j, t: s * t.q[b, h, i].shape[0] / t.matrix.shape[1] - t.places[i].ndim,
}


class Tables:
    def __init__(self, make):
        self.q, self.k, self.places, self.heads, self.matrix, self.vector = map(
            make, (Q_PART, K_PART, PLACES_3D, OF_HEADS, MATRIX, VECTOR)
        )


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_at_every_position(name):
    q, k, v = inputs(SHORT, key_heads=HEADS)
    tables, lazy_tables = Tables(np.asarray), Tables(lambda x: ag.asarray(x.astype("float32")))

    def change(scores):
        grid = np.indices(scores.shape)
        return np.vectorize(lambda s, b, h, i, j: VECTORS[name](s, b, h, i, j, tables))(scores, *grid)

    lazy = ag.flex_attention(q, k, v, lambda s, b, h, i, j: VECTORS[name](s, b, h, i, j, lazy_tables), return_lse=True)
    agree(ag.compute(*lazy), dense(q, k, v, change=change), 20 * tolerance(q, k, v))


def test_a_vector_is_no_score():
    q, k, v = inputs(SHORT, key_heads=HEADS)
    table = ag.asarray(OF_HEADS)
    with pytest.raises(ag.ShapeError, match="returned"):
        ag.flex_attention(q, k, v, lambda s, b, h, i, j: s + table[h])
    with pytest.raises(ag.TraceError, match="vector at every position"):
        ag.flex_attention(q, k, v, lambda s, b, h, i, j: s + table[h].topk(2)[0].sum())


def pointwise(torch):
    """What a program may say: names, methods, types."""
    whole = torch.from_numpy(np.random.default_rng(3).integers(-3, 4, 64))
    floats = torch.from_numpy(np.random.default_rng(4).standard_normal(200).astype("float32"))
    points = floats[:192].reshape(64, 3)
    functional = torch.nn.functional

    def in_place(s, b, h, i, j):
        s += i * 0.1
        s -= 0.2 * j
        s *= 2
        s /= 3
        return s

    def early(s, b, h, i, j):
        return torch.zeros_like(s)

    return {
        "int8": lambda s, b, h, i, j: s + (whole.to(torch.int8)[i] * 3 - whole.to(torch.int8)[j]),
        "uint8": lambda s, b, h, i, j: s + whole.abs().to(torch.uint8)[i].float() * 0.1,
        "int16": lambda s, b, h, i, j: s * whole.to(torch.int16)[j],
        "bool": lambda s, b, h, i, j: torch.where((whole > 0)[i] & ~(whole > 1)[j], s, s * 2),
        "float16": lambda s, b, h, i, j: s + floats.half()[i - j + 64],
        "float64": lambda s, b, h, i, j: s + floats.double()[i - j + 64] * 0.5,
        "bfloat16": lambda s, b, h, i, j: s + floats.bfloat16()[i - j + 64],
        "truth as numbers": lambda s, b, h, i, j: s + (i >= j) * (whole > 0)[j],
        "a tensor's number": lambda s, b, h, i, j: s * floats[0].item() + whole[1].item(),
        "scalar tensors": lambda s, b, h, i, j: torch.where(i >= j, s, torch.tensor(-2.0)) + torch.scalar_tensor(2.0),
        "constants": early,
        "in place": in_place,
        "shifts": lambda s, b, h, i, j: (
            s + ((i >> 3) == (j >> 3)) * 1.0 + (1 << (h % 3)) + (i.bitwise_left_shift(1) & 7)
        ),
        "bits": lambda s, b, h, i, j: s + torch.bitwise_xor(i, j).float() * 0.01 + (i & j).remainder(3) + (i | 4) * 0.1,
        "isin": lambda s, b, h, i, j: torch.where(torch.isin(whole[i], torch.tensor([1, 3])), s, s + 1),
        "bucketize": lambda s, b, h, i, j: s + floats[torch.bucketize(i - j, torch.tensor([-10, -3, 0, 3, 10]))],
        "searchsorted": lambda s, b, h, i, j: s + torch.searchsorted(torch.tensor([-10, 0, 10]), i - j, right=True),
        "rounding": lambda s, b, h, i, j: s + torch.floor(i / 7.0) - torch.ceil(j / 9.0) + torch.round(i / 3.0),
        "division": lambda s, b, h, i, j: (
            s + torch.div(j - i, 3, rounding_mode="trunc") * 0.1 + torch.floor_divide(i, 4) + torch.true_divide(i, 3)
        ),
        "remainders": lambda s, b, h, i, j: s + torch.fmod(i - j, 5) * 0.1 + torch.remainder(i - j, 7) * 0.1,
        "signs": lambda s, b, h, i, j: s * torch.sign(i - j + 0.5) + torch.sign(i - j) - (i - j).sign().neg(),
        "powers": lambda s, b, h, i, j: s + torch.pow(0.9, (i - j).abs()) + 2.0 ** (-(h + 1.0)) + s**2,
        "clamps": lambda s, b, h, i, j: torch.clamp_min(s, -1.0) + torch.clamp(s, min=-2, max=2) + s.clamp_max(0.5),
        "nan to num": lambda s, b, h, i, j: torch.nan_to_num(s * 0 / (i - j), nan=0.5) + s,
        "lerp": lambda s, b, h, i, j: torch.lerp(s, s * 2, 0.3) + s.lerp(s * 3, 0.1),
        "addcmul": lambda s, b, h, i, j: torch.addcmul(s, s, s, value=0.1) + torch.addcdiv(s, s, s + 9.0, value=0.5),
        "methods": lambda s, b, h, i, j: s.sub(0.01 * (i - j)).add(1).mul(0.5).div(2).true_divide(1.5).multiply(3.0),
        "stack": lambda s, b, h, i, j: s + torch.stack([s * 0.1, (i - j) * 0.01]).sum(0),
        "two maxima": lambda s, b, h, i, j: torch.max(s, -s) + torch.min(s, s * 2) + torch.maximum(i, j) * 0.1,
        "functions": lambda s, b, h, i, j: (
            s * torch.log2(i + 2.0) + torch.logaddexp(s, s * 2) + torch.sigmoid(s) + functional.silu(s) + torch.erf(s)
        ),
        "more functions": lambda s, b, h, i, j: (
            functional.hardtanh(s) + functional.logsigmoid(s) + functional.softplus(s) + functional.relu6(s)
        ),
        "yet more": lambda s, b, h, i, j: functional.mish(s) + functional.selu(s) + functional.celu(s) + torch.frac(s),
        "new arrays": lambda s, b, h, i, j: s + s.new_zeros(()) + s.new_full((), 0.5) + s.new_tensor(1.0),
        "types": lambda s, b, h, i, j: (
            s + (i - j).to(dtype=torch.float32) * 0.1 + (i > j).to(s) + (i > j).type_as(s) + (i - j).short() * 0.1
        ),
        "comparisons": lambda s, b, h, i, j: torch.where(
            torch.eq(i, j) | torch.ne(h, 1) & torch.lt(i, j) & torch.logical_not(torch.ge(i, 3)), s, s * 2
        ),
        "exclusive or": lambda s, b, h, i, j: s + torch.logical_xor(i > j, h > 1) * 1.0 + ((i > j) ^ (h > 1)),
        "from the right": lambda s, b, h, i, j: torch.rsub(s, 1.0) + (1 - s) / 2 + torch.add(s, i - j, alpha=0.01),
        "hypot": lambda s, b, h, i, j: s + torch.hypot(points[i, 0] - points[j, 0], points[i, 1] - points[j, 1]),
        "a signed index": lambda s, b, h, i, j: s + floats[(i > j).to(torch.int32) + (i - j).sign().long() + 1],
        "dot": lambda s, b, h, i, j: s + torch.dot(points[i], points[j]),
        "einsum": lambda s, b, h, i, j: s + torch.einsum("d,d->", points[i], points[j]),
        "norms": lambda s, b, h, i, j: s - (points[i] - points[j]).norm() - torch.linalg.norm(points[i] - points[j]),
        "a distance": lambda s, b, h, i, j: s - torch.dist(points[i], points[j]),
        "a cosine": lambda s, b, h, i, j: s + functional.cosine_similarity(points[i], points[j], dim=0),
    }


POINTWISE = pointwise(importlib.import_module("torch")) if importlib.util.find_spec("torch") else {}


@pytest.mark.parametrize("name", POINTWISE)
def test_what_programs_may_say(name, torch):
    q, k, v = inputs(64, seed=2, key_heads=HEADS)
    score_mod = POINTWISE[name]
    lazy = ag.flex_attention(q, k, v, score_mod)
    theirs = torch_flex(torch, score_mod, None, (), q, k, v)
    np.testing.assert_allclose(lazy.compute(), theirs, rtol=0, atol=40 * tolerance(q, k, v))


@pytest.mark.parametrize(
    "name", [each for each in POINTWISE if each not in ("constants", "stack", "a cosine", "nan to num")]
)
def test_what_programs_may_say_is_fused(name):
    lazy = ag.flex_attention(*inputs(200, seed=2, key_heads=HEADS), POINTWISE[name])
    assert not ag.explain(lazy).not_fused


# Floats that become integers inside a tile.

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
EXTREMES = [0.0, -0.0, 0.99, -0.99, 127.5, -128.5, 255.9, 2.0**31, -(2.0**31), 2.0**63, 1e30, -1e30, np.inf, np.nan]
ODD = st.one_of(st.sampled_from(EXTREMES), st.floats(width=32))


def saturated(x, dtype):
    """Truncated; the nearest that fits; NaN as 0. In Python's integers, one by one."""
    limits = np.iinfo(dtype)

    def one(number):
        if np.isnan(number):
            return 0
        return limits.max if number >= limits.max else limits.min if number <= limits.min else int(number)

    return np.array([[one(number) for number in row] for row in x.astype(float).tolist()], dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(max_examples=10)
@given(numbers=st.lists(ODD, min_size=1, max_size=12))
def test_floats_become_integers_inside_a_tile(dtype, numbers):
    length, rng = 150, np.random.default_rng(0)
    q, k, v = inputs(length, key_heads=HEADS)
    left = np.resize(np.array(numbers, "float32"), length)
    right = rng.choice(np.array([1.0, -1.0, 0.5, 2.0], "float32"), length)  # exact products
    with np.errstate(all="ignore"):
        product = left[:, None] * right[None, :]
    wanted = saturated(product, dtype)
    rows, columns, integers = map(ag.asarray, (left, right, wanted))

    def score_mod(score, b, h, q_idx, kv_idx):
        cast = (rows[q_idx] * columns[kv_idx]).astype(dtype)
        return ag.where(cast == integers[q_idx, kv_idx], score, ag.nan)

    lazy = ag.flex_attention(q, k, v, score_mod)
    assert not ag.explain(lazy).not_fused
    np.testing.assert_allclose(lazy.compute(), dense(q, k, v)[0], rtol=0, atol=8 * tolerance(q, k, v))
    with ag.config.set(target="reference"):
        np.testing.assert_allclose(lazy.compute(), dense(q, k, v)[0], rtol=0, atol=8 * tolerance(q, k, v))


def test_shifts_by_counts_beyond_the_width():
    length = 150
    q, k, v = inputs(length, key_heads=HEADS)
    counts = np.resize(np.array([0, 1, 31, 63, 64, 100, -1, -70]), length)
    numbers = np.resize(np.array([5, -5, 1, -1, 2**40]), length)
    inside = (counts >= 0) & (counts < 64)
    left = np.where(inside, numbers[:, None] << np.where(inside, counts, 0), 0)
    right = numbers[:, None] >> np.where(inside, counts, 63)
    given_numbers, given_counts, lefts, rights = map(ag.asarray, (numbers, counts, left, right))

    def score_mod(score, b, h, q_idx, kv_idx):
        first = (given_numbers[q_idx] << given_counts[kv_idx]) == lefts[q_idx, kv_idx]
        second = (given_numbers[q_idx] >> given_counts[kv_idx]) == rights[q_idx, kv_idx]
        return ag.where(first & second, score, ag.nan)

    lazy = ag.flex_attention(q, k, v, score_mod)
    assert not ag.explain(lazy).not_fused
    np.testing.assert_allclose(lazy.compute(), dense(q, k, v)[0], rtol=0, atol=8 * tolerance(q, k, v))
