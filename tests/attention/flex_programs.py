"""FlexAttention programs (arXiv:2412.05496) from papers and practice, as they are written for torch.

Each is made by ``make(length, rng, heads, library)``, which captures its tables. ``library`` stands for the
module whose functions the program calls, as ``torch`` would, and ``library.array`` is what makes a captured
table of a NumPy array. The text of a program is the same for torch, for this package and for NumPy.
"""

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import attngraph as ag

BATCH = 2  # tables that are indexed by b serve so many batches
WINDOW = 256
_SEED = 2412


class Library:
    """The functions of some modules under their names, and how a captured table is made for them."""

    def __init__(self, name: str, array: Callable[[np.ndarray], Any], *modules: Any) -> None:
        self.name, self.array, self.modules = name, array, modules

    def __getattr__(self, name: str) -> Any:
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        return getattr(np, {"long": "int64", "bool": "bool_"}.get(name, name))


class Tensor(np.ndarray):
    """A NumPy array with the methods of a tensor that the programs call. Its first four axes are b, h, q and kv."""

    def to(self, dtype):
        if np.dtype(dtype).kind == "f":
            return self
        with np.errstate(invalid="ignore"):  # the logarithm of 0 that a where then hides
            return np.trunc(self).astype(dtype)

    def long(self):
        return self.to(np.int64)

    int = long

    def float(self):
        return self.astype(np.float64)

    def bool(self):
        return self.astype(np.bool_)

    def clamp(self, min=None, max=None):
        low = self if min is None else np.maximum(self, min)
        return low if max is None else np.minimum(low, max)

    def abs(self):
        return np.abs(self)

    def logical_and(self, other):
        return np.logical_and(self, other)

    def masked_fill(self, mask, value):
        return np.where(mask, value, self).view(Tensor)

    def sum(self, dim=None):
        return np.sum(self.view(np.ndarray), axis=tuple(range(4, self.ndim)) if dim is None else dim).view(Tensor)


class _Dense:
    """NumPy's functions, of float64."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, {"long": "int64"}.get(name, name))
        if isinstance(function, type):
            return function

        def of_tensors(*args):
            with np.errstate(all="ignore"):
                return np.asarray(function(*args)).view(Tensor)

        return of_tensors

    def and_masks(self, *masks):
        return lambda *indices: np.logical_and.reduce(np.broadcast_arrays(*(each(*indices) for each in masks)))

    def or_masks(self, *masks):
        return lambda *indices: np.logical_or.reduce(np.broadcast_arrays(*(each(*indices) for each in masks)))


def in_attngraph() -> Library:
    """This package; tables are lazy arrays."""
    return Library("attngraph", ag.asarray, ag)


def in_numpy() -> Library:
    """The oracle: float64, dense."""

    def array(table):
        return np.asarray(table, np.float64 if table.dtype.kind == "f" else table.dtype).view(Tensor)

    return Library("numpy", array, _Dense())


def in_torch() -> Library:
    """Torch itself, where it is installed; tables are tensors."""
    torch = importlib.import_module("torch")
    flex = importlib.import_module("torch.nn.attention.flex_attention")
    return Library("torch", torch.from_numpy, torch, flex)


# Mask functions.


def causal(length, rng, heads, library):
    """What every decoder has (Vaswani 2017, arXiv:1706.03762)."""

    def mask_mod(b, h, q_idx, kv_idx):
        return q_idx >= kv_idx

    return mask_mod


def sliding_window(length, rng, heads, library):
    """Mistral 7B (arXiv:2310.06825)."""

    def mask_mod(b, h, q_idx, kv_idx):
        causal_mask = q_idx >= kv_idx
        window_mask = q_idx - kv_idx <= WINDOW
        return causal_mask & window_mask

    return mask_mod


def dilated_window(length, rng, heads, library):
    """Longformer's dilated windows (arXiv:2004.05150), causal."""
    dilation = 4

    def mask_mod(b, h, q_idx, kv_idx):
        distance = q_idx - kv_idx
        return (distance >= 0) & (distance < WINDOW * dilation) & (distance % dilation == 0)

    return mask_mod


