"""MiniLM-L6 as an attention graph: one function a block, as in the papers.

The encoder is BERT's (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers
for Language Understanding", arXiv:1810.04805), distilled to six layers of width 384 (Wang et al.
2020, "MiniLM: Deep Self-Attention Distillation", arXiv:2002.10957) and trained so that the mean of
its outputs stands for the sentence (Reimers & Gurevych 2019, "Sentence-BERT", arXiv:1908.10084).

Shapes: B sentences in a batch, N tokens in the longest of them, D features (384), H heads (12).
Weights carry the names of the checkpoint; a matrix is stored as (out, in).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ... import (
    Array,
    arange,
    gelu,
    l2_normalize,
    layer_norm,
    permute_dims,
    reshape,
    scaled_dot_product_attention,
    where,
)


@dataclass(frozen=True)
class BertConfig:
    """What the graph needs to know of a BERT checkpoint's ``config.json``."""

    layers: int
    heads: int
    width: int
    epsilon: float
    padding_id: int

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> BertConfig:
        """Read the fields of a ``config.json``.

        Raises:
            KeyError: If one is missing.
            ValueError: If the model is not of BERT's form.
        """
        form = fields["hidden_act"], fields["position_embedding_type"]
        if form != ("gelu", "absolute"):
            raise ValueError(f"expected a BERT with gelu and absolute positions, got {form}")
        return cls(
            layers=fields["num_hidden_layers"],
            heads=fields["num_attention_heads"],
            width=fields["hidden_size"],
            epsilon=fields["layer_norm_eps"],
            padding_id=fields["pad_token_id"],
        )


@dataclass(frozen=True)
class Weights:
    """A checkpoint's arrays; ``weights / "encoder"`` are those whose names begin with ``encoder.``."""

    arrays: Mapping[str, Array]
    prefix: str = ""

    def __truediv__(self, name: str) -> Weights:
        return Weights(self.arrays, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Array:
        return self.arrays[self.prefix + name]


def sentence_embedding(ids: Array, visible: Array, weights: Weights, config: BertConfig) -> Array:
    """Map token ids to unit vectors: (B, N) integers and (B, N) booleans to (B, D).

    ``visible`` is False at padding, which has no influence on the result. The cosine similarity of
    two sentences is the inner product of their vectors.
    """
    hidden = embeddings(ids, weights / "embeddings", config)
    for index in range(config.layers):
        hidden = transformer_layer(hidden, visible, weights / f"encoder.layer.{index}", config)
    return l2_normalize(mean_pooling(hidden, visible), axis=-1)


def embeddings(ids: Array, weights: Weights, config: BertConfig) -> Array:
    """Add up token, position and segment embeddings (Devlin 2019, figure 2): (B, N) to (B, N, D)."""
    tokens = weights["word_embeddings.weight"][ids]
    positions = weights["position_embeddings.weight"][arange(ids.shape[1])]
    segment = weights["token_type_embeddings.weight"][0]  # one sentence: all of it is segment 0
    return normalise(tokens + positions + segment, weights / "LayerNorm", config)


def transformer_layer(hidden: Array, visible: Array, weights: Weights, config: BertConfig) -> Array:
    """Attend, then expand; to each add its input and normalise the sum: (B, N, D) to (B, N, D)."""
    attended = self_attention(hidden, visible, weights / "attention", config)
    hidden = normalise(hidden + attended, weights / "attention.output.LayerNorm", config)
    expanded = feed_forward(hidden, weights)
    return normalise(hidden + expanded, weights / "output.LayerNorm", config)


def self_attention(hidden: Array, visible: Array, weights: Weights, config: BertConfig) -> Array:
    """Let every token attend to the visible ones (Vaswani 2017, section 3.2): (B, N, D) to (B, N, D)."""
    query = split_heads(linear(hidden, weights / "self.query"), config.heads)
    key = split_heads(linear(hidden, weights / "self.key"), config.heads)
    value = split_heads(linear(hidden, weights / "self.value"), config.heads)
    context = scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None, :])
    return linear(merge_heads(context), weights / "output.dense")


def feed_forward(hidden: Array, weights: Weights) -> Array:
    """Two linear maps, four times as wide between, with the exact (erf) GELU: (B, N, D) to (B, N, D)."""
    expanded = gelu(linear(hidden, weights / "intermediate.dense"))
    return linear(expanded, weights / "output.dense")


def mean_pooling(hidden: Array, visible: Array) -> Array:
    """Average the visible tokens (Reimers 2019, section 3): (B, N, D) to (B, D)."""
    total = where(visible[:, :, None], hidden, 0.0).sum(axis=1)
    return total / visible[:, :, None].sum(axis=1)


def linear(inputs: Array, weights: Weights) -> Array:
    """Apply an affine map to the last axis: (..., in) to (..., out)."""
    return inputs @ weights["weight"].mT + weights["bias"]


def normalise(inputs: Array, weights: Weights, config: BertConfig) -> Array:
    """Layer normalisation of the last axis (Ba et al. 2016), with learned scale and shift."""
    return layer_norm(inputs, weights["weight"], weights["bias"], eps=config.epsilon)


def split_heads(inputs: Array, heads: int) -> Array:
    """Give each head its share of the features: (B, N, D) to (B, H, N, D / H)."""
    batch, length, width = inputs.shape
    return permute_dims(reshape(inputs, (batch, length, heads, width // heads)), (0, 2, 1, 3))


def merge_heads(inputs: Array) -> Array:
    """Put the heads' features side by side again: (B, H, N, D / H) to (B, N, D)."""
    batch, heads, length, width = inputs.shape
    return reshape(permute_dims(inputs, (0, 2, 1, 3)), (batch, length, heads * width))