def strided(length, rng, heads, library):
    """Sparse Transformer's strided pattern (arXiv:1904.10509)."""
    stride = max(2, math.isqrt(length))

    def mask_mod(b, h, q_idx, kv_idx):
        near = q_idx - kv_idx < stride
        column = (q_idx - kv_idx) % stride == 0
        return (q_idx >= kv_idx) & (near | column)

    return mask_mod


def prefix_lm(length, rng, heads, library):
    """T5's prefix language model (arXiv:1910.10683), a prefix for each sequence of the batch."""
    prefix = library.array(rng.integers(1, max(2, length // 4), BATCH))

    def prefix_mask(b, h, q_idx, kv_idx):
        return kv_idx < prefix[b]

    def causal_mask(b, h, q_idx, kv_idx):
        return q_idx >= kv_idx

    return library.or_masks(prefix_mask, causal_mask)


def global_window(length, rng, heads, library):
    """Longformer: a window, and tokens that see and are seen by all (arXiv:2004.05150)."""
    chosen = np.zeros(length, np.bool_)
    chosen[0] = True
    chosen[rng.integers(0, length, 3)] = True
    is_global = library.array(chosen)

    def mask_mod(b, h, q_idx, kv_idx):
        window = library.abs(q_idx - kv_idx) <= WINDOW // 2
        return window | is_global[q_idx] | is_global[kv_idx]

    return mask_mod


def sinks_and_window(length, rng, heads, library):
    """StreamingLLM: the first tokens beside a window (arXiv:2309.17453)."""

    def mask_mod(b, h, q_idx, kv_idx):
        return (q_idx >= kv_idx) & ((kv_idx < 4) | (q_idx - kv_idx < WINDOW))

    return mask_mod


def random_blocks(length, rng, heads, library):
    """BigBird: blocks chosen at random, beside the diagonal (arXiv:2007.14062)."""
    size = 64
    count = -(-length // size)
    blocks = np.eye(count, dtype=np.bool_) | (rng.random((count, count)) < 3 / count)
    layout = library.array(blocks)

    def mask_mod(b, h, q_idx, kv_idx):
        return layout[q_idx // size, kv_idx // size]

    return mask_mod


def document_ids(length, rng, count=12):
    """The document of each position, lengths at random."""
    ends = np.sort(rng.integers(0, length, count - 1))
    return np.searchsorted(ends, np.arange(length), side="right")


def documents(length, rng, heads, library):
    """Packed sequences, each causal (Krell 2021, arXiv:2107.02027)."""
    document_id = library.array(document_ids(length, rng))

    def document_causal_mask(b, h, q_idx, kv_idx):
        causal_mask = q_idx >= kv_idx
        document_mask = document_id[q_idx] == document_id[kv_idx]
        return causal_mask & document_mask

    return document_causal_mask


def documents_of_a_batch(length, rng, heads, library):
    """Packed sequences, other ones in each row of the batch; ids of 32 bits."""
    ids = np.stack([document_ids(length, rng, 5) for _ in range(BATCH)]).astype(np.int32)
    document_id = library.array(ids)

    def mask_mod(b, h, q_idx, kv_idx):
        return (document_id[b, q_idx] == document_id[b, kv_idx]) & (q_idx >= kv_idx)

    return mask_mod


def documents_by_offsets(length, rng, heads, library):
    """Jagged tensors: a mask of positions inside a document (attention-gym's generate_doc_mask_mod)."""
    ids = document_ids(length, rng)
    starts = np.searchsorted(ids, np.arange(ids.max() + 1))
    document_id, offsets = library.array(ids), library.array(starts)

    def generate_doc_mask_mod(inner_mask_mod):
        def doc_mask_mod(b, h, q_idx, kv_idx):
            same_doc = document_id[q_idx] == document_id[kv_idx]
            q_logical = q_idx - offsets[document_id[q_idx]]
            kv_logical = kv_idx - offsets[document_id[kv_idx]]
            inner_mask = inner_mask_mod(b, h, q_logical, kv_logical)
            return same_doc & inner_mask

        return doc_mask_mod

    return generate_doc_mask_mod(lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx <= WINDOW))


def neighbourhood(length, rng, heads, library):
    """NATTEN on a grid: windows of 7 × 7, centres held inside (arXiv:2204.07143, arXiv:2504.16922)."""
    kernel, width = 7, max(1, math.isqrt(length))
    height = -(-length // width)

    def get_x_y(index):
        return index // width, index % width

    def natten_mask(b, h, q_idx, kv_idx):
        q_x, q_y = get_x_y(q_idx)
        kv_x, kv_y = get_x_y(kv_idx)
        centre_x = q_x.clamp(kernel // 2, (height - 1) - kernel // 2)
        centre_y = q_y.clamp(kernel // 2, (width - 1) - kernel // 2)
        hori_mask = (centre_x - kv_x).abs() <= kernel // 2
        vert_mask = (centre_y - kv_y).abs() <= kernel // 2
        return hori_mask & vert_mask

    return natten_mask


def tiled_neighbourhood(length, rng, heads, library):
    """The same with positions in tiles of 8 × 8, so that blocks are dense (attention-gym's tiled NATTEN)."""
    kernel, tile = 7, 8
    width = max(tile, math.isqrt(length) // tile * tile)
    height = max(-(-length // width), kernel)

    def get_x_y(index):
        number, inside = index // (tile * tile), index % (tile * tile)
        tiles = width // tile
        return number // tiles * tile + inside // tile, number % tiles * tile + inside % tile

    def tiled_natten_mask(b, h, q_idx, kv_idx):
        q_x, q_y = get_x_y(q_idx)
        kv_x, kv_y = get_x_y(kv_idx)
        centre_x = q_x.clamp(kernel // 2, (height - 1) - kernel // 2)
        centre_y = q_y.clamp(kernel // 2, (width - 1) - kernel // 2)
        hori_mask = (centre_x - kv_x).abs() <= kernel // 2
        vert_mask = (centre_y - kv_y).abs() <= kernel // 2
        return hori_mask & vert_mask

    return tiled_natten_mask


def shared_prefix(length, rng, heads, library):
    """Continuations of one prompt: each sees the prompt, and itself causally (Hydragen, arXiv:2402.05099)."""
    prompt, count = length // 3, 4
    each = max(1, -(-(length - prompt) // count))

    def mask_mod(b, h, q_idx, kv_idx):
        same = (q_idx - prompt) // each == (kv_idx - prompt) // each
        return (q_idx >= kv_idx) & ((kv_idx < prompt) | same)

    return mask_mod


def tree(length, rng, heads, library):
    """A tree of drafts: each token sees its ancestors, from a table (SpecInfer, arXiv:2305.09781)."""
    drafts = min(length, 32)
    ancestors = np.eye(drafts, dtype=np.bool_)
    for child in range(1, drafts):
        ancestors[child] |= ancestors[rng.integers(0, child)]
    table, start = library.array(ancestors), length - drafts

    def mask_mod(b, h, q_idx, kv_idx):
        drafted = (q_idx >= start) & (kv_idx >= start)
        inside = table[(q_idx - start).clamp(min=0), (kv_idx - start).clamp(min=0)]
        return library.where(drafted, inside, q_idx >= kv_idx)

    return mask_mod


def block_diff_mask(b, h, q_idx, kv_idx, block_size=None, n=None, where=None):
    """The text of the paper's program, which is used through functools.partial."""
    x0_flag_q = q_idx >= n
    x0_flag_kv = kv_idx >= n
    block_q = where(x0_flag_q == 1, (q_idx - n) // block_size, q_idx // block_size)
    block_kv = where(x0_flag_kv == 1, (kv_idx - n) // block_size, kv_idx // block_size)
    block_diagonal = (block_q == block_kv) & (x0_flag_q == x0_flag_kv)
    offset_block_causal = (block_q > block_kv) & (x0_flag_kv == 1) & (x0_flag_q == 0)
    block_causal = (block_q >= block_kv) & (x0_flag_kv == 1) & (x0_flag_q == 1)
    return block_diagonal | offset_block_causal | block_causal


def block_diffusion(length, rng, heads, library):
    """Block diffusion's training mask, of x_t beside x_0 (arXiv:2503.09573)."""
    return partial(block_diff_mask, block_size=16, n=length // 2, where=library.where)


def vision_intervals(length, rng, heads, library):
    """Each text token sees the image tokens of an interval (Flamingo, arXiv:2204.14198)."""
    first = np.sort(rng.integers(0, max(1, length - length // 8), length)).astype(np.int32)
    start, stop = library.array(first), library.array(first + np.int32(max(1, length // 8)))

    def cross_mask(b, h, q_idx, kv_idx):
        return (kv_idx >= start[q_idx]) & (kv_idx < stop[q_idx])

    return cross_mask


def padding(length, rng, heads, library):
    """Sequences of other lengths in a batch: rows beyond the end see nothing."""
    lengths = library.array(rng.integers(0, length + 1, BATCH))

    def padding_mask(b, h, q_idx, kv_idx):
        return (q_idx < lengths[b]) & (kv_idx < lengths[b])

    return padding_mask


def windows_of_heads(length, rng, heads, library):
    """Windows of other widths for each head (MoA, arXiv:2406.14909)."""
    windows = library.array(2 ** rng.integers(3, 9, heads))

    def mask_mod(b, h, q_idx, kv_idx):
        return library.logical_and(q_idx >= kv_idx, q_idx - kv_idx < windows[h])

    return mask_mod


def chunked_and_window(length, rng, heads, library):
    """Chunks or a window by the head, with nested and / or (Llama 4's chunked attention)."""

    def chunked(b, h, q_idx, kv_idx):
        return q_idx // 128 == kv_idx // 128

    def window(b, h, q_idx, kv_idx):
        return (q_idx - kv_idx).abs() <= 32

    def even_head(b, h, q_idx, kv_idx):
        return h % 2 == 0

    def odd_head(b, h, q_idx, kv_idx):
        return ~(h % 2 == 0)

    by_head = library.or_masks(library.and_masks(even_head, chunked), library.and_masks(odd_head, window))
    return library.and_masks(by_head, causal(length, rng, heads, library))


# Score functions.


def alibi(length, rng, heads, library):
    """ALiBi (arXiv:2108.12409), as torch's documentation has it."""

    def score_mod(score, b, h, q_idx, kv_idx):
        scale = library.exp2(-((h + 1) * 8.0 / heads))
        bias = (kv_idx - q_idx) * scale
        return score + bias

    return score_mod


def alibi_table(length, rng, heads, library):
    """ALiBi with captured slopes, to both sides."""
    slopes = library.array(np.exp2(-8.0 * np.arange(1, heads + 1) / heads).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score - slopes[h] * (q_idx - kv_idx).abs()

    return score_mod


def softcap(length, rng, heads, library):
    """Gemma 2 (arXiv:2408.00118)."""
    cap = 20.0

    def score_mod(score, b, h, q_idx, kv_idx):
        score = score / cap
        score = library.tanh(score)
        return score * cap

    return score_mod


def relative_table(length, rng, heads, library):
    """A learned bias for each distance and head (Shaw 2018, arXiv:1803.02155; Swin)."""
    table = library.array(rng.standard_normal((heads, 2 * length)).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score + table[h, q_idx - kv_idx + length]

    return score_mod


def clipped_table(length, rng, heads, library):
    """The same with distances held within 16 (arXiv:1803.02155)."""
    table = library.array(rng.standard_normal((heads, 33)).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score + table[h, (q_idx - kv_idx).clamp(-16, 16) + 16]

    return score_mod


def t5_buckets(length, rng, heads, library):
    """T5's relative position buckets (arXiv:1910.10683), from transformers' text, to both sides.

    The largest distance is 100, not 128: at 128 some distances are exactly at the edge of a bucket, where
    rounding decides.
    """
    table = library.array(rng.standard_normal((32, heads)).astype(np.float32))

    def bucket(relative_position, num_buckets=32, max_distance=100):
        num_buckets //= 2
        relative_buckets = (relative_position > 0).to(library.long) * num_buckets
        relative_position = library.abs(relative_position)
        max_exact = num_buckets // 2
        is_small = relative_position < max_exact
        relative_position_if_large = max_exact + (
            library.log(relative_position.float() / max_exact)
            / math.log(max_distance / max_exact)
            * (num_buckets - max_exact)
        ).to(library.long)
        relative_position_if_large = library.minimum(
            relative_position_if_large, library.full_like(relative_position_if_large, num_buckets - 1)
        )
        relative_buckets += library.where(is_small, relative_position, relative_position_if_large)
        return relative_buckets

    def score_mod(score, b, h, q_idx, kv_idx):
        return score + table[bucket(kv_idx - q_idx), h]

    return score_mod


def graphormer(length, rng, heads, library):
    """A bias for each distance in a graph (Graphormer, arXiv:2106.05234)."""
    distances = library.array(rng.integers(0, 20, (length, length)))
    table = library.array(rng.standard_normal((heads, 20)).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score + table[h, distances[q_idx, kv_idx]]

    return score_mod


def sandwich(length, rng, heads, library):
    """Products of sinusoidal positions, compressed by the head (arXiv:2212.10356)."""
    ratios = library.array((np.arange(1, heads + 1) * 8.0 / heads).astype(np.float32))
    frequencies = [10000.0 ** (-2.0 * each / 16) for each in range(8)]

    def score_mod(score, b, h, q_idx, kv_idx):
        bias = 0.0
        for frequency in frequencies:
            bias = bias + library.cos((q_idx - kv_idx) / ratios[h] * frequency)
        return score + bias

    return score_mod


def kerple(length, rng, heads, library):
    """Logarithmic kernels with learned parameters (arXiv:2205.09921)."""
    first, second = (library.array(rng.random(heads).astype(np.float32)) for _ in range(2))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score - first[h] * library.log1p(second[h] * (q_idx - kv_idx).abs())

    return score_mod


def temperatures(length, rng, heads, library):
    """A learned temperature for each head (Swin v2, arXiv:2111.09883), held below 100."""
    logits = library.array(rng.standard_normal(heads).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score * library.exp(logits[h].clamp(max=math.log(100.0)))

    return score_mod


def length_temperature(length, rng, heads, library):
    """Scores that grow with the logarithm of the position (Qwen's logn; arXiv:2305.13571)."""

    def score_mod(score, b, h, q_idx, kv_idx):
        factor = library.where(q_idx < 32, 1.0, library.log(q_idx + 1.0) / math.log(32.0))
        return score * factor

    return score_mod


def latent_rope(length, rng, heads, library):
    """Multi-head latent attention: a score of rotated parts, one key for all heads (arXiv:2405.04434)."""
    q_rope = library.array(rng.standard_normal((BATCH, heads, length, 16)).astype(np.float32))
    k_rope = library.array(rng.standard_normal((BATCH, length, 16)).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score + 0.25 * (q_rope[b, h, q_idx] * k_rope[b, kv_idx]).sum()

    return score_mod


def dense_bias(length, rng, heads, library):
    """A bias for each pair, as AlphaFold's triangle attention adds (Jumper 2021)."""
    bias = library.array(rng.standard_normal((heads, length, length)).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        return score + bias[h, q_idx, kv_idx]

    return score_mod


def patch_positions(length, rng, heads, library):
    """Distances of patches in two dimensions, learned for each axis (arXiv:2111.09883)."""
    width = max(1, math.isqrt(length))
    rows = library.array(rng.standard_normal((heads, 2 * length + 1)).astype(np.float32))
    columns = library.array(rng.standard_normal((heads, 2 * width + 1)).astype(np.float32))

    def score_mod(score, b, h, q_idx, kv_idx):
        apart_x = q_idx // width - kv_idx // width
        apart_y = q_idx % width - kv_idx % width
        return score + rows[h, apart_x + length] + columns[h, apart_y + width]

    return score_mod


def masked_score(length, rng, heads, library):
    """A mask in the score function, by masked_fill and with minus infinity."""
    lengths = library.array(rng.integers(1, length + 1, BATCH))

    def score_mod(score, b, h, q_idx, kv_idx):
        score = score.masked_fill(kv_idx > q_idx, -float("inf"))
        return library.where(kv_idx < lengths[b], score, -float("inf"))

    return score_mod


# Score functions together with masks.


def alibi_causal(length, rng, heads, library):
    """ALiBi under a causal mask."""
    return alibi(length, rng, heads, library), causal(length, rng, heads, library)


def softcap_window(length, rng, heads, library):
    """Gemma 2's local layers."""
    return softcap(length, rng, heads, library), sliding_window(length, rng, heads, library)


def relative_documents(length, rng, heads, library):
    """A table of distances in packed sequences."""
    return relative_table(length, rng, heads, library), documents(length, rng, heads, library)


def t5_padding(length, rng, heads, library):
    """T5's encoder: buckets and padding."""
    return t5_buckets(length, rng, heads, library), padding(length, rng, heads, library)


def latent_causal(length, rng, heads, library):
    """DeepSeek V2's attention (arXiv:2405.04434)."""
    return latent_rope(length, rng, heads, library), causal(length, rng, heads, library)


def patches_neighbourhood(length, rng, heads, library):
    """Neighbourhood attention with a relative bias for each axis (arXiv:2204.07143)."""
    return patch_positions(length, rng, heads, library), neighbourhood(length, rng, heads, library)


class Program(NamedTuple):
    """A program. ``make`` gives a mask function, a score function, or both (score, mask) by its kind."""

    name: str
    kind: str
    make: Callable[..., Any]
    batch: bool = False  # whether its mask differs in a batch, or among heads: None will not do for B or H
    head: bool = False


MASKS = (
    Program("causal", "mask", causal),
    Program("sliding window", "mask", sliding_window),
    Program("dilated window", "mask", dilated_window),
    Program("strided", "mask", strided),
    Program("prefix LM", "mask", prefix_lm, batch=True),
    Program("global and window", "mask", global_window),
    Program("sinks and window", "mask", sinks_and_window),
    Program("random blocks", "mask", random_blocks),
    Program("documents", "mask", documents),
    Program("documents of a batch", "mask", documents_of_a_batch, batch=True),
    Program("documents by offsets", "mask", documents_by_offsets),
    Program("neighbourhood", "mask", neighbourhood),
    Program("tiled neighbourhood", "mask", tiled_neighbourhood),
    Program("shared prefix", "mask", shared_prefix),
    Program("tree", "mask", tree),
    Program("block diffusion", "mask", block_diffusion),
    Program("vision intervals", "mask", vision_intervals),
    Program("padding", "mask", padding, batch=True),
    Program("windows of heads", "mask", windows_of_heads, head=True),
    Program("chunked and window", "mask", chunked_and_window, head=True),
)
SCORES = (
    Program("ALiBi", "score", alibi),
    Program("ALiBi by a table", "score", alibi_table),
    Program("softcap", "score", softcap),
    Program("relative table", "score", relative_table),
    Program("clipped table", "score", clipped_table),
    Program("T5 buckets", "score", t5_buckets),
    Program("Graphormer", "score", graphormer),
    Program("sandwich", "score", sandwich),
    Program("KERPLE", "score", kerple),
    Program("temperatures", "score", temperatures),
    Program("length temperature", "score", length_temperature),
    Program("latent rope", "score", latent_rope),
    Program("dense bias", "score", dense_bias),
    Program("patch positions", "score", patch_positions),
    Program("masked score", "score", masked_score),
)
BOTH = (
    Program("ALiBi, causal", "both", alibi_causal),
    Program("softcap, window", "both", softcap_window),
    Program("relative table, documents", "both", relative_documents),
    Program("T5 buckets, padding", "both", t5_padding, batch=True),
    Program("latent rope, causal", "both", latent_causal),
    Program("patches, neighbourhood", "both", patches_neighbourhood),
)
PROGRAMS = MASKS + SCORES + BOTH


def functions(program: Program, length: int, heads: int, library: Library) -> tuple[Any, Any]:
    """The program's score function and mask function, or None; tables are the same in every library."""
    made = program.make(length, np.random.default_rng(_SEED), heads, library)
    if program.kind == "both":
        return made  # type: ignore[no-any-return]
    return (made, None) if program.kind == "score" else (None, made)


def places(shape: tuple[int, int, int, int]) -> tuple[Tensor, ...]:
    """The indices b, h, q and kv of dense scores of this shape."""
    return tuple(
        np.arange(length).reshape([-1 if axis == each else 1 for each in range(4)]).view(Tensor)
        for axis, length in enumerate(shape)
    )


def visible(program: Program, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Where a program's mask shows a position: booleans (batch, heads, queries, keys), axes of one where all are alike.

    The shape is (batch, heads, length, length).
    """
    _, mask_mod = functions(program, shape[-1], shape[1], in_numpy())
    if mask_mod is None:
        return np.ones((1, 1, *shape[-2:]), np.bool_)
    sizes = (shape[0] if program.batch else 1, shape[1] if program.head else 1, *shape[-2:])
    return np.broadcast_to(np.asarray(mask_mod(*places(sizes))), sizes)
